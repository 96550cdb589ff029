"""All encoded places in one wide dialog: one layer, the same colours, the same scale."""

from typing import Any

import panel_material_ui as pmui

from app.flow import Flow
from app.panes.mapview import Web
from app.regions import SIDE_BY_SIDE
from app.theme import SEGMENTS
from app.words import block, safe, status_markup, swatches
from skysense import view

WIDE, TALL = 1080, 470
"""The frame of the pictures on a small laptop (pixels)."""


class SideBySide:
    """A dialog that is filled when it is opened, and keeps the pictures of two layers."""

    def __init__(self, flow: Flow, web: Web) -> None:
        self.flow, self.state, self._web = flow, flow.state, web
        self._tokens: list[str] = []
        self._layer = pmui.RadioButtonGroup(
            options={title: key for key, title in SIDE_BY_SIDE.items()},
            value="features",
            size="small",
            sx=SEGMENTS,
            description="What to show of every place.",
        )
        self._say = block(sizing_mode="stretch_width")
        self._maps = block(width=WIDE, min_height=TALL)  # the dialog keeps its size
        self._legend = block(sizing_mode="stretch_width")
        self.view = pmui.Dialog(
            title="Side by side",
            title_variant="h6",
            width_option="lg",
            show_close_button=True,
            close_on_click=True,
        )
        self._layer.param.watch(lambda _: self._ask(), "value")
        self.state.param.watch(self._tell, ["statuses"])

    def show(self) -> None:
        """Open the dialog with the layer of the map, where it means the same everywhere."""
        self.view.objects = [self._layer, self._say, self._maps, self._legend]
        self.view.open = True
        top = self.state.top if self.state.top in SIDE_BY_SIDE else "features"
        if self._layer.value == top:
            self._ask()
        else:
            self._layer.value = top

    def close(self) -> None:
        """Let go of the pictures."""
        for token in self._tokens:
            self._web.overlays.drop(token)
        self._tokens = []

    def _ask(self) -> None:
        self.flow.regions.side_by_side(self._layer.value, self._draw)

    def _draw(self, made: view.Multiples) -> None:
        tokens = [self._web.overlays.put(each.png) for each in made.pictures]
        urls = [f"{self._web.prefix}/overlay/{token}.png" for token in tokens]
        # the browser may still be fetching those of the layer before
        for token in self._tokens[: -len(tokens)]:
            self._web.overlays.drop(token)
        self._tokens = [*self._tokens[-len(tokens) :], *tokens]
        self._maps.object = made.html(WIDE, TALL, urls)
        self._legend.object = self._words()

    def _words(self) -> str:
        if self._layer.value == "colour":
            return '<span class="quiet">The clearest date of each place, each with its own stretch.</span>'
        if self._layer.value == "features":
            of = safe(self.state.basis_of)
            return (
                '<span class="quiet">Three principal components as red, green, blue, fitted on '
                f"{of}: like colours, like features, in every place.</span>"
            )
        field = self.state.fields.get("prototypes")
        line = "" if field is None else f'<div class="row">{swatches(view.legend(field))}</div>'
        return f'{line}<span class="quiet">{safe(self.flow.banks.sentence())}</span>'

    def _tell(self, *_: Any) -> None:
        self._say.object = status_markup(self.state.status("side"), "")
