"""One's own labels: from a file to classes on the grid, and to training points."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import rasterio.errors
import xarray as xr
from pyogrio.errors import DataSourceError
from rasterio.enums import Resampling
from rasterio.warp import reproject

from skysense.analysis.pixels import check_features, field_like, geobox_of, provenance
from skysense.analysis.places import burn, extent_sentence, place_of
from skysense.checks import seed_of, shown, whole
from skysense.disk import path_of
from skysense.errors import AnalysisError

RASTERS = (".tif", ".tiff", ".vrt", ".img")
VECTORS = (".geojson", ".json", ".gpkg", ".shp", ".fgb", ".parquet")

MOST_CLASSES = 255
"""A label file with more distinct values holds measurements, not classes."""


def label_field(
    source: str | Path | xr.DataArray,
    features: xr.DataArray,
    column: str | int | None = None,
    names: Mapping[Any, str] | None = None,
) -> xr.DataArray:
    """Labels of a file on the grid of the features.

    Args:
        source: GeoJSON, GeoPackage, Shapefile; a raster of class codes; or a DataArray (y, x).
        features: (feature, y, x), whose grid is used.
        column: Which column of a vector file holds the class, or which band (from 1) of a raster.
        names: What the values are called; others keep their value as name.

    Returns:
        (y, x) categorical, NaN where there is no label. Rasters are resampled to the nearest
        value; a polygon labels the cells whose centre it holds.

    Raises:
        AnalysisError: If the file cannot be read, has no CRS, does not say which column, or does
            not overlap the features.
    """
    check_features(features)
    _check_words(column, names)
    if isinstance(source, xr.DataArray):
        codes, known, title = *_from_array(source, features), "labels"
    else:
        path = path_of(source, AnalysisError, "source")
        title = path.name
        if not path.is_file():
            raise AnalysisError(f"There is no label file {path}. Check the path.")
        if path.suffix.lower() in RASTERS:
            codes, known = _from_raster(path, features, column), {}
        elif path.suffix.lower() in VECTORS:
            codes, known = _from_vector(path, features, column)
        else:
            raise AnalysisError(
                f"{path.name} is neither a vector ({', '.join(VECTORS)}) nor a raster "
                f"({', '.join(RASTERS)}). Convert it to GeoJSON or GeoTIFF."
            )
    values = np.unique(codes[np.isfinite(codes)])
    if not len(values):
        raise AnalysisError(
            f"{title} has no label on the features: {extent_sentence(features)}. "
            "Check that both are the same place."
        )
    if len(values) > MOST_CLASSES:
        raise AnalysisError(
            f"{title} has {len(values):,} distinct values; classes are at most {MOST_CLASSES}. "
            "Is it a measurement, or the wrong band or column?"
        )
    texts = [_name(value, known, names) for value in values]
    categories = list(dict.fromkeys(texts))  # two codes of one name are one class
    number = np.array([categories.index(text) for text in texts])
    grid = np.full(codes.shape, np.nan, np.float32)
    inside = np.isfinite(codes)
    grid[inside] = number[np.searchsorted(values, codes[inside])]
    attrs = {
        **provenance(features),
        "kind": "categorical",
        "family": "class",
        "long_name": f"labels of {title}",
        "units": "",
        "categories": categories,
    }
    return field_like(features, grid, attrs)


def training_points(
    source: str | Path | xr.DataArray,
    features: xr.DataArray,
    column: str | int | None = None,
    names: Mapping[Any, str] | None = None,
    per_class: int = 200,
    seed: int = 0,
) -> dict[str, list[tuple[float, float]]]:
    """Labelled places for `segment`, drawn from one's own label file.

    Args:
        source: As for `label_field`.
        features: Where they are needed; only pixels where something was seen are drawn.
        column: As for `label_field`.
        names: As for `label_field`.
        per_class: How many points of each class at most.
        seed: Of the draw.

    Returns:
        {class: [(lon, lat), ...]}, cell centres in row order.

    Raises:
        AnalysisError: As `label_field`; or if nothing was seen wherever there are labels.
    """
    per_class = whole("per_class", per_class, 1, None, AnalysisError)
    seed = seed_of(seed, AnalysisError)
    field = label_field(source, features, column, names)
    seen = np.isfinite(features.values).all(0)
    rng = np.random.default_rng(seed)
    points = {}
    for i, name in enumerate(field.attrs["categories"]):
        cells = np.flatnonzero((field.values == i) & seen)
        if len(cells) > per_class:
            cells = np.sort(rng.choice(cells, per_class, replace=False))
        if len(cells):
            points[name] = place_of(features, *np.unravel_index(cells, seen.shape))
    if not points:
        raise AnalysisError(
            "Nothing valid was seen on any labelled pixel. Choose clearer dates or other labels."
        )
    return points


def _check_words(column: Any, names: Any) -> None:
    if column is not None and (isinstance(column, bool) or not isinstance(column, str | int)):
        raise AnalysisError(
            f"column={shown(column)} is neither the name of a column or band nor a band's number."
        )
    if names is not None and not isinstance(names, Mapping):
        raise AnalysisError(f"names={shown(names)} is not a table {{value: name}}; leave it out.")


def _from_array(labels: xr.DataArray, features: xr.DataArray) -> tuple[np.ndarray, dict]:
    if labels.ndim != 2:
        raise AnalysisError(f"Labels are (y, x), but this array has the axes {labels.dims}.")
    if labels.dtype.kind not in "biuf":
        raise AnalysisError(f"Labels are numbers of classes, but this array holds {labels.dtype}.")
    values = np.asarray(labels.values, np.float64)
    categories = labels.attrs.get("categories", [])
    known = {float(i): str(name) for i, name in enumerate(categories)}
    ours, theirs = geobox_of(features), geobox_of(labels)
    if ours == theirs:
        return values, known
    return _nearest(values, theirs.transform, theirs.crs, features), known


def _from_raster(path: Path, features: xr.DataArray, column: str | int | None) -> np.ndarray:
    try:
        with rasterio.open(path) as file:
            if file.crs is None:
                raise AnalysisError(
                    f"{path.name} has no CRS, so its place is unknown. "
                    "Assign one with gdal_edit.py -a_srs."
                )
            band = _band(file, path, column)
            values = file.read(band, masked=True)
            codes = np.where(np.ma.getmaskarray(values), np.nan, values.data.astype(np.float64))
            return _nearest(codes, file.transform, file.crs, features)
    except rasterio.errors.RasterioError as error:
        raise AnalysisError(f"{path.name} cannot be read as a raster: {error}.") from error


def _band(file: Any, path: Path, column: str | int | None) -> int:
    described = [text or str(i) for i, text in enumerate(file.descriptions, start=1)]
    if column is None and file.count == 1:
        return 1
    choices = {**{str(i + 1): i + 1 for i in range(file.count)}}
    choices |= {text: i for i, text in enumerate(described, start=1)}
    if column is None or str(column) not in choices:
        asked = "does not say which holds the class" if column is None else f"has no {column!r}"
        raise AnalysisError(
            f"{path.name} has {file.count} bands ({', '.join(described)}) and the call {asked}. "
            "Pass column=, a band's name or its number from 1."
        )
    return choices[str(column)]


def _nearest(codes: np.ndarray, transform: Any, crs: Any, features: xr.DataArray) -> np.ndarray:
    geobox = geobox_of(features)
    out = np.full(geobox.shape, np.nan)
    reproject(
        codes,
        out,
        src_transform=transform,
        src_crs=str(crs),
        src_nodata=np.nan,
        dst_transform=geobox.transform,
        dst_crs=str(geobox.crs),
        dst_nodata=np.nan,
        resampling=Resampling.nearest,
    )
    return out


def _from_vector(
    path: Path, features: xr.DataArray, column: str | int | None
) -> tuple[np.ndarray, dict[float, str]]:
    try:
        frame = gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path)
    except (DataSourceError, OSError, ValueError) as error:
        raise AnalysisError(f"{path.name} cannot be read as a vector file: {error}.") from error
    if frame.crs is None:
        raise AnalysisError(
            f"{path.name} has no CRS, so its place is unknown. "
            "Write one into it with geopandas: frame.set_crs('EPSG:4326')."
        )
    name = _column(frame, path, column)
    geobox = geobox_of(features)
    frame = frame[frame[name].notna() & frame.geometry.notna() & ~frame.geometry.is_empty]
    if frame.empty:
        raise AnalysisError(f"{path.name}: no row has both a geometry and a value of {name!r}.")
    values = frame[name]
    texts = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values]
    codes, found = pd.factorize(np.array(texts, object), sort=True)
    out = np.full(geobox.shape, np.nan)
    for code, shape in zip(codes, frame.to_crs(str(geobox.crs)).geometry, strict=True):
        out[burn(shape, geobox)] = code
    return out, {float(i): str(text) for i, text in enumerate(found)}


def _column(frame: gpd.GeoDataFrame, path: Path, column: str | int | None) -> str:
    columns = [str(c) for c in frame.columns if c != frame.geometry.name]
    if column is None and len(columns) == 1:
        return columns[0]
    if column is None or str(column) not in columns:
        asked = "which one holds the class is not said" if column is None else f"not {column!r}"
        raise AnalysisError(
            f"{path.name} has the columns {', '.join(columns) or 'none'}; {asked}. "
            "Pass column= with one of them."
        )
    return str(column)


def _name(value: float, known: Mapping[float, str], names: Mapping[Any, str] | None) -> str:
    text = known.get(float(value), str(int(value)) if float(value).is_integer() else str(value))
    for key in (value, text):
        if names is not None and key in names:
            return str(names[key])
    return text
