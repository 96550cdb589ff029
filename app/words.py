"""Text on the screen: escaped once here, and the same everywhere."""

import html
from collections.abc import Sequence
from typing import Any

import panel as pn
import panel_material_ui as pmui

from app.state import State, Status
from app.theme import TEXT_CSS

MOST_NUMBERED = 8
"""More names that are only numbers apart do not fit in a line; their colours do."""


MOST_NAMED = 5
"""Names beside a strip of numbered colours."""


def safe(text: object) -> str:
    """Text that cannot be markup, whatever was in a file, an address or a form."""
    return html.escape(str(text), quote=True)


def press_encode(state: State, what: str) -> str:
    """What to do so that there will be something: nothing but wait, if the place is being encoded."""
    if state.status("encode").kind == "working":
        return f"{what} once the place is encoded."
    return f"{what} once you press Encode."


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


def swatches(entries: Sequence[tuple[str, str]]) -> str:
    """(label, hex colour) pairs as one line of little squares with their names.

    Of many numbered ones only the first and the last are named, and those with a name of their
    own; the mouse names the others.
    """
    squares = [
        f'<span class="swatch" title="{safe(label)}" style="background:{safe(colour)}"></span>'
        for label, colour in entries
    ]
    names = [
        f'<span class="name" title="{safe(label)}">{safe(label)}</span>' for label, _ in entries
    ]
    chips = [
        f'<span class="chip">{square}{name}</span>'
        for square, name in zip(squares, names, strict=True)
    ]
    own = [not label.rpartition(" ")[2].isdigit() for label, _ in entries]
    if len(entries) <= MOST_NUMBERED or all(own):
        return "".join(chips)
    named = "".join([chip for chip, mine in zip(chips, own, strict=True) if mine][:MOST_NAMED])
    if own[0] or own[-1]:
        return f'<span class="strip">{"".join(squares)}</span>{named}'
    return f'{names[0]}<span class="strip">{"".join(squares)}</span>{names[-1]}{named}'


def flag(text: str, more: str = "") -> str:
    """A word that must not be overlooked, and what the mouse brings up."""
    return f'<span class="flag" title="{safe(more or text)}">{safe(text)}</span>'


def degrees(lon: float, lat: float) -> str:
    """A place in words: 50.8161° N 3.0241° E."""
    north, east = ("N" if lat >= 0 else "S"), ("E" if lon >= 0 else "W")
    return f"{abs(lat):.4f}° {north} {abs(lon):.4f}° {east}"


def tip(control: Any, sentence: str) -> Any:
    """A control with a sentence that appears when the mouse rests on it.

    Below it, where nothing stands beside it that one may want to press; beside a list, whose choices
    unfold below.
    """
    margin, control.margin = control.margin, 0
    return pmui.Tooltip(
        control,
        title=sentence,
        enter_delay=600,
        placement="left" if isinstance(control, pmui.Select) else "bottom",
        margin=margin,
        width=control.width,
        sizing_mode=control.sizing_mode,
        align=control.align,
    )
