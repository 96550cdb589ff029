import re
from pathlib import Path

import pytest

from app.places import demos, recipes_in, typed_region
from skysense.errors import RecipeError, RegionError

YEAR = ("2023-01-01", "2023-12-31")


def test_two_numbers_are_a_point_with_a_square_around_it():
    region = typed_region(" 3.02, 50.81 ", 640, YEAR, "here")
    assert region.centre == pytest.approx((3.02, 50.81), abs=1e-4)
    assert region.size[1] == pytest.approx(640, rel=0.02)
    assert region.name == "here"


def test_four_numbers_are_a_rectangle():
    assert typed_region("3 50 3.02 50.01", 640, YEAR, "").bounds == (3.0, 50.0, 3.02, 50.01)


def test_geojson_may_be_pasted():
    text = (
        '{"type": "Polygon", "coordinates": [[[3, 50], [3.02, 50], [3.02, 50.01], [3, 50.01], '
        "[3, 50]]]}"
    )
    assert typed_region(text, 640, YEAR, "pasted").bounds == (3.0, 50.0, 3.02, 50.01)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not a place"),
        ("Ghent", "not a place"),
        ("<script>alert(1)</script>", "not a place"),
        ("1, 2, 3", "neither a point"),
        ("50.81, 95", "swap"),
        ("nan, nan", "finite"),
        ("0 0 5 5", "km"),
        ("{", "JSON"),
        ('{"type": "Point", "coordinates": [3, 50]}', "Polygon"),
    ],
)
def test_what_is_not_a_place_is_refused_with_a_sentence(text, part):
    with pytest.raises(RegionError, match=part):
        typed_region(text, 640, YEAR, "")


def test_a_place_too_large_for_the_screen_is_refused_with_its_area():
    with pytest.raises(RegionError, match="km²"):
        typed_region("3 50 3.9 50.6", 640, YEAR, "")


def test_the_demos_need_no_network_and_have_names_of_their_own():
    assert all(place.local for place in demos())
    assert len({place.key for place in demos()}) == len(demos()) >= 2


def test_each_scene_of_a_recipe_is_a_place(tmp_path):
    recipe = (Path(__file__).parents[1] / "recipes" / "us-newyork-hro.toml").read_text()
    (tmp_path / "tiles.toml").write_text(re.sub(r"(?m)^root = .*$", 'root = "."', recipe))
    places = recipes_in(tmp_path)
    assert len(places) > 20
    assert len({place.scene for place in places}) == len(places)


def test_a_recipe_that_cannot_be_read_is_listed_so_that_opening_it_says_why(tmp_path):
    (tmp_path / "broken.toml").write_text("title = ")
    (place,) = recipes_in(tmp_path)
    assert place.name == "broken"


def test_a_missing_folder_of_recipes_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="no folder"):
        recipes_in(tmp_path / "nowhere")
