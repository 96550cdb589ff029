"""The work of `embed`: windows read, encoded and written, one batch after another.

    plan ── begin ──▶ Work ── fill ──▶ a FeatureStore, a batch of windows at a time

Whatever is made window by window goes through `fill`: features, coarse features first, or how
features change when dates are left out. A batch holds the same windows in whatever order the
batches come, so the order changes no bit.
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from skysense.batch import Batch, to_batch, unreadable
from skysense.checks import shown
from skysense.context import context_of
from skysense.dates import Dates
from skysense.encoders import FIRST_CELL, Encoder
from skysense.errors import Cancelled, EncoderError
from skysense.plan import Grid, Job, cells_between, check_options, plan, usable_sensors
from skysense.region import Region
from skysense.sensors import CELL, SENSORS
from skysense.sources.fetch import days_of, read_stack, without
from skysense.sources.net import ReadError
from skysense.streaming import FeatureStore, Lost, provenance
from skysense.windows import Window

Progress = Callable[[int, int, str], None]
"""Called with (done, total, sentence)."""

Make = Callable[[Batch], Tensor]
"""What is made of a batch: (b, layers, rows, columns) at the cells of a grid."""


@dataclass(frozen=True)
class Work:
    """One call of `embed`, decided, checked and affordable."""

    job: Job
    encoder: Encoder
    size: int
    """Windows at once."""
    hold: bool
    """Whether the stack is read whole before the first window."""
    memory_gb: float

    def attrs(self, stack: xr.DataTree, resolution: int | None = None) -> dict[str, Any]:
        """How features of this work are made from these dates; see `FeatureStore.finish`."""
        encoder, job = self.encoder, self.job
        attrs = provenance(stack, usable_sensors(stack, encoder)) | {
            "encoder": encoder.name,
            "weights": encoder.weights,
            "weights_licence": encoder.licence,
            "untrained": int(encoder.untrained),
            "resolution": resolution or job.grid.resolution,
            "device": str(encoder.device),
            "dtype": str(encoder.dtype).removeprefix("torch."),
            "batch_size": self.size,
            "threads": torch.get_num_threads(),
        }
        attrs |= context_of(encoder, job.grid.lattice, job.windows)
        if merge := getattr(encoder, "merge", ""):
            attrs["merge"] = merge
        return attrs | {"notes": [*attrs["notes"], *encoder.notes]}

    def read(
        self,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
        *,
        hold: bool = False,
    ) -> xr.DataTree:
        """The stack to encode: in memory where it fits or `hold` says so, else read on the way."""
        if not (self.hold or hold):
            return self.job.stack
        told = progress if self.job.cost.lazy else None
        return read_stack(self.job.stack, memory_gb=self.memory_gb, progress=told, cancel=cancel)


def begin(
    stack: xr.DataTree,
    encoder: Encoder,
    *,
    resolution: int | None = None,
    region: Region | None = None,
    dates: Dates | None = None,
    batch_size: int | None = None,
    memory_gb: float = 4.0,
    out: str | Path | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Work:
    """Check what `embed` was given and decide what will be done; reads no pixel.

    Raises:
        StackError: If the stack or the region cannot be used.
        EncoderError: If the encoder cannot read this stack, memory would not do, or an option is
            not what it must be.
    """
    check_options(encoder, batch_size, memory_gb)
    if progress is not None and not callable(progress):
        raise EncoderError(f"progress={shown(progress)} cannot be called; give a function.")
    if cancel is not None and not isinstance(cancel, threading.Event):
        raise EncoderError(
            f"cancel={shown(cancel)} is not a threading.Event; make one, and set it to stop."
        )
    FeatureStore.check(out)
    job, streamed = plan(stack, encoder, resolution, region, dates), out is not None
    size = batch_size or job.cost.batch(memory_gb, streamed=streamed)
    if refusal := job.cost.refusal(size, memory_gb, streamed=streamed):
        raise EncoderError(refusal)
    return Work(job, encoder, size, job.cost.holds_stack(memory_gb, streamed=streamed), memory_gb)


def fill(
    work: Work,
    stack: xr.DataTree,
    store: FeatureStore,
    make: Make,
    *,
    grid: Grid | None = None,
    centre: tuple[float, float] | None = None,
    cancel: threading.Event | None = None,
) -> Iterator[tuple[int, int, str]]:
    """Make what is left to do, batch by batch.

    Args:
        work: What to do.
        stack: From `work.read`.
        store: Where it goes. Its `lost` dates are left out; if more turn out unreadable, the store
            begins again without them.
        make: What is made of a batch.
        grid: The cells of the store; those of the work if None.
        centre: (x, y) in the lattice's CRS (m) from which batches go outwards; row by row if None.
        cancel: Set it to stop.

    Yields:
        (windows done, windows in all, a sentence) after each batch.

    Raises:
        SourceError: If no image can be read, or the server has stopped answering.
        Cancelled: If `cancel` was set.
    """
    grid, total = grid or work.job.grid, len(work.job.windows)
    while True:
        readable = without(stack, store.lost)
        lost = yield from _pass(work, readable, store, make, grid, centre, cancel)
        if not lost:
            return
        store.begin_again(_merged(stack, store.lost, lost))
        days = [f"{SENSORS[k].title} {days_of(readable[k])[i]}" for k in lost for i in lost[k]]
        yield 0, total, f"{', '.join(days)} cannot be read: left out, beginning again"


def _pass(
    work: Work,
    stack: xr.DataTree,
    store: FeatureStore,
    make: Make,
    grid: Grid,
    centre: tuple[float, float] | None,
    cancel: threading.Event | None,
) -> Iterator[tuple[int, int, str]]:
    """One go at all windows; ends early, with the dates, if some cannot be read everywhere."""
    windows, sensors = work.job.windows, usable_sensors(stack, work.encoder)
    todo = [w for w in windows if not store.has(w.core)]
    done = len(windows) - len(todo)
    for windows_now in _ordered(_batches(todo, work.size), centre):
        if cancel is not None and cancel.is_set():
            raise Cancelled
        try:
            batch = to_batch(stack, windows_now, sensors)
        except ReadError:
            if lost := unreadable(stack, windows_now, sensors):
                return lost
            batch = to_batch(stack, windows_now, sensors)  # it had been for a moment only
        made = make(batch)
        store.remark(
            f"{SENSORS[key].title}: no {band} on {days_of(stack[key])[date]}; the sensor's mean "
            "stands in for it."
            for key, date, band in batch.lacking
        )
        for window, values in zip(windows_now, made.float().cpu().numpy(), strict=True):
            _write_core(store, grid, window, values)
        done += len(windows_now)
        yield done, len(windows), f"{done} of {len(windows)} windows encoded"
    return {}


def _merged(stack: xr.DataTree, before: Lost, more: Lost) -> Lost:
    """Dates of a stack that cannot be read, where `more` counts only those not lost `before`."""
    merged = {key: dict(dates) for key, dates in before.items()}
    for key, dates in more.items():
        known = before.get(key, {})
        left = [i for i in range(stack[key].sizes["time"]) if i not in known]
        merged.setdefault(key, {}).update({left[i]: why for i, why in dates.items()})
    return merged


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


def _ordered(
    batches: Iterator[list[Window]], centre: tuple[float, float] | None
) -> Iterable[list[Window]]:
    """The batches as they are, or by how near their nearest window is to a place."""
    if centre is None:
        return batches

    def away(window: Window) -> float:
        left, bottom, right, top = window.core
        return math.hypot((left + right) / 2 - centre[0], (bottom + top) / 2 - centre[1])

    return sorted(batches, key=lambda batch: min(map(away, batch)))


def _write_core(store: FeatureStore, grid: Grid, window: Window, values: np.ndarray) -> None:
    """Copy the kept part of one window to its place."""
    step, first = grid.resolution // 10, FIRST_CELL[grid.resolution]
    left, _, _, top = window.bounds
    at_row = round((grid.lattice.y0 - top) / CELL) + first
    at_column = round((left - grid.lattice.x0) / CELL) + first
    core_left, core_bottom, core_right, core_top = window.core
    y0, y1 = grid.lattice.y0 - core_top, grid.lattice.y0 - core_bottom
    x0, x1 = core_left - grid.lattice.x0, core_right - grid.lattice.x0
    rows = _common(grid.rows, cells_between(y0, y1, step, first))
    columns = _common(grid.columns, cells_between(x0, x1, step, first))
    if not len(rows) or not len(columns):
        return
    a, b = (rows.start - at_row) // step, (columns.start - at_column) // step
    part = values[:, a : a + len(rows), b : b + len(columns)]
    i, j = grid.rows.index(rows.start), grid.columns.index(columns.start)
    store.write(window.core, part, i, j)


def _common(a: range, b: range) -> range:
    """Cells in both, which share step and phase."""
    start, stop = max(a.start, b.start), min(a.stop, b.stop)
    return range(start, max(start, stop), a.step)
