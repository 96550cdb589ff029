"""A map of classes from a few labelled points or polygons.

A multinomial logistic regression on standardised features. With few labels its weights lie in the
span of the labelled pixels, so it is fitted in that span: milliseconds, whatever the width of the
features, and one matrix product gives the whole map.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from sklearn.linear_model import LogisticRegression

from skysense.analysis.groups import standard_scale
from skysense.analysis.pixels import on_grid, provenance, sample_rows, table
from skysense.analysis.places import cells_of, extent_sentence
from skysense.checks import seed_of, shown
from skysense.errors import AnalysisError

PER_CLASS = 400
"""Pixels of one class that training looks at; a large polygon is sampled."""

SCALE_PIXELS = 8_192
"""Pixels behind the standardisation."""

STRENGTH = 10.0
"""Inverse regularisation for rows of unit mean square. Measured on overlapping classes: from 3 to
100 the map hardly changes, and here the stated confidence is nearest to the share that is right."""

MOST_CLASSES = 64


def segment(
    features: xr.DataArray, labels: Mapping[str, Sequence[Any] | Any], seed: int = 0
) -> xr.DataArray:
    """Probabilities of classes everywhere, learned from a few labelled places.

    Args:
        features: (feature, y, x).
        labels: {class: places}; places are (lon, lat) pairs, shapely geometries or GeoJSON, mixed
            as one likes.
        seed: Of the sample taken of large polygons.

    Returns:
        (class, y, x) float32, summing to 1 over the classes; NaN where nothing was seen. `attrs`
        hold the number of training pixels of each class, and of labels that hit nothing.

    Raises:
        AnalysisError: For fewer than two classes, a class whose places lie outside or unseen or are
            none, labelled pixels that are all alike, or no seed.
    """
    if not isinstance(labels, Mapping) or not 2 <= len(labels) <= MOST_CLASSES:
        count = len(labels) if isinstance(labels, Mapping) else type(labels).__name__
        raise AnalysisError(
            f"segment() needs {{class: places}} with 2 to {MOST_CLASSES} classes, but got {count}. "
            "Mark at least one place of each of two classes."
        )
    seed = seed_of(seed, AnalysisError)
    pixels = table(features, at_least=2)
    number = np.cumsum(pixels.seen.ravel()) - 1  # cell to row of the table
    rows, classes, missed = [], [], 0
    for i, (name, places) in enumerate(labels.items()):
        cells, lost = _cells(features, str(name), places, pixels.seen)
        missed += lost
        chosen = number[cells][sample_rows(len(cells), PER_CLASS, seed)]
        rows.append(chosen)
        classes.append(np.full(len(chosen), i))
    names = [str(name) for name in labels]
    marked = pixels.values[np.concatenate(rows)]
    if (marked == marked[0]).all():
        raise AnalysisError(
            f"All {len(marked)} labelled pixels have the same features, so nothing tells the classes "
            "apart. Mark other places, or use features that vary there."
        )
    weights, offset = _fit(pixels.values, np.concatenate(rows), np.concatenate(classes), len(names))
    scores = pixels.values @ weights + offset
    scores -= scores.max(1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(1, keepdims=True)
    attrs = {
        **provenance(features),
        "kind": "continuous",
        "family": "class",
        "long_name": "probability",
        "units": "1",
        "categories": names,
        "training_pixels": [len(r) for r in rows],
        "labels_missed": missed,
        "seed": seed,
    }
    return on_grid(scores, pixels.seen, features, attrs, ("class", names))


def classes(probabilities: xr.DataArray) -> xr.DataArray:
    """The likeliest class of each pixel.

    Args:
        probabilities: (class, y, x) from `segment`.

    Returns:
        (y, x) categorical with the coordinate `confidence` (y, x), the probability of that class.

    Raises:
        AnalysisError: If there is no `class` axis.
    """
    is_array = isinstance(probabilities, xr.DataArray)
    if not is_array or probabilities.dims != ("class", "y", "x"):
        found = f"an array with the axes {probabilities.dims}" if is_array else shown(probabilities)
        raise AnalysisError(
            f"classes() takes the (class, y, x) probabilities of segment(), not {found}."
        )
    if 0 in probabilities.shape or probabilities.dtype.kind != "f":
        raise AnalysisError(
            f"These probabilities are {probabilities.dtype} of shape {probabilities.shape}; "
            "segment() gives floating point numbers of at least one class and pixel."
        )
    values = probabilities.values
    seen = np.isfinite(values).all(0)
    likeliest = np.where(seen, np.nan_to_num(values).argmax(0), np.nan).astype(np.float32)
    confidence = np.where(seen, np.nan_to_num(values).max(0), np.nan).astype(np.float32)
    attrs = {
        **probabilities.attrs,
        "kind": "categorical",
        "family": "class",
        "long_name": "class",
        "units": "",
        "categories": [str(c) for c in probabilities["class"].values],
    }
    first = probabilities.isel({"class": 0}, drop=True)
    field = first.copy(data=likeliest)
    field.attrs = attrs
    return field.assign_coords(confidence=(("y", "x"), confidence))


def _cells(
    features: xr.DataArray, name: str, places: Any, seen: np.ndarray
) -> tuple[np.ndarray, int]:
    """Flat indices of the seen cells of one class, and how many of its labels hit none."""
    single = isinstance(places, Mapping) or hasattr(places, "geom_type")
    pair = isinstance(places, tuple) and len(places) == 2 and np.isscalar(places[0])
    if not single and (isinstance(places, str | bytes) or not isinstance(places, Sequence)):
        raise AnalysisError(
            f"Class {name!r}: {shown(places)} are no places. Give a list of (lon, lat) pairs, "
            "shapely geometries or GeoJSON."
        )
    each = [places] if single or pair else list(places)
    inside = np.zeros(seen.shape, bool)
    lost = 0
    for place in each:
        cells = cells_of(features, place) & seen
        lost += not cells.any()
        inside |= cells
    if not inside.any():
        raise AnalysisError(
            f"Class {name!r} has no usable pixel: none of its {len(each)} labels lies on a pixel "
            f"where something was seen. As for the features, {extent_sentence(features)}."
        )
    return np.flatnonzero(inside), lost


def _fit(
    values: np.ndarray, rows: np.ndarray, classes: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (d, class) and offsets (class,) for raw features."""
    mean, scale = standard_scale(values[:: max(1, len(values) // SCALE_PIXELS)])
    scale = scale * np.sqrt(values.shape[1])
    training = ((values[rows] - mean) / scale).astype(np.float64)
    # The optimum lies in the span of the training rows: solve there, then come back.
    _, singular, axes = np.linalg.svd(training, full_matrices=False)
    axes = axes[singular > 1e-8 * max(singular.max(), 1e-30)]
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=200)
    model.fit(training @ axes.T, classes)
    weights, offset = model.coef_ @ axes, model.intercept_
    if count == 2:
        weights, offset = np.stack([-weights[0], weights[0]]) / 2, np.array([-1, 1]) * offset / 2
    weights = weights / scale
    offset = offset - weights @ mean
    return weights.T.astype(np.float32), offset.astype(np.float32)
