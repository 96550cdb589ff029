"""Fields as transparent pictures for a web map.

A web map stretches a picture between two corners in EPSG:3857, while fields lie in UTM, so each
pixel of the picture takes the colour of the cell it falls into: nearest, never blended. Which cell
that is depends on the grid alone and is kept, so redrawing after a click is one look-up.
"""

import base64
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.transform import from_bounds
from rasterio.warp import reproject, transform_bounds

from skysense.analysis.pixels import geobox_of
from skysense.checks import whole
from skysense.errors import AnalysisError
from skysense.view.paint import check_field, colours, indexed, many_coloured
from skysense.view.png import encode_indexed, encode_rgba

LIMIT = 1024
"""Most pixels of a picture along one side; a larger field shows every so many cells only."""

CRISP = 512
"""Small fields are enlarged to about this, so that a turned grid keeps its straight edges."""

MERCATOR = "EPSG:3857"

_TO_DEGREES = Transformer.from_crs(MERCATOR, "EPSG:4326", always_xy=True)


@dataclass(frozen=True)
class Overlay:
    """A picture and where it goes."""

    png: bytes
    bounds: tuple[tuple[float, float], tuple[float, float]]
    """((south, west), (north, east)) in degrees: the order of leaflet, nowhere else used."""
    shape: tuple[int, int]
    """(rows, columns) of the picture."""

    @property
    def url(self) -> str:
        """The picture as a data URL."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


def overlay(field: xr.DataArray, limit: int = LIMIT) -> Overlay:
    """A field as a PNG in web Mercator.

    Values of a coarse lattice (20 or 40 m) are drawn as blocks around the sampled 10 m cell.

    Args:
        field: Any field with colours; see `skysense.view.paint`.
        limit: Most pixels along one side, 16 to 4,096.

    Raises:
        AnalysisError: If the field has no colours or no georeference, or the limit is none.
    """
    check_field(field)
    limit = whole("limit", limit, 16, 4096, AnalysisError)
    cells, bounds = _cells(geobox_of(field), limit)
    if many_coloured(field):
        # one 32-bit number per pixel is looked up five times faster than four bytes
        pixels = np.append(colours(field).reshape(-1, 4).view(np.uint32), np.uint32(0))
        picture = pixels[cells].view(np.uint8).reshape(*cells.shape, 4)
        return Overlay(encode_rgba(picture), bounds, cells.shape)
    index, table = indexed(field)  # the 0 appended is what -1, outside, looks up
    return Overlay(encode_indexed(np.append(index, np.uint8(0))[cells], table), bounds, cells.shape)


@lru_cache(maxsize=24)
def _cells(
    geobox: GeoBox, limit: int
) -> tuple[np.ndarray, tuple[tuple[float, float], tuple[float, float]]]:
    """For each pixel of the picture the flat index of its cell, -1 outside; and the bounds."""
    rows, columns = geobox.shape
    box = geobox.boundingbox
    west, south, east, north = transform_bounds(
        str(geobox.crs), MERCATOR, box.left, box.bottom, box.right, box.top, densify_pts=21
    )
    scale = min(limit, max(CRISP, rows, columns)) / max(north - south, east - west)
    shape = (max(1, round((north - south) * scale)), max(1, round((east - west) * scale)))
    cells = np.full(shape, -1, np.int32)
    reproject(
        np.arange(rows * columns, dtype=np.int32).reshape(rows, columns),
        cells,
        src_transform=geobox.transform,
        src_crs=str(geobox.crs),
        dst_transform=from_bounds(west, south, east, north, shape[1], shape[0]),
        dst_crs=MERCATOR,
        dst_nodata=-1,
        resampling=Resampling.nearest,
        tolerance=0,
    )
    cells.setflags(write=False)
    (left, right), (low, high) = _TO_DEGREES.transform((west, east), (south, north))
    return cells, ((low, left), (high, right))
