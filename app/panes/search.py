"""Where else does it look like this: examples and counter-examples, and a threshold that moves."""

from typing import Any

import panel as pn
import panel_material_ui as pmui

from app.drawings import LIKE, UNLIKE
from app.flow import Flow
from app.panes.rows import Rows
from app.searching import STEPS, ends
from app.state import EMPTY
from app.theme import SEGMENTS
from app.words import block, degrees, status_markup, tip

_EMPTY = (
    "Click a place on the map: what looks like it lights up. Add more of the kind, and places of "
    "another kind that should go out."
)


class Search:
    """Examples as rows, the threshold, and what can be done with what is found."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.state = flow, flow.state
        search = flow.search
        self._say = block(sizing_mode="stretch_width")
        self._like = pmui.RadioButtonGroup(
            options={"+ like this": True, "− not like this": False}, value=True, size="small",
            sx=SEGMENTS, margin=(2, 8), description="What the next click on the map is.",
        )  # fmt: skip
        self._like.param.watch(self._chosen, "value")
        self._clear = pmui.Button(
            label="Clear", icon="delete_outline", variant="text", size="small",
            description="Forget all examples.", on_click=lambda _: search.clear(),
        )  # fmt: skip
        self._rows = Rows(sizing_mode="stretch_width", margin=(4, 0))
        self._rows.on_pick = search.take_away
        self._slider = pmui.FloatSlider(
            label="At least so similar", start=0.0, end=1.0, value=0.5, step=0.005, size="small",
            sizing_mode="stretch_width", margin=(8, 16),
        )  # fmt: skip
        self._slider.param.watch(self._moved, "value")
        self._found = block(sizing_mode="stretch_width", margin=(0, 12))
        self._actions = pn.Row(
            pmui.Button(label="Select these cells", icon="highlight_alt", variant="outlined",
                        size="small", description="Show them in the scatter too.",
                        on_click=lambda _: search.select()),
            pmui.Button(label="Make it a class", icon="add_circle_outline", variant="outlined",
                        size="small", description="A sample of them becomes points of a class.",
                        on_click=lambda _: search.promote()),
            margin=(4, 8),
        )  # fmt: skip
        self._result = pn.Column(
            tip(self._slider, "What is less similar is not drawn."), self._found, self._actions,
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
        self.view = pn.Column(
            pn.Row(self._like, self._clear, margin=0),
            self._say, self._rows, self._result,
            sizing_mode="stretch_both", scroll="y-auto", margin=(8, 8),
        )  # fmt: skip
        self._setting = False
        watch = self.state.param.watch
        watch(self._show, ["statuses", "examples", "like", "features"])
        watch(self._show_found, ["found", "fields"])
        self._show()
        self._show_found()

    def _chosen(self, event: Any) -> None:
        if event.new is not None:
            self.state.like = event.new

    def _moved(self, event: Any) -> None:
        if not self._setting:
            self.flow.search.set_threshold(event.new)

    def _show(self, *_: Any) -> None:
        state = self.state
        status = state.status("similarity")
        text = "Encode the place first." if state.features is None else _EMPTY
        calm = EMPTY if not state.examples else status
        self._say.object = status_markup(status if status.kind == "failed" else calm, text)
        self._like.value, self._clear.visible = state.like, bool(state.examples)
        self._rows.rows = [
            {
                "name": f"{'+' if each.like else '−'} {degrees(each.lon, each.lat)}",
                "colour": LIKE if each.like else UNLIKE,
                "note": "×",
                "tip": "Take this example away.",
            }
            for each in state.examples
        ]

    def _show_found(self, *_: Any) -> None:
        state = self.state
        field = state.fields.get("similarity")
        self._result.visible = field is not None and state.found is not None
        if field is None or state.threshold is None:
            return
        low, high = ends(field)
        self._setting = True
        try:
            step = max((high - low) / STEPS, 1e-6)
            self._slider.param.update(start=low, end=high, step=step, value=state.threshold)
        finally:
            self._setting = False
        count, area = self.flow.search.summary() or (0, 0.0)
        share = count / max(int(field.notnull().sum()), 1)
        self._found.object = (
            f"<b>{count:,} cells</b> · {area:.2f} km² ({share:.0%}) at {state.threshold:.3f} or more"
            + ('<br><span class="quiet">Above 0 a place is nearer to a + than to any −.</span>'
               if field.attrs.get("unlike") else "")
        )  # fmt: skip
