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
from affine import Affine
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
from skysense.windows import Bounds

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


def overlay(field: xr.DataArray, limit: int = LIMIT, within: Bounds | None = None) -> Overlay:
    """A field as a PNG in web Mercator.

    Values of a coarse lattice (20 or 40 m) are drawn as blocks around the sampled 10 m cell.

    Args:
        field: Any field with colours; see `skysense.view.paint`.
        limit: Most pixels along one side, 16 to 4,096.
        within: (left, bottom, right, top) in the field's CRS (m), beyond which nothing is drawn: blocks
            of a coarse lattice reach over the edge of a place.

    Raises:
        AnalysisError: If the field has no colours or no georeference, the limit is none, or the field
            lies beside `within`.
    """
    check_field(field)
    limit = whole("limit", limit, 16, 4096, AnalysisError)
    cells, bounds = _cells(geobox_of(field), limit, within)
    if many_coloured(field):
        # one 32-bit number per pixel is looked up five times faster than four bytes
        pixels = np.append(colours(field).reshape(-1, 4).view(np.uint32), np.uint32(0))
        picture = pixels[cells].view(np.uint8).reshape(*cells.shape, 4)
        return Overlay(encode_rgba(picture), bounds, cells.shape)
    index, table = indexed(field)  # the 0 appended is what -1, outside, looks up
    return Overlay(encode_indexed(np.append(index, np.uint8(0))[cells], table), bounds, cells.shape)


@lru_cache(maxsize=24)
def _cells(
    geobox: GeoBox, limit: int, within: Bounds | None
) -> tuple[np.ndarray, tuple[tuple[float, float], tuple[float, float]]]:
    """For each pixel of the picture the flat index of its cell, -1 outside; and the bounds."""
    rows, columns = geobox.shape
    crs, box = str(geobox.crs), geobox.boundingbox
    whole_of = (box.left, box.bottom, box.right, box.top)
    edges = whole_of if within is None else _overlap(whole_of, within)
    west, south, east, north = transform_bounds(crs, MERCATOR, *edges, densify_pts=21)
    scale = min(limit, max(CRISP, rows, columns)) / max(north - south, east - west)
    shape = (max(1, round((north - south) * scale)), max(1, round((east - west) * scale)))
    cells = np.full(shape, -1, np.int32)

    def fall(numbers: np.ndarray, transform: Affine, into: np.ndarray) -> None:
        reproject(
            numbers,
            into,
            src_transform=transform,
            src_crs=crs,
            dst_transform=from_bounds(west, south, east, north, shape[1], shape[0]),
            dst_crs=MERCATOR,
            dst_nodata=-1,
            resampling=Resampling.nearest,
            tolerance=0,
        )

    numbers = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    fall(numbers, geobox.transform, cells)
    if edges != whole_of:
        inside = np.full(shape, -1, np.int32)
        fall(np.zeros((1, 1), np.int32), from_bounds(*edges, 1, 1), inside)
        cells[inside < 0] = -1
    cells.setflags(write=False)
    (left, right), (low, high) = _TO_DEGREES.transform((west, east), (south, north))
    return cells, ((low, left), (high, right))


def _overlap(box: Bounds, within: Bounds) -> Bounds:
    left, bottom = max(box[0], within[0]), max(box[1], within[1])
    right, top = min(box[2], within[2]), min(box[3], within[3])
    if left >= right or bottom >= top:
        raise AnalysisError(
            f"The field covers {box} (m) and lies beside within={within}, so there is nothing to draw. "
            "Give bounds that touch it, in its own CRS."
        )
    return left, bottom, right, top
