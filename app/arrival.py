"""What the address of a page asks for: a session that was kept, a link to a place, large type."""

from collections.abc import Callable
from urllib.parse import urlencode

import panel as pn

from app.autosave import Shelf
from app.flow import Flow
from app.places import Place
from skysense.errors import SkySenseError
from skysense.link import KEYS, shared


def wants_large() -> bool:
    """Whether the address of the page says `?type=large`."""
    return b"large" in (pn.state.session_args or {}).get("type", [])


def asked_for(key: str) -> str:
    """What the address of the page says of a key; empty if nothing, or nothing that is text."""
    said = (pn.state.session_args or {}).get(key, [])
    return said[0].decode("utf-8", "replace")[:200] if len(said) == 1 else ""


def arrival(flow: Flow, shelf: Shelf | None) -> tuple[Callable[[], None] | None, str]:
    """(what to show to a visitor instead of the first place, why it is not what they asked for).

    The address may name a session that was kept here, or be a link to a place.
    """
    said = pn.state.session_args or {}
    if "session" in said and shelf is not None:
        try:
            session = shelf.open(asked_for("session"), flow.keep.folders())
            flow.keep.check(session)
        except SkySenseError as error:
            return None, str(error)
        return (lambda: flow.keep.restore(session)), ""
    query = urlencode([(key, value) for key in KEYS for value in said.get(key, [])])
    if not query:
        return None, ""
    try:
        link = shared(query)
    except SkySenseError as error:
        return None, f"The link cannot be followed. {error}"
    return (lambda: flow.keep.follow(link)), ""


def grant(flow: Flow, wish: Callable[[], None], first: Place) -> None:
    """Show what was asked for, or the first place and why."""
    try:
        wish()
    except SkySenseError as error:
        flow.open_place(first)
        flow.state.notice = str(error)
