"""How features are asked: simple classifiers and groupings, whose own cleverness is small.

All work on standardised features, (rows, d) float32 with mean 0 and deviation 1 over the place, so
that no output is helped or harmed by its units.
"""

import warnings

import numpy as np
import xarray as xr
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    adjusted_rand_score,
    average_precision_score,
    normalized_mutual_info_score,
)

from skysense.analysis import assign, fit_prototypes
from skysense.analysis.segmentation import STRENGTH

NEIGHBOURS = 5
PROTOTYPES = 32

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths of the linear probe that are tried, per feature of unit variance."""


def standardised(values: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and deviation 1; constant ones are dropped, unseen rows are the mean.

    Args:
        values: (n, d); a row with any NaN was not seen.
    """
    seen = np.isfinite(values).all(1)
    rows = values[seen].astype(np.float64)
    if not len(rows):
        return np.zeros((len(values), 1), np.float32)
    mean, scale = rows.mean(0), rows.std(0)
    keep = scale > 1e-6 * max(scale.max(), 1e-30)
    if not keep.any():
        return np.zeros((len(values), 1), np.float32)
    out = np.zeros((len(values), int(keep.sum())), np.float32)
    out[seen] = (rows[:, keep] - mean[keep]) / scale[keep]
    return out


def linear_scores(
    rows: np.ndarray, classes: np.ndarray, inner: np.ndarray, others: np.ndarray, count: int
) -> np.ndarray:
    """A linear probe: ridge regression on one column per class, all classes with equal weight.

    Args:
        rows: (n, d) training rows.
        classes: (n,) their classes.
        inner: (n,) bool: the part that chooses the strength; the probe is fitted to all.
        others: (m, d) rows to classify.
        count: Number of classes.

    Returns:
        (m, count) scores, the highest of which is the class.
    """
    strength = RIDGES[len(RIDGES) // 2]
    if inner.any() and not inner.all():
        solved = _ridges(rows[~inner], classes[~inner], rows[inner], count)
        weight = balance(classes[inner], count)[classes[inner]]
        right = [float(((s.argmax(1) == classes[inner]) * weight).sum()) for s in solved]
        strength = RIDGES[int(np.argmax(right))]
    return _ridges(rows, classes, others, count, (strength,))[0]


def _ridges(
    rows: np.ndarray,
    classes: np.ndarray,
    others: np.ndarray,
    count: int,
    strengths: tuple[float, ...] = RIDGES,
) -> list[np.ndarray]:
    """Scores of the other rows for every strength, from one decomposition."""
    weight = balance(classes, count)[classes]
    weight = weight / weight.sum()  # n
    x, new = rows.astype(np.float64), others.astype(np.float64)
    centre = weight @ x
    x, new = x - centre, new - centre
    target = np.eye(count)[classes]
    base = weight @ target
    root = np.sqrt(weight)[:, None]
    x, target = x * root, (target - base) * root
    if len(x) > x.shape[1]:
        level, axes = np.linalg.eigh(x.T @ x)
        left, right = new @ axes, axes.T @ (x.T @ target)
    else:  # the same in the span of the rows
        level, axes = np.linalg.eigh(x @ x.T)
        left, right = new @ (x.T @ axes), axes.T @ target
    return [left @ (right / (level + s)[:, None]) + base for s in strengths]


def balance(classes: np.ndarray, count: int) -> np.ndarray:
    """(count,) weights that give every class that is there the same say."""
    number = np.bincount(classes, minlength=count)
    return np.where(number > 0, 1 / np.maximum(number, 1), 0.0)


def neighbours(rows: np.ndarray, classes: np.ndarray, others: np.ndarray, count: int) -> np.ndarray:
    """(m,) the class of most of the nearest training rows by cosine; among equals the nearest's."""
    unit, new = _unit(rows), _unit(others)
    k = min(NEIGHBOURS, len(rows))
    near = np.argpartition(-(new @ unit.T), k - 1, axis=1)[:, :k]
    likeness = np.einsum("md,mkd->mk", new, unit[near])
    votes = np.zeros((len(others), count))
    for column in range(k):  # 2 per neighbour, and a little of the cosine to decide
        np.add.at(
            votes,
            (np.arange(len(others)), classes[near[:, column]]),
            2 * k + likeness[:, column],
        )
    return votes.argmax(1)


def few_shot(rows: np.ndarray, classes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(m,) classes from a few labelled rows: the classifier of `sky.segment`, in the place's scale.

    A multinomial logistic regression in the span of the labelled rows, with the strength that
    `skysense.analysis.segmentation` uses; that one takes the scale of the labelled rows, so that
    its map does not depend on the rectangle, while here all rows were standardised before.
    """
    scale = np.sqrt(rows.shape[1])
    training = rows.astype(np.float64) / scale
    _, singular, axes = np.linalg.svd(training, full_matrices=False)
    axes = axes[singular > 1e-8 * max(singular.max(), 1e-30)]
    if not len(axes):
        return np.full(len(others), classes[0])
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 200 steps are enough for a ranking
        model.fit(training @ axes.T, classes)
    return model.predict((others / scale) @ axes.T)


def group_agreement(rows: np.ndarray, classes: np.ndarray, seed: int) -> tuple[float, float]:
    """Adjusted Rand index and normalised mutual information of k-means with as many groups as classes."""
    count = len(np.unique(classes))
    found = KMeans(count, n_init=2, random_state=seed).fit_predict(rows)  # type: ignore[arg-type]
    return (
        float(adjusted_rand_score(classes, found)),
        float(normalized_mutual_info_score(classes, found)),
    )


def purity(
    rows: np.ndarray,
    classes: np.ndarray,
    others: np.ndarray,
    truth: np.ndarray,
    seed: int,
) -> float:
    """Share of test rows whose prototype's majority class, counted in training blocks, is theirs.

    The prototypes (`sky.fit_prototypes`) are fitted without labels.
    """
    every = np.concatenate([rows, others])
    field = xr.DataArray(every.T[:, None, :], dims=("feature", "y", "x"))
    bank = fit_prototypes(field, max(2, min(PROTOTYPES, len(rows) // 4)), seed=seed)
    nearest = assign(field, bank).values[0].astype(int)
    votes = np.zeros((bank.sizes["prototype"], int(max(classes.max(), truth.max())) + 1))
    np.add.at(votes, (nearest[: len(rows)], classes), 1)
    major = np.where(votes.sum(1) > 0, votes.argmax(1), int(np.bincount(classes).argmax()))
    return float((major[nearest[len(rows) :]] == truth).mean())


def mean_iou(predicted: np.ndarray, truth: np.ndarray, count: int) -> float:
    """Mean over the classes in truth or prediction of intersection over union, 0..1."""
    table = np.bincount(truth * count + predicted, minlength=count**2).reshape(count, count)
    hit = np.diag(table)
    union = table.sum(0) + table.sum(1) - hit
    return float((hit[union > 0] / union[union > 0]).mean())


def accuracy(predicted: np.ndarray, truth: np.ndarray, _: int = 0) -> float:
    """Share of rows with the right class, 0..1."""
    return float((predicted == truth).mean())


def mean_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean over classes of the average precision of their scores, 0..1."""
    each = [
        average_precision_score(truth == c, scores[:, c])
        for c in range(scores.shape[1])
        if 0 < (truth == c).sum() < len(truth)
    ]
    return float(np.mean(each))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
