import numpy as np
import pytest
from blobs import on_ground
from sklearn.metrics import accuracy_score, adjusted_rand_score, jaccard_score

from skysense.analysis import agreement
from skysense.errors import AnalysisError


def labels(values, names):
    return on_ground(np.asarray(values, float), kind="categorical", categories=list(names))


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, (30, 30))
    mapped = np.where(rng.uniform(size=true.shape) < 0.7, true, rng.integers(0, 4, true.shape))
    return mapped, true


def test_figures_equal_those_of_scikit_learn(pair):
    mapped, true = pair
    found = agreement(labels(mapped, "abcd"), labels(true, "abcd"))
    assert found.accuracy == pytest.approx(accuracy_score(true.ravel(), mapped.ravel()))
    expected = jaccard_score(true.ravel(), mapped.ravel(), average="macro")
    assert found.miou == pytest.approx(expected)
    assert found.ari == pytest.approx(adjusted_rand_score(true.ravel(), mapped.ravel()))
    assert found.n == 900


def test_classes_are_matched_by_name_not_by_number(pair):
    _, true = pair
    turned = labels(3 - true, "dcba")
    assert agreement(turned, labels(true, "abcd")).accuracy == 1


def test_groups_are_scored_without_names(pair):
    _, true = pair
    found = agreement(labels(3 - true, ["group 1", "group 2", "group 3", "group 4"]),
                      labels(true, "abcd"))  # fmt: skip
    assert found.ari == pytest.approx(1)
    assert np.isnan([found.accuracy, found.miou]).all()
    assert not found.named
    assert "no class name in common" in str(found)


def test_the_table_counts_labels_by_mapped_class(pair):
    mapped, true = pair
    table = agreement(labels(mapped, "abcd"), labels(true, "abcd")).confusion
    assert table.loc["a", "c"] == ((true == 0) & (mapped == 2)).sum()
    assert table.to_numpy().sum() == 900


def test_only_pixels_in_both_are_compared(pair):
    mapped, true = (v.astype(float) for v in pair)
    mapped[:10], true[:, :5] = np.nan, np.nan
    assert agreement(labels(mapped, "abcd"), labels(true, "abcd")).n == 20 * 25


def test_a_class_that_was_only_mapped_counts_against_the_mean():
    true, mapped = np.zeros((4, 4)), np.zeros((4, 4))
    mapped[0] = 1
    found = agreement(labels(mapped, "ab"), labels(true, "ab"))
    assert found.iou.to_dict() == {"a": 0.75, "b": 0.0}
    assert found.miou == pytest.approx(0.375)


def test_the_text_gives_all_three_figures(pair):
    text = str(agreement(labels(pair[1], "abcd"), labels(pair[1], "abcd")))
    assert text == "accuracy 100%, mean IoU 1.00, adjusted Rand index 1.00 over 900 pixels"


def test_two_codes_of_the_same_name_are_one_class(pair):
    _, true = pair
    merged = agreement(labels(true, "aabb"), labels(true, "aacc"))
    assert merged.accuracy == pytest.approx((true < 2).mean())
    assert list(merged.confusion.index) == ["a", "c"]


def test_nothing_in_common_is_refused(pair):
    nothing = labels(np.full((30, 30), np.nan), "abcd")
    with pytest.raises(AnalysisError, match="nothing to compare"):
        agreement(nothing, labels(pair[1], "abcd"))


def test_another_grid_is_refused_with_the_way_out(pair):
    with pytest.raises(AnalysisError, match=r"label_field\(labels, features\)"):
        agreement(labels(pair[0][:20], "abcd"), labels(pair[1], "abcd"))


def test_what_is_not_categorical_is_refused(pair):
    with pytest.raises(AnalysisError, match="must be a categorical"):
        agreement(on_ground(pair[0].astype(float)), labels(pair[1], "abcd"))
