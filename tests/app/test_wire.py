"""What goes between server and browser, without either."""

import asyncio
import logging
import random
from itertools import islice, pairwise
from types import SimpleNamespace

import pytest
from bokeh.document import Document
from panel.io import document as panel_document
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError

from app.places import demos
from app.wire import leaving_is_no_error, leaving_is_no_news, send_what_panel_forgets
from app.words import degrees
from benchmarks.bench_sessions import clicks


@pytest.mark.parametrize("error", [WebSocketClosedError(), StreamClosedError()])
def test_a_visitor_who_leaves_while_something_is_sent_is_no_error(error, caplog):
    async def leave():
        asyncio.get_running_loop().set_exception_handler(leaving_is_no_error)

        async def write():
            raise error

        asyncio.ensure_future(write())  # noqa: RUF006 -- forgotten on purpose, as Panel does
        await asyncio.sleep(0.01)

    with caplog.at_level(logging.INFO):
        asyncio.run(leave())
    assert not caplog.records


def test_every_other_error_of_a_forgotten_task_is_reported(caplog):
    async def fail():
        asyncio.get_running_loop().set_exception_handler(leaving_is_no_error)

        async def divide():
            return 1 / 0

        asyncio.ensure_future(divide())  # noqa: RUF006
        await asyncio.sleep(0.01)

    asyncio.run(fail())
    assert "never retrieved" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("said", "news"),
    [
        ("Failed sending message as connection was closed", False),
        ("Refusing websocket connection from Origin %r", True),
    ],
)
def test_what_nobody_waited_for_is_not_warned_of_but_everything_else_is(said, news):
    leaving_is_no_news()
    bokeh = logging.getLogger("bokeh.server.views.ws")
    record = bokeh.makeRecord(bokeh.name, logging.WARNING, "ws.py", 1, said, (), None)
    assert bool(bokeh.filter(record)) is news


class Browser:
    """One end of a connection, whose writes end when the test says so."""

    def __init__(self):
        self._socket = self
        self.write_lock = SimpleNamespace(_block=SimpleNamespace(_value=1))
        self.protocol = SimpleNamespace(create=lambda _, events: events)
        self.got, self.writes = [], []

    @staticmethod
    def take(connection, msg):
        connection.got += msg
        connection.writes.append(asyncio.get_running_loop().create_future())
        return connection.writes[-1:]


def test_a_change_that_comes_while_another_is_written_reaches_the_browser(monkeypatch):
    monkeypatch.setitem(panel_document.extra_socket_handlers, Browser, Browser.take)
    send_what_panel_forgets()
    document, browser = Document(), Browser()

    async def change_twice():
        panel_document.schedule_write_events(document, [browser], ["first"])
        await asyncio.sleep(0)
        assert browser.got == ["first"]
        browser.writes[0].set_result(None)
        panel_document.schedule_write_events(document, [browser], ["second"])
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(change_twice())
    assert browser.got == ["first", "second"]


class Still(random.Random):
    """Chance that moves by less than the line at the bottom can say, most of the time."""

    def uniform(self, a, b):
        return a + (b - a) * (0.5 if self.random() < 0.9 else 0.6)


@pytest.mark.parametrize("chance", [Still(1), random.Random(0)])
def test_no_click_of_the_benchmark_reads_like_the_one_before_and_all_lie_in_the_demo(chance):
    west, south, east, north = demos()[0].region.bounds
    found = list(islice(clicks(chance), 40))
    words = [degrees(*each) for each in found]
    assert all(before != after for before, after in pairwise(words))
    assert all(west <= lon <= east and south <= lat <= north for lon, lat in found)
