"""Places compared through the bank that is shown, and the control of another year."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from app.jobs import Job
from app.state import failed
from skysense import analysis
from skysense.analysis.comparison import season_gap
from skysense.dates import Dates, two_years
from skysense.errors import AnalysisError

if TYPE_CHECKING:
    from app.flow import Flow

MISMATCH = 15
"""Days between the dates of two places from which the season is said to differ."""


class Comparing:
    """The verbs of the compare panel."""

    def __init__(self, flow: "Flow") -> None:
        self._flow, self._state = flow, flow.state

    def compare(self, names: list[str]) -> None:
        """Compare encoded places through the bank that is shown; without one, fit one on all."""
        places = {n: each for n, each in self._flow.made.encoded().items() if n in names}
        if len(places) < 2:
            self._state.set_status("compare", failed("Choose at least two encoded places."))
            return
        bank, n = self._state.bank, self._state.prototypes

        def work(_: Job) -> analysis.Comparison:
            through = bank if bank is not None else analysis.fit_prototypes(places, n=n)
            return analysis.compare(places, through)

        def done(found: analysis.Comparison) -> None:
            pair = self._state.pair
            kept = pair if pair is not None and set(pair) <= set(found.names) else found.names[:2]
            self._state.param.update(comparison=found, pair=tuple(kept), gaps=_gaps(places))

        self._flow.run("compare", "compare", "Comparing", work, done)

    def forget(self) -> None:
        """The bank changed: what was compared through the one before is gone."""
        self._state.param.update(comparison=None, pair=None, years={}, gaps={})

    def other_year(self, names: list[str]) -> None:
        """Encode the same part of two years of each place, and compare the one with the other."""
        places = {
            place.name: choices
            for place, (choices, _) in self._flow.made.encoded_places().items()
            if place.name in names
        }
        bank, compute = self._state.bank, self._flow.compute
        if bank is None or not places:
            self._state.set_status("years", failed("Encode the places first."))
            return

        def work(job: Job) -> dict[str, analysis.Comparison]:
            found = {}
            for name, choices in places.items():
                rules = two_years(compute.stack(choices.place), choices.dates)
                if rules is not None:
                    of_years = {
                        _titled(name, rule): compute.features(
                            replace(choices, dates=rule), job.report, job.cancel
                        )
                        for rule in rules
                    }
                    found[name] = analysis.compare(of_years, bank)
            if not found:
                raise AnalysisError(
                    f"{' and '.join(places)}: no two years share enough dates. The shuffled "
                    "control stands in for another year."
                )
            return found

        def done(found: dict[str, analysis.Comparison]) -> None:
            self._state.years = {**self._state.years, **found}

        self._flow.run(
            "years", "years", "Encoding the same months of two years", work, done, lane="encode"
        )

    def show_prototype(self, number: int) -> None:
        """Show the cells of a prototype on the map; of the one already shown, let go."""
        field = self._state.fields.get("prototypes")
        if field is None:
            return
        cells = field.values == number
        self._flow.show_layer("prototypes")
        again = self._state.selection is not None and np.array_equal(self._state.selection, cells)
        self._flow.select(None if again else cells)


def verdict(
    found: analysis.Comparison, pair: tuple[str, str], years: dict[str, analysis.Comparison]
) -> str:
    """What the distance between two places says, in words, beside the largest control."""
    one, other = pair
    at = {"region": one, "other": other}
    distance = float(found.distance.sel(at))
    controls = {}
    for name in pair:
        halves = float(found.control.sel(region=name, bound="high"))
        controls[f"two halves of {name} differ by up to"] = halves
        if name in years:
            controls[f"{_years(years[name])} of {name} differ by"] = float(
                years[name].distance[0, 1]
            )
    known = {what: value for what, value in controls.items() if np.isfinite(value)}
    if not known:
        return f"{one} and {other} are {distance:.2f} apart; nothing tells what that means here"
    what = max(known, key=known.__getitem__)
    same = max((v for w, v in known.items() if not w.startswith("two halves")), default=0.0)
    times = distance / max(known[what], 1e-9)
    far = f"{times:.1f} times" if times < 20 else "over 20 times"
    control = f"{what} {known[what]:.2f}"
    return {
        "different": f"{one} and {other} are different: {far} as far apart as the largest control "
        f"({control})",
        "not distinguishable": f"{one} and {other} cannot be told apart: {control}",
    }.get(
        found.verdict(one, other, same),
        f"{one} and {other} are not clearly different: the interval reaches the control ({control})",
    )


def _years(found: analysis.Comparison) -> str:
    return " and ".join(name.rpartition(" ")[2] for name in found.names)


def _titled(name: str, rule: Dates) -> str:
    return f"{name} {rule.first[:4]}"


def _gaps(places: dict) -> dict[tuple[str, str], float]:
    """Days between the dates of every two places, both ways round."""
    return {(a, b): season_gap(places[a], places[b]) for a in places for b in places if a != b}
