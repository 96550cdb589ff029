"""What each prototype of a bank looks like and where it fires: examples, shares, neighbours."""

import itertools

import numpy as np
import pandas as pd
import xarray as xr

from skysense.analysis.comparison import BLOCK
from skysense.analysis.pixels import Places, named
from skysense.analysis.prototypes import assign, check_bank, names_of, unit
from skysense.checks import number, whole
from skysense.errors import AnalysisError

MOST_TRIED = 400
"""Cells of one prototype among which examples are looked for, the strongest first."""

_COLUMNS = ["prototype", "rank", "region", "x", "y", "strength"]


def examples(
    features: Places,
    bank: xr.DataArray,
    n: int = 4,
    apart: float = 80.0,
    margin: float = 0.0,
) -> pd.DataFrame:
    """The cells that are most like each prototype, kept apart so that they are not one field.

    Args:
        features: (feature, y, x), a list of such, or {name: features}.
        bank: (prototype, feature).
        n: Examples of each prototype, 1 to 100; fewer where it has fewer cells that far apart.
        apart: Least distance between two examples of one prototype in one place (m).
        margin: Cells nearer than this to the edge of the place (m) are taken only where there are
            not enough others, so that a picture of their surroundings is whole.

    Returns:
        One row per example: `prototype` (from 0), `rank` (0 is the best), `region` (the name
        of the place), `x`, `y` (m, in the place's CRS) and `strength` (cosine, −1..1).

    Raises:
        AnalysisError: If the bank is another encoder's, or an argument is out of its range.
    """
    n = whole("n", n, 1, 100, AnalysisError)
    apart = number("apart", apart, 0, 1e6, AnalysisError)
    margin = number("margin", margin, 0, 1e6, AnalysisError)
    rows = []
    for name, each in named(features).items():
        rows += [(*cell, name) for cell in _strongest(assign(each, bank), margin)]
    found = pd.DataFrame(rows, columns=["prototype", "edge", "strength", "x", "y", "region"])
    order = ["prototype", "edge", "strength"]
    found = found.sort_values(order, ascending=[True, True, False], kind="stable")
    kept = [
        {**row, "rank": rank}
        for _, cells in found.groupby("prototype", sort=True)
        for rank, row in enumerate(_apart(cells.to_dict("records"), n, apart))
    ]
    return pd.DataFrame(kept, columns=_COLUMNS)


def atlas(features: Places, bank: xr.DataArray, neighbours: int = 3) -> xr.Dataset:
    """Where every prototype of a bank fires, how strongly, and what it resembles.

    Args:
        features: (feature, y, x), a list of such, or {name: features}.
        bank: (prototype, feature).
        neighbours: How many nearest prototypes to name, 1 to 20; fewer in a smaller bank.

    Returns:
        With the dimensions `region`, `prototype` and `rank`:
        `share` (region, prototype): share of the pixels, 0..1, rows sum to 1;
        `strength` (region, prototype): mean cosine of its pixels, NaN where it has none;
        `spread` (region, prototype): entropy of its pixels over blocks of 160 m, 0 (all in one)
        to 1 (as even as the pixels of the place themselves, or more), NaN where it has none;
        `nearest`, `cosine` (prototype, rank): the most similar prototypes and how similar.
        The coordinate `name` (prototype) is what they are called.

    Raises:
        AnalysisError: If the bank is another encoder's, or `neighbours` is out of its range.
    """
    check_bank(bank)
    neighbours = whole("neighbours", neighbours, 1, 20, AnalysisError)
    places = named(features)
    k = bank.sizes["prototype"]
    share, strength, spread = (np.full((len(places), k), np.nan) for _ in range(3))
    for i, each in enumerate(places.values()):
        share[i], strength[i], spread[i] = _firing(assign(each, bank), k)
    rows = unit(bank.values).astype(np.float64)
    alike = np.clip(rows @ rows.T, -1, 1)
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, : min(neighbours, k - 1)]
    by_place, by_rank = ("region", "prototype"), ("prototype", "rank")
    return xr.Dataset(
        {
            "share": (by_place, share, {"long_name": "share of pixels", "units": "1"}),
            "strength": (by_place, strength, {"long_name": "mean cosine", "units": "1"}),
            "spread": (by_place, spread, {"long_name": "entropy over blocks", "units": "1"}),
            "nearest": (by_rank, nearest),
            "cosine": (by_rank, np.take_along_axis(alike, nearest, 1)),
        },
        {
            "region": list(places),
            "prototype": np.arange(k),
            "name": ("prototype", names_of(bank)),
        },
        {"fitted_on": list(bank.attrs.get("fitted_on", []))},
    )


def _strongest(field: xr.DataArray, margin: float) -> list[tuple[int, bool, float, float, float]]:
    """(prototype, at the edge, strength, x, y) of the strongest cells of every prototype."""
    numbers, strength = field.values, field["strength"].values
    row, column = np.nonzero(np.isfinite(numbers))
    which, how = numbers[row, column].astype(int), strength[row, column]
    x, y = field["x"].values[column], field["y"].values[row]
    away = np.minimum.reduce(
        [np.abs(each - end) for each, axis in ((x, "x"), (y, "y")) for end in _ends(field[axis])]
    )
    edge = away < margin
    order = np.lexsort((-how, edge, which))
    starts = np.searchsorted(which[order], np.arange(which.max(initial=-1) + 2))
    kept = np.concatenate(
        [order[a : min(b, a + MOST_TRIED)] for a, b in itertools.pairwise(starts)]
        or [np.zeros(0, int)]
    )
    parts = (which, edge, how, x, y)
    return list(zip(*(part[kept].tolist() for part in parts), strict=True))


def _ends(axis: xr.DataArray) -> tuple[float, float]:
    """Both edges of a grid along an axis (m)."""
    values = axis.values.astype(float)
    half = abs(values[-1] - values[0]) / max(len(values) - 1, 1) / 2
    return values.min() - half, values.max() + half


def _apart(cells: list[dict], n: int, apart: float) -> list[dict]:
    """The first n of cells that keep away from the ones before them in the same place."""
    kept: list[dict] = []
    for cell in cells:
        if len(kept) == n:
            break
        if all(
            cell["region"] != other["region"]
            or np.hypot(cell["x"] - other["x"], cell["y"] - other["y"]) >= apart
            for other in kept
        ):
            kept.append(cell)
    return kept


def _firing(field: xr.DataArray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(share, mean strength, spread) of each prototype, (k,) each."""
    seen = np.isfinite(field.values)
    which = field.values[seen].astype(int)
    count = np.bincount(which, minlength=k).astype(float)
    none = np.where(count > 0, 1.0, np.nan)
    mean = np.bincount(which, field["strength"].values[seen], k) / np.maximum(count, 1)
    column = np.floor(field["x"].values / BLOCK).astype(np.int64)
    row = np.floor(field["y"].values / BLOCK).astype(np.int64)
    place = np.stack(np.broadcast_arrays(row[:, None], column[None, :]), -1)[seen]
    _, block = np.unique(place, axis=0, return_inverse=True)
    block = block.ravel()
    table = np.zeros((block.max() + 1, k))
    np.add.at(table, (block, which), 1)
    most = _entropy(table.sum(1))
    spread = np.array([_entropy(table[:, i]) for i in range(k)]) / max(most, 1e-12)
    return count / count.sum(), mean * none, np.minimum(spread, 1) * none


def _entropy(counts: np.ndarray) -> float:
    part = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(part * np.log(part)).sum())


__all__ = ["atlas", "examples"]
