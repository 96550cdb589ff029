"""The places in use: chips of one colour each, closed one by one, seen side by side, looked up."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.places import SYNTHETIC, Place, checked
from app.state import EMPTY, READY, Opened, failed
from skysense import view
from skysense.dates import Acquisition
from skysense.errors import RegionError
from skysense.region import Region
from skysense.sources import available
from skysense.sources.outlines import SUFFIXES, read_regions

if TYPE_CHECKING:
    from app.flow import Flow

COLOURS = view.palette(12)
"""Identity colours of places; the thirteenth place begins again."""

SIDE_BY_SIDE = {"colour": "True colour", "features": "Features", "prototypes": "Prototypes"}
"""Layers that mean the same in every place."""

SLOTS = ("there", "side")


class Regions:
    """The verbs of the chips, of the dialog *New place* and of *Side by side*."""

    def __init__(self, flow: "Flow") -> None:
        self._flow, self._state = flow, flow.state

    # ------------------------------------------------------------------------------------- chips

    def use(self, place: Place) -> None:
        """A place is being opened: it has a chip from now on, in a colour that stays its own."""
        opened = self._state.opened
        if any(each.place.key == place.key for each in opened):
            return
        taken = [each.colour for each in opened]
        free = [colour for colour in COLOURS if colour not in taken]
        colour = free[0] if free else COLOURS[len(opened) % len(COLOURS)]
        self._state.opened = [*opened, Opened(place, colour)]

    def open(self, key: str) -> None:
        """A chip was clicked: show its place."""
        place = next((each.place for each in self._state.opened if each.place.key == key), None)
        if place is not None and place != self._state.place:
            self._flow.open_place(place)

    def close(self, key: str) -> None:
        """Take a chip away; its place stays in the list, its features stay where they are.

        The last one stays: there is always a place on the map.
        """
        opened = self._state.opened
        left = [each for each in opened if each.place.key != key]
        if not left or len(left) == len(opened):
            return
        number = next(i for i, each in enumerate(opened) if each.place.key == key)
        self._state.opened = left
        if self._state.place is not None and self._state.place.key == key:
            self._flow.open_place(left[min(number, len(left) - 1)].place)

    def colours(self) -> dict[str, str]:
        """{name of an open place: its colour}."""
        return {each.place.name: each.colour for each in self._state.opened}

    def standing(self, place: Place) -> str:
        """`encoded`, `working` or `not yet`, with the encoder, dates and resolution now chosen."""
        state = self._state
        now = state.choices
        if now is None:
            return "not yet"
        if place == state.place and state.status("encode").kind == "working":
            return "working"
        known = self._flow.compute.known_features(replace(now, place=place))
        return "not yet" if known is None else "encoded"

    # ------------------------------------------------------------------------------- new places

    def name_for(self, wanted: str) -> str:
        """A name that no other place of this session has."""
        taken = {place.name for place in self._state.places}
        if wanted not in taken:
            return wanted
        return next(f"{wanted} {n}" for n in range(2, 10_000) if f"{wanted} {n}" not in taken)

    def add_file(
        self, name: str, content: bytes, folder: Path, time: tuple[str, str], source: str
    ) -> bool:
        """Add every outline of an uploaded file as a place, and open the first."""
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
            self.refuse(f"“{name[:60]}” is not a file of outlines. Use GeoJSON or GeoPackage.")
            return False
        stem = re.sub(r"[^\w .-]", "_", Path(name).stem)[:60] or "outline"
        path = folder / f"{stem}{suffix}"
        path.write_bytes(content)
        try:
            found = [checked(region) for region in read_regions(path, time)]
        except RegionError as error:
            self.refuse(str(error).replace(str(path), path.name))
            return False
        finally:
            path.unlink(missing_ok=True)
        for region in found:
            self._flow.add_region(region, source, shown=False)
        first, *others = self._state.places[-len(found) :]
        self._flow.open_place(first)
        for each in others:
            self.use(each)
        return True

    def refuse(self, sentence: str) -> None:
        """Say in the dialog why a place cannot be had."""
        self._state.set_status("place", failed(sentence))

    def look(
        self, region: Callable[[], Region], source: str, done: Callable[[list[Acquisition]], None]
    ) -> None:
        """Search what a source has for a place, without loading any of it."""
        try:
            wanted = checked(region())
        except RegionError as error:
            self.refuse(str(error))
            return
        sensors = ("s2", "s1") if source == SYNTHETIC else None
        self._state.set_status("place", EMPTY)
        rule = self._state.dates

        def found(dates: list[Acquisition]) -> None:
            self._state.set_status("place", READY)
            done(dates)

        self._flow.run(
            "there",
            "place",
            "Searching",
            lambda _: available(wanted, sensors, source, rule=rule),
            found,
        )

    # ------------------------------------------------------------------------------ side by side

    def side_by_side(self, layer: str, done: Callable[[view.Multiples], None]) -> None:
        """One layer of every encoded place, in the same colours at the same scale."""
        flow = self._flow
        places = flow.made.encoded_places()
        colours = self.colours()
        bank, basis = self._state.bank, flow.made.basis()
        if len(places) < 2:
            self._state.set_status(
                "side", failed("Encode a second place with the same encoder first.")
            )
            return

        def work(_: Any) -> view.Multiples:
            fields = {}
            for place, (choices, features) in places.items():
                if layer == "colour":
                    fields[place.name] = flow.compute.best_image(place)
                elif layer == "features" and basis is not None:
                    fields[place.name] = basis(features)
                else:
                    fields[place.name] = flow.compute.assigned(choices, features, bank)
            return view.multiples(fields, colours)

        if layer != "colour" and (bank is None or basis is None):
            self._state.set_status("side", failed("Press Encode first."))
            return
        flow.run("side", "side", "Drawing", work, done)
