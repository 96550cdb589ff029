"""Between server and browser: visitors who leave in mid-sentence, and messages Panel forgets."""

import asyncio
import functools
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from panel.io import document as panel_document
from panel.io.state import _state, state
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError

log = logging.getLogger(__name__)


def leaving_is_no_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception handler for the event loop: whoever closes the page may do so at any time.

    Panel cancels what waits for a write when a session ends, so that nobody hears of a write that
    failed because the browser had gone. Everything else is reported as ever.
    """
    if isinstance(context.get("exception"), WebSocketClosedError | StreamClosedError):
        log.debug("A visitor left while something was sent.")
        return
    loop.default_exception_handler(context)


def leaving_is_no_news() -> None:
    """Keep Bokeh and Panel from warning of each message that a visitor did not wait for."""
    for name in ("bokeh.server.views.ws", panel_document.logger.name):
        logging.getLogger(name).addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return record.msg != "Failed sending message as connection was closed"


def send_what_panel_forgets() -> None:
    """Mend Panel, which may keep a change to itself until the next one.

    While one of its tasks (`panel.io.document._dispatch_msgs`) waits for a write to end, another
    change can queue behind it. The first task then takes away the mark that something is queued,
    and the second, finding no mark, returns without sending. After this call it sends.
    """
    forgetful = panel_document._dispatch_msgs
    if hasattr(forgetful, "__wrapped__"):
        return

    @functools.wraps(forgetful)
    async def dispatch(document: Any) -> None:
        await forgetful(document)
        queued, marked = panel_document._WRITE_MSGS, panel_document._WRITE_BLOCK
        while queued.get(document) and document not in marked:
            marked[document] = True
            await forgetful(document)

    panel_document._dispatch_msgs = dispatch


def forget_page(document: Any) -> None:
    """Make Panel let go of the page of a session that has ended.

    Panel keeps tables with documents as weak keys, but the values of some (stylesheets, kernels of
    widgets) hold their document, so that none of these entries, nor the whole page, would ever go.

    Args:
        document: Of the session.
    """
    for table in [each for each in vars(_state).values() if isinstance(each, WeakKeyDictionary)]:
        table.pop(document, None)


def leave_others_alone(view: Any) -> None:
    """Keep a page from following what other visitors do.

    A page of panel-material-ui follows, for its busy indicator, a state of the whole process: every
    widget that anybody uses turns it on and off, and each time every page looks through all of its
    parts (20 ms) and sends a message. It would also keep the page when its session has ended.

    Args:
        view: A page without a busy indicator.
    """
    for watcher in list(state.param.watchers.get("busy", {}).get("value", [])):
        follower = getattr(watcher.fn, "__self__", None)
        if getattr(follower, "self", None) is view:
            state.param.unwatch(watcher)


class Line:
    """The way from worker threads to one session's event loop.

    What arrives before the page is loaded and its map drawn waits: Panel drops changes made before
    the one, and messages to a widget before the other reach nobody. What arrives after the session
    is gone goes nowhere.
    """

    def __init__(self, document: Any, loop: IOLoop | None) -> None:
        self._document, self.loop = document, loop
        self._missing = {"page", "map"}
        self._waiting: list[Callable[[], None]] | None = []
        self._due: deque[Callable[[], None]] = deque()  # a document keeps what it is given for good
        self._gone = False
        self._lock = threading.Lock()

    def post(self, call: Callable[[], None]) -> None:
        """Run `call` on the session's event loop as soon as that makes sense."""
        with self._lock:
            if self._gone:
                return
            if self._waiting is not None:
                self._waiting.append(call)
                return
        if self.loop is None:
            self._next_tick(call)
        else:  # a callback added from another thread is lost while Panel holds the document
            self.loop.add_callback(self._next_tick, call)

    def _next_tick(self, call: Callable[[], None]) -> None:
        if not self._gone:
            self._due.append(call)
            self._document.add_next_tick_callback(self._one)

    def _one(self) -> None:
        if self._due:
            self._due.popleft()()

    def there(self, part: str) -> None:
        """The `page` is loaded, or the `map` drawn."""
        with self._lock:
            self._missing.discard(part)
            if self._missing:
                return
            waiting, self._waiting = self._waiting or [], None
        for call in waiting:
            self.post(call)

    def close(self) -> None:
        """The session is gone."""
        self._gone = True
        self._due.clear()
