"""Places compared by which prototypes they use, with an interval and a control.

The distance between two places is optimal transport between their shares of prototypes: how far
one has to move pixels, in feature space, to turn one place into the other. Neighbouring pixels
are not independent, so both the interval and the control draw whole 160 m blocks.
"""

import importlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from skysense.analysis.pixels import named
from skysense.analysis.prototypes import assign, check_bank, names_of, unit
from skysense.checks import seed_of, shown, whole
from skysense.errors import AnalysisError

BLOCK = 160.0
"""Side of the blocks that are drawn together (m): four Sentinel-2 tokens."""

SPLITS = 50
"""Random divisions of blocks behind each control."""


@dataclass(frozen=True)
class Comparison:
    """How alike several places are, seen through one bank."""

    names: tuple[str, ...]
    usage: xr.DataArray
    """(region, prototype) shares of pixels; rows sum to 1."""
    distance: xr.DataArray
    """(region, other) transport distance, 0 (same shares) to 2; symmetric, zero diagonal."""
    low: xr.DataArray
    """(region, other) lower end of the 95 % interval over blocks; NaN with fewer than 2 blocks."""
    high: xr.DataArray
    """(region, other) upper end."""
    control: xr.DataArray
    """(region, bound) distance between two random halves of the same place: `low` (2.5 %),
    `middle` (median) and `high` (97.5 %). A distance inside it means nothing."""
    pays: xr.DataArray
    """(region, other, prototype) what each prototype contributes; sums to the distance."""
    cost: np.ndarray
    """(prototype, prototype) 1 − cosine."""
    notes: tuple[str, ...]
    """Sentences to read with the numbers."""
    shuffled: xr.DataArray
    """(region, other, bound) the distance after the blocks of both places were mixed and dealt out
    again: what two places made of the same ground would differ by. `low`, `middle`, `high`."""
    prototypes: tuple[str, ...]
    """Names of the prototypes."""

    def flow(self, region: str, other: str) -> xr.DataArray:
        """Share of pixels that goes from each prototype of one place to each of the other.

        Returns:
            (source, target) float64, summing to 1.
        """
        self._check_names(region, other)
        plan = _plan(
            self.usage.sel(region=region).values, self.usage.sel(region=other).values, self.cost
        )
        return xr.DataArray(plan, dims=("source", "target"), attrs={"from": region, "to": other})

    def payers(self, region: str, other: str) -> pd.DataFrame:
        """Which prototypes pay for the distance between two places, the largest payer first.

        Returns:
            One row per prototype: `prototype` (number from 0), `name`, `pays` (its part of the
            distance), `part` (the same as a share of the distance, 0..1; parts sum to 1),
            `difference` (its share of `other` less its share of `region`, −1..1) and `more_in`
            (the place that has more of it; empty where both have the same).
        """
        self._check_names(region, other)
        pays = self.pays.sel(region=region, other=other).values
        difference = self.usage.sel(region=other).values - self.usage.sel(region=region).values
        table = pd.DataFrame(
            {
                "prototype": np.arange(len(pays)),
                "name": list(self.prototypes),
                "pays": pays,
                "part": pays / max(float(pays.sum()), 1e-30),
                "difference": difference,
                "more_in": np.where(difference > 0, other, np.where(difference < 0, region, "")),
            }
        )
        return table.sort_values("pays", ascending=False, kind="stable", ignore_index=True)

    def verdict(self, region: str, other: str, same_place: float = 0.0) -> str:
        """What the distance between two places says, in a few words.

        Args:
            region: One of the places.
            other: The other.
            same_place: The largest distance known between two years of one of them, if any.
        """
        self._check_names(region, other)
        at = {"region": region, "other": other}
        controls = [same_place, *self.control.sel(region=[region, other], bound="high").values]
        known = [float(c) for c in controls if np.isfinite(c)]
        return _verdict(float(self.distance.sel(at)), float(self.low.sel(at)), max(known))

    def _check_names(self, *names: str) -> None:
        for name in names:
            if not isinstance(name, str) or name not in self.names:
                raise AnalysisError(
                    f"{shown(name)} was not compared; there are {list(self.names)}."
                )

    def to_dataframe(self) -> pd.DataFrame:
        """One row per pair: distance, interval, and the larger of the two controls."""
        rows = []
        for a, b in itertools.combinations(self.names, 2):
            at = {"region": a, "other": b}
            controls = self.control.sel(region=[a, b], bound="high").values
            known = controls[np.isfinite(controls)]
            rows.append(
                {
                    "region": a,
                    "other": b,
                    "distance": float(self.distance.sel(at)),
                    "low": float(self.low.sel(at)),
                    "high": float(self.high.sel(at)),
                    "control": float(known.max()) if len(known) else np.nan,
                }
            )
        columns = ["region", "other", "distance", "low", "high", "control"]
        return pd.DataFrame(rows, columns=columns)

    def __str__(self) -> str:
        lines = []
        for row in self.to_dataframe().to_dict("records"):
            text = f"{row['region']} and {row['other']}: distance {row['distance']:.3f}"
            if np.isfinite(row["low"]):
                text += f" (95 % interval {row['low']:.3f} to {row['high']:.3f})"
            if np.isfinite(row["control"]):
                text += f"; halves of one place differ by up to {row['control']:.3f}, so they are "
                text += _verdict(row["distance"], row["low"], row["control"])
            lines.append(text + ".")
        return "\n".join([*lines, *self.notes])


def compare(
    places: Mapping[str, xr.DataArray],
    bank: xr.DataArray,
    bootstrap: int = 200,
    seed: int = 0,
) -> Comparison:
    """Compare which prototypes two or more places use.

    Args:
        places: {name: features}, (feature, y, x) each.
        bank: (prototype, feature), best fitted on all of them together.
        bootstrap: Redraws of blocks behind each interval.
        seed: Of those redraws.

    Raises:
        AnalysisError: For fewer than two places, features of different encoders, no bank, fewer
            than 20 redraws (they say nothing), or no seed.
    """
    if not isinstance(places, Mapping) or len(places) < 2:
        raise AnalysisError(
            "compare() needs at least two places as {name: features}; "
            f"there is {len(places) if isinstance(places, Mapping) else shown(places)}."
        )
    bootstrap = whole("bootstrap", bootstrap, 20, 100_000, AnalysisError)
    seed = seed_of(seed, AnalysisError)
    check_bank(bank)
    places = named(places)
    names = tuple(places)
    rng = np.random.default_rng(seed)
    cost = _cost(bank)
    counts = {name: _block_counts(assign(each, bank)) for name, each in places.items()}
    shares = np.stack([_share(c) for c in counts.values()])
    size, k = len(names), len(cost)
    distance, low, high = np.zeros((size, size)), np.zeros((size, size)), np.zeros((size, size))
    pays = np.zeros((size, size, k))
    dealt = np.full((size, size, 3), np.nan)
    for i, j in itertools.combinations(range(size), 2):
        plan = _plan(shares[i], shares[j], cost)
        distance[i, j] = distance[j, i] = (plan * cost).sum()
        pays[i, j] = pays[j, i] = ((plan * cost).sum(0) + (plan * cost).sum(1)) / 2
        ends = _interval(counts[names[i]], counts[names[j]], cost, distance[i, j], bootstrap, rng)
        low[i, j], high[i, j] = low[j, i], high[j, i] = ends
    control = np.stack([_splits(counts[n], len(counts[n]) // 2, cost, rng) for n in names])
    for i, j in itertools.combinations(range(size), 2):
        both = np.concatenate([counts[names[i]], counts[names[j]]])
        dealt[i, j] = dealt[j, i] = _splits(both, len(counts[names[i]]), cost, rng)
    pair = {"region": list(names), "other": list(names)}
    first = {"region": list(names)}
    return Comparison(
        names=names,
        usage=xr.DataArray(
            shares,
            {**first, "prototype": np.arange(k)},
            ("region", "prototype"),
            attrs={"long_name": "share of pixels", "units": "1"},
        ),
        distance=xr.DataArray(distance, pair, ("region", "other"), attrs={"units": "1 − cosine"}),
        low=xr.DataArray(low, pair, ("region", "other")),
        high=xr.DataArray(high, pair, ("region", "other")),
        control=xr.DataArray(
            control, {**first, "bound": ["low", "middle", "high"]}, ("region", "bound")
        ),
        pays=xr.DataArray(
            pays, {**pair, "prototype": np.arange(k)}, ("region", "other", "prototype")
        ),
        cost=cost,
        notes=tuple(_notes(places, counts)),
        shuffled=xr.DataArray(
            dealt, {**pair, "bound": ["low", "middle", "high"]}, ("region", "other", "bound")
        ),
        prototypes=tuple(names_of(bank)),
    )


def _cost(bank: xr.DataArray) -> np.ndarray:
    rows = unit(bank.values).astype(np.float64)
    cost = np.clip(1 - rows @ rows.T, 0, 2)
    np.fill_diagonal(cost, 0)
    return cost


def _block_counts(assigned: xr.DataArray) -> np.ndarray:
    """(block, prototype) pixels of each prototype in each 160 m block of the ground."""
    seen = np.isfinite(assigned.values)
    column = np.floor(assigned["x"].values / BLOCK).astype(np.int64)
    row = np.floor(assigned["y"].values / BLOCK).astype(np.int64)
    place = np.stack(np.broadcast_arrays(row[:, None], column[None, :]), -1)[seen]
    _, block = np.unique(place, axis=0, return_inverse=True)
    k = len(assigned.attrs["categories"])
    index = block.ravel() * k + assigned.values[seen].astype(np.int64)
    return np.bincount(index, minlength=(block.max() + 1) * k).reshape(-1, k).astype(np.float64)


def _share(counts: np.ndarray) -> np.ndarray:
    total = counts.sum(0)
    return total / total.sum()


def _transport() -> Any:
    """POT, imported late: it loads PyTorch where that is installed, which takes seconds."""
    return importlib.import_module("ot")


def _plan(a: np.ndarray, b: np.ndarray, cost: np.ndarray) -> np.ndarray:
    return np.asarray(_transport().emd(a / a.sum(), b / b.sum(), cost))


def _distance(a: np.ndarray, b: np.ndarray, cost: np.ndarray) -> float:
    return max(0.0, float(np.asarray(_transport().emd2(a / a.sum(), b / b.sum(), cost))))


def _interval(
    a: np.ndarray,
    b: np.ndarray,
    cost: np.ndarray,
    estimate: float,
    draws: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """95 % percentile interval over redrawn blocks, moved so that its median is the estimate.

    Redrawing adds noise to both places and so always pushes a distance up; without the shift the
    interval of two identical places would not hold zero.
    """
    if min(len(a), len(b)) < 2:
        return np.nan, np.nan
    again = [
        _distance(
            _share(a[rng.integers(len(a), size=len(a))]),
            _share(b[rng.integers(len(b), size=len(b))]),
            cost,
        )
        for _ in range(draws)
    ]
    low, middle, high = np.percentile(again, (2.5, 50, 97.5))
    shift = estimate - middle
    return max(0.0, float(low + shift)), float(high + shift)


def _splits(
    counts: np.ndarray, first: int, cost: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """2.5 %, median, 97.5 % of the distance between `first` random blocks and the others."""
    if not 0 < first < len(counts):
        return np.full(3, np.nan)
    found = []
    for _ in range(SPLITS):
        order = rng.permutation(len(counts))
        found.append(_distance(_share(counts[order[:first]]), _share(counts[order[first:]]), cost))
    return np.percentile(found, (2.5, 50, 97.5))


def _verdict(distance: float, low: float, control: float) -> str:
    """What a distance says beside its interval's lower end and the largest control."""
    if distance <= control:
        return "not distinguishable"
    return "different" if low > control else "not clearly different (the interval reaches it)"


def _notes(places: Mapping[str, xr.DataArray], counts: Mapping[str, np.ndarray]) -> list[str]:
    notes = [
        f"{name} has {len(c)} block of {BLOCK:g} m: too small for an interval or a control."
        for name, c in counts.items()
        if len(c) < 2
    ]
    for a, b in itertools.combinations(places, 2):
        notes += mismatches(a, places[a], b, places[b])
    return notes


def mismatches(a: str, features: xr.DataArray, b: str, other: xr.DataArray) -> list[str]:
    """What sets two features apart that is not the ground: season, sensors, bands.

    Args:
        a: What the first are called in the sentences.
        features: (feature, y, x).
        b: What the second are called.
        other: (feature, y, x).
    """
    notes = []
    days = season_gap(features, other)
    if days >= 15:
        notes.append(f"Season mismatch: {a} and {b} were seen {days:.0f} days apart.")
    kinds = [frozenset(each.attrs.get("sensors", ())) for each in (features, other)]
    if kinds[0] != kinds[1]:
        notes.append(f"{a} and {b} were seen by different sensors.")
    lacks = [set(each.attrs.get("missing_bands", ())) for each in (features, other)]
    if lacks[0] != lacks[1]:
        bands = ", ".join(sorted(lacks[0] ^ lacks[1]))
        notes.append(f"Only one of {a} and {b} has {bands}; part of the distance may be that.")
    return notes


def season_gap(features: xr.DataArray, other: xr.DataArray) -> float:
    """How far apart in the year two places were seen by Sentinel-2 (days, 0..183; 0 if unknown).

    The mean shift that turns one set of dates into the other, on the circle of the year.
    """
    turns = []
    for each in (features, other):
        days = pd.to_datetime([d for d in each.attrs.get("dates_s2", []) if d != "unknown"])
        if not len(days):
            return 0.0
        turns.append(days.day_of_year.to_numpy() / 365.25)
    return float(np.asarray(_transport().wasserstein_circle(*turns, p=1)).item()) * 365.25
