"""Time and doubt in Chromium: the date rail, what mattered, what changed, null models, a long run."""

import re
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect

from tests.app.browsing import SLOW
from tests.app.chromium import IN_CHROMIUM

ROOT = Path(__file__).parents[2]

pytestmark = IN_CHROMIUM


@pytest.fixture
def encoded(visitor):
    visitor.press("Encode")
    visitor.reads("cells; lasso some")
    visitor.layer()
    visitor.idle()
    return visitor


def said_by_the_rail(visitor):
    return visitor.page.locator(".line:visible", has_text="Sentinel-2:").first


def used(visitor):
    """How many Sentinel-2 dates are used."""
    return int(re.search(r"(\d+) of", said_by_the_rail(visitor).inner_text())[1])


def drag_the_rail(visitor, first, last):
    rail = visitor.page.locator(".bk-Figure").last.bounding_box()
    height = rail["y"] + 0.3 * rail["height"]
    ends = [rail["x"] + share * rail["width"] for share in (first, last)]
    visitor.page.mouse.move(ends[0], height)
    visitor.page.mouse.down()
    visitor.page.mouse.move(ends[1], height, steps=8)
    visitor.page.mouse.up()


def doubt(visitor, what):
    visitor.press("Doubt")
    visitor.page.get_by_role("menuitem", name=what).click()


def legend(visitor):
    return visitor.page.locator(".legend:visible").first


def test_a_drag_on_the_rail_chooses_the_period_and_a_button_lets_go_of_it(visitor):
    whole = used(visitor)
    drag_the_rail(visitor, 0.5, 0.62)
    button = visitor.page.locator("button:visible", has_text="Whole period")
    expect(button).to_be_visible()
    expect(said_by_the_rail(visitor)).not_to_contain_text(f"{whole} of")
    assert 0 < used(visitor) < whole
    button.click()
    expect(said_by_the_rail(visitor)).to_contain_text(f"{whole} of")
    expect(button).to_have_count(0)


def test_a_click_on_a_date_shows_its_image(visitor):
    visitor.press("True colour")
    expect(legend(visitor)).to_contain_text("2023-")
    before = legend(visitor).inner_text()
    rail = visitor.page.locator(".bk-Figure").last.bounding_box()
    visitor.page.mouse.click(rail["x"] + 0.8 * rail["width"], rail["y"] + 0.12 * rail["height"])
    expect(legend(visitor)).not_to_have_text(before)
    expect(legend(visitor)).to_contain_text("2023-")


def test_each_date_is_left_out_and_a_row_shows_where_it_mattered(encoded):
    encoded.turn_to("Time")
    encoded.press("Each date")
    rows = encoded.page.locator("button.item:visible")
    expect(rows.first).to_be_visible(timeout=2 * SLOW)
    assert rows.count() == used(encoded) + 10
    shown = encoded.addresses()[1]
    rows.first.click()
    encoded.layer(other_than=shown)
    expect(legend(encoded)).to_contain_text("sensitivity to Sentinel")


def test_what_changed_is_counted_beside_a_control_as_the_threshold_moves(encoded):
    encoded.turn_to("Time")
    encoded.press("What changed")
    encoded.press("Compare")
    found = encoded.page.get_by_text(re.compile("of the control, where nothing happened"))
    expect(found).to_be_visible(timeout=2 * SLOW)
    before = found.inner_text()
    slider = encoded.page.get_by_role("slider", name=re.compile("Counts as changed"))
    slider.focus()
    for _ in range(40):
        slider.press("ArrowRight")
    expect(found).not_to_have_text(before)
    encoded.press("Select these cells")
    expect(encoded.pictures).to_have_count(3)


@pytest.mark.parametrize("null", ["spectral baseline", "cells shuffled"])
def test_a_null_model_takes_the_place_of_a_layer_and_says_so(encoded, null):
    encoded.press("Clusters")
    encoded.reads("group 1")
    encoded.idle()
    real = encoded.layer()
    doubt(encoded, f"Null: {null}")
    expect(legend(encoded)).to_contain_text("NULL")
    drawn = encoded.layer(other_than=real)
    doubt(encoded, "As it is")
    expect(legend(encoded)).not_to_contain_text("NULL")
    encoded.layer(other_than=drawn)


def test_what_dates_disagree_on_fades_and_comes_back(encoded):
    real = encoded.layer()
    doubt(encoded, "Fade where dates disagree")
    expect(legend(encoded)).to_contain_text("faint", timeout=2 * SLOW)
    faded = encoded.layer(other_than=real)
    doubt(encoded, "Fade where dates disagree")
    expect(legend(encoded)).not_to_contain_text("faint")
    encoded.layer(other_than=faded)


def test_a_long_run_shows_what_it_has_and_keeps_it_when_it_is_stopped(visitor, shared):
    before = visitor.layer()
    visitor.choose(0, "dk-jutland")
    visitor.reads("1 of 1 used")
    visitor.choose(1, "SkySense tiny")
    visitor.press("Encode")
    visitor.reads("Features are drawn once the place is encoded")
    visitor.layer(other_than=before)
    visitor.press("Cancel")  # it is still going on
    visitor.reads("unfinished; Encode goes on")
    part = visitor.layer()
    visitor.press("Encode")
    expect(visitor.page.get_by_text("unfinished; Encode goes on")).to_have_count(0)
    visitor.reads("Three principal components")
    visitor.layer(other_than=part)
