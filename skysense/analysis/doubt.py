"""How far a picture is to be believed: a null model beside it, and what nothing known explains."""

import numpy as np
import xarray as xr

from skysense.analysis.pixels import on_grid, provenance, table
from skysense.analysis.prototypes import assign
from skysense.checks import seed_of
from skysense.errors import AnalysisError


def shuffled(features: xr.DataArray, seed: int = 0) -> xr.DataArray:
    """The same features with their cells in random order: a null model without any place.

    Values, groups and their sizes are those of the real features; only where they lie is lost. What
    looks as convincing on this map owes nothing to the ground.

    Args:
        features: (feature, y, x). Cells at which nothing was seen stay where they are.
        seed: Of the order.

    Returns:
        (feature, y, x); `attrs["shuffled"]` and every picture made of them say so.

    Raises:
        AnalysisError: If these are no features, nothing was seen, or it is no seed.
    """
    seed = seed_of(seed, AnalysisError)
    pixels = table(features)
    order = np.random.default_rng(seed).permutation(len(pixels.values))
    values = np.asarray(features.values).copy()
    values[:, pixels.seen] = values[:, pixels.seen][:, order]
    found = features.copy(data=values)
    name = features.attrs.get("long_name", "features")
    found.attrs |= {"long_name": f"{name}, shuffled", "shuffled": f"cells, seed={seed}"}
    return found


def novelty(features: xr.DataArray, bank: xr.DataArray) -> xr.DataArray:
    """How far each cell is from everything that a bank knows.

    Args:
        features: (feature, y, x).
        bank: As for `assign`.

    Returns:
        (y, x) 1 − cosine with the nearest prototype, 0 (a prototype itself) to 2.

    Raises:
        AnalysisError: As `assign`.
    """
    strength = np.asarray(assign(features, bank)["strength"].values)
    seen = np.isfinite(strength)
    attrs = {
        **provenance(features, bank=bank),
        "kind": "continuous",
        "long_name": "distance to the nearest prototype",
        "units": "1 − cosine",
    }
    return on_grid(1 - strength[seen], seen, features, attrs)
