import numpy as np
import pytest
from blobs import blobs, on_ground
from scipy.ndimage import gaussian_filter

from skysense.analysis import Labels, Segmenter, label_field, segment, spatial_score
from skysense.analysis.marks import LabelClass
from skysense.analysis.places import place_of
from skysense.errors import AnalysisError

NAMES = ("maize", "grass", "wood", "water")


def as_labels(truth, like, names=NAMES):
    field = on_ground(truth.astype(float), kind="categorical", categories=list(names))
    return label_field(field, like)


def clicks(features, truth, each):
    rng = np.random.default_rng(0)
    return {
        name: place_of(features, *rng.permutation(np.argwhere(truth == i))[:each].T)
        for i, name in enumerate(NAMES)
    }


def test_clear_classes_are_found_on_ground_that_was_held_out(truth):
    clear = blobs(truth, noise=0.05)
    score = spatial_score(clear, clicks(clear, truth, 20))
    assert score.accuracy.min() > 0.99
    assert score.interval()[0] > 0.99
    assert set(score.recall) == set(NAMES)


def test_labels_that_have_nothing_to_do_with_the_features_score_by_chance(truth):
    noise = blobs(np.zeros_like(truth))
    score = spatial_score(noise, as_labels(truth, noise))
    assert score.interval("accuracy")[0] == pytest.approx(0.25, abs=0.06)


def test_what_only_neighbours_share_earns_nothing():
    """Smooth noise gives a pixel away to its neighbour, and says nothing further on."""
    rng = np.random.default_rng(0)
    smooth = np.stack([gaussian_filter(rng.normal(size=(96, 96)), 4) for _ in range(200)])
    features = on_ground(smooth / smooth.std(), encoder="noise")
    truth = (gaussian_filter(rng.normal(size=(96, 96)), 4) > 0).astype(int)
    labels = as_labels(truth, features, ("a", "b"))
    spread = {n: place_of(features, *np.argwhere(truth == i)[::9].T) for i, n in enumerate("ab")}
    beside = (segment(features, spread).values.argmax(0) == truth).mean()
    score = spatial_score(features, labels, block=320)
    assert beside > 0.85
    assert score.interval("accuracy")[0] < beside - 0.15


def test_every_class_counts_alike(truth):
    """All but one class are one cloud of points; the rare one is clear."""
    rare = np.where((truth == 0), 0, 1)
    score = spatial_score(blobs(rare, noise=0.05), as_labels(truth, blobs(rare)))
    assert score.recall["maize"] > 0.99
    assert score.interval("accuracy")[0] == pytest.approx((1 + 3 * (1 / 3)) / 4, abs=0.07)


def test_blocks_are_counted_on_the_ground(features, truth):
    score = spatial_score(features, as_labels(truth, features), block=160)
    assert score.blocks == 36  # 960 m, on the lattice
    assert score.tested == 96 * 96
    assert not score.few


def test_a_segmenter_and_its_features_score_alike(features, truth):
    labels = clicks(features, truth, 10)
    one, other = (spatial_score(each, labels) for each in (features, Segmenter.of(features)))
    np.testing.assert_array_equal(one.miou, other.miou)


def test_few_blocks_are_said(features):
    corner = [(r, c) for r in (4, 20) for c in (4, 8, 24)]
    places = [place_of(features, [r], [c])[0] for r, c in corner]
    labels = Labels((LabelClass("a", tuple(places[::2])), LabelClass("b", tuple(places[1::2]))))
    score = spatial_score(features, labels)
    assert score.few
    assert "Fewer than 12 blocks" in str(score)


def test_a_class_of_one_corner_is_left_out_and_named(features, truth):
    labels = clicks(features, truth, 10)
    labels["maize"] = place_of(features, [2, 3], [2, 3])
    score = spatial_score(features, labels)
    assert score.left_out == ("maize",)
    assert "maize" not in score.recall
    assert "Not scored, as they lie in one corner each: maize" in str(score)


def test_without_two_classes_that_are_spread_out_there_is_no_score(features, truth):
    labels = {
        "maize": place_of(features, [2, 3], [2, 3]),
        "grass": clicks(features, truth, 5)["grass"],
    }
    with pytest.raises(AnalysisError, match="Too few blocks: all labels of 'maize'"):
        spatial_score(features, labels)


@pytest.mark.parametrize(
    "wrong", [{"block": 5}, {"splits": 1}, {"per_class": 0}, {"seed": None}, {"block": "far"}]
)
def test_settings_that_are_none_are_refused(features, truth, wrong):
    with pytest.raises(AnalysisError, match=next(iter(wrong))):
        spatial_score(features, clicks(features, truth, 5), **wrong)


def test_labels_on_another_grid_are_refused(features, truth):
    with pytest.raises(AnalysisError, match="Put them on it"):
        spatial_score(features[:, :50], as_labels(truth, features))
