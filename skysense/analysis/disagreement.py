"""What two encoders see differently in one place, although their features cannot be compared as numbers.

Features of two encoders have other widths and other axes. What can be compared is which cells each finds
alike: the neighbours of a cell among the others, how the whole place is laid out, which groups it falls
into. Turning or shifting either feature space, or scaling it as a whole, changes nothing.
"""

from typing import Any

import numpy as np
import xarray as xr
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from skysense.analysis.pixels import (
    check_features,
    field_like,
    geobox_of,
    provenance,
    sample_rows,
    table,
)
from skysense.analysis.prototypes import unit
from skysense.checks import seed_of, whole
from skysense.errors import AnalysisError

NEAR = 80.0
"""Cells closer than this along both axes (m) are no neighbours: tokens of 40 m make them alike."""

SHARE = 0.01
"""How many of the cells that are looked at are neighbours, where nobody names a number."""

LEAST = 5
"""Fewest neighbours then."""

CHUNK = 2_048
"""Cells whose neighbours are looked for at once."""


def disagreement(
    one: xr.DataArray,
    other: xr.DataArray,
    control: xr.DataArray | tuple[xr.DataArray, xr.DataArray] | None = None,
    *,
    neighbours: int | None = None,
    sample: int = 2_000,
    groups: int = 8,
    seed: int = 0,
) -> xr.DataArray:
    """Where two encoders find other cells alike, and how far they agree over the whole place.

    A fixed sample of the place's cells is ranked by cosine, after the mean of the place is taken off,
    once with either encoder's features; those nearer than 80 m are left out. The value of a cell is the
    share of its nearest that the two do not have in common. It says that two encoders differ, not
    which of them is right, and it speaks of this place: other cells to compare with give other values.

    Args:
        one: (feature, y, x) of one encoder.
        other: The same cells by another.
        control: What `one` would give if only chance had changed, such as the features of the same
            encoder from other dates; or two of those, such as `half_features` makes, which are then
            compared with each other. The same figures are made of it.
        neighbours: How many cells are nearest; a hundredth of the sample if None, and at least 5.
        sample: Most cells that are looked at, 50 to 10,000.
        groups: Of each encoder's clusters, for the Rand index.
        seed: Of the sample and the clusters.

    Returns:
        (y, x) continuous, 0 (the same neighbours) to 1 (none in common); NaN where either saw nothing.
        `attrs` hold the figures: `overlap`, mean share of neighbours in common, with `overlap_chance`;
        `cka`, linear centred kernel alignment, with `cka_shuffled`; `rand`, adjusted Rand index of
        clusters, 0 by chance; each with `_control` where there is one. `neighbours` and `cells` say of
        how many.

    Raises:
        AnalysisError: If they lie on different grids, too few cells were seen by both, or a number is
            none.
    """
    seed = seed_of(seed, AnalysisError)
    sample = whole("sample", sample, 50, 10_000, AnalysisError)
    groups = whole("groups", groups, 2, 64, AnalysisError)
    pair = (one, control) if isinstance(control, xr.DataArray) else control
    for each in (other, *(pair or ())):
        _check_grid(one, each)
    found, figures, seen = _compared(one, other, neighbours, sample, groups, seed)
    grid = np.full(seen.shape, np.nan, np.float32)
    grid[seen] = 1 - found
    if pair is not None:
        _, again, _ = _compared(*pair, neighbours, sample, groups, seed)
        figures |= {f"{key}_control": again[key] for key in ("overlap", "cka", "rand")}
    attrs = provenance(one, other=other) | {
        "kind": "continuous",
        "long_name": f"neighbours not shared with {other.attrs.get('encoder', 'the other')}",
        "units": "share",
        "seed": seed,
        "groups": groups,
        **figures,
    }
    return field_like(one, grid, attrs)


def _compared(
    one: xr.DataArray,
    other: xr.DataArray,
    neighbours: int | None,
    sample: int,
    groups: int,
    seed: int,
) -> tuple[np.ndarray, dict[str, Any], np.ndarray]:
    """Shares of neighbours in common (n,), the figures, and the (y, x) cells that both saw."""
    tables = [table(each) for each in (one, other)]
    seen = tables[0].seen & tables[1].seen
    rows = [_centred(each.values[seen[each.seen]]) for each in tables]
    count = int(seen.sum())
    chosen = sample_rows(count, sample, seed)
    k = _neighbours(neighbours, len(chosen))
    where = _places(one)[seen]
    shared, free = _in_common(rows, where, chosen, k)
    parts = [each[chosen] for each in rows]
    if groups > len(chosen):
        raise AnalysisError(f"{len(chosen)} cells make no {groups} groups; ask for fewer.")
    order = np.random.default_rng(seed).permutation(len(chosen))
    labels = [KMeans(groups, n_init=4, random_state=seed).fit(part).labels_ for part in parts]
    figures = {
        "overlap": float(shared.mean()),
        "overlap_chance": float((k / free).mean()),
        "cka": _cka(*parts),
        "cka_shuffled": _cka(parts[0], parts[1][order]),
        "rand": float(adjusted_rand_score(*labels)),
        "neighbours": k,
        "cells": len(chosen),
    }
    return shared.astype(np.float32), figures, seen


def _in_common(
    rows: list[np.ndarray], where: np.ndarray, chosen: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each cell, the share of its k nearest that both have, and among how many they were found."""
    shared, free = np.empty(len(where)), np.empty(len(where))
    for start in range(0, len(where), CHUNK):
        part = slice(start, start + CHUNK)
        apart = np.abs(where[part, None] - where[None, chosen])  # n m 2
        near = (apart < NEAR).all(-1)
        free[part] = (~near).sum(1)
        if free[part].min() < 2 * k:
            raise AnalysisError(
                f"Cells have only {int(free[part].min())} others at least {NEAR:g} m away to look at, "
                f"and {2 * k} are needed for {k} neighbours. Choose a larger place or a finer "
                "resolution, or ask for fewer."
            )
        nearest = []
        for each in rows:
            alike = np.where(near, -np.inf, each[part] @ each[chosen].T)
            nearest.append(np.argpartition(alike, -k, axis=1)[:, -k:])
        has = np.zeros(near.shape, bool)
        np.put_along_axis(has, nearest[0], True, axis=1)
        shared[part] = np.take_along_axis(has, nearest[1], axis=1).mean(1)
    return shared, free


def _neighbours(asked: int | None, cells: int) -> int:
    if asked is not None:
        return whole("neighbours", asked, 1, max(1, cells // 2), AnalysisError)
    return max(LEAST, round(SHARE * cells))


def _centred(rows: np.ndarray) -> np.ndarray:
    """Rows from their mean, scaled to length one."""
    return unit(rows - rows.mean(0, dtype=np.float64).astype(np.float32))


def _cka(a: np.ndarray, b: np.ndarray) -> float:
    """Linear centred kernel alignment of paired rows, 0..1 (Kornblith et al. 2019)."""
    x, y = (np.asarray(each, np.float64) - each.mean(0, dtype=np.float64) for each in (a, b))
    apart = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(x.T @ y) ** 2 / apart) if apart > 0 else 0.0


def _places(features: xr.DataArray) -> np.ndarray:
    """(y, x, 2) where cells lie (m)."""
    return np.stack(np.meshgrid(features["y"].values, features["x"].values, indexing="ij"), -1)


def _check_grid(one: xr.DataArray, other: Any) -> None:
    for each in (one, other):
        check_features(each)
    grid, theirs = geobox_of(one), geobox_of(other)
    if grid != theirs:
        raise AnalysisError(
            f"The features lie on {grid.shape.y} × {grid.shape.x} cells of {grid.resolution.x:g} m and "
            f"on {theirs.shape.y} × {theirs.shape.x} of {theirs.resolution.x:g} m, not the same cells. "
            "Embed both with the same region and resolution."
        )
