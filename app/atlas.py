"""One bank of prototypes for all places: fitted, kept, named, loaded, and what it looks like."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import xarray as xr

from app.jobs import Job
from app.state import EMPTY, READY, Choices, failed
from skysense import analysis, view
from skysense.errors import SkySenseError

if TYPE_CHECKING:
    from app.flow import Flow

EXAMPLES = 4
"""Chips of each prototype."""

CHIP = 160.0
"""Ground that a chip shows (m)."""


@dataclass(frozen=True)
class Atlas:
    """What the prototypes of one bank look like, and where they fire."""

    digest: str
    """Of the bank it is about."""
    table: xr.Dataset
    """From `analysis.atlas`."""
    chips: view.Chips | None
    why: str = ""
    """Why there are no chips."""


class Banks:
    """The verbs of the prototype panel.

    The bank that was fitted first is kept, and every other place is assigned to it; what was
    fitted on a made-up scene is not used for real ones unless a person asks for it.
    """

    def __init__(self, flow: "Flow") -> None:
        self._flow, self._state = flow, flow.state
        self._kept: dict[tuple[str, bool], xr.DataArray] = {}
        self._wanted = False
        self._digest = ""

    # ---------------------------------------------------------------------------------- the bank

    def assign(self) -> None:
        """Find the nearest prototype of each cell of the place that is shown."""
        choices, features = self._state.made_with, self._state.features
        if choices is None or features is None:
            return
        kept = self._kept.get(_key(choices, features))
        n = self._state.prototypes

        def work(_: Job) -> tuple[xr.DataArray, xr.DataArray]:
            compute = self._flow.compute
            if kept is None:
                return compute.prototypes(choices, features, n)
            return kept, compute.assigned(choices, features, kept)

        say = f"Fitting {n} prototypes" if kept is None else "Finding the nearest prototypes"
        self._flow.run("prototypes", "prototypes", say, work, lambda found: self._take(*found))

    def fit(self, names: Iterable[str] | None = None) -> None:
        """Fit a new bank on the named places, or on all that are encoded."""
        choices, features = self._state.made_with, self._state.features
        if choices is None or features is None:
            return
        encoded = self._flow.made.encoded()
        wanted = set(encoded if names is None else names)
        places = {name: each for name, each in encoded.items() if name in wanted}
        places = places or {choices.place.name: features}
        n = self._state.prototypes

        def work(_: Job) -> tuple[xr.DataArray, xr.DataArray]:
            bank = analysis.fit_prototypes(places, n=n)
            return bank, self._flow.compute.assigned(choices, features, bank)

        def done(found: tuple[xr.DataArray, xr.DataArray]) -> None:
            for each in places.values():
                self._kept[_key(choices, each)] = found[0]
            self._take(*found)

        on = f"{len(places)} places" if len(places) > 1 else next(iter(places))
        self._flow.run("prototypes", "prototypes", f"Fitting {n} prototypes on {on}", work, done)

    def refit(self, n: int) -> None:
        """Another number of prototypes, fitted on what the bank was fitted on."""
        self._state.prototypes = n
        bank = self._state.bank
        self.fit([] if bank is None else bank.attrs.get("fitted_on", []))

    def load(self, content: bytes) -> None:
        """Use a bank that was kept, for this place and the others of its encoder."""
        choices, features = self._state.made_with, self._state.features
        if choices is None or features is None:
            self.refuse("Encode a place first: a bank belongs to one encoder.")
            return

        there = "prototypes" in self._state.fields
        self._state.set_status("prototypes", READY if there else EMPTY)

        def work(_: Job) -> tuple[xr.DataArray, xr.DataArray]:
            bank = analysis.read_bank(content)
            return bank, self._flow.compute.assigned(choices, features, bank)

        def done(found: tuple[xr.DataArray, xr.DataArray]) -> None:
            self.use(choices.encoder, found[0])
            self._take(*found)

        self._flow.run("prototypes", "bank", "Reading the bank", work, done)

    def rename(self, number: int, name: str) -> None:
        """Call a prototype something; the name goes wherever the bank goes."""
        bank, made = self._state.bank, self._state.made_with
        if bank is None or made is None:
            return
        try:
            renamed = analysis.rename(bank, number, name)
        except SkySenseError as error:
            self.refuse(str(error))
            return
        for key, kept in self._kept.items():
            if kept is bank:
                self._kept[key] = renamed
        self._state.set_status("bank", EMPTY)
        self._state.bank = renamed
        field = self._state.fields.get("prototypes")
        if field is not None:
            named = field.assign_attrs(categories=analysis.names_of(renamed))
            self._state.set_field("prototypes", named)
        found = self._state.comparison
        if found is not None:
            names = tuple(analysis.names_of(renamed))
            self._state.comparison = replace(found, prototypes=names)

    def text(self) -> str:
        """The bank as the text of its file; empty without one."""
        return "" if self._state.bank is None else analysis.bank_text(self._state.bank)

    def use(self, encoder: str, bank: xr.DataArray) -> None:
        """Assign places of this encoder to a bank from now on."""
        for synthetic in (False, True):
            self._kept[encoder, synthetic] = bank

    def forget(self) -> None:
        """Let go of the banks; the next place that is shown gives a new one."""
        self._kept.clear()

    def refuse(self, sentence: str) -> None:
        """Say in the panel why something cannot be done; the layer on the map stays."""
        self._state.set_status("bank", failed(sentence))

    def sentence(self) -> str:
        """Where the bank comes from, and which places are assigned to it without being in it."""
        bank = self._state.bank
        if bank is None:
            return ""
        on = [str(name) for name in bank.attrs.get("fitted_on", [])] or ["an earlier session"]
        said = f"{bank.sizes['prototype']} prototypes fitted on {_listed(on)}"
        others = [name for name in self._flow.made.encoded() if name not in on]
        return f"{said}; {_listed(others)} assigned to the same bank." if others else f"{said}."

    def apart(self) -> str:
        """Which open places cannot be seen through the bank, and why; empty if all can."""
        state = self._state
        encoded = self._flow.made.encoded()
        names = [e.place.name for e in state.opened if e.place.name not in encoded]
        if state.made_with is None or state.bank is None or not names:
            return ""
        title = self._flow.compute.encoders.get(state.made_with.encoder, state.made_with.encoder)
        return (
            f"{_listed(names)}: not encoded with {title}, these dates and this resolution. Features "
            "of another encoder cannot be compared."
        )

    def _take(self, bank: xr.DataArray, field: xr.DataArray) -> None:
        state = self._state
        if state.made_with is None or state.features is None:
            return
        if not state.made_with.part:  # what was fitted on a part is for that part only
            self._kept.setdefault(_key(state.made_with, state.features), bank)
        if state.prototypes != bank.sizes["prototype"] <= 64:
            state.prototypes = bank.sizes["prototype"]
        digest = analysis.bank_digest(bank)
        if digest != self._digest:
            self._digest, state.atlas = digest, None
            self._flow.comparing.forget()
        state.bank = bank
        state.set_field("prototypes", field)
        self.describe()

    # --------------------------------------------------------------------------------- the atlas

    def show(self) -> None:
        """The panel is there: describe the bank now, and whenever it changes."""
        self._wanted = True
        self.describe()

    def describe(self) -> None:
        """Find examples and shares of every prototype, in every encoded place."""
        bank = self._state.bank
        places = self._flow.made.encoded_places()
        if not self._wanted or bank is None or not places:
            return

        def done(found: Atlas) -> None:
            self._state.atlas = found

        self._flow.run(
            "atlas",
            "atlas",
            "Looking for examples",
            lambda _: self._flow.compute.atlas(places, bank),
            done,
        )


def described(
    features: dict[str, xr.DataArray],
    images: dict[str, xr.Dataset],
    bank: xr.DataArray,
) -> Atlas:
    """The atlas of a bank: shares in every place, and chips from the places with images."""
    digest = analysis.bank_digest(bank)
    table = analysis.atlas(features, bank)
    seen = {name: each for name, each in features.items() if name in images}
    try:
        found = analysis.examples(seen, bank, n=EXAMPLES, margin=CHIP / 2)
        return Atlas(digest, table, view.chips(images, found, side=CHIP))
    except SkySenseError as error:
        return Atlas(digest, table, None, str(error))


def _key(choices: Choices, features: xr.DataArray) -> tuple[str, bool]:
    return choices.encoder, bool(features.attrs.get("synthetic"))


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
