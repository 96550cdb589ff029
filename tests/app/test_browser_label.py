"""Labelling, searching and the provenance of a cell as a visitor does them, in Chromium."""

import json
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect

from tests.app.chromium import IN_CHROMIUM

ROOT = Path(__file__).parents[2]

pytestmark = IN_CHROMIUM


def row(visitor, number):
    return visitor.page.get_by_role("option").nth(number)


def mark_two_classes(visitor):
    visitor.turn_to("Label")
    visitor.reads("Class A")
    visitor.click_map(0.42, 0.35)
    expect(row(visitor, 0)).to_contain_text("1 point")
    row(visitor, 1).click()
    expect(row(visitor, 1)).to_have_attribute("aria-selected", "true")
    visitor.click_map(0.6, 0.7)
    expect(row(visitor, 1)).to_contain_text("km²")


def press_icon(visitor, sentence):
    visitor.page.get_by_role("button", name=sentence).click()


def test_marks_are_drawn_erased_undone_and_done_again(visitor):
    mark_two_classes(visitor)
    visitor.page.get_by_role("button", name="Area", exact=True).click()
    visitor.page.locator("a.leaflet-draw-draw-polygon").click()
    for place in ((0.5, 0.4), (0.56, 0.4), (0.56, 0.5), (0.5, 0.5), (0.5, 0.4)):
        visitor.click_map(*place)
        visitor.page.wait_for_timeout(300)  # slower than a double click
    expect(row(visitor, 1)).to_contain_text("1 point, 1 area")
    press_icon(visitor, "Take back the latest change.")
    expect(row(visitor, 1)).not_to_contain_text("area")
    press_icon(visitor, "Do again what was taken back.")
    expect(row(visitor, 1)).to_contain_text("1 point, 1 area")
    visitor.page.get_by_role("button", name="Erase", exact=True).click()
    visitor.idle()
    visitor.click_map(0.53, 0.45)
    expect(row(visitor, 1)).not_to_contain_text("area")


def test_saved_labels_opened_again_restore_the_classes(visitor, tmp_path):
    mark_two_classes(visitor)
    with visitor.page.expect_download() as waiting:
        visitor.press("Labels")
    saved = tmp_path / "labels.geojson"
    waiting.value.save_as(saved)
    written = [each["properties"]["class"] for each in json.loads(saved.read_text())["features"]]
    assert written == ["Class A", "Class B"]
    press_icon(visitor, "Take away all marks")
    expect(row(visitor, 0)).to_contain_text("no marks yet")
    visitor.page.locator("input[type=file]").set_input_files(saved)
    visitor.reads("labels.geojson")
    visitor.press("Open")
    for number in (0, 1):
        expect(row(visitor, number)).to_contain_text("1 point")


def test_a_search_finds_counts_and_becomes_a_class(visitor):
    visitor.turn_to("Search")
    visitor.reads("Click a place on the map")
    visitor.click_map(0.42, 0.35)
    visitor.reads(r"[\d,]+ cells")
    visitor.page.get_by_role("button", name="− not like this").click()
    visitor.idle()
    visitor.click_map(0.6, 0.7)
    visitor.reads("Above 0 a place is nearer")
    visitor.press("Make it a class")
    visitor.turn_to("Label")
    expect(row(visitor, 0)).to_contain_text("Found alike")


def test_the_drawer_tells_what_the_clicked_cell_was_made_of(visitor):
    visitor.click_map(0.5, 0.5)
    visitor.reads("group")
    visitor.page.get_by_text("usable on").first.click()  # in the line at the bottom
    visitor.reads("This cell")
    visitor.reads(r"observations of \d+ dates")
    visitor.reads("seen on")
    visitor.reads("Nearest seam")
