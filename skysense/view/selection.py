"""A selection is a field too: points of the scatter plot to cells of the map, and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
import xarray as xr

from skysense.analysis.pixels import field_like, provenance
from skysense.checks import as_number, shown
from skysense.errors import AnalysisError
from skysense.view.paint import check_field, stretch


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
        left, bottom, right, top = _four(bounds)
        inside &= (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
    if lasso is not None:
        ring = _numbers(lasso)
        if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3 or not np.isfinite(ring).all():
            raise AnalysisError(f"A lasso needs at least three (x, y) corners, not {ring.shape}.")
        (left, bottom), (right, top) = ring.min(0), ring.max(0)
        inside &= (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
        shape = shapely.make_valid(shapely.Polygon(ring))  # a hand's loop may cross itself
        shapely.prepare(shape)
        index = np.flatnonzero(inside)
        inside.ravel()[index] = shapely.contains_xy(shape, x.ravel()[index], y.ravel()[index])
    return inside


def above(field: xr.DataArray, least: float) -> xr.DataArray:
    """A field where it is at least so much, in the colours that it had as a whole.

    Args:
        field: (y, x), continuous or diverging.
        least: The threshold, in the field's units.

    Raises:
        AnalysisError: If the field has no such scale, or the threshold is no number.
    """
    check_field(field)
    if field.attrs["kind"] not in ("continuous", "diverging") or field.ndim != 2:
        raise AnalysisError(f"A field of kind {field.attrs['kind']!r} has no threshold.")
    if not np.isfinite(as_number(least)):
        raise AnalysisError(f"least={shown(least)} is not a number; give one.")
    kept = field.where(field >= float(least))
    return kept.assign_attrs({**field.attrs, "stretch": list(stretch(field))})


def mask(selected: np.ndarray, like: xr.DataArray) -> xr.DataArray:
    """A selection as a field of kind `mask`: 1 selected, 0 not, NaN where nothing was seen.

    Args:
        selected: (y, x) bool.
        like: Features or a field on the same grid.

    Raises:
        AnalysisError: If the shapes differ.
    """
    if not isinstance(like, xr.DataArray) or like.ndim < 2:
        raise AnalysisError(f"like={shown(like)} is not a field or features; give a DataArray.")
    if isinstance(selected, xr.Dataset | xr.DataTree) or np.shape(selected) != like.shape[-2:]:
        sets = isinstance(selected, xr.Dataset | xr.DataTree)
        found = shown(selected) if sets else f"has shape {np.shape(selected)}"
        raise AnalysisError(
            f"The selection {found} and the map {like.shape[-2:]}; give a bool array of its shape."
        )
    values = np.asarray(like.values)
    seen = np.isfinite(values) if values.ndim == 2 else np.isfinite(values).all(0)
    attrs = {**provenance(like), "kind": "mask", "long_name": "selection", "units": ""}
    return field_like(like, np.where(seen, selected, np.nan).astype(np.float32), attrs)


def _four(bounds: Any) -> np.ndarray:
    found = _numbers(bounds)
    if found.shape != (4,) or not np.isfinite(found).all():
        raise AnalysisError(
            f"bounds={shown(bounds)} are not four numbers (left, bottom, right, top); give them."
        )
    return found


def _numbers(values: Any) -> np.ndarray:
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError, OverflowError) as error:
        raise AnalysisError(
            f"{shown(values)} are not numbers in the units of the plot; give some."
        ) from error


def axes_of(coordinates: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """The first two components, (y, x) float64 each.

    Raises:
        AnalysisError: If there are fewer than two.
    """
    is_array = isinstance(coordinates, xr.DataArray) and coordinates.dtype.kind in "fiu"
    if not is_array or coordinates.ndim != 3 or len(coordinates) < 2:
        found = dict(coordinates.sizes) if is_array else shown(coordinates)
        raise AnalysisError(
            f"A scatter plot needs (component, y, x) with at least two components, not {found}. "
            "pca(features, 2) or umap(features) give them."
        )
    x, y = np.asarray(coordinates.values[:2], float)
    return x, y
