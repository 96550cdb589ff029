"""Serving the dashboard: one process, one worker for encoding, a page for each visitor."""

import gc
import logging
import secrets
import signal
import socket
import sys
import threading
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import panel as pn
from tornado.ioloop import IOLoop

from app import basemap
from app.arrival import arrival, asked_for, grant, wants_large
from app.autosave import TOKEN, Autosave, Shelf, default_folder
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
    Line,
    forget_page,
    leaving_is_no_error,
    leaving_is_no_news,
    send_what_panel_forgets,
)
from skysense.errors import SkySenseError

log = logging.getLogger(__name__)


TIDY = 2.0
"""How long after a session has gone its memory is freed (s)."""

LATEST = 30.0
"""Longest wait (s) before looking again for a page that was still being worked for."""


@dataclass
class Site:
    """What all sessions of one server share."""

    web: Web = field(default_factory=lambda: Web(OVERLAYS))
    places: list[Place] = field(default_factory=demos)
    compute: Compute = field(default_factory=Compute)
    encoder: str = State.param.encoder.default
    """What a visitor begins with."""
    jobs: JobManager = field(default_factory=JobManager)
    shelf: Shelf | None = None
    """Where sessions are kept; None for nowhere."""
    _tidying: bool = False
    _visitors: int = 0

    def session(self) -> Any:
        """A page for a visitor who just came."""
        load_extensions(self.web.prefix)
        document = pn.state.curdoc
        line = Line(document, IOLoop.current(instance=False))
        state = State(places=list(self.places), encoder=self.encoder, large=wants_large())
        flow = Flow(state, self.compute, self.jobs, line.post, secrets.token_hex(8))
        page = Page(flow, self.web)
        PAGES.add(page)
        self._visitors += 1

        def gone(_: Any) -> None:
            self._visitors -= 1
            line.close()
            page.close()
            forget_page(document)
            self._tidy(line.loop)

        pn.state.on_session_destroyed(gone)
        page.map.when_alive(lambda: line.there("map"))
        pn.state.onload(lambda: line.there("page"))
        wish, why = arrival(flow, self.shelf)
        autosave = self._kept(flow, line, asked_for("session") if not why else "")
        if autosave is not None:
            page.closing.append(autosave.close)
        first = Choices(self.places[0], self.encoder)
        if wish is not None:
            line.post(lambda: grant(flow, wish, first.place))
        elif self.compute.known_features(first) is not None:
            flow.at_once = True  # all of it is known: the page arrives with its picture
            flow.open_place(first.place)
            flow.at_once = False
        else:
            line.post(lambda: flow.open_place(first.place))
        if why:
            line.post(lambda: flow.state.param.update(notice=why))
        return page.view

    def _kept(self, flow: Flow, line: Line, token: str) -> Autosave | None:
        """Keep the session under its name, or a new one: what could not be opened stays as it is."""
        if self.shelf is None:
            return None
        if not TOKEN.fullmatch(token) or not self.shelf.path(token).is_file():
            token = self.shelf.new()
        location, size = pn.state.location, "&type=large" if wants_large() else ""
        if location is not None:  # not before the page is there: its own address would overwrite it
            line.post(lambda: setattr(location, "search", f"?session={token}{size}"))
        return Autosave(flow, self.shelf, token)

    def _tidy(self, loop: IOLoop | None, after: float = TIDY) -> None:
        """Free the pages that have gone, once for all that go at about the same time.

        One that work in a thread still holds is looked for again, later each time. While nobody is
        there, what was frozen is looked through too: it may hold the page that was made for nobody.
        """
        if loop is None or self._tidying:
            return
        self._tidying = True

        def free() -> None:
            self._tidying = False
            if not self._visitors:
                gc.unfreeze()
            gc.collect()  # pages hold themselves in many circles
            if not self._visitors:
                gc.freeze()
            if len(PAGES) > self._visitors:
                self._tidy(loop, min(2 * after, LATEST))

        loop.call_later(after, free)

    def warm_up(self) -> None:
        """Prepare the first place, so that the first visitor sees a picture at once."""
        self.compute.worker.start()
        nothing, never, compute = (lambda *_: None), threading.Event(), self.compute
        place = self.places[0]
        with ThreadPoolExecutor(2) as beside:
            mask = beside.submit(basemap.land_mask)
            encoder = beside.submit(compute.facts, self.encoder)
            compute.picture(place, *best_date(compute.stack(place)))
            encoder.result()
            mask.result()
        first = Choices(place, self.encoder)
        features = compute.features(first, nothing, never)
        compute.basis(first, features)
        compute.coordinates(first, features, "PCA", nothing, never)
        compute.clusters(first, features, State.param.groups.default)
        compute.prototypes(first, features, State.param.prototypes.default)


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
    encoder: str = "",
    warm: bool = True,
    sessions: Path | None = None,
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
        encoder: What visitors begin with; the best one whose weights are trained if not given.
        warm: Encode the first place before the first visitor comes.
        sessions: Folder where sessions are kept, so that they outlive the server; one of the user's
            own if not given.

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
        shelf=Shelf(sessions if sessions is not None else default_folder()),
    )
    site.shelf.sweep()
    if encoder:
        site.encoder = checked_encoder(encoder, site.compute)
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
        gc.collect()
        gc.freeze()  # what is there now stays: looking through it again would take half a second
        sys.stdout.write(f"SkySense Explorer is ready at {url}\n")
        sys.stdout.flush()
        if open_browser:
            server.show("/")

    def prepared(future: Future) -> None:
        if future.exception() is not None:
            log.error("The demo could not be encoded.", exc_info=future.exception())
        loop.add_callback(ready)

    def prepare() -> None:
        if warm:
            site.warm_up()
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


def checked_encoder(name: str, compute: Compute) -> str:
    """The name of an encoder that is on offer.

    Raises:
        SkySenseError: If it is not, with those that are.
    """
    if name not in compute.encoders:
        raise SkySenseError(
            f"There is no encoder {name!r}; the dashboard has {', '.join(compute.encoders)}."
        )
    return name


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
