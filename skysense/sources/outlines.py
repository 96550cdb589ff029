"""Places from a file: GeoJSON or GeoPackage, one region for every outline in it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import shapely

from skysense.checks import whole
from skysense.disk import path_of, reading
from skysense.errors import RegionError
from skysense.geojson import checked_polygon
from skysense.region import Region

SUFFIXES = (".geojson", ".json", ".gpkg")

MOST = 8
"""Most places taken from one file; more is a data set and not a handful of places."""

MAX_FILE = 20_000_000
"""Largest file that is read (bytes)."""

_NAMES = ("name", "Name", "NAME", "id", "title")


def read_regions(path: str | Path, time: str | tuple[str, str], most: int = MOST) -> list[Region]:
    """One region for every polygon of a file.

    Args:
        path: GeoJSON (`.geojson`, `.json`; degrees) or GeoPackage (`.gpkg`; any CRS), up to 20 MB.
        time: The period of every region, as for `Region`.
        most: How many outlines are taken at most.

    Returns:
        Regions in the file's order, named by its `name` (or `id`, `title`), else by its file name.

    Raises:
        RegionError: If the file cannot be read, holds something other than polygons or too many
            of them, or one of them is no usable region.
    """
    path = path_of(path, RegionError)
    most = whole("most", most, 1, 10_000, RegionError)
    if path.suffix.lower() not in SUFFIXES:
        raise RegionError(f"{path.name} is not a file of outlines. Use {', '.join(SUFFIXES)}.")
    with reading(path, RegionError, "a file of outlines"):
        if path.stat().st_size > MAX_FILE:
            raise RegionError(f"{path.name} is over {MAX_FILE / 1e6:.0f} MB. Simplify it first.")
        if path.suffix.lower() == ".gpkg":
            found = _of_geopackage(path)
        else:
            found = _of_geojson(json.loads(path.read_text(encoding="utf-8-sig")))
    if not found:
        raise RegionError(f"{path.name} holds no outline. Draw a polygon in it first.")
    if len(found) > most:
        raise RegionError(
            f"{path.name} holds {len(found):,} outlines; at most {most} are taken as places at "
            "once. Keep the ones you want."
        )
    many = len(found) > 1
    regions = []
    for number, (geometry, properties) in enumerate(found, 1):
        name = next((str(properties[k]) for k in _NAMES if properties.get(k)), "")
        name = name or (f"{path.stem} {number}" if many else path.stem)
        regions.append(Region.from_geojson(geometry, time, name[:60]))
    return regions


def _of_geojson(parsed: Any) -> list[tuple[dict[str, Any], Mapping[str, Any]]]:
    if not isinstance(parsed, dict):
        raise RegionError("The GeoJSON is not an object with a `type`.")
    each = parsed.get("features") if parsed.get("type") == "FeatureCollection" else [parsed]
    if not isinstance(each, list):
        raise RegionError("The GeoJSON collection has no list of features.")
    found = []
    for item in each:
        feature = item if isinstance(item, dict) else {}
        properties = feature.get("properties")
        geometry = feature.get("geometry") if feature.get("type") == "Feature" else feature
        found.append((geometry or {}, properties if isinstance(properties, dict) else {}))
    return found


def _of_geopackage(path: Path) -> list[tuple[dict[str, Any], Mapping[str, Any]]]:
    import geopandas

    table = geopandas.read_file(path, rows=MOST * 200)
    if table.crs is None:
        raise RegionError(f"{path.name} does not say its coordinate system. Assign one first.")
    table = table.to_crs("EPSG:4326")
    plain = table.drop(columns=table.geometry.name).to_dict("records")
    return [
        (json.loads(shapely.to_geojson(checked_polygon(shape))), row)
        for shape, row in zip(table.geometry, plain, strict=True)
    ]


__all__ = ["read_regions"]
