"""Prototypes and clusters: how much of the place each takes, and picking one to see where."""

from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui

from app.flow import Flow
from app.panes.rows import Rows
from app.theme import SEGMENTS
from app.words import block, status_markup, tip
from skysense import analysis, view


class Prototypes:
    """Two lists of shares; a click on a row selects its cells."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.state = flow, flow.state
        state = self.state
        self._which = pmui.RadioButtonGroup(
            options={"Prototypes": "prototypes", "Clusters": "groups"},
            value="prototypes",
            size="small",
            sx=SEGMENTS,
            description="Prototypes are fitted by optimal transport, clusters by k-means.",
        )
        self._many = pmui.IntSlider(
            label="How many",
            start=2,
            end=64,
            value=state.prototypes,
            size="small",
            width=200,
            margin=(0, 16),
        )
        self._say = block(sizing_mode="stretch_width")
        self._rows = Rows(sizing_mode="stretch_width", margin=0)
        self._rows.on_pick = self._pick
        self._numbers: list[int] = []
        self.view = pn.Column(
            pmui.Row(
                self._which,
                tip(self._many, "How many to fit; fitting starts when you let go."),
                align="center",
            ),
            self._say,
            pn.Column(self._rows, sizing_mode="stretch_both", scroll="y-auto", margin=0),
            sizing_mode="stretch_both",
            margin=(8, 8),
        )
        self._which.param.watch(self._switch, "value")
        self._many.param.watch(self._refit, "value_throttled")
        state.param.watch(self._show, ["fields", "statuses"])
        self._drawn: Any = None
        self._picked: int | None = None
        self._show()

    def _switch(self, *_: Any) -> None:
        layer = self._which.value
        value = self.state.prototypes if layer == "prototypes" else self.state.groups
        self._many.param.update(end=64 if layer == "prototypes" else 20, value=value)
        self.flow.show_layer(layer)
        self._picked = None
        self._show()

    def _refit(self, event: Any) -> None:
        if self._which.value == "prototypes":
            self.state.prototypes = event.new
            self.flow.made.fit_prototypes()
        else:
            self.state.groups = event.new
            self.flow.made.group()

    def _show(self, *_: Any) -> None:
        layer = self._which.value
        self._say.object = status_markup(
            self.state.status(layer), "Press Encode; prototypes are fitted on the features."
        )
        field = self.state.fields.get(layer)
        key = (id(field), self._picked)
        if key == self._drawn:
            return
        self._drawn = key
        self._rows.rows = [] if field is None else self._rows_of(field)

    def _rows_of(self, field: Any) -> list[dict[str, Any]]:
        shares = analysis.usage(field).values
        colours = [colour for _, colour in view.legend(field)]
        widest = max(float(shares.max()), 1e-9)
        order = np.argsort(-shares, kind="stable")
        self._numbers = [int(number) for number in order if shares[number] > 0]
        return [
            {
                "name": str(field.attrs["categories"][number]),
                "colour": colours[number],
                "share": float(shares[number]) / widest,
                "note": f"{shares[number]:.1%}",
                "active": number == self._picked,
                "tip": "Show its cells on the map and in the scatter.",
            }
            for number in self._numbers
        ]

    def _pick(self, row: int) -> None:
        number = self._numbers[row]
        layer = self._which.value
        self.flow.show_layer(layer)
        again = number == self._picked and self.state.selection is not None
        self._picked = None if again else number
        if again:
            self.flow.select(None)
        else:
            self.flow.select_category(layer, number)
        self._show()
