"""Labels in a file that any GIS opens, and back again: the same marks, so the same map.

GeoJSON in degrees, one feature per point or polygon with the properties `class`, `colour` and
`order` (of the class, from 0); a class without marks is a feature without geometry. Numbers are
written as they are, so nothing moves.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import shapely

from skysense.analysis.marks import LabelClass, Labels
from skysense.checks import as_number, shown
from skysense.disk import path_of, written
from skysense.errors import AnalysisError, RegionError
from skysense.export import check_free, plain
from skysense.geojson import as_geojson, parse_geojson
from skysense.view.hues import is_colour, of_categories

LABEL_FILES = (".geojson", ".json")

LARGEST = 20_000_000
"""Bytes of a label file that are read."""

MOST_MARKS = 50_000
MOST_CLASSES = 64
LONGEST = 200
"""Characters of a class's name that are read."""


def save_labels(
    labels: Labels,
    path: str | Path,
    attrs: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write labels; `open_labels` gives them back, and they give the same map.

    Args:
        labels: Classes with their marks.
        path: A file ending in `.geojson`.
        attrs: What else the file should say, such as the attributes of the features that they were
            made on; kept in the member `skysense`.
        overwrite: Replace what is there.

    Returns:
        The path.

    Raises:
        AnalysisError: If these are no labels, the ending is another, or the path is taken or cannot
            be written.
    """
    text = labels_text(labels, attrs)
    path = check_free(path, LABEL_FILES, overwrite)
    with written(path, AnalysisError) as partial:
        partial.write_text(text, "utf-8")
    return path


def open_labels(path: str | Path) -> Labels:
    """Labels written by `save_labels`, or points and polygons with a property `class`.

    Raises:
        AnalysisError: If there is no such file, or it holds no labels.
    """
    path = path_of(path, AnalysisError)
    if not path.is_file():
        raise AnalysisError(f"There is no label file {path}. save_labels(labels, path) writes it.")
    if path.stat().st_size > LARGEST:
        raise AnalysisError(f"{path.name} is over {LARGEST / 1e6:.0f} MB, too large for labels.")
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path.name} cannot be read as GeoJSON: {error}.") from error
    return labels_from(text)


def labels_text(labels: Labels, attrs: Mapping[str, Any] | None = None) -> str:
    """Labels as the text of a GeoJSON file; see `save_labels`."""
    if not isinstance(labels, Labels):
        raise AnalysisError(
            f"{shown(labels)} are no labels; make them with Labels((LabelClass...))."
        )
    given = {"colours": [each.colour for each in labels.classes]}
    colours = of_categories(given, len(labels.classes))
    features = []
    for order, (each, colour) in enumerate(zip(labels.classes, colours, strict=True)):
        properties = {"class": each.name, "colour": colour, "order": order}
        shapes = [{"type": "Point", "coordinates": list(point)} for point in each.points]
        shapes += [as_geojson(polygon) for polygon in each.polygons]
        features += [
            {"type": "Feature", "properties": properties, "geometry": shape}
            for shape in shapes or [None]
        ]
    about = {"holds": "labels", **plain(attrs or {})}
    collection = {"type": "FeatureCollection", "features": features, "skysense": about}
    return json.dumps(collection, allow_nan=False, indent=1)


def holds_labels(text: str | bytes) -> bool:
    """Whether this is what `save_labels` writes, told from any other GeoJSON."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return False
    features = parsed.get("features") if isinstance(parsed, dict) else None
    first = features[0] if isinstance(features, list) and features else None
    properties = first.get("properties") if isinstance(first, dict) else None
    return isinstance(properties, dict) and {"class", "colour", "order"} <= set(properties)


def labels_from(text: str | bytes) -> Labels:
    """Labels from the text of a GeoJSON file; see `open_labels`.

    Raises:
        AnalysisError: If it holds no labels, with what is wrong.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AnalysisError(f"This is not JSON: {str(error)[:200]}.") from error
    features = parsed.get("features") if isinstance(parsed, dict) else None
    if not isinstance(features, list) or not features:
        raise AnalysisError("This GeoJSON is no collection of features, so it holds no labels.")
    if len(features) > MOST_MARKS:
        raise AnalysisError(
            f"{len(features):,} marks are more than {MOST_MARKS:,}; leave some out."
        )
    classes: dict[str, LabelClass] = {}
    orders: dict[str, float] = {}
    points: dict[str, list[tuple[float, float]]] = {}
    polygons: dict[str, list[Any]] = {}
    for number, feature in enumerate(features, start=1):
        name, colour, order, geometry = _mark(feature, number)
        classes.setdefault(name, LabelClass(name, colour=colour))
        orders.setdefault(name, order)
        if isinstance(geometry, tuple):
            points.setdefault(name, []).append(geometry)
        elif geometry is not None:
            polygons.setdefault(name, []).append(geometry)
    if len(classes) > MOST_CLASSES:
        raise AnalysisError(f"{len(classes)} classes are more than {MOST_CLASSES}; leave some out.")
    names = sorted(classes, key=lambda name: orders[name])  # stable: as they come where they tie
    return Labels(
        tuple(
            LabelClass(
                name,
                tuple(points.get(name, ())),
                tuple(polygons.get(name, ())),
                classes[name].colour,
            )
            for name in names
        )
    )


def _mark(feature: Any, number: int) -> tuple[str, str, float, Any]:
    """(class, colour, order, place) of one feature; the place is None for a class without one."""
    properties = feature.get("properties") if isinstance(feature, dict) else None
    name = properties.get("class") if isinstance(properties, dict) else None
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST:
        raise AnalysisError(
            f"Feature {number} has no property `class`, a name of at most {LONGEST} characters, "
            "so it is no label."
        )
    colour, order = properties.get("colour", ""), as_number(properties.get("order"))
    geometry = feature.get("geometry")
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    place: Any = None
    if kind == "Point":
        place = _point(geometry.get("coordinates"), name)
    elif geometry is not None:
        try:
            place, _ = parse_geojson(geometry if isinstance(geometry, dict) else {})
        except RegionError as error:
            raise AnalysisError(f"Feature {number}, of class {shown(name)}: {error}") from error
        _check_bounds(place, name)
    return (
        name,
        colour if is_colour(colour) else "",
        math.inf if math.isnan(order) else order,
        place,
    )


def _point(coordinates: Any, name: str) -> tuple[float, float]:
    good = isinstance(coordinates, list) and len(coordinates) >= 2
    lon, lat = coordinates[:2] if good else (None, None)
    for value, most in ((lon, 180), (lat, 90)):
        if type(value) not in (int, float) or not abs(value) <= most:
            raise AnalysisError(
                f"A point of class {shown(name)} is at {shown(coordinates)}, which is no [longitude, "
                "latitude] in degrees."
            )
    return float(lon), float(lat)  # type: ignore[arg-type]


def _check_bounds(polygon: shapely.Polygon, name: str) -> None:
    west, south, east, north = polygon.bounds
    if west < -180 or east > 180 or south < -90 or north > 90:
        raise AnalysisError(
            f"A polygon of class {shown(name)} is not on Earth: GeoJSON is in longitude and "
            "latitude, in degrees."
        )
