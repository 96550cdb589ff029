"""Two or more encoded places seen through one bank of prototypes."""

from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui

from app.flow import Flow
from app.state import EMPTY
from app.words import block, safe, status_markup
from skysense import view


class Compare:
    """Choose places that were encoded; see their shares, distance, interval and control."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.state = flow, flow.state
        self._places = pmui.MultiChoice(
            label="Places", options=[], sizing_mode="stretch_width",
            margin=(14, 8, 8, 8),
        )  # fmt: skip
        self._go = pmui.Button(
            label="Compare", variant="outlined", icon="compare_arrows",
            description="Fit one bank on all of them and compare how they use it.",
            on_click=lambda _: flow.made.compare(list(self._places.value)),
        )  # fmt: skip
        self._say = block(sizing_mode="stretch_width")
        self._result = block(sizing_mode="stretch_width")
        self._bars = pn.Column(sizing_mode="stretch_both", margin=0)
        self.view = pn.Column(
            pmui.Row(self._places, self._go, align="center", sizing_mode="stretch_width"),
            self._say,
            self._result,
            self._bars,
            sizing_mode="stretch_both",
            scroll="y-auto",
            margin=(8, 8),
        )
        self.state.param.watch(self._offer, ["features", "made_with"])
        self.state.param.watch(self._show, ["statuses", "comparison"])
        self._offer()
        self._show()

    def _offer(self, *_: Any) -> None:
        names = list(self.flow.made.encoded())
        kept = [name for name in self._places.value if name in names] or names[:2]
        self._places.param.update(options=names, value=kept)
        if self.state.status("compare").kind == "failed":
            self.state.set_status("compare", EMPTY)

    def _show(self, *_: Any) -> None:
        self._say.object = status_markup(
            self.state.status("compare"),
            "Encode a second place with the same encoder, then compare the two.",
        )
        found = self.state.comparison
        if found is None:
            self._result.object, self._bars.objects = "", []
            return
        self._result.object = comparison_markup(found)
        self._bars.objects = [
            pn.pane.HoloViews(
                view.usage(found.usage).opts(
                    toolbar=None,
                    legend_position="top",
                    fontsize={"xticks": "8px", "yticks": "11px", "legend": "11px"},
                ),
                sizing_mode="stretch_both",
                min_height=220,
                linked_axes=False,
            )
        ]


def comparison_markup(found: Any) -> str:
    """Distances with their intervals, and the control on the same scale, in words."""
    lines = []
    names = found.names
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            at = {"region": one, "other": other}
            distance = float(found.distance.sel(at))
            low, high = float(found.low.sel(at)), float(found.high.sel(at))
            interval = f" (95 % interval {low:.2f}–{high:.2f})" if np.isfinite(low) else ""
            lines.append(
                f"<b>{safe(one)} – {safe(other)}</b>: distance {distance:.2f}{interval}, "
                "on a scale from 0, the same, to 2"
            )
    for name in names:
        middle = float(found.control.sel(region=name, bound="middle"))
        high = float(found.control.sel(region=name, bound="high"))
        if np.isfinite(middle):
            lines.append(
                f'<span class="quiet">Control: two halves of {safe(name)} differ by {middle:.2f} '
                f"(up to {high:.2f})</span>"
            )
    lines += [f'<span class="quiet">{safe(note)}</span>' for note in found.notes]
    return "<br>".join(lines)
