import io
import re

import numpy as np
import pytest
from blobs import blobs, fields
from PIL import Image

from skysense import view
from skysense.analysis import assign, cluster, fit_pca, fit_prototypes
from skysense.errors import AnalysisError
from skysense.view.hues import PALETTE
from skysense.view.paint import colours
from skysense.view.sidebyside import bar_length


@pytest.fixture(scope="module")
def places():
    return {"large": blobs(fields(64, 4, 8)), "small": blobs(fields(32, 4, 8), seed=3)}


@pytest.fixture(scope="module")
def maps(places):
    bank = fit_prototypes(places, 6)
    return {name: assign(each, bank) for name, each in places.items()}


def sizes(markup):
    return [(int(w), int(h)) for w, h in re.findall(r'width="(\d+)" height="(\d+)"', markup)]


def test_a_place_twice_as_large_is_drawn_twice_as_large(maps):
    (w1, h1), (w2, h2) = sizes(view.multiples(maps).html(900, 500))
    assert w1 == pytest.approx(2 * w2, abs=1)
    assert h1 == pytest.approx(2 * h2, abs=1)


def test_a_prototype_has_the_same_colour_in_every_place(maps):
    made = view.multiples(maps).pictures
    for picture, field in zip(made, maps.values(), strict=True):
        drawn = np.asarray(Image.open(io.BytesIO(picture.png)))
        np.testing.assert_array_equal(drawn, colours(field))


def test_all_of_them_fit_into_their_frame(places):
    basis = fit_pca(places)
    fields_of = {f"{name} {i}": basis(each) for i in range(3) for name, each in places.items()}
    made = view.multiples(fields_of)
    assert made.columns() == 3
    wide, tall = zip(*sizes(made.html(800, 420)), strict=True)
    assert max(wide) * 3 <= 800
    assert max(tall) * 2 <= 420


def test_names_are_text_and_wear_the_colours_of_their_places(maps):
    evil = "<img src=x onerror=alert(1)>"
    made = view.multiples({evil: maps["large"], "b": maps["small"]}, {"b": "#123456"})
    assert [each.colour for each in made.pictures] == [PALETTE[0], "#123456"]
    assert evil not in made._repr_html_()
    assert "&lt;img" in made._repr_html_()


def test_made_up_scenes_say_so_beside_their_name(maps):
    assert "SYNTHETIC scene" in view.multiples(maps).html()


def test_clusters_found_place_by_place_are_not_put_side_by_side(places):
    found = {name: cluster(each, n=3 + i) for i, (name, each) in enumerate(places.items())}
    with pytest.raises(AnalysisError, match="do not mean the same"):
        view.multiples(found)


@pytest.mark.parametrize(("most", "length"), [(640, 500), (1000, 1000), (2400, 2000), (0.3, 1)])
def test_a_scale_bar_is_a_round_number(most, length):
    assert bar_length(most) == length


@pytest.mark.parametrize("fields_of", [{}, None, []])
def test_no_maps_are_refused(fields_of):
    with pytest.raises(AnalysisError, match="no maps"):
        view.multiples(fields_of)
