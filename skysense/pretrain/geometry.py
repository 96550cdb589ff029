"""Where two views of a place lie, how they are turned, and which of their positions are one ground.

A view is a square of n × n cells of 10 m, n a multiple of 4; positions count from its top left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TOKEN_CELLS = 4
"""10 m cells along the side of a 40 m token."""


@dataclass(frozen=True)
class Turn:
    """One of the eight ways to lay a square window down: mirrored left-right first, then turned."""

    flip: bool = False
    turns: int = 0
    """Quarter turns, counter-clockwise, 0..3 (as `numpy.rot90`)."""


def turned(square: np.ndarray, turn: Turn) -> np.ndarray:
    """A view of an array (..., n, n), mirrored and turned."""
    if turn.flip:
        square = square[..., ::-1]
    return np.rot90(square, turn.turns, axes=(-2, -1))


def turned_index(row: Any, column: Any, n: int, turn: Turn) -> tuple[Any, Any]:
    """Where `turned` puts the element (row, column) of an n × n square; numbers or arrays."""
    if turn.flip:
        column = n - 1 - column
    for _ in range(turn.turns % 4):
        row, column = n - 1 - column, row
    return row, column


def corners(
    cells: tuple[int, int],
    n: int,
    overlap: float,
    rng: np.random.Generator,
    every: int = TOKEN_CELLS,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(top, left) of both views, a multiple of `every` cells apart and overlapping enough."""
    side = n // every
    rows, columns = (max(0, length - n) for length in cells)
    down, across = np.meshgrid(
        np.arange(min(rows // every, side) + 1),
        np.arange(min(columns // every, side) + 1),
    )
    enough = np.flatnonzero((side - down) * (side - across) >= max(1, overlap * side**2))
    pick = rng.choice(enough)
    corners = []
    for room, apart in ((rows, down.flat[pick]), (columns, across.flat[pick])):
        shift = int(apart) * every
        first = int(rng.integers(room - shift + 1))
        corners.append((first, first + shift) if rng.random() < 0.5 else (first + shift, first))
    return (corners[0][0], corners[1][0]), (corners[0][1], corners[1][1])


def meetings(
    corners: Sequence[tuple[int, int]],
    n: int,
    turns: Sequence[Turn],
    m: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Positions that both views show: (tokens or cells, u or v, m) indices, row-major.

    What both show is divided into blocks as large as tokens, and these are drawn in random order, again
    and again until there are m, each time at another of their cells. Tokens are those the cells lie in:
    where views are whole tokens apart the blocks themselves.
    """
    first = np.max(corners, axis=0)
    rows, columns = ((n - abs(a - b)) // TOKEN_CELLS for a, b in zip(*corners, strict=True))
    count = rows * columns
    order = rng.permutation(count)
    within = rng.permuted(np.tile(np.arange(TOKEN_CELLS**2), (count, 1)), axis=1)
    k = np.arange(m)
    block = order[k % count]
    sub = within[block, k // count % TOKEN_CELLS**2]
    down = block // columns * TOKEN_CELLS + sub // TOKEN_CELLS
    across = block % columns * TOKEN_CELLS + sub % TOKEN_CELLS
    out = np.empty((2, 2, m), np.int64)
    for side, (corner, turn) in enumerate(zip(corners, turns, strict=True)):
        row, column = first[0] - corner[0] + down, first[1] - corner[1] + across
        for which, each in enumerate((TOKEN_CELLS, 1)):
            at = turned_index(row // each, column // each, n // each, turn)
            out[which, side] = at[0] * (n // each) + at[1]
    return out
