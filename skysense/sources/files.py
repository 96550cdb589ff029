"""Stacks from image files that a recipe describes.

`open_recipe` finds the files, puts every sensor on a grid in metres, works out which windows of
the files a region needs, and hands over a lazy stack. All that was assumed, moved, masked or left
out is said in the stack's notes.
"""

import math
from collections.abc import Sequence

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from skysense.checks import shown
from skysense.errors import RecipeError, StackError
from skysense.region import Region
from skysense.sensors import CELL, HR_COARSEST, SENSORS
from skysense.sources.decode import implausible
from skysense.sources.files_grid import moved, target_grid, zone_of
from skysense.sources.files_read import ImageSet, lazy, survey
from skysense.sources.files_sets import facts_of, image_sets
from skysense.sources.recipe import Recipe
from skysense.sources.recipe_fields import ALPHA, SKIP
from skysense.stack import make_stack, sensor_group
from skysense.windows import HR_MARGIN, Bounds, Lattice, cover

_PRIMARY = ("s2", "s1", "hr")
"""The windows of a stack begin at the corner of the first of these that it holds."""


def open_recipe(
    recipe: Recipe,
    region: Region | None = None,
    sensors: Sequence[str] | None = None,
    scene: str | None = None,
) -> xr.DataTree:
    """A lazy stack from the files of a recipe.

    Args:
        recipe: What the files hold.
        region: Load only whole encoder windows around it, and only its period; None for
            everything there is.
        sensors: Which of the recipe's sensors; None for all.
        scene: Which place, for a recipe that has several.

    Raises:
        RecipeError: If a file cannot be read as described, or holds nothing that was asked for.
    """
    if region is not None and not isinstance(region, Region):
        raise RecipeError(
            f"region={shown(region)} is not a Region; make one with Region.around(...)."
        )
    scene = recipe.choose_scene(scene)
    described = list(dict.fromkeys(i.sensor for i in recipe.images))
    wanted = described if sensors is None else list(sensors)
    for name in wanted:
        if name not in described:
            raise RecipeError(
                f"{recipe.title!r} has no sensor {name!r}; it has {', '.join(described)}."
            )
    if not wanted:
        raise RecipeError("sensors is empty; name at least one, or leave it out for all.")
    sets: dict[str, list[ImageSet]] = {}
    for images in recipe.images:
        if images.sensor in wanted:
            sets.setdefault(images.sensor, []).extend(image_sets(recipe, images, scene))

    primary = next(name for name in _PRIMARY if name in sets)
    first_grid, _ = _grid_of(primary, sets[primary])
    crs = zone_of(first_grid)
    left, bottom, right, top = first_grid.boundingbox.bbox
    lattice = Lattice(crs, left, top, right - left, top - bottom)
    window = _needed(lattice, region) if region is not None else None

    groups, notes = {}, list(recipe.notes)
    for name, each in sets.items():
        group = _group(recipe, name, each, crs, window, region)
        if group is None:
            notes.append(f"{SENSORS[name].title}: nothing of it lies in the region; left out.")
        else:
            groups[name] = group
    if not groups:
        raise RecipeError(f"Nothing of {recipe.title!r} lies in the region.")
    if region is not None:
        notes += _partial(first_grid, region)
    title = f"{recipe.title} ({scene})" if scene else recipe.title
    try:
        return make_stack(groups, lattice=lattice, region=region, source=title, notes=notes)
    except StackError as error:
        raise RecipeError(f"{recipe.title!r} does not make a stack: {error}") from error


def _group(
    recipe: Recipe,
    sensor: str,
    sets: Sequence[ImageSet],
    crs: str,
    window: Bounds | None,
    region: Region | None,
) -> xr.Dataset | None:
    """One sensor's Dataset, or None if nothing of it lies in the window."""
    target, notes = _grid_of(sensor, sets, crs)
    rows, columns = _pixels(target, window)
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return None
    if sensor == "hr":
        rows, columns = _with_margin(rows, target.shape[0]), _with_margin(columns, target.shape[1])
    _check_bands(sensor, sets)
    blocks, facts, medians, times = [], [], [], []
    for each in sets:
        clear, median, sampled = survey(each, target)
        notes += [sampled] if sampled else []
        medians.append(median)
        times.append(each.times)
        facts.append({**facts_of(each), "clear": clear.tolist()})
        blocks.append(lazy(each, target, rows, columns))
        notes += [*_mask_notes(each), *each.images.notes, *_unused(each)]
    per_date = {key: [v for each in facts for v in each[key]] for key in facts[0]}
    data = da.concatenate([b[0] for b in blocks])
    valid = da.concatenate([b[1] for b in blocks])
    moments = np.concatenate(times)
    notes += implausible(sensor, sets[0].bands, _typical(medians))
    notes += _time_notes(moments)
    if sensor == "hr" and target.resolution.x > HR_COARSEST:
        notes.append(
            f"pixels of {target.resolution.x:.3g} m are coarser than the {HR_COARSEST:g} m that "
            "SkySense's high-resolution encoder is meant for: good to look at, poor to encode."
        )
    if region is not None:
        keep, note = _in_period(moments, region, recipe)
        data, valid, moments = data[keep], valid[keep], moments[keep]
        per_date = {key: [v[i] for i in keep] for key, v in per_date.items()}
        notes += [note] if note else []
    grid = target[rows, columns]
    licence = "; ".join(t for t in (recipe.licence, recipe.credit) if t)
    return sensor_group(
        sensor,
        data,
        valid,
        bands=sets[0].bands,
        time=list(moments),
        geobox=grid,
        per_date=per_date,
        source=recipe.title,
        licence=licence,
        resampling=_resampling(sets, target),
        approximate=any(s.images.approximate for s in sets),
        notes=list(dict.fromkeys(n[0].upper() + n[1:] for n in notes)),
    )


def _grid_of(sensor: str, sets: Sequence[ImageSet], crs: str = "") -> tuple[GeoBox, list[str]]:
    """The grid of the first set, grown for no other: later dates are put on the first one's."""
    return target_grid(sensor, [part.geobox for part in sets[0].parts], crs)


def _needed(lattice: Lattice, region: Region) -> Bounds:
    """What the windows of a region see of a file (m)."""
    to_grid = Transformer.from_crs("EPSG:4326", lattice.crs, always_xy=True)
    bounds = to_grid.transform_bounds(*region.bounds, densify_pts=21)
    try:
        return cover(lattice, bounds)
    except StackError as error:
        to_lonlat = Transformer.from_crs(lattice.crs, "EPSG:4326", always_xy=True)
        there = ", ".join(f"{v:.4f}" for v in to_lonlat.transform_bounds(*lattice.bounds))
        here = ", ".join(f"{v:.4f}" for v in region.bounds)
        raise RecipeError(
            f"The region ({here}) does not touch the images, which cover ({there}). Choose a "
            "region inside, or leave it out to load everything."
        ) from error


def _pixels(grid: GeoBox, window: Bounds | None) -> tuple[slice, slice]:
    """Rows and columns of a grid that a window touches, clipped to the grid."""
    height, width = grid.shape
    if window is None:
        return slice(0, height), slice(0, width)
    left, bottom, right, top = window
    x0, dx, y0, dy = grid.transform.c, grid.transform.a, grid.transform.f, -grid.transform.e
    rows = max(0, math.floor((y0 - top) / dy + 1e-6)), math.ceil((y0 - bottom) / dy - 1e-6)
    columns = max(0, math.floor((left - x0) / dx + 1e-6)), math.ceil((right - x0) / dx - 1e-6)
    return slice(rows[0], min(height, rows[1])), slice(columns[0], min(width, columns[1]))


def _with_margin(pixels: slice, size: int) -> slice:
    """The pixels and those beside them that resampling a window looks at, clipped to the file."""
    return slice(max(0, pixels.start - HR_MARGIN), min(size, pixels.stop + HR_MARGIN))


def _in_period(times: np.ndarray, region: Region, recipe: Recipe) -> tuple[list[int], str]:
    """Which dates lie in the region's period (unknown ones do), and a note on the others."""
    first = np.datetime64(region.time[0])
    after = np.datetime64(region.time[1]) + np.timedelta64(1, "D")
    inside = np.isnat(times) | ((times >= first) & (times < after))
    if not inside.any():
        days = np.sort(times).astype("datetime64[D]")
        raise RecipeError(
            f"No image of {recipe.title!r} lies in the period {region.time[0]} to "
            f"{region.time[1]}; its images are from {days[0]} to {days[-1]}."
        )
    left_out = int((~inside).sum())
    note = f"{left_out} of {len(times)} dates lie outside the period." if left_out else ""
    return np.flatnonzero(inside).tolist(), note


def _partial(grid: GeoBox, region: Region) -> list[str]:
    to_grid = Transformer.from_crs("EPSG:4326", str(grid.crs), always_xy=True)
    left, bottom, right, top = to_grid.transform_bounds(*region.bounds, densify_pts=21)
    box = grid.boundingbox
    beyond = max(box.left - left, right - box.right, box.bottom - bottom, top - box.top)
    return ["The images cover only a part of the region."] if beyond > CELL else []


def _check_bands(sensor: str, sets: Sequence[ImageSet]) -> None:
    for each in sets:
        if each.bands != sets[0].bands:
            raise RecipeError(
                f"{SENSORS[sensor].title}: one [[sensor]] table has {', '.join(sets[0].bands)}, "
                f"another {', '.join(each.bands)}. All dates of a sensor need the same bands; "
                "leave the others out with '-'."
            )


def _resampling(sets: Sequence[ImageSet], target: GeoBox) -> str:
    """What was put on another grid, as one sentence."""
    spec = SENSORS[sets[0].images.sensor]
    codes = {b.name: b.code for b in (*spec.bands, *spec.extra)}
    clauses: dict[str, None] = {}
    for each in sets:
        for part in each.parts:
            names = ", ".join(codes[n] for n in part.bands if n != ALPHA)
            clauses[moved(part.geobox, target, names)] = None
        for mask in each.masks:
            clauses[moved(mask.geobox, target, f"the {mask.rule.meaning} mask")] = None
    said = [c for c in clauses if c]
    return "; ".join(said)[:1].upper() + "; ".join(said)[1:] + "." if said else ""


def _mask_notes(images: ImageSet) -> list[str]:
    notes = []
    for mask in images.masks:
        absent = sum(d < 0 for d in mask.dates)
        where = f" of {mask.rule.variable}" if mask.rule.variable else ""
        notes.append(f"not usable by the {mask.rule.meaning} mask{where}: {mask.rule.sentence()}.")
        if absent:
            notes.append(
                f"{absent} of {len(mask.dates)} dates have no {mask.rule.meaning} mask and are "
                "taken as usable."
            )
    return notes


def _unused(images: ImageSet) -> list[str]:
    left_out = [b.listed for p in images.images.files for b in p.bands if not b.name]
    named = [n for n in left_out if n != SKIP]
    return [f"{', '.join(named)} in the file are not read."] if named else []


def _time_notes(times: np.ndarray) -> list[str]:
    notes = []
    unknown = int(np.isnat(times).sum())
    if unknown:
        which = "the date is" if len(times) == 1 else f"{unknown} of {len(times)} dates are"
        notes.append(f"{which} unknown.")
    days = np.unique(times[~np.isnat(times)].astype("datetime64[D]"), return_counts=True)[1]
    doubled = int((days > 1).sum())
    if doubled:
        notes.append(f"{doubled} days hold more than one image; each is kept as a date of its own.")
    return notes


def _typical(medians: Sequence[np.ndarray]) -> np.ndarray:
    """Median per band over sets, NaN if no set has a usable pixel."""
    known = [m for m in medians if np.isfinite(m).all()]
    return np.median(known, axis=0) if known else np.full(len(medians[0]), np.nan)
