"""What one call of `embed` will do, decided before any pixel is read: cells, windows, cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from skysense.batch import check_bands, crop
from skysense.checks import as_number, shown
from skysense.cost import Cost, estimate
from skysense.dates import Dates, choose_dates
from skysense.encoders import FIRST_CELL, STRIDES, Encoder
from skysense.errors import EncoderError, StackError
from skysense.region import Region
from skysense.sensors import CELL, SENSORS
from skysense.stack import region_of, sensors_of
from skysense.windows import Bounds, Lattice, Window, plan_windows


@dataclass(frozen=True)
class Grid:
    """The sampled cells of a source's lattice that features are made for."""

    lattice: Lattice
    resolution: int
    """Spacing (m)."""
    rows: range
    """Cell numbers from the lattice's top edge, one for each row of features."""
    columns: range
    """Cell numbers from the lattice's left edge, one for each column of features."""

    @property
    def geobox(self) -> GeoBox:
        """Pixels of `resolution`, each centred on the 10 m cell that was sampled."""
        half = self.resolution / 2
        left = self.lattice.x0 + (self.columns.start + 0.5) * CELL - half
        top = self.lattice.y0 - (self.rows.start + 0.5) * CELL + half
        affine = Affine(self.resolution, 0, left, 0, -self.resolution, top)
        return GeoBox((len(self.rows), len(self.columns)), affine, self.lattice.crs)

    @property
    def bounds(self) -> Bounds:
        """Outer edges of the sampled cells (m)."""
        return (
            self.lattice.x0 + self.columns[0] * CELL,
            self.lattice.y0 - (self.rows[-1] + 1) * CELL,
            self.lattice.x0 + (self.columns[-1] + 1) * CELL,
            self.lattice.y0 - self.rows[0] * CELL,
        )

    def coarser(self, resolution: int) -> "Grid | None":
        """The cells of a coarser spacing among these; None if they make no map, two each way."""
        step, first = resolution // 10, FIRST_CELL[resolution]
        rows, columns = (
            range(axis.start + (first - axis.start) % step, axis.stop, step)
            for axis in (self.rows, self.columns)
        )
        found = len(rows) >= 2 and len(columns) >= 2
        return Grid(self.lattice, resolution, rows, columns) if found else None


@dataclass(frozen=True)
class Job:
    """One call of `embed`, decided before any pixel is read."""

    stack: xr.DataTree
    """The chosen dates of the sensors that the encoder reads, where the windows are."""
    grid: Grid
    windows: list[Window]
    cost: Cost


def plan(
    stack: xr.DataTree,
    encoder: Encoder,
    resolution: int | None,
    region: Region | None,
    dates: Dates | None,
) -> Job:
    """What `embed` with these arguments will do.

    Raises:
        StackError: If the stack or the region cannot be used.
        EncoderError: If the encoder cannot read this stack, or the resolution is none.
    """
    chosen = choose_dates(stack, dates)
    sensors = usable_sensors(chosen, encoder)
    grid = plan_grid(chosen, region, encoder.stride if resolution is None else resolution)
    windows = plan_windows(grid.lattice, grid.bounds)
    chosen = crop(only(chosen, sensors), windows)
    cost = estimate(
        chosen,
        encoder,
        sensors,
        cells=(len(grid.rows), len(grid.columns)),
        window=windows[0].shape,
        windows=len(windows),
        step=grid.resolution // 10,
    )
    return Job(chosen, grid, windows, cost)


def only(stack: xr.DataTree, sensors: Sequence[str]) -> xr.DataTree:
    """The stack without the sensors that nobody reads, and a note of them."""
    unread = [SENSORS[key].title for key in sensors_of(stack) if key not in sensors]
    notes = list(stack.attrs.get("notes", []))
    notes += [f"The encoder does not read {' or '.join(unread)}."] if unread else []
    root = xr.Dataset(attrs={**stack.attrs, "notes": notes})
    return xr.DataTree.from_dict({"/": root, **{f"/{k}": stack[k].to_dataset() for k in sensors}})


def check_options(encoder: Encoder, batch_size: int | None, memory_gb: float) -> None:
    """Raise `EncoderError` for what is no encoder, number of windows or amount of memory."""
    check_encoder(encoder)
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise EncoderError(
            f"batch_size={shown(batch_size)} is not a number of windows, at least 1."
        )
    if not 0 < as_number(memory_gb) < float("inf"):
        raise EncoderError(f"memory_gb={shown(memory_gb)} is not a number of gigabytes above 0.")


def check_encoder(encoder: Encoder) -> None:
    """Raise `EncoderError` unless this is an encoder."""
    if not isinstance(encoder, Encoder):
        raise EncoderError(
            f"{shown(encoder)} is not an encoder. Make one with load_encoder('skysense-tiny')."
        )


def usable_sensors(stack: xr.DataTree, encoder: Encoder) -> list[str]:
    """Sensors that both the stack and the encoder have.

    Raises:
        EncoderError: If there is none.
        StackError: If a sensor has too few bands.
    """
    sensors = [key for key in sensors_of(stack) if key in encoder.sensors]
    if not sensors:
        raise EncoderError(
            f"{encoder.name} reads {', '.join(encoder.sensors)}, but the stack holds only "
            f"{', '.join(sensors_of(stack))}. Load another sensor or choose another encoder."
        )
    for key in sensors:
        check_bands(SENSORS[key], stack[key].to_dataset())
    return sensors


def plan_grid(stack: xr.DataTree, region: Region | None, resolution: int) -> Grid:
    """Which cells to make features for.

    Raises:
        EncoderError: If the resolution is not 10, 20 or 40 m.
        StackError: If the region does not touch the stack.
    """
    if as_number(resolution) not in STRIDES:
        raise EncoderError(f"resolution={shown(resolution)} m is not one of {STRIDES}.")
    if region is not None and not isinstance(region, Region):
        raise StackError(
            f"region={shown(region)} is not a Region; make one with Region.around(...)."
        )
    resolution = int(resolution)
    lattice = Lattice.from_attrs(stack.attrs)
    region = region or region_of(stack)
    left, bottom, right, top = held = _held(stack, lattice)
    if region is not None:
        left, bottom, right, top = _overlap(held, _project(region, lattice.crs))
        if left >= right or bottom >= top:
            raise StackError(
                f"The region {region.name or region.bounds} does not touch the stack. "
                "Load a stack for it, or leave `region` out."
            )
    first, step = FIRST_CELL[resolution], resolution // 10
    rows = cells_between(lattice.y0 - top, lattice.y0 - bottom, step, first)
    columns = cells_between(left - lattice.x0, right - lattice.x0, step, first)
    if len(rows) < 2 or len(columns) < 2:
        raise StackError(
            f"The region has {len(rows)} × {len(columns)} cells of {resolution} m inside the stack; "
            "a map needs two each way. Choose a finer resolution or a larger region."
        )
    return Grid(lattice, resolution, rows, columns)


def cells_between(low: float, high: float, step: int, first: int) -> range:
    """Sampled cells whose centres lie in [low, high) metres from the lattice's corner."""
    start = int(np.ceil(low / CELL - 0.5 - 1e-9))
    stop = int(np.ceil(high / CELL - 0.5 - 1e-9))
    start += (first - start) % step
    return range(start, max(start, stop), step)


def _held(stack: xr.DataTree, lattice: Lattice) -> Bounds:
    """What the stack's sensors cover together (m)."""
    boxes = [stack[key].to_dataset().odc.geobox.boundingbox for key in sensors_of(stack)]
    union = (
        min(b.left for b in boxes),
        min(b.bottom for b in boxes),
        max(b.right for b in boxes),
        max(b.top for b in boxes),
    )
    return _overlap(union, lattice.bounds) if lattice.bounded else union


def _overlap(a: Bounds, b: Bounds) -> Bounds:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _project(region: Region, crs: str) -> Bounds:
    to_utm = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    return to_utm.transform_bounds(*region.bounds)
