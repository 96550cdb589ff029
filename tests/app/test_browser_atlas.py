"""Several places in Chromium: chips, the prototype atlas, comparing, and what there is."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect

from tests.app.chromium import IN_CHROMIUM

ROOT = Path(__file__).parents[2]
EVIL = "<img src=x onerror=\"document.title='owned'\">"

pytestmark = IN_CHROMIUM


def farms(folder, *names):
    """A GeoJSON file of small squares, one kilometre apart."""
    shapes = []
    for i, name in enumerate(names):
        west = 3.05 + 0.02 * i
        ring = [[west, 50.8], [west + 0.004, 50.8], [west + 0.004, 50.8025], [west, 50.8025]]
        shapes.append(
            {"type": "Feature", "properties": {"name": name},
             "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}}
        )  # fmt: skip
    path = folder / "farms.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": shapes}))
    return path


def chips(visitor):
    return visitor.page.get_by_role("list", name="Places in use").get_by_role("listitem")


def standing(visitor, name):
    chip = chips(visitor).filter(has_text=name)
    return chip.locator(".dot").get_attribute("class")


def encode(visitor, name):
    visitor.press("Encode")
    chip = chips(visitor).filter(has_text=name)
    expect(chip.locator(".dot.encoded")).to_be_visible()
    visitor.idle()


@pytest.fixture
def farmer(visitor, tmp_path):
    """Somebody who uploaded two farms, one with a hostile name, and encoded both."""
    visitor.choose(1, "Spectral baseline")
    visitor.press("Region")
    upload = visitor.page.locator(".MuiDialog-root input[type=file]")
    upload.set_input_files(farms(tmp_path, "North", EVIL))
    expect(chips(visitor)).to_have_count(3)
    visitor.reads("20 of .* used")
    encode(visitor, "North")
    chips(visitor).nth(2).get_by_role("button").first.click()
    visitor.idle()
    encode(visitor, "img src")
    return visitor


def test_outlines_of_a_file_become_chips_that_open_and_close(farmer):
    assert "encoded" in standing(farmer, "North")
    chips(farmer).filter(has_text="North").get_by_role("button").first.click()
    expect(chips(farmer).filter(has_text="North").locator("[aria-pressed=true]")).to_be_visible()
    farmer.page.get_by_role("button", name="Close North").click()
    expect(chips(farmer)).to_have_count(2)
    expect(farmer.page.locator("[aria-label='Places in use'] .active")).to_have_count(1)
    tall, wide = farmer.page.evaluate(
        "() => [document.documentElement.scrollHeight, document.documentElement.scrollWidth]"
    )
    assert (tall, wide) == (768, 1366)


def test_a_prototype_unfolds_is_named_kept_and_loaded(farmer, tmp_path):
    farmer.turn_to("Prototypes")
    farmer.press("Prototypes")
    farmer.reads("prototypes fitted on .* assigned to the same bank")
    rows = farmer.page.locator("button.item")
    expect(rows.first.locator(".chip").first).to_be_visible()
    expect(rows.first.locator(".bar")).to_have_count(3)  # a small one for each place
    farmer.idle()
    rows.first.click()
    expect(farmer.page.locator(".more .chip").first).to_be_visible()
    expect(farmer.pictures).to_have_count(3)  # the selection lies on top
    field = farmer.page.get_by_label("Name of the prototype")
    field.fill(EVIL[:40])
    field.press("Enter")
    expect(rows.filter(has_text="<img src=x")).to_have_count(1)
    with farmer.page.expect_download() as download:
        farmer.press("Keep bank")
    kept = tmp_path / "bank.json"
    download.value.save_as(kept)
    found = json.loads(kept.read_text())
    assert EVIL[:40] in [each["name"] for each in found["prototypes"]]

    farmer.press("Fit on all places")
    farmer.reads("fitted on .*North and <img")
    expect(rows.filter(has_text="<img src=x")).to_have_count(0)
    upload = farmer.page.locator("input[type=file]").first
    upload.set_input_files(kept)
    expect(rows.filter(has_text="<img src=x")).to_have_count(1)

    other = tmp_path / "other.json"
    found["attrs"]["encoder"] = "skysense-v1"
    other.write_text(json.dumps(found))
    upload.set_input_files(other)
    farmer.reads("Embed both with the same encoder")
    expect(rows.filter(has_text="<img src=x")).to_have_count(1)


def test_a_nearest_prototype_is_one_click_away(farmer):
    farmer.turn_to("Prototypes")
    farmer.page.locator("button.item").first.click()
    near = farmer.page.locator(".near button").first
    name = near.locator(".name").inner_text()
    near.click()
    active = farmer.page.locator("button.item.active .name")
    expect(active).to_have_text(name)


def test_two_places_are_compared_and_the_payer_is_shown_on_the_map(farmer):
    chips(farmer).filter(has_text="North").get_by_role("button").first.click()
    farmer.layer()
    farmer.turn_to("Compare")
    farmer.press("Compare")
    farmer.reads("cannot be told apart|are different|not clearly different")
    farmer.reads("Which prototypes pay")
    before = farmer.pictures.count()
    payer = farmer.page.get_by_role("option").filter(has_text="more in North").first
    payer.click()
    expect(farmer.pictures).to_have_count(before + 1)
    farmer.press("Another year")
    farmer.reads("no two years share enough dates")
    farmer.press("Side by side")
    maps = farmer.page.locator(".MuiDialog-root figure img")
    expect(maps).to_have_count(3)
    for i in range(3):
        maps.nth(i).evaluate("picture => picture.decode()")
    farmer.reads("the same for all")


def test_what_is_there_is_told_before_anything_is_opened(visitor):
    visitor.press("Region")
    visitor.page.get_by_role("textbox", name="Where").fill("3.02, 50.81")
    visitor.press(r"What is there\?")
    visitor.reads(r"Sentinel-2: \d+ dates, .* would be used")
    expect(visitor.page.locator(".MuiDialog-root .bk-Figure")).to_be_visible()
    assert chips(visitor).count() == 1


def test_flanders_and_hesbaye_with_their_other_years(visitor, shared):
    visitor.choose(1, "Spectral baseline")
    visitor.choose(2, "20 m")
    for name, dates in (("be-flanders-parcels", "20 of 118"), ("be-hesbaye-monthly", "19 of 20")):
        visitor.choose(0, name)
        visitor.reads(f"{dates} used")
        visitor.reads(r"Sentinel-2 \+ 10 Sentinel-1 dates, .* pixels, .* GB")
        encode(visitor, name)
    visitor.turn_to("Compare")
    visitor.press("Compare")
    visitor.reads(r"Season mismatch: \d+ days")
    visitor.reads("only one of|Only one of .* has s2:nir08")
    visitor.press("Another year")
    visitor.reads("Both are checked against another year")
    expect(
        visitor.page.get_by_text(re.compile("fitted on be-flanders-parcels")).first
    ).to_be_visible()
