"""Pixels as a cloud of points, binned into a picture: a quarter of a million in a blink.

Each bin has the mean colour of its points and is the more opaque the more there are; where points
lie far apart each becomes a dot that can be seen. (That is what datashader does with categories and
`dynspread`; a few sums over bins take milliseconds and compile nothing on the first click.)
"""

import numpy as np
import xarray as xr

from skysense.checks import shown
from skysense.errors import AnalysisError
from skysense.view.hues import PALETTE, UNSELECTED, rgb_of
from skysense.view.paint import check_field, colours
from skysense.view.selection import axes_of

BINS = 400
"""Side of the picture that points are binned into, unless another size is asked for."""

MOST_BINS = 4096

FAINTEST = 0.5
"""Opacity of a bin with a single point: never gone."""

FAINTEST_CHOSEN = 0.75
"""The same of a selected point, beside others that are not."""

GREY = 0.75
"""Opacity of the fullest bin of what is not selected."""

MARGIN = 0.02
"""Room round all points, as a share of their extent."""

Bounds = tuple[float, float, float, float]
"""(left, bottom, right, top) in the units of the plot."""


def points_of(
    coordinates: xr.DataArray,
    colour: xr.DataArray | None = None,
    selected: np.ndarray | xr.DataArray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a scatter plot draws.

    Returns:
        (n, 2) places, (n, 4) uint8 colours, (n,) bool selected; seen pixels only.

    Raises:
        AnalysisError: If there are no two components, or the grids differ.
    """
    x, y = axes_of(coordinates)
    shape = x.shape
    if colour is not None:
        check_field(colour)
    if colour is not None and colour.shape[-2:] != shape:
        raise AnalysisError(
            f"The colours are for {colour.shape[-2:]} cells and the points for {shape}."
        )
    pixels = np.empty((*shape, 4), np.uint8)
    pixels[:] = (*rgb_of(PALETTE[0]), 255)
    if colour is not None:
        drawn = colours(colour)
        nothing = drawn[..., 3] == 0
        drawn[nothing] = (*rgb_of(UNSELECTED), 255)
        pixels = drawn
    chosen = np.ones(shape, bool)
    if selected is not None:
        given = not isinstance(selected, xr.Dataset | xr.DataTree)
        values = np.asarray(selected) if given else np.empty(0)
        if values.shape != shape or values.dtype.kind not in "bfiu":
            found = f"has shape {values.shape} of {values.dtype}" if given else shown(selected)
            raise AnalysisError(
                f"The selection {found}, the points {shape}; give a bool array or a mask of theirs."
            )
        chosen = values if values.dtype == bool else np.nan_to_num(values) > 0
    seen = np.isfinite(x) & np.isfinite(y)
    return np.column_stack([x[seen], y[seen]]), pixels[seen], chosen[seen]


def bounds_of(points: np.ndarray) -> Bounds:
    """Where all points lie, with a margin; (0, 0, 1, 1) if there are none."""
    if not len(points):
        return 0.0, 0.0, 1.0, 1.0
    low, high = points.min(0), points.max(0)
    margin = np.maximum(MARGIN * (high - low), 1e-6)
    (left, bottom), (right, top) = low - margin, high + margin
    return float(left), float(bottom), float(right), float(top)


def binned(
    points: np.ndarray,
    pixels: np.ndarray,
    chosen: np.ndarray,
    bounds: Bounds | None = None,
    size: tuple[int, int] = (BINS, BINS),
    spread: int | None = 0,
) -> tuple[np.ndarray, Bounds]:
    """Points as a picture, grey ones below.

    Args:
        points: (n, 2), finite.
        pixels: (n, 4) uint8 colours; their opacity is not used.
        chosen: (n,) bool; the others are drawn in grey below these, and never left out.
        bounds: What part of the plane to draw; where all points lie unless given.
        size: (width, height) of the picture (pixels), 1..4096.
        spread: Radius of a point (pixels); None for one that suits how many points there are.

    Returns:
        (height, width, 4) uint8, first row at the top, and (left, bottom, right, top).

    Raises:
        AnalysisError: If the bounds hold no area, or the size is impossible.
    """
    left, bottom, right, top = bounds = bounds or bounds_of(points)
    width, height = size
    if not (np.isfinite(bounds).all() and right > left and top > bottom):
        raise AnalysisError(f"bounds={bounds} hold no area; give (left, bottom, right, top).")
    if not (1 <= width <= MOST_BINS and 1 <= height <= MOST_BINS):
        raise AnalysisError(f"size={size} is no size of a picture; give 1 to {MOST_BINS} pixels.")
    x, y = points.T
    within = (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
    if not within.all():
        x, y, pixels, chosen = x[within], y[within], pixels[within], chosen[within]
    radius = radius_for(len(x), size) if spread is None else spread
    column = np.minimum((x - left) * (width / (right - left)), width - 1).astype(np.intp)
    row = np.minimum((top - y) * (height / (top - bottom)), height - 1).astype(np.intp)
    place = row * width + column
    if chosen.all():
        return _poured(place, pixels, size, radius, FAINTEST), bounds
    rest = ~chosen
    grey = _poured(place[rest], None, size, radius, FAINTEST)
    grey[..., 3] = np.rint(grey[..., 3] * GREY)
    above = _poured(place[chosen], pixels[chosen], size, radius, FAINTEST_CHOSEN)
    return _over(above, grey), bounds


def radius_for(count: int, size: tuple[int, int]) -> int:
    """Radius (pixels) at which so many points in a picture can be seen one by one, 1..3."""
    apart = (size[0] * size[1] / max(count, 1)) ** 0.5  # if they lay evenly
    return 1 + int(apart > 6) + int(apart > 16)


def nearest_cell(
    coordinates: xr.DataArray, x: float, y: float, reach: tuple[float, float]
) -> tuple[int, int] | None:
    """(row, column) of the cell whose point is nearest to a place in the plot.

    Args:
        coordinates: (component, y, x); the first two are used.
        x: Of the place, in the units of the plot.
        y: The same.
        reach: How far away a point may be along each axis; also what makes the two comparable.

    Returns:
        None if no point is that near.
    """
    east, north = axes_of(coordinates)
    away = np.hypot((east - x) / reach[0], (north - y) / reach[1])
    away[~np.isfinite(away)] = np.inf
    nearest = int(away.argmin())
    if away.flat[nearest] > 1:
        return None
    row, column = np.unravel_index(nearest, away.shape)
    return int(row), int(column)


def _poured(
    place: np.ndarray,
    pixels: np.ndarray | None,
    size: tuple[int, int],
    radius: int,
    faintest: float,
) -> np.ndarray:
    """Mean colour of the points of each bin (grey without pixels), opacity by their number's log."""
    width, height = size
    out = np.zeros((height, width, 4), np.uint8)
    if not len(place):
        return out

    def summed(weights: np.ndarray | None) -> np.ndarray:
        total = np.bincount(place, weights, minlength=width * height)
        return _spread(total.reshape(height, width).astype(np.float32), radius)

    count = summed(None)
    full = count > 0
    many = count[full]
    if pixels is None:
        out[full, :3] = rgb_of(UNSELECTED)
    else:
        for channel in range(3):
            out[full, channel] = np.rint(summed(pixels[:, channel])[full] / many)
    depth = np.log1p(many) / np.log1p(many.max())
    out[full, 3] = np.rint(255 * (faintest + (1 - faintest) * depth))
    return out


def _spread(sums: np.ndarray, radius: int) -> np.ndarray:
    """Each bin added to all within a radius of it."""
    if not radius:
        return sums
    height, width = sums.shape
    out = np.zeros_like(sums)
    for down in range(-radius, radius + 1):
        for across in range(-radius, radius + 1):
            if down**2 + across**2 > (radius + 0.3) ** 2:
                continue
            out[max(down, 0) : height + min(down, 0), max(across, 0) : width + min(across, 0)] += (
                sums[
                    max(-down, 0) : height - max(down, 0), max(-across, 0) : width - max(across, 0)
                ]
            )
    return out


def _over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """One picture over another (Porter and Duff 1984, doi:10.1145/964965.808606)."""
    out = above.copy()
    alone = (above[..., 3] == 0) & (below[..., 3] > 0)
    out[alone] = below[alone]
    both = (above[..., 3] > 0) & (above[..., 3] < 255) & (below[..., 3] > 0)
    front, back = above[both].astype(np.float32), below[both].astype(np.float32)
    part = front[:, 3:] / 255
    rest = back[:, 3:] / 255 * (1 - part)
    out[both, :3] = np.rint((front[:, :3] * part + back[:, :3] * rest) / (part + rest))
    out[both, 3] = np.rint(255 * (part + rest))[:, 0]
    return out
