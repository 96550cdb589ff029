"""A place of one's own: typed here, from a file, or drawn on the map; and what there is of it."""

import datetime as dt
from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui

from app.flow import Flow
from app.places import SYNTHETIC, typed_region
from app.state import DRAWING_PLACE
from app.words import block, safe, status_markup
from skysense import view
from skysense.dates import Acquisition, tally

SOURCES = {
    "Synthetic scene (offline)": SYNTHETIC,
    "Planetary Computer (internet)": "planetary-computer",
    "Earth Search (internet)": "earth-search",
}


class NewPlace:
    """A dialog with a text field, a size, a period and a source."""

    def __init__(self, flow: Flow, folder: Path) -> None:
        self.flow, self.state, self._folder = flow, flow.state, folder
        last = dt.date.today().replace(day=1) - dt.timedelta(days=1)
        first = last.replace(day=1) - dt.timedelta(days=364)
        self._text = pmui.TextInput(
            label="Where",
            placeholder="3.02, 50.81",
            helper_text="lon, lat, or west, south, east, north (degrees), or GeoJSON",
            sizing_mode="stretch_width",
            max_length=200_000,
        )
        self._size = pmui.Select(
            label="Size around a point",
            options={"640 m": 640, "1.3 km": 1280, "2.6 km": 2560, "5 km": 5000},
            value=1280,
            size="small",
            width=160,
        )
        self._name = pmui.TextInput(label="Name", placeholder="optional", size="small", width=170)
        self._first = pmui.DatePicker(label="From", value=first, size="small", width=165)
        self._last = pmui.DatePicker(label="To", value=last, size="small", width=165)
        self._source = pmui.Select(
            label="Images from", options=SOURCES, value=SYNTHETIC, size="small", width=260
        )
        self._file = pmui.FileInput(
            label="or from a file",
            variant="outlined",
            accept=".geojson,.json,.gpkg",
            max_file_size=20_000_000,
            size="small",
            width=150,
            description="Outlines as GeoJSON or GeoPackage: each becomes a place, up to eight.",
        )
        self._file.param.watch(self._uploaded, "value")
        self._say = block(sizing_mode="stretch_width")
        self._there = block(sizing_mode="stretch_width")
        self._rail = pn.Column(sizing_mode="stretch_width", margin=0)
        look = pmui.Button(
            label="What is there?",
            variant="outlined",
            icon="search",
            description="List the images of this place and period, without loading any.",
            on_click=lambda _: self._look(),
        )
        add = pmui.Button(
            label="Open this place", variant="contained", on_click=lambda _: self._typed()
        )
        draw = pmui.Button(
            label="Draw it on the map instead",
            variant="text",
            icon="draw",
            on_click=lambda _: self._start_drawing(),
        )
        self._content = [
            block(
                '<span class="quiet">Nothing leaves this computer unless you choose a source on '
                "the internet.</span>"
            ),
            self._text,
            pmui.Row(self._size, self._name, self._file),
            pmui.Row(self._first, self._last),
            pmui.Row(self._source, look, align="center"),
            self._say,
            self._there,
            self._rail,
            pmui.Row(add, draw),
        ]
        self.view = pmui.Dialog(
            title="New place",
            title_variant="h6",
            width_option="sm",
            show_close_button=True,
            close_on_click=True,
        )
        self.state.param.watch(self._show, ["statuses"])

    def show(self) -> None:
        """Open the dialog; it is filled when it is first asked for."""
        self._there.object, self._rail.objects = "", []
        self.view.objects = self._content
        self.view.open = True

    def drawn(self, geometry: dict[str, Any]) -> None:
        """A rectangle or polygon was drawn on the map for a new place."""
        self.flow.add_drawn(geometry, self._period(), self._source.value)

    def _start_drawing(self) -> None:
        self.view.open = False
        self.state.mode = DRAWING_PLACE

    def _period(self) -> tuple[str, str]:
        return str(self._first.value)[:10], str(self._last.value)[:10]

    def _uploaded(self, event: Any) -> None:
        content, name = event.new, self._file.filename or ""
        if isinstance(content, list):
            content, name = (content[0], name[0]) if content else (None, "")
        if not content:
            return
        if self.flow.regions.add_file(
            str(name), bytes(content), self._folder, self._period(), self._source.value
        ):
            self.view.open = False

    def _look(self) -> None:
        self._there.object, self._rail.objects = "", []
        self.flow.regions.look(
            lambda: typed_region(
                self._text.value_input or "", self._size.value, self._period(), ""
            ),
            self._source.value,
            self._list,
        )

    def _list(self, dates: list[Acquisition]) -> None:
        """What there is: a line per sensor and a small rail of all dates."""
        self._there.object = "<br>".join(safe(line) for line in tally(dates).splitlines())
        drawn = view.dates(dates, 540).opts(toolbar=None, title="")
        self._rail.objects = [
            pn.pane.HoloViews(drawn, sizing_mode="stretch_width", height=110, linked_axes=False)
        ]

    def _typed(self) -> None:
        before = self.state.place
        self.flow.add_typed(
            self._text.value_input or "",
            self._size.value,
            self._period(),
            (self._name.value_input or "").strip()[:60],
            self._source.value,
        )
        if self.state.place is not before:
            self.view.open = False

    def _show(self, *_: Any) -> None:
        self._say.object = status_markup(self.state.status("place"), "")
