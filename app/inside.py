"""Looks inside SkySense V2: experts, prompts, semantic queries, and what V1 and V2 do not share."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from app.compute import other_family
from app.jobs import Job
from app.state import EMPTY, Choices, failed, is_v2
from skysense import analysis
from skysense.analysis.places import cell_at
from skysense.errors import StackError
from skysense.sensors import SENSORS

if TYPE_CHECKING:
    from app.flow import Flow

LOOKS = {
    "experts": ("experts", "Asking where tokens go"),
    "prompts": ("prompt_attention", "Asking how prompts are attended to"),
}
"""What can be seen of one sensor's tokens: key to the function of `skysense` and what is going on."""

SLOTS = ("inside", "differ")
"""Jobs of this tab, each with the pane of its name."""

FIGURES = {
    "overlap": "Nearest cells in common",
    "cka": "Layout of the whole place (CKA)",
    "rand": "Clusters in common (Rand)",
}
"""Figures of agreement, in the order in which they are told."""


class Inside:
    """The verbs of the tab *Inside*; what they find is a layer of the same name."""

    def __init__(self, flow: "Flow") -> None:
        self._flow, self._state = flow, flow.state
        self._levels: dict[tuple[str, bool], xr.DataArray] = {}
        self._state.param.watch(self._left, ["encoder"])

    def reset(self) -> None:
        """Other features: nothing of this holds for them."""
        self._state.param.update(inside={}, looked="")
        for slot in SLOTS:
            self._flow.drop(slot, slot)

    def _left(self, *_: object) -> None:
        """Another encoder was chosen: nobody waits for what is being looked for in the last one."""
        for slot in SLOTS:
            if self._state.status(slot).kind == "working":
                self._flow.drop(slot, slot)

    def look(self, what: str, sensor: str) -> None:
        """Map what becomes of one sensor's tokens: `experts` or `prompts`."""
        choices = self._choices("inside")
        if choices is None:
            return
        name, sentence = LOOKS[what]

        def done(field: xr.DataArray) -> None:
            self._keep({what: field}, what, field)

        self._flow.run(
            "inside", "inside", sentence,
            lambda job: self._flow.compute.subsets(
                name, choices, job.report, job.cancel, sensor=sensor
            ),
            done, lane="encode",
        )  # fmt: skip

    def ask_queries(self) -> None:
        """Map which semantic query looks at each cell most."""
        choices = self._choices("inside")
        if choices is None:
            return
        features = self._state.features
        key = (choices.encoder, bool(features.attrs.get("synthetic")))
        levels = self._levels.get(key)

        def done(found: tuple[xr.DataArray, xr.DataArray, xr.DataArray]) -> None:
            masks, field, used = found
            self._levels.setdefault(key, used)
            self._keep({"masks": masks, "queries": field}, "queries", field)

        self._flow.run(
            "inside", "inside", "Asking the queries",
            lambda job: self._flow.compute.masks(choices, features, levels, job.cancel),
            done,
        )  # fmt: skip

    def show(self, what: str) -> None:
        """Show again what was found: a key of `State.inside`, or `query 3` for one mask."""
        found = self._state.inside
        field = found.get(what)
        if field is None and "masks" in found and what.startswith("query "):
            number = int(what.removeprefix("query ")) - 1
            field = found["masks"].isel(query=number, drop=True)
            field.attrs |= {"long_name": f"share of the looks that {what} has"}
        if field is not None:
            self._keep({}, what, field)

    def differ(self) -> None:
        """Encode the place with the other family too, and map what the two do not share."""
        choices = self._choices("differ", v2_only=False)
        if choices is None:
            return
        compute, features = self._flow.compute, self._state.features
        other = compute.settled(other_family(choices))

        def work(job: Job) -> xr.DataArray:
            def told(step: int, who: str) -> Callable[[int, int, str], None]:
                return lambda done, total, text: job.report(
                    done, total, f"{step} of 3, {who}: {text}"
                )

            def make() -> xr.DataArray:
                title = compute.encoders.get(other.encoder, other.encoder)
                theirs = compute.features(other, told(1, title), job.cancel)
                job.check()
                control = self._halves(choices, told(2, "half the dates"), job)
                job.report(0, 0, "3 of 3, comparing neighbours")
                return analysis.disagreement(features, theirs, control)

            if choices.part:
                return make()  # of features that nobody else has
            return compute.store.get(("differ", choices, other), make)

        def done(field: xr.DataArray) -> None:
            self._keep({"differ": field}, "differ", field)

        self._flow.run("differ", "differ", "Waiting for the encoder", work, done, lane="encode")

    def _halves(
        self, choices: Choices, report: Callable[[int, int, str], None], job: Job
    ) -> tuple[xr.DataArray, xr.DataArray] | None:
        """The control: features of either half of the dates; None where there are too few."""
        try:
            return self._flow.compute.subsets(
                "half_features", choices, report, job.cancel, resolution=choices.resolution
            )
        except StackError:
            return None

    def stop(self) -> None:
        """Stop what is being looked for."""
        for slot in SLOTS:
            self._flow.stop(slot)

    def _keep(self, found: dict[str, xr.DataArray], what: str, field: xr.DataArray) -> None:
        """Remember what was found and put a field of it on the map."""
        state = self._state
        state.param.update(inside={**state.inside, **found}, looked=what)
        state.set_field("inside", field)
        self._flow.show_layer("inside")

    def _choices(self, pane: str, v2_only: bool = True) -> Choices | None:
        """What was encoded; says in the pane what to do if nothing was, or not with V2."""
        made = self._state.made_with
        if made is None or self._state.features is None:
            self._state.set_status(pane, failed("Encode the place first."))
            return None
        if v2_only and not is_v2(made.encoder):
            self._state.set_status(pane, failed(self.only_v2(made.encoder)))
            return None
        if self._state.status(pane).kind == "failed":
            self._state.set_status(pane, EMPTY)
        return made

    def only_v2(self, encoder: str) -> str:
        """What to say of experts, prompts and queries of another encoder; empty for V2."""
        if is_v2(encoder):
            return ""
        title = self._flow.compute.encoders.get(encoder, encoder)
        return (
            f"Only SkySense V2 has experts, prompts and queries; these features are of {title}. Choose "
            "a SkySense V2 encoder above and press Encode."
        )


def facts_at(inside: dict[str, xr.DataArray], lon: float, lat: float) -> list[str]:
    """What was found inside about a place, in a few words each."""
    facts = []
    for what, say in _FACTS.items():
        field = inside.get(what)
        cell = None if field is None else cell_at(field, lon, lat)
        if cell is not None and np.isfinite(field.values[cell]):
            facts.append(say(field, cell))
    return facts


def _expert(field: xr.DataArray, cell: tuple[int, int]) -> str:
    attrs, share = field.attrs, float(field["strength"].values[cell])
    return (
        f"expert {int(field.values[cell]) + 1} of {attrs['experts']} on {share:.0%} of "
        f"{SENSORS[attrs['sensor']].title} dates"
    )


def _prompts(field: xr.DataArray, cell: tuple[int, int]) -> str:
    return f"{field.values[cell]:.1%} of attention to prompts"


def _query(field: xr.DataArray, cell: tuple[int, int]) -> str:
    name = field.attrs["categories"][int(field.values[cell])]
    return f"{name} looks most ({float(field['strength'].values[cell]):.0%})"


def _shared(field: xr.DataArray, cell: tuple[int, int]) -> str:
    return f"{1 - field.values[cell]:.0%} of neighbours as {field.attrs['other_encoder']} has them"


_FACTS: dict[str, Callable[[xr.DataArray, tuple[int, int]], str]] = {
    "experts": _expert,
    "prompts": _prompts,
    "queries": _query,
    "differ": _shared,
}


def verdict(field: xr.DataArray) -> str:
    """How far the two agree, as a sentence; measured from chance to what one has with itself."""
    attrs = field.attrs
    shared, chance = attrs["overlap"], attrs["overlap_chance"]
    many = f"Of the {attrs['neighbours']} cells most like a cell, the two name {shared:.0%} alike"
    if "overlap_control" not in attrs:
        return f"{many}; chance would give {chance:.0%}."
    part = (shared - chance) / max(attrs["overlap_control"] - chance, 1e-6)
    if part < 0.1:
        far = "hardly more than chance"
    elif part > 1.1:
        far = "more than one of them with itself on other dates"
    elif part > 0.9:
        far = "as much as one of them with itself on other dates"
    else:
        far = f"{part:.0%} of the way from chance to one of them with itself on other dates"
    return f"{many}: {far}."
