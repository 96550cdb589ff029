"""Keeping in Chromium: the menu, a reload, and a server that is killed and started again."""

import re
import signal
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect

from tests.app.browsing import SLOW, Server, Visitor, served
from tests.app.chromium import IN_CHROMIUM

SMALL = str(Path(__file__).parent / "serve_small.py")

pytestmark = IN_CHROMIUM


def keep(visitor, title):
    visitor.press("Keep")
    visitor.page.get_by_role("menuitem", name=re.compile(re.escape(title))).click()


def test_a_session_is_downloaded_and_opened_again(page, small, tmp_path):
    visitor = Visitor(page, small).arrive()
    keep(visitor, "Save session")
    with page.expect_download() as waiting:
        page.locator("a.download").click()
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    page.keyboard.press("Escape")
    visitor.press("Clusters")
    keep(visitor, "Open session")
    page.locator("input[type=file]").last.set_input_files(path)
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Features", exact=True).first).to_have_attribute(
        "aria-pressed", "true"
    )


def test_a_link_shows_the_same_place_and_layer(page, small):
    visitor = Visitor(page, small).arrive()
    visitor.press("Clusters")
    keep(visitor, "Copy link")
    area = page.get_by_label("Text to copy")
    area.wait_for()
    link = area.input_value()
    assert link.startswith(small + "?")
    Visitor(page, link).arrive()
    expect(page.get_by_role("button", name="Clusters", exact=True).first).to_have_attribute(
        "aria-pressed", "true"
    )


def test_a_hostile_link_gives_a_sentence(page, small):
    visitor = Visitor(page, f"{small}?layer=<script>document.title='owned'</script>").arrive()
    visitor.reads("cannot be followed")
    assert page.title() == "SkySense Explorer"


def test_a_killed_server_started_again_opens_the_same_screen(page, tmp_path):
    kept = tmp_path / "sessions"
    first = Server([SMALL, "", "", str(kept)])
    try:
        visitor = Visitor(page, first.address()).arrive()
        visitor.press("Clusters")
        visitor.idle()
        token = re.search(r"session=([\w-]{16})", page.url)[1]
        for _ in range(SLOW // 200):
            path = kept / f"{token}.json"
            if path.is_file() and '"top": "groups"' in path.read_text():
                break
            page.wait_for_timeout(200)
    finally:
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(20)
    with served(SMALL, "", "", str(kept)) as second:
        Visitor(page, f"{second.address()}?session={token}").arrive()
        expect(page.get_by_role("button", name="Clusters", exact=True).first).to_have_attribute(
            "aria-pressed", "true"
        )
        assert token in page.url
