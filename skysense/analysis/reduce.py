"""Features as a few numbers per pixel: principal components and UMAP.

Both give a `Projection` that is fitted once and applied anywhere, so the same colour means the
same thing in every place.
"""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.linalg import eigh
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import randomized_svd

from skysense.analysis.pixels import (
    PROVENANCE,
    Places,
    check_same_space,
    named,
    on_grid,
    provenance,
    sample_rows,
    table,
    tables,
)
from skysense.checks import seed_of, shown, whole
from skysense.disk import path_of, reading, written
from skysense.errors import AnalysisError

FIT_VALUES = 2**23
"""A basis is fitted on at most this many numbers (65,536 pixels of 128 features)."""

FIT_PIXELS = 16_384
"""... but on no fewer pixels than this, where there are as many."""

EXACT_DIM = 256
"""Up to this many features the covariance is decomposed whole; beyond, by a randomised SVD."""

UMAP_BASIS = 32
"""UMAP starts from this many principal components: neighbours are found much faster there."""

UMAP_EPOCHS = 200
NEIGHBOURS = 15
"""UMAP's own default; also the most landmarks that place a new pixel."""

Progress = Callable[[int, int, str], None]
"""Called with (done, total, sentence)."""


@dataclass(frozen=True)
class Projection:
    """A fitted way from features to a few components. Call it on features of the same encoder."""

    kind: str
    """`pca` or `umap`."""
    mean: np.ndarray
    """(d,) what is subtracted first."""
    components: np.ndarray
    """(k, d) orthonormal rows."""
    low: np.ndarray
    """(n,) 2nd percentile of each component over the fitted pixels: the dark end of a picture."""
    high: np.ndarray
    """(n,) 98th percentile: the bright end."""
    attrs: dict[str, Any]
    """Provenance of the features it was fitted on, `fitted_on` included."""
    explained: np.ndarray | None = None
    """(n,) share of the variance in each component, 0..1 (PCA only)."""
    landmarks: np.ndarray | None = None
    """(m, k) fitted pixels in the basis (UMAP only)."""
    placed: np.ndarray | None = None
    """(m, n) where UMAP put them."""

    @property
    def dim(self) -> int:
        """Number of features it reads."""
        return self.components.shape[1]

    @property
    def n(self) -> int:
        """Number of components it gives."""
        return len(self.low)

    def __call__(self, features: xr.DataArray) -> xr.DataArray:
        """Components of a place.

        Args:
            features: (feature, y, x) of the encoder it was fitted with.

        Returns:
            (component, y, x) float32; NaN where nothing was seen. `attrs` hold the stretch and,
            under `basis_...`, what the projection was fitted on. Three components are a colour
            picture (kind `rgb`).

        Raises:
            AnalysisError: If the features are another encoder's.
        """
        pixels = table(features)
        check_same_space(self.attrs, self.dim, features, f"the {self.kind} basis")
        scores = self.transform(pixels.values)
        attrs = {
            **provenance(features),
            **{f"basis_{key}": value for key, value in self.attrs.items()},
            "kind": "rgb" if self.n == 3 else "continuous",
            "long_name": "principal components" if self.kind == "pca" else "UMAP coordinates",
            "units": "",
            "projection": self.kind,
            "stretch_low": [float(v) for v in self.low],
            "stretch_high": [float(v) for v in self.high],
        }
        if self.explained is not None:
            attrs["explained"] = [float(v) for v in self.explained]
        return on_grid(scores, pixels.seen, features, attrs, ("component", range(1, self.n + 1)))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """(rows, n) components of (rows, d) feature vectors."""
        scores = values @ self.components.T - self.mean @ self.components.T
        if self.landmarks is None or self.placed is None:
            return scores
        return _by_landmarks(scores, self.landmarks, self.placed)

    def save(self, path: str | Path) -> Path:
        """Write it to one `.npz` file; `open_projection` gives it back.

        Args:
            path: Where, ending in `.npz`; what is there is replaced.

        Raises:
            AnalysisError: For another ending, or a place that cannot be written.
        """
        path = path_of(path, AnalysisError)
        if path.suffix != ".npz":
            raise AnalysisError(f"{path} does not end in .npz, which is how projections are kept.")
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        present = {name: array for name, array in arrays.items() if array is not None}
        try:
            text = json.dumps({"kind": self.kind, "attrs": self.attrs})
        except TypeError as error:
            raise AnalysisError(
                f"What the projection was fitted on cannot be kept in a file: {error}."
            ) from error
        with written(path, AnalysisError) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, facts=np.array(text), **present)
        return path


_ARRAYS = ("mean", "components", "low", "high", "explained", "landmarks", "placed")


def open_projection(path: str | Path) -> Projection:
    """Read a projection written by `Projection.save`.

    Raises:
        AnalysisError: If there is no projection in the file, or it is damaged.
    """
    path = path_of(path, AnalysisError)
    with reading(path, AnalysisError, "a projection"):
        with np.load(path, allow_pickle=False) as stored:
            facts = json.loads(str(stored["facts"]))
            arrays = {name: stored[name] for name in _ARRAYS if name in stored}
        found = Projection(kind=facts["kind"], attrs=dict(facts["attrs"]), **arrays)
        given = np.zeros((1, found.dim), np.float32)
        if found.mean.shape != (found.dim,) or found.transform(given).shape != (1, found.n):
            raise ValueError("its arrays do not fit together")
    return found


def fit_pca(features: Places, n: int = 3) -> Projection:
    """The directions along which features vary most, over one or several places.

    Signs are fixed (the cubes of each direction's weights sum to a positive number), so a refit
    on slightly different pixels does not turn colours into their opposites.

    Args:
        features: (feature, y, x), a list of such, or {name: features}; several places count by
            their pixels.
        n: How many components, up to the number of features.

    Returns:
        A projection of kind `pca` from d features to n components, with the share of the variance
        in each.

    Raises:
        AnalysisError: If too little was seen, or `n` is not a whole number up to that of features.
    """
    places = named(features)
    first = next(iter(places.values()))
    dim = first.sizes["feature"]
    n = whole("n", n, 1, dim, AnalysisError)
    rows = _fit_rows([part.values for part in tables(places, n + 1).values()])
    mean, components, explained = principal(rows, n)
    scores = (rows - mean) @ components.T
    low, high = np.percentile(scores, (2, 98), axis=0)
    return Projection(
        "pca", mean, components, low, high, _fit_attrs(first, places), explained=explained
    )


def pca(features: xr.DataArray, n: int = 3, basis: Projection | None = None) -> xr.DataArray:
    """Principal components of a place: (component, y, x) float32, a colour picture for n = 3.

    Args:
        features: (feature, y, x).
        n: How many components, where no `basis` is given.
        basis: A fitted projection, to show this place in another's colours; `n` is then its own.

    Raises:
        AnalysisError: As `fit_pca`; or if the basis is none, or of another encoder.
    """
    if basis is not None and not isinstance(basis, Projection):
        raise AnalysisError(
            f"basis={shown(basis)} is not a Projection; fit_pca(features) makes one, or leave it out."
        )
    n = whole("n", n, 1, None, AnalysisError)
    return (basis if basis is not None else fit_pca(features, n))(features)


def fit_umap(
    features: Places,
    n: int = 2,
    sample: int = 5_000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Projection:
    """UMAP of a sample of pixels; every other pixel goes between its nearest sampled neighbours.

    Distances in the picture mean little, neighbourhoods mean something (McInnes et al. 2018,
    arXiv 1802.03426). Seeded, hence on one thread.

    Args:
        features: (feature, y, x), a list of such, or {name: features}.
        n: Components of the result: 1, 2 for a scatter plot, 3 for colours.
        sample: How many pixels UMAP itself arranges, at least 60; all there are if fewer.
        seed: Of the sample and of UMAP, 0 to 2³² − 1.
        progress: Called with (done, total, sentence) as training goes on; what it raises stops it.

    Returns:
        A projection of kind `umap` from d features to n coordinates without units, with the
        arranged pixels (m, k) and where they were put (m, n).

    Raises:
        AnalysisError: If fewer than 30 pixels were seen, an argument is out of its range, places
            come from two encoders, or umap-learn is not installed.
    """
    places = named(features)
    n = whole("n", n, 1, 3, AnalysisError)
    sample = whole("sample", sample, 4 * NEIGHBOURS, None, AnalysisError)
    seed = seed_of(seed, AnalysisError)
    if progress is not None and not callable(progress):
        raise AnalysisError(
            f"progress={shown(progress)} cannot be called; give a function (done, total, sentence)."
        )
    try:
        umap_learn = importlib.import_module("umap")
    except ImportError as error:
        raise AnalysisError(
            "UMAP needs the package umap-learn, which is not installed. "
            "Run `pip install umap-learn`, or use fit_pca."
        ) from error
    first = next(iter(places.values()))
    parts = [part.values for part in tables(places, 2 * NEIGHBOURS).values()]
    rows = np.concatenate(parts)
    rows = rows[sample_rows(len(rows), sample, seed)]
    mean, components, _ = principal(rows, min(UMAP_BASIS, rows.shape[1]))
    landmarks = (rows - mean) @ components.T
    model = umap_learn.UMAP(
        n_components=n,
        n_neighbors=min(NEIGHBOURS, len(landmarks) - 1),
        n_epochs=UMAP_EPOCHS,
        random_state=seed,
        n_jobs=1,
        tqdm_kwds={
            "file": _Ticker(progress),
            "bar_format": "{n_fmt}/{total_fmt}",
            "disable": progress is None,
        },
    )
    if progress is not None:
        progress(0, UMAP_EPOCHS, f"UMAP: finding neighbours of {len(landmarks):,} pixels")
    placed = np.asarray(model.fit_transform(landmarks), np.float32)
    if progress is not None:
        progress(UMAP_EPOCHS, UMAP_EPOCHS, "UMAP: done")
    low, high = np.percentile(placed, (2, 98), axis=0)
    attrs = {**_fit_attrs(first, places), "seed": seed, "sample": len(landmarks)}
    return Projection(
        "umap", mean, components, low, high, attrs, landmarks=landmarks, placed=placed
    )


def umap(features: xr.DataArray, n: int = 2, sample: int = 5_000, seed: int = 0) -> xr.DataArray:
    """UMAP coordinates of a place: `fit_umap` and its projection in one call.

    Args:
        features: (feature, y, x).
        n: Components of the result: 1, 2 for a scatter plot, 3 for colours.
        sample: How many pixels UMAP itself arranges, at least 60.
        seed: Of the sample and of UMAP, 0 to 2³² − 1.

    Returns:
        (component, y, x) float32 without units; NaN where nothing was seen. `attrs` hold the
        stretch; three components are a colour picture (kind `rgb`).

    Raises:
        AnalysisError: As `fit_umap`.
    """
    return fit_umap(features, n, sample, seed)(features)


class _Ticker:
    """The file that UMAP's progress bar writes to: turns `12/200` into a call of `progress`."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress

    def write(self, text: str) -> None:
        """Pass one state of the bar on."""
        done, slash, total = text.strip().partition("/")
        if self.progress is None or not slash or not (done + total).isdigit():
            return
        progress, self.progress = self.progress, None  # a bar closing after a cancel stays quiet
        progress(int(done), int(total), f"UMAP: epoch {done} of {total}")
        self.progress = progress

    def flush(self) -> None:
        """Nothing is held back."""


def _fit_rows(parts: list[np.ndarray]) -> np.ndarray:
    """Rows to fit on: all of them, or evenly spaced ones of every place where there are many."""
    count = sum(len(part) for part in parts)
    limit = max(FIT_PIXELS, FIT_VALUES // parts[0].shape[1])
    step = -(-count // limit)
    return np.concatenate([part[::step] for part in parts])


def principal(rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (d,), the first n principal directions (n, d), their share of the variance (n,)."""
    mean = rows.mean(0, dtype=np.float64).astype(np.float32)
    centred = rows - mean
    total = float(np.einsum("nd,nd->", centred, centred, dtype=np.float64)) / max(len(rows) - 1, 1)
    dim = rows.shape[1]
    if dim <= EXACT_DIM or n > dim // 4:
        covariance = (centred.T @ centred).astype(np.float64) / max(len(rows) - 1, 1)
        variance, vectors = eigh(covariance, subset_by_index=(dim - n, dim - 1))
        variance, components = variance[::-1], vectors.T[::-1]
    else:
        _, singular, components = randomized_svd(centred, n, n_iter=4, random_state=0)  # type: ignore[arg-type]
        variance = singular.astype(np.float64) ** 2 / max(len(rows) - 1, 1)
    signs = np.where((components.astype(np.float64) ** 3).sum(1) < 0, -1.0, 1.0)
    components = (components * signs[:, None]).astype(np.float32)
    explained = np.maximum(variance, 0) / total if total > 0 else np.zeros(n)
    return mean, components, explained


def _by_landmarks(scores: np.ndarray, landmarks: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """Each row between its nearest landmarks, nearer ones counting more; landmarks stay put."""
    finder = NearestNeighbors(n_neighbors=min(5, len(landmarks)), algorithm="brute").fit(landmarks)
    distance, index = finder.kneighbors(scores)
    weight = 1.0 / np.maximum(distance, 1e-6) ** 2
    weight /= weight.sum(1, keepdims=True)
    return np.einsum("nk,nkc->nc", weight, placed[index]).astype(np.float32)


def _fit_attrs(first: xr.DataArray, places: dict[str, xr.DataArray]) -> dict[str, Any]:
    """What a projection was fitted on, as plain values that JSON keeps."""
    facts = {key: first.attrs[key] for key in PROVENANCE if key in first.attrs and key != "notes"}
    return {**facts, "fitted_on": list(places)}
