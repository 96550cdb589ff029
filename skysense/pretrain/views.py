"""Two views of one place: which window, turned how, which dates; and where they meet.

A view is a square of 10 m cells. In some steps both views of a pair are cut a whole number of 40 m
tokens apart, so every token of one that the other shows too is a whole token there, in the others any
number of cells; the corner they count from is anywhere on the place, so tokens fall differently every
time. Then each view is mirrored and turned, all sensors alike. Fused features are computed at the
matched cells only (`SkySense.fuse(at=...)`), which lie anywhere in their tokens.

Everything random is drawn from generators keyed by (seed, step) and (seed, step, index in the
global batch), so a pair of views is a pure function of those: a run that resumes, or one that is
spread over several processes, sees exactly the same pairs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from skysense.batch import Batch, SensorBatch
from skysense.errors import EncoderError
from skysense.pretrain.augment import AugmentConfig, augment
from skysense.pretrain.data import Place, Series, pixels_per_cell
from skysense.pretrain.geometry import (
    TOKEN_CELLS,
    Turn,
    corners,
    meetings,
    turned,
)
from skysense.sensors import SENSORS


@dataclass(frozen=True)
class ViewConfig:
    """How places are drawn and views are cut.

    The paper names none of these but the size (64 cells) and numbers of dates (20 and 10) of its data.

    Raises:
        EncoderError: If a value is out of range.
    """

    sizes: tuple[tuple[int, float], ...] = ((64, 3.0), (48, 2.0), (32, 2.0), (16, 0.5))
    """(10 m cells, weight) of views without high resolution; multiples of 4.

    64 is what the encoder sees later. Most places are no larger, so that only smaller views can be
    shifted against each other; 16 lets the smallest series take part.
    """
    hr_sizes: tuple[tuple[int, float], ...] = ((8, 2.0), (16, 1.0))
    """(10 m cells, weight) of views with it. 8 are 256 pixels, the least the encoder takes, and
    all that most high-resolution places hold; a view of 16 costs four times as much.
    """
    dates: tuple[tuple[str, int], ...] = (("hr", 2), ("s2", 6), ("s1", 4))
    """Most dates of each sensor in one view: enough for a season, few enough for a processor."""
    shared: float = 0.5
    """Share of a view's dates that the other view holds too: there pixels of a date can meet; the
    other half makes fused features learn what stays when the dates change.
    """
    overlap: float = 0.5
    """Least share of a view's ground that the other shows too: matches are plenty, and the rest is
    different context.
    """
    loose: float = 0.5
    """Chance that the views of a step lie any number of cells apart, not whole tokens. There tokens have
    no partner, but one piece of ground lies at different places in its tokens, and fused features
    learn not to tell where.
    """
    fill: float = 0.75
    """Least share of a view's side that a place must fill; what lies outside it is invalid. Lets
    the one real place with all three sensors (6 cells) into views of 8.
    """
    jitter: int = 3
    """Largest shift of a known day of year (days): dates are a guide, not a key to recognise."""
    positions: int = 64
    """Matched positions per image (m): half the tokens of the smallest overlap of 64 cells."""
    drop_sensor: float = 0.25
    """Chance that a step leaves out some sensors of places that have several: one sensor alone must
    work too.
    """
    series: int = 2
    """Dates of one sensor from which a place counts as a series."""
    synthetic: float = 0.5
    """Share of the draws that synthetic places get in a group that has real ones too, and what
    they count in the weight of a group: the real series are few and would drown.
    """
    weights: dict[str, float] = field(default_factory=dict)
    """Weight by group name (`s2`, `s2+s1 series`, ...; 0 = never) where the default of
    `skysense.pretrain.loader.groups` is not wanted.
    """
    cells: int = 0
    """Number of cells the Earth is divided into for the prototypes; 0 = no prototypes."""

    def __post_init__(self) -> None:
        for name, step in (("sizes", 4), ("hr_sizes", 4)):
            for size, weight in getattr(self, name):
                if size < step or size % step or not weight >= 0:
                    raise EncoderError(
                        f"{name} has ({size}, {weight}); sizes are multiples of {step} cells, "
                        "weights at least 0."
                    )
        if any(size < 8 for size, _ in self.hr_sizes):
            raise EncoderError(
                f"hr_sizes is {self.hr_sizes}; the high-resolution encoder needs 256 pixels, which "
                "are 8 cells."
            )
        for name, low, high in (
            ("shared", 0.0, 1.0), ("overlap", 0.0, 1.0), ("loose", 0.0, 1.0), ("fill", 0.0, 1.0), ("jitter", 0, 180),
            ("positions", 1, 4096), ("drop_sensor", 0.0, 1.0), ("synthetic", 0.0, 1.0),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise EncoderError(f"{name} is {value}; it must lie within {low} to {high}.")
        dates = dict(self.dates)
        if set(dates) != set(SENSORS) or min(dates.values()) < 1:
            raise EncoderError(
                f"dates is {self.dates}; give at least 1 for each of {', '.join(SENSORS)}."
            )


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
    whole: bool
    """Whether views lie whole tokens apart."""
    turn_u: Turn
    turn_v: Turn
    places: tuple[int, ...]
    """Index of the place of every sample of the global batch."""


@dataclass(frozen=True)
class Pair:
    """Two views of the same places. `size` below is the plan's, `m` is `ViewConfig.positions`.

    Position k is one piece of ground throughout: `cells[k]` is a cell of 10 m and `tokens[k]` the 40 m
    token it lies in, which is one piece of ground too if the plan says `whole`.
    """

    u: Batch
    """The student's view: pixels b t c h w in contract units, invalid ones at the sensor's mean."""
    v: Batch
    """The teacher's view."""
    tokens: tuple[Tensor, Tensor]
    """(iu, iv) int64 (b, m): positions on the (size / 4)² token grid of each view, row-major."""
    cells: tuple[Tensor, Tensor]
    """(iu, iv) int64 (b, m): positions on the size² map of 10 m cells of each view, row-major."""
    dates: dict[str, tuple[Tensor, Tensor]]
    """sensor -> (iu, iv) int64 (s,): indices of the dates both views hold. A place that has fewer
    leaves the last of them invalid in both views.
    """
    cell: Tensor
    """int64 (b,): geo-context cell, -1 = unknown."""
    place: Tensor
    """int64 (b,): index of the place; equal numbers are the same ground, no negatives of each other."""
    plan: Plan
    labels: Tensor
    """int64 (b, m): class of each of the matched cells, by index of `skysense.pretrain.words.CLASSES`;
    -1 = nobody knows, as everywhere on real places.
    """

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Pair":
        """The same pair on another device; pixels in another precision."""

        def moved(two: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return two[0].to(device, non_blocking=True), two[1].to(device, non_blocking=True)

        return Pair(
            self.u.to(device, dtype),
            self.v.to(device, dtype),
            moved(self.tokens),
            moved(self.cells),
            {key: moved(two) for key, two in self.dates.items()},
            self.cell.to(device, non_blocking=True),
            self.place.to(device, non_blocking=True),
            self.plan,
            self.labels.to(device, non_blocking=True),
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
            self.dates,
            self.cell,
            self.place,
            self.plan,
            self.labels,
        )


def pairs(
    places: Sequence[Place],
    plan: Plan,
    indices: Sequence[int],
    config: ViewConfig,
    noise: AugmentConfig | None = None,
    cells: Sequence[int] | None = None,
) -> Pair:
    """Cut some pairs of a step.

    Args:
        places: All places; the plan names them by index.
        plan: The step.
        indices: Which samples of the global batch; each comes out the same whatever others do.
        config: The config the plan was made with.
        noise: Strength of the augmentations; None = none.
        cells: Geo-context cell of every place, -1 = unknown; None = all unknown.
    """
    n, m, b = plan.size, config.positions, len(indices)
    drawn = [plan.places[index] for index in indices]
    turns = (plan.turn_u, plan.turn_v)
    blank = [{key: _blank(key, b, plan) for key in plan.sensors} for _ in turns]
    at = np.zeros((2, 2, b, m), np.int64)  # (tokens, cells), (u, v), b, m
    labels = np.full((b, m), -1, np.int64)
    for row, index in enumerate(indices):
        place = places[drawn[row]]
        rng = np.random.default_rng((plan.seed, plan.step, index))
        where = corners(place.cells, n, config.overlap, rng, TOKEN_CELLS if plan.whole else 1)
        at[:, :, row] = meetings(where, n, turns, m, rng)
        if place.labels is not None:
            labels[row] = _labels(place.labels, where[0], n, turns[0])[at[1, 0, row]]
        for key in plan.sensors:
            series = place.sensors[key]
            chosen = _dates(len(series.doy), plan.dates[key], plan.shared[key], config.shared, rng)
            for side in range(2):
                pixels, valid, doy = (array[row] for array in blank[side][key])
                _fill(pixels, valid, series, key, chosen[side], where[side], n, turns[side])
                doy[:] = _jittered(series.doy, chosen[side], config.jitter, rng)
                if noise is not None:
                    key_noise = (plan.seed, plan.step, index, 1 + side, list(SENSORS).index(key))
                    own = np.random.default_rng(key_noise)
                    augment(key, pixels, side, noise, own, series.missing)
                _unknown(pixels, valid, key, series.missing)
    lonlat = torch.tensor([places[i].lonlat for i in drawn], dtype=torch.float32)
    batches = [
        Batch(
            {k: SensorBatch(*(torch.from_numpy(a) for a in arrays)) for k, arrays in each.items()},
            lonlat,
        )
        for each in blank
    ]
    tokens, fine = (tuple(torch.from_numpy(side) for side in two) for two in at)
    both = {key: torch.arange(plan.shared[key]) for key in plan.sensors}
    return Pair(
        u=batches[0],
        v=batches[1],
        tokens=tokens,
        cells=fine,
        dates={key: (days, days) for key, days in both.items()},
        cell=torch.tensor([-1 if cells is None else int(cells[i]) for i in drawn]),
        place=torch.tensor(drawn),
        plan=plan,
        labels=torch.from_numpy(labels),
    )


def _blank(key: str, b: int, plan: Plan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, valid and doy of one view's batch, with no date in it."""
    t, side = plan.dates[key], plan.size * pixels_per_cell(key)
    pixels = np.empty((b, t, len(SENSORS[key].names), side, side), np.float32)
    return pixels, np.zeros((b, t, side, side), bool), np.zeros((b, t), np.int64)


def _dates(
    count: int, t: int, s: int, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Dates of both views, (t,) each, -1 = none: first the s they share, then each its own.

    Of a short series fewer are shared, so that each view keeps some that the other lacks.
    """
    order = rng.permutation(count)
    both = s if count >= 2 * t - s else min(s, max(1, round(share * count / (2 - share))))
    rest = order[both:]
    mine = min(t - s, math.ceil(len(rest) / 2))
    own = (rest[:mine], rest[mine : mine + t - s])
    chosen = np.full((2, t), -1)
    for side in range(2):
        chosen[side, :both] = order[:both]
        chosen[side, s : s + len(own[side])] = own[side]
    return chosen[0], chosen[1]


def _fill(
    pixels: np.ndarray,
    valid: np.ndarray,
    series: Series,
    key: str,
    dates: np.ndarray,
    corner: tuple[int, int],
    n: int,
    turn: Turn,
) -> None:
    """Copy dates of a window into (t, c, h, w) and (t, h, w), turned."""
    side, scale = pixels_per_cell(key), np.float32(series.scale)
    rows, columns = (slice(first * side, (first + n) * side) for first in corner)
    beyond = [
        max(0, cut.stop - s) for cut, s in zip((rows, columns), series.valid.shape[1:], strict=True)
    ]
    for slot, date in enumerate(dates):
        if date < 0:
            pixels[slot] = 0.0
            continue
        stored, seen = series.pixels[date, :, rows, columns], series.valid[date, rows, columns]
        if any(beyond):
            room = [(0, pixels_beyond) for pixels_beyond in beyond]
            stored, seen = np.pad(stored, [(0, 0), *room]), np.pad(seen, room)
        np.multiply(turned(stored, turn), scale, out=pixels[slot], dtype=np.float32)
        valid[slot] = turned(seen, turn)


def _labels(labels: np.ndarray, corner: tuple[int, int], n: int, turn: Turn) -> np.ndarray:
    """Labels (n²,) of a turned window, row by row; -1 beyond the place."""
    rows, columns = (slice(first, first + n) for first in corner)
    cut = labels[rows, columns]
    room = [(0, n - length) for length in cut.shape]
    return turned(np.pad(cut, room, constant_values=-1), turn).ravel()


def _jittered(
    doy: np.ndarray, dates: np.ndarray, jitter: int, rng: np.random.Generator
) -> np.ndarray:
    """Days of year of chosen dates, known ones shifted by up to `jitter` days within 1..366."""
    days = np.where(dates >= 0, doy[dates], 0)
    shifted = (days - 1 + rng.integers(-jitter, jitter + 1, len(days))) % 366 + 1
    return np.where(days > 0, shifted, 0)


def _unknown(pixels: np.ndarray, valid: np.ndarray, key: str, missing: tuple[int, ...]) -> None:
    """Put invalid pixels (t, c, h, w) and missing bands at the sensor's mean."""
    mean = np.array(SENSORS[key].mean, np.float32)[:, None, None]
    for date, seen in zip(pixels, valid, strict=True):
        if not seen.all():
            np.copyto(date, mean, where=~seen)
    for band in missing:
        pixels[:, band] = mean[band]
