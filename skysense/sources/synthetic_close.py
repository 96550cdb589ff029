"""What an aeroplane sees of the synthetic world at 0.3125 m: rows, crowns, roofs and shadows."""

import numpy as np

from skysense.sources import synthetic_growth, synthetic_sky
from skysense.sources import synthetic_plan as land
from skysense.sources.synthetic_coarse import calendar, patches
from skysense.sources.synthetic_land import Land, survey
from skysense.sources.synthetic_noise import bell, fractal, mix, unit
from skysense.sources.synthetic_plan import World

_PIXEL = 0.3125
_RIM = 48
"""Pixels around a tile that are looked at too: longest shadow plus widest crown."""
_TILE = 1024
"""Side of a piece (pixels)."""

_TREES = 4.6
"""Distance of the lattice on which trees stand (m)."""

# material: share of lattice points with a tree, smallest and largest crown radius, height (m)
_STANDS = {
    land.CONIFER: (0.97, 1.9, 2.9, 15.0),
    land.DECIDUOUS: (0.80, 2.7, 4.9, 13.0),
    land.HEDGE: (0.95, 2.0, 3.4, 7.0),
    land.GARDEN: (0.10, 1.3, 3.2, 5.0),
    land.VERGE: (0.02, 1.5, 3.0, 6.0),
    land.GRASS: (0.002, 2.5, 4.5, 8.0),
}


def image(
    world: World, xs: np.ndarray, ys: np.ndarray, flown: synthetic_sky.Passes, which: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """High-resolution colour (time, band, y, x) in whole numbers 0..255 and its mask."""
    shape = (len(ys), len(xs))
    data = np.empty((len(which), 3, *shape), np.float32)
    for t, number in enumerate(which):
        day = int(flown.day[number])
        for top in range(0, shape[0], _TILE):
            for left in range(0, shape[1], _TILE):
                rows, columns = slice(top, top + _TILE), slice(left, left + _TILE)
                data[t, :, rows, columns] = _tile(world, xs[columns], ys[rows], day)
    return data, np.ones((len(which), *shape), bool)


def _tile(world: World, xs: np.ndarray, ys: np.ndarray, day: int) -> np.ndarray:
    rim = np.arange(1, _RIM + 1) * _PIXEL
    wide_x = np.concatenate([xs[0] - rim[::-1], xs, xs[-1] + rim])
    wide_y = np.concatenate([ys[0] + rim[::-1], ys, ys[-1] - rim])
    found = survey(world, wide_x, wide_y)
    here = (wide_x + world.origin[0], wide_y + world.origin[1])
    colour = _ground(world, found, here, day)
    east, north = synthetic_sky.sun(world, 640_000 * round(float(ys[0]) / 640_000), np.array([day]))
    towards = (-float(east[0]), -float(north[0]))
    height = np.where(found.material == land.ROOF, np.float32(6.5), np.float32(0))
    _plant(world, found, here, towards, colour, height, day)
    colour *= _shadows(height, towards)
    inside = slice(_RIM, -_RIM)
    # a camera's curve: dark ground keeps its detail
    shown = 255 * np.sqrt(np.clip(colour[:, inside, inside] * 2.7, 0, 1))
    return np.round(shown)


def _ground(world: World, found: Land, here: tuple[np.ndarray, np.ndarray], day: int) -> np.ndarray:
    """Reflectance (red green blue, y, x) of the ground before trees and shadows."""
    patch, material, hills, index = patches(found)
    days = np.array([day])
    dry = synthetic_growth.dryness(world.key, days)
    shares = synthetic_growth.mixture(material, patch, hills, *calendar(world, days))
    table = synthetic_growth.reflectance(shares, patch, dry)[:, 0, 2::-1]
    shape = found.material.shape
    colour = np.ascontiguousarray(table.T[:, index]).reshape(3, *shape)
    light = _relief(world, found, here)
    wood = np.isin(found.material, (land.DECIDUOUS, land.CONIFER))
    light *= np.where(wood, np.float32(0.55), np.float32(1))
    colour *= light
    thin = _thin(world, found, here)
    soil = np.array([0.125, 0.095, 0.070], np.float32)[:, None, None] * light
    colour += (soil - colour) * thin
    return colour


def _relief(world: World, found: Land, here: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Brightness factor (y, x): blotches, roof slopes, tillage, ripples, paint and grain."""
    m = found.material
    column, row = (np.round(v / _PIXEL).astype(np.int64) for v in here)
    grain = bell(world.key, 120, column[None], row[:, None])
    light = 1 + 0.035 * grain + 0.06 * fractal(mix(world.key, 121), *here, 9.0, 3, 0.7)
    light += 0.05 * fractal(mix(world.key, 122), *here, 45.0, 2, 0.8)
    roof = m == land.ROOF
    side = np.where(found.across > 0, np.float32(1.16), np.float32(0.80))
    tile_rows = 1 + 0.05 * np.sin(found.across * np.float32(7.0))
    light = np.where(roof, side * tile_rows * (1 + 0.05 * grain), light)
    light = np.where(roof & (abs(found.across) < 0.3), np.float32(1.3), light)
    swath = np.sin(found.across * np.float32(2 * np.pi / 5.8))
    tilled = np.sin(found.across * np.float32(2 * np.pi / 2.4))
    light += np.where(m == land.GRASS, 0.05 * swath, 0) + np.where(m == land.BARE, 0.05 * tilled, 0)
    rows = np.sin(found.across * np.float32(2 * np.pi / 1.5))
    light += np.where(m == land.MAIZE, 0.14 * rows, 0) + np.where(m == land.WHEAT, 0.03 * rows, 0)
    ripple = fractal(mix(world.key, 123), here[0] * 0.45, here[1], 1.6, 2, 0.6)
    deep = 1 - 0.18 * np.clip(found.edge / 6, 0, 1)
    light = np.where(m == land.WATER, deep * (1 + 0.06 * ripple + 0.03 * grain), light)
    paint = (m == land.ROAD) & (found.edge > 2.62) & (found.edge < 90) & (found.along % 9 < 4)
    return np.where(paint, np.float32(2.4), light).astype(np.float32)


def _thin(world: World, found: Land, here: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Share of soil that shows (y, x): tramlines of the sprayer, trampled corners."""
    m = found.material
    crop = np.isin(m, (land.MAIZE, land.WHEAT))
    within = (found.across + 500) % 27.0
    wheels = (abs(within - 1.1) < 0.34) | (abs(within - 2.9) < 0.34)
    thin = np.where(crop & wheels & (found.edge > 4), np.float32(0.6), np.float32(0))
    patchy = fractal(mix(world.key, 124), *here, 14.0, 2, 0.8)
    thin += np.where(crop, np.clip(0.35 * (patchy - 1.4), 0, 0.5), 0)
    return thin + np.where(crop & (found.edge < 1.6), np.float32(0.35), 0)


def _plant(
    world: World,
    found: Land,
    here: tuple[np.ndarray, np.ndarray],
    towards: tuple[float, float],
    colour: np.ndarray,
    height: np.ndarray,
    day: int,
) -> None:
    """Draw the crowns of trees into `colour` and `height`, in place; the higher one is seen."""
    xs, ys = here
    i = np.arange(np.floor(xs[0] / _TREES), np.ceil(xs[-1] / _TREES) + 1).astype(np.int64)
    j = np.arange(np.floor(ys[-1] / _TREES), np.ceil(ys[0] / _TREES) + 1).astype(np.int64)
    i, j = (a.ravel() for a in np.meshgrid(i, j))
    key = mix(world.key, 130, i, j)
    x = (i + 0.5 + 0.9 * (unit(key, 0) - 0.5)) * _TREES
    y = (j + 0.5 + 0.9 * (unit(key, 1) - 0.5)) * _TREES
    column = np.floor((x - xs[0]) / _PIXEL + 0.5).astype(int)
    row = np.floor((ys[0] - y) / _PIXEL + 0.5).astype(int)
    inside = (column >= 0) & (column < len(xs)) & (row >= 0) & (row < len(ys))
    x, y, key, column, row = (a[inside] for a in (x, y, key, column, row))
    kind = found.material[row, column]
    leaf = _leaves(world, key, kind, found.hills[row, column], day)
    norm = np.hypot(*towards) or 1.0
    sun_x, sun_y = towards[0] / norm, towards[1] / norm
    for material, (share, small, large, tall) in _STANDS.items():
        chosen = np.flatnonzero((kind == material) & (unit(key, 2) < share))
        radius = small + (large - small) * unit(key[chosen], 3)
        tops = tall * (0.75 + 0.4 * unit(key[chosen], 4))
        for n, r, top in zip(chosen, radius, tops, strict=True):
            reach = int(r / _PIXEL) + 1
            c0, c1 = max(column[n] - reach, 0), min(column[n] + reach + 1, len(xs))
            r0, r1 = max(row[n] - reach, 0), min(row[n] + reach + 1, len(ys))
            dx = ((xs[c0:c1] - x[n]) / r).astype(np.float32)[None]
            dy = ((ys[r0:r1] - y[n]) / r).astype(np.float32)[:, None]
            squared = dx * dx + dy * dy
            dome = np.float32(top) * (1 - np.float32(0.45) * squared)
            view = height[r0:r1, c0:c1]
            seen = (squared < 1) & (dome > view)
            view[seen] = dome[seen]
            light = (0.80 + 0.50 * (dx * sun_x + dy * sun_y) - 0.30 * squared) * 1.25
            shaded = leaf[n][:, None, None] * np.maximum(light, 0.25)
            np.copyto(colour[:, r0:r1, c0:c1], shaded, where=seen)
    leafy = height > 0
    leafy &= found.material != land.ROOF
    column_id, row_id = (np.round(v / _PIXEL).astype(np.int64) for v in here)
    rough = 1 + 0.10 * bell(world.key, 131, column_id[None], row_id[:, None])
    rough += 0.10 * fractal(mix(world.key, 132), *here, 1.2, 1)
    colour *= np.where(leafy, rough, np.float32(1))


def _leaves(
    world: World, key: np.ndarray, kind: np.ndarray, hills: np.ndarray, day: int
) -> np.ndarray:
    """(tree, red green blue) reflectance of crowns on that day; no tree quite like the next."""
    material = np.where(kind == land.CONIFER, land.CONIFER, land.DECIDUOUS)
    shares = synthetic_growth.mixture(material, key, hills, *calendar(world, np.array([day])))
    table = synthetic_growth.reflectance(shares, key, np.array([0.5]))[:, 0, 2::-1]
    tone = 1 + 0.16 * bell(key, 5)[:, None] + 0.08 * bell(key, 6)[:, None] * np.array([1, 0, -0.5])
    return (table * np.maximum(tone, 0.5)).astype(np.float32)


def _shadows(height: np.ndarray, towards: tuple[float, float]) -> np.ndarray:
    """Brightness factor (y, x): 1 in the sun, less where something tall stands towards it."""
    reach = float(np.hypot(*towards))
    shaded = np.zeros(height.shape, bool)
    # follow the ray to the sun in steps; `towards` is the ground covered per metre of height
    for rise in (0.8, 1.6, 2.6, 3.8, 5.2, 6.8, 8.6, 10.6):
        if rise * reach > 11:
            break
        columns = round(towards[0] * rise / _PIXEL)
        rows = round(-towards[1] * rise / _PIXEL)
        shaded |= _moved(height, rows, columns) > height + rise + 0.6
    return np.where(shaded, np.float32(0.42), np.float32(1))


def _moved(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """`values` read `rows` further down and `columns` further right, 0 outside."""
    result = np.zeros_like(values)
    height, width = values.shape
    top, bottom = max(0, -rows), min(height, height - rows)
    left, right = max(0, -columns), min(width, width - columns)
    result[top:bottom, left:right] = values[
        top + rows : bottom + rows, left + columns : right + columns
    ]
    return result
