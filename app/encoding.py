"""What the worker process does with encoders; everything here runs there, where torch is.

Tasks for `app.worker.Worker.call`: each takes an `app.worker_process.Room` first.
"""

import copy
import functools
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from app.worker_process import Room
from skysense.dates import Dates
from skysense.merging import said, schedule_of
from skysense.stack import sensors_of

if TYPE_CHECKING:
    from skysense.encoders import Encoder
    from skysense.tokens import TokenCache

_PIXELS = ("data", "valid")

_LOCK = threading.Lock()
_KEPT: dict[tuple[str, Path | None], "Encoder"] = {}

TOKENS_GB = 1.0
"""What encoded dates may take, so that another choice of dates only has to be fused."""

PAUSE = 1.5
"""Least time between two pictures of what is done so far (s)."""

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


def held(name: str, path: Path | None, merge: str = "") -> "Encoder":
    """An encoder, loaded once; with another merge schedule it has the same weights."""
    from skysense.encoders import load_encoder

    with _LOCK:
        found = _KEPT.pop((name, path), None) or load_encoder(name, path=path)
        _KEPT[(name, path)] = found
        while len(_KEPT) > MOST_ENCODERS:
            del _KEPT[next(iter(_KEPT))]
    if merge:
        found = copy.copy(found)
        found.merge = said(schedule_of(merge))  # type: ignore[attr-defined]
    return found


def facts(room: Room, name: str, path: Path | None) -> Facts:
    """What there is to say of an encoder; it is loaded for that, and kept."""
    made = held(name, path)
    return Facts(
        made.name, made.sensors, made.dim, made.weights, made.licence, made.notes, made.untrained
    )


@functools.cache
def _tokens() -> "TokenCache":
    from skysense.tokens import TokenCache

    return TokenCache(TOKENS_GB)


@dataclass(frozen=True)
class Partial:
    """Features while they are made."""

    coarse: xr.DataArray
    """(feature, y, x), one cell in every 40 m; whole once `fine` is there."""
    fine: xr.DataArray | None
    """(feature, y, x) at the spacing that was asked for."""


def embed_stack(
    room: Room,
    stack: xr.DataTree,
    name: str,
    path: Path | None,
    *,
    resolution: int,
    dates: Dates,
    memory_gb: float,
    merge: str = "",
    centre: tuple[float, float] | None = None,
) -> xr.DataArray:
    """Features of a stack, see `skysense.embed_steps`; what is done so far is told on the way.

    A cancelled job gives what was done, and its `attrs["unfinished"]` says so.
    """
    from skysense.cost import duration
    from skysense.progressive import embed_steps

    room.progress(0, 0, "Loading the encoder")
    begun = time.monotonic()

    def progress(done: int, total: int, sentence: str) -> None:
        left = (time.monotonic() - begun) / max(done, 1) * (total - done)
        room.progress(done, total, f"{sentence}, {duration(left)} left" if left >= 2 else sentence)

    steps = embed_steps(
        stack,
        held(name, path, merge),
        resolution=resolution,
        dates=dates,
        centre=centre,
        progress=progress,
        cancel=room.cancel,
        memory_gb=memory_gb,
        cache=_tokens(),
    )
    coarse = fine = None
    told = time.monotonic()
    for features in steps:
        if features.attrs["resolution"] != resolution:
            coarse = features
        else:
            fine = features
        late = time.monotonic() - told > PAUSE
        if late and coarse is not None and features.attrs.get("unfinished"):
            room.partial(Partial(coarse, fine))
            told = time.monotonic()
    assert fine is not None or coarse is not None
    return coarse if fine is None else fine


LOOKS = ("experts", "prompt_attention")
"""Functions that look at tokens on their way, which are not kept."""


def subsets(
    room: Room,
    what: str,
    stack: xr.DataTree,
    name: str,
    path: Path | None,
    merge: str = "",
    **options: Any,
) -> Any:
    """What features would be with other dates, or a look at tokens: one of the functions of `skysense`."""
    import skysense as sky

    cached = {} if what in LOOKS else {"cache": _tokens()}
    return getattr(sky, what)(
        stack,
        held(name, path, merge),
        progress=room.progress,
        cancel=room.cancel,
        **cached,
        **options,
    )


def masks(
    room: Room,
    features: xr.DataArray,
    name: str,
    path: Path | None,
    place: str,
    levels: xr.DataArray | None,
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Masks of the semantic queries, the one that leads, and the levels, fitted here if not given."""
    from skysense.masks import leading_query, query_levels, query_masks

    encoder = held(name, path)
    levels = query_levels({place: features}, encoder) if levels is None else levels
    found = query_masks(features, encoder, levels)
    return found, leading_query(found), levels


def cost(
    room: Room,
    outline: Mapping[str, Any],
    name: str,
    path: Path | None,
    merge: str,
    resolution: int,
) -> str:
    """What encoding will need, in words, see `skysense.forecast`.

    Args:
        room: Of the worker.
        outline: Of a stack with the chosen dates only, from `outline_of`.
        name: Of the encoder.
        path: Of its weights, if it has any of its own.
        merge: Its merge schedule; empty for the usual one.
        resolution: Spacing of the features (m).
    """
    from skysense.embedding import forecast, usable_sensors

    stack, encoder = from_outline(outline), held(name, path, merge)
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
