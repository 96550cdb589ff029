"""A lone GeoTIFF without a recipe: what it says about itself is used, the rest is asked for.

A guess is made only where nothing else is likely (three 8-bit channels are a picture) and is then
written into the stack's notes. Where two readings are possible the error says what to pass.
"""

import glob
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from skysense.checks import as_number, choice, shown
from skysense.disk import path_of
from skysense.errors import RecipeError
from skysense.region import Region
from skysense.sensors import SENSORS
from skysense.sources.files import open_recipe
from skysense.sources.files_open import IMAGES, Layer, Picture
from skysense.sources.recipe import UNITS, parse_recipe
from skysense.sources.recipe_fields import ALPHA, SKIP, UNUSED, read_crs

_CENTRE = 256
"""Side of the block in the middle that is read to recognise units (pixels)."""


def open_geotiff(
    path: str | Path,
    sensor: str | None = None,
    bands: Sequence[str] | None = None,
    *,
    time: str | None = None,
    units: str | None = None,
    scale: float | None = None,
    offset: float = 0.0,
    nodata: float | None = None,
    crs: str | None = None,
    bounds: Sequence[float] | None = None,
    approximate: bool = False,
    licence: str | None = None,
    region: Region | None = None,
) -> xr.DataTree:
    """A stack of one image file.

    Args:
        path: A GeoTIFF, PNG or JPEG.
        sensor: `hr`, `s2` or `s1`; guessed where band names or 8-bit colours leave no doubt.
        bands: Every band in the file's order, `-` for one to leave out.
        time: ISO day or moment; None for unknown.
        units: What values mean after scale and offset: `reflectance`; `dB`, `power` or
            `amplitude`; `0..255`.
        scale: value = stored × scale + offset.
        offset: See `scale`.
        nodata: Stored value that means nothing was measured, besides the file's own.
        crs: Where the file has none, e.g. `EPSG:32631`.
        bounds: (left, bottom, right, top) in `crs`, where the file has no position.
        approximate: True if they are a guess; shown on screen.
        licence: Its terms.
        region: Load only whole encoder windows around it.

    Raises:
        RecipeError: If the file cannot be read, or says too little: then it names what to pass.
    """
    path = path_of(path, RecipeError)
    if not path.is_file():
        raise RecipeError(f"There is no file at {path}.")
    if path.suffix.lower() not in IMAGES:
        raise RecipeError(f"{path.name} is not an image; use {', '.join(IMAGES)}, or a recipe.")
    if sensor is not None:
        choice("sensor", sensor, SENSORS, RecipeError)
    _check_lists(bands, bounds)
    if scale is not None and not math.isfinite(as_number(scale)):
        raise RecipeError(f"scale={shown(scale)} is not a finite number.")
    if crs is not None:
        read_crs(crs)
    picture = Picture(path, crs or "")
    notes: list[str] = []
    if sensor is None or bands is None:
        sensor, bands = _recognise(picture, sensor, bands, notes)
    if units is None:
        units, guessed = _units(picture, sensor, scale, notes)
        scale = guessed if scale is None else scale
    table: dict[str, Any] = {
        "name": sensor,
        "units": units,
        "scale": 1.0 if scale is None else scale,
        "offset": offset,
        "time": time if time is not None else "unknown",
        "approximate": approximate,
        "notes": notes,
        "file": [{"path": glob.escape(path.name), "bands": list(bands)}],
    }
    table.update({"nodata": nodata} if nodata is not None else {})
    table.update({"crs": crs} if crs is not None else {})
    table.update({"bounds": list(bounds)} if bounds is not None else {})
    content: dict[str, Any] = {"title": path.name, "sensor": [table]}
    content.update({"licence": licence} if licence is not None else {})
    return open_recipe(parse_recipe(content, path.parent), region)


def _check_lists(bands: Any, bounds: Any) -> None:
    """Refuse what is no list before it is taken letter by letter."""
    if bands is not None and (
        not isinstance(bands, list | tuple) or not all(isinstance(b, str) for b in bands)
    ):
        raise RecipeError(
            f"bands={shown(bands)} is not a list of names in the file's order, such as "
            "['B04', 'B03', 'B02']."
        )
    if bounds is not None and not isinstance(bounds, list | tuple):
        raise RecipeError(f"bounds={shown(bounds)} is not a list (left, bottom, right, top).")


def _recognise(
    picture: Picture, sensor: str | None, bands: Sequence[str] | None, notes: list[str]
) -> tuple[str, list[str]]:
    """Sensor and bands from names, or from colours; a sentence for each guess."""
    name = picture.path.name
    candidates = [sensor] if sensor else list(SENSORS)
    if bands is None and all(picture.descriptions):
        fitting = [s for s in candidates if _all_known(picture.descriptions, s)]
        if len(fitting) > 1 and picture.kind == "uint8" and "hr" in fitting:
            fitting = ["hr"]
        if len(fitting) == 1:
            title = SENSORS[fitting[0]].title
            named = ", ".join(picture.descriptions)
            notes.append(f"taken as {title} by the band names in the file: {named}.")
            return fitting[0], list(picture.descriptions)
    if bands is not None:
        fitting = [s for s in candidates if _all_known(bands, s)]
        if len(fitting) == 1:
            notes.append(f"taken as {SENSORS[fitting[0]].title} by the band names that were given.")
            return fitting[0], list(bands)
    colours = picture.colours
    picture_like = picture.kind == "uint8" and colours[:3] == ("red", "green", "blue")
    if bands is None and sensor in {None, "hr"} and picture_like:
        if len(colours) == 3:
            notes.append("taken as a high-resolution picture: three 8-bit bands, red, green, blue.")
            return "hr", ["R", "G", "B"]
        if colours == ("red", "green", "blue", "alpha") and _is_alpha(picture):
            notes.append("taken as a high-resolution picture: 8-bit red, green, blue and alpha.")
            return "hr", ["R", "G", "B", ALPHA]
    said = f"{picture.count} bands of {picture.kind}"
    missing = "sensor='hr', 's2' or 's1' and " if sensor is None else ""
    raise RecipeError(
        f"{name} has {said}, which could be several things. Pass {missing}bands=[...] in the "
        "file's order, such as bands=['R', 'G', 'B', 'NIR'] or bands=['B02', 'B03', 'B04', 'B08'] "
        f"('{SKIP}' leaves one out)."
    )


def _units(
    picture: Picture, sensor: str, scale: float | None, notes: list[str]
) -> tuple[str, float]:
    """Units and scale that leave no doubt, with a sentence where they are a guess."""
    height, width = picture.shape
    top, left = max(0, (height - _CENTRE) // 2), max(0, (width - _CENTRE) // 2)
    rows, columns = slice(top, min(height, top + _CENTRE)), slice(left, min(width, left + _CENTRE))
    layers = [Layer(index=i) for i in range(1, picture.count + 1)]
    values = picture.read(layers, [0], rows, columns)
    values = values[np.isfinite(values) & (values != 0)]
    middle = float(np.median(values)) if len(values) else np.nan
    if sensor == "hr" and (picture.kind == "uint8" or scale is not None):
        return "0..255", 1.0
    if sensor == "s2" and scale is not None:
        return "reflectance", scale
    if sensor == "s2" and middle <= 2 and picture.kind.startswith("float"):
        return "reflectance", 1.0
    if sensor == "s2" and 20 < middle < 20_000:
        notes.append(
            f"the median number is {middle:,.0f}, taken as reflectance × 10,000 without an offset."
        )
        return "reflectance", 0.0001
    if sensor == "s1" and middle < 0:
        notes.append(f"the median number is {middle:.1f}, taken as decibels.")
        return "dB", 1.0
    raise RecipeError(
        f"{picture.path.name} holds {picture.kind} with a median of {middle:.4g}; what that means "
        f"is not clear. Pass units={' or '.join(map(repr, UNITS[sensor]))}, and scale= and offset= "
        "such that value = stored × scale + offset."
    )


def _all_known(names: Sequence[str], sensor: str) -> bool:
    spec = SENSORS[sensor]
    extra = {SKIP, ALPHA, *UNUSED[sensor]}
    return any(spec.name_of(n) for n in names) and all(spec.name_of(n) or n in extra for n in names)


def _is_alpha(picture: Picture) -> bool:
    """True if the fourth band in the middle and along the top holds nothing but 0 and 255."""
    height, width = picture.shape
    seen = [
        picture.read(
            [Layer(index=4)],
            [0],
            slice(top, min(height, top + _CENTRE)),
            slice(0, min(width, 4 * _CENTRE)),
        )
        for top in (0, height // 2)
    ]
    return all(np.isin(block, (0, 255)).all() for block in seen)
