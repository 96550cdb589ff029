"""Where, when, and on which grid.

A `Region` is a rectangle (or a polygon inside one) in degrees, with a period. Its pixel grid is
always the local UTM zone, so every resolution in this package is in metres. Places for which no
single UTM grid is honest (poles, the antimeridian, several zones, huge areas) are refused here
with the reason; `split_region` cuts them into regions that can be used.
"""

import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import antimeridian
import shapely
import shapely.affinity
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from shapely.geometry.base import BaseGeometry

from skysense.bounds import (
    MAX_LATITUDE,
    checked_bounds,
    checked_place,
    four_numbers,
    swap_hint,
)
from skysense.checks import as_number, shown
from skysense.errors import RegionError
from skysense.geojson import as_geojson, checked_polygon, parse_geojson
from skysense.period import checked_period

MAX_SIDE_KM = 100.0
"""Longest side of one region (km); UTM distortion and one machine's memory both argue for it."""

MIN_SIDE_M = 10.0
"""Shortest side of one region (m): one Sentinel-2 pixel."""

FINEST_M = 0.01
"""Smallest pixel of a grid (m); nothing here sees finer, and 100 km of them can still be counted."""

MAX_PARTS = 2000
"""Most regions one place is cut into."""

_GEOD = Geod(ellps="WGS84")


def utm_crs(lon: float, lat: float) -> str:
    """EPSG code of the UTM zone of a place, `EPSG:326zz` north and `EPSG:327zz` south.

    The wide zones of Norway and Svalbard are not used: Sentinel-2 tiles keep to them, but a
    region's own zone only has to be metric and repeatable.
    """
    zone = min(60, max(1, math.floor((lon + 180) / 6) + 1))
    return f"EPSG:{326 if lat >= 0 else 327}{zone:02d}"


@dataclass(frozen=True)
class Region:
    """A place and a period.

    Raises:
        RegionError: For anything that cannot be put on one UTM grid, with what to do instead.
    """

    bounds: tuple[float, float, float, float]
    """(west, south, east, north) in degrees, EPSG:4326."""
    time: tuple[str, str]
    """(first, last) ISO days, both included."""
    name: str = ""
    polygon: shapely.Polygon | shapely.MultiPolygon | None = field(default=None, repr=False)
    """Outline inside the bounds, in degrees; None means the whole rectangle."""

    def __post_init__(self) -> None:
        given = four_numbers(self.bounds)
        bounds = checked_bounds(given)
        object.__setattr__(self, "bounds", bounds)
        object.__setattr__(self, "time", checked_period(self.time))
        object.__setattr__(self, "name", _text(self.name))
        object.__setattr__(self, "polygon", _checked_outline(self.polygon, given, bounds))
        width, height = self.size
        if min(width, height) < MIN_SIDE_M * 0.999:
            raise RegionError(
                f"The region is {width:.1f} m by {height:.1f} m, smaller than one 10 m pixel. "
                "Draw a larger rectangle, or use Region.around(lon, lat, size=640)."
            )
        if max(width, height) > MAX_SIDE_KM * 1000 * 1.001:
            raise RegionError(
                f"The region is {width / 1000:,.0f} km by {height / 1000:,.0f} km; one region may "
                f"be {MAX_SIDE_KM:.0f} km on a side. split_region(geometry) cuts it into parts."
            )

    @classmethod
    def around(
        cls, lon: float, lat: float, size: float, time: str | tuple[str, str], name: str = ""
    ) -> "Region":
        """The square of `size` metres centred on a place.

        Args:
            lon: Degrees east, -180..180.
            lat: Degrees north, -84..84.
            size: Side (m).
            time: A year (`"2024"`), a month (`"2024-05"`), a day, or (first, last) ISO days.
            name: What to call it.
        """
        lon, lat = checked_place(lon, lat)
        side = as_number(size)
        if not MIN_SIDE_M <= side <= MAX_SIDE_KM * 1000:
            raise RegionError(
                f"size={shown(size)} is not a side in metres from {MIN_SIDE_M:g} to "
                f"{MAX_SIDE_KM * 1000:,.0f}."
            )
        to_utm = Transformer.from_crs("EPSG:4326", utm_crs(lon, lat), always_xy=True)
        x, y = to_utm.transform(lon, lat)
        half = side / 2
        bounds = to_utm.transform_bounds(
            x - half, y - half, x + half, y + half, direction="INVERSE"
        )
        return cls(bounds, checked_period(time), name)

    @classmethod
    def from_geojson(
        cls,
        source: str | Path | dict[str, Any],
        time: str | tuple[str, str] | None = None,
        name: str = "",
    ) -> "Region":
        """A region from GeoJSON: a geometry, a Feature or a one-Feature collection.

        Args:
            source: Parsed GeoJSON, its text, or the path of a file.
            time: The period; may be left out where the Feature has a `time` property.
            name: What to call it; otherwise the Feature's `name` property.

        Raises:
            RegionError: For anything that is not one polygon with lon/lat coordinates.
        """
        geometry, properties = parse_geojson(source)
        period = time if time is not None else properties.get("time")
        if period is None:
            raise RegionError("The GeoJSON has no `time` property. Pass time=(first, last).")
        label = _text(name) or str(properties.get("name") or "")
        bounds = properties.get("bounds") or geometry.bounds
        return cls(bounds, period, label, geometry)  # type: ignore[arg-type]

    def to_geojson(self) -> dict[str, Any]:
        """This region as a GeoJSON Feature; `from_geojson` gives it back, bit by bit."""
        outline = self.outline
        properties: dict[str, Any] = {"name": self.name, "time": list(self.time)}
        if outline.bounds != self.bounds:
            properties["bounds"] = list(self.bounds)
        return {
            "type": "Feature",
            "bbox": list(self.bounds),
            "properties": properties,
            "geometry": as_geojson(outline),
        }

    @property
    def outline(self) -> shapely.Polygon | shapely.MultiPolygon:
        """The polygon, or the rectangle where there is none (degrees)."""
        return self.polygon if self.polygon is not None else shapely.box(*self.bounds)

    @property
    def centre(self) -> tuple[float, float]:
        """(lon, lat) of the middle of the bounds, degrees."""
        west, south, east, north = self.bounds
        return (west + east) / 2, (south + north) / 2

    @property
    def crs(self) -> str:
        """The local UTM zone, as `EPSG:326zz` or `EPSG:327zz`."""
        return utm_crs(*self.centre)

    @property
    def size(self) -> tuple[float, float]:
        """(width, height) of the bounds on the ground (m), along the widest parallel."""
        west, south, east, north = self.bounds
        widest = 0.0 if south < 0 < north else min(abs(south), abs(north))
        _, _, width = _GEOD.inv(west, widest, east, widest)
        _, _, height = _GEOD.inv(west, south, west, north)
        return width, height

    @property
    def area(self) -> float:
        """Area of the outline (km²)."""
        square_metres, _ = _GEOD.geometry_area_perimeter(shapely.orient_polygons(self.outline))
        return abs(square_metres) / 1e6

    def geobox(self, resolution: float) -> GeoBox:
        """The pixel grid over the bounds: local UTM, aligned to multiples of `resolution` (m).

        Raises:
            RegionError: For a pixel below 1 cm or above 100 km.
        """
        size = as_number(resolution)
        if not FINEST_M <= size <= MAX_SIDE_KM * 1000:
            raise RegionError(
                f"resolution={shown(resolution)} is not a pixel size in metres from {FINEST_M:g} "
                f"to {MAX_SIDE_KM * 1000:,.0f}."
            )
        # parallels are curved in UTM: the corners alone would cut off up to 400 m of a wide region
        to_utm = Transformer.from_crs("EPSG:4326", self.crs, always_xy=True)
        left, bottom, right, top = to_utm.transform_bounds(*self.bounds, densify_pts=41)
        return GeoBox.from_bbox((left, bottom, right, top), crs=self.crs, resolution=size)


def split_region(
    geometry: dict[str, Any] | BaseGeometry | tuple[float, float, float, float],
    time: str | tuple[str, str],
    name: str = "",
) -> list[Region]:
    """Cut a place of any size into regions: at the antimeridian, at UTM zones, at 100 km.

    Args:
        geometry: A polygon (shapely or GeoJSON) or (west, south, east, north); west may exceed
            east, which means across the antimeridian.
        time: The period of every part.
        name: Parts are called `name 1`, `name 2`, ...

    Returns:
        Regions that together cover the geometry up to 84 degrees of latitude.

    Raises:
        RegionError: If nothing of it lies where a region can be.
    """
    name = _text(name)
    outline = _unwrapped(geometry)
    clipped = outline.intersection(shapely.box(-180, -MAX_LATITUDE, 180, MAX_LATITUDE))
    parts: list[BaseGeometry] = []
    if not clipped.is_empty:
        west, _, east, _ = clipped.bounds
        first, last = math.floor((west + 180) / 6), math.ceil((east + 180) / 6)
        for zone in range(first, last):
            # the equator is a border too: northern and southern zones have different origins
            for low, high in ((-MAX_LATITUDE, 0.0), (0.0, MAX_LATITUDE)):
                box = shapely.box(zone * 6 - 180, low, zone * 6 - 174, high)
                parts.extend(_cut(_polygonal(clipped.intersection(box))))
                _check_count(len(parts), clipped)
    if not parts:
        raise RegionError(f"Nothing of this place lies within {MAX_LATITUDE:g}° of the equator.")
    period = checked_period(time)
    if len(parts) == 1:
        return [Region(parts[0].bounds, period, name, parts[0])]  # type: ignore[arg-type]
    return [
        Region(_widened(part), period, f"{name} {number}".strip(), part)  # type: ignore[arg-type]
        for number, part in enumerate(parts, start=1)
    ]


def _check_count(count: int, place: BaseGeometry) -> None:
    if count > MAX_PARTS:
        square_metres, _ = _GEOD.geometry_area_perimeter(shapely.orient_polygons(place))
        raise RegionError(
            f"This place of {abs(square_metres) / 1e6:,.0f} km² falls into more than "
            f"{MAX_PARTS:,} regions of {MAX_SIDE_KM:.0f} km. Choose a smaller one; work of that "
            "size belongs to a batch job."
        )


def _polygonal(geometry: BaseGeometry) -> BaseGeometry:
    """The parts of an intersection that have an area; touching borders leave points and lines."""
    pieces = shapely.get_parts(geometry)
    kept = [g for g in pieces if g.geom_type == "Polygon" and g.area > 0]
    return kept[0] if len(kept) == 1 else shapely.MultiPolygon(kept)


def _cut(strip: BaseGeometry) -> list[BaseGeometry]:
    """Tiles of at most the allowed side, holding what the strip has in them."""
    if strip.is_empty:
        return []
    west, south, east, north = strip.bounds
    limit = MAX_SIDE_KM * 1000 * 0.98
    rows = max(1, math.ceil((north - south) * 111_700 / limit))
    tiles = []
    for row in range(rows):
        low = south + (north - south) * row / rows
        high = south + (north - south) * (row + 1) / rows
        nearest = 0.0 if low < 0 < high else min(abs(low), abs(high))
        wide = (east - west) * 111_700 * math.cos(math.radians(nearest))
        columns = max(1, math.ceil(wide / limit))
        for column in range(columns):
            left = west + (east - west) * column / columns
            right = west + (east - west) * (column + 1) / columns
            whole = rows == columns == 1  # an intersection with itself could move a corner
            tile = strip if whole else strip.intersection(shapely.box(left, low, right, high))
            piece = _polygonal(tile)
            tiles.extend([] if piece.is_empty else [piece])
    return tiles


def _widened(part: BaseGeometry) -> tuple[float, float, float, float]:
    """Bounds of a part, at least one pixel on a side: a border may leave a sliver to one zone."""
    west, south, east, north = part.bounds
    nearest = 0.0 if south < 0 < north else min(abs(south), abs(north))
    least_lat = MIN_SIDE_M / 110_500
    least_lon = MIN_SIDE_M / (111_300 * math.cos(math.radians(nearest)))
    if east - west < least_lon:
        west = max(-180.0, min((west + east) / 2 - least_lon, 180 - 2 * least_lon))
        east = max(east, west + 2 * least_lon)
    if north - south < least_lat:
        south = max(
            -MAX_LATITUDE, min((south + north) / 2 - least_lat, MAX_LATITUDE - 2 * least_lat)
        )
        north = max(north, south + 2 * least_lat)
    return west, south, east, north


def _unwrapped(geometry: dict[str, Any] | BaseGeometry | tuple[float, ...]) -> BaseGeometry:
    """The geometry as polygons inside -180..180, cut where it crosses the antimeridian."""
    if isinstance(geometry, tuple | list):
        west, south, east, north = four_numbers(tuple(geometry))
        if south >= north:
            raise RegionError(f"south={south:g} is not below north={north:g}.")
        if west > east:
            east += 360
        if west >= east:
            raise RegionError(f"west={west:g} is not west of east={east:g}; there is no area.")
        shape: BaseGeometry = shapely.box(west, south, min(east, west + 360), north)
        jumps = False
    else:
        shape = geometry if isinstance(geometry, BaseGeometry) else parse_geojson(geometry)[0]
        shape = checked_polygon(shape)
        west, _, east, _ = shape.bounds
        # corners at 179° and -179° are two degrees apart, not 358
        jumps = west >= -180 and east <= 180 and east - west > 180
    west, south, east, north = shape.bounds
    if max(abs(south), abs(north)) > 90:
        raise RegionError(swap_hint(south if abs(south) > 90 else north))
    if jumps:
        return shapely.union_all([_without_jumps(part) for part in shapely.get_parts(shape)])
    if east - west > 360 + 1e-9:
        raise RegionError(f"The place is {east - west:,.0f}° wide, more than once round the Earth.")
    turns = math.floor((west + 180) / 360)  # a map panned round the world gives 541°
    here, beyond = (
        shapely.affinity.translate(shape, -360.0 * (turns + more)) if turns + more else shape
        for more in (0, 1)
    )
    if here.bounds[2] <= 180:
        return here
    world = shapely.box(-180, -90, 180, 90)
    return shapely.union_all([here.intersection(world), beyond.intersection(world)])


def _without_jumps(part: BaseGeometry) -> BaseGeometry:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about winding order, which we do not rely on
            return antimeridian.fix_polygon(part, great_circle=False)  # type: ignore[arg-type]
    except (ValueError, shapely.errors.ShapelyError) as error:
        raise RegionError(
            f"The polygon crosses the antimeridian in a way that cannot be cut ({error}). "
            "Draw one polygon on each side."
        ) from error


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise RegionError(f"name={shown(name)} is not text; give a word, or leave it out.")
    return str(name)


def _checked_outline(
    polygon: Any, given: tuple[float, ...], bounds: tuple[float, float, float, float]
) -> shapely.Polygon | shapely.MultiPolygon | None:
    """The outline, moved with its bounds; None if it is the whole rectangle."""
    if polygon is None:
        return None
    outline = shapely.force_2d(checked_polygon(polygon))
    if given[0] != bounds[0]:
        outline = shapely.affinity.translate(outline, 360.0 * round((bounds[0] - given[0]) / 360))
    west, south, east, north = outline.bounds
    slack = 1e-9
    inside = west >= bounds[0] - slack and south >= bounds[1] - slack
    if not (inside and east <= bounds[2] + slack and north <= bounds[3] + slack):
        raise RegionError(
            f"The polygon reaches ({west:g}, {south:g}, {east:g}, {north:g}), outside the bounds "
            f"{bounds}. Leave the bounds to Region.from_geojson."
        )
    if shapely.get_num_coordinates(outline) < 100 and outline.equals(shapely.box(*bounds)):
        return None
    return outline  # type: ignore[return-value]


__all__ = ["MAX_LATITUDE", "Region", "checked_period", "parse_geojson", "split_region", "utm_crs"]
