"""The rail of dates: what was acquired, what the encoder is given, what is shown."""

import datetime as dt
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui
from bokeh.events import SelectionGeometry, Tap
from bokeh.models import (
    BoxAnnotation,
    BoxSelectTool,
    ColumnDataSource,
    DatetimeTickFormatter,
    HoverTool,
    Range1d,
)
from bokeh.plotting import figure

from app.flow import Flow
from app.panes.plots import changes_plot, type_size
from app.theme import ACCENT, INK, LINE, QUIET, exactly, rem
from app.words import block, safe, status_markup
from skysense.dates import Acquisition, Dates
from skysense.sensors import SENSORS
from skysense.view.hues import LEFT_OUT, USED

_SPAN = (1_672_531_200_000.0, 1_704_067_200_000.0)
"""Ends of an empty time axis: the year 2023, in milliseconds."""

BESIDE = f"calc({rem(360)} - 20px)"
"""Width of the words beside the rail: 340 pixels, 430 with large type."""

_ROWS = {"s2": 2.0, "s1": 1.0, "hr": 0.0}


class DateRail:
    """One row of marks per sensor: filled marks are used.

    A click shows that date, a drag chooses the period that the encoder is given.
    """

    def __init__(self, flow: Flow) -> None:
        self.flow, self.state = flow, flow.state
        self._source = ColumnDataSource(_marks([]))
        self._now = ColumnDataSource({"x": [], "y": []})
        self._period = BoxAnnotation(
            fill_color=ACCENT, fill_alpha=0.08, line_color=ACCENT, line_alpha=0.5, visible=False
        )
        self._figure = self._make_figure()
        self._whole = pmui.Button(
            label="Whole period", icon="close", variant="text", size="small", margin=(0, 8),
            visible=False, description="Use dates of the whole period again.",
            on_click=lambda _: self._choose("", ""),
        )  # fmt: skip
        self._say = block(sizing_mode="stretch_width", margin=(4, 12))
        self._more = pmui.Dialog(
            title="Dates to use",
            title_variant="h6",
            width_option="sm",
            show_close_button=True,
            close_on_click=True,
        )
        beside = pmui.Column(
            self._say,
            pmui.Row(
                pmui.Button(
                    label="Dates to use",
                    icon="tune",
                    variant="text",
                    size="small",
                    margin=(0, 8),
                    description="Change how many dates of each sensor the encoder is given.",
                    on_click=lambda _: self._ask(),
                ),
                self._whole,
                margin=0,
            ),
            styles=exactly(BESIDE),
            margin=0,
        )
        self.view = pmui.Row(
            pn.pane.Bokeh(self._figure, sizing_mode="stretch_width", height=84, margin=0),
            beside,
            self._more,
            sizing_mode="stretch_width",
            styles={"height": rem(92)},
            margin=0,
        )
        self.state.param.watch(self._draw, ["rail"])
        self.state.param.watch(self._tell, ["rail", "statuses"])
        self.state.param.watch(self._mark_shown, ["shown", "rail"])
        self.state.param.watch(self._mark_period, ["dates"])
        self.state.param.watch(self._resize, ["large"])
        self._tell()

    def _make_figure(self) -> Any:
        choose = BoxSelectTool(dimensions="width", continuous=False)
        plot = figure(
            x_axis_type="datetime",
            x_range=Range1d(*_SPAN),
            y_range=(-0.6, 2.6),
            tools=["xwheel_zoom", "xpan", choose],
            active_scroll="xwheel_zoom",
            active_drag=choose,
            toolbar_location=None,
            height=84,
            sizing_mode="stretch_width",
            min_border_left=10,
            min_border_right=10,
            min_border_top=2,
        )
        plot.outline_line_color = plot.grid.grid_line_color = None
        plot.background_fill_color = plot.border_fill_color = "#ffffff"
        plot.yaxis.ticker = list(_ROWS.values())
        plot.yaxis.major_label_overrides = {
            value: {"s2": "Sentinel-2", "s1": "Sentinel-1", "hr": "High res."}[key]
            for key, value in _ROWS.items()
        }
        plot.yaxis.axis_line_color = plot.yaxis.major_tick_line_color = None
        plot.axis.major_label_text_color = QUIET
        plot.axis.major_label_text_font_size = type_size(11, self.state.large)
        plot.xaxis.formatter = DatetimeTickFormatter(days="%d %b %Y", months="%b %Y", years="%Y")
        plot.xaxis.axis_line_color, plot.xaxis.minor_tick_line_color = LINE, None
        plot.scatter(
            "x", "y", source=self._now, marker="square", size=20, fill_color=None,
            line_color=INK, line_width=1.5,
        )  # fmt: skip
        marks = plot.segment(
            "x", "low", "x", "high", source=self._source, line_width=3.5, line_color="colour",
        )  # fmt: skip
        hover = HoverTool(renderers=[marks], tooltips="@text", point_policy="snap_to_data")
        plot.add_tools(hover)
        plot.add_layout(self._period)
        plot.on_event(Tap, self._tapped)
        plot.on_event(SelectionGeometry, self._dragged)
        return plot

    @changes_plot
    def _resize(self, *_: Any) -> None:
        self._figure.axis.major_label_text_font_size = type_size(11, self.state.large)

    def _ask(self) -> None:
        """Open the dialog in which the rule can be changed."""
        rule = self.state.dates
        many = {
            "s2": pmui.IntSlider(label="Sentinel-2 dates", start=0, end=40, value=rule.s2),
            "s1": pmui.IntSlider(label="Sentinel-1 dates", start=0, end=40, value=rule.s1),
            "hr": pmui.IntSlider(label="High-resolution images", start=0, end=3, value=rule.hr),
        }
        first, last = (
            pmui.DatePicker(label=label, value=_day(day), clearable=True, width=220)
            for label, day in (("Not before", rule.first), ("Not after", rule.last))
        )

        def apply(_: Any) -> None:
            self.state.dates = Dates(
                **{key: slider.value for key, slider in many.items()},
                first=str(first.value)[:10] if first.value else "",
                last=str(last.value)[:10] if last.value else "",
            )
            self._more.open = False

        self._more.objects = [
            block(f'<span class="quiet">The rule: {safe(rule.sentence())}.</span>'),
            *many.values(),
            pmui.Row(first, last),
            pmui.Button(label="Use these", variant="contained", on_click=apply),
        ]
        self._more.open = True

    def _dragged(self, event: SelectionGeometry) -> None:
        """Use the dates between the two ends of a drag."""
        if not event.final or event.geometry.get("type") != "rect":
            return
        self._source.selected.indices = []  # or the marks outside would fade
        ends = sorted(event.geometry[end] for end in ("x0", "x1"))
        first, last = (str(np.datetime64(int(end), "ms").astype("M8[D]")) for end in ends)
        self._choose(first, last)

    def _choose(self, first: str, last: str) -> None:
        """Use dates of this period; of the whole one if both ends are empty."""
        self.state.dates = replace(self.state.dates, first=first, last=last)

    @changes_plot
    def _mark_period(self, *_: Any) -> None:
        rule = self.state.dates
        self._whole.visible = self._period.visible = bool(rule.first or rule.last)
        self._period.left = _milliseconds(np.datetime64(rule.first, "D")) if rule.first else None
        self._period.right = _milliseconds(np.datetime64(rule.last, "D")) if rule.last else None

    def _tapped(self, event: Tap) -> None:
        """Show the date nearest to a click, of the sensor whose row was clicked."""
        if event.x is None or event.y is None:
            return
        moment, row = np.datetime64(int(event.x), "ms"), round(event.y)
        rail = self.state.rail
        near = [a for a in rail if _ROWS[a.sensor] == row and a.day != "unknown"]
        if near:
            chosen = min(near, key=lambda a: abs(np.datetime64(a.day, "ms") - moment))
            number = [a for a in rail if a.sensor == chosen.sensor].index(chosen)
            self.state.shown = (chosen.sensor, number)

    @changes_plot
    def _mark_shown(self, *_: Any) -> None:
        sensor, number = self.state.shown
        dates = [a for a in self.state.rail if a.sensor == sensor]
        if number >= len(dates) or dates[number].day == "unknown":
            self._now.data = {"x": [], "y": []}
            return
        self._now.data = {"x": [np.datetime64(dates[number].day)], "y": [_ROWS[sensor]]}

    @changes_plot
    def _draw(self, *_: Any) -> None:
        dated = [a for a in self.state.rail if a.day != "unknown"]
        self._source.data = _marks(dated)
        self._figure.x_range.update(**_span(dated))
        self._figure.xaxis.visible = bool(dated) or not self.state.rail

    def _tell(self, *_: Any) -> None:
        rail, status = self.state.rail, self.state.status("map")
        empty = status_markup(status, "Dates appear when a place is open.")
        self._say.object = _summary(rail) if rail else empty


def _marks(dated: list[Acquisition]) -> dict[str, Any]:
    return {
        "x": np.array([a.day for a in dated], "M8[ms]"),
        "low": [_ROWS[a.sensor] - 0.4 for a in dated],
        # as tall as the image is usable; full height where that is unknown
        "high": [
            _ROWS[a.sensor] - 0.3 + 0.7 * (1 if np.isnan(a.clear) else a.clear) for a in dated
        ],
        "colour": [USED if a.used else LEFT_OUT for a in dated],
        "text": [_words(a) for a in dated],
    }


def _span(dated: list[Acquisition]) -> dict[str, Any]:
    """Ends of the time axis: all dates with a margin, two months at least."""
    if not dated:
        return {"start": _SPAN[0], "end": _SPAN[1]}
    days = np.array([a.day for a in dated], "M8[D]")
    margin = max(np.timedelta64(30, "D") - (days.max() - days.min()), np.timedelta64(8, "D"))
    ends = (days.min() - margin, days.max() + margin)
    return {"start": _milliseconds(ends[0]), "end": _milliseconds(ends[1])}


def _milliseconds(day: np.datetime64) -> float:
    return float(day.astype("M8[ms]").astype(np.int64))


def _words(date: Acquisition) -> str:
    clear = "" if np.isnan(date.clear) else f", {date.clear:.0%} usable"
    use = "given to the encoder" if date.used else f"left out: {date.reason}"
    return f"{SENSORS[date.sensor].title}, {date.day}{clear}; {use}"


def _summary(rail: list[Acquisition]) -> str:
    lines = []
    for key in ("s2", "s1", "hr"):
        dates = [a for a in rail if a.sensor == key]
        title = SENSORS[key].title
        if not dates:
            lines.append(f'<div class="quiet">{title}: none</div>')
            continue
        used = sum(a.used for a in dates)
        unknown = sum(a.day == "unknown" for a in dates)
        reasons = Counter(_kind(a.reason) for a in dates if not a.used)
        why = f" ({safe(', '.join(name for name, _ in reasons.most_common(2)))})" if reasons else ""
        when = "" if not unknown else ", date unknown" if unknown == 1 else ", dates unknown"
        line = f"{title}: <b>{used}</b> of {len(dates)} used{when}{why}"
        lines.append(f'<div class="line" title="{why.strip(" ()")}">{line}</div>')
    return f'<div style="font-size:{rem(12)};line-height:1.45">' + "".join(lines) + "</div>"


def _kind(reason: str) -> str:
    return "too cloudy" if reason.startswith("only ") else reason


def _day(text: str) -> dt.date | None:
    return dt.date.fromisoformat(text) if text else None
