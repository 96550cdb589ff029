"""Which dates a stack holds, and which of them an encoder is given.

SkySense was trained on 20 Sentinel-2 and 10 Sentinel-1 dates and one high-resolution image. The
default keeps to that: the clearest Sentinel-2 date of each of 20 equal parts of the period, then
the clearest of the rest; Sentinel-1 dates of one orbit direction only, evenly spread. "Clear" is
the share of usable pixels in the whole source image, so the choice does not depend on the
rectangle that was drawn.
"""

import datetime as dt
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from skysense.checks import number, shown, whole
from skysense.errors import StackError
from skysense.sensors import SENSORS
from skysense.stack import check_stack, sensors_of


def _check_without(dates: Any) -> None:
    """Raise `StackError` unless these are sensors and days."""
    if not isinstance(dates, tuple | list):
        raise StackError(
            f"without={shown(dates)} is not a list of dates such as ['s2 2021-05-01']; give one."
        )
    for each in dates:
        sensor, _, day = each.partition(" ") if isinstance(each, str) else ("", "", "")
        try:
            good = sensor in SENSORS and bool(dt.date.fromisoformat(day))
        except ValueError:
            good = day == "unknown" and sensor in SENSORS
        if not good:
            raise StackError(
                f"without: {shown(each)} is not a sensor ({', '.join(SENSORS)}) and an ISO day, such "
                "as 's2 2021-05-01'."
            )


@dataclass(frozen=True)
class Dates:
    """How many dates of each sensor to use, and within which period."""

    s2: int = 20
    s1: int = 10
    hr: int = 1
    first: str = ""
    """Earliest ISO day; empty for no limit."""
    last: str = ""
    """Latest ISO day, included; empty for no limit."""
    clear: float = 0.05
    """Sentinel-2 dates with a smaller usable share are left out, 0..1."""
    without: tuple[str, ...] = ()
    """Dates left out by hand, as sensor and ISO day: `s2 2021-05-01`. Others take their places."""

    def __post_init__(self) -> None:
        for name in ("s2", "s1", "hr"):
            whole(name, getattr(self, name), 0, None, StackError)
        number("clear", self.clear, 0, 1, StackError)
        for day in (self.first, self.last):
            try:
                _ = day == "" or dt.date.fromisoformat(day)
            except (TypeError, ValueError) as error:
                raise StackError(
                    f"{shown(day)} is not an ISO day such as '2023-06-30'; leave it empty for no "
                    "limit."
                ) from error
        _check_without(self.without)
        object.__setattr__(self, "without", tuple(self.without))

    def sentence(self) -> str:
        """The rule in words, for the screen."""
        return (
            f"up to {self.s2} of the clearest Sentinel-2 dates spread over the period, "
            f"{self.s1} Sentinel-1 dates of one orbit direction, {self.hr} high-resolution image"
            + (f", without {', '.join(self.without)}" if self.without else "")
        )


ALL = Dates(s2=10_000, s1=10_000, hr=10_000, clear=0.0)
"""Every date there is (still of one orbit direction for Sentinel-1)."""


@dataclass(frozen=True)
class Acquisition:
    """One date of one sensor, as the date rail shows it."""

    sensor: str
    day: str
    """ISO day, or `unknown`."""
    clear: float
    """Usable share of the whole source image, 0..1; NaN if unknown."""
    used: bool
    reason: str
    """Why it was left out; empty if it is used."""


def choose_dates(tree: xr.DataTree, rule: Dates | None = None) -> xr.DataTree:
    """The stack with only the dates that `rule` keeps, and a note of how many were left out.

    Raises:
        StackError: If it is no stack or no rule, or nothing remains.
    """
    rule = _rule(rule)
    check_stack(tree)
    kept: dict[str, xr.Dataset] = {}
    notes = list(tree.attrs.get("notes", []))
    for key in sensors_of(tree):
        group = tree[key].to_dataset()
        chosen, warning = _choose(key, group, rule)
        if warning:
            notes.append(f"{SENSORS[key].title}: {warning}")
        left_out = group.sizes["time"] - len(chosen)
        if left_out:
            notes.append(
                f"{SENSORS[key].title}: {len(chosen)} of {group.sizes['time']} dates used."
            )
        if len(chosen):
            kept[key] = group.isel(time=chosen)
    if not kept:
        raise StackError(
            "No date of any sensor passes the rule: "
            + rule.sentence()
            + f", from {rule.first or 'the start'} "
            f"to {rule.last or 'the end'}. Widen the period or lower `clear`."
        )
    root = xr.Dataset(attrs={**tree.attrs, "notes": notes})
    return xr.DataTree.from_dict({"/": root, **{f"/{k}": g for k, g in kept.items()}})


def acquisitions(tree: xr.DataTree, rule: Dates | None = None) -> list[Acquisition]:
    """Every date of every sensor, with whether `rule` uses it and if not, why.

    Raises:
        StackError: If it is no stack or no rule.
    """
    rule = _rule(rule)
    check_stack(tree)
    rail = []
    for key in sensors_of(tree):
        group = tree[key].to_dataset()
        chosen, _ = _choose(key, group, rule)
        used = set(chosen.tolist())
        within = group.isel(time=np.flatnonzero(_within(group, rule)))
        direction = _main_direction(within) if key == "s1" else ""
        for i, moment in enumerate(group["time"].values):
            day = "unknown" if np.isnat(moment) else str(moment)[:10]
            clear = float(group["clear"][i])
            reason = "" if i in used else _reason(key, group, i, rule, direction)
            rail.append(Acquisition(key, day, clear, i in used, reason))
    return rail


def tally(dates: Sequence[Acquisition]) -> str:
    """What there is of every sensor, a line each: how many dates, from when to when, how usable.

    Args:
        dates: From `acquisitions(stack)` or `sources.available(...)`.
    """
    lines = []
    for key in SENSORS:
        mine = [each for each in dates if each.sensor == key]
        if not mine:
            continue
        days = sorted(each.day for each in mine if each.day != "unknown")
        clear = [each.clear for each in mine if np.isfinite(each.clear)]
        text = f"{SENSORS[key].title}: {len(mine)} date{'s' * (len(mine) != 1)}"
        if days:
            text += f", {days[0]} to {days[-1]}" if days[0] != days[-1] else f", {days[0]}"
        if clear and key != "s1":
            text += f", {np.mean(clear):.0%} usable on average"
        used = sum(each.used for each in mine)
        lines.append(f"{text}; {'all' if used == len(mine) else used} would be used")
    return "\n".join(lines)


def two_years(tree: xr.DataTree, rule: Dates | None = None) -> tuple[Dates, Dates] | None:
    """The same part of two calendar years, for seeing what the year alone changes.

    Of the years in which Sentinel-2 (without it, Sentinel-1) has usable dates, the two that share
    the most; each rule begins and ends on the same day of its year.

    Args:
        tree: A stack.
        rule: What else decides about dates; its period is kept to.

    Returns:
        The rules of the earlier and the later year, or None where no two years share two months
        with three dates in each.

    Raises:
        StackError: If it is no stack or no rule.
    """
    rule = _rule(rule)
    check_stack(tree)
    key = next((name for name in ("s2", "s1") if name in sensors_of(tree)), "")
    if not key:
        return None
    group = tree[key].to_dataset()
    inside = _within(group, rule) & ~np.isnat(group["time"].values)
    if key == "s2":
        inside &= np.nan_to_num(group["clear"].values, nan=1.0) >= rule.clear
    days = [str(moment)[:10] for moment in group["time"].values[inside]]
    years: dict[str, list[str]] = {}
    for day in sorted(days):
        years.setdefault(day[:4], []).append(day[5:])
    best: tuple[int, Dates, Dates] | None = None
    for one, other in itertools.combinations(sorted(years), 2):
        first, last = (
            min(end(years[one]), end(years[other])) if end is max else
            max(end(years[one]), end(years[other])) for end in (min, max)
        )  # fmt: skip
        first, last = ("02-28" if end == "02-29" else end for end in (first, last))
        held = [sum(first <= day <= last for day in years[year]) for year in (one, other)]
        long = np.datetime64(f"2001-{last}") - np.datetime64(f"2001-{first}")
        if min(held) >= FEWEST_OF_A_YEAR and long >= np.timedelta64(SHORTEST_PART, "D"):
            pair = [replace(rule, first=f"{y}-{first}", last=f"{y}-{last}") for y in (one, other)]
            if best is None or min(held) > best[0]:
                best = min(held), pair[0], pair[1]
    return None if best is None else best[1:]


FEWEST_OF_A_YEAR = 3
SHORTEST_PART = 60
"""Days of the year that two years must share to be compared."""


@dataclass(frozen=True)
class StackSummary:
    """What a stack holds, known without loading its pixels."""

    dates: dict[str, list[str]]
    """Sensor to ISO days."""
    clear: dict[str, list[float]]
    """Sensor to usable share per date, 0..1, NaN if unknown."""
    shapes: dict[str, tuple[int, int, int, int]]
    """Sensor to (time, band, y, x)."""
    resolution: dict[str, float]
    """Sensor to pixel size (m)."""
    nbytes: int
    """Size in memory once loaded."""

    def __str__(self) -> str:
        lines = []
        for key, days in self.dates.items():
            t, c, h, w = self.shapes[key]
            known = [v for v in self.clear[key] if np.isfinite(v)]
            clear = f", {np.mean(known):.0%} usable on average" if known else ""
            period = f"{days[0]} to {days[-1]}" if t > 1 else days[0]
            title = SENSORS[key].title
            lines.append(
                f"{title}: {t} date{'s' * (t != 1)} ({period}), {c} bands, {h} × {w} pixels "
                f"of {self.resolution[key]:g} m{clear}"
            )
        lines.append(f"{self.nbytes / 1e6:,.1f} MB once loaded")
        return "\n".join(lines)


def summary(tree: xr.DataTree) -> StackSummary:
    """Dates, usable shares, shapes and bytes of a stack, without loading it."""
    check_stack(tree)
    dates, clear, shapes, resolution, size = {}, {}, {}, {}, 0
    for key in sensors_of(tree):
        group = tree[key].to_dataset()
        days = group["time"].values
        dates[key] = ["unknown" if np.isnat(d) else str(d)[:10] for d in days]
        clear[key] = [float(v) for v in group["clear"].values]
        shapes[key] = tuple(group["data"].shape)
        resolution[key] = abs(float(group.odc.geobox.resolution.x))
        size += group["data"].nbytes + group["valid"].nbytes
    return StackSummary(dates, clear, shapes, resolution, size)


def _by_hand(key: str, group: xr.Dataset, rule: Dates) -> np.ndarray:
    """(time,) bool: which dates somebody left out."""
    names = [f"{key} {'unknown' if np.isnat(t) else str(t)[:10]}" for t in group["time"].values]
    return np.isin(names, list(rule.without))


def _rule(rule: Dates | None) -> Dates:
    if rule is not None and not isinstance(rule, Dates):
        raise StackError(
            f"dates={shown(rule)} is not a rule; make one with Dates(first='2023-03-01', "
            "last='2023-10-31', s2=20), or leave it out."
        )
    return rule or Dates()


def _choose(key: str, group: xr.Dataset, rule: Dates) -> tuple[np.ndarray, str]:
    """Indices of the dates to use, in order, and a warning for the user."""
    inside, out = np.flatnonzero(_within(group, rule)), _by_hand(key, group, rule)
    if key == "s2":
        clear = np.nan_to_num(group["clear"].values[inside], nan=1.0)
        inside, clear = inside[clear >= rule.clear], clear[clear >= rule.clear]
        chosen = _spread(group["time"].values[inside], clear, rule.s2, out[inside])
        levels = sorted(set(group["level"].values[inside[chosen]].tolist()) - {""})
        return inside[chosen], f"levels {' and '.join(levels)} are mixed." if len(
            levels
        ) > 1 else ""
    if key == "s1":
        direction = _main_direction(group.isel(time=inside))
        same = inside[group["orbit_direction"].values[inside] == direction]
        kinds = sorted(set(group["backscatter"].values[same].tolist()) - {""})
        warning = f"{' and '.join(kinds)} are mixed." if len(kinds) > 1 else ""
        times = group["time"].values[same]
        return same[_spread(times, np.ones(len(same)), rule.s1, out[same])], warning
    inside = inside[~out[inside]]
    dated = ~np.isnat(group["time"].values[inside])
    newest_last = np.concatenate([inside[~dated], inside[dated]])
    return np.sort(newest_last[::-1][: rule.hr]), ""


def _within(group: xr.Dataset, rule: Dates) -> np.ndarray:
    times = group["time"].values
    inside = np.ones(len(times), bool)
    if rule.first:
        inside &= np.isnat(times) | (times >= np.datetime64(rule.first))
    if rule.last:
        inside &= np.isnat(times) | (times < np.datetime64(rule.last) + np.timedelta64(1, "D"))
    return inside


def _main_direction(group: xr.Dataset) -> str:
    """The orbit direction with most dates (the first by name if several have as many)."""
    counts = pd.Series(group["orbit_direction"].values).value_counts(sort=False)
    return str(counts.sort_index().idxmax()) if len(counts) else ""


def _spread(times: np.ndarray, clear: np.ndarray, count: int, out: np.ndarray) -> np.ndarray:
    """Indices of `count` dates: the clearest of each equal part of the period, then the clearest.

    Those in `out` are not chosen, but count for the parts: without one the others stay.
    """
    if (~out).sum() <= count:
        return np.flatnonzero(~out)
    if count == 0:
        return np.arange(0)
    days = times.astype("datetime64[s]").astype(float)
    dated = ~np.isnat(times)
    known = np.where(dated, days, days[dated].min() if dated.any() else 0.0)
    span = max(known.max() - known.min(), 1.0)
    part = np.minimum((known - known.min()) / span * count, count - 1).astype(int)
    order = np.lexsort((known, -clear))  # clearest first, earliest among equals
    order = order[~out[order]]
    first_of_part: dict[int, int] = {}
    for i in order:
        first_of_part.setdefault(int(part[i]), int(i))
    chosen = list(first_of_part.values())
    rest = [int(i) for i in order if int(i) not in set(chosen)]
    return np.sort(np.array(chosen + rest[: count - len(chosen)], int))


def _reason(key: str, group: xr.Dataset, i: int, rule: Dates, direction: str) -> str:
    if not _within(group, rule)[i]:
        return "outside the period"
    if _by_hand(key, group, rule)[i]:
        return "left out by hand"
    if key == "s2" and float(group["clear"][i]) < rule.clear:
        return f"only {float(group['clear'][i]):.0%} usable"
    if key == "s1" and str(group["orbit_direction"][i].values) != direction:
        return f"{group['orbit_direction'][i].values} orbit"
    if key == "hr":
        return "an older image"
    return "clearer dates nearby" if key == "s2" else "enough dates"
