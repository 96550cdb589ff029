"""Bounds and places in degrees, checked before anything is computed with them."""

import math
from typing import Any

from skysense.checks import as_number, is_number, shown
from skysense.errors import RegionError

MAX_LATITUDE = 84.0
"""Beyond this UTM is not defined (degrees)."""


FURTHEST = 3_600.0
"""Longitudes of a map that was panned round the world ten times (degrees); beyond it is no place."""


def checked_bounds(
    bounds: tuple[float, float, float, float],
) -> tuple[float, float, float, float]:
    """Bounds (west, south, east, north) in degrees, turned to -180..180.

    Raises:
        RegionError: If no single UTM grid can hold them, or they have no area.
    """
    west, south, east, north = bounds
    for latitude in (south, north):
        if abs(latitude) > 90:
            raise RegionError(swap_hint(latitude))
    if max(abs(west), abs(east)) > FURTHEST:
        raise RegionError(
            f"{shown(bounds)} hold no longitude in degrees; give -180 to 180. Are they metres?"
        )
    if max(abs(south), abs(north)) > MAX_LATITUDE:
        raise RegionError(
            f"The region reaches {max(abs(south), abs(north)):.2f}° of latitude; UTM ends at "
            f"{MAX_LATITUDE:g}°. Choose a place nearer the equator, or split_region(geometry)."
        )
    if west > east and abs(west) <= 180 and abs(east) <= 180:
        raise RegionError(
            f"west={west:g} lies east of east={east:g}: the region crosses the antimeridian, or the "
            "two are swapped. split_region(bounds) gives one region on each side."
        )
    if east - west >= 360 or east - west > 6 + 1e-9:
        raise RegionError(
            f"The region is {east - west:.1f}° wide, more than one UTM zone (6°). "
            "split_region(bounds) cuts it into parts."
        )
    shift = math.floor((west + 180) / 360) * 360  # a map panned round the world gives 541°
    west, east = west - shift, east - shift
    if east > 180:
        raise RegionError(
            f"The region runs from {west:g}° to {east - 360:g}° across the antimeridian. "
            "split_region(bounds) gives one region on each side."
        )
    if west >= east or south >= north:
        raise RegionError(
            f"The region ({west:g}, {south:g}, {east:g}, {north:g}) has no area: bounds are "
            "(west, south, east, north) with west < east and south < north."
        )
    return west, south, east, north


def four_numbers(bounds: Any) -> tuple[float, float, float, float]:
    """Four finite floats.

    Raises:
        RegionError: If `bounds` are anything else.
    """
    values = tuple(bounds) if isinstance(bounds, tuple | list) else ()
    if len(values) != 4 or not all(is_number(v) for v in values):
        raise RegionError(
            f"{shown(bounds)} are not bounds. Give four numbers: (west, south, east, north) in "
            "degrees."
        )
    west, south, east, north = (as_number(v) for v in values)
    if not all(math.isfinite(v) for v in (west, south, east, north)):
        raise RegionError(f"The bounds {shown(bounds)} hold a value that is not finite.")
    return west, south, east, north


def checked_place(lon: Any, lat: Any) -> tuple[float, float]:
    """A place in degrees, its longitude turned to -180..180.

    Raises:
        RegionError: If it is no place, or one beyond UTM.
    """
    given = f"lon={shown(lon)}, lat={shown(lat)}"
    lon, lat = as_number(lon), as_number(lat)
    if not (math.isfinite(lon) and math.isfinite(lat)):
        raise RegionError(f"{given} are not two finite numbers in degrees.")
    if abs(lon) > FURTHEST:
        raise RegionError(f"{given}: that is no longitude in degrees; give -180 to 180.")
    if abs(lat) > 90:
        raise RegionError(swap_hint(lat))
    if abs(lat) > MAX_LATITUDE:
        raise RegionError(f"lat={lat:g} is beyond {MAX_LATITUDE:g}°, where UTM ends.")
    return lon if lon == 180 else (lon + 180) % 360 - 180, lat


def swap_hint(latitude: float) -> str:
    """What probably went wrong with an impossible latitude (degrees)."""
    return (
        f"A latitude of {latitude:g}° is impossible. Did you swap longitude and latitude, or give "
        "metres instead of degrees?"
    )
