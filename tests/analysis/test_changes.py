"""Change between two periods: known answers, honest notes, and what is more than usual."""

import numpy as np
import pytest
from blobs import PROVENANCE, blobs, fields, on_ground
from sentences import ODD, refused

from skysense.analysis import change, change_threshold, changed, distribution
from skysense.checks import is_number
from skysense.errors import AnalysisError

AXES = np.eye(4, dtype=np.float32)


def of(*columns, **changes):
    """Features of a map of one row, a vector per cell, made twice so that it is a map."""
    values = np.stack(columns, axis=1)[:, None, :].repeat(2, 1)
    return on_ground(values, **{**PROVENANCE, **changes})


def test_equal_features_did_not_change_at_all(features):
    assert (change(features, features.copy()).values == 0).all()


def test_right_angles_are_one_and_opposites_two():
    before = of(AXES[0], AXES[0], AXES[0])
    after = of(3 * AXES[0], AXES[1], -AXES[0])
    np.testing.assert_allclose(change(before, after).values, [[0, 1, 2]] * 2, atol=1e-6)


def test_it_is_one_minus_the_cosine(features):
    other = blobs(fields(seed=5), seed=9)
    a, b = (each.values.reshape(16, -1).astype(float) for each in (features, other))
    cosine = (a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)
    np.testing.assert_allclose(change(features, other).values.ravel(), 1 - cosine, atol=2e-6)


def test_before_and_after_may_be_turned_round(features):
    other = blobs(fields(seed=5), seed=9)
    np.testing.assert_array_equal(change(features, other).values, change(other, features).values)


def test_the_order_of_the_features_does_not_matter(features):
    other, order = blobs(fields(seed=5), seed=9), np.random.default_rng(0).permutation(16)
    found = change(features.isel(feature=order), other.isel(feature=order))
    np.testing.assert_allclose(found.values, change(features, other).values, atol=1e-6)


def test_what_one_period_did_not_see_is_unknown(features, holey):
    found = change(holey, features)
    assert np.isnan(found.values[:10, :20]).all()
    assert np.isfinite(found.values[10:]).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dates_s2": ["2018-09-01", "2018-10-01"]}, "Season mismatch: before and after were"),
        ({"sensors": ["s2", "s1"]}, "before and after were seen by different sensors"),
        ({"missing_bands": []}, "Only one of before and after has nir08"),
        ({"dates_s2": ["2018-06-01"] * 5}, "before has 2 Sentinel-2 dates and after 5"),
    ],
)
def test_what_is_no_change_of_the_ground_is_noted(features, changes, words):
    found = change(features, features.assign_attrs(changes))
    assert any(words in note for note in found.attrs["notes"])


def test_two_years_of_the_same_season_need_no_note(features):
    later = features.assign_attrs(dates_s2=["2019-06-01", "2019-07-01"])
    assert change(features, later).attrs["notes"] == PROVENANCE["notes"]


def test_another_encoder_is_refused(features):
    other = features.assign_attrs(weights="random(seed=1)")
    assert "weights" in refused(AnalysisError, change, features, other)


def test_another_grid_is_refused(features):
    part = features.isel(x=slice(1, None))
    assert "same region and resolution" in refused(AnalysisError, change, features, part)


def test_the_threshold_leaves_that_share_of_the_control_above_it():
    values = np.random.default_rng(0).uniform(0, 0.3, (50, 40))
    control = on_ground(values, kind="continuous", units="cosine distance")
    assert changed(control, change_threshold(control, 90)).attrs["share"] == pytest.approx(0.1)


def test_what_changed_is_a_selection():
    field = on_ground(np.array([[0.1, 0.5], [np.nan, 0.3]]), kind="continuous")
    found = changed(field, 0.3)
    np.testing.assert_array_equal(found.values, [[0, 1], [np.nan, 0]])
    assert found.attrs["kind"] == "mask"
    assert found.attrs["share"] == pytest.approx(1 / 3)


def test_a_distribution_counts_every_cell_once_in_shared_bins():
    rng = np.random.default_rng(0)
    field, control = (
        on_ground(rng.uniform(0, top, (30, 30)), kind="continuous", units="cosine distance")
        for top in (1.0, 0.5)
    )
    found = distribution(field, 0.5, control, bins=20)
    assert all(shares.sum() == pytest.approx(1) for shares in found.shares.values())
    assert found.shares["control"][10:].sum() == pytest.approx(0, abs=0.01)
    assert found.above["control"] == 0
    assert found.above["field"] == float((field > 0.5).mean())
    assert str(found).startswith(f"{found.above['field']:.1%} of the cells lie above 0.5")


def test_a_constant_field_has_a_distribution():
    found = distribution(on_ground(np.zeros((4, 4)), kind="continuous"))
    assert found.shares["field"].sum() == 1


@pytest.mark.parametrize("threshold", [-1, 3, "a", None, float("nan")])
def test_a_threshold_that_is_no_distance_is_refused(threshold):
    field = on_ground(np.full((2, 2), 0.5), kind="continuous")
    assert "threshold=" in refused(AnalysisError, changed, field, threshold)


@pytest.mark.parametrize("call", [lambda f: changed(f, 0.1), change_threshold, distribution])
def test_what_is_no_continuous_field_is_refused(call, features):
    refused(AnalysisError, call, features)
    refused(AnalysisError, call, 5)
    refused(AnalysisError, call, on_ground(np.full((2, 2), np.nan), kind="continuous"))


def test_values_that_are_no_distances_are_refused():
    heights = on_ground(np.full((2, 2), 300.0), kind="continuous", units="m")
    assert "cosine distances" in refused(AnalysisError, changed, heights, 0.1)


def test_a_control_in_other_units_is_refused():
    a = on_ground(np.ones((2, 2)), kind="continuous", units="m")
    b = on_ground(np.ones((2, 2)), kind="continuous", units="cosine distance")
    assert "cannot share an axis" in refused(AnalysisError, distribution, a, None, b)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_odd_arguments_are_refused_in_a_sentence(features, odd):
    field = on_ground(np.full((2, 2), 0.5), kind="continuous")
    for call in (changed, change_threshold, distribution):
        refused(AnalysisError, call, odd, *([0.1] if call is changed else []))
    refused(AnalysisError, change, odd, features)
    refused(AnalysisError, change, features, odd)
    if not (is_number(odd) and 0 <= odd <= 100):
        refused(AnalysisError, change_threshold, field, odd)
    if odd is not None:
        refused(AnalysisError, distribution, field, control=odd)
        if odd not in (5, -1, 2.5, 2**70):
            refused(AnalysisError, distribution, field, odd)
    if odd != 5:
        refused(AnalysisError, distribution, field, bins=odd)
