"""A closer look: which date mattered, what changed, how sure it is, and what a null model shows."""

import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from app.jobs import Job
from app.state import EMPTY, Choices, failed
from skysense import analysis, view
from skysense.analysis.places import cell_at
from skysense.errors import AnalysisError, StackError

if TYPE_CHECKING:
    from app.flow import Flow

Period = tuple[str, str]
"""First and last ISO day."""

NULLS: dict[str, str] = {
    "spectral": "the spectral baseline, a model without weights",
    "shuffled": "the same features with their cells shuffled",
}
"""Null models: key and what they are, in words."""

HAS_NULL = ("features", "prototypes", "groups", "similarity")
"""Layers that a null model can be shown for."""


@dataclass(frozen=True)
class Change:
    """What changed between two periods, and what of it is nothing."""

    before: Period
    after: Period
    field: xr.DataArray
    """(y, x) cosine distance."""
    control: xr.DataArray | None
    """(y, x) the same between halves of the dates of one period; None if it has too few."""


class Closer:
    """The verbs of the tab *Time* and of the menu *Doubt*."""

    def __init__(self, flow: "Flow") -> None:
        self._flow, self._state = flow, flow.state
        self._wanted: tuple[Any, ...] = ()
        self._state.param.watch(self._draw, ["fields", "top", "doubt", "unsure", "null"])

    def reset(self) -> None:
        """Other features: nothing of this holds for them."""
        self._state.param.update(
            mattered=None, change=None, doubt=None, unsure=False, null="", instead=None
        )
        for pane in ("mattered", "change", "doubt", "instead"):
            self._flow.drop(pane, pane)

    # -------------------------------------------------------------------------------- what mattered

    def leave_out(self, drop: str) -> None:
        """Leave out one date, or one sensor, at a time and see what that changes."""
        choices = self._choices("mattered")
        if choices is None:
            return

        def done(found: xr.DataArray) -> None:
            self._state.mattered = found

        self._flow.run(
            "mattered", "mattered", "Leaving out one after the other",
            lambda job: self._flow.compute.subsets(
                "sensitivity", choices, job.report, job.cancel, drop=drop
            ),
            done, lane="encode",
        )  # fmt: skip

    def show_dropped(self, number: int) -> None:
        """Show where one date, or sensor, mattered."""
        found = self._state.mattered
        if found is None:
            return
        layer = found.isel(dropped=number)
        name = str(layer["dropped"].values)
        field = layer.drop_vars(["dropped", "sensor", "date"], errors="ignore")
        field.attrs = {**found.attrs, "long_name": f"sensitivity to {name}"}
        self._state.set_field("mattered", field)
        self._flow.show_layer("mattered")

    # ----------------------------------------------------------------------------------- what changed

    def compare(self, before: Period, after: Period) -> None:
        """How far each cell's features moved between two periods, beside a control."""
        choices = self._choices("change")
        if choices is None:
            return
        for first, last in (before, after):
            if not first or not last or first > last:
                self._state.set_status(
                    "change", failed("Each period needs a first day and a later last day.")
                )
                return
        parts = [
            replace(choices, dates=replace(choices.dates, first=first, last=last))
            for first, last in (before, after)
        ]
        compute = self._flow.compute

        def work(job: Job) -> Change:
            old, new = (compute.features(each, job.report, job.cancel) for each in parts)
            try:
                control = compute.subsets("change_control", parts[1], job.report, job.cancel)
            except StackError:
                control = None
            return Change(before, after, analysis.change(old, new), control)

        def done(found: Change) -> None:
            least = (
                float(np.nanpercentile(found.field.values, 95))
                if found.control is None
                else analysis.change_threshold(found.control)
            )
            self._state.param.update(change=found, least_change=min(least, 2.0))
            self._state.set_field("change", found.field)
            self._flow.show_layer("change")

        self._flow.run("change", "change", "Comparing the two periods", work, done, lane="encode")

    def set_least(self, threshold: float) -> None:
        """Count as changed what moved further than this (cosine distance)."""
        self._state.least_change = threshold

    def select_changed(self) -> None:
        """Select the cells that changed, on the map and in the scatter."""
        found = self._state.change
        if found is not None and self._state.features is not None:
            self._flow.select(np.nan_to_num(found.field.values) > self._state.least_change)

    # ------------------------------------------------------------------------------------------ doubt

    def set_unsure(self, on: bool) -> None:
        """Draw the layer on top fainter where halves of the dates disagree."""
        state = self._state
        if on and state.doubt is None:
            choices = self._choices("doubt")
            if choices is None:
                return

            def done(found: xr.DataArray) -> None:
                state.param.update(doubt=found, unsure=True)

            self._flow.run(
                "doubt", "doubt", "Comparing halves of the dates",
                lambda job: self._flow.compute.subsets(
                    "uncertainty", choices, job.report, job.cancel
                ),
                done, lane="encode",
            )  # fmt: skip
            return
        state.unsure = on

    def set_null(self, null: str) -> None:
        """Show what a null model makes of the layer on top; `""` for the real one."""
        self._state.null = null if null in NULLS else ""

    def _draw(self, *_: Any) -> None:
        """Make what is drawn instead of the layer on top, if anything is."""
        state, layer = self._state, self._state.top
        field = state.fields.get(layer)
        null = state.null if layer in HAS_NULL else ""
        doubt = state.doubt if state.unsure and layer != "colour" else None
        plain = field is None or (not null and doubt is None)
        wanted = () if plain else (field, null, doubt)
        if len(wanted) == len(self._wanted) and all(map(operator.is_, wanted, self._wanted)):
            return  # it is shown, or being made: another field came
        self._wanted = wanted
        state.instead = None  # it was made of what was there before
        if plain:
            self._flow.drop("instead", "instead")
            return

        def work(job: Job) -> xr.DataArray:
            drawn = self._null(null, layer, job) if null else field
            return drawn if doubt is None else view.faded(drawn, doubt)

        def done(found: xr.DataArray) -> None:
            state.instead = found

        sentence = f"Asking {NULLS[null]}" if null else "Drawing"
        lane = "encode" if null == "spectral" else "quick"
        self._flow.run("instead", "instead", sentence, work, done, lane=lane)

    def _null(self, null: str, layer: str, job: Job) -> xr.DataArray:
        """The same picture of a null model's features."""
        state, compute = self._state, self._flow.compute
        choices, features = state.made_with, state.features
        target: Any = state.here
        if null == "shuffled":
            if layer == "similarity" and state.here is not None:
                cell = cell_at(features, *state.here)
                target = None if cell is None else features.values[:, cell[0], cell[1]]
            features = analysis.shuffled(features)
        else:
            features = compute.features(
                replace(choices, encoder="spectral"), job.report, job.cancel
            )
        if layer == "features":
            return analysis.pca(features)
        if layer == "groups":
            return analysis.cluster(features, n=state.groups)
        if layer == "prototypes":
            return analysis.assign(features, analysis.fit_prototypes(features, n=state.prototypes))
        if target is None:
            raise AnalysisError("Click a place on the map first.")
        return analysis.similarity(features, to=target)

    def _choices(self, pane: str) -> Choices | None:
        """What was encoded; says in the pane what to do if nothing was."""
        made = self._state.made_with
        if made is None or self._state.features is None:
            self._state.set_status(pane, failed("Encode the place first."))
            return None
        if self._state.status(pane).kind == "failed":
            self._state.set_status(pane, EMPTY)
        return made
