"""The scatter: every cell a point, selection linked both ways with the map.

All cells are binned into a picture on the server (`skysense.view.cloud`), again after each zoom and
each selection; which cells are selected is known there and never sent.
"""

from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui
import xarray as xr
from bokeh.events import RangesUpdate, SelectionGeometry, Tap
from bokeh.models import BoxSelectTool, ColumnDataSource, LassoSelectTool, Range1d
from bokeh.plotting import figure

from app.closer import HAS_NULL, NULLS
from app.flow import Flow
from app.jobs import Job
from app.panes.layers import legend_markup
from app.panes.plots import changes_plot, type_size
from app.state import COMBINE, LAYERS
from app.theme import INK, LARGER, LINE, SEGMENTS, rem
from app.words import block, flag, press_encode, safe, status_markup, tip
from skysense.analysis.places import cell_at
from skysense.view.cloud import BINS, MOST_BINS, Bounds, binned, points_of
from skysense.view.words import title

REACH = 8
"""How near to a point a click must be (pixels)."""

_AS_ON_THE_MAP = "as on the map"
_NO_PICTURE = {"picture": [], "x": [], "y": [], "wide": [], "tall": []}

Cloud = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(n, 2) points, (n, 4) uint8 colours, (y, x) bool where there is one."""


class Scatter:
    """Cells by two coordinates, in the colours of the map or of any field."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.state = flow, flow.state
        self._picture = ColumnDataSource(dict(_NO_PICTURE))
        self._here = ColumnDataSource({"x": [], "y": []})
        self._known: tuple[Any, Any, Cloud] | None = None
        self._framed: xr.DataArray | None = None
        self._drawn: Bounds | None = None
        self._size = [BINS, BINS]
        """Width and height of the plot (pixels), as soon as the browser tells."""
        self._make_controls()
        self._count = block(margin=(0, 2, 0, 6), align="center", sizing_mode="stretch_width")
        self._say = block(sizing_mode="stretch_width", margin=(0, 8))
        self._legend = block(sizing_mode="stretch_width", margin=(2, 8, 0, 8), visible=False)
        self._note = block(sizing_mode="stretch_width", margin=(2, 8, 0, 8), visible=False)
        self._plot = self._make_plot()
        self._pane = pn.pane.Bokeh(self._plot, sizing_mode="stretch_both", margin=0, visible=False)
        self.view = pn.Column(
            pmui.Row(
                self._axes,
                pmui.Column(sizing_mode="stretch_width", margin=0),
                tip(self._by, "Whose colours the points have, whatever the map shows."),
                align="center", sizing_mode="stretch_width", margin=0,
            ),
            pmui.Row(self._combine, self._count, self._let_go, align="center",
                     sizing_mode="stretch_width", margin=0, sx={"flexWrap": "wrap"}),
            self._say,
            self._pane,
            self._legend,
            self._note,
            sizing_mode="stretch_both",
            margin=(8, 8),
        )  # fmt: skip
        watch = self.state.param.watch
        watch(self._redraw, ["coordinates", "selection", "points_by"])
        watch(self._recolour, ["top", "fields"])
        watch(self._offer, ["fields", "points_by"])
        watch(self._mark_here, ["here", "coordinates"])
        watch(self._show, ["statuses", "selection", "coordinates"])
        watch(self._tell_colours, ["fields", "points_by", "top"])
        watch(self._tell_what, ["coordinates", "made_with", "null", "instead", "top"])
        watch(self._resize, ["large"])
        self._offer()
        self._redraw()
        self._tell_what()
        self._show()

    def _make_controls(self) -> None:
        state = self.state
        self._axes = pmui.RadioButtonGroup(
            options=["PCA", "UMAP"],
            value=state.axes,
            size="small",
            sx=SEGMENTS,
            description="PCA is quick and straight; UMAP pulls like cells together, in a minute.",
        )
        self._axes.param.watch(self._other_axes, "value")
        self._by = pmui.Select(
            label="Coloured by", options={_AS_ON_THE_MAP: ""}, value="", size="small", width=176,
            margin=(5, 8),
        )  # fmt: skip
        self._by.param.watch(lambda event: setattr(state, "points_by", event.new or ""), "value")
        self._combine = pmui.RadioButtonGroup.from_param(
            state.param.combine,
            label="",
            options={name: how for how, name in COMBINE.items()},
            size="small",
            sx=SEGMENTS,
            description="What a new shape does to the selection; Shift adds too, Alt removes.",
        )
        self._let_go = pmui.Button(
            label="Let go",
            icon="deselect",
            variant="text",
            size="small",
            description="Forget the selection (Esc).",
            on_click=lambda _: self.flow.select(None),
        )

    def _make_plot(self) -> Any:
        # what lies in a shape is found on the server, so that the picture need not answer
        lasso = LassoSelectTool(continuous=False, renderers=[])
        plot = figure(
            x_range=Range1d(0, 1),
            y_range=Range1d(0, 1),
            tools=[lasso, BoxSelectTool(continuous=False, renderers=[]), "pan", "wheel_zoom",
                   "reset"],
            active_drag=lasso,
            active_scroll="wheel_zoom",
            sizing_mode="stretch_both",
            toolbar_location="right",
            min_height=200,
        )  # fmt: skip
        plot.toolbar.logo = None
        plot.grid.grid_line_color = LINE
        plot.outline_line_color = LINE
        plot.axis.axis_line_color = plot.axis.major_tick_line_color = None
        plot.axis.minor_tick_line_color = None
        plot.image_rgba(
            "picture",
            x="x",
            y="y",
            dw="wide",
            dh="tall",
            source=self._picture,
            anchor="bottom_left",
        )
        plot.scatter(
            "x", "y", source=self._here, marker="circle", size=15, fill_color=None,
            line_color=INK, line_width=2,
        )  # fmt: skip
        plot.on_event(SelectionGeometry, self._lassoed)
        plot.on_event(RangesUpdate, self._zoomed)
        plot.on_event(Tap, self._tapped)
        for size in ("inner_width", "inner_height"):
            plot.on_change(size, self._sized)
        _set_type(plot, self.state.large)
        return plot

    def _other_axes(self, event: Any) -> None:
        self.state.axes = event.new
        self.flow.made.place_points()

    # --------------------------------------------------------------------------------- drawing

    @property
    def _colours(self) -> xr.DataArray | None:
        """The field whose colours the points have, if it is on their grid."""
        state, found = self.state, self.state.coordinates
        for layer in (state.points_by or state.top, state.top, "features"):
            field = state.fields.get(layer)
            if field is not None and found is not None and field.shape[-2:] == found.shape[-2:]:
                return field
        return None

    def _recolour(self, *_: Any) -> None:
        if self._known is not None and self._known[1] is not self._colours:
            self._redraw()

    def _redraw(self, *_: Any) -> None:
        found, field, selection = self.state.coordinates, self._colours, self.state.selection
        if found is None:
            self._known = self._framed = self._drawn = None
            self.flow.drop("points", "points")
            self._place(None, None)
            return
        known, plot = self._known, self._plot
        fresh = self._framed is not found
        ranges = plot.x_range, plot.y_range
        bounds = None if fresh else (ranges[0].start, ranges[1].start, ranges[0].end, ranges[1].end)
        coarser = LARGER if self.state.large else 1  # each point covers more of the screen
        size = round(self._size[0] / coarser), round(self._size[1] / coarser)

        def draw(_: Job) -> tuple[Cloud, np.ndarray, Bounds]:
            if known is not None and known[0] is found and known[1] is field:
                cloud = known[2]
            else:
                points, pixels = points_of(found, field)[:2]
                cloud = points, pixels, np.isfinite(found.values[:2]).all(0)
            points, pixels, seen = cloud
            chosen = np.ones(len(points), bool) if selection is None else selection[seen]
            picture, drawn = binned(points, pixels, chosen, bounds, size, spread=None)
            return cloud, picture, drawn

        def done(result: tuple[Cloud, np.ndarray, Bounds]) -> None:
            cloud, picture, drawn = result
            self._known = found, field, cloud
            self._drawn = drawn
            if fresh:
                self._framed = found
            self._place(picture, drawn, found if fresh else None)
            self._show()

        self.flow.run("points", "points", "Drawing", draw, done, lane="draw")

    @changes_plot
    def _place(
        self, picture: np.ndarray | None, bounds: Bounds | None, frame: xr.DataArray | None = None
    ) -> None:
        """Put a picture into the plot, and the plot's frame round it if it is of other points."""
        if picture is None or bounds is None:
            self._picture.data = dict(_NO_PICTURE)
            return
        left, bottom, right, top = bounds
        if frame is not None:
            for axis, low, high in (("x", left, right), ("y", bottom, top)):
                getattr(self._plot, f"{axis}_range").update(
                    start=low, end=high, reset_start=low, reset_end=high
                )
            for axis, label in zip(
                (self._plot.xaxis, self._plot.yaxis), axis_labels(frame), strict=True
            ):
                axis.axis_label = label
        upward = np.ascontiguousarray(picture[::-1]).view(np.uint32)[..., 0]
        self._picture.data = {
            "picture": [upward], "x": [left], "y": [bottom],
            "wide": [right - left], "tall": [top - bottom],
        }  # fmt: skip

    @changes_plot
    def _mark_here(self, *_: Any) -> None:
        """A ring round the point of the cell that was clicked."""
        found, here, x, y = self.state.coordinates, self.state.here, [], []
        cell = None if found is None or here is None else cell_at(found, *here)
        if cell is not None and np.isfinite(found.values[:2, *cell]).all():
            x, y = [[float(value)] for value in found.values[:2, *cell]]
        self._here.data = {"x": x, "y": y}

    @changes_plot
    def _resize(self, *_: Any) -> None:
        _set_type(self._plot, self.state.large)
        self._redraw()

    # ----------------------------------------------------------------------------------- hands

    def _sized(self, name: str, _: int | None, size: int | None) -> None:
        if size:  # a tab that is not turned to has none
            self._size[name == "inner_height"] = min(max(int(size), 50), MOST_BINS)
            self._redraw()

    def _zoomed(self, event: RangesUpdate) -> None:
        seen = (event.x0, event.y0, event.x1, event.y1)
        if self._drawn is not None and not np.allclose(seen, self._drawn, rtol=1e-9, atol=0):
            self._redraw()

    def _tapped(self, event: Tap) -> None:
        if event.x is None or event.y is None:
            return
        ranges = self._plot.x_range, self._plot.y_range
        reach = [
            REACH * abs(axis.end - axis.start) / pixels
            for axis, pixels in zip(ranges, self._size, strict=True)
        ]
        self.flow.selecting.tapped(float(event.x), float(event.y), (reach[0], reach[1]))

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
        self.flow.selecting.lassoed(ring)

    # ----------------------------------------------------------------------------------- words

    def _offer(self, *_: Any) -> None:
        """What points can be coloured by: every layer that there is."""
        state = self.state
        there = [key for key in LAYERS if key in state.fields or key == state.points_by]
        options = {_AS_ON_THE_MAP: "", **{LAYERS[key]: key for key in there}}
        if (self._by.options, self._by.value) != (options, state.points_by):
            self._by.param.update(options=options, value=state.points_by)

    def _tell_colours(self, *_: Any) -> None:
        """What the colours mean, where the map's own legend does not say it."""
        field, by = self._colours, self.state.points_by
        own = by not in ("", self.state.top) and field is self.state.fields.get(by)
        if own and field is not None and field.attrs.get("kind") != "rgb":
            self._legend.object = f'<div class="row small">{legend_markup(field, "")}</div>'
        elif own and field is not None:
            self._legend.object = f'<div class="row small">{safe(title(field))}</div>'
        self._legend.visible = own

    def _tell_what(self, *_: Any) -> None:
        """What is scattered, where a null model is on the map or made the features."""
        said = self._scattered()
        self._note.object = f'<div class="quiet small">{said}</div>'
        self._note.visible = bool(said)

    def _scattered(self) -> str:
        state, made = self.state, self.state.made_with
        if state.coordinates is None or state.features is None or made is None:
            return ""
        whose = f"features of {safe(self.flow.compute.encoders.get(made.encoder, made.encoder))}"
        null = state.null if state.instead is not None and state.top in HAS_NULL else ""
        if null:
            said = flag(f"NULL: {null}", NULLS[null])
            return f"{said} on the map only. Points and colours: {whose}."
        weightless = made.encoder in NULLS or state.features.attrs.get("untrained")
        return f"A null model is scattered: {whose}." if weightless else ""

    def _show(self, *_: Any) -> None:
        state, status = self.state, self.state.status("scatter")
        busy = status.kind == "working"
        waiting = press_encode(state, "Every cell becomes a point here")
        say = "" if busy else status_markup(status, waiting)
        drawing = state.status("points")
        if drawing.kind == "failed":
            say = status_markup(drawing, "")
        self._say.object, self._say.visible = say, bool(say)
        self._pane.visible = state.coordinates is not None
        self._let_go.visible = state.selection is not None
        if busy:
            text = status_markup(status, "")
        elif state.selection is not None:
            share = state.selected_count / state.selection.size
            of = f"{share:.0%} of all cells"
            text = f'<span title="{of}"><b>{state.selected_count:,}</b> cells selected</span>'
        elif state.coordinates is not None:
            count = int(np.isfinite(state.coordinates.values[0]).sum())
            text = f'<span class="quiet">{count:,} cells; lasso some</span>'
        else:
            text = ""
        self._count.object = f'<div class="line" style="font-size:{rem(12)}">{text}</div>'


def axis_labels(coordinates: xr.DataArray) -> list[str]:
    """What the two axes are called, with the variance they hold if that is known."""
    axes = str(coordinates.attrs.get("projection", "pca")).upper()
    explained = coordinates.attrs.get("explained")
    return [
        f"{axes} {i + 1}" + (f" ({explained[i]:.0%} of the variance)" if explained else "")
        for i in range(2)
    ]


def _set_type(plot: Any, large: bool) -> None:
    plot.axis.axis_label_text_font_size = type_size(12, large)
    plot.axis.major_label_text_font_size = type_size(11, large)
