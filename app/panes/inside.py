"""Inside: where SkySense V2 sends its tokens, what its queries look at, what V1 and V2 do not share."""

from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui

from app.compute import other_family
from app.flow import Flow
from app.inside import FIGURES, verdict
from app.panes.rows import Rows
from app.state import EMPTY
from app.theme import QUIET, SEGMENTS
from app.words import block, flag, safe, status_markup, tip
from skysense import view
from skysense.sensors import SENSORS
from skysense.stack import sensors_of

_EXPERTS = (
    "Each token of SkySense V2 passes one of several experts, before dates and sensors meet. Which one "
    "most dates went to is drawn; it is no class of the ground."
)
_PROMPTS = (
    "Four learned tokens tell SkySense V2 which sensor it reads. How much of its attention a token gives "
    "to them is drawn; one that looked at everything alike would give {:.2%}."
)
_QUERIES = (
    "Sixteen learned queries look at the place, each for something of its own. Drawn is the one that "
    "looks at a cell most, compared with an average cell of the first place."
)
_DIFFER = (
    "Features of V1 and V2 cannot be subtracted. So each cell's nearest cells are compared: how many "
    "do both find? The place is encoded once more, and fused from halves of the dates as a control."
)
_COLUMNS = ("between them", "by chance", "itself, half the dates")
ALL = "#8a949c"
"""The square of the row that stands for all queries."""


class Inside:
    """Three parts, one at a time: experts and prompts, queries, V1 and V2."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.state = flow, flow.state
        self._sensor = pmui.RadioButtonGroup(
            options={}, size="small", sx=SEGMENTS, margin=(6, 8),
            description="Whose tokens: 40 m of Sentinel, 10 m of high resolution.",
        )  # fmt: skip
        self._experts = _button("Map experts", lambda: self._look("experts"))
        self._prompts = _button("Map prompts", lambda: self._look("prompts"))
        self._ask = _button("Ask the queries", flow.inside.ask_queries)
        self._differ = _button("Compare", flow.inside.differ)
        self._again = _button("Show on the map", lambda: flow.inside.show("differ"))
        self._stop = _button("Stop", flow.inside.stop)
        self._stop.param.update(visible=False, icon="stop")
        self._says = {name: block(sizing_mode="stretch_width", margin=(2, 8))
                      for name in ("experts", "queries", "differ")}  # fmt: skip
        self._rows = {name: Rows(sizing_mode="stretch_width", margin=0)
                      for name in ("experts", "queries")}  # fmt: skip
        self._rows["experts"].on_pick = lambda _: flow.inside.show("experts")
        self._rows["queries"].on_pick = self._pick
        self._result = block(sizing_mode="stretch_width", margin=(4, 12))
        buttons = {
            "experts": [
                self._sensor,
                tip(self._experts, "Draw which expert each token went to."),
                tip(self._prompts, "Draw how much tokens attend to what tells the sensor."),
            ],
            "queries": [tip(self._ask, "Draw which query looks at each cell most.")],
            "differ": [
                tip(self._differ, "Encode with the other family and compare neighbours."),
                self._again,
            ],
        }
        self._parts = {
            name: pn.Column(
                pn.Row(*several, margin=0),
                self._says[name],
                self._result if name == "differ" else self._rows[name],
                sizing_mode="stretch_both", scroll="y-auto", visible=name == "experts", margin=0,
            )
            for name, several in buttons.items()
        }  # fmt: skip
        which = pmui.RadioButtonGroup(
            options={"Experts": "experts", "Queries": "queries", "V1 and V2": "differ"},
            value="experts", size="small", sx=SEGMENTS, margin=(2, 8),
            description="What to look at inside the encoder.",
        )  # fmt: skip
        which.param.watch(self._turned, "value")
        self.view = pn.Column(
            pn.Row(which, self._stop, margin=0), *self._parts.values(),
            sizing_mode="stretch_both", margin=(8, 8),
        )  # fmt: skip
        watch = self.state.param.watch
        watch(self._offer, ["stack"])
        watch(
            self._show, ["statuses", "features", "made_with", "inside", "looked", "encoder", "top"]
        )
        self._offer()
        self._show()

    def _turned(self, event: Any) -> None:
        for name, part in self._parts.items():
            part.visible = name == event.new

    def _look(self, what: str) -> None:
        if self._sensor.value:
            self.flow.inside.look(what, self._sensor.value)

    def _pick(self, row: int) -> None:
        self.flow.inside.show("queries" if row == 0 else f"query {row}")

    def _offer(self, *_: Any) -> None:
        """Sensors that the place has, Sentinel-2 first."""
        stack = self.state.stack
        there = [] if stack is None else sensors_of(stack)
        keys = sorted(there, key=("s2", "s1", "hr").index)
        short = {"hr": "HR"}
        options = {short.get(key, SENSORS[key].title): key for key in keys}
        if options != self._sensor.options:
            kept = self._sensor.value in keys
            first = keys[0] if keys else None
            self._sensor.param.update(options=options, value=self._sensor.value if kept else first)

    # ------------------------------------------------------------------------------------ showing

    def _show(self, *_: Any) -> None:
        state, made = self.state, self.state.made_with
        ready = state.features is not None and made is not None
        refused = "Encode the place first." if not ready else self.flow.inside.only_v2(made.encoder)
        for button in (self._experts, self._prompts, self._ask):
            button.disabled = bool(refused)
        self._differ.disabled = not ready
        for name, button in (("experts", self._experts), ("prompts", self._prompts)):
            drawn = state.top == "inside" and state.looked == name and name in state.inside
            button.variant = "contained" if drawn else "outlined"
        self._stop.visible = any(state.status(s).kind == "working" for s in ("inside", "differ"))
        inside = EMPTY if state.status("inside").kind == "ready" else state.status("inside")
        prompts = state.inside.get("prompts") if state.looked == "prompts" else None
        experts = _EXPERTS if prompts is None else _PROMPTS.format(prompts.attrs["even"])
        for name, text in (("experts", experts), ("queries", _QUERIES)):
            self._says[name].object = status_markup(EMPTY if refused else inside, refused or text)
        self._show_differ(ready)
        self._rows["experts"].rows = self._expert_rows()
        self._rows["queries"].rows = self._query_rows()

    def _show_differ(self, ready: bool) -> None:
        state = self.state
        if ready and state.made_with is not None:
            other = other_family(state.made_with).encoder
            self._differ.label = f"Compare with {self.flow.compute.encoders[other]}"
        status, found = state.status("differ"), state.inside.get("differ")
        self._again.visible = found is not None and state.looked != "differ"
        text = "Encode the place first." if not ready else "" if found is not None else _DIFFER
        self._says["differ"].object = status_markup(
            EMPTY if status.kind == "ready" else status, text
        )
        self._result.object = "" if found is None else agreement_markup(found)

    def _expert_rows(self) -> list[dict[str, Any]]:
        field = self.state.inside.get("experts")
        if field is None:
            return []
        return [
            {
                "name": name, "colour": colour, "share": share, "note": f"{share:.0%}",
                "tip": f"{share:.1%} of all tokens of {SENSORS[field.attrs['sensor']].title}, over all "
                "dates. Click to show them on the map.",
            }
            for (name, colour), share in zip(view.legend(field), field.attrs["shares"], strict=True)
        ]  # fmt: skip

    def _query_rows(self) -> list[dict[str, Any]]:
        field, looked = self.state.inside.get("queries"), self.state.looked
        if field is None:
            return []
        entries, values = view.legend(field), field.values
        seen = max(int(np.isfinite(values).sum()), 1)
        shares = [float((values == i).sum()) / seen for i in range(len(entries))]
        rows = [{"name": "which looks most", "colour": ALL, "active": looked == "queries",
                 "tip": "Show on the map which query looks at each cell most."}]  # fmt: skip
        for (name, colour), share in zip(entries, shares, strict=True):
            rows.append({
                "name": name, "colour": colour, "share": share / max(*shares, 1e-9),
                "note": f"{share:.0%}", "active": looked == name,
                "tip": f"It looks most at {share:.1%} of the cells. Click to show its mask.",
            })  # fmt: skip
        return rows


def _button(label: str, action: Any) -> pmui.Button:
    return pmui.Button(
        label=label, variant="outlined", size="small", margin=(4, 4), on_click=lambda _: action()
    )


def agreement_markup(field: Any) -> str:
    """How far two encoders agree over a place: a sentence, and the figures beside their controls."""
    attrs = field.attrs
    flags = [flag(word) for word in view.warnings(field)]
    names = [safe(attrs.get(f"{prefix}encoder", "")) for prefix in ("", "other_")]
    head = "".join(f'<th style="font-weight:400;color:{QUIET};text-align:right">{word}</th>'
                   for word in _COLUMNS)  # fmt: skip
    rows = "".join(
        f"<tr><td>{title}</td>"
        + "".join(
            f'<td style="text-align:right">{_figure(name, 0.0 if not key else attrs.get(key))}</td>'
            for key in (name, _CHANCE[name], f"{name}_control")
        )
        + "</tr>"
        for name, title in FIGURES.items()
    )
    return (
        f"<div><b>{names[0]}</b> and <b>{names[1]}</b> {' '.join(flags)}</div>"
        f'<div style="margin:6px 0">{safe(verdict(field))}</div>'
        f'<table style="width:100%;border-spacing:0 4px"><tr><th></th>{head}</tr>{rows}</table>'
        f'<div class="quiet">Among {attrs["cells"]:,} cells of this place; the last column is '
        f"{names[0]} compared with itself. 1 is full agreement. Bright on the map: nothing in common."
        "</div>"
    )


_CHANCE = {"overlap": "overlap_chance", "cka": "cka_shuffled", "rand": ""}
"""Where the figure of chance stands; the Rand index is 0 by chance."""


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0%}" if name == "overlap" else f"{value:z.2f}"  # z: no -0.00
