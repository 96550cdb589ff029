"""What happens when a person does something: wishes in, jobs out, results into the state.

Every method returns at once. Slow steps run in worker threads (`app.jobs`); a step that fails
leaves a sentence in the pane it concerns and the session as it was.
"""

import secrets
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from app.atlas import Banks
from app.closer import Closer
from app.comparing import Comparing
from app.compute import Compute
from app.inside import Inside
from app.jobs import Job, JobManager, Post, Replies
from app.keeping import Keeping
from app.labelling import Labelling
from app.made import Made
from app.places import SYNTHETIC, Place, checked, typed_region
from app.regions import Regions
from app.searching import Searching
from app.selecting import Selecting
from app.state import EMPTY, READY, Choices, State, failed, working
from app.takehome import TakeHome
from skysense.analysis.places import cell_at
from skysense.dates import acquisitions
from skysense.errors import RegionError, SkySenseError
from skysense.region import Region
from skysense.stack import sensors_of

_ABOUT_A_PLACE = (
    "open", "colour", "cost", "encode", "features", "scatter", "groups", "prototypes", "classes",
    "label-file", "alike", "values", "top", "atlas", "score", "cell", "points",
)  # fmt: skip
"""Slots whose jobs nobody waits for once another place is chosen."""


class Flow:
    """The verbs of one session."""

    def __init__(
        self, state: State, compute: Compute, jobs: JobManager, post: Post, owner: str
    ) -> None:
        self.state, self.compute = state, compute
        self._jobs, self._post, self._owner = jobs, post, owner
        self._encode_when_open = False
        self.at_once = False
        """Do steps here and now: for a page that is being made, of things that are known."""
        self.middle: Callable[[], tuple[float, float] | None] = lambda: None
        """(lon, lat) of the middle of the view, if there is one: encoding begins there."""
        self.made = Made(self)
        self.labels = Labelling(self)
        self.closer = Closer(self)
        self.inside = Inside(self)
        self.keep = Keeping(self)
        self.files = TakeHome(self)
        self.banks = Banks(self)
        self.comparing = Comparing(self)
        self.regions = Regions(self)
        self.search = Searching(self)
        self.selecting = Selecting(self)
        state.param.watch(self._recount_cost, ["encoder", "dates", "resolution", "merge"])

    def run(
        self,
        slot: str,
        pane: str,
        sentence: str,
        work: Callable[[Job], Any],
        done: Callable[[Any], None],
        lane: str = "quick",
        refused: Callable[[str], None] | None = None,
        share: Hashable | None = None,
        watch: Callable[[], None] = lambda: None,
        kept: Callable[[Any], None] | None = None,
    ) -> None:
        """Do `work` in a worker thread and show in `pane` how it goes; the latest wish counts.

        Args:
            slot: What the work is for; work asked for earlier under the same name is cancelled.
            pane: Whose status tells how it goes.
            sentence: What is going on.
            work: Runs in a worker.
            done: Takes the result, on the session's thread.
            lane: Which workers, of `app.jobs.LANES`.
            refused: Takes the sentence if it fails, after the pane shows it.
            share: Names what is made, if other sessions may wait for it too.
            watch: Called whenever the work tells how far it is.
            kept: Takes what the work gave although it was cancelled; None if that is of no use.
        """
        state = self.state
        if self.at_once:
            self._do_at_once(pane, work, done)
            return
        state.set_status(pane, working(sentence))

        def finished(result: Any) -> None:
            state.set_status(pane, READY)
            done(result)

        def progress(made: int, total: int, text: str) -> None:
            state.set_status(pane, working(text, made / total if total else None))
            watch()

        def refuse(why: str) -> None:
            state.set_status(pane, failed(why))
            if refused is not None:
                refused(why)

        replies = Replies(
            finished,
            refuse,
            progress,
            lambda: state.set_status(pane, failed("Cancelled. Nothing was changed.")),
            kept,
        )
        self._jobs.submit(
            self._owner, slot, work, lane=lane, post=self._post, replies=replies, share=share
        )

    def quietly(self, slot: str, work: Callable[[Job], Any], replies: Replies) -> None:
        """Do `work` in a worker thread without a word on the screen."""
        self._jobs.submit(self._owner, slot, work, lane="quick", post=self._post, replies=replies)

    def later(self, call: Callable[[], None]) -> None:
        """Call on the session's thread; from any thread."""
        self._post(call)

    def drop(self, slot: str, pane: str) -> None:
        """Nobody wants the work of this slot any more: it ends unseen, and `pane` is empty."""
        self._jobs.drop(self._owner, slot)
        self.state.set_status(pane, EMPTY)

    def stop(self, slot: str) -> None:
        """Stop the work of this slot; its pane says so."""
        self._jobs.cancel(self._owner, slot)

    def _do_at_once(
        self, pane: str, work: Callable[[Job], Any], done: Callable[[Any], None]
    ) -> None:
        try:
            result = work(Job(self._owner, pane))
        except SkySenseError as error:
            self.state.set_status(pane, failed(str(error)))
            return
        self.state.set_status(pane, READY)
        done(result)

    # ------------------------------------------------------------------------------------ places

    def open_place(self, place: Place) -> None:
        """Show a place: its images and dates; its features too if they were made before."""
        state = self.state
        for slot in _ABOUT_A_PLACE:
            self._jobs.drop(self._owner, slot)
        self.regions.use(place)
        state.param.update(
            place=place, stack=None, rail=[], features=None, made_with=None, fields={},
            coordinates=None, bank=None, selection=None, here=None, statuses={}, cost="",
            shown=("", 0), mode="inspect", notice="",
        )  # fmt: skip
        self._encode_when_open = False
        self.labels.reset()
        self.closer.reset()
        self.inside.reset()
        self.search.clear()

        def opened(stack: xr.DataTree) -> None:
            state.param.update(
                stack=stack, rail=acquisitions(stack, state.dates), shown=best_date(stack)
            )
            known = self.compute.known_features(state.choices)
            if known is not None:
                self._take_features(state.choices, known)
            elif self._encode_when_open or self._jobs.making(("features", state.choices)):
                self.encode()  # or join whoever is waiting for the same
            else:
                self._recount_cost()

        ready = self.compute.store.peek(("stack", place))
        if ready is not None:
            opened(ready)
        else:
            self.run(
                "open",
                "map",
                f"Opening {place.name}",
                lambda _: self.compute.stack(place),
                opened,
                refused=lambda why: self._pretend(place, why),
            )

    def add_region(self, region: Region, source: str, shown: bool = True) -> None:
        """Add a place that was drawn, typed or in a file, and open it unless told otherwise."""
        try:
            region = checked(region)
        except RegionError as error:
            self.state.set_status("place", failed(str(error)))
            return
        number = sum(place.key.startswith("mine") for place in self.state.places) + 1
        name = self.regions.name_for(region.name or f"Place {number}")
        place = Place(f"mine:{number}", name, source, region)
        self.state.places = [*self.state.places, place]
        self.state.set_status("place", READY)
        if shown:
            self.open_place(place)

    def add_typed(
        self, text: str, size: float, time: tuple[str, str], name: str, source: str
    ) -> None:
        """Add a place from text; a sentence says what is wrong with it otherwise."""
        try:
            region = typed_region(text, size, time, name)
        except RegionError as error:
            self.state.set_status("place", failed(str(error)))
            return
        self.add_region(region, source)

    def add_drawn(self, geometry: dict[str, Any], time: tuple[str, str], source: str) -> None:
        """Add a place from a drawing on the map."""
        try:
            region = Region.from_geojson(geometry, time)
        except RegionError as error:
            self.state.set_status("place", failed(str(error)))
            return
        self.add_region(region, source)

    def _pretend(self, place: Place, why: str) -> None:
        """No images from the internet: show a made-up scene there, and say so."""
        if place.local or place.region is None:
            return
        self.add_region(replace(place.region, name=f"{place.name}, synthetic"), SYNTHETIC)
        self.state.notice = f"A made-up scene is shown here. {why}"

    # ---------------------------------------------------------------------------------- encoding

    def encode(self) -> None:
        """Make the features of the place with the chosen encoder, dates and resolution."""
        choices = self.state.choices
        if choices is None or self.state.stack is None:
            self._encode_when_open = choices is not None
            self.state.set_status("encode", working("Waiting for the images"))
            return
        known = self.compute.known_features(choices)
        if known is not None:
            self._take_features(choices, known)
            return
        centre = self.middle()
        self.run(
            "encode",
            "encode",
            "Waiting for the encoder",
            lambda job: self.compute.features(choices, job.report, job.cancel, centre),
            lambda features: self._take_features(choices, features),
            lane="encode",
            share=("features", choices),
            watch=lambda: self.made.preview(choices),
            kept=lambda features: self._take_part(choices, features),
        )

    def cancel(self) -> None:
        """Stop encoding."""
        if self._encode_when_open and self.state.stack is None:
            self._encode_when_open = False
            self.state.set_status("encode", EMPTY)
        self.stop("encode")

    def _recount_cost(self, *_: object) -> None:
        state, choices = self.state, self.state.choices
        if state.stack is None or choices is None:
            return
        state.rail = acquisitions(state.stack, state.dates)
        if self.compute.known_features(choices) is not None:
            state.cost = ""
            return

        def counted(sentence: str) -> None:
            state.cost = sentence

        self.run("cost", "cost", "Estimating", lambda _: self.compute.cost(choices), counted)

    def _take_part(self, choices: Choices, features: xr.DataArray) -> None:
        """Encoding was cancelled: keep what is done, under a name of its own."""
        self._take_features(replace(choices, part=secrets.token_hex(4)), features)

    def _take_features(self, choices: Choices, features: xr.DataArray) -> None:
        state = self.state
        if choices.place != state.place:
            return
        drawn = state.fields.get("features")  # of the run that ends: it stays till there is better
        stays = drawn is not None and "unfinished" in drawn.attrs
        state.param.update(
            features=features, made_with=choices, selection=None, coordinates=None, bank=None, cost="",
            fields={"features": drawn} if stays and drawn.shape[-2:] == features.shape[-2:] else {},
        )  # fmt: skip
        self.closer.reset()
        self.inside.reset()
        state.set_status("encode", READY)
        self.made.everything()
        self.labels.refresh(lift=False)  # no mark was made
        self.search.find()

    # --------------------------------------------------------------------------------- the hands

    def click(self, lon: float, lat: float) -> None:
        """A click on the map: inspect there, and label there if that is the mode."""
        lon = (lon + 180) % 360 - 180
        labelling = self.state.mode == "label"
        self.look_at(lon, lat, alike=not labelling)
        if labelling:
            self.labels.click(lon, lat)

    def look_at(self, lon: float, lat: float, alike: bool = True) -> None:
        """Inspect a place; what is like it too, if that is shown and wanted."""
        self.state.param.update(here=(lon, lat), measured="")
        self._measure(lon, lat)
        if alike and self.state.top == "similarity":
            self.search.click(lon, lat)

    def _measure(self, lon: float, lat: float) -> None:
        """Read what the shown date says at a place; in a worker, since it may have to be fetched."""
        stack, (sensor, number) = self.state.stack, self.state.shown
        if stack is None or not sensor:
            return

        def read(words: str) -> None:
            self.state.measured = words

        self.run(
            "values",
            "values",
            "Reading",
            lambda _: measured_at(stack[sensor].to_dataset(), number, lon, lat),
            read,
        )

    def show_layer(self, layer: str) -> None:
        """Put a layer on top of the map."""
        self.state.top = layer
        if layer == "similarity" and self.state.here is not None and not self.state.examples:
            self.search.click(*self.state.here)

    def drawn(self, geometry: dict[str, Any]) -> None:
        """A polygon was drawn on the map: it selects, or is an area of the active class."""
        if self.state.mode == "label":
            self.labels.add_area(geometry)
        else:
            self.selecting.drawn(geometry)

    def select(self, cells: np.ndarray | None) -> None:
        """Select cells, (y, x) bool; None or nothing selected lets go."""
        self.state.selection = cells if cells is not None and cells.any() else None

    def select_category(self, layer: str, number: int) -> None:
        """Select all cells of one prototype, cluster or class."""
        field = self.state.fields.get(layer)
        if field is not None and field.ndim == 2:
            self.select(field.values == number)

    def close(self) -> None:
        """The session is gone: stop its work."""
        self._jobs.forget(self._owner)


def best_date(stack: xr.DataTree) -> tuple[str, int]:
    """(sensor, number) of the date to show first: the clearest of the closest view."""
    sensor = sensors_of(stack)[0]
    clear = np.nan_to_num(stack[sensor]["clear"].values, nan=0.0)
    return sensor, int(clear.argmax())


def measured_at(group: xr.Dataset, number: int, lon: float, lat: float) -> str:
    """Values of one date at a place, and how many dates are usable there; empty outside."""
    cell = cell_at(group["data"], lon, lat)
    if cell is None:
        return ""
    values = group["data"][number, :, cell[0], cell[1]].values
    digits = {"reflectance": 3, "dB": 1}.get(group.attrs["units"], 0)
    said = ", ".join(
        f"{name} {value:.{digits}f}" if np.isfinite(value) else f"{name} –"
        for name, value in zip(group["band"].values, values, strict=True)
    )
    moment = group["time"].values[number]
    when = "date unknown" if np.isnat(moment) else str(moment)[:10]
    here = group["valid"][:, cell[0], cell[1]]
    masked = "" if bool(here[number].values) else " (masked)"
    units = " dB" if group.attrs["units"] == "dB" else ""
    usable = f"; usable on {int(here.sum())} of {len(here)} dates" if len(here) > 1 else ""
    return f"{when}{masked}{usable}: {said}{units}"
