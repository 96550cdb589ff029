import dataclasses

import numpy as np
import pytest
import xarray as xr
from blobs import blobs, fields

from skysense.analysis import assign, compare, fit_prototypes, usage
from skysense.analysis.comparison import season_gap
from skysense.errors import AnalysisError


@pytest.fixture(scope="module")
def places():
    return {
        "here": blobs(fields(128, 4, 8)),
        "twin": blobs(fields(128, 4, 8, seed=6), seed=6),
        "elsewhere": blobs(fields(128, 4, 8) + 4, seed=2),
    }


@pytest.fixture(scope="module")
def bank(places):
    return fit_prototypes(places, 16)


@pytest.fixture(scope="module")
def found(places, bank):
    return compare(places, bank, bootstrap=60)


def test_a_place_is_at_no_distance_from_itself(places, bank):
    same = compare({"a": places["here"], "b": places["here"]}, bank, bootstrap=20)
    assert float(same.distance.sel(region="a", other="b")) == pytest.approx(0, abs=1e-9)
    assert float(same.low.sel(region="a", other="b")) == 0


def test_distances_are_symmetric_not_negative_and_zero_on_the_diagonal(found):
    values = found.distance.values
    np.testing.assert_array_equal(values, values.T)
    assert (np.diag(values) == 0).all()
    assert (values >= 0).all()


def test_a_place_of_other_classes_is_further_than_a_twin(found):
    twin = float(found.distance.sel(region="here", other="twin"))
    other = float(found.distance.sel(region="here", other="elsewhere"))
    assert other > 5 * twin


def test_the_control_tells_a_twin_from_another_place(found):
    table = found.to_dataframe().set_index(["region", "other"])
    assert table.loc[("here", "twin"), "distance"] < table.loc[("here", "twin"), "control"]
    other = table.loc[("here", "elsewhere")]
    assert other["distance"] > other["control"]
    assert other["low"] > other["control"]


def test_intervals_hold_the_estimate(found):
    assert (found.low.values <= found.distance.values).all()
    assert (found.distance.values <= found.high.values).all()


def test_intervals_repeat_with_their_seed(places, bank, found):
    again = compare(places, bank, bootstrap=60)
    np.testing.assert_array_equal(again.low, found.low)
    np.testing.assert_array_equal(again.control, found.control)


def test_usage_of_each_place_is_that_of_its_assignment(places, bank, found):
    expected = usage(assign(places["here"], bank)).values
    np.testing.assert_allclose(found.usage.sel(region="here"), expected)
    np.testing.assert_allclose(found.usage.sum("prototype"), 1)


def test_what_prototypes_pay_sums_to_the_distance(found):
    np.testing.assert_allclose(found.pays.sum("prototype"), found.distance, atol=1e-9)


def test_flows_move_the_usage_of_one_place_to_that_of_the_other(found):
    plan = found.flow("here", "elsewhere")
    np.testing.assert_allclose(plan.sum("target"), found.usage.sel(region="here"), atol=1e-9)
    np.testing.assert_allclose(plan.sum("source"), found.usage.sel(region="elsewhere"), atol=1e-9)
    total = float((plan.values * found.cost).sum())
    assert total == pytest.approx(float(found.distance.sel(region="here", other="elsewhere")))


def test_two_prototypes_at_a_right_angle_cost_what_is_moved(places, bank):
    # all pixels of one place on prototype 0, of the other on prototype 1: distance = cost
    first, second = bank.values[0], bank.values[1]
    flat = {}
    for name, vector in (("a", first), ("b", second)):
        array = places["here"].copy(deep=True)
        array[:] = (bank["centre"].values + vector)[:, None, None]
        flat[name] = array
    distance = compare(flat, bank, bootstrap=20).distance.sel(region="a", other="b")
    assert float(distance) == pytest.approx(1 - float(first @ second), abs=1e-5)


def test_the_text_names_places_distances_and_verdict(found):
    text = str(found)
    assert "here and twin: distance 0." in text
    assert "not distinguishable" in text
    assert "so they are different" in text


def test_places_seen_in_different_seasons_are_noted(places, bank):
    winter = places["here"].copy()
    winter.attrs["dates_s2"] = ["2018-12-20", "2019-01-10"]
    notes = compare({"summer": places["here"], "winter": winter}, bank, bootstrap=20).notes
    assert any("Season mismatch" in note and "days apart" in note for note in notes)


def test_dates_all_over_the_year_are_no_season(places, bank):
    first, second = places["here"].copy(), places["here"].copy()
    first.attrs["dates_s2"] = [f"2018-{month:02d}-05" for month in range(1, 13)]
    second.attrs["dates_s2"] = [f"2018-{month:02d}-12" for month in range(1, 13)]
    assert compare({"a": first, "b": second}, bank, bootstrap=20).notes == ()


def test_the_season_gap_is_the_shift_of_the_dates(places):
    first, second = places["here"].copy(), places["here"].copy()
    first.attrs["dates_s2"] = ["2018-06-01", "2018-07-01"]
    second.attrs["dates_s2"] = ["2018-07-11", "2018-08-10"]
    assert season_gap(first, second) == pytest.approx(40, abs=0.1)


def test_dates_around_new_year_are_in_winter(places, bank):
    first, second = places["here"].copy(), places["here"].copy()
    first.attrs["dates_s2"] = ["2018-12-28", "2019-01-04"]
    second.attrs["dates_s2"] = ["2019-01-01"]
    assert compare({"a": first, "b": second}, bank, bootstrap=20).notes == ()


def test_a_place_of_one_block_has_no_interval_and_says_so(places, bank):
    small = places["here"][:, :8, :8]
    found = compare({"small": small, "here": places["here"]}, bank, bootstrap=20)
    assert np.isnan(found.low.sel(region="small", other="here"))
    assert "too small for an interval" in found.notes[0]


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_places_are_refused(places, bank, count):
    with pytest.raises(AnalysisError, match="at least two places"):
        compare(dict(list(places.items())[:count]), bank)


def test_too_few_redraws_are_refused(places, bank):
    with pytest.raises(AnalysisError, match="from 20 to 100,000"):
        compare(places, bank, bootstrap=3)


def test_places_of_two_encoders_are_refused(places, bank):
    other = blobs(fields(), encoder="other")
    with pytest.raises(AnalysisError, match="same encoder"):
        compare({"a": places["here"], "b": other}, bank)


def test_a_flow_between_unknown_places_is_refused(found):
    with pytest.raises(AnalysisError, match="was not compared"):
        found.flow("here", "nowhere")


def test_bands_that_only_one_place_has_are_noted(places, bank):
    rich, poor = places["here"].copy(), places["here"].copy()
    rich.attrs["missing_bands"], poor.attrs["missing_bands"] = [], ["s2:nir08"]
    notes = compare({"rich": rich, "poor": poor}, bank, bootstrap=20).notes
    assert any("Only one of rich and poor has s2:nir08" in note for note in notes)


@pytest.mark.parametrize(
    ("low", "words"),
    [(0.5, "so they are different"), (0.3, "not clearly different")],
)
def test_a_verdict_needs_the_whole_interval(found, low, words):
    doubtful = dataclasses.replace(
        found,
        distance=xr.full_like(found.distance, 0.6),
        low=xr.full_like(found.low, low),
        control=xr.full_like(found.control, 0.4),
    )
    assert words in str(doubtful).splitlines()[0]


def test_payers_are_ranked_and_their_parts_sum_to_one(found):
    table = found.payers("here", "elsewhere")
    assert table["part"].sum() == pytest.approx(1)
    assert table["part"].is_monotonic_decreasing
    assert table["pays"].sum() == pytest.approx(
        float(found.distance.sel(region="here", other="elsewhere"))
    )


def test_a_payer_is_said_to_be_more_in_the_place_that_has_more_of_it(found):
    for row in found.payers("here", "elsewhere").to_dict("records"):
        shares = found.usage.sel(prototype=row["prototype"])
        more = str(shares.sel(region=["here", "elsewhere"]).idxmax("region").item())
        assert row["more_in"] == more or row["difference"] == 0


def test_blocks_dealt_out_again_differ_less_than_two_places_of_other_classes(found):
    at = {"region": "here", "other": "elsewhere"}
    assert float(found.shuffled.sel(**at, bound="high")) < float(found.distance.sel(**at))
    twin = {"region": "here", "other": "twin"}
    assert float(found.shuffled.sel(**twin, bound="high")) > float(found.distance.sel(**twin)) / 2


def test_a_verdict_weighs_the_distance_against_the_largest_control(found):
    assert found.verdict("here", "elsewhere") == "different"
    assert found.verdict("here", "elsewhere", same_place=9.0) == "not distinguishable"
    assert found.verdict("here", "twin") == "not distinguishable"


def test_places_that_were_not_compared_have_no_verdict(found):
    with pytest.raises(AnalysisError, match="was not compared"):
        found.verdict("here", "nowhere")
