"""The dashboard of a notebook cell: what it refuses, what it serves, and when it ends."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import skysense as sky
from app.notebook import checked_choices, explore, places_for
from skysense.errors import RegionError, SkySenseError, SourceError

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "tests" / "recipes" / "be-flanders-parcels.toml"
REGION = sky.Region.around(3.0239, 50.8160, 320, ("2023-01-01", "2023-12-31"), "<b>Near</b>")

KERNEL = """
import sys, time
import skysense as sky
region = sky.Region.around(3.0, 50.8, 320, ("2023-01-01", "2023-12-31"))
assert "panel" not in sys.modules
screen = sky.explore(region, source="synthetic", encoder="spectral")
assert "panel" not in sys.modules
print(screen.url, screen._process.pid, flush=True)
time.sleep(600)
"""


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status == 200
    except urllib.error.HTTPError:
        return False


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({"region": "Ghent"}, RegionError, "is not a Region"),
        ({"source": "synthetic"}, SourceError, "needs a region"),
        ({"region": REGION, "source": "auto", "recipe": RECIPE}, SourceError, "a recipe"),
        ({"recipe": "nowhere.toml"}, SourceError, "no recipe"),
        ({"encoder": 7}, SkySenseError, "not the name of an encoder"),
        ({"height": 10}, SkySenseError, "300 to 4000"),
        ({"height": True}, SkySenseError, "300 to 4000"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_anything_starts(given, error, sentence):
    with pytest.raises(error, match=sentence):
        explore(**given)


def test_the_region_that_was_asked_for_is_the_first_place_bit_by_bit():
    choices = json.loads(json.dumps(checked_choices(REGION, "synthetic", None, None)))
    first, *others = places_for(choices)
    assert first.region == REGION
    assert first.source == "synthetic"
    assert others


def test_a_recipe_gives_its_own_place_or_the_images_of_a_region():
    whole = places_for(checked_choices(None, None, None, RECIPE))[0]
    part = places_for(checked_choices(REGION, None, None, RECIPE))[0]
    assert whole.source == part.source == str(RECIPE)
    assert whole.region is None
    assert part.region == REGION


@pytest.mark.slow
def test_a_screen_is_a_frame_of_a_page_whose_address_nobody_guesses():
    screen = explore(REGION, source="synthetic", encoder="spectral", height=500)
    try:
        assert explore(REGION, source="synthetic", encoder="spectral", height=500) is screen
        assert answers(screen.url)
        host, secret = screen.url.rstrip("/").rsplit("/", 1)
        assert len(secret) >= 32
        assert not answers(f"{host}/")
        assert not answers(f"{host}/{secret[:-1]}/")
        frame = screen._repr_html_()
        assert f'src="{screen.url}"' in frame
        assert "height:500px" in frame
    finally:
        screen.close()
    assert not screen.alive
    assert repr(screen).endswith("closed>")


@pytest.mark.slow
def test_an_encoder_that_is_not_there_is_said_in_the_cell():
    with pytest.raises(SkySenseError, match="no encoder 'nope'"):
        explore(REGION, source="synthetic", encoder="nope")


@pytest.mark.slow
def test_the_page_ends_when_its_kernel_is_killed(tmp_path):
    (tmp_path / "app.py").write_text("raise SystemExit('this is not the dashboard')")
    kernel = subprocess.Popen(
        [sys.executable, "-P", "-c", KERNEL], stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        url, number = kernel.stdout.readline().split()
        assert answers(url)
    finally:
        kernel.kill()
        kernel.wait()
    for _ in range(200):
        try:
            answers(url)
        except OSError:
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"process {number} outlived its kernel")
