"""Changing plain Bokeh models from a session's callbacks."""

import functools
from collections.abc import Callable
from typing import Any

from panel.io import unlocked


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
