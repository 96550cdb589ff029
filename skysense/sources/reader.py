"""How odc-stac reads our scenes: a driver with our rules for addresses, repeats and numbers.

odc-stac cuts the work into chunks and mosaics the scenes of a day; the driver here opens one file
and gives back contract units. It exists because odc-stac's own would open any path (a VRT too),
signs when the graph is built and not when a chunk is read (permits last 45 minutes), knows no
scale or offset, and either stops everything at the first broken file or leaves a hole in silence.
Here a file that cannot be read raises a `ReadError` that names it; `fetch.read_stack` drops that
date and says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import odc.stac
import pystac
import rasterio
import rasterio.warp
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi
from odc.geo.roi import roi_is_empty, roi_shape
from odc.loader import RasterLoadParams, RasterSource, RioDriver, RioReader
from rasterio.enums import Resampling
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from skysense.sources.access import Access
from skysense.sources.grids import zone_of
from skysense.sources.net import read_remote
from skysense.sources.radiometry import Decode
from skysense.sources.scenes import Part, Scene

CHUNK = 512
"""Side of a chunk (pixels), the usual block size of cloud-optimised GeoTIFFs."""

CHUNKS_ACROSS = 8
"""Chunks on a side beyond which they grow: a graph of half a million tasks takes a minute."""

MASK = "scl"
ABSENT = "https://absent.invalid/"
"""Address of a band that a scene does not have: never opened."""

TOLERANCE = 0.05
"""Shift (pixels) below which two grids are the same and nothing is resampled."""


@dataclass(frozen=True)
class Target:
    """What is read from one file, and its name in an error."""

    href: str
    index: int
    """One-based band of the file."""
    decode: Decode
    name: str
    mask: bool


class SceneReader(RioReader):
    """One band of one scene onto a grid."""

    def __init__(self, src: RasterSource, ctx: Any, access: Access, target: Target | None) -> None:
        super().__init__(src, ctx)
        self._access = access
        self._target = target

    def read(
        self,
        cfg: RasterLoadParams,
        dst_geobox: GeoBox,
        *,
        dst: np.ndarray | None = None,
        selection: Any = None,
    ) -> tuple[tuple[slice, slice], np.ndarray]:
        """The part of `dst_geobox` that the file covers: (row and column slices, pixels).

        Raises:
            ReadError: If the file cannot be read.
        """
        del selection
        kind = np.dtype(cfg.dtype)
        roi, pixels = (slice(0, 0), slice(0, 0)), np.zeros((0, 0), kind)
        target = self._target
        if target is not None:

            def work(file: rasterio.DatasetReader) -> tuple[tuple[slice, slice], np.ndarray]:
                nodata = target.decode.nodata
                return read_onto(file, target.index, dst_geobox, cfg.resampling, nodata)

            roi, raw = read_remote(self._access, target.href, work, target.name)
            pixels = np.nan_to_num(raw).astype(kind) if target.mask else target.decode(raw)
        if dst is None:
            return roi, pixels
        dst[roi] = pixels
        return roi, dst[roi]


class SceneDriver(RioDriver):
    """Makes `SceneReader`s; carries what they need to know about each address."""

    def __init__(self, access: Access, targets: Mapping[str, Target]) -> None:
        super().__init__()
        self._access = access
        self._targets = targets

    def capture_env(self) -> dict[str, Any]:
        """GDAL settings that travel with the graph, to other processes too."""
        return self._access.limits.gdal()

    def open(self, src: RasterSource, ctx: Any) -> SceneReader:
        """A reader; nothing is opened yet."""
        return SceneReader(src, ctx, self._access, self._targets.get(src.uri))


def read_onto(
    file: rasterio.DatasetReader,
    index: int,
    geobox: GeoBox,
    resampling: str,
    nodata: float | None,
) -> tuple[tuple[slice, slice], np.ndarray]:
    """One band of an open file on a grid, copied where the grids agree, else resampled.

    Args:
        file: An open raster.
        index: One-based band.
        geobox: The wanted grid.
        resampling: `nearest` or `bilinear`.
        nodata: Stored value that means nothing, or None for the file's own.

    Returns:
        Where on the grid the file lies, and its stored values there as float64, NaN = no data.
    """
    if index > file.count or file.crs is None:
        raise RasterioIOError(
            "not recognized as being in a supported file format: a band or the CRS is missing"
        )
    crs = str(file.crs)
    if zone_of(crs) == str(geobox.crs):  # NAD83 and ETRS89 zones: see grids.py
        crs = str(geobox.crs)
    source = GeoBox((file.height, file.width), file.transform, crs)
    overlap = compute_reproject_roi(source, geobox, ttol=TOLERANCE)
    roi: Any = overlap.roi_dst
    empty = (slice(0, 0), slice(0, 0))
    if roi_is_empty(roi) or roi_is_empty(overlap.roi_src):
        return empty, np.zeros((0, 0))
    missing = file.nodatavals[index - 1] if nodata is None else nodata
    if overlap.paste_ok and overlap.read_shrink == 1:
        pixels = file.read(index, window=Window.from_slices(*overlap.roi_src)).astype("f8")
        if missing is not None and not math.isnan(missing):
            pixels[pixels == missing] = np.nan
        return roi, pixels
    pixels = np.full(roi_shape(roi), np.nan)
    rasterio.warp.reproject(
        rasterio.band(file, index),
        pixels,
        src_nodata=missing,
        dst_nodata=np.nan,
        init_dest_nodata=True,
        dst_crs=str(geobox.crs),
        dst_transform=geobox[roi].transform,
        resampling=Resampling[resampling],
    )
    return roi, pixels


def lazy_pixels(
    passes: Sequence[Sequence[Scene]],
    bands: Sequence[str],
    geobox: GeoBox,
    access: Access,
    *,
    masked: bool,
    resampling: str = "nearest",
) -> xr.Dataset:
    """Pixels of scenes as odc-stac loads them, one date per pass, nothing read yet.

    Args:
        passes: Scenes of each date, the preferred one first.
        bands: Names from the scenes' bands.
        geobox: The grid.
        access: What may be opened.
        masked: Whether to load the scene classification too, as `scl`.
        resampling: For bands; the classification is always taken from the nearest pixel.

    Returns:
        Dataset of (time, y, x) float32 in contract units, NaN = missing, and `scl` uint8, 0 =
        unknown; Dask-backed, chunks of one date and at least 512 x 512 pixels.
    """
    targets: dict[str, Target] = {}
    items, date_of = [], []
    for date, scenes in enumerate(passes):
        for scene in scenes:
            items.append(_item(scene, bands, masked, targets))
            date_of.append(date)
    wanted = [*bands, MASK] if masked else list(bands)
    side = CHUNK * math.ceil(max(geobox.shape) / (CHUNK * CHUNKS_ACROSS))
    return odc.stac.load(
        items,
        bands=wanted,
        geobox=geobox,
        chunks={"time": 1, "y": side, "x": side},
        groupby=lambda item, parsed, index: date_of[index],
        preserve_original_order=True,
        resampling={"*": resampling, MASK: "nearest"},
        driver=SceneDriver(access, targets),
    )


def _item(
    scene: Scene, bands: Sequence[str], masked: bool, targets: dict[str, Target]
) -> pystac.Item:
    """A plain item that says about pixels what our reader returns, not what the file holds."""
    item = pystac.Item(
        scene.item, shapely.geometry.mapping(scene.footprint), None, scene.moment, {}
    )
    wanted: dict[str, Part | None] = {band: scene.bands.get(band) for band in bands}
    if masked:
        wanted[MASK] = scene.mask
    for band, part in wanted.items():
        kind, nodata = ("uint8", 0) if band == MASK else ("float32", "nan")
        about: list[dict[str, Any]] = [{"data_type": kind, "nodata": nodata}]
        href = f"{ABSENT}{band}"
        if part is not None:
            # Several bands may be in one file: the band number makes each address its own.
            href, name = f"{part.href}#{part.index}", f"{scene.item}, {band},"
            targets[href] = Target(part.href, part.index, part.decode, name, band == MASK)
        item.add_asset(
            band, pystac.Asset(href, roles=["data"], extra_fields={"raster:bands": about})
        )
    return item
