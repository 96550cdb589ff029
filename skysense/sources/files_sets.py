"""From a recipe's words to opened files: which files, which dates, which masks, which facts."""

import datetime as dt
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skysense.errors import RecipeError
from skysense.sources.files_grid import located
from skysense.sources.files_open import ImageFile, open_file
from skysense.sources.files_read import ImageSet, PlacedFile, PlacedMask
from skysense.sources.recipe import BACKSCATTER, DIRECTIONS, LEVELS, Images, Recipe
from skysense.sources.recipe_fields import Fact, MaskRule

_SAME_TIME = np.timedelta64(1, "s")
"""Moments closer than this are one acquisition."""


def image_sets(recipe: Recipe, images: Images, scene: str) -> list[ImageSet]:
    """Open the files of one `[[sensor]]` table: one set per match of its patterns.

    Raises:
        RecipeError: If files are missing, unreadable, or do not fit together.
    """
    found = [recipe.find(part.path, scene) for part in images.files]
    count = max(len(f) for f in found)
    for part, files in zip(images.files, found, strict=True):
        if len(files) != count:
            raise RecipeError(
                f"{part.path!r} names {len(files)} files, another part of the sensor {count}; each "
                "part needs as many files as there are dates."
            )
    sets = []
    for i in range(count):
        parts = []
        for part, files in zip(images.files, found, strict=True):
            file = open_file(files[i], images.crs)
            taken = file.layers(part)
            layers, bands = tuple(la for la, _ in taken), tuple(name for _, name in taken)
            grid = located(file, images.crs, images.bounds)
            parts.append(PlacedFile(file, grid, layers, bands))
        times = _times(images, [p.file for p in parts], i, count)
        masks = tuple(_mask(recipe, images, m, scene, parts[0], times, i) for m in images.masks)
        sets.append(ImageSet(images, tuple(parts), masks, times))
    return sets


def facts_of(images: ImageSet) -> dict[str, list[Any]]:
    """Per-date facts by the names of `skysense.stack.PER_DATE`, without `clear`.

    Raises:
        RecipeError: If a variable is missing or does not hold what it should.
    """
    given = dict(images.images.facts)
    defaults: dict[str, Any] = {
        "item": "",
        "orbit_direction": "",
        "orbit_number": -1,
        "baseline": "",
        "level": "",
        "backscatter": "",
    }
    facts = {
        name: _fact(given[name], name, images) if name in given else [value] * len(images.times)
        for name, value in defaults.items()
    }
    if "item" not in given:
        names = [p.file.path.name for p in images.parts]
        facts["item"] = [names[0]] * len(images.times)
    return facts


def _fact(fact: Fact, name: str, images: ImageSet) -> list[Any]:
    if not fact.variable:
        return [fact.value] * len(images.times)
    files = [part.file for part in images.parts]
    values = next((v for f in files if (v := f.per_date(fact.variable)) is not None), None)
    if values is None:
        raise RecipeError(
            f"{name}: no file of the sensor has a variable {fact.variable!r}; {files[0].path.name} "
            "was the first to be searched."
        )
    if fact.pattern:
        matches = [re.search(fact.pattern, str(v)) for v in values]
        absent = next((v for v, m in zip(values, matches, strict=True) if m is None), None)
        if absent is not None:
            raise RecipeError(f"{name}: regex {fact.pattern!r} finds nothing in {absent!r}.")
        values = [m.group(1) for m in matches if m is not None]
    allowed = {
        "orbit_direction": DIRECTIONS,
        "backscatter": BACKSCATTER,
        "level": LEVELS[images.images.sensor],
    }.get(name, ())
    if name == "orbit_number":
        try:
            return [int(v) for v in values]
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{name}: {values[0]!r} is not a whole number.") from error
    values = [str(v).lower() if name == "orbit_direction" else str(v) for v in values]
    strangers = sorted({v for v in values if allowed and v not in allowed})
    if strangers:
        raise RecipeError(f"{name}: {strangers[0]!r} is not one of {', '.join(allowed)}.")
    return values


def _times(images: Images, files: Sequence[ImageFile], index: int, count: int) -> np.ndarray:
    """(time,) datetime64[ns] of one set, NaT where unknown."""
    first, rule = files[0], images.times
    for other in files[1:]:
        if other.dates != first.dates or not _together(first.times, other.times):
            raise RecipeError(
                f"{first.path.name} ({first.dates} dates) and {other.path.name} ({other.dates}) "
                "are parts of one sensor but do not have the same dates."
            )
    if rule.kind == "unknown":
        return np.full(first.dates, np.datetime64("NaT", "ns"))
    if rule.kind == "file":
        if first.times is None:
            raise RecipeError(
                f"{first.path.name} holds no dates. Add time = '2018-06-30', a list of dates, "
                "{ regex = '...', format = '...' } for the file name, or 'unknown'."
            )
        return first.times
    if rule.kind == "name":
        return np.array([_from_name(first.path, rule.pattern, rule.form)] * first.dates)
    if len(rule.values) != count * first.dates:
        raise RecipeError(
            f"{len(rule.values)} times are listed, but {first.path.name} and its like hold "
            f"{count * first.dates} dates."
        )
    return np.array(rule.values[index * first.dates : (index + 1) * first.dates], "datetime64[ns]")


def _from_name(path: Path, pattern: str, form: str) -> np.datetime64:
    match = re.search(pattern, path.name)
    try:
        found = match.group(1) if match else ""
        return np.datetime64(dt.datetime.strptime(found, form), "ns")
    except (ValueError, TypeError) as error:
        raise RecipeError(
            f"no date can be read from the name {path.name!r} by regex {pattern!r} and format "
            f"{form!r}."
        ) from error


def _mask(
    recipe: Recipe,
    images: Images,
    rule: MaskRule,
    scene: str,
    first: PlacedFile,
    times: np.ndarray,
    index: int,
) -> PlacedMask:
    """A mask layer with its dates matched to those of the images."""
    if rule.path:
        found = recipe.find(rule.path, scene)
        file = open_file(found[min(index, len(found) - 1)], images.crs)
        if len(found) > 1 and index >= len(found):
            raise RecipeError(f"{rule.path!r} names {len(found)} masks, fewer than images.")
    else:
        file = first.file
    geobox = located(file, images.crs, images.bounds)
    layer = file.layer(rule.variable, rule.band)
    if file.times is None:
        dates = [0] * len(times)
    elif file is first.file:
        dates = list(range(len(times)))
    else:
        dates = [_match(file.times, moment) for moment in times]
        if max(dates) < 0:
            raise RecipeError(
                f"{file.path.name} has no mask for any date of {first.file.path.name}."
            )
    return PlacedMask(file, geobox, layer, rule, tuple(dates))


def _match(times: np.ndarray, moment: np.datetime64) -> int:
    near = np.flatnonzero(np.abs(times - moment) <= _SAME_TIME)
    return int(near[0]) if len(near) else -1


def _together(first: np.ndarray | None, other: np.ndarray | None) -> bool:
    if first is None or other is None:
        return True
    return bool((np.abs(first - other) <= _SAME_TIME).all())
