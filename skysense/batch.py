"""The one border between xarray and torch: windows of a stack become a `Batch`.

A batch is in the stack's own units (reflectance, dB, 0..255), not normalised: what statistics to
use is the encoder's business. A missing sensor is an absent key, never zeros. Every sensor is put
on its own window grid here: 10 m for Sentinel-2 and Sentinel-1, 0.3125 m for high resolution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from affine import Affine
from jaxtyping import Bool, Float, Int
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.warp import reproject
from torch import Tensor

from skysense.errors import SourceError, StackError
from skysense.sensors import CELL, MIN_BANDS, SENSORS, Sensor
from skysense.sources.fetch import GIVE_UP
from skysense.sources.net import ReadError
from skysense.stack import sensors_of
from skysense.windows import HR_MARGIN, Bounds, Lattice, Window


@dataclass(frozen=True)
class SensorBatch:
    """The dates of one sensor over a batch of windows."""

    pixels: Float[Tensor, "b t c h w"]
    """Values in contract units, bands in the model's order; finite everywhere."""
    valid: Bool[Tensor, "b t h w"]
    """True = usable."""
    doy: Int[Tensor, "b t"]
    """Day of year 1..366; 0 = unknown."""


@dataclass(frozen=True)
class Batch:
    """Windows of several sensors, ready for any encoder."""

    sensors: dict[str, SensorBatch]
    """By key, in the model's order."""
    lonlat: Float[Tensor, "b 2"]
    """Window centres, degrees."""
    lacking: frozenset[tuple[str, int, str]] = frozenset()
    """(sensor, date, band) of bands that a date lacks although its others are used: the sensor's
    mean stands in for them."""

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Batch":
        """The same batch on another device; pixels and places in another precision."""
        return Batch(
            {
                key: SensorBatch(
                    each.pixels.to(device, dtype), each.valid.to(device), each.doy.to(device)
                )
                for key, each in self.sensors.items()
            },
            self.lonlat.to(device, dtype),
        )

    def only(self, sensors: Sequence[str]) -> "Batch":
        """The same windows with fewer sensors."""
        return Batch({k: v for k, v in self.sensors.items() if k in sensors}, self.lonlat)


def to_batch(
    tree: xr.DataTree, windows: Sequence[Window], sensors: Sequence[str] | None = None
) -> Batch:
    """Read windows of a stack into tensors.

    Pixels outside the data, NaN or marked unusable come out as not valid. Bands that the stack
    lacks are filled with the sensor's mean, which is what the encoder takes for "nothing known".

    Args:
        tree: A stack.
        windows: Windows of one shape, from `plan_windows`.
        sensors: Which to read; all that the stack has if None.

    Raises:
        StackError: If the windows differ in shape, or a sensor has too few bands.
    """
    shapes = {w.shape for w in windows}
    if len(shapes) != 1:
        raise StackError(f"A batch needs windows of one shape, but these have {sorted(shapes)}.")
    keys = [k for k in sensors_of(tree) if sensors is None or k in sensors]
    if not keys:
        raise StackError(
            f"The stack has {sensors_of(tree)}, none of which is in {list(sensors or ())}."
        )
    lattice = Lattice.from_attrs(tree.attrs)
    batch: dict[str, SensorBatch] = {}
    lacking: set[tuple[str, int, str]] = set()
    for key in keys:
        group = tree[key].to_dataset()
        check_bands(SENSORS[key], group)
        parts = [_read(group, SENSORS[key], window) for window in windows]
        pixels = torch.from_numpy(np.stack([p for p, _, _ in parts]))  # b t c h w
        valid = torch.from_numpy(np.stack([v for _, v, _ in parts]))  # b t h w
        days = np.nan_to_num(group["doy"].values, nan=0.0).astype(np.int64)
        doy = torch.from_numpy(np.tile(days, (len(windows), 1)))  # b t
        batch[key] = SensorBatch(pixels, valid, doy)
        lacking |= {(key, date, band) for _, _, found in parts for date, band in found}
        del parts
    return Batch(batch, centres(lattice, windows), frozenset(lacking))


def crop(tree: xr.DataTree, windows: Sequence[Window]) -> xr.DataTree:
    """The part of a stack that its windows read, and no pixel more: they read the same there."""
    lefts, bottoms, rights, tops = zip(*(w.bounds for w in windows), strict=True)
    bounds = (min(lefts), min(bottoms), max(rights), max(tops))
    groups = {}
    for key in sensors_of(tree):
        group = tree[key].to_dataset()
        rows, columns = _under(group.odc.geobox, bounds, _margin(key)) or (slice(0), slice(0))
        rows, columns = _two(rows, group.sizes["y"]), _two(columns, group.sizes["x"])
        groups[f"/{key}"] = group.isel(y=rows, x=columns)
    return xr.DataTree.from_dict({"/": tree.to_dataset(), **groups})


def unreadable(
    tree: xr.DataTree, windows: Sequence[Window], sensors: Sequence[str]
) -> dict[str, dict[int, str]]:
    """Which dates of which sensors cannot be read under windows, and why; each is tried by itself.

    Raises:
        SourceError: If the server has stopped answering, which says nothing about single dates.
    """
    found: dict[str, dict[int, str]] = {}
    read = False
    for key in sensors:
        silent, group = 0, tree[key].to_dataset()
        for date in range(group.sizes["time"]):
            try:
                for window in windows:
                    _read(group.isel(time=[date]), SENSORS[key], window)
            except ReadError as error:
                found.setdefault(key, {})[date] = str(error)
                silent = silent + 1 if error.fault.server else 0
                last = date == group.sizes["time"] - 1 and key == sensors[-1] and not read
                if silent >= GIVE_UP or (silent and last):
                    raise SourceError(
                        f"The server has stopped answering. {error} Start again later: what is "
                        "finished in `out` is kept."
                    ) from error
            else:
                read, silent = True, 0
    return found


def check_bands(sensor: Sensor, group: xr.Dataset) -> list[str]:
    """Names of the model's bands that `group` lacks.

    Raises:
        StackError: If fewer are left than the encoder can honestly work with.
    """
    missing = [name for name in sensor.names if name not in group["band"].values]
    left = len(sensor.names) - len(missing)
    if left < MIN_BANDS[sensor.key]:
        raise StackError(
            f"{sensor.title} has {left} of the {len(sensor.names)} bands the encoder reads; at "
            f"least {MIN_BANDS[sensor.key]} are needed. Missing: {', '.join(missing)}."
        )
    return missing


def _read(
    group: xr.Dataset, sensor: Sensor, window: Window
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]:
    """One window of one sensor: pixels (t c h w), valid (t h w), and (date, band) filled in."""
    rows, columns = (round(n * CELL / sensor.resolution) for n in window.shape)
    left, _, _, top = window.bounds
    names = group["band"].values.tolist()
    present = [name for name in sensor.names if name in names]
    shape = (group.sizes["time"], len(sensor.names), rows, columns)
    mean = np.array(sensor.mean, np.float32)[:, None, None]
    pixels = np.broadcast_to(mean, shape).copy()
    # Taken from the group, not from the part: an object that has shown its grid is only freed by
    # the garbage collector, and the pixels of every window would stay until it comes.
    whole = group.odc.geobox
    under = _under(whole, window.bounds, _margin(sensor.key))
    if under is None:
        return pixels, np.zeros((shape[0], rows, columns), bool), []
    part = group[["data", "valid"]].isel(y=under[0], x=under[1])  # a view: bands only after it
    part = part.isel(band=[names.index(name) for name in present]).load()
    data, usable, lacking = _filled(part["data"].values, part["valid"].values, sensor, present)
    box = whole[under]
    step = abs(box.resolution.x)
    if sensor.key == "hr" and not _aligned(box, left, top, sensor.resolution):
        read, seen = _warp(data, usable, box, left, top, sensor.resolution, (rows, columns))
    else:
        across = _indices(box.affine.c, step, left, sensor.resolution, columns)
        down = _indices(-box.affine.f, abs(box.resolution.y), -top, sensor.resolution, rows)
        inside = ((down >= 0) & (down < data.shape[2]))[:, None] & (
            (across >= 0) & (across < data.shape[3])
        )[None, :]
        down = np.clip(down, 0, data.shape[2] - 1)
        across = np.clip(across, 0, data.shape[3] - 1)
        read = data[:, :, down[:, None], across[None, :]]
        seen = usable[:, down[:, None], across[None, :]] & inside
    order = [sensor.names.index(name) for name in present]
    pixels[:, order] = np.where(seen[:, None], read, mean[order])
    return pixels, seen, [pair for pair in lacking if seen[pair[0]].any()]


def _filled(
    data: np.ndarray, usable: np.ndarray, sensor: Sensor, present: list[str]
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]:
    """Bands that a date lacks altogether at the sensor's mean, where others are usable; and which.

    A single-polarisation radar date has no vh at all: that is a missing band, not a missing date.
    """
    finite = np.isfinite(data)  # t c y x
    absent = ~finite.any(axis=(2, 3))
    enough = (~absent).sum(axis=1) >= MIN_BANDS[sensor.key]
    mean = np.array([sensor.mean[sensor.names.index(name)] for name in present], data.dtype)
    data = np.where(absent[:, :, None, None], mean[:, None, None], data)
    usable = usable & (finite | absent[:, :, None, None]).all(axis=1) & enough[:, None, None]
    return data, usable, [(int(t), present[c]) for t, c in zip(*absent.nonzero(), strict=True)]


def _margin(key: str) -> int:
    """Pixels that reading a window takes from around it."""
    return HR_MARGIN if key == "hr" else 0


def _under(box: GeoBox, bounds: Bounds, margin: int) -> tuple[slice, slice] | None:
    """Rows and columns of a grid under bounds (m) and a few around, or None if there are none."""
    left, bottom, right, top = bounds
    columns, rows = abs(box.resolution.x), abs(box.resolution.y)
    x0 = max(0, math.floor((left - box.affine.c) / columns + 1e-6) - margin)
    x1 = min(box.shape[1], math.ceil((right - box.affine.c) / columns - 1e-6) + margin)
    y0 = max(0, math.floor((box.affine.f - top) / rows + 1e-6) - margin)
    y1 = min(box.shape[0], math.ceil((box.affine.f - bottom) / rows - 1e-6) + margin)
    return None if x0 >= x1 or y0 >= y1 else (slice(y0, y1), slice(x0, x1))


def _two(span: slice, size: int) -> slice:
    """At least two pixels where there are as many: the spacing of one is unknown."""
    first, last = span.start or 0, max(span.stop, 2)
    return slice(max(0, min(first, last - 2)), min(last, size))


def _indices(origin: float, step: float, start: float, resolution: float, count: int) -> np.ndarray:
    """Which source pixel lies under each target pixel centre, along one axis."""
    centres = start + (np.arange(count) + 0.5) * resolution
    return np.floor((centres - origin) / step + 1e-9).astype(int)


def _aligned(box: object, left: float, top: float, resolution: float) -> bool:
    """True if the source pixels are the target pixels."""
    step = abs(box.resolution.x)  # type: ignore[attr-defined]
    shift_x = (left - box.affine.c) / resolution  # type: ignore[attr-defined]
    shift_y = (box.affine.f - top) / resolution  # type: ignore[attr-defined]
    return (
        abs(step - resolution) < 1e-6 * resolution
        and abs(shift_x - round(shift_x)) < 1e-3
        and abs(shift_y - round(shift_y)) < 1e-3
    )


def _warp(
    data: np.ndarray,
    usable: np.ndarray,
    box: object,
    left: float,
    top: float,
    resolution: float,
    shape: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """High-resolution pixels on the window's grid: averaged if finer, bilinear if coarser."""
    affine, crs = box.affine, str(box.crs)  # type: ignore[attr-defined]
    # From the window's corner and without the last digits, which depend on how much of a file was
    # loaded: the same place must give the same bits.
    affine = Affine(
        round(affine.a, 9), 0, round(affine.c - left, 6),
        0, round(affine.e, 9), round(affine.f - top, 6),
    )  # fmt: skip
    target = from_origin(0, 0, resolution, resolution)
    finer = abs(box.resolution.x) < resolution  # type: ignore[attr-defined]
    method = Resampling.average if finer else Resampling.bilinear
    masked = np.where(usable[:, None], data, np.nan).astype(np.float32)
    flat = masked.reshape(-1, *data.shape[2:])  # (t c) y x
    out = np.full((len(flat), *shape), np.nan, np.float32)
    reproject(
        flat,
        out,
        src_transform=affine,
        src_crs=crs,
        dst_transform=target,
        dst_crs=crs,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=method,
    )
    out = out.reshape(*data.shape[:2], *shape)
    return out, np.isfinite(out).all(axis=1)


def centres(lattice: Lattice, windows: Sequence[Window]) -> Tensor:
    """Longitude and latitude of the middle of each window, (b, 2) float32 degrees."""
    to_degrees = Transformer.from_crs(lattice.crs, "EPSG:4326", always_xy=True)
    middles = [((w.bounds[0] + w.bounds[2]) / 2, (w.bounds[1] + w.bounds[3]) / 2) for w in windows]
    return torch.tensor([to_degrees.transform(x, y) for x, y in middles], dtype=torch.float32)
