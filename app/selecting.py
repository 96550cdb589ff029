"""Selecting cells: by a lasso or a box in the scatter, by a drawing on the map, and point by point.

Each new shape replaces what was selected, adds to it or is taken away from it: as the buttons say,
or, while a shape is drawn with Shift or Alt held, as that key says.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from app.cells import cells_inside, middle_of
from app.state import COMBINE, Choices
from skysense import view
from skysense.selected import MOST_CELLS, cells_text
from skysense.view.cloud import nearest_cell

if TYPE_CHECKING:
    from app.flow import Flow


class Selecting:
    """The verbs of selecting."""

    def __init__(self, flow: "Flow") -> None:
        self._flow, self._state = flow, flow.state
        self._held = ""

    def held(self, how: str) -> None:
        """A shape is begun with a key held that means `how`, of `COMBINE`; empty for none."""
        self._held = how if how in COMBINE else ""

    def take(self, cells: np.ndarray) -> None:
        """Cells, (y, x) bool, lie in a new shape."""
        how = self._held or self._state.combine
        self._flow.select(combined(self._state.selection, cells, how))

    def lassoed(self, ring: np.ndarray) -> None:
        """A lasso or a box was drawn in the scatter: (n, 2) corners."""
        if self._state.coordinates is not None and len(ring) >= 3:
            self.take(view.points_in(self._state.coordinates, lasso=ring))

    def drawn(self, geometry: dict[str, Any]) -> None:
        """A polygon was drawn on the map in the mode *select*: GeoJSON, degrees."""
        if self._state.features is not None:
            self.take(cells_inside(self._state.features, geometry))

    def tapped(self, x: float, y: float, reach: tuple[float, float]) -> None:
        """A click in the scatter: look at a cell whose point is there.

        Args:
            x: In the units of the plot.
            y: The same.
            reach: How far from there a point still counts, along each axis.
        """
        coordinates = self._state.coordinates
        if coordinates is None:
            return
        cell = nearest_cell(coordinates, x, y, reach)
        if cell is not None:
            self._flow.look_at(*middle_of(coordinates, cell))

    def again(self, choices: Choices, cells: np.ndarray) -> None:
        """Select cells of a session, (y, x) bool, once the features are there that they are of."""
        state = self._state

        def select(*_: object) -> None:
            if state.features is None or state.made_with != choices:
                return
            state.param.unwatch(watcher)
            if state.features.shape[1:] == cells.shape:
                self._flow.select(cells)
            else:
                state.notice = (
                    f"The session's selection is of a grid of {cells.shape[0]} x {cells.shape[1]} "
                    "cells, which these features do not have. It is left out."
                )

        watcher = state.param.watch(select, ["features", "made_with"])
        select()


def as_text(cells: np.ndarray | None) -> str:
    """Selected cells as a session holds them; on a grid too large for one, none."""
    return "" if cells is None or cells.size > MOST_CELLS else cells_text(cells)


def combined(before: np.ndarray | None, cells: np.ndarray, how: str) -> np.ndarray:
    """A selection after one more shape.

    Args:
        before: (y, x) bool; None if nothing is selected.
        cells: (y, x) bool, inside the shape.
        how: `replace`, `add` or `remove`.
    """
    if how == "replace" or (before is None and how == "add"):
        return cells
    if before is None:
        return np.zeros_like(cells)
    return before | cells if how == "add" else before & ~cells
