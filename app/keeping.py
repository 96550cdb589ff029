"""A session kept and opened again: what is on the screen as a `sky.Session`, and back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from app.compute import memory_budget
from app.jobs import Job
from app.labelling import MOST_CLASSES
from app.places import Place, checked
from app.selecting import as_text
from app.state import LAYERS, MERGES, ON_DEMAND, TABS, Choices, Example, State, failed
from skysense import analysis
from skysense.analysis import LabelClass
from skysense.errors import SessionError
from skysense.link import SOURCES, SharedState
from skysense.merging import USUAL
from skysense.selected import cells_of
from skysense.session import (
    Session,
    SessionChoices,
    SessionClass,
    SessionPlace,
    SessionView,
)
from skysense.sources import CATALOGUES
from skysense.stack import sensors_of

if TYPE_CHECKING:
    from app.flow import Flow


class Keeping:
    """The verbs of the menu *Keep*."""

    def __init__(self, flow: "Flow") -> None:
        self._flow, self._state = flow, flow.state
        self.seen: tuple[str, tuple[float, float], float] | None = None
        """(name of the place, (lon, lat) of the middle, zoom) of the map, as it is now."""
        self.wanted: tuple[str, tuple[float, float], float] | None = None
        """The same as it is to be when the place of that name is shown again."""

        self.on_look: Callable[[], None] = lambda: None
        """Called when the map has moved."""

    def look(self, place: str, centre: tuple[float, float], zoom: float) -> None:
        """The map shows (lon, lat) in its middle now."""
        self.seen = (place, centre, zoom)
        self.on_look()

    # ------------------------------------------------------------------------------- what there is

    def session(self) -> Session:
        """What the screen shows; takes a moment, since features are hashed.

        Raises:
            SessionError: If there is more than a session may hold.
        """
        return self.gather()()

    def gather(self) -> Callable[[], Session]:
        """Look at the state now; what is returned makes the session of it, in any thread."""
        state, compute, now = self._state, self._flow.compute, self._now()
        made = self._flow.made.encoded_places() if now == state.made_with else {}
        made = {place: each for place, each in made.items() if not each[0].part}
        places = [each.place for each in state.opened]
        classes, bank, view = tuple(state.classes), state.bank, self._view()
        whole = now is not None and now == state.made_with and not now.part
        selection = state.selection if whole else None

        def make() -> Session:
            chosen = SessionChoices() if now is None else _choices(now, made, compute.weights)
            return Session(
                places=tuple(
                    SessionPlace(
                        place.name, place.source, place.region, place.scene, self._loaded(place),
                        compute.hash_of(*made[place]) if place in made else "",
                    )
                    for place in places
                ),
                choices=chosen,
                labels=tuple(
                    SessionClass(one_line(each.name), each.colour.lower(), tuple(each.places))
                    for each in classes
                ),
                prototypes=() if bank is None else tuple(analysis.names_of(bank)),
                bank=bank,
                view=replace(view, selected=as_text(selection)),
            )  # fmt: skip

        return make

    def stacks(self) -> dict[str, xr.DataTree]:
        """{name: images} of the places in use; loads what is not there, so call it in a worker."""
        return {e.place.name: self._flow.compute.stack(e.place) for e in self._state.opened}

    def _now(self) -> Choices | None:
        """What is shown was made with; what is being made, while it is."""
        state = self._state
        if state.made_with is None or state.status("encode").kind == "working":
            return state.choices
        return state.made_with

    def _loaded(self, place: Place) -> tuple[str, ...] | None:
        stack = self._flow.compute.store.peek(("stack", place))
        return place.sensors if stack is None else tuple(sensors_of(stack))

    def _view(self) -> SessionView:
        state = self._state
        names = [each.place.name for each in state.opened]
        here = state.place.name if state.place is not None else ""
        seen = self.seen if self.seen is not None and self.seen[0] == here else None
        return SessionView(
            place=here,
            top=state.top,
            opacity=state.opacity,
            axes=state.axes,
            groups=state.groups,
            prototypes=state.prototypes,
            basis_of=state.basis_of if state.basis_of in names else "",
            centre=None if seen is None else seen[1],
            zoom=None if seen is None else seen[2],
            tab=state.tab,
            like=tuple((each.lon, each.lat) for each in state.examples if each.like),
            unlike=tuple((each.lon, each.lat) for each in state.examples if not each.like),
            threshold=state.threshold,
        )

    def folders(self) -> list[Path]:
        """Where images and weights of a session may lie: where those on offer are."""
        recipes = (Path(p.source).parent for p in self._state.places if p.source.endswith(".toml"))
        weights = self._flow.compute.weights
        return list(dict.fromkeys([*recipes, *([weights] if weights is not None else [])]))

    # ------------------------------------------------------------------------------ and back again

    def restore(self, session: Session) -> None:
        """Show what a session shows; encodes what had features and has none here.

        Raises:
            SkySenseError: If this server cannot: another encoder, images it does not offer, a place
                too large for the screen. Nothing is changed then.
        """
        self.check(session)
        places = [self._place(each, i) for i, each in enumerate(session.places, 1)]
        if not places:
            raise SessionError("The session has no place, so there is nothing to show.")
        seen, recorded = session.view, {e.name: e.features for e in session.places if e.features}
        here = next((p for p in places if p.name == seen.place), places[0])
        self._set(session, places)
        self._look_again(here, seen)
        chosen = session.choices
        merge = "" if chosen.merge == USUAL else chosen.merge
        now = Choices(here, chosen.encoder, chosen.dates, chosen.resolution, merge)
        behind = [p for p in places if p.name in recorded and p != here]
        for place in sorted(behind, key=lambda p: p.name != seen.basis_of):
            self._again(replace(now, place=place), basis=place.name == seen.basis_of)
        self._show(session, now, recorded.get(here.name, ""))

    def _set(self, session: Session, places: list[Place]) -> None:
        """Everything but what is of one place."""
        state, flow, seen, chosen = self._state, self._flow, session.view, session.choices
        flow.made.forget()
        flow.banks.forget()
        state.param.update(
            places=_merged(state.places, places), opened=[], encoder=chosen.encoder,
            dates=chosen.dates, resolution=chosen.resolution, axes=seen.axes, classes=[],
            merge=chosen.merge or USUAL, groups=min(max(seen.groups, 2), 20), prototypes=min(max(seen.prototypes, 2), 64),
            opacity=seen.opacity,
        )  # fmt: skip
        for place in places:
            flow.regions.use(place)
        if session.bank is not None:
            named = {"names": list(session.prototypes)} if session.prototypes else {}
            flow.banks.use(chosen.encoder, session.bank.assign_attrs(named))

    def _look_again(self, here: Place, seen: SessionView) -> None:
        self.wanted = None
        if seen.centre is not None and seen.zoom is not None:
            self.wanted = self.seen = (here.name, seen.centre, seen.zoom)

    def _show(self, session: Session, now: Choices, recorded: str) -> None:
        """The place on the screen, with its labels, and its features if it had some."""
        state, flow, seen = self._state, self._flow, session.view
        state.tab = seen.tab
        flow.open_place(now.place)
        if session.labels:
            state.classes = [_marked(each) for each in session.labels]
        state.examples = [
            Example(*each, like)
            for places, like in ((seen.like, True), (seen.unlike, False))
            for each in places
        ]
        state.param.update(top=_there(seen.top), threshold=seen.threshold)
        if seen.tab == "Label":
            state.mode = "label"
        if state.features is not None:
            flow.labels.refresh(lift=False)
            flow.search.find()
        elif recorded and state.status("encode").kind != "working":
            flow.encode()
        self._watch_hash(now, recorded)
        if seen.selected:
            flow.selecting.again(now, cells_of(seen.selected))

    def follow(self, link: SharedState) -> None:
        """Show what a link says.

        Raises:
            SkySenseError: If this server has no such place, encoder or layer. Nothing is changed
                then.
        """
        state, flow = self._state, self._flow
        self._check_names(link.encoder or state.encoder, link.layer or state.top, link.merge)
        place = None
        if link.region is None and link.place:
            place = next((p for p in state.places if p.name == link.place), None)
            if place is None:
                raise SessionError(
                    f"The link names the place “{link.place[:60]}”, which is not on offer here. Open "
                    "the session file instead."
                )
        elif link.region is not None:
            region = checked(link.region)
            place = next(
                (p for p in state.places if p.region == region and p.source == link.source), None
            )
        state.param.update(
            encoder=link.encoder or state.encoder, top=_there(link.layer or state.top), dates=link.dates,
            resolution=link.resolution or state.resolution, merge=link.merge or USUAL,
        )  # fmt: skip
        if place is not None:
            flow.open_place(place)
        elif link.region is not None and link.source in CATALOGUES:
            first = state.places[0] if state.places else None
            flow.add_region(link.region, link.source, shown=False)
            if first is not None:
                flow.open_place(first)
            state.notice = (
                f"The link is to a place in the catalogue {link.source}, which is on the internet and "
                f"is asked only once you choose “{state.places[-1].name}” in the list of places."
            )
        elif link.region is not None:
            flow.add_region(link.region, link.source)
        elif state.places:
            flow.open_place(state.places[0])

    # ---------------------------------------------------------------------------------- the parts

    def check(self, session: Session) -> None:
        """Raise a `SkySenseError` for a session that this server cannot show."""
        self._check_names(session.choices.encoder, session.view.top, session.choices.merge)
        if session.view.axes not in State.param.axes.objects:
            raise SessionError(
                f"The scatter has no axes “{session.view.axes}”; it has "
                f"{', '.join(State.param.axes.objects)}."
            )
        if session.view.tab not in TABS:
            raise SessionError(
                f"There is no panel “{session.view.tab}”; there are {', '.join(TABS)}."
            )
        if len(session.labels) > MOST_CLASSES:
            raise SessionError(f"{len(session.labels)} classes; {MOST_CLASSES} is the most here.")
        offered = {place.source for place in self._state.places if place.source.endswith(".toml")}
        for each in session.places:
            if each.region is not None:
                checked(each.region)
            if each.source in SOURCES and each.region is None:
                raise SessionError(f"The place “{each.name[:60]}” names no region.")
            if each.source not in SOURCES and each.source not in offered:
                raise SessionError(
                    f"The place “{each.name[:60]}” has its images in a file that is not on offer "
                    "here. Start the dashboard with --recipes and its folder."
                )

    def _check_names(self, encoder: str, layer: str, merge: str) -> None:
        if merge and merge not in MERGES:
            raise SessionError(
                f"High resolution was merged before the stages {merge}; here it can be merged before "
                f"{'; '.join(MERGES)}."
            )
        if encoder not in self._flow.compute.encoders:
            raise SessionError(
                f"There is no encoder “{encoder}” here; there are "
                f"{', '.join(self._flow.compute.encoders)}."
            )
        if layer not in LAYERS:
            raise SessionError(f"There is no layer “{layer}”; there are {', '.join(LAYERS)}.")

    def _place(self, each: SessionPlace, number: int) -> Place:
        """A place that gives the same images, of those that are open somewhere if one does."""
        old = next((p for p in self._state.places if p.name == each.name), None)
        key = f"kept:{number}" if old is None else old.key
        plain = Place(key, each.name, each.source, each.region, each.scene)
        own = replace(plain, sensors=each.sensors)
        for place in (plain, own):
            stack = self._flow.compute.store.peek(("stack", place))
            if stack is not None and each.sensors in (None, tuple(sensors_of(stack))):
                return place
        return own

    def _again(self, choices: Choices, basis: bool) -> None:
        """Make the features of a place that is in use but not shown; `basis`: colour all by them."""
        compute, name = self._flow.compute, choices.place.name

        def done(features: xr.DataArray) -> None:
            if basis:
                self._flow.made.use_basis(choices, features)

        known = compute.known_features(choices)
        if known is not None:
            done(known)
            return
        self._flow.run(
            f"again {name}",
            f"again {name}",
            f"Encoding {name}",
            lambda job: compute.features(choices, job.report, job.cancel),
            done,
            lane="encode",
            share=("features", choices),
        )

    def _watch_hash(self, choices: Choices, recorded: str) -> None:
        """Say so if the features come out differently than they were recorded."""
        if not recorded:
            return
        state, compute = self._state, self._flow.compute

        def compare(*_: object) -> None:
            if state.features is None or state.made_with != compute.settled(choices):
                return
            features = state.features
            state.param.unwatch(watcher)
            self._flow.run(
                "hash", "hash", "Comparing with the record",
                lambda _: compute.hash_of(choices, features) == recorded,
                lambda same: None if same or state.features is not features else say(),
            )  # fmt: skip

        def say() -> None:
            state.notice = (
                "These features differ from those the session recorded: another processor, version "
                "or weights. Colours and labels are those of the session."
            )

        watcher = state.param.watch(compare, ["features", "made_with"])
        compare()

    def refuse(self, sentence: str) -> None:
        """Say in the dialog why something cannot be done."""
        self._state.set_status("keep", failed(sentence))

    def encoded(self, _: Job | None = None) -> dict[str, xr.DataArray]:
        """{name: features} of the places in use that are whole."""
        found = self._flow.made.encoded_places()
        return {p.name: each for p, (choices, each) in found.items() if not choices.part}


def _choices(
    now: Choices, made: dict[Place, tuple[Choices, xr.DataArray]], weights: object
) -> SessionChoices:
    others = {
        "checkpoint": str(weights) if now.encoder == "skysense-v1" and weights else "",
        "memory_gb": memory_budget(),
    }
    if not made:
        return SessionChoices(
            now.encoder, dates=now.dates, resolution=now.resolution, merge=now.merge, **others  # type: ignore[arg-type]
        )  # fmt: skip
    features = made.get(now.place, next(iter(made.values())))[1]
    return replace(SessionChoices.of(features, now.dates, **others), encoder=now.encoder)


def _there(layer: str) -> str:
    """A layer that needs nobody to ask for it first; the features in the stead of one that does."""
    return "features" if layer in ON_DEMAND else layer


def one_line(name: str) -> str:
    """A name as a session may hold it."""
    return "".join(letter if letter.isprintable() else " " for letter in name).strip() or "unnamed"


def _marked(each: SessionClass) -> LabelClass:
    points = tuple(mark for mark in each.places if isinstance(mark, tuple))
    areas = tuple(mark for mark in each.places if not isinstance(mark, tuple))
    return LabelClass(each.name, points, areas, each.colour)  # type: ignore[arg-type]


def _merged(offered: list[Place], opened: list[Place]) -> list[Place]:
    """The places on offer, those of a session in the stead of others of their names."""
    own = {place.name: place for place in opened}
    return [*(own.pop(place.name, place) for place in offered), *own.values()]
