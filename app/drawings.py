"""Marks of classes and examples of a search as GeoJSON with styles, for the map."""

from collections.abc import Sequence
from typing import Any

from skysense.analysis import LabelClass
from skysense.geojson import as_geojson
from skysense.view.hues import of_categories

LIKE, UNLIKE = "#0072b2", "#d55e00"
"""Examples of what is looked for, and of what is not."""

MANY = 60
"""More points than this are drawn small."""


def colours_of(classes: Sequence[LabelClass]) -> list[str]:
    """The colour of each class, `#rrggbb`."""
    return of_categories({"colours": [each.colour for each in classes]}, len(classes))


def marks_of(classes: Sequence[LabelClass]) -> list[dict[str, Any]]:
    """Points and areas of all classes, areas first so that points lie on top."""
    many = sum(len(each.points) for each in classes) > MANY
    size = (2.5, 1.0) if many else (5.0, 2.0)
    coloured = list(zip(classes, colours_of(classes), strict=True))
    areas = [_area(as_geojson(p), colour) for each, colour in coloured for p in each.polygons]
    return areas + [point(p, colour, *size) for each, colour in coloured for p in each.points]


def collection(features: list[dict[str, Any]]) -> dict[str, Any]:
    """Features as one GeoJSON object."""
    return {"type": "FeatureCollection", "features": features}


def point(
    place: tuple[float, float], colour: str, radius: float = 5.0, weight: float = 2.0
) -> dict[str, Any]:
    """A point with a white rim; sizes in pixels."""
    style = {"color": "#ffffff", "fillColor": colour, "fillOpacity": 1}
    return {
        "type": "Feature",
        # sizes too: the browser reads `point_style` once, when the layer is made
        "properties": {"style": {**style, "radius": radius, "weight": weight}},
        "geometry": {"type": "Point", "coordinates": list(place)},
    }


def _area(geometry: dict[str, Any], colour: str) -> dict[str, Any]:
    style = {"color": "#ffffff", "fillColor": colour, "fillOpacity": 0.4, "weight": 2, "opacity": 1}
    return {"type": "Feature", "properties": {"style": style}, "geometry": geometry}
