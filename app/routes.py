"""What the server answers besides the page: widget code, map tiles, overlay pictures."""

import json
import re
from pathlib import Path
from typing import Any
from weakref import WeakSet

from jupyter_core.paths import jupyter_path
from tornado.web import HTTPError, RequestHandler

from app import basemap
from app.downloads import DOWNLOADS
from app.leaflet import live_widgets
from app.overlays import OVERLAYS

PAGES: WeakSet[Any] = WeakSet()
"""Pages that are still in memory, also those whose visitor has gone."""

PIECE = 1 << 20
"""Bytes of a file that are sent at a time."""

PACKAGES = ("jupyter-leaflet",)
"""Widget packages whose browser code may be served."""

_FILE = re.compile(r"(?P<package>[a-z-]+)@[^/]+/dist/(?P<file>[\w-]+(?:\.[\w-]+)*)")
_TYPES = {".js": "text/javascript", ".png": "image/png", ".svg": "image/svg+xml"}


class _Plain(RequestHandler):
    """A GET that answers bytes which no browser should reinterpret."""

    def reply(self, body: bytes, kind: str, cache: str) -> None:
        """Send `body` as the whole answer."""
        self.set_header("Content-Type", kind)
        self.set_header("Cache-Control", cache)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.finish(body)


def find_asset(path: str) -> Path | None:
    """The installed file behind `{package}@{version}/dist/{file}`, or None.

    Only packages in `PACKAGES`, and only files directly in their folder, are ever found.
    """
    match = _FILE.fullmatch(path)
    if match is None or match["package"] not in PACKAGES:
        return None
    name = match["file"]
    if Path(name).suffix not in _TYPES:
        name += ".js"
    for root in jupyter_path("nbextensions"):
        candidate = Path(root) / match["package"] / name
        if candidate.is_file():
            return candidate
    return None


class WidgetAssets(_Plain):
    """The browser code that a widget's own wheel installed."""

    def get(self, path: str) -> None:
        """Answer `{package}@{version}/dist/{file}`."""
        found = find_asset(path)
        if found is None:
            raise HTTPError(404)
        self.reply(found.read_bytes(), _TYPES[found.suffix], "public, max-age=86400")


class Tiles(_Plain):
    """The land/sea basemap."""

    def get(self, z: str, x: str, y: str) -> None:
        """Answer one tile as PNG."""
        try:
            body = basemap.tile(int(z), int(x), int(y))
        except ValueError as error:
            raise HTTPError(404) from error
        self.reply(body, "image/png", "public, max-age=86400")


class OverlayPictures(_Plain):
    """Pictures made for one session, under an unguessable name."""

    def get(self, token: str) -> None:
        """Answer the picture as PNG, or 404 once it is forgotten."""
        png = OVERLAYS.get(token)
        if png is None:
            raise HTTPError(404)
        self.reply(png, "image/png", "private, max-age=3600")


class TakeHome(_Plain):
    """Files made for one session, under an unguessable name."""

    async def get(self, token: str) -> None:
        """Answer the file piece by piece, or 404 once its page is gone."""
        found = DOWNLOADS.get(token)
        try:
            file = found.path.open("rb") if found is not None else None
        except OSError:  # the page left between two clicks
            file = None
        if found is None or file is None:
            raise HTTPError(404)
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("Content-Disposition", f'attachment; filename="{found.name}"')
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        with file:
            while piece := file.read(PIECE):
                self.write(piece)
                await self.flush()


class Health(_Plain):
    """A sign of life: counts, and nothing about anybody."""

    def get(self) -> None:
        """Answer how many pages, map widgets and pictures are held."""
        held = {"pages": len(PAGES), "widgets": live_widgets(), "pictures": len(OVERLAYS)}
        self.reply(json.dumps(held).encode(), "application/json", "no-store")


def routes() -> list[tuple[str, Any]]:
    """Patterns for the server; it puts its own URL prefix in front of each."""
    return [
        (r"/widget-assets/(.*)", WidgetAssets),
        (r"/tiles/(\d{1,2})/(-?\d{1,8})/(\d{1,8})\.png", Tiles),
        (r"/health", Health),
        (r"/overlay/([\w-]{1,64})\.png", OverlayPictures),
        (r"/keep/([\w-]{1,64})", TakeHome),
    ]
