"""How well a map agrees with labels."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.metrics import adjusted_rand_score

from skysense.analysis.pixels import check_categorical, geobox_of
from skysense.errors import AnalysisError


@dataclass(frozen=True)
class Agreement:
    """A map against labels, over the pixels where both say something."""

    accuracy: float
    """Share of pixels with the right class, 0..1; NaN where the names have nothing in common."""
    miou: float
    """Mean over classes of intersection over union, 0..1; NaN as above."""
    ari: float
    """Adjusted Rand index, -0.5..1: 0 is chance, 1 the same partition whatever it is called."""
    confusion: pd.DataFrame
    """Pixels by true class (rows) and mapped class (columns)."""
    n: int
    """Number of pixels compared."""

    @property
    def named(self) -> bool:
        """True if classes share names, so accuracy and IoU mean something."""
        return bool(np.isfinite(self.accuracy))

    @property
    def iou(self) -> pd.Series:
        """Intersection over union of each class, 0..1; empty where names have nothing in common."""
        return _iou(self.confusion) if self.named else pd.Series(dtype=float)

    def __str__(self) -> str:
        ari = f"adjusted Rand index {self.ari:.2f} over {self.n:,} pixels"
        if not self.named:
            return f"{ari} (the two have no class name in common, so no accuracy)"
        return f"accuracy {self.accuracy:.0%}, mean IoU {self.miou:.2f}, {ari}"


def agreement(predicted: xr.DataArray, truth: xr.DataArray) -> Agreement:
    """Compare a categorical field with labels on the same grid.

    Classes are matched by name. Groups or prototypes have names of their own, so for them only
    the adjusted Rand index and the table are given.

    Args:
        predicted: (y, x) categorical.
        truth: (y, x) categorical, as `label_field` gives it.

    Raises:
        AnalysisError: If one is not categorical, the grids differ, or no pixel is in both.
    """
    check_categorical(predicted, "map")
    check_categorical(truth, "labels")
    if geobox_of(predicted) != geobox_of(truth):
        raise AnalysisError(
            f"The map is on a grid of {predicted.shape} cells and the labels on another of "
            f"{truth.shape}. Put the labels on it: label_field(labels, features)."
        )
    both = np.isfinite(predicted.values) & np.isfinite(truth.values)
    n = int(both.sum())
    if n == 0:
        raise AnalysisError("No pixel has both a label and a mapped class: nothing to compare.")
    columns, mapped = _named(predicted, both)
    rows, true = _named(truth, both)
    counts = np.bincount(true * len(columns) + mapped, minlength=len(rows) * len(columns))
    confusion = pd.DataFrame(
        counts.reshape(len(rows), len(columns)),
        index=pd.Index(rows, name="labels"),
        columns=pd.Index(columns, name="map"),
    )
    ari = float(adjusted_rand_score(true, mapped))
    if not set(rows) & set(columns):
        return Agreement(np.nan, np.nan, ari, confusion, n)
    right = int(np.diag(_square(confusion)).sum())
    return Agreement(right / n, float(_iou(confusion).mean()), ari, confusion, n)


def _named(field: xr.DataArray, both: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Distinct names of a field, and the number of the name at each compared pixel."""
    categories = [str(name) for name in field.attrs["categories"]]
    names = list(dict.fromkeys(categories))
    number = np.array([names.index(name) for name in categories])
    return names, number[field.values[both].astype(int)]


def _square(confusion: pd.DataFrame) -> np.ndarray:
    names = list(dict.fromkeys([*confusion.index, *confusion.columns]))
    return confusion.reindex(index=names, columns=names, fill_value=0).to_numpy()


def _iou(confusion: pd.DataFrame) -> pd.Series:
    """IoU of every class that occurs in the labels or the map."""
    names = list(dict.fromkeys([*confusion.index, *confusion.columns]))
    square = _square(confusion)
    hit = np.diag(square)
    union = square.sum(0) + square.sum(1) - hit
    found = {name: h / u for name, h, u in zip(names, hit, union, strict=True) if u > 0}
    return pd.Series(found, name="iou", dtype=float)
