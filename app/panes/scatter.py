"""The scatter: every cell a point, selection linked both ways with the map."""

from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui
from bokeh.events import SelectionGeometry
from bokeh.models import BoxSelectTool, ColumnDataSource, LassoSelectTool
from bokeh.plotting import figure

from app.flow import Flow
from app.panes.plots import changes_plot
from app.theme import LINE, SEGMENTS
from app.words import block, status_markup
from skysense.view.hues import UNSELECTED
from skysense.view.paint import colours

MOST_POINTS = 10_000
"""At most this many cells are drawn; a selection always covers every cell."""

_NOTHING = {"x": [], "y": [], "colour": []}


class Scatter:
    """Cells by two coordinates, in the colours of the layer on the map."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.state = flow, flow.state
        self._source = ColumnDataSource(dict(_NOTHING))
        self._drawn = np.zeros(0, int)
        self._axes = pmui.RadioButtonGroup(
            options=["PCA", "UMAP"],
            value=self.state.axes,
            size="small",
            sx=SEGMENTS,
            description="PCA is quick and straight; UMAP pulls like cells together, in a minute.",
        )
        self._axes.param.watch(self._other_axes, "value")
        self._let_go = pmui.Button(
            label="Let go",
            icon="deselect",
            variant="text",
            size="small",
            description="Forget the selection.",
            on_click=lambda _: flow.select(None),
        )
        self._count = block(margin=(0, 8), align="center", sizing_mode="stretch_width")
        self._say = block(sizing_mode="stretch_width", margin=(0, 8))
        self._plot = self._make_plot()
        self.view = pn.Column(
            pmui.Row(self._axes, self._count, self._let_go, align="center",
                     sizing_mode="stretch_width"),
            self._say,
            pn.pane.Bokeh(self._plot, sizing_mode="stretch_both", margin=0),
            sizing_mode="stretch_both",
            margin=(8, 8),
        )  # fmt: skip
        watch = self.state.param.watch
        watch(self._draw, ["coordinates"])
        watch(self._colour, ["top", "fields"])
        watch(self._select, ["selection"])
        watch(self._show, ["statuses", "selection", "coordinates"])
        self._draw()
        self._show()

    def _make_plot(self) -> Any:
        lasso = LassoSelectTool(continuous=False)
        plot = figure(
            tools=[lasso, BoxSelectTool(continuous=False), "pan", "wheel_zoom", "reset"],
            active_drag=lasso,
            active_scroll="wheel_zoom",
            sizing_mode="stretch_both",
            toolbar_location="right",
            min_height=260,
        )
        plot.toolbar.logo = None
        plot.grid.grid_line_color = LINE
        plot.outline_line_color = LINE
        plot.axis.major_label_text_font_size = "0px"
        plot.axis.axis_line_color = plot.axis.major_tick_line_color = None
        plot.axis.minor_tick_line_color = None
        plot.scatter(
            "x", "y", source=self._source, size=4, fill_color="colour", line_color=None,
            fill_alpha=0.85, nonselection_fill_color=UNSELECTED, nonselection_fill_alpha=0.25,
            selection_fill_alpha=1.0,
        )  # fmt: skip
        plot.on_event(SelectionGeometry, self._lassoed)
        return plot

    def _other_axes(self, event: Any) -> None:
        self.state.axes = event.new
        self.flow.made.place_points()

    @changes_plot
    def _draw(self, *_: Any) -> None:
        found = self.state.coordinates
        if found is None:
            self._drawn = np.zeros(0, int)
            self._source.data = dict(_NOTHING)
            return
        values = found.values.reshape(found.sizes["component"], -1)[:2]
        seen = np.flatnonzero(np.isfinite(values).all(0))
        step = max(1, -(-len(seen) // MOST_POINTS))
        self._drawn = seen[np.random.default_rng(0).permutation(len(seen))[:: step or 1]]
        x, y = values[:, self._drawn]
        axes = found.attrs.get("projection", "pca").upper()
        explained = found.attrs.get("explained")
        for axis, number in ((self._plot.xaxis, 0), (self._plot.yaxis, 1)):
            share = f" ({explained[number]:.0%} of the variance)" if explained else ""
            axis.axis_label = f"{axes} {number + 1}{share}"
        self._source.selected.indices = []
        self._source.data = {"x": x, "y": y, "colour": self._colours()}
        self._select()

    def _colours(self) -> list[str]:
        field = self.state.fields.get(self.state.top)
        if field is None:
            field = self.state.fields.get("features")
        if field is None or field.sizes["y"] * field.sizes["x"] <= self._drawn.max(initial=0):
            return ["#5b8fa8"] * len(self._drawn)
        rgba = colours(field).reshape(-1, 4)[self._drawn]
        return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b, _ in rgba.tolist()]

    @changes_plot
    def _colour(self, *_: Any) -> None:
        if len(self._drawn):
            self._source.patch({"colour": [(slice(None), self._colours())]})

    @changes_plot
    def _select(self, *_: Any) -> None:
        chosen = self.state.selection
        if chosen is None or not len(self._drawn):
            self._source.selected.indices = []
            return
        self._source.selected.indices = np.flatnonzero(chosen.ravel()[self._drawn]).tolist()

    def _lassoed(self, event: SelectionGeometry) -> None:
        if not event.final:
            return
        shape = event.geometry
        if shape.get("type") == "poly":
            ring = np.column_stack([shape["x"], shape["y"]]).astype(float)
        elif shape.get("type") == "rect":
            left, right, low, high = (float(shape[key]) for key in ("x0", "x1", "y0", "y1"))
            ring = np.array([(left, low), (right, low), (right, high), (left, high)])
        else:
            return
        self.flow.lassoed(ring)

    def _show(self, *_: Any) -> None:
        state, status = self.state, self.state.status("scatter")
        busy = status.kind == "working"
        say = (
            "" if busy else status_markup(status, "Press Encode; every cell becomes a point here.")
        )
        self._say.object, self._say.visible = say, bool(say)
        self._let_go.visible = state.selection is not None
        if busy:
            text = status_markup(status, "")
        elif state.selection is not None:
            share = state.selected_count / state.selection.size
            text = f"<b>{state.selected_count:,}</b> cells selected ({share:.0%})"
        elif state.coordinates is not None:
            count = int(np.isfinite(state.coordinates.values[0]).sum())
            drawn = len(self._drawn)
            some = f"{drawn:,} of {count:,} cells drawn; lasso" if drawn < count else "Lasso"
            text = f'<span class="quiet">{some} points to see them on the map</span>'
        else:
            text = ""
        self._count.object = text
