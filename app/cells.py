"""Between places on the map, cells of a field, and points of the scatter."""

import json
from typing import Any

import numpy as np
import odc.geo.xr  # noqa: F401 -- registers the .odc accessor
import shapely
import xarray as xr
from odc.geo import geom
from odc.geo.geom import BoundingBox
from pyproj import Transformer

from skysense.region import Region
from skysense.sensors import CELL
from skysense.stack import sensors_of
from skysense.windows import Bounds, Lattice


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


def ground_of(stack: xr.DataTree, region: Region | None) -> Bounds:
    """(left, bottom, right, top) of a place (m, CRS of its lattice): the 10 m cells that features have.

    Args:
        stack: Its images.
        region: What was asked for; everything that the images cover together if None.
    """
    lattice = Lattice.from_attrs(stack.attrs)
    boxes = [stack[key].to_dataset().odc.geobox.boundingbox for key in sensors_of(stack)]
    ground = BoundingBox(
        min(box.left for box in boxes), min(box.bottom for box in boxes),
        max(box.right for box in boxes), max(box.top for box in boxes),
    )  # fmt: skip
    if region is not None:
        to_lattice = Transformer.from_crs("EPSG:4326", lattice.crs, always_xy=True)
        ground &= BoundingBox(*to_lattice.transform_bounds(*region.bounds))
    x0, y0 = lattice.x0, lattice.y0
    return (
        x0 + CELL * round((ground.left - x0) / CELL),
        y0 - CELL * round((y0 - ground.bottom) / CELL),
        x0 + CELL * round((ground.right - x0) / CELL),
        y0 - CELL * round((y0 - ground.top) / CELL),
    )


def outline_of(stack: xr.DataTree) -> tuple[tuple[float, float], tuple[float, float]]:
    """((south, west), (north, east)) around the images of a place, degrees, as leaflet wants bounds."""
    lattice = Lattice.from_attrs(stack.attrs)
    box = geom.box(*ground_of(stack, None), lattice.crs).to_crs("EPSG:4326").boundingbox
    return (box.bottom, box.left), (box.top, box.right)
