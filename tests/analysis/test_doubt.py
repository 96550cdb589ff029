"""The null model, novelty, and means of a sensitivity."""

import numpy as np
import pytest
import xarray as xr
from blobs import on_ground
from sentences import ODD, refused

from skysense.analysis import (
    assign,
    cluster,
    fit_prototypes,
    mean_sensitivity,
    novelty,
    pca,
    shuffled,
    similarity,
)
from skysense.errors import AnalysisError
from skysense.view import caption, warnings


def neighbours_alike(field):
    """Share of horizontal neighbours of the same group."""
    return float((field.values[:, 1:] == field.values[:, :-1]).mean())


def test_shuffling_keeps_every_value_and_loses_every_place(features):
    null = shuffled(features)
    columns = [
        a.reshape(len(a), -1)[:, np.lexsort(a.reshape(len(a), -1))]
        for a in (features.values, null.values)
    ]
    np.testing.assert_array_equal(*columns)
    assert neighbours_alike(cluster(features, 4)) > 0.9
    assert neighbours_alike(cluster(null, 4)) < 0.4


def test_groups_of_the_null_model_are_as_large_as_the_real_ones(features):
    sizes = [
        np.sort(np.bincount(cluster(each, 4).values.astype(int).ravel()))
        for each in (features, shuffled(features))
    ]
    np.testing.assert_allclose(*sizes, atol=0.02 * features[0].size)


def test_gaps_stay_where_they_are(holey):
    null = shuffled(holey)
    np.testing.assert_array_equal(np.isnan(null.values), np.isnan(holey.values))


def test_the_same_seed_gives_the_same_null_model(features):
    np.testing.assert_array_equal(shuffled(features, 3).values, shuffled(features, 3).values)
    assert not np.array_equal(shuffled(features, 3).values, shuffled(features, 4).values)


def test_every_picture_of_a_null_model_says_so(features):
    null = shuffled(features)
    assert null.attrs["long_name"] == "features, shuffled"
    assert "shuffled" not in features.attrs
    for field in (cluster(null, 3), pca(null), similarity(null, np.ones(16))):
        assert "SHUFFLED cells" in warnings(field)
    assert "SHUFFLED" in caption(assign(features, fit_prototypes(null, 4)))


def test_similarity_to_one_vector_has_the_same_values_elsewhere(features):
    real, null = (similarity(each, np.ones(16)) for each in (features, shuffled(features)))
    np.testing.assert_allclose(
        np.sort(real.values.ravel()), np.sort(null.values.ravel()), atol=1e-6
    )


@pytest.mark.parametrize("seed", [None, -1, 0.5, "x"])
def test_what_is_no_seed_is_refused(features, seed):
    assert "seed=" in refused(AnalysisError, shuffled, features, seed)


def test_a_prototype_itself_is_not_novel_and_its_opposite_is_most(features):
    bank = fit_prototypes(features, 4)
    centre = bank["centre"].values
    rows = np.stack([bank.values[0] + centre, centre - bank.values[0]], 1)
    made = on_ground(rows[:, None, :].repeat(2, 1), **features.attrs)
    found = novelty(made, bank).values[0]
    assert found[0] == pytest.approx(0, abs=1e-6)
    others = 1 - (-bank.values[0]) @ bank.values.T
    assert found[1] == pytest.approx(others.min(), abs=1e-5)


def test_novelty_is_what_the_strength_leaves(features):
    bank = fit_prototypes(features, 4)
    found = novelty(features, bank)
    np.testing.assert_allclose(found.values, 1 - assign(features, bank)["strength"].values)
    assert found.attrs["kind"] == "continuous"
    assert found.attrs["bank_encoder"] == "blobs"


def test_what_nothing_in_the_bank_is_like_stands_out(features, truth):
    bank = fit_prototypes(features.where(xr.DataArray(truth != 2, dims=("y", "x"))), 3)
    found = novelty(features, bank).values
    assert found[truth == 2].min() > np.median(found[truth != 2])


def layers(values, sensors):
    """A sensitivity of given values (dropped, y, x)."""
    names = [f"{key} {i}" for i, key in enumerate(sensors)]
    first = on_ground(values[0], kind="continuous", units="cosine distance")
    found = xr.concat([first.copy(data=v) for v in values.astype("f4")], "dropped")
    return found.assign_coords(
        dropped=names, sensor=("dropped", list(sensors)), date=("dropped", ["2018-01-01"] * len(names))
    )  # fmt: skip


@pytest.fixture
def sensitivity():
    values = np.array([[[0.2, 0.4], [0.0, 0.0]], [[0.0, 0.0], [1.0, np.nan]]])
    return layers(values, ("s2", "s1"))


def test_the_mean_leaves_out_cells_that_saw_nothing_else(sensitivity):
    found = mean_sensitivity(sensitivity)
    np.testing.assert_allclose(found, [0.15, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(found["alone"], [0, 0.25])


def test_labels_give_the_mean_of_each_class(sensitivity):
    labels = on_ground(
        np.array([[0, 0], [1, np.nan]]), kind="categorical", categories=["wheat", "maize", "beet"]
    )
    found = mean_sensitivity(sensitivity, labels)
    np.testing.assert_allclose(found, [[0.3, 0, np.nan], [0, 1, np.nan]], rtol=1e-6)
    assert list(found["class"].values) == ["wheat", "maize", "beet"]
    assert list(found["cells"].values) == [2, 1, 0]


def test_labels_of_another_grid_are_refused(sensitivity):
    labels = on_ground(np.zeros((2, 2)), left=0.0, kind="categorical", categories=["a"])
    assert "another grid" in refused(AnalysisError, mean_sensitivity, sensitivity, labels)


def test_what_is_no_sensitivity_is_refused(sensitivity, features):
    refused(AnalysisError, mean_sensitivity, features)
    refused(AnalysisError, mean_sensitivity, 5)
    refused(AnalysisError, mean_sensitivity, mean_sensitivity(sensitivity))
    refused(AnalysisError, mean_sensitivity, sensitivity * np.nan)
    refused(AnalysisError, mean_sensitivity, sensitivity, sensitivity)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_odd_arguments_are_refused_in_a_sentence(features, sensitivity, odd):
    refused(AnalysisError, shuffled, odd)
    refused(AnalysisError, novelty, features, odd)
    refused(AnalysisError, novelty, odd, fit_prototypes(features, 2, epochs=1))
    refused(AnalysisError, mean_sensitivity, odd)
    if odd is not None:
        refused(AnalysisError, mean_sensitivity, sensitivity, odd)
    if odd != 5:
        refused(AnalysisError, shuffled, features, odd)
