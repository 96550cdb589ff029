"""Who trains and who is tested: blocks of ground, never neighbouring pixels.

Pixels a few metres apart are nearly the same pixel, so a random split would ask for memory, not for
understanding. A place is cut into a checkerboard of squares; a set of images is cut by image, or by
groups of images that lie together. All draws are keyed by (task, seed) and shared by all encoders.
"""

import zlib
from dataclasses import dataclass

import numpy as np

from skysense.errors import AnalysisError

SEEDS = (0, 1, 2, 3, 4)

CLICKS = (1, 5, 20)
"""Labelled pixels (or images) per class that a few-shot classifier is given."""

REPEATS = {1: 8, 5: 4, 20: 2}
"""Draws of clicks behind one value of one seed: fewer clicks vary more."""

TRAIN, TEST = 2_000, 3_000
"""Most cells of a split that are used; the rest says little new."""

ATTEMPTS = 60
"""Splits drawn until every class has its share on both sides."""

SHARE = 0.2
"""That share."""


@dataclass(frozen=True)
class Draw:
    """One seed's split, as row numbers."""

    train: np.ndarray
    test: np.ndarray
    inner: np.ndarray
    """(train,) bool: the half of the training blocks that chooses the strength of the probe."""
    clicks: dict[int, tuple[np.ndarray, ...]]
    """Per number of clicks, several draws of training rows."""


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


def draws(
    name: str, classes: np.ndarray, metres: np.ndarray, group: np.ndarray, block: float
) -> list[Draw]:
    """The five splits of a task, with the clicks of each.

    Args:
        name: Of the task, which keys the draws.
        classes: (n,) class of each row, 0...
        metres: As `split`.
        group: As `split`.
        block: As `split`.
    """
    key = zlib.crc32(name.encode())
    made = []
    for seed in SEEDS:
        train, blocks = split(classes, metres, group, block, (key, seed))
        rng = np.random.default_rng((key, seed, 1))
        rows = {True: np.flatnonzero(train), False: np.flatnonzero(~train)}
        some = _some(rows[True], TRAIN, rng)
        names = rng.permutation(np.unique(blocks[some]))
        inner = np.isin(blocks[some], names[: max(1, len(names) // 2)])
        clicks = {
            count: tuple(_clicks(rows[True], classes, count, rng) for _ in range(REPEATS[count]))
            for count in CLICKS
        }
        made.append(Draw(some, _some(rows[False], TEST, rng), inner, clicks))
    return made


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _clicks(
    rows: np.ndarray, classes: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """So many rows of every class; all of them where there are fewer."""
    chosen = []
    for name in np.unique(classes[rows]):
        of_class = rows[classes[rows] == name]
        chosen.append(rng.permutation(of_class)[:count])
    return np.concatenate(chosen)
