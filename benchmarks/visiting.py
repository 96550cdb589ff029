"""Visitors of the dashboard without a browser: the same page, websocket and messages.

A visitor fetches the page as a browser does, takes the session that its token names, says that the
page is loaded and the map drawn, and then presses, chooses and clicks. What an interaction takes is
the time from its message to the first answer that changes a given part of the page; what a browser
needs to draw it comes on top.
"""

import asyncio
import itertools
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

log = logging.getLogger(__name__)

LARGEST = 100_000_000
"""Largest message that is read (bytes)."""

PATIENCE = 120.0
"""Longest wait for the page or for its connection (s)."""

_TOKEN = re.compile(r'"token":\s*"([^"]+)"')
_numbers = itertools.count(1)

Frame = tuple[dict[str, Any], Any]


class Visitor:
    """One visitor; use `Visitor.arrive`."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self._socket = socket
        self.models: dict[str, dict[str, Any]] = {}
        """Parts of the page by id, as the server sent them first."""
        self.pictures: list[str] = []
        """Addresses of pictures that the map was told to show, latest last."""
        self._map = ""
        self._patches: asyncio.Queue[str] = asyncio.Queue()
        self._reading: asyncio.Task | None = None

    @classmethod
    async def arrive(cls, url: str) -> "Visitor":
        """Open the page at `url` (with its final slash)."""
        waits = {"connect_timeout": PATIENCE, "request_timeout": PATIENCE}
        page = (await AsyncHTTPClient().fetch(url, **waits)).body.decode()
        found = _TOKEN.search(page)
        if found is None:
            raise RuntimeError(f"{url} is not a page of the dashboard.")
        socket = await websocket_connect(
            HTTPRequest(url.replace("http", "ws", 1) + "ws", **waits),
            subprotocols=["bokeh", found[1]],
            max_message_size=LARGEST,
        )
        visitor = cls(socket)
        await visitor._frame()  # ACK
        await visitor._send("PULL-DOC-REQ", {})
        header: dict[str, Any] = {}
        while header.get("msgtype") != "PULL-DOC-REPLY":
            header, content = await visitor._frame()
        for each in _objects(content["doc"]["roots"]):
            visitor.models[each["id"]] = each
            bundle = each.get("attributes", {}).get("bundle")
            if isinstance(bundle, dict):
                visitor._map = _plain(_plain(bundle)["spec"])["model_id"]
        visitor._reading = asyncio.create_task(visitor._read())
        await visitor._event("document_ready", [])
        await visitor._widget(
            {"method": "update", "buffer_paths": [], "state": {
                "north": 51.0, "south": 50.0, "east": 4.0, "west": 3.0}}
        )  # fmt: skip
        return visitor

    async def leave(self) -> None:
        """Close the page."""
        if self._reading is not None:
            self._reading.cancel()
        self._socket.close()

    # ----------------------------------------------------------------------------------- looking

    def find(self, kind: str, label: str) -> dict[str, Any]:
        """The part of the page of a class (`Button`, `Select`) with this label."""
        for each in self.models.values():
            attributes = each.get("attributes", {})
            if attributes.get("class_name") == kind:
                data = attributes["data"]["attributes"]
                options = data.get("options") or []
                if label in (data.get("label"), *(o for o in options if isinstance(o, str))):
                    return each
        raise KeyError(f"no {kind} {label!r} on the page")

    def text(self, part: str) -> str:
        """Id of the pane whose first text holds `part`."""
        for name, each in self.models.items():
            if part in str(each.get("attributes", {}).get("text", "")):
                return name
        raise KeyError(f"no text {part!r} on the page")

    # ------------------------------------------------------------------------------------ doing

    async def choose(self, widget: dict[str, Any], value: Any, attribute: str = "value") -> None:
        """Give a widget another value."""
        change = {
            "kind": "ModelChanged",
            "model": {"id": widget["attributes"]["data"]["id"]},
            "attr": attribute,
            "new": value,
        }
        await self._send("PATCH-DOC", {"events": [change]})

    async def press(self, button: dict[str, Any]) -> None:
        """Press a button."""
        model = {"id": button["id"]}
        empty = {"type": "map", "entries": []}
        await self._event("dom_event", [["model", model], ["node", "click"], ["data", empty]])

    async def click(self, lon: float, lat: float) -> None:
        """Click the map."""
        content = {"event": "interaction", "type": "click", "coordinates": [lat, lon]}
        await self._widget({"method": "custom", "content": content})

    async def timed(self, act: Any, answered: Callable[[str], bool], limit: float = 60.0) -> float:
        """Seconds from an act (awaitable) to the first message that `answered` takes for an answer.

        Raises:
            TimeoutError: If none comes within `limit` seconds.
            ConnectionError: If the server has closed the connection.
        """
        while not self._patches.empty():
            self._patches.get_nowait()
        begun = time.perf_counter()
        await act
        while True:
            left = begun + limit - time.perf_counter()
            said = await asyncio.wait_for(self._patches.get(), max(left, 0.01))
            if not said:
                raise ConnectionError("The server closed the connection.")
            if answered(said):
                return time.perf_counter() - begun

    async def until(self, answered: Callable[[str], bool], limit: float = 600.0) -> None:
        """Wait for a message."""
        await self.timed(asyncio.sleep(0), answered, limit)

    # -------------------------------------------------------------------------------- the socket

    async def _read(self) -> None:
        try:
            while True:
                header, content = await self._frame()
                if header.get("msgtype") == "PATCH-DOC":
                    said = json.dumps(content, ensure_ascii=False)
                    self.pictures += re.findall(r"/overlay/[\w-]+\.png", said)
                    for each in _objects(content):
                        self.models.setdefault(each["id"], each)
                    self._patches.put_nowait(said)
        except ConnectionError:
            log.debug("The server closed the connection.")
        finally:  # whatever ended the reading, nobody waits a minute for what cannot come
            self._patches.put_nowait("")

    async def _frame(self) -> Frame:
        parts = [await self._part() for _ in range(3)]
        header, _, content = (json.loads(part) for part in parts)
        for _ in range(2 * header.get("num_buffers", 0)):
            await self._part()
        return header, content

    async def _part(self) -> str | bytes:
        part = await self._socket.read_message()
        if part is None:
            raise ConnectionError("The server closed the connection.")
        return part

    async def _send(self, kind: str, content: dict[str, Any]) -> None:
        header = {"msgid": f"v{next(_numbers)}", "msgtype": kind}
        for part in (header, {}, content):
            await self._socket.write_message(json.dumps(part))

    async def _event(self, name: str, entries: list) -> None:
        values = {"type": "map", "entries": entries}
        event = {"type": "event", "name": name, "values": values}
        await self._message("bokeh_event", event)

    async def _widget(self, data: dict[str, Any]) -> None:
        header = {
            "msg_id": f"v{next(_numbers)}", "username": "", "session": "visitor",
            "date": "2023-01-01T00:00:00.000Z", "msg_type": "comm_msg", "version": "5.3",
        }  # fmt: skip
        content = {"comm_id": self._map, "data": data}
        message = {
            "channel": "shell", "header": header, "parent_header": {}, "metadata": {},
            "content": content, "buffers": [],
        }  # fmt: skip
        await self._message("ipywidgets_bokeh", json.dumps(message))

    async def _message(self, kind: str, data: Any) -> None:
        event = {"kind": "MessageSent", "msg_type": kind, "msg_data": data}
        await self._send("PATCH-DOC", {"events": [event]})


def _objects(tree: Any) -> Iterator[dict[str, Any]]:
    """Every model that is defined in what the server sent."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if item.get("type") == "object" and "id" in item:
                yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _plain(value: Any) -> dict[str, Any]:
    """A dict from the way Bokeh writes it."""
    if isinstance(value, dict) and value.get("type") == "map":
        return dict(value["entries"])
    return value
