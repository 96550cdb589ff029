"""What a person marked: classes with points and polygons, as `segment` takes them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
import xarray as xr

from skysense.analysis.pixels import sample_rows
from skysense.analysis.places import place_of
from skysense.errors import AnalysisError

PROMOTED = 100
"""Points that stand for a group of cells which becomes a class."""


@dataclass(frozen=True)
class LabelClass:
    """A class: its name, its colour, and the places that were marked for it."""

    name: str
    points: tuple[tuple[float, float], ...] = ()
    """(lon, lat) in degrees."""
    polygons: tuple[shapely.Polygon | shapely.MultiPolygon, ...] = ()
    """In degrees."""
    colour: str = ""
    """`#rrggbb`; empty for the palette's own at its position."""

    @property
    def places(self) -> list[Any]:
        """Points, then polygons."""
        return [*self.points, *self.polygons]

    @property
    def empty(self) -> "LabelClass":
        """The class without its marks."""
        return replace(self, points=(), polygons=())

    def with_point(self, lon: float, lat: float) -> "LabelClass":
        """The class with one more point (degrees)."""
        return replace(self, points=(*self.points, (float(lon), float(lat))))

    def with_polygon(self, polygon: shapely.Polygon | shapely.MultiPolygon) -> "LabelClass":
        """The class with one more polygon (degrees)."""
        return replace(self, polygons=(*self.polygons, polygon))

    def without(self, number: int) -> "LabelClass":
        """The class less one of its `places`."""
        points, polygons = list(self.points), list(self.polygons)
        if number < len(points):
            points.pop(number)
        else:
            polygons.pop(number - len(points))
        return replace(self, points=tuple(points), polygons=tuple(polygons))


@dataclass(frozen=True)
class Labels(Mapping[str, list[Any]]):
    """Classes in order; as a mapping {class: places} of those that have any, for `segment`."""

    classes: tuple[LabelClass, ...] = ()

    def __post_init__(self) -> None:
        names = [each.name for each in self.classes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise AnalysisError(f"There are two classes {twice[0]!r}; give each a name of its own.")

    @property
    def marked(self) -> tuple[LabelClass, ...]:
        """The classes that have a place."""
        return tuple(each for each in self.classes if each.points or each.polygons)

    @property
    def colours(self) -> list[str]:
        """Of the marked classes, in order; see `LabelClass.colour`."""
        return [each.colour for each in self.marked]

    def __getitem__(self, name: str) -> list[Any]:
        for each in self.marked:
            if each.name == name:
                return each.places
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter([each.name for each in self.marked])

    def __len__(self) -> int:
        return len(self.marked)


def points_of(
    cells: np.ndarray, features: xr.DataArray, most: int = PROMOTED, seed: int = 0
) -> tuple[tuple[float, float], ...]:
    """Some of a group of cells as points: how a cluster or a lasso becomes a class.

    Args:
        cells: (y, x) bool.
        features: On whose grid the cells are; only those where something was seen are taken.
        most: How many points at most.
        seed: Of the draw.

    Returns:
        (lon, lat) of cell centres, in row order.

    Raises:
        AnalysisError: If the shapes differ, or nothing was seen in any of the cells.
    """
    if np.shape(cells) != features.shape[1:]:
        raise AnalysisError(
            f"The cells have shape {np.shape(cells)} and the features {features.shape[1:]}; give a "
            "bool array of their shape."
        )
    seen = np.isfinite(features.values).all(0)
    chosen = np.flatnonzero(np.asarray(cells, bool) & seen)
    if not len(chosen):
        raise AnalysisError("Nothing was seen in any of these cells. Choose others.")
    chosen = chosen[sample_rows(len(chosen), most, seed)]
    return tuple(place_of(features, *np.unravel_index(chosen, seen.shape)))
