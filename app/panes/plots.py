"""Changing plain Bokeh models from a session's callbacks."""

import functools
from collections.abc import Callable
from typing import Any

from panel.io import unlocked

from app.theme import LARGER


def type_size(pixels: float, large: bool) -> str:
    """A size of type inside a plot, whose canvas does not follow that of the page."""
    return f"{pixels * (LARGER if large else 1):g}px"


def changes_plot(method: Callable[..., None]) -> Callable[..., None]:
    """Mark a method that changes Bokeh models itself rather than through Panel.

    Panel calls back without holding the document, and then Bokeh refuses changes; `unlocked`
    collects them and sends them when the method is done.
    """

    @functools.wraps(method)
    def wrapped(*arguments: Any) -> None:
        with unlocked():
            method(*arguments)

    return wrapped
