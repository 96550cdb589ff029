"""Results for other tools: features to Zarr or GeoTIFF, classes to GeoTIFF or GeoJSON.

Whatever is written says where it comes from, and is there whole or not at all. A Zarr store opens
with `xarray.open_zarr` (`.rio.crs` included), a GeoTIFF with QGIS or rioxarray, GeoJSON anywhere.
The store declares the Zarr conventions of `skysense.conventions`.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.shutil
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import assign_crs
from rasterio._err import CPLE_BaseError
from rasterio.features import shapes
from rasterio.io import MemoryFile
from zarr.errors import ZarrUserWarning

from skysense.analysis.pixels import check_categorical, check_features, geobox_of
from skysense.conventions import group_attrs
from skysense.disk import WHOLE, check_whole, lazily, path_of, reading, written
from skysense.errors import AnalysisError
from skysense.view.hues import of_categories, rgb_of

FEATURE_FILES = (".zarr", ".tif", ".tiff")
"""What features can be written to."""

CLASS_FILES = (".tif", ".tiff", ".geojson", ".json")
"""What classes can be written to."""


TAG = "SKYSENSE"
"""GeoTIFF tag that holds all attributes as JSON; the readable ones are repeated one by one."""

TIFF = {"driver": "COG", "COMPRESS": "ZSTD", "PREDICTOR": "YES", "RESAMPLING": "NEAREST",
        "BIGTIFF": "IF_SAFER"}  # fmt: skip
"""Overviews take the nearest value: a mean of feature vectors or of class codes means nothing."""

FEATURE_BLOCK = 128
"""Side of a GeoTIFF block of features; all bands of a block are stored together."""

MOST_BANDS = 4096


def save_features(features: xr.DataArray, path: str | Path, overwrite: bool = False) -> Path:
    """Write features with all they say about themselves; `open_features` gives them back.

    Args:
        features: (feature, y, x).
        path: A folder ending in `.zarr` (version 3), or a file ending in `.tif` (cloud-optimised,
            one band per feature, NaN where nothing was seen).
        overwrite: Replace what is there.

    Returns:
        The path.

    Raises:
        AnalysisError: If these are no features, the ending is another, or the path is taken or
            cannot be written.
    """
    check_features(features)
    path = check_free(path, FEATURE_FILES, overwrite)
    geobox = geobox_of(features)
    attrs = plain(features.attrs)
    if path.suffix == ".zarr":
        with written(path, AnalysisError) as partial:
            _write_zarr(features, geobox, attrs, partial)
        return path
    count = features.sizes["feature"]
    if count > MOST_BANDS:
        raise AnalysisError(
            f"{count:,} features are more bands than other tools open in one GeoTIFF "
            f"({MOST_BANDS:,}). Save them as .zarr, or their pca()."
        )
    names = [f"E{i:03d}" for i in range(count)]
    values = np.asarray(features.values, np.float32)
    tags = _tags(attrs)
    options = {**TIFF, "BLOCKSIZE": FEATURE_BLOCK}
    with written(path, AnalysisError, CPLE_BaseError) as partial:
        _write_tiff(values, geobox, np.nan, names, tags, None, options, partial)
    return path


def open_features(path: str | Path) -> xr.DataArray:
    """Features written by `save_features`, or streamed by `embed(out=...)`.

    A Zarr store is opened lazily.

    Raises:
        AnalysisError: If there are no features at the path, or they are damaged.
    """
    path = path_of(path, AnalysisError)
    if not path.exists():
        raise AnalysisError(f"There is nothing at {path}. save_features(features, path) writes it.")
    with reading(path, AnalysisError, "a Zarr store" if path.is_dir() else "a GeoTIFF"):
        features = _from_zarr(path) if path.is_dir() else _from_tiff(path)
    check_features(features)
    return features


def _from_zarr(path: Path) -> xr.DataArray:
    """Features of a store: lazy values, and coordinates that were read."""
    check_whole(path, AnalysisError)
    opened = xr.open_dataset(
        path, engine="zarr", chunks=None, cache=False, consolidated=False, decode_coords="all"
    )
    if "features" not in opened:
        raise AnalysisError(f"{path} is a Zarr store without features.")
    features = lazily(opened["features"].variable, path, AnalysisError, "features")
    return opened.drop_vars("features").load().assign(features=features)["features"]


def _from_tiff(path: Path) -> xr.DataArray:
    with rasterio.open(path) as file:
        text = file.tags().get(TAG)
        if text is None:
            raise AnalysisError(
                f"{path.name} is a GeoTIFF that save_features did not write: it does not say "
                "which encoder its bands come from."
            )
        geobox = GeoBox((file.height, file.width), file.transform, str(file.crs))
        values = file.read()
    axes = {name: (name, np.asarray(axis.values)) for name, axis in geobox.coordinates.items()}
    coords = {"feature": np.arange(len(values)), **axes}
    attrs = dict(json.loads(text))
    array = xr.DataArray(values, coords, ("feature", "y", "x"), name="features", attrs=attrs)
    return assign_crs(array, geobox.crs)


def save_classes(field: xr.DataArray, path: str | Path, overwrite: bool = False) -> Path:
    """Write a categorical field.

    Args:
        field: (y, x) categorical: classes, groups or prototypes.
        path: A file ending in `.tif` (cloud-optimised, class numbers with names and colours) or
            `.geojson` (one feature per class, in degrees, sharing borders exactly).
        overwrite: Replace what is there.

    Returns:
        The path.

    Raises:
        AnalysisError: If the field is not categorical or empty, the ending is another, or the path
            is taken or cannot be written.
    """
    categories = check_categorical(field)
    values = np.asarray(field.values)
    if not np.isfinite(values).any():
        raise AnalysisError("The field is empty: there is no class to write.")
    path = check_free(path, CLASS_FILES, overwrite)
    geobox = geobox_of(field)
    attrs = plain(field.attrs)
    colours = of_categories(attrs, len(categories))
    if path.suffix in (".geojson", ".json"):
        frame = _polygons(values, geobox, categories, colours)
        with written(path, AnalysisError) as partial:
            partial.write_text(_geojson(frame, attrs), "utf-8")
        return path
    kind, nothing = (np.uint8, 255) if len(categories) <= 255 else (np.uint16, 65_535)
    codes = np.where(np.isfinite(values), values, nothing).astype(kind)
    table = {i: (*rgb_of(colour), 255) for i, colour in enumerate(colours[:nothing])}
    table[nothing] = (0, 0, 0, 0)
    tags = _tags(attrs) | {f"CLASS_{i}": name for i, name in enumerate(categories)}
    names = [str(field.attrs.get("long_name", "class"))]
    legend = (table, categories)
    with written(path, AnalysisError, CPLE_BaseError) as partial:
        _write_tiff(codes[None], geobox, nothing, names, tags, legend, TIFF, partial)
    return path


def plain(attrs: Any) -> dict[str, Any]:
    """Attributes as JSON keeps them: strings, numbers, and lists of these.

    Raises:
        AnalysisError: For an attribute that cannot be kept.
    """
    kept = {}
    for key, value in attrs.items():
        one = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        one = list(one) if isinstance(one, tuple) else one
        one = int(one) if isinstance(one, bool) else one
        flat = one if isinstance(one, list) else [one]
        if not all(isinstance(v, str | int | float) for v in flat):
            raise AnalysisError(
                f"The attribute {key!r} is a {type(value).__name__}, which files cannot keep. "
                "Make it a string, a number or a list of these."
            )
        kept[str(key)] = one
    return kept


def check_free(path: str | Path, endings: tuple[str, ...], overwrite: bool = False) -> Path:
    """The path, if a file of one of these endings can be written there.

    Raises:
        AnalysisError: For another ending, a name that is taken, or a folder that is not there.
    """
    path = path_of(path, AnalysisError)
    if path.suffix.lower() not in endings:
        raise AnalysisError(
            f"{path.name!r} ends in {path.suffix or 'nothing'!r}; this can be written as "
            f"{' or '.join(endings)}."
        )
    if path.exists() and not overwrite:
        raise AnalysisError(
            f"{path} is already there. Choose another name, or pass overwrite=True."
        )
    if not path.parent.is_dir():
        raise AnalysisError(f"There is no folder {path.parent}. Make it first.")
    return path


def _write_zarr(features: xr.DataArray, geobox: GeoBox, attrs: dict[str, Any], path: Path) -> None:
    kept = {"feature", "y", "x"} & set(features.coords)
    bare = features.reset_coords(drop=True).drop_vars(set(features.coords) - kept, errors="ignore")
    bare = assign_crs(bare.astype("f4"), geobox.crs)
    bare.encoding, bare.attrs, bare.name = {}, attrs, "features"
    rows, columns = geobox.shape
    sides = {"y": min(64, rows), "x": min(64, columns)}
    store = bare.chunk({"feature": -1, **sides}).to_dataset()
    store.attrs = {WHOLE: [], **group_attrs(geobox, features.sizes["feature"], attrs)}
    with warnings.catch_warnings():
        # zarr warns that the specification does not have this yet; xarray warns if it is missing
        warnings.simplefilter("ignore", ZarrUserWarning)
        store.to_zarr(path, mode="w", zarr_format=3, consolidated=True, write_empty_chunks=True)


def _tags(attrs: dict[str, Any]) -> dict[str, str]:
    words = {
        key: ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
        for key, value in attrs.items()
    }
    return {**words, TAG: json.dumps(attrs)}


def _write_tiff(
    values: np.ndarray,
    geobox: GeoBox,
    nothing: float,
    names: list[str],
    tags: dict[str, str],
    legend: tuple[dict[int, tuple[int, ...]], list[str]] | None,
    options: dict[str, Any],
    path: Path,
) -> None:
    bands, height, width = values.shape
    profile = {
        "driver": "GTiff", "count": bands, "height": height, "width": width,
        "dtype": values.dtype, "crs": str(geobox.crs), "transform": geobox.transform,
        "nodata": nothing,
    }  # fmt: skip
    with MemoryFile() as memory, memory.open(**profile) as file:
        file.write(values)
        file.descriptions = tuple(names)
        file.update_tags(**tags)
        if legend is not None:
            file.write_colormap(1, legend[0])
        rasterio.shutil.copy(file, path, **options)


def _polygons(
    values: np.ndarray, geobox: GeoBox, categories: list[str], colours: list[str]
) -> gpd.GeoDataFrame:
    """One multi-polygon per class, along cell borders."""
    seen = np.isfinite(values)
    codes = np.where(seen, values, -1).astype(np.int32)
    found = [(shapely.geometry.shape(g), int(code)) for g, code in shapes(codes, mask=seen)]
    areas = _with_shared_corners(np.array([area for area, _ in found]), codes)
    to_metres = geobox.transform
    areas = shapely.transform(
        areas,
        lambda at: np.column_stack(
            [to_metres.a * at[:, 0] + to_metres.c, to_metres.e * at[:, 1] + to_metres.f]
        ),
    )
    parts: dict[int, list[Any]] = {}
    for area, (_, code) in zip(areas, found, strict=True):
        parts.setdefault(code, []).append(area)
    codes_found = sorted(parts)
    frame = gpd.GeoDataFrame(
        {
            "class": [categories[c] for c in codes_found],
            "number": codes_found,
            "colour": [colours[c] for c in codes_found],
        },
        geometry=[shapely.MultiPolygon(parts[c]) for c in codes_found],
        crs=str(geobox.crs),
    )
    frame["area_m2"] = frame.area.round(1)
    return frame.to_crs("EPSG:4326")


def _with_shared_corners(areas: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Areas in cell units, each with a corner wherever any two borders meet.

    Where three areas meet, the one with the straight border has no corner of its own, and
    reprojection would open a gap there.
    """
    around = np.pad(codes, 1, constant_values=-1)
    a, b, c, d = around[:-1, :-1], around[:-1, 1:], around[1:, :-1], around[1:, 1:]
    corner = ~(((a == c) & (b == d)) | ((a == b) & (c == d)))  # (rows + 1, columns + 1)
    rings, area = shapely.get_rings(shapely.segmentize(areas, 1.0), return_index=True)
    places, ring = shapely.get_coordinates(rings, return_index=True)
    column, row = np.rint(places).astype(int).T
    keep = corner[row, column]
    kept = shapely.linearrings(np.column_stack([column, row])[keep], indices=ring[keep])
    return np.atleast_1d(shapely.polygons(kept, indices=area))


def _geojson(frame: gpd.GeoDataFrame, attrs: dict[str, Any]) -> str:
    """A collection with provenance as a member of its own, and on each feature what matters."""
    for key in ("encoder", "weights", "weights_licence", "data_licence", "synthetic", "untrained"):
        if key in attrs:
            frame[key] = attrs[key]
    collection = json.loads(frame.to_json(drop_id=True))
    collection.pop("crs", None)  # RFC 7946: GeoJSON is always in degrees
    return json.dumps({**collection, "skysense": attrs}, allow_nan=False)
