"""The division of the Earth into cells of equal area, each with prototypes of its own.

The rule `lon-sinlat`: `side` equal steps of longitude times `side` equal steps of the sine of
latitude (Lambert's cylindrical equal-area projection, cut into squares of a chessboard). With side
64 these are the 4096 cells of the paper's bank; with side n each cell is 510.1 / n² million km².
Cells are numbered from the south-west, eastwards first:

    cell = side · ⌊side · (sin(lat) + 1) / 2⌋ + ⌊side · (lon + 180) / 360⌋

A cell owns its southern and western border; the north pole belongs to the top row. Borders are
meridians and parallels, so every cell is a rectangle in degrees: the date line is the border between
the last and the first column, which no cell crosses, and the cells of the top and bottom rows are
triangles that meet at a pole. Areas are equal on a sphere; on the WGS 84 ellipsoid, whose latitudes
are used as they are, they differ by 1.3 % from the equator to the poles.

Differs from the paper: its rule is unknown, and its cells, about 4,294 km² each, cover only a part
of the land. To use another rule, write a class with the methods of `Division` and name it in
`RULES`; a model's configuration says by name which one its bank was made with.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely

from skysense.bounds import swap_hint
from skysense.errors import EncoderError, RegionError
from skysense.region import Region

LARGEST_SIDE = 1024


@dataclass(frozen=True)
class Division:
    """The rule `lon-sinlat` with `side` × `side` cells."""

    side: int = 64

    def __post_init__(self) -> None:
        if type(self.side) is not int or not 1 <= self.side <= LARGEST_SIDE:
            raise EncoderError(
                f"side={self.side!r} is not a number of columns from 1 to {LARGEST_SIDE}."
            )

    @property
    def count(self) -> int:
        """Number of cells."""
        return self.side**2

    @cached_property
    def longitudes(self) -> np.ndarray:
        """(side + 1,) borders between columns, degrees, from −180 to 180."""
        return np.arange(self.side + 1) * 360.0 / self.side - 180.0

    @cached_property
    def latitudes(self) -> np.ndarray:
        """(side + 1,) borders between rows, degrees, from −90 to 90."""
        return np.degrees(np.arcsin(2.0 * np.arange(self.side + 1) / self.side - 1.0))

    def cell_of(self, lon: Any, lat: Any) -> np.ndarray:
        """The cell that each place lies in.

        Args:
            lon: Degrees east, a number or an array; 541 is the same place as 181 and −179.
            lat: Degrees north, −90..90, of a shape that goes with it.

        Returns:
            int64 of the common shape, 0..count − 1; −1 where either is NaN, which is unknown.

        Raises:
            RegionError: If a latitude is impossible or a longitude infinite.
        """
        lon, lat = np.broadcast_arrays(np.asarray(lon, np.float64), np.asarray(lat, np.float64))
        if (np.abs(lat) > 90).any():
            raise RegionError(swap_hint(float(lat[np.abs(lat) > 90].flat[0])))
        if np.isinf(lon).any():
            raise RegionError("A longitude is infinite; give degrees, or NaN for an unknown place.")
        inside = (lon >= -180) & (lon < 180)  # these are left to the last digit as they are
        lon = np.where(inside, lon, (lon + 180) % 360 - 180)
        # Found among the borders that `bounds` gives, so that both agree to the last digit.
        column = np.searchsorted(self.longitudes, lon, side="right") - 1
        row = np.searchsorted(self.latitudes, lat, side="right") - 1
        last = self.side - 1
        cell = self.side * np.clip(row, 0, last) + np.clip(column, 0, last)
        return np.where(np.isnan(lon) | np.isnan(lat), -1, cell).astype(np.int64)

    def bounds(self, cell: int) -> tuple[float, float, float, float]:
        """(west, south, east, north) of a cell, degrees.

        Raises:
            RegionError: If there is no such cell.
        """
        row, column = self._row_column(cell)
        west, east = self.longitudes[column : column + 2]
        south, north = self.latitudes[row : row + 2]
        return float(west), float(south), float(east), float(north)

    def centre(self, cell: int) -> tuple[float, float]:
        """(lon, lat) of the place with half of the cell's area on each side, degrees."""
        row, column = self._row_column(cell)
        lon = (column + 0.5) * 360.0 / self.side - 180.0
        return lon, math.degrees(math.asin((2.0 * row + 1.0) / self.side - 1.0))

    def outline(self, cell: int) -> dict[str, Any]:
        """The cell as a GeoJSON polygon, counter-clockwise and exact: its edges are degrees."""
        west, south, east, north = self.bounds(cell)
        corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
        return {"type": "Polygon", "coordinates": [[list(corner) for corner in corners]]}

    def touched(self, region: Region) -> list[int]:
        """The cells that share ground with a region, ascending; a common border is not enough."""
        west, south, east, north = region.bounds
        found = []
        for row in _between(self.latitudes, south, north):
            for column in _between(self.longitudes, west, east):
                cell = self.side * row + column
                box = shapely.box(*self.bounds(cell))
                if region.polygon is None or box.intersection(region.polygon).area > 0:
                    found.append(cell)
        return found

    def _row_column(self, cell: int) -> tuple[int, int]:
        if not 0 <= cell < self.count:
            raise RegionError(
                f"There is no cell {cell}; this division has cells 0 to {self.count - 1:,}."
            )
        return divmod(int(cell), self.side)


def _between(borders: np.ndarray, low: float, high: float) -> range:
    """Steps that share more than a border with the interval from low to high."""
    first = int(np.searchsorted(borders, low, side="right")) - 1
    last = int(np.searchsorted(borders, high, side="left")) - 1
    return range(max(first, 0), min(last, len(borders) - 2) + 1)


RULES = {"lon-sinlat": Division}
"""Rules by the name that a model's configuration gives."""


def division(count: int, rule: str = "lon-sinlat") -> Division:
    """The division of the Earth into so many cells.

    Args:
        count: Number of cells, the square of a whole number: 1024, 4096.
        rule: One of `RULES`.

    Raises:
        EncoderError: If no rule has this name, or it cannot make so many cells.
    """
    if rule not in RULES:
        raise EncoderError(
            f"There is no rule {rule!r} to divide the Earth by; there is {', '.join(RULES)}."
        )
    if type(count) is not int or count < 1 or math.isqrt(count) ** 2 != count:
        raise EncoderError(
            f"The Earth cannot be divided into {count!r} cells by {rule}: give the square of a whole "
            "number, such as 1024 or 4096."
        )
    return RULES[rule](math.isqrt(count))
