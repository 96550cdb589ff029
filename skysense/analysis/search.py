"""Where else does it look like this?"""

from typing import Any

import numpy as np
import xarray as xr

from skysense.analysis.pixels import on_grid, provenance, table
from skysense.analysis.places import cell_at, checked_place, extent_sentence
from skysense.analysis.prototypes import unit
from skysense.checks import shown
from skysense.errors import AnalysisError


def similarity(features: xr.DataArray, to: Any, unlike: Any = None) -> xr.DataArray:
    """How alike every pixel is to one place or several, and how unlike others.

    With several examples the best counts: the largest cosine to any of `to`, less, if there are
    counter-examples, the largest cosine to any of `unlike`. Then 0 is where a pixel is as much like
    the one as like the other, and a pixel is above 0 if its nearest example is one of `to`.

    Args:
        features: (feature, y, x).
        to: (lon, lat) inside the features, or a vector of as many numbers as there are features,
            for example a row of a bank or a pixel of another place; or a list of such.
        unlike: The same, of what is not looked for.

    Returns:
        (y, x) cosine, -1..1; with `unlike` the difference of two, -2..2, of kind `diverging`.
        `attrs["target"]` says what to, `attrs["unlike"]` how many counter-examples there were.

    Raises:
        AnalysisError: If a place is outside, nothing was seen there, a vector does not fit, or
            there is no example.
    """
    pixels = table(features)
    direction = unit(pixels.values)
    wanted, words = _targets(features, to)
    found = np.clip(_best(direction, wanted), -1, 1)
    attrs = {
        **provenance(features),
        "kind": "continuous",
        "long_name": "similarity",
        "units": "cosine",
        "target": words,
    }
    if unlike is not None:
        others, _ = _targets(features, unlike)
        found = found - np.clip(_best(direction, others), -1, 1)
        attrs |= {"kind": "diverging", "unlike": len(others)}
        attrs["target"] += f", unlike {len(others)} other{'s' * (len(others) > 1)}"
    return on_grid(found, pixels.seen, features, attrs)


def _best(direction: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(n,) the largest cosine of each unit row to any target."""
    length = np.linalg.norm(targets, axis=1, keepdims=True)
    if (length == 0).any():
        raise AnalysisError("The target vector is all zeros: it has no direction to compare with.")
    return (direction @ (targets / length).T).max(1)


def _targets(features: xr.DataArray, to: Any) -> tuple[np.ndarray, str]:
    """(k, feature) of one target or several, and what they are in words."""
    several = isinstance(to, list | tuple) and any(
        isinstance(each, list | tuple | np.ndarray | xr.DataArray) for each in to
    )
    if isinstance(to, np.ndarray | xr.DataArray) and to.ndim == 2:
        several = len(to) > 0
    if not several:
        vector, words = _target(features, to)
        return vector[None], words
    found = [_target(features, each) for each in to]
    words = found[0][1] if len(found) == 1 else f"the nearest of {len(found)} examples"
    return np.stack([vector for vector, _ in found]), words


def _target(features: xr.DataArray, to: Any) -> tuple[np.ndarray, str]:
    dim = features.sizes["feature"]
    try:
        vector = np.asarray(to, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise AnalysisError(
            f"{shown(to)} is neither (lon, lat) nor a feature vector; give one of them."
        ) from error
    if vector.shape == (2,) and (isinstance(to, tuple | list) or dim != 2):
        lon, lat = checked_place(*to)
        cell = cell_at(features, lon, lat)
        if cell is None:
            raise AnalysisError(
                f"({lon:g}, {lat:g}) lies outside the features: {extent_sentence(features)}."
            )
        found = np.asarray(features.values[:, cell[0], cell[1]], np.float32)
        if not np.isfinite(found).all():
            raise AnalysisError(
                f"Nothing valid was seen at ({lon:g}, {lat:g}). Choose a place beside it."
            )
        return found, f"{lon:.5f} °E, {lat:.5f} °N"
    if vector.shape != (dim,) or not np.isfinite(vector).all():
        raise AnalysisError(
            f"A target of shape {vector.shape} does not fit {dim} features: give (lon, lat), or "
            f"{dim} finite numbers."
        )
    return vector, "a feature vector"
