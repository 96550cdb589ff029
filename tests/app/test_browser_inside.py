"""Inside SkySense V2 in Chromium, on real places: the knob, experts, queries, and V1 beside it."""

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect

from tests.app.browsing import SLOW
from tests.app.chromium import IN_CHROMIUM

pytestmark = [*IN_CHROMIUM, pytest.mark.usefixtures("shared")]


def knob(visitor):
    return visitor.page.locator("label:visible", has_text="HR tokens")


def cost(visitor):
    return visitor.page.locator(".line:visible", has_text="per window").first


def encode(visitor):
    visitor.press("Encode")
    stop = visitor.page.locator("button:visible", has_text="Cancel")
    stop.wait_for(state="hidden", timeout=4 * SLOW)
    visitor.layer()
    visitor.reads("UNTRAINED")


def row(visitor, name):
    named = visitor.page.locator(".name", has_text=re.compile(f"^{name}$"))
    return visitor.page.locator("button.item:visible").filter(has=named)


def test_the_knob_of_tokens_is_there_for_v2_with_high_resolution_and_costs_time(visitor):
    visitor.choose(0, "us-vegas-spacenet")
    visitor.reads("1 of 1 used")
    expect(knob(visitor)).to_have_count(0)
    visitor.choose(1, "SkySense V2 tiny, untrained")
    expect(knob(visitor)).to_have_count(1)
    expect(cost(visitor)).to_contain_text("window")
    before = cost(visitor).inner_text()
    visitor.choose(3, "1.25 m")
    expect(cost(visitor)).not_to_have_text(before)
    visitor.choose(3, "5 m")
    visitor.choose(2, "40 m")
    visitor.turn_to("Inside")
    encode(visitor)
    shown = visitor.layer()
    visitor.press("Map experts")
    expect(row(visitor, "expert 4")).to_be_visible(timeout=2 * SLOW)
    visitor.layer(other_than=shown)
    visitor.choose(1, "SkySense tiny")
    expect(knob(visitor)).to_have_count(0)


def test_the_header_fits_a_page_as_narrow_as_a_cell_of_a_notebook(visitor):
    visitor.page.set_viewport_size({"width": 916, "height": 700})
    visitor.choose(0, "us-vegas-spacenet")
    visitor.choose(1, "SkySense V2 tiny, untrained")
    expect(knob(visitor)).to_have_count(1)
    last = visitor.page.locator("button:visible", has_text=re.compile("More$")).bounding_box()
    assert last["x"] + last["width"] <= 916


def test_experts_queries_and_what_v1_does_not_share_are_drawn_of_a_real_place(visitor):
    visitor.choose(0, "be-flanders-parcels")
    visitor.reads("20 of 118 used")
    visitor.turn_to("Inside")
    visitor.reads("Encode the place first")
    visitor.choose(1, "SkySense V2 tiny, untrained")
    encode(visitor)
    features = visitor.layer()
    visitor.press("Map experts")
    expect(row(visitor, "expert 4")).to_be_visible(timeout=2 * SLOW)
    experts = visitor.layer(other_than=features)
    visitor.click_map(0.5, 0.5)
    visitor.reads(r"expert \d of 4 on \d+% of Sentinel-2 dates")

    visitor.press("Queries")
    visitor.press("Ask the queries")
    expect(row(visitor, "query 3")).to_be_visible()
    most = visitor.layer(other_than=experts)
    row(visitor, "query 3").click()
    visitor.layer(other_than=most)
    visitor.reads("share of the looks that query 3 has")

    visitor.press("V1 and V2")
    visitor.press("Compare with SkySense tiny")
    visitor.reads("Nearest cells in common")
    visitor.reads(r"the two name \d+% alike")
    visitor.reads("neighbours not shared with skysense-tiny")
    visitor.page.get_by_role("button", name="Experts", exact=True).click()
    expect(row(visitor, "expert 1")).to_be_visible()
    row(visitor, "expert 1").click()
    visitor.layer(other_than=most)


def test_v1_says_what_to_choose_to_see_experts(visitor):
    visitor.press("Encode")
    visitor.reads("cells; lasso some")
    visitor.turn_to("Inside")
    visitor.reads("Choose a SkySense V2 encoder above and press Encode")
    expect(visitor.page.locator("button:visible", has_text="Map prompts")).to_be_disabled()
