"""What the worker process does with encoders; everything here runs there, where torch is.

Tasks for `app.worker.Worker.call`: each takes an `app.worker_process.Room` first.
"""

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from app.worker_process import Room
from skysense.dates import Dates
from skysense.stack import sensors_of

if TYPE_CHECKING:
    from skysense.encoders import Encoder

_PIXELS = ("data", "valid")

_LOCK = threading.Lock()
_KEPT: dict[tuple[str, Path | None], "Encoder"] = {}

MOST_ENCODERS = 3
"""Encoders held at once; the one that was used longest ago goes."""


@dataclass(frozen=True)
class Facts:
    """What there is to say of an encoder."""

    name: str
    sensors: tuple[str, ...]
    dim: int
    weights: str
    licence: str
    notes: tuple[str, ...]
    untrained: bool


def held(name: str, path: Path | None) -> "Encoder":
    """An encoder, loaded once."""
    from skysense.encoders import load_encoder

    with _LOCK:
        found = _KEPT.pop((name, path), None) or load_encoder(name, path=path)
        _KEPT[(name, path)] = found
        while len(_KEPT) > MOST_ENCODERS:
            del _KEPT[next(iter(_KEPT))]
        return found


def facts(room: Room, name: str, path: Path | None) -> Facts:
    """What there is to say of an encoder; it is loaded for that, and kept."""
    made = held(name, path)
    return Facts(
        made.name, made.sensors, made.dim, made.weights, made.licence, made.notes, made.untrained
    )


def embed_stack(
    room: Room,
    stack: xr.DataTree,
    name: str,
    path: Path | None,
    *,
    resolution: int,
    dates: Dates,
    memory_gb: float,
) -> xr.DataArray:
    """Features of a stack, see `skysense.embed`."""
    from skysense.embedding import embed

    room.progress(0, 0, "Loading the encoder")
    return embed(
        stack,
        held(name, path),
        resolution=resolution,
        dates=dates,
        progress=room.progress,
        cancel=room.cancel,
        memory_gb=memory_gb,
    )


def cost(
    room: Room, outline: Mapping[str, Any], name: str, path: Path | None, resolution: int
) -> str:
    """What encoding will need, in words, see `skysense.forecast`.

    Args:
        room: Of the worker.
        outline: Of a stack with the chosen dates only, from `outline_of`.
        name: Of the encoder.
        path: Of its weights, if it has any of its own.
        resolution: Spacing of the features (m).
    """
    from skysense.embedding import forecast, usable_sensors

    stack, encoder = from_outline(outline), held(name, path)
    sensors = usable_sensors(stack, encoder)
    need = forecast(stack, encoder, resolution=resolution)
    return need.sentence(_speed(name, path, tuple(sensors)))


@functools.cache
def _speed(name: str, path: Path | None, sensors: tuple[str, ...]) -> float:
    from skysense.cost import speed

    return speed(held(name, path), sensors)


def outline_of(stack: xr.DataTree) -> dict[str, Any]:
    """A stack without its pixels: everything else, and how large they are."""
    groups = {}
    for key in sensors_of(stack):
        group = stack[key].to_dataset()
        sizes = {
            name: (group[name].dims, group[name].shape, group[name].dtype, group[name].chunks)
            for name in _PIXELS
        }
        groups[key] = group.drop_vars(_PIXELS), sizes, {n: group[n].attrs for n in _PIXELS}
    return {"attrs": dict(stack.attrs), "groups": groups}


def from_outline(outline: Mapping[str, Any]) -> xr.DataTree:
    """A stack of the outline's shape that holds no memory; its pixels are all zero."""
    import dask.array as da

    made = {"/": xr.Dataset(attrs=outline["attrs"])}
    for key, (group, sizes, attrs) in outline["groups"].items():
        pixels = {}
        for name, (dims, shape, dtype, chunks) in sizes.items():
            zeros = np.broadcast_to(np.zeros((), dtype), shape)
            values = zeros if chunks is None else da.zeros(shape, dtype=dtype, chunks=chunks)
            pixels[name] = xr.DataArray(values, dims=dims, attrs=attrs[name])
        made[f"/{key}"] = group.assign(pixels)
    return xr.DataTree.from_dict(made)
