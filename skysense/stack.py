"""The stack: what every source gives and every encoder reads, checked at the border.

A stack is an `xarray.DataTree` with one group per sensor (`hr`, `s2`, `s1`). A group is a Dataset::

    data   (time, band, y, x)  float32, NaN = missing; units in attrs: reflectance, dB or 0..255
    valid  (time, y, x)        bool, True = usable

with its own dates and its own grid in the local UTM zone. The root says which windows belong to
the source (`skysense.windows`), which region was asked for, and, as sentences in `notes`,
everything that was dropped, masked, resampled or assumed on the way.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import odc.geo.xr
import pandas as pd
import xarray as xr
from odc.geo.geobox import GeoBox

from skysense.contract import PER_DATE, check_stack, region_of, sensor_of, sensors_of
from skysense.disk import WHOLE, check_whole, lazily, path_of, reading, written
from skysense.errors import StackError
from skysense.region import Region
from skysense.sensors import SENSORS
from skysense.windows import Lattice


def sensor_group(
    sensor: str,
    data: Any,
    valid: Any,
    *,
    bands: Sequence[str],
    time: Sequence[Any],
    geobox: GeoBox,
    per_date: Mapping[str, Sequence[Any]] | None = None,
    source: str,
    licence: str,
    resampling: str = "",
    approximate: bool = False,
    notes: Sequence[str] = (),
) -> xr.Dataset:
    """One sensor's part of a stack, dates sorted and everything named.

    Args:
        sensor: `hr`, `s2` or `s1`.
        data: (time, band, y, x) in the sensor's units, NaN = missing; NumPy or dask.
        valid: (time, y, x) bool, True = usable.
        bands: Names along `band`, from the sensor's known names.
        time: One moment per date; None or NaT where it is unknown.
        geobox: The grid, in a UTM zone.
        per_date: Any of the names in `PER_DATE`, one value per date.
        source: Where it comes from, for people.
        licence: Its terms, with attribution.
        resampling: What was resampled and how, a sentence; empty if nothing was.
        approximate: True if CRS and bounds are a guess.
        notes: Sentences about this sensor that the user must be able to read.

    Raises:
        StackError: If shapes or names do not fit together.
    """
    spec = sensor_of(sensor)
    moments = pd.DatetimeIndex([_moment(t) for t in time]).astype("datetime64[ns]")
    expected = (len(moments), len(bands), *geobox.shape)
    if tuple(data.shape) != expected or tuple(valid.shape) != (expected[0], *expected[2:]):
        raise StackError(
            f"{spec.title}: data has shape {tuple(data.shape)} and valid {tuple(valid.shape)}, but "
            f"{len(moments)} dates, {len(bands)} bands and a grid of {geobox.shape} need {expected}."
        )
    coords: dict[str, Any] = {"time": ("time", moments.values), "band": ("band", list(bands))}
    doy = np.array([np.nan if t is pd.NaT else t.day_of_year for t in moments], "f4")
    coords["doy"] = ("time", doy)
    given = dict(per_date or {})
    unknown = set(given) - set(PER_DATE)
    if unknown:
        raise StackError(f"{sorted(unknown)} are not per-date facts; known are {list(PER_DATE)}.")
    for name, (kind, default) in PER_DATE.items():
        values = given.get(name, [default] * len(moments))
        if len(values) != len(moments):
            raise StackError(
                f"{spec.title}: {name} has {len(values)} values for {len(moments)} dates."
            )
        coords[name] = ("time", np.array([default if v is None else v for v in values], kind))
    dims = ("time", "band", "y", "x")
    group = xr.Dataset(
        {"data": (dims, data.astype("f4")), "valid": (("time", "y", "x"), valid.astype(bool))},
        coords=coords,
        attrs={
            "sensor": sensor,
            "units": spec.units,
            "source": source,
            "licence": licence,
            "resampling": resampling,
            "approximate": int(approximate),
            "missing_bands": [name for name in spec.names if name not in bands],
            "notes": list(notes),
        },
    )
    group = odc.geo.xr.assign_crs(group.assign_coords(_axes(geobox)), geobox.crs)
    return group.isel(time=np.argsort(moments.values, kind="stable"))  # NaT sorts last


def _moment(time: Any) -> Any:
    """A moment in UTC without a zone, NaT for None."""
    try:
        moment = pd.Timestamp(time) if time is not None else pd.NaT
    except (ValueError, TypeError) as error:
        raise StackError(f"{time!r} is not a date. Give an ISO day or moment, or None.") from error
    return moment.tz_convert("UTC").tz_localize(None) if moment.tzinfo is not None else moment


def make_stack(
    groups: Mapping[str, xr.Dataset],
    *,
    lattice: Lattice,
    region: Region | None,
    source: str,
    synthetic: bool = False,
    notes: Sequence[str] = (),
) -> xr.DataTree:
    """Join sensor groups into a checked stack.

    Args:
        groups: Sensor key to Dataset, as `sensor_group` makes them.
        lattice: Where the windows of the source begin.
        region: What was asked for; None means all there is.
        source: Where it comes from, for people.
        synthetic: True if no satellite ever saw it; shown with every picture.
        notes: Sentences about the stack as a whole.

    Raises:
        StackError: If the result breaks the contract.
    """
    ordered = {
        key: groups[key].assign_attrs(synthetic=int(synthetic)) for key in SENSORS if key in groups
    }
    if set(ordered) != set(groups):
        raise StackError(
            f"{sorted(set(groups) - set(ordered))} are not sensors; use {list(SENSORS)}."
        )
    licences = list(dict.fromkeys(g.attrs["licence"] for g in ordered.values()))
    root = xr.Dataset(
        attrs={
            "region": json.dumps(region.to_geojson()) if region is not None else "",
            "source": source,
            "synthetic": int(synthetic),
            "licence": "; ".join(text for text in licences if text),
            "notes": list(notes),
            **lattice.attrs(),
        }
    )
    tree = xr.DataTree.from_dict({"/": root, **{f"/{k}": g for k, g in ordered.items()}})
    check_stack(tree)
    return tree


def all_notes(tree: xr.DataTree) -> list[str]:
    """Every sentence a user must be able to read about this stack."""
    notes = list(tree.attrs.get("notes", []))
    for key in sensors_of(tree):
        attrs = tree[key].attrs
        notes += [f"{SENSORS[key].title}: {text}" for text in attrs.get("notes", [])]
        if attrs.get("resampling"):
            notes.append(f"{SENSORS[key].title}: {attrs['resampling']}")
        if attrs.get("missing_bands"):
            notes.append(f"{SENSORS[key].title}: no {', '.join(attrs['missing_bands'])}.")
        if attrs.get("approximate"):
            notes.append(f"{SENSORS[key].title}: position is approximate.")
    return notes


def save_stack(tree: xr.DataTree, path: str | Path) -> Path:
    """Write a stack to a Zarr store, whole or not at all; `open_stack` gives it back unchanged.

    Args:
        tree: The stack.
        path: A new folder, by custom ending in `.zarr`.

    Raises:
        StackError: If the stack breaks its contract, the folder is already there, or cannot be
            written.
    """
    check_stack(tree)
    path = path_of(path, StackError)
    if path.exists():
        raise StackError(f"{path} is already there. Choose another name or remove it first.")
    plain = tree.map_over_datasets(_storable)
    plain.attrs[WHOLE] = list(tree.children)
    with written(path, StackError) as partial:
        path.parent.mkdir(parents=True, exist_ok=True)
        plain.to_zarr(partial, mode="w", zarr_format=3, consolidated=False, write_empty_chunks=True)
    return path


def open_stack(path: str | Path) -> xr.DataTree:
    """Open a stack written by `save_stack`, lazily.

    Raises:
        StackError: If there is no readable stack at `path`, or a part of it is lost or damaged;
            for damaged pixels, when they are read.
    """
    path = path_of(path, StackError)
    if not path.is_dir():
        raise StackError(f"There is no stack at {path}. save_stack(stack, path) writes one.")
    with reading(path, StackError, "a Zarr stack"):
        check_whole(path, StackError)
        tree = xr.open_datatree(
            path, engine="zarr", chunks=None, cache=False, decode_coords="all", consolidated=False
        )
        tree = xr.DataTree.from_dict(
            {
                name: _restored(node.to_dataset(), path / name)
                for name, node in tree.subtree_with_keys
            }
        )
        check_stack(tree)
    return tree


def _storable(group: xr.Dataset) -> xr.Dataset:
    """Without encodings inherited from the files it came from, text in the form Zarr v3 specifies."""
    group = _recast(group, "U", object)
    for variable in group.variables.values():
        variable.encoding = {}
    if "data" in group:
        chunks = (1, group.sizes["band"], min(512, group.sizes["y"]), min(512, group.sizes["x"]))
        group["data"] = group["data"].chunk(dict(zip(group["data"].dims, chunks, strict=True)))
        group["valid"] = group["valid"].chunk(time=chunks[0], y=chunks[2], x=chunks[3])
    return group


def _restored(group: xr.Dataset, path: Path) -> xr.Dataset:
    """Pixels read when they are used, everything else loaded, text as it was before `_storable`."""
    group.attrs.pop(WHOLE, None)
    for name, variable in list(group.variables.items()):
        if name in ("data", "valid"):
            group[name] = lazily(variable, path, StackError, str(name))
        else:
            group[name].load()
    for kind in ("T", "O"):
        group = _recast(group, kind, str)
    return group


def _recast(group: xr.Dataset, kind: str, to: type) -> xr.Dataset:
    """Coordinates of one kind of NumPy type as text of another."""
    found = [name for name, each in group.coords.items() if each.dtype.kind == kind]
    texts = {name: np.array(group[name].values.tolist(), dtype=to) for name in found}
    return group.assign_coords({name: (group[name].dims, texts[name]) for name in found})


def _axes(geobox: GeoBox) -> dict[str, Any]:
    coordinates = geobox.coordinates
    return {name: (name, np.asarray(coordinates[name].values)) for name in ("y", "x")}


__all__ = [
    "PER_DATE",
    "all_notes",
    "check_stack",
    "make_stack",
    "open_stack",
    "region_of",
    "save_stack",
    "sensor_group",
    "sensors_of",
]
