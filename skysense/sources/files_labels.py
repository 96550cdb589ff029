"""Labels beside the images: what is known, or what another map says, on its own grid."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import odc.geo.xr
import xarray as xr
from pyogrio.errors import DataSourceError

from skysense.checks import shown
from skysense.errors import RecipeError
from skysense.sources.files_grid import located, moved, target_grid, zone_of
from skysense.sources.files_open import open_file
from skysense.sources.files_read import fetch
from skysense.sources.recipe import Recipe, read_recipe
from skysense.sources.recipe_fields import LabelSource, read_crs

VECTORS = (".geojson", ".json", ".gpkg")
MAX_VECTOR_BYTES = 500_000_000


def read_labels(
    recipe: Recipe | str | Path, name: str | None = None, scene: str | None = None
) -> xr.DataArray | gpd.GeoDataFrame:
    """The labels that a recipe describes under `[labels.NAME]`.

    Args:
        recipe: A recipe or its path.
        name: Which labels; may be left out if there is one kind.
        scene: Which place, for a recipe that has several.

    Returns:
        For a raster, a categorical field (y, x) float32: the position of the class in
        `attrs["categories"]`, NaN where there is no label; `attrs["values"]` are the stored codes.
        It is in a UTM zone, north up. For polygons or points, a GeoDataFrame as stored, with a
        column `class` where the recipe names one.

    Raises:
        RecipeError: If there are no such labels or the file cannot be read.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    known = dict(recipe.labels)
    if name is None and len(known) == 1:
        name = next(iter(known))
    if not isinstance(name, str) or name not in known:
        has = ", ".join(known) if known else "none"
        raise RecipeError(f"labels: {shown(name)} is not in {recipe.title!r}; it has {has}.")
    source = known[name]
    path = recipe.find(source.path, recipe.choose_scene(scene))[0]
    if path.suffix.lower() in VECTORS:
        return _vector(path, source)
    return _raster(path, source, recipe, name)


def _raster(path: Path, source: LabelSource, recipe: Recipe, name: str) -> xr.DataArray:
    file = open_file(path)
    layer = file.layer(source.variable, source.band)
    grid = located(file, "", None)
    target, notes = target_grid("hr", [grid])
    height, width = target.shape
    whole, _ = fetch(file, grid, [layer], target, [0], slice(0, height), slice(0, width))
    codes = whole[0, 0]
    legend = _legend(source, codes, path)
    field = np.full(codes.shape, np.nan, "f4")
    for position, code in enumerate(legend):
        field[codes == code] = position
    strangers = sorted(set(np.unique(codes[np.isfinite(codes) & np.isnan(field)]).tolist()))
    if strangers:
        notes.append(f"values {', '.join(f'{s:g}' for s in strangers)} are taken as unlabelled.")
    move = moved(grid, target, name)
    notes += [move + "."] if move else []
    notes += [source.note] if source.note else []
    array = xr.DataArray(
        field,
        dims=("y", "x"),
        coords={k: (k, np.asarray(v.values)) for k, v in target.coordinates.items()},
        name=name,
        attrs={
            "kind": "categorical",
            "long_name": name.replace("_", " "),
            "categories": list(legend.values()),
            "values": [float(code) for code in legend],
            "source": recipe.title,
            "licence": "; ".join(t for t in (recipe.licence, recipe.credit) if t),
            "notes": notes,
        },
    )
    return odc.geo.xr.assign_crs(array, zone_of(target))


def _legend(source: LabelSource, codes: np.ndarray, path: Path) -> dict[float, str]:
    """Stored value to class name; every value is its own class where no legend is given."""
    if not source.legend:
        values = np.unique(codes[np.isfinite(codes)])
        if len(values) > 1000:
            raise RecipeError(f"{path.name} holds {len(values):,} values; labels need a legend.")
        return {float(v): f"{v:g}" for v in values}
    try:
        return {float(code): text for code, text in source.legend}
    except ValueError as error:
        raise RecipeError(f"{path.name}: a legend for a raster needs numbers: {error}.") from error


def _vector(path: Path, source: LabelSource) -> gpd.GeoDataFrame:
    if path.stat().st_size > MAX_VECTOR_BYTES:
        raise RecipeError(f"{path.name} is too large ({path.stat().st_size / 1e6:,.0f} MB).")
    try:
        frame = _geopackage(path) if path.suffix.lower() == ".gpkg" else _geojson(path)
    except (DataSourceError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecipeError(f"{path.name} cannot be read as labels: {error}.") from error
    if source.column:
        if source.column not in frame.columns:
            has = ", ".join(map(str, frame.columns.drop("geometry")))
            raise RecipeError(f"{path.name} has no column {source.column!r}; it has {has}.")
        named = frame[source.column].astype(str)
        classes = dict(source.legend)
        frame["class"] = [classes.get(v) for v in named] if classes else named
    return frame


def _geopackage(path: Path) -> gpd.GeoDataFrame:
    with path.open("rb") as file:
        if file.read(15) != b"SQLite format 3":
            raise RecipeError(f"{path.name} is not a GeoPackage.")
    return gpd.read_file(path, engine="pyogrio")


def _geojson(path: Path) -> gpd.GeoDataFrame:
    """Parsed here, because GDAL would look behind the ending and follow what it finds."""
    content = json.loads(path.read_text(encoding="utf-8"))
    named = (content.get("crs") or {}).get("properties", {}).get("name", "EPSG:4326")
    frame = gpd.GeoDataFrame.from_features(content["features"])
    if frame.empty or frame.geometry.isna().any():
        raise RecipeError(f"{path.name} holds no features, or features without a geometry.")
    return frame.set_crs(read_crs(named))
