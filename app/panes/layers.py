"""What the map shows: which layer on top, how strongly, its legend and its credit."""

from typing import Any

import panel as pn
import panel_material_ui as pmui

from app.closer import NULLS
from app.flow import Flow
from app.state import DRAWING_PLACE, LAYERS, MODES, ON_DEMAND
from app.theme import SEGMENTS, rem
from app.words import block, flag, press_encode, safe, status_markup, swatches, tip
from skysense import view

_WAITING = {
    "classes": "Choose the mode Label and click a few places of two classes.",
    "similarity": "Click a place on the map to see what is like it.",
    "change": "Compare two periods in the tab Time.",
    "mattered": "Leave out dates in the tab Time.",
    "inside": "Choose what to see in the tab Inside.",
}
_DOUBTS = {
    "Fade where dates disagree (on/off)": "fade",
    "Null: spectral baseline": "spectral",
    "Null: cells shuffled": "shuffled",
    "As it is": "",
}
"""What the menu *Doubt* offers."""

MOST_NOTICE = 180
"""Characters of a notice that are shown; the mouse brings up the rest."""

_PANE_OF = {"classes": "label"}


class LayerBar:
    """Above the map: the layer on top, its opacity, and what a click means."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.state = flow, flow.state
        self._layers = pmui.RadioButtonGroup(
            options=self._offered(),
            value=self.state.top,
            size="small",
            sx=SEGMENTS,
            margin=(0, 8, 0, 0),
            description="Which layer lies on top of the true colour.",
        )
        self._layers.param.watch(lambda event: flow.show_layer(event.new), "value")
        opacity = pmui.FloatSlider.from_param(
            self.state.param.opacity,
            label="",
            description="",
            step=0.05,
            size="small",
            width=84,
            show_value=False,
            margin=(0, 10, 0, 4),
        )
        self._doubt = pmui.MenuButton(
            label="Doubt", icon="help_outline", variant="text", size="small", margin=0,
            items=[{"label": text} for text in _DOUBTS],
            description="Fade what is unsure, or show a null model's picture instead.",
        )  # fmt: skip
        self._doubt.on_click(self._doubted)
        self._modes = pmui.RadioButtonGroup(
            options={title: key for key, title in MODES.items()},
            value=self.state.mode,
            size="small",
            sx=SEGMENTS,
            margin=(0, 0),
            description="What a click or a drawing on the map does.",
        )
        self._modes.param.watch(self._chosen_mode, "value")
        self.view = pmui.Row(
            self._layers,
            pmui.Row(
                tip(opacity, "Opacity: how much of the true colour shines through."),
                self._doubt,
                align="center",
                margin=0,
            ),
            pmui.Column(sizing_mode="stretch_width", margin=0),
            self._modes,
            sizing_mode="stretch_width",
            align="center",
            styles={"min-height": rem(40)},
            sx={"flexWrap": "wrap"},
            margin=0,
        )
        self.state.param.watch(self._follow, ["top", "mode"])
        self.state.param.watch(self._offer, ["fields"])

    def _offered(self) -> dict[str, str]:
        """Layers to choose from: those of the tab *Time* only when they are there."""
        there = self.state.fields
        return {title: key for key, title in LAYERS.items() if key not in ON_DEMAND or key in there}

    def _offer(self, *_: Any) -> None:
        offered = self._offered()
        if offered != self._layers.options:
            value = self.state.top if self.state.top in offered.values() else "features"
            self._layers.param.update(options=offered, value=value)

    def _doubted(self, item: dict[str, Any]) -> None:
        what = _DOUBTS[item["label"]]
        if what == "fade":
            self.flow.closer.set_unsure(not self.state.unsure)
            return
        self.flow.closer.set_null(what)
        if not what:
            self.flow.closer.set_unsure(False)

    def _chosen_mode(self, event: Any) -> None:
        if event.new is not None:
            self.state.mode = event.new

    def _follow(self, *_: Any) -> None:
        mode = self.state.mode
        self._layers.value = self.state.top
        self._modes.value = None if mode == DRAWING_PLACE else mode


class Legend:
    """Under the map: the legend of the layer on top, and where it comes from."""

    def __init__(self, flow: Flow) -> None:
        self.state = flow.state
        self._text = block(sizing_mode="stretch_width", styles={"height": rem(56)}, margin=0)
        self._refit = pmui.Button(
            label="Refit colours",
            icon="palette",
            variant="text",
            size="small",
            margin=0,
            visible=False,
            description="Fit the colours on this place instead.",
            on_click=lambda _: flow.made.refit_colours(),
        )
        self.view = pn.Row(
            self._text,
            self._refit,
            sizing_mode="stretch_width",
            styles={"height": rem(56)},
            margin=(4, 8, 0, 8),
        )
        self.state.param.watch(
            self._show,
            [
                "top",
                "mode",
                "fields",
                "stack",
                "features",
                "statuses",
                "shown",
                "basis_of",
                "notice",
                "fade",
                "instead",
            ],
        )
        self._show()

    def _show(self, *_: Any) -> None:
        place = self.state.place
        self._refit.visible = (
            self.state.top == "features"
            and "features" in self.state.fields
            and place is not None
            and self.state.basis_of not in ("", place.name)
        )
        self._text.object = (
            f'<div class="legend">{self._legend()}'
            f'<div class="quiet credit">{self._credit()}</div></div>'
        )

    def _legend(self) -> str:
        state = self.state
        if state.mode == DRAWING_PLACE:
            return (
                "<div><b>Draw the new place:</b> choose the rectangle or the polygon at the top left of "
                "the map, then draw. Inspect leaves this.</div>"
            )
        if state.notice:
            whole = safe(state.notice)
            more = "…" if len(state.notice) > MOST_NOTICE else ""
            brief = safe(state.notice[:MOST_NOTICE]) + more
            return f'<div class="failed" role="alert" title="{whole}">{brief}</div>'
        opening = state.status("map")
        if opening.kind in ("failed", "working") and state.stack is None:
            return status_markup(opening, "")
        return _line(safe(self._shown_date())) if state.top == "colour" else self._of_top()

    def _of_top(self) -> str:
        """The legend of the layer on top, or how it is coming along."""
        state, layer = self.state, self.state.top
        status = state.status(_PANE_OF.get(layer, layer))
        field = state.fields.get(layer)
        if field is None or status.kind == "failed":
            waiting = _WAITING.get(layer) or press_encode(state, f"{LAYERS[layer]} are drawn")
            return status_markup(status, waiting) or "…"
        for asked in (state.status("doubt"), state.status("instead")):
            if asked.kind in ("working", "failed"):
                return status_markup(asked, "")
        sure = '<span class="quiet">opaque: sure, faint: not</span>' if state.fade else ""
        if state.instead is not None:
            return _line(self._instead(state.instead))
        return _line(legend_markup(field, state.basis_of) + (sure if layer == "classes" else ""))

    def _instead(self, drawn: Any) -> str:
        """The legend of what is drawn instead of the layer on top."""
        null, basis = self.state.null, self.state.basis_of
        said = flag(f"NULL: {null}", NULLS[null]) if null else ""
        return said + legend_markup(drawn, "" if null else basis)

    def _shown_date(self) -> str:
        sensor, number = self.state.shown
        if self.state.stack is None or not sensor:
            return ""
        return view.date_title(self.state.stack[sensor], number)

    def _credit(self) -> str:
        state = self.state
        field = state.top_field
        if field is None:
            field = state.features
        stack = state.stack
        words = view.warnings(field) if field is not None else []
        if field is None and stack is not None and stack.attrs.get("synthetic"):
            words = ["SYNTHETIC scene"]
        if field is not None:
            parts = [part for part in view.caption(field).split(" · ") if part not in words]
            parts.append(f"weights: {field.attrs.get('weights_licence') or 'none'}")
        else:
            parts = [] if stack is None else [str(stack.attrs.get("licence", ""))]
        return " ".join([*map(flag, words), safe(" · ".join(parts))])


def _line(markup: str) -> str:
    return f'<div class="row">{markup}</div>'


def legend_markup(field: Any, basis_of: str) -> str:
    """The legend of a field."""
    kind = field.attrs.get("kind")
    if kind == "rgb":
        of = f", fitted on {safe(basis_of)}" if basis_of else ""
        said = (
            "Three principal components of the features as red, green, blue, stretched from 2 to "
            f"98 %{of}"
        )
        return f'<span title="{said}. Like colours, like features.">{said}</span>'
    if kind == "categorical":
        return swatches(view.legend(field))
    entries = view.legend(field)
    (low, _), (high, _) = entries[0], entries[-1]
    ramp = ",".join(safe(colour) for _, colour in entries)
    return (
        f"<span>{safe(view.title(field))}</span><span>{safe(low)}</span>"
        f'<span class="ramp" style="background:linear-gradient(90deg,{ramp})"></span>'
        f"<span>{safe(high)}</span>"
    )
