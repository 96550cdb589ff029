"""The dashboard as a visitor sees it, in Chromium, with every outside request refused."""

import re
import time
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
import numpy as np
from playwright.sync_api import expect
from scipy import ndimage

from skysense.sources.files_labels import read_labels
from tests.app.browsing import SLOW, Visitor, served, watched
from tests.app.chromium import IN_CHROMIUM

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "tests" / "recipes"
EVIL = "<img src=x onerror=\"document.title='owned'\">"

pytestmark = IN_CHROMIUM


@pytest.fixture(scope="module")
def demo():
    """Address of the dashboard as `make app` serves it, with recipes."""
    with served("-m", "app", "--port", "0", "--recipes", str(RECIPES)) as server:
        yield server.address()


@pytest.fixture
def shot(tmp_path_factory, request):
    folder = tmp_path_factory.getbasetemp() / "shots"
    folder.mkdir(exist_ok=True)
    return lambda visitor, name: visitor.page.screenshot(path=folder / f"{name}.png")


def test_the_demo_shows_a_picture_without_any_outside_request(demo, page, shot):
    visitor = Visitor(page, demo)
    begun = time.monotonic()
    visitor.arrive()
    print(f"first picture after {time.monotonic() - begun:.1f} s")  # noqa: T201 -- for the log
    visitor.reads("SYNTHETIC scene")
    visitor.reads("20 of 66 used")
    shot(visitor, "demo")
    assert page.complaints == []
    tall, wide = visitor.page.evaluate(
        "() => [document.documentElement.scrollHeight, document.documentElement.scrollWidth]"
    )
    assert (tall, wide) == (768, 1366), "the page does not fit a small laptop"
    box = visitor.page.locator(".leaflet-container").bounding_box()
    assert box["width"] > 800
    assert box["height"] > 400


def inside(visitor, field, name):
    """Where on the screen a cell lies that is surrounded by its own class."""
    same = field.values == field.attrs["categories"].index(name)
    deep = ndimage.distance_transform_edt(np.pad(same, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(deep.argmax(), deep.shape)
    box = visitor.page.locator("path.leaflet-interactive").first.bounding_box()
    across, down = (column + 0.5) / field.sizes["x"], (row + 0.5) / field.sizes["y"]
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def name_class(visitor, old, new):
    visitor.page.get_by_role("option", name=re.compile(old)).click()
    visitor.page.get_by_role("textbox", name="Class name").fill(new)
    visitor.page.get_by_role("button", name="Give the marked class this name").click()
    visitor.page.get_by_role("option", name=re.compile(re.escape(new[:30]))).wait_for()


def test_a_real_place_from_its_recipe_to_a_segmentation(demo, page, shot, shared):
    visitor = Visitor(page, demo).arrive()
    visitor.choose(0, "be-flanders-parcels")
    visitor.reads("20 of 118 used")
    drawn = None
    for encoder, title in (("skysense-tiny", "SkySense tiny"), ("spectral", "Spectral baseline")):
        visitor.choose(1, title)
        visitor.press("Encode")
        visitor.reads(rf"^.*{encoder} .*20 Sentinel-2 dates")
        drawn = visitor.layer(other_than=drawn)
        visitor.idle()
        shot(visitor, f"flanders-{encoder}")

    seen = {drawn}
    for layer, legend in (
        ("Prototypes", "prototype 1"),
        ("Clusters", "group 1"),
        ("Features", "Three principal"),
    ):
        visitor.press(layer)
        visitor.reads(legend)
        drawn = visitor.layer(other_than=drawn)
        seen.add(drawn)
        visitor.idle()
        shot(visitor, f"flanders-{layer.lower()}")
    assert len(seen) == 4

    visitor.click_map(0.45, 0.4)
    visitor.reads(r"prototype \d+ \d\.\d\d · group")
    visitor.reads("usable on")
    visitor.press("Similarity")
    visitor.reads("similarity to")
    drawn = visitor.layer(other_than=drawn)
    visitor.press("Features")
    drawn = visitor.layer(other_than=drawn)

    before = visitor.pictures.count()
    visitor.lasso((0.2, 0.1), (0.6, 0.1), (0.6, 0.85), (0.2, 0.85))
    visitor.reads("cells selected")
    expect(visitor.pictures).to_have_count(before + 1)
    shot(visitor, "flanders-lasso")

    crops = read_labels(RECIPES / "be-flanders-parcels.toml", "crop_type")
    visitor.turn_to("Label")
    name_class(visitor, "Class A", "maize")
    visitor.page.mouse.click(*inside(visitor, crops, "maize"))
    visitor.reads("1 point")
    name_class(visitor, "Class B", EVIL)
    name_class(visitor, "onerror", "grass")
    visitor.page.mouse.click(*inside(visitor, crops, "permanent grass"))
    visitor.page.locator("button[aria-pressed=true]", has_text="Classes").wait_for()
    visitor.layer(other_than=drawn)
    visitor.idle()
    shot(visitor, "flanders-segmentation")
    visitor.page.mouse.click(*inside(visitor, crops, "permanent grass"))
    visitor.reads("class grass")
    assert page.title() == "SkySense Explorer"
    assert page.complaints == []


def test_everything_works_under_a_prefix(small, visitor, shot):
    assert small.endswith("/tools/sky/")
    assert all(address.startswith("/tools/sky/overlay/") for address in visitor.addresses())
    visitor.press("Select")
    visitor.page.locator("a.leaflet-draw-draw-rectangle").click()
    visitor.page.mouse.move(*visitor.at(0.4, 0.4))
    visitor.page.mouse.down()
    visitor.page.mouse.move(*visitor.at(0.5, 0.6), steps=5)
    visitor.page.mouse.up()
    visitor.reads("cells selected")
    shot(visitor, "prefix")


def test_a_place_stays_whole_and_in_the_middle_when_the_page_gets_another_size(visitor):
    def fits():
        ground = visitor.page.locator(".leaflet-container").bounding_box()
        drawn = visitor.page.locator("path.leaflet-interactive").first.bounding_box()  # its outline
        return all(
            ground[size] / 3 < drawn[size] < ground[size]
            and abs(drawn[at] + drawn[size] / 2 - ground[at] - ground[size] / 2) < 8
            for at, size in (("x", "width"), ("y", "height"))
        )

    for wide, tall in ((1000, 600), (1366, 768)):
        visitor.page.set_viewport_size({"width": wide, "height": tall})
        for _ in range(SLOW // 200):
            if fits():
                break
            visitor.page.wait_for_timeout(200)
        assert fits(), (wide, tall)


def test_bad_places_are_answered_in_their_dialog_and_the_session_lives(visitor):
    assert visitor.page.get_by_role("combobox").first.inner_text() == "<b>Small</b>"
    visitor.press("Region")
    for typed, answer in (
        (EVIL, "is not a place"),
        ("50.8, 95", "swap"),
        ("0 0 5 5", "100 km"),
        ("", "“” is not a place"),
    ):
        visitor.page.get_by_role("textbox", name="Where").fill(typed)
        visitor.press("Open this place")
        visitor.reads(answer)
    visitor.page.keyboard.press("Escape")
    visitor.press("Clusters")
    visitor.reads("group 1")


def test_sessions_leave_no_widgets_behind(small, chromium):
    for _ in range(2):
        page = chromium.new_page()
        visitor = Visitor(watched(page), small).arrive()
        visitor.press("Label")  # changes the map's cursor, which is a widget too
        visitor.reads("Class A")
        assert visitor.health()["widgets"] > 0
        page.close()
    held = {"widgets": -1}
    for _ in range(60):
        held = visitor.health()
        if held == {"widgets": 0, "pictures": 0, "pages": 0}:
            break
        time.sleep(0.5)
    assert held == {"widgets": 0, "pictures": 0, "pages": 0}
