"""Where else does it look like this?"""

from typing import Any

import numpy as np
import xarray as xr

from skysense.analysis.pixels import on_grid, provenance, table
from skysense.analysis.places import cell_at, checked_place, extent_sentence
from skysense.analysis.prototypes import unit
from skysense.checks import shown
from skysense.errors import AnalysisError


def similarity(features: xr.DataArray, to: Any) -> xr.DataArray:
    """How alike every pixel is to one place, or to a feature vector.

    Args:
        features: (feature, y, x).
        to: (lon, lat) inside the features, or a vector of as many numbers as there are features,
            for example a row of a bank or a pixel of another place.

    Returns:
        (y, x) cosine, -1..1; `attrs["target"]` says what to.

    Raises:
        AnalysisError: If the place is outside, nothing was seen there, or the vector does not fit.
    """
    pixels = table(features)
    target, words = _target(features, to)
    length = float(np.linalg.norm(target))
    if length == 0:
        raise AnalysisError("The target vector is all zeros: it has no direction to compare with.")
    cosine = unit(pixels.values) @ (target / length)
    attrs = {
        **provenance(features),
        "kind": "continuous",
        "long_name": "similarity",
        "units": "cosine",
        "target": words,
    }
    return on_grid(np.clip(cosine, -1, 1), pixels.seen, features, attrs)


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
