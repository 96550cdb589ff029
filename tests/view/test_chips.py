import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_stack import stack

from skysense import view
from skysense.errors import AnalysisError
from skysense.view.paint import colours

X0, Y0 = 500_000.0, 5_630_000.0


def cells(*places, region="place"):
    rows = [
        {"prototype": p, "rank": r, "region": region, "x": X0 + x, "y": Y0 - y, "strength": 1.0}
        for p, r, x, y in places
    ]
    return pd.DataFrame(rows)


def pixels(chips):
    return np.asarray(Image.open(io.BytesIO(chips.png)))


@pytest.fixture(scope="module")
def s2():
    return stack()["s2"]


def test_a_chip_is_the_clearest_date_around_its_cell(s2):
    made = view.chips(s2, cells((0, 0, 55, 35)), side=40)
    whole = colours(view.true_colour_field(s2, "2018-06-01"))
    assert made.pixels == 4
    np.testing.assert_array_equal(pixels(made), whole[2:6, 4:8])


def test_beyond_the_edge_a_chip_is_transparent(s2):
    made = pixels(view.chips(s2, cells((0, 0, 5, 5)), side=40))
    assert (made[:2, :, 3] == 0).any()
    assert (made[2:, 2:, 3] == 255).all()


def test_each_prototype_has_a_row_with_its_strongest_example_first(s2):
    found = cells((3, 1, 25, 25), (3, 0, 85, 45), (1, 0, 45, 45))
    made = view.chips(s2, found, side=20)
    assert made.prototypes == (1, 3)
    assert made.counts == (1, 2)
    sheet = pixels(made)
    assert sheet.shape == (4, 4, 4)
    assert (sheet[:2, 2:, 3] == 0).all()
    whole = colours(view.true_colour_field(s2))
    np.testing.assert_array_equal(sheet[2:, :2], whole[4:6, 8:10])


def test_examples_come_from_the_images_of_their_own_place(s2):
    both = pd.concat([cells((0, 0, 55, 35), region="a"), cells((1, 0, 55, 35), region="b")])
    made = view.chips({"b": s2}, both, side=40)
    assert made.prototypes == (1,)


def test_a_notebook_shows_the_sheet_as_it_is(s2):
    made = view.chips(s2, cells((0, 0, 55, 35)))
    assert made._repr_png_() == made.png


@pytest.mark.parametrize(
    ("images", "found", "words"),
    [
        ({}, cells((0, 0, 5, 5)), "None of"),
        ("x", cells((0, 0, 5, 5)), "sensor"),
        (None, [], "examples"),
    ],
)
def test_what_has_no_chips_is_refused(images, found, words):
    with pytest.raises(AnalysisError, match=words):
        view.chips(images, found)
