"""Text on the screen: escaped once here, and the same everywhere."""

import html
from collections.abc import Sequence
from typing import Any

import panel as pn
import panel_material_ui as pmui

from app.state import Status
from app.theme import TEXT_CSS

MOST_SWATCHES = 12


def safe(text: object) -> str:
    """Text that cannot be markup, whatever was in a file, an address or a form."""
    return html.escape(str(text), quote=True)


def block(markup: str = "", **params: Any) -> pn.pane.HTML:
    """A pane for markup whose every variable part went through `safe`."""
    return pn.pane.HTML(markup, stylesheets=[TEXT_CSS], **params)


def status_markup(status: Status, empty: str) -> str:
    """How a pane is doing, as markup; nothing where it is ready.

    Args:
        status: Of the pane.
        empty: What to do to fill it, shown while it is empty.
    """
    if status.kind == "failed":
        return f'<div class="failed" role="alert">{safe(status.sentence)}</div>'
    if status.kind == "working":
        share = "" if status.share is None else f" · {status.share:.0%}"
        return f'<div class="working">{safe(status.sentence)}{share} …</div>'
    if status.kind == "empty" and empty:
        return f'<div class="empty">{safe(empty)}</div>'
    return ""


def swatches(entries: Sequence[tuple[str, str]], most: int = MOST_SWATCHES) -> str:
    """(label, hex colour) pairs as a row of little squares."""
    shown = "".join(
        f'<span class="chip"><span class="swatch" style="background:{safe(colour)}"></span>'
        f"{safe(label)}</span>"
        for label, colour in entries[:most]
    )
    rest = entries[most:]
    if rest:
        squares = "".join(
            f'<span class="swatch" title="{safe(label)}" style="background:{safe(colour)}"></span>'
            for label, colour in rest
        )
        shown += f'<span class="chip">{squares}</span>'
    return shown


def flag(text: str) -> str:
    """A word that must not be overlooked."""
    return f'<span class="flag">{safe(text)}</span>'


def degrees(lon: float, lat: float) -> str:
    """A place in words: 50.8161° N 3.0241° E."""
    north, east = ("N" if lat >= 0 else "S"), ("E" if lon >= 0 else "W")
    return f"{abs(lat):.4f}° {north} {abs(lon):.4f}° {east}"


def tip(control: Any, sentence: str) -> Any:
    """A control with a sentence that appears when the mouse rests on it."""
    return pmui.Tooltip(
        control,
        title=sentence,
        enter_delay=600,
        placement="bottom",
        margin=control.margin,
        width=control.width,
        sizing_mode=control.sizing_mode,
        align=control.align,
    )
