import numpy as np
import pytest

from skysense.analysis import similarity
from skysense.analysis.places import place_of
from skysense.errors import AnalysisError


def centre(features, row, column):
    return place_of(features, [row], [column])[0]


def test_a_place_is_most_like_itself(features):
    found = similarity(features, centre(features, 30, 70))
    assert float(found[30, 70]) == pytest.approx(1, abs=1e-6)
    assert float(found.max()) == pytest.approx(1, abs=1e-6)


def test_fields_of_the_same_class_come_first(features, truth):
    found = similarity(features, centre(features, 8, 8)).values
    same = truth == truth[8, 8]
    best = np.argsort(-found.ravel())[: int(same.sum())]
    assert same.ravel()[best].mean() > 0.9


def test_similarity_equals_the_cosine(features):
    a, b = features.values[:, 5, 6].astype(float), features.values[:, 50, 60].astype(float)
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    found = similarity(features, centre(features, 5, 6))
    assert float(found[50, 60]) == pytest.approx(expected, abs=1e-5)
    assert float(abs(found).max()) <= 1


def test_a_vector_is_as_good_a_target_as_its_place(features):
    by_place = similarity(features, centre(features, 5, 6))
    by_vector = similarity(features, features.values[:, 5, 6])
    np.testing.assert_allclose(by_vector, by_place, atol=1e-6)


def test_the_target_is_written_down(features):
    lon, lat = centre(features, 5, 6)
    attrs = similarity(features, (lon, lat)).attrs
    assert attrs["target"] == f"{lon:.5f} °E, {lat:.5f} °N"
    assert attrs["kind"] == "continuous"


def test_unseen_pixels_are_like_nothing(holey):
    found = similarity(holey, centre(holey, 50, 50))
    assert np.isnan(found.values[:10, :20]).all()


def test_a_place_outside_is_refused_with_the_bounds(features):
    with pytest.raises(AnalysisError, match=r"outside the features: they cover 3\.0000"):
        similarity(features, (12.5, 41.9))


def test_a_place_where_nothing_was_seen_is_refused(holey):
    with pytest.raises(AnalysisError, match="Choose a place beside it"):
        similarity(holey, centre(holey, 2, 2))


def test_swapped_coordinates_are_recognised(features):
    with pytest.raises(AnalysisError, match="did you swap them"):
        similarity(features, (50.8, 103.0))


@pytest.mark.parametrize(
    "wrong", [None, "here", (1.0, 2.0, 3.0), ("a", "b"), (np.nan, 50.0), np.full(16, np.nan)]
)
def test_what_is_neither_a_place_nor_a_vector_is_refused(features, wrong):
    with pytest.raises(AnalysisError):
        similarity(features, wrong)


def test_a_vector_without_direction_is_refused(features):
    with pytest.raises(AnalysisError, match="all zeros"):
        similarity(features, np.zeros(16))
