"""The line at the bottom: what is at the place that was clicked."""

from typing import Any

import numpy as np

from app.flow import Flow
from app.inside import facts_at
from app.theme import rem
from app.words import block, degrees, safe
from skysense.analysis.places import cell_at


class Inspector:
    """Values, dates, prototype, cluster and class of one cell."""

    def __init__(self, flow: Flow) -> None:
        self.state = flow.state
        self.view = block(
            sizing_mode="stretch_width", styles={"min-height": rem(24)}, margin=(7, 12, 5, 12)
        )
        self.state.param.watch(self._show, ["here", "fields", "features", "measured", "inside"])
        self._show()

    def _show(self, *_: Any) -> None:
        state = self.state
        if state.here is None:
            hint = "Click the map to inspect a place; lasso the scatter to see where its cells are."
            self.view.object = f'<span class="quiet">{hint}</span>'
            return
        lon, lat = state.here
        parts = [f"<b>{degrees(lon, lat)}</b>", *self._facts(lon, lat)]
        whole = safe(state.measured)
        self.view.object = f'<div class="line" title="{whole}">' + " · ".join(parts) + "</div>"

    def _facts(self, lon: float, lat: float) -> list[str]:
        state = self.state
        facts = []
        for layer, title in (("prototypes", ""), ("groups", ""), ("classes", "class ")):
            field = state.fields.get(layer)
            cell = None if field is None else cell_at(field, lon, lat)
            if cell is not None:
                facts.append(title + safe(_named(field, cell)))
        field = state.fields.get("similarity")
        cell = None if field is None else cell_at(field, lon, lat)
        if cell is not None and np.isfinite(field.values[cell]):
            facts.append(f"similarity {field.values[cell]:.2f}")
        facts += [safe(fact) for fact in facts_at(state.inside, lon, lat)]
        if state.features is not None and not facts:
            facts.append("outside the encoded place")
        if state.measured:
            facts.append(f'<span class="quiet">{safe(state.measured)}</span>')
        return facts


def _named(field: Any, cell: tuple[int, int]) -> str:
    value = field.values[cell]
    if not np.isfinite(value):
        return "nothing seen"
    name = str(field.attrs["categories"][int(value)])
    for extra in ("strength", "confidence"):
        if extra in field.coords:
            name += f" {float(field[extra].values[cell]):.2f}"
    return name
