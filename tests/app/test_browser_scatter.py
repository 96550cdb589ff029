"""Selecting, keys, focus and large type as a visitor meets them, in Chromium."""

import re
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect

from tests.app.browsing import SLOW, Visitor
from tests.app.chromium import IN_CHROMIUM

ROOT = Path(__file__).parents[2]
LEFT = ((0.2, 0.1), (0.45, 0.1), (0.45, 0.75), (0.2, 0.75))
RIGHT = ((0.45, 0.1), (0.85, 0.1), (0.85, 0.75), (0.45, 0.75))

UNNAMED = """() => {
  const found = []
  const walk = (root) => {
    for (const element of root.querySelectorAll('*')) {
      if (element.shadowRoot) walk(element.shadowRoot)
      const box = element.getBoundingClientRect()
      if (element.tabIndex < 0 || !box.width || element.ariaHidden === 'true') continue
      if (!element.matches('button, a[href], input, [tabindex], [role=button]')) continue
      const name = element.ariaLabel || element.title || element.innerText
        || element.getAttribute('aria-labelledby') || element.labels?.[0]?.innerText
      if (!name) found.push(element.outerHTML.slice(0, 200))
    }
  }
  walk(document)
  return found
}"""

FOCUSED = """() => {
  let element = document.activeElement
  while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement
  return element.innerText || element.ariaLabel || element.title || element.tagName
}"""

SIZE = "() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"

pytestmark = IN_CHROMIUM


def selected(visitor, other_than=-1):
    """How many cells are selected, once that is another number."""
    shown = visitor.page.get_by_text(re.compile(r"^[\d,]+ cells selected"))
    for _ in range(SLOW // 200):
        if shown.count():
            count = int(shown.first.inner_text().split()[0].replace(",", ""))
            if count != other_than:
                return count
        visitor.page.wait_for_timeout(200)
    raise AssertionError(f"no other number of selected cells than {other_than}")


def held(visitor, key, corners):
    visitor.page.keyboard.down(key)
    visitor.lasso(*corners)
    visitor.page.keyboard.up(key)


def test_shift_adds_alt_removes_and_escape_lets_go(visitor):
    visitor.lasso(*LEFT)
    left = selected(visitor)
    held(visitor, "Shift", RIGHT)
    both = selected(visitor, left)
    assert both > left
    held(visitor, "Alt", RIGHT)
    assert selected(visitor, both) == left
    visitor.lasso(*RIGHT)
    assert selected(visitor, left) == both - left
    visitor.page.keyboard.press("Escape")
    visitor.reads("cells; lasso some")


def test_buttons_add_and_remove_without_a_keyboard_on_the_map_too(visitor):
    visitor.lasso(*LEFT)
    left = selected(visitor)
    visitor.press("Add")
    visitor.press("Select")
    visitor.page.locator("a.leaflet-draw-draw-rectangle").click()
    visitor.page.mouse.move(*visitor.at(0.35, 0.3))
    visitor.page.mouse.down()
    visitor.page.mouse.move(*visitor.at(0.65, 0.8), steps=5)
    visitor.page.mouse.up()
    more = selected(visitor, left)
    assert more > left
    visitor.press("Remove")
    visitor.lasso(*LEFT)
    assert selected(visitor, more) < more


def test_a_click_on_a_point_shows_its_cell_on_the_map(visitor):
    visitor.press("Clusters")
    visitor.reads("group 1")
    box = visitor.page.locator(".bk-Figure").first.bounding_box()
    for across, down in ((0.62, 0.7), (0.66, 0.7), (0.7, 0.72), (0.58, 0.74), (0.7, 0.6)):
        visitor.page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])
        visitor.page.wait_for_timeout(600)
        if visitor.page.get_by_text(re.compile("° N")).count():
            break
    visitor.reads(r"° N .*prototype \d+")


def test_keys_answer_on_the_page_but_not_where_somebody_types(visitor):
    page = visitor.page
    page.keyboard.press("s")
    page.locator("button[aria-pressed=true]", has_text="Select").wait_for()
    page.keyboard.press("2")
    page.get_by_role("option", name=re.compile("Class B"), selected=True).wait_for()
    name = page.get_by_role("textbox", name="Class name")
    name.fill("")
    name.press_sequentially("is? 1")
    expect(page.locator("button[aria-pressed=true]", has_text="Label")).to_be_visible()
    expect(name).to_have_value("is? 1")
    assert page.get_by_role("dialog").count() == 0
    name.blur()
    visitor.click_map(0.5, 0.5)
    visitor.reads("1 point")
    page.keyboard.press("Control+z")
    expect(page.get_by_text("1 point")).to_have_count(0)


def test_the_guide_opens_with_its_key_fits_the_screen_and_closes_with_escape(visitor):
    visitor.lasso(*LEFT)
    before = selected(visitor)
    visitor.page.keyboard.press("?")
    dialog = visitor.page.get_by_role("dialog")
    expect(dialog.get_by_text("remove from the selection")).to_be_visible()
    box = dialog.bounding_box()
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= 768
    visitor.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert selected(visitor) == before


def test_every_control_is_reached_by_tab_has_a_name_and_tabs_turn_with_enter(visitor):
    page = visitor.page
    page.mouse.click(5, 5)
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED).strip())
        if reached[-1] == "True colour":  # one stop for a row of buttons, arrows within it
            page.keyboard.press("ArrowRight")
            reached.append(page.evaluate(FOCUSED).strip())
        if reached[-1] == "Prototypes" and "Scatter" in reached:
            break
    seen = " ".join(reached)
    for name in ("Region", "Encode", "More", "Features", "Opacity", "Inspect", "Scatter"):
        assert name in seen, reached
    page.keyboard.press("Enter")
    visitor.reads("How many")
    assert page.get_by_role("tab", name="Prototypes").get_attribute("aria-selected") == "true"
    assert page.evaluate(UNNAMED) == []


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1920, 1080)])
def test_large_type_fits_the_screen_and_comes_and_goes_without_a_new_session(
    page, small, width, height
):
    page.set_viewport_size({"width": width, "height": height})
    visitor = Visitor(page, f"{small}?type=large").arrive()
    assert page.evaluate(SIZE) == [width, height]
    encode = page.locator("button:visible", has_text=re.compile("Encode$")).first
    large = encode.evaluate("element => parseFloat(getComputedStyle(element).fontSize)")
    visitor.lasso(*LEFT)
    before = selected(visitor)
    visitor.press("More")
    page.get_by_role("menuitem", name="Normal type").click()
    page.wait_for_function("() => !document.documentElement.classList.contains('large')")
    page.wait_for_timeout(1000)  # sizes change gradually
    normal = encode.evaluate("element => parseFloat(getComputedStyle(element).fontSize)")
    assert large == pytest.approx(1.25 * normal, rel=1e-3)
    assert selected(visitor) == before
    assert page.evaluate(SIZE) == [width, height]
    assert page.complaints == []
