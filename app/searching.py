"""Where else does it look like this: examples in, a similarity out, and a threshold on it."""

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from app.state import Example, State, failed
from skysense import analysis, view
from skysense.analysis.places import cell_at
from skysense.session import MOST_EXAMPLES

if TYPE_CHECKING:
    from app.flow import Flow

STEPS = 200
"""Positions of the threshold between the lowest and the highest similarity."""

FIRST = 90
"""The threshold begins at this percentile."""


class Searching:
    """The verbs of the search panel."""

    def __init__(self, flow: "Flow") -> None:
        self._flow = flow

    @property
    def state(self) -> State:
        """The session's state."""
        return self._flow.state

    def click(self, lon: float, lat: float) -> None:
        """A place that was clicked: one more example, or, outside the panel, the only one."""
        state = self.state
        others = [each for each in state.examples if not self._same_cell(each, lon, lat)]
        if not state.searching:
            state.examples = [Example(lon, lat)]
        elif len(others) >= MOST_EXAMPLES:
            state.set_status("similarity", failed(f"{MOST_EXAMPLES} examples are enough."))
            return
        else:
            state.examples = [*others, Example(lon, lat, state.like)]
        self.find()

    def _same_cell(self, example: Example, lon: float, lat: float) -> bool:
        """Whether an example and a place are one cell: a second click changes what it stands for."""
        features = self.state.features
        if features is None:
            return False
        cell = cell_at(features, lon, lat)
        return cell is not None and cell == cell_at(features, example.lon, example.lat)

    def take_away(self, number: int) -> None:
        """Forget an example."""
        self.state.examples = [e for i, e in enumerate(self.state.examples) if i != number]
        self.find()

    def clear(self) -> None:
        """Forget all examples."""
        self._flow.drop("alike", "similarity")
        self.state.param.update(examples=[], threshold=None, found=None, like=True)
        self.state.set_field("similarity", None)

    def find(self) -> None:
        """How much every cell is like the examples."""
        state, features = self.state, self.state.features
        like = [(each.lon, each.lat) for each in state.examples if each.like]
        unlike = [(each.lon, each.lat) for each in state.examples if not each.like]
        if features is None or not like:
            self._flow.drop("alike", "similarity")
            state.param.update(threshold=None, found=None)
            state.set_field("similarity", None)
            return

        def done(field: xr.DataArray) -> None:
            before = state.fields.get("similarity")
            same = before is None or before.attrs["kind"] == field.attrs["kind"]
            least = state.threshold if same else None
            state.param.update(threshold=None, found=None)
            state.set_field("similarity", field)
            if state.searching:
                self.set_threshold(first_threshold(field) if least is None else least)

        self._flow.run(
            "alike",
            "similarity",
            "Comparing with the examples",
            lambda _: analysis.similarity(features, like, unlike or None),
            done,
        )

    def set_threshold(self, least: float | None) -> None:
        """Show only what is at least so similar; None shows all."""
        state, field = self.state, self.state.fields.get("similarity")
        if field is None or least is None:
            state.param.update(threshold=None, found=None)
            return
        low, high = ends(field)
        least = float(np.clip(least, low, high))
        state.param.update(threshold=least, found=view.above(field, least))

    def cells(self) -> np.ndarray | None:
        """(y, x) bool, what reaches the threshold; None without one."""
        found = self.state.found
        return None if found is None else np.isfinite(found.values)

    def select(self) -> None:
        """Select what reaches the threshold."""
        cells = self.cells()
        if cells is not None:
            self._flow.select(cells)

    def promote(self) -> None:
        """Make a class of what reaches the threshold."""
        cells = self.cells()
        if cells is not None:
            self._flow.labels.promote(cells, "Found alike")

    def summary(self) -> tuple[int, float] | None:
        """How many cells reach the threshold, and their area (km²)."""
        cells, features = self.cells(), self.state.features
        if cells is None or features is None:
            return None
        step = abs(float(features.odc.geobox.resolution.x))
        count = int(cells.sum())
        return count, count * step**2 / 1e6


def ends(field: Any) -> tuple[float, float]:
    """The lowest and the highest value of a field."""
    values = field.values
    return float(np.nanmin(values)), float(np.nanmax(values))


def first_threshold(field: Any) -> float:
    """Where the slider begins: 0 if there are counter-examples, else a tenth of the place."""
    return 0.0 if field.attrs.get("unlike") else float(np.nanpercentile(field.values, FIRST))
