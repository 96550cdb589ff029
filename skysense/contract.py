"""What every stack keeps to, and the sentence for each way of breaking it; see `skysense.stack`."""

import json
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import odc.geo.xr  # noqa: F401 -- registers the .odc accessor
import xarray as xr

from skysense.checks import shown
from skysense.errors import StackError
from skysense.region import Region
from skysense.sensors import SENSORS, Sensor
from skysense.windows import Lattice

PER_DATE: dict[str, tuple[str, Any]] = {
    "item": ("U", ""),
    "orbit_direction": ("U", ""),
    "orbit_number": ("i4", -1),
    "baseline": ("U", ""),
    "level": ("U", ""),
    "backscatter": ("U", ""),
    "clear": ("f4", np.nan),
}
"""Coordinates along `time` that every group carries: kind, and the value that means unknown."""


def check_stack(tree: xr.DataTree) -> None:
    """Raise `StackError`, naming the fault, unless `tree` keeps the contract."""
    if not isinstance(tree, xr.DataTree):
        raise StackError(
            f"A stack is an xarray.DataTree, not {type(tree).__name__}. load_stack makes one."
        )
    present = sensors_of(tree)
    if not present:
        raise StackError("The stack holds no sensor. Give it at least one of hr, s2, s1.")
    _check_attrs("/", tree.attrs)
    lattice = Lattice.from_attrs(tree.attrs)
    region_of(tree)
    for key in present:
        group = tree[key].to_dataset()
        _check_attrs(f"/{key}", group.attrs)
        _check_pixels(key, group)
        _check_dates(key, group)
        _check_grid(key, group, lattice)


def _check_attrs(where: str, attrs: Mapping[Any, Any]) -> None:
    """Attributes may be absent, but are of their kind: text, whole numbers, lists of text."""
    kinds = (
        (("source", "licence", "resampling", "sensor", "region"), str, "text"),
        (("synthetic", "approximate"), numbers.Integral, "0 or 1"),
        (("notes", "missing_bands"), list | tuple, "a list of text"),
    )
    for names, kind, words in kinds:
        for name in (n for n in names if n in attrs):
            value = attrs[name]
            parts = value if isinstance(value, list | tuple) else ()
            if not isinstance(value, kind) or not all(isinstance(part, str) for part in parts):
                raise StackError(f"{where}: the attribute {name}={shown(value)} is not {words}.")


def _check_pixels(key: str, group: xr.Dataset) -> None:
    spec = sensor_of(key)
    for name, dims in (("data", ("time", "band", "y", "x")), ("valid", ("time", "y", "x"))):
        if name not in group or group[name].dims != dims:
            found = group[name].dims if name in group else "nothing"
            raise StackError(f"/{key}: `{name}` must have the axes {dims}, but there is {found}.")
    if group["data"].dtype != np.float32 or group["valid"].dtype != bool:
        raise StackError(f"/{key}: `data` must be float32 and `valid` bool.")
    names = [str(b) for b in group["band"].values]
    strangers = [name for name in names if name not in spec.known]
    if strangers:
        raise StackError(f"/{key}: unknown bands {strangers}; {spec.title} has {list(spec.known)}.")
    if 0 in group["data"].shape:
        raise StackError(f"/{key}: there is no date or no band or no pixel in it.")
    if len(set(names)) < len(names):
        raise StackError(f"/{key}: a band is there twice: {names}.")
    for name, right in (("units", spec.units), ("sensor", key)):
        if group.attrs.get(name) != right:
            raise StackError(f"/{key}: {name} is {shown(group.attrs.get(name))}, not {right!r}.")


def _check_dates(key: str, group: xr.Dataset) -> None:
    absent = [n for n in ("time", "doy", *PER_DATE) if n not in group.coords]
    if absent:
        raise StackError(
            f"/{key}: the coordinates {absent} are missing; use sensor_group to make it."
        )
    for name, (kind, _) in {"time": ("M", None), "doy": ("f", None), **PER_DATE}.items():
        dims, found = group[name].dims, group[name].dtype.kind
        if dims != ("time",) or found not in ("UTO" if kind == "U" else kind[0]):
            raise StackError(
                f"/{key}: the coordinate {name} is {group[name].dtype} over {dims}, which is not "
                "what sensor_group makes of it."
            )
    times = group["time"].values
    known = times[~np.isnat(times)]
    if np.isnat(times[: len(known)]).any() or (np.diff(known) < np.timedelta64(0)).any():
        raise StackError(
            f"/{key}: the dates are not sorted (unknown ones last). Sort with .sortby('time')."
        )


def _check_grid(key: str, group: xr.Dataset, lattice: Lattice) -> None:
    crs = group.odc.crs
    if crs is None or f"EPSG:{crs.to_epsg()}" != lattice.crs:
        raise StackError(f"/{key}: the grid is in {shown(crs)}, the windows in {lattice.crs}.")
    if group.odc.geobox is None or not all(_even(group, axis) for axis in ("y", "x")):
        raise StackError(f"/{key}: x and y are not the evenly spaced metres of a grid.")
    if group.sizes["y"] > 1 and float(group["y"][0]) < float(group["y"][-1]):
        raise StackError(
            f"/{key}: y must descend (north first). Flip it with .isel(y=slice(None, None, -1))."
        )
    if group.sizes["x"] > 1 and float(group["x"][0]) > float(group["x"][-1]):
        raise StackError(
            f"/{key}: x must ascend (west first). Flip it with .isel(x=slice(None, None, -1))."
        )


def _even(group: xr.Dataset, axis: str) -> bool:
    """True if the coordinates of an axis are numbers a pixel apart, to a tenth of a pixel."""
    if axis not in group.coords or group[axis].dtype.kind not in "fiu":
        return False
    values = group[axis].values.astype(float)
    even = np.linspace(values[0], values[-1], len(values))
    step = (values[-1] - values[0]) / max(len(values) - 1, 1)
    return bool((np.abs(values - even) <= abs(step) / 10).all())


def sensors_of(tree: xr.DataTree) -> list[str]:
    """Keys of the sensors a stack holds, in the model's order."""
    return [key for key in SENSORS if key in tree.children]


def region_of(tree: xr.DataTree) -> Region | None:
    """The region a stack was loaded for, or None if it holds a whole source.

    Raises:
        StackError: If the attribute that says so is not what `make_stack` writes.
    """
    text = tree.attrs.get("region", "")
    try:
        return Region.from_geojson(json.loads(text)) if text != "" else None
    except (TypeError, ValueError) as error:  # a RegionError is a ValueError
        raise StackError(
            f"The stack's region cannot be read from {shown(text)}: {str(error).rstrip('.')}. "
            "Load the stack again."
        ) from error


def sensor_of(key: str) -> Sensor:
    """A sensor by its key.

    Raises:
        StackError: If there is none of this name.
    """
    if not isinstance(key, str) or key not in SENSORS:
        raise StackError(f"{shown(key)} is not a sensor; use one of {list(SENSORS)}.")
    return SENSORS[key]
