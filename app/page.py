"""One session's page: the panes, where they stand, and letting go of them."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui

from app.flow import Flow
from app.keys import Keys, listen
from app.panes.compare import Compare
from app.panes.dates import DateRail
from app.panes.guide import Guide
from app.panes.header import Header
from app.panes.inside import Inside
from app.panes.inspector import Inspector
from app.panes.keep import Keep
from app.panes.label import Label
from app.panes.layers import LayerBar, Legend
from app.panes.mapview import MapView, Web
from app.panes.newplace import NewPlace
from app.panes.prototypes import Prototypes
from app.panes.provenance import Provenance
from app.panes.scatter import Scatter
from app.panes.search import Search
from app.panes.time import Time
from app.state import DRAWING_PLACE, TABS
from app.theme import LINE, PAGE, TABS_CSS, THEME, exactly, rem
from app.wire import leave_others_alone

_CARD = {"border": f"1px solid {LINE}", "borderRadius": "8px", "overflow": "hidden"}


RIGHT = f"calc({rem(240)} + 200px)"
"""Width of the right column: 440 pixels, 500 with large type."""


class Page:
    """Everything one visitor sees."""

    def __init__(self, flow: Flow, web: Web) -> None:
        self.flow, self.state = flow, flow.state
        self._folder = tempfile.TemporaryDirectory(prefix="skysense-")
        self.map = MapView(flow, web)
        self.closing: list[Callable[[], None]] = []
        folder = Path(self._folder.name)
        new_place = NewPlace(flow, folder)
        self._new_place = new_place
        self.map.on_drawn = self._drawn
        provenance = Provenance(flow)
        guide = Guide(self.state)
        header = Header(flow, new_place)
        keep = Keep(flow, folder, web.prefix)
        self.closing.append(keep.close)
        header.bar.extend([keep.menu, guide.menu])
        keys = Keys(large=self.state.large)
        listen(keys, flow, guide.show)
        self._later: dict[str, Callable[[], pn.viewable.Viewable]] = {
            "Prototypes": lambda: self._kept(Prototypes(flow, web)),
            "Compare": lambda: self._kept(Compare(flow, web)),
            "Search": lambda: Search(flow).view,
            "Time": lambda: Time(flow).view,
            "Inside": lambda: Inside(flow).view,
            "Label": lambda: Label(flow, folder).view,
        }
        """What is made when its tab is first turned to, so that the page opens sooner."""
        self._tabs = pn.Tabs(
            (TABS[0], Scatter(flow).view),
            *((name, pn.Column(sizing_mode="stretch_both", margin=0)) for name in TABS[1:]),
            sizing_mode="stretch_both",
            margin=0,
            stylesheets=[TABS_CSS],
        )
        self._tabs.param.watch(self._turned, "active")
        self.state.param.watch(self._follow_mode, "mode")
        self.state.param.watch(lambda e: self._tabs.param.update(active=TABS.index(e.new)), "tab")
        left = pmui.Column(
            LayerBar(flow).view,
            pmui.Paper(self.map.pane, sizing_mode="stretch_both", elevation=0, sx=_CARD, margin=0),
            Legend(flow).view,
            sizing_mode="stretch_both",
            margin=0,
        )
        right = pmui.Paper(
            self._tabs,
            styles=exactly(RIGHT),
            sizing_mode="stretch_both",
            elevation=0,
            sx=_CARD,
            margin=(0, 0, 0, 12),
        )
        rail = pmui.Paper(
            DateRail(flow).view, sizing_mode="stretch_width", elevation=0, sx=_CARD, margin=(6, 0)
        )
        body = pmui.Column(
            header.view,
            pmui.Row(left, right, sizing_mode="stretch_both", margin=0),
            rail,
            pmui.Row(provenance.opened_by(Inspector(flow).view), provenance.button,
                     sizing_mode="stretch_width", styles={"min-height": rem(36)}, margin=0),
            new_place.view,
            provenance.view,
            guide.view,
            keep.view,
            keys,
            sizing_mode="stretch_both",
            styles={"height": "100vh"},
            margin=(0, 14),
        )  # fmt: skip
        if self.state.large:  # Panel sets the type of plots once more when it first draws them
            pn.state.onload(lambda: self.state.param.trigger("large"))
        self.view = pmui.Page(
            title="SkySense Explorer",
            main=[body],
            theme_toggle=False,
            busy_indicator=None,
            theme_config=THEME,
            sx=PAGE,
        )
        leave_others_alone(self.view)

    def _kept(self, pane: Any) -> pn.viewable.Viewable:
        """What a pane shows; the pane itself lets go of its pictures in the end."""
        self.closing.append(pane.close)
        return pane.view

    def _drawn(self, geometry: dict[str, Any]) -> None:
        if self.state.mode == DRAWING_PLACE:
            self._new_place.drawn(geometry)
        else:
            self.flow.drawn(geometry)

    def _turned(self, event: Any) -> None:
        self.state.tab = TABS[event.new]
        make = self._later.pop(TABS[event.new], None)
        if make is not None:
            self._tabs[event.new][:] = [make()]
        self.state.searching = TABS[event.new] == "Search"
        if self.state.searching and self.state.features is not None:
            self.state.mode = "inspect"
            self.flow.show_layer("similarity")
        if TABS[event.new] == "Label" and self.state.features is not None:
            self.state.mode = "label"
        elif self.state.mode == "label":
            self.state.mode = "inspect"

    def _follow_mode(self, event: Any) -> None:
        if event.new == "label":
            if self.state.selection is not None:
                self.flow.labels.offer(self.state.selection)
            self.flow.select(None)  # its colour would hide the classes
            self.state.tab = "Label"

    def close(self) -> None:
        """Let go of everything that would outlive the session."""
        self.flow.close()
        self.map.close()
        for close in self.closing:
            close()
        self._folder.cleanup()
