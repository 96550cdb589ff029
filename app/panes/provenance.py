"""The drawer that says how what is shown came about."""

from typing import Any

import panel_material_ui as pmui

from app.flow import Flow
from app.words import block, safe
from skysense.stack import all_notes

_TITLES = {
    "encoder": "Encoder",
    "weights": "Weights",
    "weights_licence": "Licence of the weights",
    "data_licence": "Licence of the images",
    "sensors": "Sensors",
    "resolution": "Resolution (m)",
    "dates_s2": "Sentinel-2 dates",
    "dates_s1": "Sentinel-1 dates",
    "dates_hr": "High-resolution dates",
    "missing_bands": "Missing bands",
    "device": "Device",
    "dtype": "Precision",
    "version": "Version",
}


class Provenance:
    """A button in the bottom line, and the drawer it opens."""

    def __init__(self, flow: Flow) -> None:
        self.state = flow.state
        self._text = block(sizing_mode="stretch_width")
        self.view = pmui.Drawer(
            pmui.Column(self._text, margin=16, width=380), anchor="right", size=420, open=False
        )
        self.button = pmui.Button(
            label="How it was made",
            icon="info_outline",
            variant="text",
            size="small",
            margin=(2, 4),
            description="Encoder, weights, dates, licences, and every note about the images.",
            on_click=lambda _: setattr(self.view, "open", True),
        )
        self.state.param.watch(self._show, ["stack", "features"])
        self._show()

    def _show(self, *_: Any) -> None:
        state, parts = self.state, []
        if state.features is not None:
            attrs = state.features.attrs
            rows = "".join(
                f"<dt><b>{title}</b></dt><dd style='margin:0 0 8px'>{safe(_value(attrs[key]))}</dd>"
                for key, title in _TITLES.items()
                if attrs.get(key) not in (None, "", [])
            )
            parts.append(f"<h3>Features</h3><dl>{rows}</dl>")
        if state.stack is not None:
            notes = "".join(f"<li>{safe(note)}</li>" for note in all_notes(state.stack))
            source = safe(state.stack.attrs.get("source", ""))
            parts.append(f"<h3>Images</h3><p>{source}</p><ul>{notes}</ul>")
        self._text.object = "".join(parts) or "Nothing is open yet."


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value)
    return str(value)
