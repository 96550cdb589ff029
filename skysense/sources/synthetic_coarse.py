"""What Sentinel-2 and Sentinel-1 see of the synthetic world, on the 10 m grid."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.sparse

from skysense.sensors import CELL
from skysense.sources import synthetic_growth
from skysense.sources.synthetic_land import Land, survey
from skysense.sources.synthetic_noise import bell, fractal, mix, unit
from skysense.sources.synthetic_plan import CLASS_OF, CLASSES, World
from skysense.sources.synthetic_sky import Passes, clouds

SUBSAMPLES = 4
"""Points per side of a 10 m cell at which the ground is surveyed: every 2.5 m."""

_LOOKS = 4
"""Independent looks of the radar: its speckle is gamma distributed with this shape."""

_CLOUD = np.array((0.72, 0.71, 0.72, 0.73, 0.74, 0.75, 0.76, 0.76, 0.52, 0.40), np.float32)
"""Reflectance of a thick cloud in the ten bands."""

_TEXTURE = np.array((1.0, 0.9, 1.1, 0.8, -0.5, -0.7, -0.8, -0.8, 0.7, 1.0), np.float32)
"""How the ten bands follow a thinner stand: brighter where soil shows, darker in the infrared."""

_HAZE = np.array((1.0, 0.7, 0.5, 0.4, 0.35, 0.3, 0.25, 0.25, 0.08, 0.04), np.float32)
"""What thin haze that the atmospheric correction left adds to the ten bands, relative."""


def _subsampled(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points inside each 10 m cell, from the cells' centres (m, y descending)."""
    inside = ((np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5) * CELL
    return (xs[:, None] + inside).ravel(), (ys[:, None] - inside).ravel()


def patches(land: Land) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The different patches of a survey.

    Returns:
        Identity, material and hilliness of each, and the index of every point's patch (flat).
    """
    patch, first, index = np.unique(land.patch, return_index=True, return_inverse=True)
    return patch, land.material.ravel()[first], land.hills.ravel()[first], index.ravel()


@dataclass(frozen=True)
class Cells:
    """What lies in a grid of 10 m cells."""

    share: scipy.sparse.csr_array
    """(cell, patch) share of every patch in every cell, cells row by row."""
    patch: np.ndarray
    """(patch,) identity."""
    material: np.ndarray
    """(patch,)"""
    hills: np.ndarray
    """(patch,) 0..1"""


def cells(world: World, xs: np.ndarray, ys: np.ndarray) -> Cells:
    """Survey a grid of 10 m cells, from their centres (m, y descending).

    The last few are remembered, because both sensors and the truth look at the same ground.
    """
    return _cells(world, float(xs[0]), len(xs), float(ys[0]), len(ys))


@lru_cache(maxsize=12)
def _cells(world: World, x0: float, width: int, y0: float, height: int) -> Cells:
    xs, ys = x0 + CELL * np.arange(width), y0 - CELL * np.arange(height)
    patch, material, hills, index = patches(survey(world, *_subsampled(xs, ys)))
    rows = np.repeat(np.arange(height), SUBSAMPLES)[:, None]
    columns = np.repeat(np.arange(width), SUBSAMPLES)[None]
    cell = (rows * width + columns).ravel()
    weight = np.full(cell.size, 1 / SUBSAMPLES**2, np.float32)
    size = (height * width, len(patch))
    share = scipy.sparse.coo_array((weight, (cell, index)), shape=size).tocsr()
    share.sum_duplicates()  # ordered by patch, so sums do not depend on the rectangle
    return Cells(share, patch, material, hills)


def classes(world: World, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """(y, x) class of most of every 10 m cell, by index of `CLASSES`."""
    ground = cells(world, xs, ys)
    counts = ground.share @ np.eye(len(CLASSES), dtype=np.float32)[CLASS_OF[ground.material]]
    return counts.argmax(1).reshape(len(ys), len(xs))


def calendar(world: World, day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Day of the northern year (1..366) and year of days since 1970; the south is half a year on."""
    south = world.crs.startswith("EPSG:327")
    dates = (day + (182 if south else 0)).astype("datetime64[D]")
    year = dates.astype("datetime64[Y]")
    return (dates - year).astype(int) + 1, year.astype(int) + 1970


def optical(
    world: World, xs: np.ndarray, ys: np.ndarray, flown: Passes, which: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sentinel-2 reflectance (time, band, y, x) and mask (time, y, x) of some passes."""
    day = flown.day[which]
    ground = cells(world, xs, ys)
    dry = synthetic_growth.dryness(world.key, day)
    mixed = synthetic_growth.mixture(
        ground.material, ground.patch, ground.hills, *calendar(world, day)
    )
    table = synthetic_growth.reflectance(mixed, ground.patch, dry)
    bands = table.shape[2]
    flat = ground.share @ table.reshape(len(ground.patch), -1)
    data = np.ascontiguousarray(flat.T).reshape(len(day), bands, len(ys), len(xs))
    here = (xs + world.origin[0], ys + world.origin[1])
    texture = 0.05 * fractal(mix(world.key, 110), *here, 55.0, 2, 0.8)
    data *= 1 + texture * _TEXTURE[:, None, None]
    hill = world.hills_at(*np.meshgrid(*here)) * fractal(mix(world.key, 111), *here, 380.0, 2, 0.4)
    data *= 1 + 0.05 * hill
    valid = np.ones((len(day), len(ys), len(xs)), bool)
    column, row = np.round(here[0])[None], np.round(here[1])[:, None]
    for t, each in enumerate(day):
        opacity, shadow, valid[t] = clouds(world, xs, ys, int(each), float(flown.cover[which[t]]))
        haze = 0.004 * abs(float(bell(world.key, 112, each))) * _HAZE
        # two fields of noise mixed differently for every band: cheaper than ten
        grain = (bell(world.key, 113, each, column, row), bell(world.key, 114, each, column, row))
        for b in range(bands):
            turn = 2.4 * b
            noise = np.float32(np.cos(turn)) * grain[0] + np.float32(np.sin(turn)) * grain[1]
            image = data[t, b]
            image *= 1 + 0.018 * noise
            image += haze[b]
            image *= 1 - 0.62 * shadow
            bright = _CLOUD[b] * (0.82 + 0.18 * opacity)
            data[t, b] = image * (1 - opacity) + bright * opacity
    return np.maximum(data, 0.0005, out=data), valid


def radar(
    world: World, xs: np.ndarray, ys: np.ndarray, flown: Passes, which: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sentinel-1 sigma nought (time, polarisation, y, x) in dB and its mask, of some passes."""
    day = flown.day[which]
    side = np.array([flown.orbit_direction[t] == "descending" for t in which], np.int64)
    ground = cells(world, xs, ys)
    dry = synthetic_growth.dryness(world.key, day)
    wind = bell(world.key, 115, day)
    mixed = synthetic_growth.mixture(
        ground.material, ground.patch, ground.hills, *calendar(world, day)
    )
    table = synthetic_growth.backscatter(mixed, ground.patch, dry, wind, side)
    flat = ground.share @ table.reshape(len(ground.patch), -1)
    power = np.ascontiguousarray(flat.T).reshape(len(day), 2, len(ys), len(xs))
    here = (xs + world.origin[0], ys + world.origin[1])
    texture = 0.1 * fractal(mix(world.key, 116), *here, 45.0, 2, 0.8)
    power *= np.exp(texture)
    column, row = np.round(here[0])[None], np.round(here[1])[:, None]
    for t, each in enumerate(day):
        for p in range(2):
            looks = np.ones((len(ys), len(xs)), np.float32)
            for look in range(_LOOKS):
                looks *= 1 - unit(world.key, 117, each, p, look, column, row)
            power[t, p] *= -np.log(np.maximum(looks, 1e-30)) / _LOOKS
    decibel = 10 * np.log10(np.maximum(power, 1e-5))
    return decibel.astype(np.float32), np.ones((len(day), len(ys), len(xs)), bool)
