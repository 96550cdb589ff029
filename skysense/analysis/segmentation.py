"""A map of classes from a few labelled points or polygons.

A multinomial logistic regression on features in the scale of the labelled pixels. With few labels its weights lie in the
span of the labelled pixels, so it is fitted in that span: milliseconds, whatever the width of the
features, and one matrix product gives the whole map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from sklearn.linear_model import LogisticRegression

from skysense.analysis.marks import Labels
from skysense.analysis.pixels import (
    Table,
    geobox_of,
    on_grid,
    provenance,
    sample_rows,
    table,
)
from skysense.analysis.places import cells_of, checked_place, extent_sentence, to_grid
from skysense.checks import seed_of, shown
from skysense.errors import AnalysisError

PER_CLASS = 400
"""Pixels of one class that training looks at; a large polygon is sampled."""

COMMON = 5
"""Rows that speak for a common scale of all features. The scale comes from the labelled pixels only,
or the map would change with the rectangle. On crops of Flanders this costs 3 points of accuracy with
one click per class, 1 with three and none from ten on, against the scale of all pixels."""

STRENGTH = 10.0
"""Inverse regularisation for rows of unit mean square. Measured on overlapping classes: from 3 to
100 the map hardly changes, and here the stated confidence is nearest to the share that is right."""

MOST_CLASSES = 64


@dataclass(frozen=True)
class Segmenter:
    """Features laid out once, to be segmented after every click.

    `segment(features, labels)` is `Segmenter.of(features)(labels)`.
    """

    features: xr.DataArray
    """(feature, y, x)."""
    pixels: Table
    geobox: GeoBox
    rows: np.ndarray
    """(y · x,) int, the row of `pixels.values` of each seen cell."""

    @classmethod
    def of(cls, features: xr.DataArray) -> "Segmenter":
        """Lay features out.

        Raises:
            AnalysisError: If these are no features, or fewer than two pixels were seen.
        """
        pixels = table(features, at_least=2)
        return cls(features, pixels, geobox_of(features), np.cumsum(pixels.seen.ravel()) - 1)

    @property
    def nbytes(self) -> int:
        """Memory that it holds (bytes)."""
        return self.features.nbytes + self.pixels.values.nbytes + self.rows.nbytes

    def __call__(self, labels: Mapping[str, Sequence[Any] | Any], seed: int = 0) -> xr.DataArray:
        """See `segment`."""
        chosen, missed = self.training(labels, seed)
        weights, offset = fit(self.pixels.values, chosen)
        scores = weights.T @ self.pixels.values.T  # (class, n): the layout of the result
        scores += offset[:, None]
        scores -= scores.max(0)
        np.exp(scores, out=scores)
        scores /= scores.sum(0)
        names = list(chosen)
        attrs = {
            **provenance(self.features),
            "kind": "continuous",
            "family": "class",
            "long_name": "probability",
            "units": "1",
            "categories": names,
            "training_pixels": [len(rows) for rows in chosen.values()],
            "labels_missed": missed,
            "seed": int(seed),
        }
        if isinstance(labels, Labels) and any(labels.colours):
            attrs["colours"] = labels.colours
        return on_grid(scores.T, self.pixels.seen, self.features, attrs, ("class", names))

    def training(
        self, labels: Mapping[str, Sequence[Any] | Any], seed: int = 0
    ) -> tuple[dict[str, np.ndarray], int]:
        """{class: rows of the table that train it}, and how many labels hit nothing.

        Raises:
            AnalysisError: As `segment`.
        """
        if not isinstance(labels, Mapping) or not 2 <= len(labels) <= MOST_CLASSES:
            count = len(labels) if isinstance(labels, Mapping) else type(labels).__name__
            raise AnalysisError(
                f"segment() needs {{class: places}} with 2 to {MOST_CLASSES} classes, but got "
                f"{count}. Mark at least one place of each of two classes."
            )
        seed = seed_of(seed, AnalysisError)
        chosen, missed = {}, 0
        for name, places in labels.items():
            cells, lost = self.cells(str(name), places)
            missed += lost
            chosen[str(name)] = self.rows[cells[sample_rows(len(cells), PER_CLASS, seed)]]
        marked = self.pixels.values[np.concatenate(list(chosen.values()))]
        if (marked == marked[0]).all():
            raise AnalysisError(
                f"All {len(marked)} labelled pixels have the same features, so nothing tells the "
                "classes apart. Mark other places, or use features that vary there."
            )
        return chosen, missed

    def cells(self, name: str, places: Any) -> tuple[np.ndarray, int]:
        """Flat indices of the seen cells of one class, and how many of its labels hit none."""
        single = isinstance(places, Mapping) or hasattr(places, "geom_type")
        pair = isinstance(places, tuple) and len(places) == 2 and np.isscalar(places[0])
        if not single and (isinstance(places, str | bytes) or not isinstance(places, Sequence)):
            raise AnalysisError(
                f"Class {name!r}: {shown(places)} are no places. Give a list of (lon, lat) pairs, "
                "shapely geometries or GeoJSON."
            )
        each = [places] if single or pair else list(places)
        pairs = [checked_place(*p) for p in each if isinstance(p, tuple | list) and len(p) == 2]
        found = [self._hit(pairs)] if pairs else []
        lost = len(pairs) - sum(len(cells) for cells in found)
        for place in each:
            if isinstance(place, tuple | list) and len(place) == 2:
                continue
            cells = np.flatnonzero(cells_of(self.features, place) & self.pixels.seen)
            lost += not len(cells)
            found.append(cells)
        cells = np.unique(np.concatenate(found)) if found else np.zeros(0, int)
        if not len(cells):
            raise AnalysisError(
                f"Class {name!r} has no usable pixel: none of its {len(each)} labels lies on a "
                "pixel where something was seen. As for the features, "
                f"{extent_sentence(self.features)}."
            )
        return cells, lost

    def _hit(self, pairs: list[tuple[float, float]]) -> np.ndarray:
        """Flat indices of the seen cells at places; fewer than places if some hit none."""
        lon, lat = np.array(pairs, float).T
        x, y = to_grid(str(self.geobox.crs)).transform(lon, lat)
        column, row = (np.floor(each) for each in self.geobox.wld2pix(x, y))
        high, wide = self.geobox.shape
        inside = (row >= 0) & (row < high) & (column >= 0) & (column < wide)
        cells = (row[inside] * wide + column[inside]).astype(int)
        return cells[self.pixels.seen.ravel()[cells]]


def segment(
    features: xr.DataArray, labels: Mapping[str, Sequence[Any] | Any], seed: int = 0
) -> xr.DataArray:
    """Probabilities of classes everywhere, learned from a few labelled places.

    What a place becomes depends on its own features and on the labelled ones, never on how large a
    rectangle was drawn around them.

    Args:
        features: (feature, y, x).
        labels: {class: places}, or `Labels`; places are (lon, lat) pairs, shapely geometries or
            GeoJSON, mixed as one likes.
        seed: Of the sample taken of large polygons.

    Returns:
        (class, y, x) float32, summing to 1 over the classes; NaN where nothing was seen. `attrs`
        hold the number of training pixels of each class, and of labels that hit nothing.

    Raises:
        AnalysisError: For fewer than two classes, a class whose places lie outside or unseen or are
            none, labelled pixels that are all alike, or no seed.
    """
    return Segmenter.of(features)(labels, seed)


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


def fit(values: np.ndarray, chosen: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The classifier behind `segment`.

    Args:
        values: (n, d) features.
        chosen: {class: rows of `values` that train it}.

    Returns:
        Weights (d, class) and offsets (class,) float32, for raw features.
    """
    rows = np.concatenate(list(chosen.values()))
    classes = np.repeat(np.arange(len(chosen)), [len(each) for each in chosen.values()])
    training = values[rows].astype(np.float64)
    mean, scale = training.mean(0), _scale(training)
    training = (training - mean) / scale
    # The optimum lies in the span of the training rows: solve there, then come back.
    _, singular, axes = np.linalg.svd(training, full_matrices=False)
    axes = axes[singular > 1e-8 * max(singular.max(), 1e-30)]
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=200)
    model.fit(training @ axes.T, classes)
    weights, offset = model.coef_ @ axes, model.intercept_
    if len(chosen) == 2:
        weights, offset = np.stack([-weights[0], weights[0]]) / 2, np.array([-1, 1]) * offset / 2
    weights = weights / scale
    offset = offset - weights @ mean
    return weights.T.astype(np.float32), offset.astype(np.float32)


def _scale(training: np.ndarray) -> np.ndarray:
    """(d,) what each feature is divided by, from the labelled rows (n, d) alone.

    The variance of a few rows is drawn towards the mean of all features' variances, as if `COMMON`
    more rows had that one.
    """
    own, count = training.var(0), len(training)
    shared = (count * own + COMMON * own.mean()) / (count + COMMON)
    return np.sqrt(np.maximum(shared, 1e-24) * training.shape[1])
