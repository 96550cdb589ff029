"""Who trains and who is tested: blocks of ground, never neighbouring pixels.

Pixels a few metres apart are nearly the same pixel, so a random split would ask for memory, not for
understanding. A place is cut into a checkerboard of squares; a set of images is cut by image, or by
groups of images that lie together. All draws are keyed by (task, seed) and shared by all encoders.
"""

import zlib
from dataclasses import dataclass

import numpy as np

from skysense.analysis.blocks import split

SEEDS = (0, 1, 2, 3, 4)

CLICKS = (1, 5, 20)
"""Labelled pixels (or images) per class that a few-shot classifier is given."""

REPEATS = {1: 8, 5: 4, 20: 2}
"""Draws of clicks behind one value of one seed: fewer clicks vary more."""

TRAIN, TEST = 2_000, 3_000
"""Most cells of a split that are used; the rest says little new."""


@dataclass(frozen=True)
class Draw:
    """One seed's split, as row numbers."""

    train: np.ndarray
    test: np.ndarray
    inner: np.ndarray
    """(train,) bool: the half of the training blocks that chooses the strength of the probe."""
    clicks: dict[int, tuple[np.ndarray, ...]]
    """Per number of clicks, several draws of training rows."""


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
