"""From longitude and latitude to the cells of a grid."""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
import xarray as xr
from pyproj import Transformer
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from skysense.analysis.pixels import geobox_of
from skysense.checks import as_number, shown
from skysense.errors import AnalysisError


@lru_cache(maxsize=32)
def to_grid(crs: str) -> Transformer:
    """From longitude and latitude to a grid's CRS; kept, as making one takes a millisecond."""
    return Transformer.from_crs("EPSG:4326", crs, always_xy=True)


def cell_at(array: xr.DataArray, lon: float, lat: float) -> tuple[int, int] | None:
    """(row, column) of the cell a place falls into, or None outside the grid.

    Raises:
        AnalysisError: If lon and lat are not a place on Earth.
    """
    lon, lat = checked_place(lon, lat)
    geobox = geobox_of(array)
    x, y = to_grid(str(geobox.crs)).transform(lon, lat)
    column, row = geobox.wld2pix(x, y)
    if not (0 <= row < geobox.shape[0] and 0 <= column < geobox.shape[1]):
        return None
    return int(row), int(column)


def place_of(array: xr.DataArray, rows: np.ndarray, columns: np.ndarray) -> list[tuple]:
    """(lon, lat) of the centres of cells."""
    geobox = geobox_of(array)
    x, y = geobox.pix2wld(np.asarray(columns) + 0.5, np.asarray(rows) + 0.5)
    lon, lat = to_grid(str(geobox.crs)).transform(x, y, direction="INVERSE")
    return list(zip(np.asarray(lon).tolist(), np.asarray(lat).tolist(), strict=True))


def extent(array: xr.DataArray) -> tuple[float, float, float, float]:
    """(west, south, east, north) of a grid in degrees."""
    box = geobox_of(array).geographic_extent.boundingbox
    return box.left, box.bottom, box.right, box.top


def extent_sentence(array: xr.DataArray) -> str:
    """Where a grid lies, in words."""
    west, south, east, north = extent(array)
    return f"they cover {west:.4f} to {east:.4f} °E and {south:.4f} to {north:.4f} °N"


def checked_place(lon: Any, lat: Any) -> tuple[float, float]:
    """Two finite numbers in degrees, or `AnalysisError`."""
    given = f"({shown(lon)}, {shown(lat)})"
    lon, lat = as_number(lon), as_number(lat)
    if not (math.isfinite(lon) and math.isfinite(lat)):
        raise AnalysisError(f"{given} are not two finite numbers in degrees; give (lon, lat).")
    if abs(lat) > 90 or abs(lon) > 180:
        raise AnalysisError(
            f"lon={lon:g}, lat={lat:g} is not on Earth. Give (lon, lat); did you swap them?"
        )
    return lon, lat


def shape_of(geometry: Any) -> BaseGeometry:
    """A (lon, lat) pair, a shapely geometry or GeoJSON as one shapely geometry in degrees.

    Raises:
        AnalysisError: For anything else, or a broken geometry.
    """
    if isinstance(geometry, tuple | list) and len(geometry) == 2:
        return shapely.Point(*checked_place(*geometry))
    if isinstance(geometry, Mapping):
        inner = geometry.get("geometry") if geometry.get("type") == "Feature" else geometry
        try:
            shape = shapely.from_geojson(json.dumps(inner))
        except (shapely.errors.GEOSException, ValueError, TypeError, RecursionError) as error:
            raise AnalysisError(f"This GeoJSON geometry cannot be read: {error}.") from error
    else:
        shape = geometry
    if not isinstance(shape, BaseGeometry):
        raise AnalysisError(
            f"{shown(geometry)} is not a place. Give (lon, lat), a shapely geometry or GeoJSON."
        )
    if shape.is_empty or not all(math.isfinite(v) for v in shape.bounds):
        raise AnalysisError(f"The {shape.geom_type} is empty. Draw it again.")
    west, south, east, north = shape.bounds
    for lon, lat in ((west, south), (east, north)):
        checked_place(lon, lat)
    if not shape.is_valid:
        raise AnalysisError(
            f"The polygon crosses itself ({shapely.is_valid_reason(shape)}). Draw it again."
        )
    return shape


def cells_of(array: xr.DataArray, geometry: Any) -> np.ndarray:
    """(y, x) bool: cells whose centre lies in a polygon, or that hold a point or touch a line.

    A polygon too small to hold any cell's centre gives the cell it lies in.
    """
    shape = shape_of(geometry)
    if shape.geom_type == "Point":
        inside = np.zeros(array.shape[-2:], bool)
        cell = cell_at(array, *shape.bounds[:2])
        if cell is not None:
            inside[cell] = True
        return inside
    geobox = geobox_of(array)
    forth = to_grid(str(geobox.crs))
    metres = shapely.transform(
        shape, lambda places: np.column_stack(forth.transform(places[:, 0], places[:, 1]))
    )
    return burn(metres, geobox)


def burn(shape: BaseGeometry, geobox: Any) -> np.ndarray:
    """(y, x) bool cells of a geometry already in the grid's CRS; see `cells_of`."""
    flat = not shape.geom_type.endswith("Polygon")
    options = {"out_shape": geobox.shape, "transform": geobox.transform, "dtype": "uint8"}
    inside = np.asarray(rasterize([shape], all_touched=flat, **options))
    if not flat and not inside.any():
        inside = np.asarray(rasterize([shape.representative_point()], **options))
    return inside.astype(bool)


def nearest_mark(
    array: xr.DataArray, places: list[Any], lon: float, lat: float, reach: float
) -> int | None:
    """Which mark a click is meant for: the nearest point within reach, else the nearest area.

    Args:
        array: On whose grid distances are measured.
        places: (lon, lat) pairs and polygons, in degrees.
        lon: Of the click (degrees).
        lat: Of the click (degrees).
        reach: Furthest distance (m); inside an area it is 0.

    Returns:
        The number of the place, or None if nothing is within reach.
    """
    forth = to_grid(str(geobox_of(array).crs))
    here = shapely.Point(*forth.transform(*checked_place(lon, lat)))
    shapes = np.array([shape_of(place) for place in places], object)
    if not len(shapes):
        return None
    metres = shapely.transform(
        shapes, lambda at: np.column_stack(forth.transform(at[:, 0], at[:, 1]))
    )
    away = shapely.distance(metres, here)
    points = shapely.get_type_id(metres) == 0
    for kind in (points, ~points):
        near = np.where(kind, away, np.inf)
        if near.min() <= reach:
            return int(near.argmin())
    return None
