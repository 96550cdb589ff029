"""A Chromium that may not leave this computer, and the hands of a visitor."""

import json
import re
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager

from playwright.sync_api import Page, expect

SLOW = 60_000
"""Longest wait for anything (ms): test machines are busy."""

expect.set_options(timeout=SLOW)


class Server:
    """A server in a process of its own, which prints its address when it is ready."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.errors, self._address = [], None
        threading.Thread(
            target=lambda: self.errors.extend(self.process.stderr), daemon=True
        ).start()

    def address(self):
        """Where it is; waits for it."""
        if self._address is None:
            line = self.process.stdout.readline()
            found = re.search(r"http://\S+", line)
            assert found, (line, "".join(self.errors[-20:]))
            self._address = found[0]
        return self._address


@contextmanager
def served(*command):
    """A server started with `python *command`."""
    server = Server(command)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(20)
    said = "".join(server.errors)
    assert "Traceback" not in said, said


def watched(page: Page) -> Page:
    """Record requests to other computers, which find none, and everything the console complains of."""
    page.set_default_timeout(SLOW)
    page.outside, page.complaints = [], []

    def ask(request):
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            page.outside.append(request.url)

    def join(socket):
        if not socket.url.startswith("ws://127.0.0.1:"):
            page.outside.append(socket.url)

    page.on("request", ask)
    page.on("websocket", join)
    page.on(
        "console",
        lambda message: page.complaints.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on(
        "response",
        lambda answer: page.complaints.append(answer.url) if answer.status >= 400 else None,
    )
    return page


class Visitor:
    """What a person does with the page, in their words."""

    def __init__(self, page: Page, url: str):
        self.page, self.url = page, url

    def arrive(self):
        self.page.goto(self.url)
        self.pictures.first.wait_for()
        self.page.locator("img.leaflet-tile-loaded").first.wait_for()
        self.idle()
        return self

    def idle(self):
        self.page.wait_for_function("() => Bokeh.documents[0].is_idle")
        self.page.wait_for_timeout(300)

    @property
    def pictures(self):
        """Pictures on the map: true colour, the layer on top, the selection."""
        return self.page.locator('img.leaflet-image-layer[src*="/overlay/"]')

    def addresses(self):
        return self.pictures.evaluate_all("all => all.map(each => each.getAttribute('src'))")

    def layer(self, other_than=None):
        """Address of the layer on top of the true colour, once it is drawn."""
        drawn = "picture => picture.decode().then(() => picture.getAttribute('src'), () => null)"
        for _ in range(SLOW // 200):
            shown = self.addresses()
            new = len(shown) > 1 and shown[1] != other_than
            # a picture that gives way to another one while it is decoded is refused: look again
            if new and self.pictures.nth(1).evaluate(drawn) == shown[1]:
                return shown[1]
            self.page.wait_for_timeout(200)
        raise AssertionError(f"no other layer than {other_than} is drawn among {self.addresses()}")

    def press(self, text):
        # the name of an icon stands before the text of its button
        self.page.locator("button:visible", has_text=re.compile(f"{text}$")).first.click()

    def turn_to(self, tab):
        self.page.locator(".bk-tab", has_text=tab).click()

    def choose(self, which, option):
        """One of the lists in the header: 0 place, 1 encoder, 2 resolution."""
        self.page.get_by_role("combobox").nth(which).click()
        self.page.get_by_role("menuitem", name=option, exact=True).click()
        self.page.wait_for_timeout(400)  # Panel reads a choice 50 ms late, a click at once

    def at(self, across, down):
        box = self.page.locator(".leaflet-container").bounding_box()
        return box["x"] + box["width"] * across, box["y"] + box["height"] * down

    def click_map(self, across, down):
        self.page.mouse.click(*self.at(across, down))

    def lasso(self, *corners):
        """In the scatter, in shares of its width and height."""
        box = self.page.locator(".bk-Figure").first.bounding_box()
        places = [(box["x"] + box["width"] * u, box["y"] + box["height"] * v) for u, v in corners]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in [*places[1:], places[0]]:
            self.page.mouse.move(*place, steps=6)
        self.page.mouse.up()

    def reads(self, text):
        expect(self.page.get_by_text(re.compile(text)).first).to_be_visible()

    def health(self):
        with urllib.request.urlopen(f"{self.url}health", timeout=30) as answer:
            return json.load(answer)
