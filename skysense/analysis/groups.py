"""Groups: pixels with similar features, found without labels."""

import numpy as np
import xarray as xr
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.neighbors import NearestNeighbors

from skysense.analysis.pixels import on_grid, provenance, sample_rows, table
from skysense.analysis.reduce import principal
from skysense.checks import choice, seed_of, whole
from skysense.errors import AnalysisError

SAMPLE = 16_384
"""k-means is fitted on at most this many pixels; all others are assigned once."""

DENSITY_SAMPLE = 4_000
"""HDBSCAN compares every pixel with every other, so it sees this many."""

DENSITY_BASIS = 10
"""... in this many principal components: density means little in more dimensions."""

MOST_GROUPS = 64
"""More groups than this cannot be told apart by colour."""


def cluster(
    features: xr.DataArray, n: int = 8, method: str = "kmeans", seed: int = 0
) -> xr.DataArray:
    """Group the pixels of a place by their features.

    Features are standardised first, so that no single one decides by its units. Groups are
    numbered along the first principal component: a refit keeps the colours of groups that stay.

    Args:
        features: (feature, y, x).
        n: For `kmeans` the number of groups, 2 to 64. `hdbscan` finds their number itself; there
            `n` says how small a group may be, a quarter of an n-th of the pixels.
        method: `kmeans`, or `hdbscan`, which leaves pixels between the groups without one (NaN).
        seed: Of the sample and of the starting points.

    Returns:
        (y, x) categorical, values 0..groups-1.

    Raises:
        AnalysisError: If there are fewer pixels than groups, or `n`, `method` or `seed` is none.
    """
    choice("method", method, ("kmeans", "hdbscan"), AnalysisError)
    n = whole("n", n, 2, MOST_GROUPS, AnalysisError)
    seed = seed_of(seed, AnalysisError)
    pixels = table(features, at_least=max(n, 4))
    rows = pixels.values[sample_rows(len(pixels.values), SAMPLE, seed)]
    mean, scale = standard_scale(rows)
    if method == "kmeans":
        labels = _kmeans(pixels.values, (rows - mean) / scale, mean, scale, n, seed)
    else:
        labels = _hdbscan(pixels.values, mean, scale, n, seed)
    count = int(np.nanmax(labels)) + 1
    attrs = {
        **provenance(features),
        "kind": "categorical",
        "family": "group",
        "long_name": f"groups ({'k-means' if method == 'kmeans' else 'HDBSCAN'})",
        "units": "",
        "categories": [f"group {i + 1}" for i in range(count)],
        "seed": seed,
    }
    return on_grid(labels, pixels.seen, features, attrs)


def standard_scale(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (d,) of features; ones that hardly vary are not blown up."""
    mean = rows.mean(0, dtype=np.float64).astype(np.float32)
    scale = rows.std(0, dtype=np.float64).astype(np.float32)
    floor = max(1e-3 * float(np.median(scale)), 1e-12)
    return mean, np.maximum(scale, floor)


def _kmeans(
    values: np.ndarray, rows: np.ndarray, mean: np.ndarray, scale: np.ndarray, n: int, seed: int
) -> np.ndarray:
    distinct = len(np.unique(rows[: max(4 * n, 1000)], axis=0))
    if distinct < n and len(np.unique(rows, axis=0)) < n:
        raise AnalysisError(f"There are fewer than {n} different feature vectors. Use a smaller n.")
    centres = KMeans(n, n_init=4, random_state=seed).fit(rows).cluster_centers_  # type: ignore[arg-type]
    centres = centres[_order(centres)]
    # |x - c|² up to what all centres share, as one product with the unscaled features
    weights = (centres / scale).astype(np.float32)
    offset = -weights @ mean - 0.5 * (centres**2).sum(1)
    return (values @ weights.T + offset.astype(np.float32)).argmax(1).astype(np.float32)


def _hdbscan(
    values: np.ndarray, mean: np.ndarray, scale: np.ndarray, n: int, seed: int
) -> np.ndarray:
    chosen = sample_rows(len(values), DENSITY_SAMPLE, seed)
    rows = (values[chosen] - mean) / scale
    _, components, _ = principal(rows, min(DENSITY_BASIS, rows.shape[1]))
    weights = components / scale
    scores = values @ weights.T - mean @ weights.T
    smallest = max(5, len(chosen) // (4 * n))
    found = HDBSCAN(min_cluster_size=smallest, min_samples=5, copy=True).fit(scores[chosen]).labels_  # type: ignore[arg-type]
    count = int(found.max()) + 1
    if count == 0:
        raise AnalysisError(
            f"HDBSCAN found no group of at least {smallest} pixels denser than its surroundings. "
            "Use method='kmeans', or a larger n for smaller groups."
        )
    if count > MOST_GROUPS:
        raise AnalysisError(f"HDBSCAN found {count} groups, too many to tell apart; lower n.")
    centres = np.stack([scores[chosen][found == i].mean(0) for i in range(count)])
    rank = np.argsort(_order(centres))
    names = np.append(rank, np.nan)[found].astype(np.float32)  # found is -1 for noise: the last
    nearest = NearestNeighbors(n_neighbors=1).fit(scores[chosen])
    return names[nearest.kneighbors(scores, return_distance=False)[:, 0]]


def _order(centres: np.ndarray) -> np.ndarray:
    """Indices of the centres along the first principal component through them."""
    if len(centres) < 2:
        return np.arange(len(centres))
    mean, components, _ = principal(centres.astype(np.float32), 1)
    return np.argsort((centres - mean) @ components[0], kind="stable")
