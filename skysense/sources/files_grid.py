"""Which grid a file's pixels get, and how they are fetched onto it.

A stack is in metres of a UTM zone. Files that already are keep their pixels exactly. Others are
put on such a grid by the nearest pixel: no value is ever mixed, and the sentence that says so goes
with the stack.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from skysense.errors import RecipeError
from skysense.region import MAX_LATITUDE, utm_crs
from skysense.sensors import SENSORS
from skysense.sources.files_open import ImageFile
from skysense.sources.recipe_fields import read_crs

SAME = 0.01
"""Pixel sizes that differ by less than this share count as the same."""

_NODE = 16
"""Coordinates are transformed exactly at every 16th pixel and linearly between (error < 0.001
pixel for pixels below 100 m)."""


def located(file: ImageFile, crs: str, bounds: Sequence[float] | None) -> GeoBox:
    """The grid of a file, from itself or from what the recipe says.

    Raises:
        RecipeError: If neither says where it is, or the two disagree.
    """
    if file.geobox is not None:
        if bounds is not None:
            raise RecipeError(
                f"{file.path.name} has its own position; remove bounds from the recipe."
            )
        if crs and CRS.from_wkt(_wkt(file.geobox)) != read_crs(crs):
            raise RecipeError(
                f"{file.path.name} says it is in {crs_name(file.geobox)}, the recipe says {crs}. "
                "Remove crs from the recipe, or correct the file."
            )
        return file.geobox
    if bounds is None or not crs:
        raise RecipeError(
            f"{file.path.name} does not say where on Earth it is. Add crs = 'EPSG:...' and bounds "
            "= [left, bottom, right, top], with approximate = true if they are a guess."
        )
    left, bottom, right, top = bounds
    height, width = file.shape
    pixel = Affine((right - left) / width, 0, left, 0, (bottom - top) / height, top)
    return GeoBox(file.shape, pixel, read_crs(crs).to_wkt())


def utm_zone(geobox: GeoBox) -> tuple[str, str]:
    """The WGS 84 UTM zone a grid is in, and a note if it goes by another name there.

    NAD83 and ETRS89 are, to a metre or two, WGS 84; grids in their UTM zones are relabelled and
    not moved. Returns two empty strings for any other system.
    """
    return _utm_zone(_wkt(geobox))


@lru_cache(maxsize=64)
def _utm_zone(wkt: str) -> tuple[str, str]:
    crs = CRS.from_wkt(wkt)
    code = crs.to_epsg(min_confidence=70)
    if code is not None and (32601 <= code <= 32660 or 32701 <= code <= 32760):
        return f"EPSG:{code}", ""
    operation = crs.coordinate_operation
    if not crs.is_projected or operation is None or operation.method_name != "Transverse Mercator":
        return "", ""
    terms = {p.name: float(p.value) for p in operation.params}
    meridian = terms.get("Longitude of natural origin", 0.0)
    zone = (meridian + 183) / 6
    northing = terms.get("False northing")
    ellipsoid = crs.ellipsoid
    alike = (
        abs(terms.get("Scale factor at natural origin", 1.0) - 0.9996) < 1e-9
        and terms.get("False easting") == 500_000
        and northing in {0, 10_000_000}
        and terms.get("Latitude of natural origin") == 0
        and abs(zone - round(zone)) < 1e-9
        and ellipsoid is not None
        and abs(ellipsoid.semi_major_metre - 6_378_137) < 0.01
        and abs(ellipsoid.inverse_flattening - 298.2572) < 0.001
    )
    if not alike:
        return "", ""
    name = f"EPSG:{326 if northing == 0 else 327}{round(zone):02d}"
    return name, (
        f"the file's system is {_name(crs)}; it is used as {name}, which differs from it by "
        "one or two metres at most."
    )


def crs_name(geobox: GeoBox) -> str:
    """A short name of a grid's system, for people."""
    return _name(CRS.from_wkt(_wkt(geobox)))


def zone_of(grid: GeoBox) -> str:
    """`EPSG:326zz` or `EPSG:327zz` of a grid that `target_grid` made."""
    return _utm_zone(_wkt(grid))[0]


def _name(crs: CRS) -> str:
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else (crs.name if crs.name != "unknown" else "an unnamed system")


def target_grid(sensor: str, grids: Sequence[GeoBox], crs: str = "") -> tuple[GeoBox, list[str]]:
    """The grid that images of one sensor are given.

    Args:
        sensor: `hr`, `s2` or `s1`.
        grids: Those of its files.
        crs: The UTM zone to use; empty for the files' own.

    Returns:
        The grid, north up in a UTM zone, and sentences for the user.

    Raises:
        RecipeError: If the place has no UTM zone.
    """
    nominal = SENSORS[sensor].resolution if sensor != "hr" else 0.0
    sizes = [ground_size(g) for g in grids]
    near = [abs(math.log(s / nominal)) if nominal else s for s in sizes]
    first = grids[int(np.argmin(near))]
    zone, note = utm_zone(first)
    notes = [note] if note else []
    upright = first.transform.b == 0 and first.transform.d == 0
    if zone and upright and crs in {"", zone}:
        box = first.boundingbox
        dx, dy = abs(first.transform.a), abs(first.transform.e)
        height, width = first.shape
        if nominal and max(abs(dx / nominal - 1), abs(dy / nominal - 1)) > SAME:
            width, height = math.ceil(width * dx / nominal), math.ceil(height * dy / nominal)
            dx = dy = nominal
        pixel = Affine(dx, 0, box.left, 0, -dy, box.top)
        return GeoBox((height, width), pixel, zone), notes
    lon, lat = _centre(first)
    zone = crs or utm_crs(lon, lat)
    size = nominal or ground_size(first)
    left, bottom, right, top = _bounds_in(first, zone)
    height, width = (max(1, math.ceil(s / size - 1e-6)) for s in (top - bottom, right - left))
    return GeoBox((height, width), Affine(size, 0, left, 0, -size, top), zone), []


def moved(file: GeoBox, target: GeoBox, what: str) -> str:
    """How pixels got from a file's grid to the target: a clause, empty if they are untouched."""
    zone, _ = utm_zone(file)
    if zone != zone_of(target) or file.transform.b or file.transform.d:
        return (
            f"{what} reprojected from {crs_name(file)} to {zone_of(target)} at "
            f"{target.resolution.x:.3g} m by the nearest pixel"
        )
    old, new = abs(file.transform.a), target.resolution.x
    if abs(old / new - 1) > SAME:
        how = "repeating pixels (nearest)" if old > new else "the nearest pixel"
        return f"{what} put from {old:.4g} m onto the {new:.4g} m grid by {how}"
    shift = (file.boundingbox.left - target.boundingbox.left) / new
    drop = (file.boundingbox.top - target.boundingbox.top) / new
    if max(abs(shift - round(shift)), abs(drop - round(drop))) > SAME:
        return f"{what} moved by less than a pixel onto the first grid (nearest)"
    return ""


def source_pixels(
    file: GeoBox, target: GeoBox, rows: slice, columns: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Which pixel of a file each pixel of a window of the target shows.

    The answer for a pixel does not depend on the window it is asked for in.

    Args:
        file: The grid of the file.
        target: The whole grid of the stack.
        rows: Rows of the target, start and stop given.
        columns: Columns of the target, start and stop given.

    Returns:
        Rows and columns of the file, (y, x) int64 or broadcasting to it, -1 where it has none.
    """
    y, x = np.arange(rows.start, rows.stop) + 0.5, np.arange(columns.start, columns.stop) + 0.5
    inverse = ~file.transform
    zone, _ = utm_zone(file)
    if zone == zone_of(target) and not (file.transform.b or file.transform.d):
        column = (target.transform.c + x * target.transform.a) * inverse.a + inverse.c
        row = (target.transform.f + y * target.transform.e) * inverse.e + inverse.f
        row, column = row[:, None], column[None, :]
    else:
        nodes_y, nodes_x = _nodes(rows), _nodes(columns)
        grid_x, grid_y = np.meshgrid(nodes_x, nodes_y)
        east, north = _apply(target.transform, grid_x, grid_y)
        lon, lat = _transformer(zone_of(target), _wkt(file)).transform(east, north)
        column, row = _apply(inverse, np.asarray(lon), np.asarray(lat))
        row, column = (_between(v, nodes_y, nodes_x, y, x) for v in (row, column))
    found = (
        np.where((v >= 0) & (v < limit), np.floor(np.nan_to_num(v, posinf=-1, neginf=-1)), -1)
        for v, limit in ((row, file.shape[0]), (column, file.shape[1]))
    )
    down, across = (v.astype(np.int64) for v in found)
    return down, across


def ground_size(geobox: GeoBox) -> float:
    """Side of a square pixel of the same ground area at the middle of the grid (m)."""
    lon, lat = _centre(geobox)
    height, width = geobox.shape
    corners = width / 2 + np.array([0.0, 1.0, 0.0]), height / 2 + np.array([0.0, 0.0, 1.0])
    x, y = _apply(geobox.transform, *corners)
    to_metres = _transformer(_wkt(geobox), utm_crs(lon, lat))
    east, north = (np.asarray(v) for v in to_metres.transform(x, y))
    (ax, bx), (ay, by) = east[1:] - east[0], north[1:] - north[0]
    return math.sqrt(abs(ax * by - ay * bx))


def _centre(geobox: GeoBox) -> tuple[float, float]:
    """(lon, lat) of the middle of a grid, degrees."""
    height, width = geobox.shape
    x, y = _apply(geobox.transform, width / 2, height / 2)
    lon, lat = _transformer(_wkt(geobox), "EPSG:4326").transform(x, y)
    if not (math.isfinite(lon) and math.isfinite(lat) and abs(lat) <= MAX_LATITUDE):
        raise RecipeError(
            f"The middle of the image is at ({x:g}, {y:g}) in {crs_name(geobox)}, which is not a "
            f"place within {MAX_LATITUDE:g}° of the equator. Check crs and bounds."
        )
    return lon, lat


def _bounds_in(geobox: GeoBox, crs: str) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) of a grid's outline in another system."""
    height, width = geobox.shape
    steps = np.linspace(0, 1, 21)
    edge = np.concatenate(
        [np.stack([steps, 0 * steps]), np.stack([steps, 0 * steps + 1]),
         np.stack([0 * steps, steps]), np.stack([0 * steps + 1, steps])], axis=1
    )  # fmt: skip
    x, y = _apply(geobox.transform, edge[0] * width, edge[1] * height)
    east, north = _transformer(_wkt(geobox), crs).transform(x, y)
    limits = (np.min(east), np.min(north), np.max(east), np.max(north))
    if not np.isfinite(limits).all():
        raise RecipeError(f"The image in {crs_name(geobox)} reaches beyond {crs}; cut it first.")
    return tuple(float(v) for v in limits)  # type: ignore[return-value]


def _wkt(geobox: GeoBox) -> str:
    if geobox.crs is None:  # located() and the files make none without
        raise RecipeError("The images have no coordinate reference system; add crs = 'EPSG:...'.")
    return geobox.crs.to_wkt()


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    try:
        return Transformer.from_crs(source, target, always_xy=True)
    except ProjError as error:
        raise RecipeError(f"There is no way from {source[:60]} to {target}: {error}.") from error


def _apply(transform: Affine, x: Any, y: Any) -> tuple[Any, Any]:
    """Written out, because releases of affine disagree on `*` and `@` for arrays."""
    return (
        transform.a * x + transform.b * y + transform.c,
        transform.d * x + transform.e * y + transform.f,
    )


def _nodes(pixels: slice) -> np.ndarray:
    """Multiples of the node distance that enclose the pixels, the same for every window."""
    return np.arange(pixels.start // _NODE, -(-pixels.stop // _NODE) + 1) * float(_NODE)


def _between(
    values: np.ndarray, rows: np.ndarray, columns: np.ndarray, y: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Bilinear interpolation from nodes to pixel centres."""
    i = np.clip(np.searchsorted(rows, y, "right") - 1, 0, len(rows) - 2)
    w = ((y - rows[i]) / (rows[i + 1] - rows[i]))[:, None]
    lines = values[i] * (1 - w) + values[i + 1] * w
    j = np.clip(np.searchsorted(columns, x, "right") - 1, 0, len(columns) - 2)
    w = (x - columns[j]) / (columns[j + 1] - columns[j])
    return lines[:, j] * (1 - w) + lines[:, j + 1] * w
