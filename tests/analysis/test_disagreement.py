"""Two encoders of one place: nothing between equals, chance between strangers, no matter the axes."""

import numpy as np
import pytest
from blobs import blobs, fields, on_ground
from sentences import ODD, refused

from skysense.analysis import disagreement, shuffled
from skysense.errors import AnalysisError
from skysense.view import caption, colours


@pytest.fixture(scope="module")
def smooth():
    """Features in which every cell has neighbours of its own."""
    y, x = np.mgrid[:60, :80] / 12
    rng = np.random.default_rng(4)
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(-2, 2, (24, 3))]
    return on_ground(np.stack(waves), encoder="one", weights="none")


@pytest.fixture(scope="module")
def turn(smooth):
    return np.linalg.qr(np.random.default_rng(1).normal(size=(24, 24)))[0]


def test_features_agree_with_themselves_in_every_cell(smooth):
    found = disagreement(smooth, smooth.copy())
    assert (found.values == 0).all()
    assert found.attrs["overlap"] == 1
    assert found.attrs["cka"] == pytest.approx(1)
    assert found.attrs["rand"] == pytest.approx(1)
    assert found.attrs["cells"] == 2000


def test_shuffled_cells_agree_as_often_as_chance_would_have_it(smooth):
    attrs = disagreement(smooth, shuffled(smooth)).attrs
    assert attrs["overlap"] == pytest.approx(attrs["overlap_chance"], rel=0.15)
    assert attrs["overlap_chance"] == pytest.approx(attrs["neighbours"] / attrs["cells"], rel=0.1)
    assert attrs["cka"] < 0.05
    assert abs(attrs["rand"]) < 0.02


def test_turning_shifting_and_scaling_a_feature_space_changes_nothing(smooth, turn):
    values = 3 * np.tensordot(turn, smooth.values.astype(float), 1) + 5
    other = on_ground(values, encoder="other", weights="none")
    found = disagreement(smooth, other)
    assert found.attrs["overlap"] > 0.99
    assert found.attrs["cka"] == pytest.approx(1, abs=1e-4)
    assert found.attrs["rand"] > 0.98


def test_widths_need_not_agree(smooth):
    wide = on_ground(np.concatenate([smooth.values, 0 * smooth.values]), encoder="wide")
    assert disagreement(smooth, wide).attrs["overlap"] == 1


def test_two_encoders_may_be_turned_round(smooth):
    other = on_ground(smooth.values[:9], encoder="other")
    one, two = disagreement(smooth, other), disagreement(other, smooth)
    np.testing.assert_array_equal(one.values, two.values)
    assert one.attrs["cka"] == pytest.approx(two.attrs["cka"])


def test_it_is_seen_where_they_differ(smooth):
    other = smooth.copy(deep=True)
    noise = np.random.default_rng(2).normal(size=(24, 60, 40)).astype(np.float32)
    other[:, :, 40:] = noise
    found = disagreement(smooth, other).values
    assert found[:, 45:].mean() > 0.9
    assert found[:, :35].mean() < 0.7


def test_the_figures_of_a_control_stand_beside_those_of_the_encoders(smooth):
    halves = smooth.copy(deep=True), smooth.copy(deep=True)
    attrs = disagreement(smooth, shuffled(smooth), halves).attrs
    assert (attrs["overlap_control"], attrs["cka_control"]) == (1, pytest.approx(1))
    one = disagreement(smooth, shuffled(smooth), smooth.copy()).attrs
    assert one["rand_control"] == pytest.approx(attrs["rand_control"])


def test_clusters_that_both_see_have_a_high_rand_index():
    truth = fields(n=4)
    found = disagreement(blobs(truth, dim=16), blobs(truth, dim=30, seed=3), groups=4)
    assert found.attrs["rand"] > 0.9


def test_what_either_did_not_see_is_unknown(smooth):
    holes = smooth.copy(deep=True)
    holes[:, :6, :9] = np.nan
    found = disagreement(smooth, holes)
    assert np.isnan(found.values[:6, :9]).all()
    assert np.isfinite(found.values[6:]).all()


def test_pictures_say_that_either_was_untrained(smooth):
    random = smooth.assign_attrs(weights="random(seed=0)", untrained=1)
    assert "UNTRAINED" in caption(disagreement(smooth, random))
    assert "UNTRAINED" in caption(disagreement(random, smooth))
    assert "UNTRAINED" not in caption(disagreement(smooth, smooth))
    assert colours(disagreement(smooth, random)).shape == (60, 80, 4)


def test_other_cells_and_places_too_small_are_refused(smooth):
    assert "not the same cells" in refused(AnalysisError, disagreement, smooth, smooth[:, :, 1:])
    assert "control" not in refused(AnalysisError, disagreement, smooth, smooth, smooth[:, 1:])
    small = smooth[:, :14, :14]
    assert "80 m away" in refused(AnalysisError, disagreement, small, small)
    for odd in ODD:
        refused(AnalysisError, disagreement, smooth, odd)


@pytest.mark.parametrize(
    "options",
    [{"neighbours": 0}, {"neighbours": 1500}, {"sample": 5}, {"groups": 1}, {"seed": -1},
     {"sample": 2.5}, {"groups": "8"}],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused(smooth, options):
    refused(AnalysisError, disagreement, smooth, smooth, **options)
