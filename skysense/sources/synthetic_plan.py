"""The plan of the synthetic world: its estates, its river, and the words for what lies there.

*Estates* are Voronoi cells of some 300 m that are wood, village or farmland; a river follows the
zero line of a smooth noise. `synthetic_land` fills this in.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skysense.sources.synthetic_noise import (
    bell,
    mix,
    noise,
    noise_at,
    unit,
)

CLASSES = (
    "water",
    "built-up",
    "bare soil",
    "grass",
    "maize",
    "winter wheat",
    "deciduous forest",
    "conifers",
)
"""The classes of `truth`, by index."""

(WATER, ROAD, ROOF, YARD, GARDEN, GRASS, MAIZE, WHEAT, BARE, DECIDUOUS, CONIFER) = range(11)
VERGE, HEDGE, TRACK = 11, 12, 13
MATERIALS = 14

CLASS_OF = np.array([0, 1, 1, 1, 1, 3, 4, 5, 2, 6, 7, 3, 6, 3], np.int64)
"""Material to class: gardens count as built-up, verges as grass, hedges as deciduous forest."""

ESTATE = 300.0
"""Mean distance between the centres of estates (m)."""

NODES = 8.0
"""Distance of the nodes between which slow things (river, warp) are interpolated (m)."""


@dataclass(frozen=True)
class World:
    """One synthetic Earth."""

    seed: int
    crs: str
    """The UTM zone: the same metres in another zone are another place."""
    hills: float | None = None
    """0 = fens, 1 = hills, None = it depends on the place."""
    origin: tuple[float, float] = (0.0, 0.0)
    """Added to every coordinate (m); moves the world under a fixed rectangle."""

    @cached_property
    def key(self) -> int:
        """Hash of what makes this world different from others."""
        return int(mix(self.seed, int(self.crs.rsplit(":", 1)[-1])))

    def hills_at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How hilly places (world metres) are, 0 (fens) to 1 (hills)."""
        if self.hills is not None:
            return np.full(np.shape(x), self.hills, np.float32)
        return np.clip(0.5 + 1.6 * noise_at(mix(self.key, 1), x, y, 22_000.0), 0, 1)


@dataclass(frozen=True)
class Estates:
    """The estates that matter to one tile; every array has one value per estate."""

    x: np.ndarray
    y: np.ndarray
    key: np.ndarray
    hills: np.ndarray
    village: np.ndarray
    wood: np.ndarray
    farm: np.ndarray
    angle: np.ndarray
    length: np.ndarray
    width: np.ndarray
    mix: np.ndarray
    """(estate, crop) cumulative shares of grass, maize, wheat, bare."""
    conifers: np.ndarray


_FENS = np.array([0.28, 0.32, 0.34, 0.06])
_HILLS = np.array([0.55, 0.12, 0.26, 0.07])


def estates(
    world: World, corner: tuple[float, float], box: tuple[float, float, float, float]
) -> Estates:
    """Estates that are nearest or second nearest to some point of a box.

    Args:
        world: The world.
        corner: World metres from which the box and the estates' centres are measured.
        box: (left, bottom, right, top) from the corner (m).
    """
    left, right = box[0] + corner[0], box[2] + corner[0]
    bottom, top = box[1] + corner[1], box[3] + corner[1]
    i = np.arange(np.floor(left / ESTATE) - 2, np.floor(right / ESTATE) + 3).astype(np.int64)
    j = np.arange(np.floor(bottom / ESTATE) - 2, np.floor(top / ESTATE) + 3).astype(np.int64)
    i, j = (a.ravel() for a in np.meshgrid(i, j))
    key = mix(world.key, 2, i, j)
    x = (i + 0.5 + 0.82 * (unit(key, 0) - 0.5)) * ESTATE
    y = (j + 0.5 + 0.82 * (unit(key, 1) - 0.5)) * ESTATE
    near = np.hypot(np.maximum(np.maximum(left - x, x - right), 0),
                    np.maximum(np.maximum(bottom - y, y - top), 0))  # fmt: skip
    far = np.hypot(np.maximum(abs(x - left), abs(x - right)),
                   np.maximum(abs(y - bottom), abs(y - top)))  # fmt: skip
    keep = near <= np.partition(far, 1)[1]
    x, y, key = x[keep], y[keep], key[keep]
    hills = world.hills_at(x, y)
    village = _in_village(world, x, y)
    woodiness = noise_at(mix(world.key, 3), x, y, 950.0) + 0.45 * bell(key, 2)
    wood = (woodiness > 1.3 - 1.05 * hills) & ~village
    slow = noise_at(mix(world.key, 4), x, y, 1500.0)  # neighbours plough in similar directions
    angle = 2.2 * slow + 0.5 * (unit(key, 3) - 0.5)
    shares = _FENS + hills[:, None] * (_HILLS - _FENS)
    return Estates(
        x=(x - corner[0]).astype(np.float32),
        y=(y - corner[1]).astype(np.float32),
        key=key,
        hills=hills,
        village=village,
        wood=wood,
        farm=(unit(key, 4) < 0.3) & ~wood & ~village,
        angle=angle.astype(np.float32),
        length=np.where(village, 75.0, 150 + 130 * unit(key, 5)).astype(np.float32),
        width=np.where(village, 66.0, 52 + 62 * unit(key, 6) * (1 - 0.3 * hills)).astype(
            np.float32
        ),
        mix=np.cumsum(shares, axis=1).astype(np.float32),
        conifers=(0.2 + 0.4 * hills + 0.35 * noise_at(mix(world.key, 5), x, y, 600.0)).astype(
            np.float32
        ),
    )


def _in_village(world: World, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether places lie within reach of one of the villages, some 1.8 km apart."""
    spacing = 1800.0
    inside = np.zeros(x.shape, bool)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            i = np.floor(x / spacing).astype(np.int64) + di
            j = np.floor(y / spacing).astype(np.int64) + dj
            key = mix(world.key, 6, i, j)
            centre_x = (i + 0.2 + 0.6 * unit(key, 0)) * spacing
            centre_y = (j + 0.2 + 0.6 * unit(key, 1)) * spacing
            reach = 150 + 190 * unit(key, 2)
            inside |= np.hypot(x - centre_x, y - centre_y) < reach
    return inside


def slow_fields(world: World, nodes_x: np.ndarray, nodes_y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Slow things on nodes.

    Returns:
        Warp east and north (m), signed distance to the river's middle (m), its half width (m), and
        the direction across it (east, north; length at most 1).
    """
    shift_x = 16 * noise(mix(world.key, 10), nodes_x, nodes_y, 170.0)
    shift_y = 16 * noise(mix(world.key, 11), nodes_x, nodes_y, 170.0)
    # one more node on each side, for central differences that do not depend on the rectangle
    wide_x = np.concatenate([[nodes_x[0] - NODES], nodes_x, [nodes_x[-1] + NODES]])
    wide_y = np.concatenate([[nodes_y[0] - NODES], nodes_y, [nodes_y[-1] + NODES]])
    level = noise(mix(world.key, 12), wide_x, wide_y, 1150.0)
    level += 0.22 * noise(mix(world.key, 13), wide_x, wide_y, 330.0)
    slope_x = (level[1:-1, 2:] - level[1:-1, :-2]) / (2 * NODES)
    slope_y = (level[2:, 1:-1] - level[:-2, 1:-1]) / (2 * NODES)
    slope = np.maximum(np.hypot(slope_x, slope_y), 4e-4)  # flatter places become lakes, not seas
    distance = level[1:-1, 1:-1] / slope
    hills = world.hills_at(*np.meshgrid(nodes_x, nodes_y))
    width = 15 - 7 * hills + 2.5 * noise(mix(world.key, 14), nodes_x, nodes_y, 240.0)
    return shift_x, shift_y, distance, np.maximum(width, 4.0), slope_x / slope, slope_y / slope


def nearest_two(
    est: Estates, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index of the nearest and second nearest estate, and the distance to their border (m)."""
    best = np.full(x.shape, np.inf, np.float32)
    next_best = best.copy()
    first = np.zeros(x.shape, np.int16)
    second = first.copy()
    for k in range(len(est.x)):
        squared = (x - est.x[k]) ** 2 + (y - est.y[k]) ** 2
        closer = squared < best
        close = squared < next_best
        second = np.where(closer, first, np.where(close, np.int16(k), second))
        next_best = np.where(closer, best, np.where(close, squared, next_best))
        first = np.where(closer, np.int16(k), first)
        best = np.where(closer, squared, best)
    apart = np.hypot(est.x[:, None] - est.x[None], est.y[:, None] - est.y[None])
    between = np.maximum(apart.astype(np.float32)[first, second], 1.0)
    return first, second, (next_best - best) / (2 * between)
