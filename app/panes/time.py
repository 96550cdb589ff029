"""Time: which date or sensor mattered, and what changed between two periods."""

import datetime as dt
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
import panel_material_ui as pmui
from bokeh.models import Span

from app.closer import Change, Period
from app.flow import Flow
from app.panes.plots import changes_plot
from app.panes.rows import Rows
from app.state import EMPTY
from app.theme import INK, SEGMENTS
from app.words import block, safe, status_markup, tip
from skysense import analysis, view
from skysense.analysis.places import cell_at
from skysense.view.hues import SENSOR

_MATTERED = (
    "Which dates made these features? Each is left out in turn, and what that changes is measured."
)
_CHANGE = "Choose two periods of this place; what moved between them is drawn beside a control."

MOST_STEPS = 400
"""Steps of the threshold's slider."""


class Time:
    """Rows of what mattered; two periods, their difference, and a threshold that moves."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.state = flow, flow.state
        self._order: list[int] = []
        self._say = block(sizing_mode="stretch_width", margin=(2, 8))
        self._rows = Rows(sizing_mode="stretch_width", margin=0)
        self._rows.on_pick = self._pick
        self._picked: int | None = None
        leave = pn.Row(
            *(
                pmui.Button(
                    label=label, variant="outlined", size="small", margin=(4, 4),
                    description=sentence, on_click=lambda _, drop=drop: flow.closer.leave_out(drop),
                )
                for drop, label, sentence in (
                    ("date", "Each date", "Leave out one date at a time; a minute or so."),
                    ("sensor", "Each sensor", "Leave out all dates of one sensor at a time."),
                )
            ),
            margin=(0, 4),
        )  # fmt: skip
        self._where = pmui.RadioButtonGroup(
            options={"Whole place": "place", "Clicked cell": "cell"}, value="place", size="small",
            sx=SEGMENTS, margin=(0, 8), visible=False,
            description="Means over the place, or what mattered to the cell that was clicked.",
        )  # fmt: skip
        self._where.param.watch(self._show_mattered, "value")
        self._days = [_picker(label) for label in ("From", "to", "From", "to")]
        self._say_change = block(sizing_mode="stretch_width", margin=(2, 8))
        compare = pmui.Button(
            label="Compare", icon="compare_arrows", variant="outlined", size="small",
            description="Encode both periods and see what moved.", margin=(6, 8),
            on_click=lambda _: flow.closer.compare(*self._periods()),
        )  # fmt: skip
        self._chart = pn.Column(sizing_mode="stretch_width", margin=0)
        self._least = pmui.FloatSlider(
            label="Counts as changed from", start=0.0, end=2.0, value=0.1, step=0.005, size="small",
            sizing_mode="stretch_width", margin=(2, 16),
        )  # fmt: skip
        self._least.param.watch(lambda event: flow.closer.set_least(event.new), "value")
        self._line = Span(dimension="height", line_color=INK, line_width=2)
        self._found = block(sizing_mode="stretch_width", margin=(0, 12))
        self._result = pn.Column(
            self._chart,
            tip(self._least, "Cosine distance; what moved less counts as unchanged."),
            self._found,
            pmui.Button(
                label="Select these cells", icon="highlight_alt", variant="outlined", size="small",
                description="Show them on the map and in the scatter.", margin=(4, 8),
                on_click=lambda _: flow.closer.select_changed(),
            ),
            sizing_mode="stretch_width", visible=False, margin=0,
        )  # fmt: skip
        self._parts = {
            "mattered": pn.Column(
                pn.Row(leave, self._where, margin=0), self._say, pn.Column(self._rows, sizing_mode="stretch_both", scroll="y-auto",
                                            margin=0),
                sizing_mode="stretch_both", margin=0,
            ),
            "changed": pn.Column(
                pn.Row(block("before", width=48, margin=(14, 4, 0, 8)), *self._days[:2], margin=0),
                pn.Row(block("after", width=48, margin=(14, 4, 0, 8)), *self._days[2:], margin=0),
                compare, self._say_change, self._result,
                sizing_mode="stretch_both", scroll="y-auto", visible=False, margin=0,
            ),
        }  # fmt: skip
        self._which = pmui.RadioButtonGroup(
            options={"What mattered": "mattered", "What changed": "changed"}, value="mattered",
            size="small", sx=SEGMENTS, margin=(2, 8),
            description="Leave dates out, or compare two periods.",
        )  # fmt: skip
        self._which.param.watch(self._turned, "value")
        self.view = pn.Column(
            self._which, *self._parts.values(), sizing_mode="stretch_both", margin=(8, 8)
        )
        watch = self.state.param.watch
        watch(self._offer, ["rail"])
        watch(self._show, ["statuses", "features", "mattered", "change"])
        watch(self._show_mattered, ["mattered", "here"])
        watch(self._show_change, ["change"])
        watch(self._show_least, ["least_change"])
        self._offer()
        self._show()
        self._show_mattered()
        self._show_change()

    def _turned(self, event: Any) -> None:
        for name, part in self._parts.items():
            part.visible = name == event.new

    # -------------------------------------------------------------------------------- what mattered

    def _show_mattered(self, *_: Any) -> None:
        found, here = self.state.mattered, self.state.here
        cell = None if found is None or here is None else cell_at(found, *here)
        self._where.visible = cell is not None
        if found is None:
            self._rows.rows, self._order, self._picked = [], [], None
            return
        means = analysis.mean_sensitivity(found)
        if cell is not None and self._where.value == "cell":
            means = means.copy(data=found.values[:, cell[0], cell[1]])
        values = np.nan_to_num(means.values)
        self._order = [int(number) for number in np.argsort(-values, kind="stable")]
        widest = max(float(values.max()), 1e-9)
        self._rows.rows = [
            {
                "name": str(means["dropped"].values[number]),
                "colour": SENSOR[str(means["sensor"].values[number])],
                "share": float(values[number]) / widest,
                "note": f"{values[number]:.2g}",
                "active": number == self._picked,
                "tip": "Show where leaving it out changes the features.",
            }
            for number in self._order
        ]

    def _pick(self, row: int) -> None:
        self._picked = self._order[row]
        self.flow.closer.show_dropped(self._picked)
        self._show_mattered()

    # ---------------------------------------------------------------------------------- what changed

    def _periods(self) -> tuple[Period, Period]:
        days = [str(each.value)[:10] if each.value else "" for each in self._days]
        return (days[0], days[1]), (days[2], days[3])

    def _offer(self, *_: Any) -> None:
        """Suggest the first and the second half of what there is."""
        days = sorted(a.day for a in self.state.rail if a.day != "unknown")
        if not days:
            return
        first, last = dt.date.fromisoformat(days[0]), dt.date.fromisoformat(days[-1])
        middle = first + (last - first) / 2
        for picker, day in zip(
            self._days, (first, middle, middle + dt.timedelta(days=1), last), strict=True
        ):
            picker.value = day

    @changes_plot
    def _show_change(self, *_: Any) -> None:
        found: Change | None = self.state.change
        self._result.visible = found is not None
        if found is None:
            self._chart.objects = []
            return
        counted = analysis.distribution(found.field, control=found.control)
        figure = hv.render(view.distribution(counted, width=400), backend="bokeh")
        figure.toolbar_location, figure.height, figure.sizing_mode = None, 190, "stretch_width"
        self._line = Span(dimension="height", line_color=INK, line_width=2)
        figure.add_layout(self._line)
        self._chart.objects = [pn.pane.Bokeh(figure, sizing_mode="stretch_width", margin=0)]
        most = max(float(counted.edges[-1]), 1e-3)
        value = min(self.state.least_change, most)
        self._least.param.update(start=0.0, end=most, step=most / MOST_STEPS, value=value)
        self._tell(found)

    @changes_plot
    def _show_least(self, *_: Any) -> None:
        if self.state.change is not None:
            self._tell(self.state.change)

    def _tell(self, found: Change) -> None:
        """How much lies above the threshold, and what else there is to know."""
        least = self.state.least_change
        self._line.location = least
        self._least.value = min(least, self._least.end)
        changed = analysis.changed(found.field, least)
        count = int(np.nansum(changed.values))
        cell = abs(float(found.field["x"][1] - found.field["x"][0])) if count else 10.0
        share = changed.attrs["share"]
        text = (
            f"<b>{count:,} cells</b> · {count * cell**2 / 1e6:.2f} km² ({share:.0%}) moved further"
        )
        if found.control is not None:
            nothing = analysis.changed(found.control, least).attrs["share"]
            text += f"; <b>{nothing:.0%}</b> of the control, where nothing happened"
        else:
            text += '; <span class="quiet">too few dates for a control</span>'
        notes = [note for note in found.field.attrs.get("notes", []) if "apart" in note]
        text += "".join(f'<br><span class="quiet">{safe(note)}</span>' for note in notes)
        self._found.object = text

    def _show(self, *_: Any) -> None:
        ready = self.state.features is not None
        for pane, say, text in (
            ("mattered", self._say, _MATTERED), ("change", self._say_change, _CHANGE),
        ):  # fmt: skip
            status = self.state.status(pane)
            done = getattr(self.state, pane) is not None
            quiet = "" if done else text if ready else "Encode the place first."
            say.object = status_markup(EMPTY if status.kind == "ready" else status, quiet)


def _picker(label: str) -> pmui.DatePicker:
    return pmui.DatePicker(label=label, size="small", width=160, margin=(4, 4))
