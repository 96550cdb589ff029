"""GeoJSON as people give it: text, a file or a parsed object, and everything that can be wrong."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from skysense.errors import RegionError

MAX_FILE = 50_000_000
"""Largest GeoJSON file that is read (bytes)."""

MAX_VERTICES = 200_000
"""Most corners of one outline; more is a data set, and checking it takes seconds."""


def parse_geojson(source: str | Path | dict[str, Any]) -> tuple[BaseGeometry, dict[str, Any]]:
    """One polygon and its properties from GeoJSON text, a file, or a parsed object.

    Args:
        source: Parsed GeoJSON, its text, or the path of a file.

    Raises:
        RegionError: For anything but one valid polygon in longitude and latitude.
    """
    parsed = _read_json(source)
    properties: Any = {}
    if parsed.get("type") == "FeatureCollection":
        features = parsed.get("features")
        if not isinstance(features, list) or len(features) != 1:
            count = len(features) if isinstance(features, list) else "no"
            raise RegionError(
                f"The GeoJSON has {count} features; a region is one polygon. Pick one of them."
            )
        parsed = features[0] if isinstance(features[0], dict) else {}
    if parsed.get("type") == "Feature":
        properties = parsed.get("properties") or {}
        parsed = parsed.get("geometry") or {}
    kind = parsed.get("type") if isinstance(parsed, dict) else None
    if not isinstance(kind, str) or kind not in {"Polygon", "MultiPolygon"}:
        raise RegionError(f"The GeoJSON geometry is {str(kind)[:40]!r}; a region is a Polygon.")
    if not isinstance(properties, dict):
        raise RegionError("The GeoJSON properties are not an object.")
    return checked_polygon(_polygon(kind, parsed.get("coordinates"))), properties


def checked_polygon(geometry: BaseGeometry) -> BaseGeometry:
    """The geometry, if it is a usable outline.

    Raises:
        RegionError: If it is no polygon, is empty, crosses itself, has coordinates that are not
            numbers, or too many of them.
    """
    if not isinstance(geometry, shapely.Polygon | shapely.MultiPolygon):
        kind = getattr(geometry, "geom_type", type(geometry).__name__)
        raise RegionError(f"The geometry is a {kind}; a region is a Polygon.")
    if geometry.is_empty:
        raise RegionError("The polygon is empty. Draw at least three corners.")
    _check_count(shapely.get_num_coordinates(geometry))
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise RegionError("The polygon has coordinates that are not finite numbers.")
    if not geometry.is_valid:
        why = shapely.is_valid_reason(geometry)
        raise RegionError(f"The polygon crosses itself or is broken ({why}). Draw it again.")
    return geometry


def _check_count(corners: int) -> None:
    if corners > MAX_VERTICES:
        raise RegionError(
            f"The polygon has {corners:,} corners, more than {MAX_VERTICES:,}. Simplify it first."
        )


def as_geojson(geometry: BaseGeometry) -> dict[str, Any]:
    """A geometry as GeoJSON lists of numbers, exactly as they are."""
    return json.loads(json.dumps(shapely.geometry.mapping(geometry)))


def _polygon(kind: str, coordinates: Any) -> BaseGeometry:
    """A shapely geometry from GeoJSON coordinates of which nothing is known yet."""
    try:
        if kind == "Polygon":
            return shapely.Polygon(*_rings(coordinates))
        parts = _listed(coordinates, "a MultiPolygon is a list of polygons")
        return shapely.MultiPolygon([shapely.Polygon(*_rings(part)) for part in parts])
    except (shapely.errors.ShapelyError, ValueError, TypeError, OverflowError) as error:
        raise RegionError(f"The GeoJSON polygon cannot be read: {error}.") from error


def _rings(rings: Any) -> tuple[list, list]:
    """Shell and holes as lists of (lon, lat); heights are dropped."""
    rings = [
        _listed(ring, "a ring is a list of positions")
        for ring in _listed(rings, "a polygon is a list of rings")
    ]
    _check_count(sum(len(ring) for ring in rings))  # before anything slow is done with them
    plain = [[_position(position) for position in ring] for ring in rings]
    return (plain[0], plain[1:]) if plain else ([], [])


def _listed(value: Any, rule: str) -> list | tuple:
    if not isinstance(value, list | tuple):
        raise TypeError(rule)
    return value


def _position(position: Any) -> tuple[float, float]:
    if not isinstance(position, list | tuple) or len(position) < 2:
        raise TypeError("a position is [longitude, latitude]")
    x, y = position[0], position[1]
    # bool counts as int in Python, but true is no longitude
    if type(x) not in (int, float) or type(y) not in (int, float):
        raise TypeError("a position is two numbers")
    longitude, latitude = float(x), float(y)
    if not (math.isfinite(longitude) and math.isfinite(latitude)):
        raise ValueError("a position has a coordinate that is not a finite number")
    return longitude, latitude


def _read_json(source: str | Path | dict[str, Any]) -> dict[str, Any]:
    if isinstance(source, dict):
        return source
    if not isinstance(source, str | Path):
        raise RegionError(
            f"A {type(source).__name__} is not GeoJSON. Give its text, a file or a parsed object."
        )
    text = str(source).lstrip("\ufeff")
    if isinstance(source, Path) or not text.lstrip().startswith(("{", "[")):
        text = _read_file(Path(source))
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for integers without end
        raise RegionError(f"This is not JSON: {error}.") from error
    if not isinstance(parsed, dict):
        raise RegionError("The GeoJSON is not an object with a `type`.")
    return parsed


def _read_file(path: Path) -> str:
    name = path.name[:80]
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8-sig") if size <= MAX_FILE else ""
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a name with a null byte
        raise RegionError(f"{name!r} cannot be read as GeoJSON: {error}.") from error
    if size > MAX_FILE:
        raise RegionError(f"{name} is over {MAX_FILE / 1e6:.0f} MB. Simplify the outline first.")
    return text


__all__ = ["as_geojson", "checked_polygon", "parse_geojson"]
