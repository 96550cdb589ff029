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


def test_several_examples_give_the_best_of_their_similarities(features):
    places = [centre(features, r, c) for r, c in ((8, 8), (40, 70), (90, 3))]
    each = np.stack([similarity(features, place).values for place in places])
    np.testing.assert_allclose(similarity(features, places), each.max(0), atol=1e-6)
    assert "3 examples" in similarity(features, places).attrs["target"]


def test_one_example_in_a_list_is_that_example(features):
    place = centre(features, 8, 8)
    np.testing.assert_array_equal(similarity(features, [place]), similarity(features, place))


def test_counter_examples_are_the_difference_of_two_searches(features):
    like = [centre(features, 8, 8), centre(features, 40, 70)]
    unlike = [centre(features, 90, 3), centre(features, 60, 60)]
    found = similarity(features, like, unlike)
    expected = similarity(features, like) - similarity(features, unlike)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.attrs["kind"] == "diverging"
    assert found.attrs["unlike"] == 2


def test_an_example_lies_above_zero_and_a_counter_example_below(features, truth):
    row, column = np.argwhere(truth != truth[8, 8])[0]
    found = similarity(features, [centre(features, 8, 8)], [centre(features, row, column)])
    assert float(found[8, 8]) > 0 > float(found[row, column])


def test_above_zero_is_what_is_nearer_to_an_example(features, truth):
    like = [centre(features, *np.argwhere(truth == i)[0]) for i in (0, 1)]
    unlike = [centre(features, *np.argwhere(truth == i)[0]) for i in (2, 3)]
    found = similarity(features, like, unlike).values > 0
    assert (found == (truth < 2)).mean() > 0.95


def test_vectors_and_places_can_be_mixed(features):
    place = centre(features, 8, 8)
    vectors = features.values[:, [5, 6], [7, 8]].T
    mixed = similarity(features, [place, vectors[0], vectors[1].tolist()])
    alone = [similarity(features, each) for each in (place, *vectors)]
    np.testing.assert_allclose(mixed, np.max([each.values for each in alone], 0), atol=1e-6)
    np.testing.assert_array_equal(
        similarity(features, vectors), similarity(features, list(vectors))
    )


@pytest.mark.parametrize(
    "wrong", [[], [(3.0, 50.8), None], [[]], np.zeros((0, 16)), [np.zeros(16)]]
)
def test_a_list_with_something_that_is_no_example_is_refused(features, wrong):
    for given in ({"to": wrong}, {"to": centre(features, 8, 8), "unlike": wrong}):
        with pytest.raises(AnalysisError):
            similarity(features, **given)
