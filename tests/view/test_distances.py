import holoviews as hv
import numpy as np
import pytest
from blobs import blobs, fields

from skysense import view
from skysense.analysis import compare, fit_prototypes
from skysense.errors import AnalysisError
from skysense.view.distances import distance_table, payers_table
from skysense.view.hues import PALETTE, UNSELECTED


@pytest.fixture(scope="module")
def places():
    return {
        "here": blobs(fields(64, 4, 8)),
        "there": blobs(fields(64, 3, 8) + 4, seed=2),
        "twin": blobs(fields(64, 4, 8, seed=6), seed=6),
    }


@pytest.fixture(scope="module")
def bank(places):
    return fit_prototypes(places, 8)


@pytest.fixture(scope="module")
def found(places, bank):
    return compare(places, bank, bootstrap=20)


@pytest.fixture(scope="module")
def years(places, bank):
    two = {"here 2018": places["here"], "here 2019": places["twin"]}
    return {"here": compare(two, bank, bootstrap=20)}


def plot_of(element):
    return hv.renderer("bokeh").get_plot(element).handles["plot"]


def test_every_control_stands_on_the_same_scale_as_the_distance(found, years):
    table = distance_table(found, ("here", "there"), years)
    assert list(table["what"]) == [
        "the two places", "here, 2018 and 2019", "both, shuffled", "here, halved", "there, halved",
    ]  # fmt: skip
    assert table["distance"][0] == float(found.distance.sel(region="here", other="there"))
    assert table["distance"][1] == float(years["here"].distance[0, 1])
    assert table["high"][3] == float(found.control.sel(region="here", bound="high"))
    assert set(table["colour"][1:]) == {UNSELECTED}
    plot = plot_of(view.comparison(found, pair=("here", "there"), years=years))
    assert plot.x_range.start == 0
    assert plot.x_range.end > table["high"].max()


def test_all_pairs_are_drawn_where_none_is_chosen(found):
    assert sum(" – " in what for what in distance_table(found)["what"]) == 3
    plot_of(view.comparison(found))


def test_payers_point_to_the_place_that_has_more_and_wear_their_colour(found):
    table = payers_table(found, "here", "there", 5)
    assert len(table) <= 5
    for row in table.to_dict("records"):
        assert row["colour"] == PALETTE[row["prototype"]]
    bars = view.payers(found, "here", "there", 5).get(0)
    for left, right, more in zip(bars["left"], bars["right"], bars["more_in"], strict=True):
        assert (right > 0) == (more == "there")
        assert (left < 0) == (more == "here")
    plot_of(view.payers(found, "here", "there"))


def test_the_bars_of_all_payers_are_as_long_as_the_distance(found):
    bars = view.payers(found, "here", "there", 8).get(0)
    assert np.sum(bars["right"] - bars["left"]) == pytest.approx(1)


@pytest.mark.parametrize("pair", [("here", "nowhere"), ("here", 5)])
def test_a_pair_that_was_not_compared_is_refused(found, pair):
    with pytest.raises(AnalysisError, match="was not compared"):
        distance_table(found, pair)
    with pytest.raises(AnalysisError, match="was not compared"):
        view.payers(found, *pair)
