"""The drawer that says how what is shown came about: the clicked cell first, then the whole."""

import math
from typing import Any

import panel_material_ui as pmui

from app.flow import Flow
from app.words import block, degrees, flag, safe, status_markup
from skysense.pixel import PixelProvenance, SensorAt, provenance_at
from skysense.stack import all_notes
from skysense.windows import HALO

_TITLES = {
    "encoder": "Encoder",
    "weights": "Weights",
    "weights_licence": "Licence of the weights",
    "data_licence": "Licence of the images",
    "sensors": "Sensors",
    "resolution": "Resolution (m)",
    "merge": "High resolution merged before stages",
    "dates_s2": "Sentinel-2 dates",
    "dates_s1": "Sentinel-1 dates",
    "dates_hr": "High-resolution dates",
    "missing_bands": "Missing bands",
    "device": "Device",
    "dtype": "Precision",
    "version": "Version",
}

_SEEN, _MASKED = "#0072b2", "#ffffff"


class Provenance:
    """A button in the bottom line, and the drawer it opens."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.state = flow, flow.state
        self._known: tuple[Any, Any] | None = None
        self._cell = block(sizing_mode="stretch_width")
        self._text = block(sizing_mode="stretch_width")
        self.view = pmui.Drawer(
            pmui.Column(self._cell, self._text, margin=16, width=388),
            anchor="right",
            size=430,
            open=False,
        )
        self.button = pmui.Button(
            label="How it was made",
            icon="info_outline",
            variant="text",
            size="small",
            margin=(2, 4),
            description="Dates and sensors of the clicked cell; encoder, weights, licences, notes.",
            on_click=lambda _: setattr(self.view, "open", True),
        )
        self.state.param.watch(self._show, ["stack", "features"])
        self.state.param.watch(self._look, ["here", "features", "stack"])
        self.state.param.watch(self._show_status, ["statuses"])
        self.view.param.watch(self._look, "open")
        self._show()

    def opened_by(self, line: Any) -> Any:
        """The same line, which opens the drawer when it is clicked."""
        return pmui.Clickable(
            line,
            disable_ripple=True,
            margin=0,
            sizing_mode="stretch_width",
            on_click=lambda _: setattr(self.view, "open", True),
        )

    def _look(self, *_: Any) -> None:
        """Find out about the clicked cell, once somebody wants to know."""
        state = self.state
        if not self.view.open:
            return
        if state.here is None or state.features is None or state.stack is None:
            self._cell.object, self._known = "", None
            return
        stack, features, here = state.stack, state.features, state.here
        if self._known == (here, id(features)):
            return
        self._known = (here, id(features))

        def done(found: PixelProvenance) -> None:
            self._cell.object = cell_markup(found)

        self.flow.run(
            "cell",
            "cell",
            "Looking up the cell",
            lambda _: provenance_at(stack, features, *here),
            done,
        )

    def _show_status(self, *_: Any) -> None:
        status = self.state.status("cell")
        if status.kind in ("working", "failed"):
            self._cell.object = status_markup(status, "")

    def _show(self, *_: Any) -> None:
        state, parts = self.state, []
        if state.features is not None:
            attrs = state.features.attrs
            rows = "".join(
                f"<dt><b>{title}</b></dt><dd style='margin:0 0 8px;overflow-wrap:anywhere'>"
                f"{safe(_value(attrs[key]))}</dd>"
                for key, title in _TITLES.items()
                if attrs.get(key) not in (None, "", [])
            )
            parts.append(f"<h3>All features</h3><dl>{rows}</dl>")
        if state.stack is not None:
            notes = "".join(f"<li>{safe(note)}</li>" for note in all_notes(state.stack))
            source = safe(state.stack.attrs.get("source", ""))
            parts.append(f"<h3>Images</h3><p>{source}</p><ul>{notes}</ul>")
        self._text.object = "".join(parts) or "Nothing is open yet."


def cell_markup(found: PixelProvenance) -> str:
    """The facts of one cell in words and, per sensor, its dates as little squares."""
    flags = [flag(word) for word, true in (("UNTRAINED", found.untrained),
             ("SYNTHETIC", found.synthetic), ("APPROXIMATE position", found.approximate))
             if true]  # fmt: skip
    row, column = found.cell
    seen = (
        f"{found.observations} observations of {sum(len(s.days) for s in found.sensors)} dates"
        if found.filled
        else "nothing usable was seen here, so there are no features"
    )
    sampled = "" if found.resolution <= 10 else (
        f", the 10 m cell in the middle of each {found.resolution:g} m block"
    )  # fmt: skip
    weights = safe(found.weights)
    brief = weights if len(found.weights) <= 24 else f"{safe(found.weights[:19])}…"
    rows = [
        ("Encoder", f"{safe(found.encoder)} {' '.join(flags)}"),
        ("Weights", f'<span title="{weights}">{brief}</span> · {safe(found.weights_licence)}'),
        ("Computed on", safe(found.device)),
        ("Nearest seam", _seam(found.seam)),
        ("Edge of the images", _rim(found)),
        ("Images", safe(found.data_licence)),
    ]
    facts = "".join(
        f'<div style="display:grid;grid-template-columns:118px 1fr;gap:8px;margin:3px 0">'
        f'<span class="quiet">{title}</span><span style="overflow-wrap:anywhere">{text}</span></div>'
        for title, text in rows
        if text
    )
    return (
        f"<h3 style='margin-top:0'>This cell</h3><b>{degrees(found.lon, found.lat)}</b> "
        f'<span class="quiet">row {row}, column {column}{sampled}</span><br>{seen}'
        + "".join(_sensor(each) for each in found.sensors)
        + f'<div style="margin-top:10px">{facts}</div>'
    )


def _sensor(sensor: SensorAt) -> str:
    squares = "".join(
        f'<span class="swatch" style="background:{_SEEN if share >= 0.5 else _MASKED}" '
        f'title="{safe(day)}: {_share(share)}"></span>'
        for day, share in zip(sensor.days, sensor.usable, strict=True)
    )
    lines = []
    if sensor.masked:
        lines.append(f"masked here: {', '.join(sensor.masked)}")
    if sensor.orbits:
        lines.append(f"{' and '.join(sensor.orbits)} orbit")
    if sensor.levels:
        lines.append(" and ".join(sensor.levels))
    if sensor.key == "s2":
        known = (
            f"baseline {', '.join(sensor.baselines)}" if sensor.baselines else "baseline unknown"
        )
        rule = sensor.offset or "values as the source gives them, no offset taken off here"
        lines.append(f"{known}: {rule}")
    lines.append(sensor.resampling or f"pixels of {sensor.pixel:g} m, not resampled")
    if sensor.missing_bands:
        lines.append(f"without {', '.join(sensor.missing_bands)}")
    said = "".join(f"<li>{safe(line)}</li>" for line in lines)
    return (
        f'<div style="margin-top:10px"><b>{sensor.title}</b> seen on {len(sensor.seen)} of '
        f'{len(sensor.days)} dates<div style="display:flex;flex-wrap:wrap;gap:3px;margin:4px 0">'
        f'{squares}</div><ul class="quiet" style="margin:0;padding-left:18px">{said}</ul></div>'
    )


def _share(share: float) -> str:
    if share in (0.0, 1.0):
        return "usable" if share else "masked"
    return f"{share:.0%} usable"


def _seam(away: float) -> str:
    if math.isinf(away):
        return "none: one window holds the whole place"
    near = ", close enough to look for a step there" if away < 20 else ""
    return f"{away:,.0f} m to the next window of 640 m{near}"


def _rim(found: PixelProvenance) -> str:
    if found.at_rim:
        return f"{found.rim:,.0f} m: at the rim, the encoder saw little beyond it"
    return f"{found.rim:,.0f} m, more than the {HALO:g} m that a window looks beyond its core"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value)
    return str(value)
