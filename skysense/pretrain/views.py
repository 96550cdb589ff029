"""Two views of one place: which window, turned how, which dates; and where they meet.

Everything random is drawn from generators keyed by (seed, step) and (seed, step, index in the
global batch), so a pair of views is a pure function of those: a run that resumes, or one that is
spread over several processes, sees exactly the same pairs.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from skysense.batch import Batch, SensorBatch

FUSED_STEP = 4
"""Fused features are computed at one 10 m cell of each 40 m token."""


@dataclass(frozen=True)
class ViewConfig:
    """How views are cut. Sizes are in 10 m cells."""

    sizes: tuple[tuple[int, float], ...] = ((64, 3.0), (48, 2.0), (32, 2.0), (16, 1.0))
    """(cells, weight) of views without high resolution; multiples of 4."""
    hr_sizes: tuple[tuple[int, float], ...] = ((8, 3.0), (16, 1.0))
    """(cells, weight) of views with it; 8 cells are 256 pixels, the least the encoder takes."""
    dates: tuple[tuple[str, int], ...] = (("hr", 2), ("s2", 6), ("s1", 4))
    """Most dates of each sensor in one view."""
    shared: float = 0.5
    """Share of a view's dates that the other view holds too."""
    overlap: float = 0.5
    """Least share of a view's ground that the other view shows too."""
    jitter: int = 3
    """Largest shift of a known day of year, in days."""
    positions: int = 64
    """Matched positions per image (m)."""
    drop_sensor: float = 0.25
    """Chance that a step leaves out some sensors of places that have several."""
    synthetic: float = 0.5
    """Share of synthetic places in a group that has real ones too."""
    weights: dict[str, float] = field(default_factory=dict)
    """Weight by group name (`s2`, `s2+s1 series`, ...) where the default is not wanted."""
    cells: int = 0
    """Number of cells the Earth is divided into for the prototypes; 0 = no prototypes."""


@dataclass(frozen=True)
class Turn:
    """One of the eight ways to lay a square window down: mirrored left-right first, then turned."""

    flip: bool = False
    turns: int = 0
    """Quarter turns, counter-clockwise, 0..3 (as `numpy.rot90`)."""


@dataclass(frozen=True)
class Plan:
    """What all samples of one step have in common."""

    seed: int
    step: int
    group: str
    """Name of the group of places, such as `s2+s1 series`."""
    sensors: tuple[str, ...]
    size: int
    """Side of a view in 10 m cells."""
    dates: dict[str, int]
    """Dates per view of each sensor."""
    shared: dict[str, int]
    """How many of them both views hold; they come first."""
    turn_u: Turn
    turn_v: Turn
    phase: tuple[int, int]
    """(row, column) in 0..3 of the fused cell inside its token, before turning."""
    places: tuple[int, ...]
    """Index of the place of every sample of the global batch."""


@dataclass(frozen=True)
class Pair:
    """Two views of the same places. `size` below is the plan's, `m` is `ViewConfig.positions`.

    Position k is one piece of ground throughout: `tokens[k]` is a 40 m token, `cells[k]` the fused
    cell in it and `hr_cells[k]` one of its 16 cells on the high-resolution map.
    """

    u: Batch
    """The student's view: pixels b t c h w in contract units, invalid ones at the sensor's mean."""
    v: Batch
    """The teacher's view."""
    tokens: tuple[Tensor, Tensor]
    """(iu, iv) int64 (b, m): positions on the (size / 4)² token grid of each view, row-major."""
    cells: tuple[Tensor, Tensor]
    """(iu, iv) int64 (b, m): positions on the fused lattice (step 4, each view's offset)."""
    hr_cells: tuple[Tensor, Tensor]
    """(iu, iv) int64 (b, m): positions on the size² map of 10 m cells of each view."""
    dates: dict[str, tuple[Tensor, Tensor]]
    """sensor -> (iu, iv) int64 (s,): indices of the dates both views hold."""
    offset_u: tuple[int, int]
    """(row, column) of the fused cells of u, for `SkySense.fuse(step=4, offset=...)`."""
    offset_v: tuple[int, int]
    cell: Tensor
    """int64 (b,): geo-context cell, -1 = unknown."""
    place: Tensor
    """int64 (b,): index of the place; equal numbers are the same ground, no negatives of each other."""
    plan: Plan

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Pair":
        """The same pair on another device; pixels in another precision."""

        def moved(two: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return two[0].to(device, non_blocking=True), two[1].to(device, non_blocking=True)

        return Pair(
            self.u.to(device, dtype),
            self.v.to(device, dtype),
            moved(self.tokens),
            moved(self.cells),
            moved(self.hr_cells),
            {key: moved(two) for key, two in self.dates.items()},
            self.offset_u,
            self.offset_v,
            self.cell.to(device, non_blocking=True),
            self.place.to(device, non_blocking=True),
            self.plan,
        )

    def pin_memory(self) -> "Pair":
        """The same pair in page-locked memory (`torch.utils.data.DataLoader` calls this)."""

        def pinned(batch: Batch) -> Batch:
            sensors = {
                key: SensorBatch(
                    each.pixels.pin_memory(), each.valid.pin_memory(), each.doy.pin_memory()
                )
                for key, each in batch.sensors.items()
            }
            return Batch(sensors, batch.lonlat.pin_memory())

        return Pair(
            pinned(self.u),
            pinned(self.v),
            self.tokens,
            self.cells,
            self.hr_cells,
            self.dates,
            self.offset_u,
            self.offset_v,
            self.cell,
            self.place,
            self.plan,
        )
