import re

import pytest

from app.main import checked_prefix, checked_tiles
from app.routes import find_asset
from app.state import EMPTY, failed, working
from app.words import safe, status_markup, swatches
from skysense.errors import SkySenseError

EVIL = '<img src=x onerror="alert(1)">'


@pytest.mark.parametrize(
    "markup",
    [
        safe(EVIL),
        status_markup(failed(EVIL), ""),
        status_markup(working(EVIL, 0.5), ""),
        status_markup(EMPTY, EVIL),
        swatches([(EVIL, "#ff0000")]),
        swatches([("ok", "#ff0000")] * 12 + [(EVIL, '"><script>')]),
    ],
)
def test_no_text_can_become_markup(markup):
    assert "<img" not in markup
    assert "<script" not in markup


def test_of_many_numbered_colours_the_ends_are_named_and_the_mouse_names_all():
    markup = swatches([(f"prototype {n}", "#123456") for n in range(1, 65)])
    assert markup.count('<span class="swatch"') == 64
    assert re.findall(r'class="name"[^>]*>([^<]+)<', markup) == ["prototype 1", "prototype 64"]
    assert 'title="prototype 30"' in markup


def test_every_class_of_ones_own_is_named():
    names = [f"crop {letter}" for letter in "abcdefghijkl"]
    markup = swatches([(name, "#123456") for name in names])
    assert re.findall(r'class="name"[^>]*>([^<]+)<', markup) == names


def test_a_ready_pane_says_nothing():
    assert status_markup(working("x"), "")
    assert status_markup(EMPTY, "") == ""


def test_the_widgets_own_code_is_found():
    assert find_asset("jupyter-leaflet@^0.20/dist/index").name == "index.js"


@pytest.mark.parametrize(
    "path",
    [
        "jupyter-leaflet@1/dist/../../../../etc/passwd",
        "jupyter-leaflet@1/dist/..",
        "jupyter-matplotlib@1/dist/index",
        "../jupyter-leaflet@1/dist/index",
        "jupyter-leaflet@1/dist/nothing",
        "/etc/passwd",
        "",
    ],
)
def test_nothing_else_is_served(path):
    assert find_asset(path) is None


@pytest.mark.parametrize(
    ("given", "meant"), [("", ""), ("/", ""), ("sky", "/sky"), ("/tools/sky-1/", "/tools/sky-1")]
)
def test_a_prefix_may_be_written_in_any_way(given, meant):
    assert checked_prefix(given) == meant


@pytest.mark.parametrize("given", ["a b", "/x//y", 'x"y', "x?y"])
def test_a_prefix_that_is_no_path_is_refused(given):
    with pytest.raises(SkySenseError, match="prefix"):
        checked_prefix(given)


@pytest.mark.parametrize("given", ["tiles.example", "https://tiles.example/{z}/{x}.png"])
def test_an_address_without_tiles_is_refused(given):
    with pytest.raises(SkySenseError, match="tiles"):
        checked_tiles(given)
