"""Serving the dashboard: one process, one worker for encoding, a page for each visitor."""

import contextvars
import functools
import gc
import logging
import secrets
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import panel as pn
from tornado.ioloop import IOLoop

from app import basemap
from app.compute import Compute
from app.flow import Flow, best_date
from app.jobs import JobManager
from app.leaflet import load_extensions
from app.overlays import OVERLAYS
from app.page import Page
from app.panes.mapview import Web
from app.places import Place, demos, recipes_in
from app.routes import PAGES, routes
from app.state import Choices, State
from app.wire import (
    forget_page,
    leaving_is_no_error,
    leaving_is_no_news,
    send_what_panel_forgets,
)
from skysense.errors import SkySenseError

log = logging.getLogger(__name__)


TIDY = 2.0
"""How long after a session has gone its memory is freed (s)."""


@dataclass
class Site:
    """What all sessions of one server share."""

    web: Web = field(default_factory=lambda: Web(OVERLAYS))
    places: list[Place] = field(default_factory=demos)
    compute: Compute = field(default_factory=Compute)
    jobs: JobManager = field(default_factory=JobManager)
    _tidying: object | None = None
    """The timer of the next tidying, if any page has gone since the last."""
    _again: bool = False
    """Whether another one has gone since that timer was set."""

    def session(self) -> Any:
        """A page for a visitor who just came."""
        load_extensions(self.web.prefix)
        document = pn.state.curdoc
        line = Line(document, IOLoop.current(instance=False))
        state = State(places=list(self.places), encoder=self.encoder)
        flow = Flow(state, self.compute, self.jobs, line.post, secrets.token_hex(8))
        page = Page(flow, self.web)
        PAGES.add(page)

        def gone(_: Any) -> None:
            line.close()
            page.close()
            forget_page(document, page.view)
            self._tidy(line.loop)

        pn.state.on_session_destroyed(gone)
        page.map.when_alive(lambda: line.there("map"))
        pn.state.onload(lambda: line.there("page"))
        first = Choices(self.places[0], self.encoder)
        if self.compute.known_features(first) is not None:
            flow.at_once = True  # all of it is known: the page arrives with its picture
            flow.open_place(first.place)
            flow.at_once = False
        else:
            line.post(lambda: flow.open_place(first.place))
        return page.view

    def _tidy(self, loop: IOLoop | None) -> None:
        """Free the pages that have gone, once for all that go at about the same time."""
        if loop is None:
            return
        if self._tidying is not None:
            self._again = True
            return

        def free() -> None:
            gc.collect()  # pages hold themselves in many circles
            self._tidying = loop.call_later(TIDY, free) if self._again else None
            self._again = False

        # in a context of its own: that of the session which has just gone would hold its document
        self._tidying = contextvars.Context().run(loop.call_later, TIDY, free)

    def warm_up(self) -> None:
        """Prepare the first place, so that the first visitor sees a picture at once."""
        self.compute.worker.start()
        nothing, never, compute = (lambda *_: None), threading.Event(), self.compute
        place = self.places[0]
        with ThreadPoolExecutor(2) as beside:
            mask = beside.submit(basemap.land_mask)
            encoder = beside.submit(lambda: self.encoder)
            compute.picture(place, *best_date(compute.stack(place)))
            first = Choices(place, encoder.result())
            mask.result()
        features = compute.features(first, nothing, never)
        compute.basis(first, features)
        compute.coordinates(first, features, "PCA", nothing, never)
        compute.clusters(first, features, State.param.groups.default)
        compute.prototypes(first, features, State.param.prototypes.default)

    @functools.cached_property
    def encoder(self) -> str:
        """What a visitor begins with: SkySense if its weights are trained, else the baseline."""
        trained = not self.compute.facts("skysense-tiny").weights.startswith("random")
        return "skysense-tiny" if trained else "spectral"


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
            self._document.add_next_tick_callback(call)
        else:  # a callback added from another thread is lost while Panel holds the document
            self.loop.add_callback(self._next_tick, call)

    def _next_tick(self, call: Callable[[], None]) -> None:
        if not self._gone:
            self._document.add_next_tick_callback(call)

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


def serve(
    port: int = 5006,
    address: str = "127.0.0.1",
    prefix: str = "",
    recipes: Path | None = None,
    tiles: str = "",
    tiles_credit: str = "",
    weights: Path | None = None,
    open_browser: bool = False,
    allow: tuple[str, ...] = (),
    places: list[Place] | None = None,
    linger: float = 60.0,
) -> None:
    """Serve the dashboard until interrupted; prints its address once a picture is ready.

    Args:
        port: 0 for any free one.
        address: Where to listen; only this computer by default.
        prefix: Path under which the dashboard lives, for a server behind another.
        recipes: A folder of `.toml` recipes to offer as places.
        tiles: Address of a tile service with {z}, {x} and {y}; asked by the visitor's browser.
        tiles_credit: Its attribution.
        weights: Folder or file of official SkySense weights.
        open_browser: Open a browser window at the end.
        allow: Further host:port names under which a browser may come.
        places: What to offer instead of the demos; the first is shown to visitors.
        linger: How long a session outlives its page (s), for networks that blink.

    Raises:
        SkySenseError: If an option cannot be used.
    """
    prefix = checked_prefix(prefix)
    check_address(address, port, allow)
    port = port or _free_port(address)
    if weights is not None and not (weights / "config.json").is_file():
        raise SkySenseError(
            f"--weights {weights} is not a folder that `skysense convert` wrote: no config.json there."
        )
    places = [*(places or demos()), *(recipes_in(recipes) if recipes else [])]
    send_what_panel_forgets()
    leaving_is_no_news()
    site = Site(
        Web(OVERLAYS, prefix, checked_tiles(tiles), tiles_credit),
        places,
        Compute(weights=weights),
    )
    server = pn.serve(
        {"/": site.session},
        port=port,
        address=address,
        prefix=prefix,
        websocket_origin=[*_origins(address, port), *allow],
        extra_patterns=routes(),
        title="SkySense Explorer",
        show=False,
        start=False,
        verbose=False,
        unused_session_lifetime_milliseconds=round(1000 * linger),
        check_unused_sessions_milliseconds=round(min(5000, 1000 * linger)),
        keep_alive_milliseconds=30_000,
    )
    host = "127.0.0.1" if address in ("0.0.0.0", "") else address
    url = f"http://{host}:{server.port}{prefix}/"
    loop = IOLoop.current()
    loop.asyncio_loop.set_exception_handler(leaving_is_no_error)

    def ready() -> None:
        sys.stdout.write(f"SkySense Explorer is ready at {url}\n")
        sys.stdout.flush()
        if open_browser:
            server.show("/")

    def prepared(future: Future) -> None:
        if future.exception() is not None:
            log.error("The demo could not be encoded.", exc_info=future.exception())
        loop.add_callback(ready)

    def prepare() -> None:
        site.warm_up()
        gc.collect()
        gc.freeze()  # what is there now stays: looking through it again would take half a second
        visit(url)  # the first page is slow to make, so it is made for nobody

    site.jobs.ahead(prepare).add_done_callback(prepared)
    server.start()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: loop.add_callback_from_signal(loop.stop))
    try:
        loop.start()
    except KeyboardInterrupt:
        log.debug("Interrupted.")
    finally:
        site.jobs.stop()
        site.compute.close()


def visit(url: str) -> None:
    """Ask our own server for a page, past any proxy that the environment names."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=60) as answer:
        answer.read()


def check_address(address: str, port: int, allow: tuple[str, ...]) -> None:
    """Refuse what cannot be listened on.

    Raises:
        SkySenseError: If the port or address is impossible or taken, or `allow` is no host:port.
    """
    for name in allow:
        host, _, number = name.rpartition(":")
        if not host or not number.isdigit() or ":" in host:
            raise SkySenseError(f"--allow {name!r} is not HOST:PORT, such as example.org:443.")
    if not 0 <= port <= 65535:
        raise SkySenseError(f"--port {port} is not between 0 (any free one) and 65535.")
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        raise SkySenseError(
            f"Port {port} of {address} cannot be used ({error.strerror}). Another program may be "
            "there: choose another --port, or 0 for any free one."
        ) from error


def checked_prefix(prefix: str) -> str:
    """A URL prefix with one leading slash and none at the end; empty for none.

    Raises:
        SkySenseError: If it holds anything but letters, digits, `-`, `_`, `.` and `/`.
    """
    plain = prefix.strip("/")
    if not plain:
        return ""
    if not all(part and part.replace("-", "").replace("_", "").replace(".", "").isalnum()
               for part in plain.split("/")):  # fmt: skip
        raise SkySenseError(f"--prefix {prefix!r} is not a path such as /tools/skysense.")
    return f"/{plain}"


def checked_tiles(tiles: str) -> str:
    """The address of a tile service.

    Raises:
        SkySenseError: If it is not http(s) with {z}, {x} and {y}.
    """
    if not tiles:
        return ""
    if not tiles.startswith(("http://", "https://")) or any(
        part not in tiles for part in ("{z}", "{x}", "{y}")
    ):
        raise SkySenseError(
            f"--tiles {tiles!r} must begin with https:// and hold {{z}}, {{x}} and {{y}}."
        )
    return tiles


def _free_port(address: str) -> int:
    """A port that nobody uses; the websocket's allowed origin has to name it beforehand."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def _origins(address: str, port: int) -> list[str]:
    hosts = {"127.0.0.1", "localhost"} if address in ("127.0.0.1", "localhost") else {address}
    return [f"{host}:{port}" for host in sorted(hosts)]
