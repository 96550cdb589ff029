"""Which dates and sensors mattered, on average over a place or over each class."""

from typing import Any

import numpy as np
import xarray as xr

from skysense.analysis.pixels import check_categorical, geobox_of
from skysense.checks import shown
from skysense.errors import AnalysisError


def mean_sensitivity(found: xr.DataArray, labels: xr.DataArray | None = None) -> xr.DataArray:
    """The mean of a sensitivity over the place, or over each class of labels.

    Args:
        found: (dropped, y, x) of `skysense.sensitivity`.
        labels: (y, x) categorical on the same grid, as `label_field(source, found[0])` gives it.

    Returns:
        (dropped,), or (dropped, class) with labels: mean cosine distance 0..2, NaN for a class
        without a cell. Coordinate `alone` (dropped,) is the share of the cells that saw nothing
        else, for which there is no distance; `cells` (class,) counts the labelled cells.

    Raises:
        AnalysisError: If it is no sensitivity, nothing was seen, or the labels are no categorical
            field of its grid.
    """
    check_sensitivity(found)
    if found.dims[1:] != ("y", "x"):
        raise AnalysisError(
            f"A mean is taken of (dropped, y, x), but this has the axes {found.dims}: it may be a "
            "mean already."
        )
    values = np.asarray(found.values, np.float64).reshape(len(found), -1)
    known = np.isfinite(values)
    seen = known.any(0)
    if not seen.any():
        raise AnalysisError("Nothing was seen in any cell of the sensitivity.")
    attrs = {key: value for key, value in found.attrs.items() if key != "kind"}
    attrs["long_name"] = f"mean {found.attrs.get('long_name', 'sensitivity')}"
    coords = {name: c.variable for name, c in found.coords.items() if c.dims == ("dropped",)}
    coords["alone"] = ("dropped", (~known[:, seen]).mean(1))
    if labels is None:
        return xr.DataArray(_mean(values, seen), coords, ("dropped",), attrs=attrs)
    names = check_categorical(labels, "labels")
    if geobox_of(labels) != geobox_of(found):
        raise AnalysisError(
            "The labels lie on another grid than the sensitivity. Bring them to it with "
            "label_field(labels, ...) and features of the same resolution."
        )
    codes = np.asarray(labels.values).ravel()
    cells = [(codes == i) & seen for i in range(len(names))]
    coords["class"] = names
    coords["cells"] = ("class", [int(inside.sum()) for inside in cells])
    means = np.stack([_mean(values, inside) for inside in cells], 1)
    return xr.DataArray(means, coords, ("dropped", "class"), attrs=attrs)


def check_sensitivity(found: Any) -> None:
    """Raise `AnalysisError` unless this comes from `sensitivity` or `mean_sensitivity`."""
    good = isinstance(found, xr.DataArray) and found.dims[:1] == ("dropped",)
    if not good or not {"dropped", "sensor", "date"} <= set(found.coords):
        raise AnalysisError(
            f"{shown(found.dims if isinstance(found, xr.DataArray) else found)} is no sensitivity; "
            "skysense.sensitivity(stack, encoder) makes one."
        )


def _mean(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(dropped,) means over the finite values of some cells; NaN where there are none."""
    part = values[:, inside]
    known = np.isfinite(part)
    total = np.where(known, part, 0.0).sum(1)
    return np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)
