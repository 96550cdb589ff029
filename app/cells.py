"""Between places on the map, cells of a field, and points of the scatter."""

import json
from typing import Any

import numpy as np
import odc.geo.xr  # noqa: F401 -- registers the .odc accessor
import shapely
import xarray as xr
from pyproj import Transformer


def middle_of(field: xr.DataArray, cell: tuple[int, int]) -> tuple[float, float]:
    """(lon, lat) in degrees of the middle of a cell (row, column)."""
    grid = field.odc.geobox
    x, y = grid.affine * (cell[1] + 0.5, cell[0] + 0.5)
    return Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True).transform(x, y)


def cells_inside(field: xr.DataArray, geometry: dict[str, Any]) -> np.ndarray:
    """Cells whose middle lies in a GeoJSON polygon (degrees): (y, x) bool."""
    x, y = np.meshgrid(field["x"].values, field["y"].values)
    to_degrees = Transformer.from_crs(str(field.odc.geobox.crs), "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(x, y)
    polygon = shapely.make_valid(shapely.from_geojson(json.dumps(geometry)))
    shapely.prepare(polygon)
    return shapely.contains_xy(polygon, lon, lat)


def outline_of(field: xr.DataArray) -> tuple[tuple[float, float], tuple[float, float]]:
    """((south, west), (north, east)) around a field, degrees, as leaflet wants bounds."""
    box = field.odc.geobox.geographic_extent.boundingbox
    return (box.bottom, box.left), (box.top, box.right)
