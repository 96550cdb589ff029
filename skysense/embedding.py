"""Stack in, features out: where the array half and the tensor half meet.

    stack ── choose_dates ──▶ windows ── to_batch ──▶ encoder ──▶ cores ──▶ features

Every window is encoded on its own and only its core is kept, so a place has the same value
whatever rectangle was drawn around it. Coarse features (20 m, 40 m) are the 10 m features at some
of the cells, not means: they cost less and never move.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from skysense.batch import check_bands, crop, to_batch, unreadable
from skysense.checks import as_number, shown
from skysense.context import context_of
from skysense.cost import Cost, estimate
from skysense.dates import Dates, choose_dates
from skysense.encoders import FIRST_CELL, STRIDES, Encoder
from skysense.errors import Cancelled, EncoderError, StackError
from skysense.region import Region
from skysense.sensors import CELL, SENSORS
from skysense.sources.fetch import days_of, read_stack, without
from skysense.sources.net import ReadError
from skysense.stack import region_of, sensors_of
from skysense.streaming import FeatureStore, Lost, provenance
from skysense.windows import Bounds, Lattice, Window, plan_windows

Progress = Callable[[int, int, str], None]
"""Called with (done, total, sentence)."""


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


@dataclass(frozen=True)
class Job:
    """One call of `embed`, decided before any pixel is read."""

    stack: xr.DataTree
    """The chosen dates of the sensors that the encoder reads, where the windows are."""
    grid: Grid
    windows: list[Window]
    cost: Cost


def embed(
    stack: xr.DataTree,
    encoder: Encoder,
    *,
    resolution: int | None = None,
    region: Region | None = None,
    dates: Dates | None = None,
    batch_size: int | None = None,
    out: str | Path | None = None,
    memory_gb: float = 4.0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> xr.DataArray:
    """Features of a place.

    Args:
        stack: From `load_stack`.
        encoder: From `load_encoder`, or anything with the same few attributes.
        resolution: Spacing of the features: 10, 20 or 40 m; the encoder's finest if None.
        region: Part of the stack; the region it was loaded for if None. Its bounds count: a
            polygon in it masks nothing, as NaN means unseen and nothing else.
        dates: Which dates to use; by default up to 20 clear Sentinel-2 dates spread over the
            period, 10 Sentinel-1 dates of one orbit direction, one high-resolution image.
        batch_size: Windows at once; chosen from the memory budget if None.
        out: A `.zarr` path to stream to; work that was interrupted goes on where it stopped.
        memory_gb: What the work may hold at once: weights, features unless streamed, the stack or
            the windows being read, and what the encoder makes of them (the program itself, about
            0.6 GB, comes on top; on a GPU, weights and the encoder's part are held against its own
            memory). Beyond it the work is refused with the estimate.
        progress: Called after each date that is read and after each batch of windows.
        cancel: Set it to stop; what was streamed to `out` stays.

    Returns:
        DataArray (feature, y, x), float32, on the UTM grid, NaN where nothing usable was seen.
        Its `attrs` say how it was made. A date with an image that cannot be read is not used in
        any window, and `notes` name it; if windows were made with it, they are made again.

    Raises:
        StackError: If the stack or the region cannot be used.
        EncoderError: If the encoder cannot read this stack, or memory would not do.
        SourceError: If no image can be read, or the server has stopped answering.
        Cancelled: If `cancel` was set.
    """
    check_options(encoder, batch_size, memory_gb)
    if progress is not None and not callable(progress):
        raise EncoderError(f"progress={shown(progress)} cannot be called; give a function.")
    if cancel is not None and not isinstance(cancel, threading.Event):
        raise EncoderError(f"cancel={shown(cancel)} is not a threading.Event.")
    FeatureStore.check(out)
    job, streamed = _plan(stack, encoder, resolution, region, dates), out is not None
    size = batch_size or job.cost.batch(memory_gb, streamed=streamed)
    if refusal := job.cost.refusal(size, memory_gb, streamed=streamed):
        raise EncoderError(refusal)
    chosen = job.stack
    if job.cost.holds_stack(memory_gb, streamed=streamed):
        told = progress if job.cost.lazy else None
        chosen = read_stack(chosen, memory_gb=memory_gb, progress=told, cancel=cancel)
    run = {
        "encoder": encoder.name,
        "weights": encoder.weights,
        "weights_licence": encoder.licence,
        "untrained": int(encoder.untrained),
        "resolution": job.grid.resolution,
        "device": str(encoder.device),
        "dtype": str(encoder.dtype).removeprefix("torch."),
        "batch_size": size,
        "threads": torch.get_num_threads(),
    }
    run |= context_of(encoder, job.grid.lattice, job.windows)

    def made_of(part: xr.DataTree) -> dict[str, Any]:
        attrs = provenance(part, usable_sensors(part, encoder)) | run
        return attrs | {"notes": [*attrs["notes"], *encoder.notes]}

    store = FeatureStore.create(out, encoder.dim, job.grid.geobox, made_of(chosen))
    while True:
        readable = without(chosen, store.lost)
        attrs = made_of(readable)
        lost = _encode(readable, encoder, job, size, store, progress, cancel)
        if not lost:
            return store.finish(attrs)
        store.begin_again(_merged(chosen, store.lost, lost))
        if progress is not None:
            days = [f"{SENSORS[k].title} {days_of(readable[k])[i]}" for k in lost for i in lost[k]]
            progress(
                0, len(job.windows), f"{', '.join(days)} cannot be read: left out, beginning again"
            )


def _encode(
    stack: xr.DataTree,
    encoder: Encoder,
    job: Job,
    size: int,
    store: FeatureStore,
    progress: Progress | None,
    cancel: threading.Event | None,
) -> Lost:
    """Make what is left to do; ends early, with the dates, if some cannot be read everywhere."""
    windows, sensors = job.windows, usable_sensors(stack, encoder)
    todo = [w for w in windows if not store.has(w.core)]
    done = len(windows) - len(todo)
    for windows_now in _batches(todo, size):
        if cancel is not None and cancel.is_set():
            raise Cancelled
        try:
            batch = to_batch(stack, windows_now, sensors)
        except ReadError:
            if lost := unreadable(stack, windows_now, sensors):
                return lost
            batch = to_batch(stack, windows_now, sensors)  # it had been for a moment only
        made = encoder(batch, job.grid.resolution)
        store.remark(
            f"{SENSORS[key].title}: no {band} on {days_of(stack[key])[date]}; the sensor's mean "
            "stands in for it."
            for key, date, band in batch.lacking
        )
        for window, features in zip(windows_now, made.float().cpu().numpy(), strict=True):
            _write_core(store, job.grid, window, features)
        done += len(windows_now)
        if progress is not None:
            progress(done, len(windows), f"{done} of {len(windows)} windows encoded")
    return {}


def _merged(stack: xr.DataTree, before: Lost, more: Lost) -> Lost:
    """Dates of a stack that cannot be read, where `more` counts only those not lost `before`."""
    merged = {key: dict(dates) for key, dates in before.items()}
    for key, dates in more.items():
        known = before.get(key, {})
        left = [i for i in range(stack[key].sizes["time"]) if i not in known]
        merged.setdefault(key, {}).update({left[i]: why for i, why in dates.items()})
    return merged


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
        raise StackError(f"region={region!r} is not a Region; make one with Region.around(...).")
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
    rows = _cells(lattice.y0 - top, lattice.y0 - bottom, step, first)
    columns = _cells(left - lattice.x0, right - lattice.x0, step, first)
    if len(rows) < 2 or len(columns) < 2:
        raise StackError(
            f"The region has {len(rows)} × {len(columns)} cells of {resolution} m inside the stack; "
            "a map needs two each way. Choose a finer resolution or a larger region."
        )
    return Grid(lattice, resolution, rows, columns)


def forecast(
    stack: xr.DataTree,
    encoder: Encoder,
    *,
    resolution: int | None = None,
    region: Region | None = None,
    dates: Dates | None = None,
) -> Cost:
    """What `embed` with the same arguments will take; raises what it would raise."""
    check_encoder(encoder)
    return _plan(stack, encoder, resolution, region, dates).cost


def _plan(
    stack: xr.DataTree,
    encoder: Encoder,
    resolution: int | None,
    region: Region | None,
    dates: Dates | None,
) -> Job:
    chosen = choose_dates(stack, dates)
    sensors = usable_sensors(chosen, encoder)
    grid = plan_grid(chosen, region, encoder.stride if resolution is None else resolution)
    windows = plan_windows(grid.lattice, _extent(grid))
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


def _batches(windows: Sequence[Window], size: int) -> Iterator[list[Window]]:
    """Runs of at most `size` windows of one shape."""
    batch: list[Window] = []
    for window in windows:
        if batch and (len(batch) == size or window.shape != batch[0].shape):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _write_core(store: FeatureStore, grid: Grid, window: Window, features: np.ndarray) -> None:
    """Copy the kept part of one window to its place."""
    step, first = grid.resolution // 10, FIRST_CELL[grid.resolution]
    left, _, _, top = window.bounds
    at_row = round((grid.lattice.y0 - top) / CELL) + first
    at_column = round((left - grid.lattice.x0) / CELL) + first
    core_left, core_bottom, core_right, core_top = window.core
    y0, y1 = grid.lattice.y0 - core_top, grid.lattice.y0 - core_bottom
    x0, x1 = core_left - grid.lattice.x0, core_right - grid.lattice.x0
    rows = _common(grid.rows, _cells(y0, y1, step, first))
    columns = _common(grid.columns, _cells(x0, x1, step, first))
    if not len(rows) or not len(columns):
        return
    a, b = (rows.start - at_row) // step, (columns.start - at_column) // step
    part = features[:, a : a + len(rows), b : b + len(columns)]
    i, j = grid.rows.index(rows.start), grid.columns.index(columns.start)
    store.write(window.core, part, i, j)


def _cells(low: float, high: float, step: int, first: int) -> range:
    """Sampled cells whose centres lie in [low, high) metres from the lattice's corner."""
    start = int(np.ceil(low / CELL - 0.5 - 1e-9))
    stop = int(np.ceil(high / CELL - 0.5 - 1e-9))
    start += (first - start) % step
    return range(start, max(start, stop), step)


def _common(a: range, b: range) -> range:
    """Cells in both, which share step and phase."""
    start, stop = max(a.start, b.start), min(a.stop, b.stop)
    return range(start, max(start, stop), a.step)


def _extent(grid: Grid) -> Bounds:
    """Outer edges of the sampled cells (m)."""
    lattice, rows, columns = grid.lattice, grid.rows, grid.columns
    return (
        lattice.x0 + columns[0] * CELL,
        lattice.y0 - (rows[-1] + 1) * CELL,
        lattice.x0 + (columns[-1] + 1) * CELL,
        lattice.y0 - rows[0] * CELL,
    )


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
