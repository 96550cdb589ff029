"""A selection is a field too: points of the scatter plot to cells of the map, and back."""

from collections.abc import Sequence

import numpy as np
import shapely
import xarray as xr

from skysense.analysis.pixels import field_like, provenance
from skysense.errors import AnalysisError


def points_in(
    coordinates: xr.DataArray,
    bounds: tuple[float, float, float, float] | None = None,
    lasso: Sequence[tuple[float, float]] | np.ndarray | None = None,
) -> np.ndarray:
    """Which pixels lie inside a box or a lasso drawn on their scatter plot.

    Args:
        coordinates: (component, y, x), as a projection gives them; the first two are used.
        bounds: (left, bottom, right, top) in the units of the plot.
        lasso: Corners (x, y) of a ring, closed or not; it may cross itself.

    Returns:
        (y, x) bool; with both, inside both.

    Raises:
        AnalysisError: If neither is given, or the lasso has fewer than three corners.
    """
    x, y = axes_of(coordinates)
    if bounds is None and lasso is None:
        raise AnalysisError("points_in() needs bounds=(left, bottom, right, top) or a lasso.")
    inside = np.isfinite(x) & np.isfinite(y)
    if bounds is not None:
        left, bottom, right, top = bounds
        inside &= (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
    if lasso is not None:
        ring = np.asarray(lasso, float)
        if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3 or not np.isfinite(ring).all():
            raise AnalysisError(f"A lasso needs at least three (x, y) corners, not {ring.shape}.")
        (left, bottom), (right, top) = ring.min(0), ring.max(0)
        inside &= (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
        shape = shapely.make_valid(shapely.Polygon(ring))  # a hand's loop may cross itself
        shapely.prepare(shape)
        index = np.flatnonzero(inside)
        inside.ravel()[index] = shapely.contains_xy(shape, x.ravel()[index], y.ravel()[index])
    return inside


def mask(selected: np.ndarray, like: xr.DataArray) -> xr.DataArray:
    """A selection as a field of kind `mask`: 1 selected, 0 not, NaN where nothing was seen.

    Args:
        selected: (y, x) bool.
        like: Features or a field on the same grid.

    Raises:
        AnalysisError: If the shapes differ.
    """
    if np.shape(selected) != like.shape[-2:]:
        raise AnalysisError(
            f"The selection has shape {np.shape(selected)} and the map {like.shape[-2:]}."
        )
    values = np.asarray(like.values)
    seen = np.isfinite(values) if values.ndim == 2 else np.isfinite(values).all(0)
    attrs = {**provenance(like), "kind": "mask", "long_name": "selection", "units": ""}
    return field_like(like, np.where(seen, selected, np.nan).astype(np.float32), attrs)


def axes_of(coordinates: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """The first two components, (y, x) float64 each.

    Raises:
        AnalysisError: If there are fewer than two.
    """
    if coordinates.ndim != 3 or coordinates.sizes[coordinates.dims[0]] < 2:
        raise AnalysisError(
            f"A scatter plot needs (component, y, x) with at least two components, not "
            f"{dict(coordinates.sizes)}. pca(features, 2) or umap(features) give them."
        )
    x, y = np.asarray(coordinates.values[:2], float)
    return x, y
