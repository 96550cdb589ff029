"""Honest scores: blocks of ground that train, and others that are tested.

Pixels a few metres apart are nearly the same pixel, so a random split would ask for memory, not for
understanding. Here a place is cut into a checkerboard of squares, and no square is on both sides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from skysense.analysis.pixels import check_categorical, geobox_of, sample_rows
from skysense.analysis.segmentation import Segmenter, fit
from skysense.checks import number, seed_of, whole
from skysense.errors import AnalysisError

BLOCK = 160.0
"""Side of a block (m)."""

FEW = 12
"""With fewer blocks than this a score says little."""

MOST_TESTED = 2_000
"""Pixels of one class that are tested in one split."""

ATTEMPTS = 60
"""Splits drawn until every class has its share on both sides."""

SHARE = 0.2
"""That share."""


def checkerboard(
    metres: np.ndarray, block: float, shift: tuple[float, float], colour: int
) -> tuple[np.ndarray, np.ndarray]:
    """A checkerboard laid over an image.

    Args:
        metres: (n, 2) places from the left and the top edge.
        block: Side of a square (m).
        shift: Where the board begins, to the left and above (m).
        colour: 0 or 1, which squares train.

    Returns:
        (n,) bool, true for training; and (n,) number of each place's square.
    """
    square = np.floor((metres + np.asarray(shift)) / block).astype(int)
    number = square[:, 1] * 10_000 + square[:, 0]
    return square.sum(1) % 2 == colour, number


def split(
    classes: np.ndarray,
    metres: np.ndarray,
    group: np.ndarray,
    block: float,
    seed: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Training or test, such that no block is in both.

    The first of some random splits that leaves every class at least a fifth of its rows on either
    side, else the fairest of them.

    Args:
        classes: (n,) class of each row.
        metres: (n, 2) places, used if `block` is above 0.
        group: (n,) group of each row, used if `block` is 0.
        block: Side of the squares (m), or 0.
        seed: Of the draws.

    Returns:
        (n,) bool, true for training; and (n,) block of each row.

    Raises:
        AnalysisError: If no split has every class on both sides.
    """
    rng = np.random.default_rng(seed)
    totals = np.bincount(classes)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for _ in range(ATTEMPTS):
        if block > 0:
            shift = rng.uniform(0, block, 2)
            train, blocks = checkerboard(metres, block, tuple(shift), int(rng.integers(2)))
        else:
            names, blocks = np.unique(group, return_inverse=True)
            train = (rng.permutation(len(names)) < len(names) / 2)[blocks]
        ours = np.bincount(classes[train], minlength=len(totals))
        least = float((np.minimum(ours, totals - ours) / np.maximum(totals, 1))[totals > 0].min())
        if best is None or least > best[0]:
            best = least, train, blocks
        if least >= SHARE:
            break
    assert best is not None
    if best[0] == 0:
        raise AnalysisError(
            "No split into blocks leaves every class on both sides: a class lies in one block. "
            "Leave that class out, or choose smaller blocks."
        )
    return best[1], best[2]


@dataclass(frozen=True)
class SpatialScore:
    """How a segmentation does on blocks of ground that it was not trained on."""

    accuracy: np.ndarray
    """(split,) mean over classes of the share of test pixels that is right, 0..1."""
    miou: np.ndarray
    """(split,) mean over classes of intersection over union, 0..1."""
    recall: dict[str, float]
    """Of each class the share of its test pixels that is right, mean over the splits, 0..1."""
    blocks: int
    """Blocks that hold labels."""
    block: float
    """Side of a block (m)."""
    tested: int
    """Labelled pixels in all."""
    left_out: tuple[str, ...] = ()
    """Classes whose labels all lie within a block of each other, so that they were not scored."""

    @property
    def few(self) -> bool:
        """True if there are so few blocks that the score says little."""
        return self.blocks < FEW

    def interval(self, name: str = "miou") -> tuple[float, float, float]:
        """(mean, low, high) over the splits: the middle 90 % of `miou` or `accuracy`."""
        values = getattr(self, name)
        low, high = np.percentile(values, (5, 95))
        return float(values.mean()), float(low), float(high)

    def __str__(self) -> str:
        (iou, low, high), (right, least, most) = self.interval("miou"), self.interval("accuracy")
        text = (
            f"mean IoU {iou:.2f} ({low:.2f} to {high:.2f}), accuracy {right:.0%} ({least:.0%} to "
            f"{most:.0%}) on blocks of {self.block:g} m that were held out; {self.tested:,} "
            f"labelled pixels in {self.blocks} blocks, {len(self.miou)} splits"
        )
        if self.left_out:
            text += f". Not scored, as they lie in one corner each: {', '.join(self.left_out)}"
        if self.few:
            text += f". Fewer than {FEW} blocks: read it as a hint, and mark places further apart"
        return text


def spatial_score(
    features: xr.DataArray | Segmenter,
    labels: Mapping[str, Sequence[Any] | Any] | xr.DataArray,
    block: float = BLOCK,
    splits: int = 10,
    per_class: int = 400,
    seed: int = 0,
) -> SpatialScore:
    """How well `segment` does on ground that it was not trained on.

    The squares of a checkerboard train and test in turn; each split shifts the board at random.
    Every class counts alike in the accuracy, whatever number of its pixels was labelled. Classes
    that lie in one corner only cannot be tested and are left out, which the score says.

    Args:
        features: (feature, y, x), or a `Segmenter` of them.
        labels: {class: places} as for `segment`, or a categorical (y, x) field of `label_field`.
        block: Side of the squares (m), at least that of a pixel.
        splits: How many, 2 to 100.
        per_class: Pixels of each class that train, at most.
        seed: Of the boards and of the samples.

    Raises:
        AnalysisError: As `segment`; or if fewer than two classes are spread over more than a block.
    """
    segmenter = features if isinstance(features, Segmenter) else Segmenter.of(features)
    step = abs(float(segmenter.geobox.resolution.x))
    block = number("block", block, step, 1e6, AnalysisError)
    splits = whole("splits", splits, 2, 100, AnalysisError)
    per_class = whole("per_class", per_class, 1, None, AnalysisError)
    seed = seed_of(seed, AnalysisError)
    cells, classes, names = _labelled(segmenter, labels)
    metres = _metres(segmenter, cells)
    kept, left_out = _spread_out(metres, classes, names, block)
    used = np.isin(classes, kept)
    cells, metres = cells[used], metres[used]
    classes, names = np.searchsorted(kept, classes[used]), [names[k] for k in kept]
    fixed = np.unique(np.floor(metres / block), axis=0)
    values = segmenter.pixels.values[segmenter.rows[cells]]
    counts = np.zeros((splits, len(names), len(names)))
    for i in range(splits):
        train, _ = split(classes, metres, np.zeros(len(cells), int), block, (seed, i))
        chosen, tested = {}, []
        for k, name in enumerate(names):
            inside = np.flatnonzero(train & (classes == k))
            outside = np.flatnonzero(~train & (classes == k))
            chosen[name] = inside[sample_rows(len(inside), per_class, seed)]
            tested.append(outside[sample_rows(len(outside), MOST_TESTED, seed)])
        rows = np.concatenate(tested)
        weights, offset = fit(values, chosen)
        found = (values[rows] @ weights + offset).argmax(1)
        np.add.at(counts[i], (classes[rows], found), 1)
        counts[i] /= counts[i].sum(1, keepdims=True)  # every class counts alike
    hit = np.einsum("ikk->ik", counts)
    union = counts.sum(1) + counts.sum(2) - hit
    return SpatialScore(
        hit.mean(1),
        (hit / union).mean(1),
        dict(zip(names, hit.mean(0).tolist(), strict=True)),
        len(fixed),
        block,
        len(cells),
        left_out,
    )


def _labelled(segmenter: Segmenter, labels: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Flat indices of the labelled cells, their classes, and the names of these."""
    if isinstance(labels, xr.DataArray):
        categories = check_categorical(labels, "labels")
        if geobox_of(labels) != segmenter.geobox:
            raise AnalysisError(
                f"The labels are on a grid of {labels.shape} cells and the features on another of "
                f"{tuple(segmenter.geobox.shape)}. Put them on it: label_field(labels, features)."
            )
        cells = np.flatnonzero(np.isfinite(labels.values) & segmenter.pixels.seen)
        present, classes = np.unique(labels.values.ravel()[cells].astype(int), return_inverse=True)
        names = [categories[i] for i in present]
        if len(names) < 2:
            raise AnalysisError("The labels have fewer than two classes where something was seen.")
        return cells, classes, names
    segmenter.training(labels)  # refuses what `segment` refuses
    found = {str(name): segmenter.cells(str(name), places)[0] for name, places in labels.items()}
    cells = np.concatenate(list(found.values()))
    classes = np.repeat(np.arange(len(found)), [len(each) for each in found.values()])
    return cells, classes, list(found)


def _metres(segmenter: Segmenter, cells: np.ndarray) -> np.ndarray:
    """(n, 2) places of cells in the grid's own metres, the same however much was drawn."""
    row, column = np.unravel_index(cells, segmenter.geobox.shape)
    x, y = segmenter.geobox.pix2wld(column + 0.5, row + 0.5)
    return np.column_stack([x, -np.asarray(y)])


def _spread_out(
    metres: np.ndarray, classes: np.ndarray, names: list[str], block: float
) -> tuple[list[int], tuple[str, ...]]:
    """Classes that lie further apart than a block, and the names of the others."""
    kept = [k for k in range(len(names)) if np.ptp(metres[classes == k], axis=0).max() >= block]
    left_out = tuple(name for k, name in enumerate(names) if k not in kept)
    if len(kept) < 2:
        raise AnalysisError(
            f"Too few blocks: all labels of {left_out[0]!r} lie within {block:g} m, so what is "
            "tested would lie beside what trains. Mark it in another part of the place too."
        )
    return kept, left_out
