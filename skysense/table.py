"""Features as a table for databases: GeoParquet, one row for each cell at which something was seen.

Opens with `geopandas.read_parquet`, DuckDB and whatever reads Parquet. The columns are those that
readers of embedding tables look for (TorchGeo, Earth Index): `id`, `embedding`, `geometry`,
`datetime`; version 1.1.0 of https://geoparquet.org.
"""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import xarray as xr
from pyproj import CRS, Transformer

from skysense.analysis.pixels import check_categorical, check_features, geobox_of, table
from skysense.checks import choice, shown
from skysense.conventions import code_of, days
from skysense.disk import written
from skysense.errors import AnalysisError
from skysense.export import check_free, plain

GEOMETRIES = ("point", "footprint")

COLUMNS = ("id", "embedding", "geometry", "datetime", "first_date", "last_date", "model",
           "weights", "bbox")  # fmt: skip
"""Names that a field may not take."""

ROWS = 16_384
"""Rows of one group: what a reader fetches at once."""


def save_table(
    features: xr.DataArray,
    path: str | Path,
    overwrite: bool = False,
    *,
    geometry: str = "point",
    **fields: xr.DataArray,
) -> Path:
    """Write features as GeoParquet, one row per seen cell, near cells near each other in the file.

    Args:
        features: (feature, y, x).
        path: A file ending in `.parquet`.
        overwrite: Replace what is there.
        geometry: `point` (centre of the cell) or `footprint` (its square), in degrees.
        **fields: Fields (y, x) on the same grid, each a column of its name: category names of a
            categorical field, numbers of any other, nothing where the field holds nothing.

    Returns:
        The path. Columns: `id` (`EPSG_easting_northing_resolution`, the same for the same cell in
        every file), `embedding` (fixed-size list of float32), `geometry`, `datetime` (middle of the
        dates that entered), `first_date`, `last_date`, `model`, `weights`, `bbox`, and the fields.

    Raises:
        AnalysisError: If these are no features, nothing was seen, a field does not fit, the path is
            taken or cannot be written, or the package pyarrow is not there.
    """
    check_features(features)
    choice("geometry", geometry, GEOMETRIES, AnalysisError)
    path = check_free(path, (".parquet",), overwrite)
    pixels = table(features)
    columns = {name: _column(name, field, features) for name, field in fields.items()}
    arrow = _arrow()
    geobox = geobox_of(features)
    rows, cols = np.nonzero(pixels.seen)
    shapes = _shapes(geobox, rows, cols, geometry)
    order = np.argsort(gpd.GeoSeries(shapes).hilbert_distance().to_numpy(), kind="stable")
    values = np.ascontiguousarray(pixels.values[order], np.float32)
    rows, cols, shapes = rows[order], cols[order], shapes[order]
    first, middle, last = _moments(features.attrs)
    count, dim = values.shape
    bounds = shapely.bounds(shapes)
    data = {
        "id": _names(geobox, rows, cols),
        "embedding": arrow.FixedSizeListArray.from_arrays(arrow.array(values.ravel()), dim),
        "geometry": arrow.array(list(shapely.to_wkb(shapes)), arrow.binary()),
        "datetime": _repeated(arrow, middle, count, arrow.timestamp("ms", "UTC")),
        "first_date": _repeated(arrow, first, count, arrow.date32()),
        "last_date": _repeated(arrow, last, count, arrow.date32()),
        "model": _repeated(arrow, str(features.attrs.get("encoder", "")), count),
        "weights": _repeated(arrow, str(features.attrs.get("weights", "")), count),
        "bbox": arrow.StructArray.from_arrays(
            [arrow.array(bounds[:, i]) for i in range(4)], ["xmin", "ymin", "xmax", "ymax"]
        ),
    }
    for name, column in columns.items():
        data[name] = arrow.array(column[rows, cols], from_pandas=True)
    facts = {"geo": _geo(bounds, geometry), "skysense": json.dumps(plain(features.attrs))}
    whole = arrow.table(data).replace_schema_metadata(facts)
    parquet = importlib.import_module("pyarrow.parquet")
    with written(path, AnalysisError) as partial:
        parquet.write_table(whole, partial, compression="zstd", row_group_size=ROWS)
    return path


def _arrow() -> Any:
    try:
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise AnalysisError(
            "GeoParquet needs the package pyarrow, which is not installed. Run `pip install "
            "pyarrow`, or use save_features to write .zarr or .tif."
        ) from error


def _column(name: str, field: Any, features: xr.DataArray) -> np.ndarray:
    """A field as (y, x) names or numbers."""
    if name in COLUMNS:
        raise AnalysisError(
            f"A field cannot be called {name!r}: the table has a column of that name. Pass it under "
            "another one."
        )
    is_array = isinstance(field, xr.DataArray)
    if not is_array or field.dims != ("y", "x") or field.dtype.kind not in "biuf":
        found = f"an array with the axes {field.dims}" if is_array else shown(field)
        raise AnalysisError(f"{name} must be a (y, x) field of numbers or classes, not {found}.")
    if geobox_of(field) != geobox_of(features):
        raise AnalysisError(
            f"{name} lies on another grid than the features. Make it from these features."
        )
    values = np.asarray(field.values)
    if field.attrs.get("kind") != "categorical":
        return values.astype(np.float64 if values.dtype == np.float64 else np.float32)
    names = np.array([*check_categorical(field, name), None], object)
    return names[np.where(np.isfinite(values), values, -1).astype(int)]


def _shapes(geobox: Any, rows: np.ndarray, cols: np.ndarray, geometry: str) -> np.ndarray:
    """Centres or squares of cells, in degrees."""
    to_degrees = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True)
    transform = geobox.transform

    def corner(right: float, down: float) -> np.ndarray:
        x, y = transform.c + transform.a * (cols + right), transform.f + transform.e * (rows + down)
        return np.column_stack(to_degrees.transform(x, y))

    if geometry == "point":
        return shapely.points(corner(0.5, 0.5))
    # counter-clockwise from the lower left, closed
    corners = [corner(*at) for at in ((0, 1), (1, 1), (1, 0), (0, 0), (0, 1))]
    return shapely.polygons(np.stack(corners, axis=1))


def _names(geobox: Any, rows: np.ndarray, cols: np.ndarray) -> list[str]:
    """A name of each cell that says where it is."""
    transform = geobox.transform
    x = transform.c + transform.a * (cols + 0.5)
    y = transform.f + transform.e * (rows + 0.5)
    number, step = code_of(geobox).removeprefix("EPSG:"), f"{abs(transform.a):g}"
    return [f"{number}_{a:.1f}_{b:.1f}_{step}" for a, b in zip(x, y, strict=True)]


def _moments(attrs: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """First day, middle and last day of what entered; None if no date is known."""
    known = days(attrs)
    if not known:
        return None, None, None
    first, last = pd.Timestamp(known[0], tz="UTC"), pd.Timestamp(known[-1], tz="UTC")
    return first.date(), (first + (last - first) / 2).to_pydatetime(), last.date()


def _repeated(arrow: Any, value: Any, count: int, kind: Any = None) -> Any:
    """One value in every row."""
    if value is None:
        return arrow.nulls(count, kind)
    return arrow.repeat(arrow.scalar(value, kind), count)


def _geo(bounds: np.ndarray, geometry: str) -> str:
    """The `geo` metadata of GeoParquet 1.1.0."""
    column = {
        "encoding": "WKB",
        "geometry_types": ["Point" if geometry == "point" else "Polygon"],
        "crs": CRS.from_user_input("OGC:CRS84").to_json_dict(),
        "edges": "planar",
        "bbox": [*bounds[:, :2].min(0).tolist(), *bounds[:, 2:].max(0).tolist()],
        "covering": {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}},
    }
    if geometry == "footprint":
        column["orientation"] = "counterclockwise"
    facts = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    return json.dumps(facts)
