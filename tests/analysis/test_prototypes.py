import numpy as np
import ot
import pytest
from blobs import blobs, fields
from sklearn.metrics import adjusted_rand_score

from skysense.analysis import assign, cluster, fit_prototypes, sinkhorn, usage
from skysense.errors import AnalysisError


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    tokens, bank = rng.normal(size=(300, 8)), rng.normal(size=(20, 8))
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    return tokens @ bank.T


@pytest.fixture(scope="module")
def bank(features):
    return fit_prototypes(features, 8)


def test_sinkhorn_iterated_to_the_end_equals_pot(scores):
    n, k = scores.shape
    expected = ot.sinkhorn(
        np.full(n, 1 / n), np.full(k, 1 / k), -scores, reg=0.05, numItermax=20_000, stopThr=1e-12
    )
    np.testing.assert_allclose(sinkhorn(scores, 0.05, 5_000), expected, atol=1e-9)


def test_rows_of_the_plan_share_the_mass_equally_after_any_number_of_rounds(scores):
    for rounds in (1, 3, 50):
        np.testing.assert_allclose(sinkhorn(scores, 0.05, rounds).sum(1), 1 / 300, rtol=1e-12)


def test_every_prototype_gets_the_same_mass_in_the_end(scores):
    np.testing.assert_allclose(sinkhorn(scores, 0.05, 5_000).sum(0), 1 / 20, rtol=1e-8)


def test_a_tiny_epsilon_neither_overflows_nor_loses_mass(scores):
    plan = sinkhorn(scores, 1e-4, 200)
    assert np.isfinite(plan).all()
    np.testing.assert_allclose(plan.sum(1), 1 / 300, rtol=1e-9)


def test_logarithms_and_exponentials_give_the_same_plan(scores, monkeypatch):
    plain = sinkhorn(scores, 0.05, 3)
    monkeypatch.setattr("skysense.analysis.prototypes.EXP_RANGE", 0.0)
    np.testing.assert_allclose(sinkhorn(scores, 0.05, 3), plain, rtol=1e-9)


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((0, 3)), np.full((2, 2), np.nan)])
def test_scores_that_are_not_a_finite_matrix_are_refused(wrong):
    with pytest.raises(AnalysisError, match="not a matrix"):
        sinkhorn(wrong)


@pytest.mark.parametrize("settings", [{"epsilon": 0}, {"iterations": 0}])
def test_settings_of_sinkhorn_must_be_positive(scores, settings):
    with pytest.raises(AnalysisError, match="number from 1"):
        sinkhorn(scores, **settings)


def test_each_prototype_belongs_to_one_class(features, truth, bank):
    found = assign(features, bank).values
    pure = [np.bincount(truth[found == i]).max() / (found == i).sum() for i in np.unique(found)]
    assert min(pure) > 0.97


def test_as_many_prototypes_as_classes_are_the_classes(truth):
    clear = blobs(truth, noise=0.05)
    found = assign(clear, fit_prototypes(clear, 4))
    assert adjusted_rand_score(truth.ravel(), found.values.ravel()) > 0.98


def test_features_that_all_point_one_way_still_give_different_prototypes(truth):
    shifted = blobs(truth, offset=5.0)  # any two cosines here are above 0.99
    found = assign(shifted, fit_prototypes(shifted, 4)).values
    assert adjusted_rand_score(truth.ravel(), found.ravel()) > 0.9


def test_rows_of_a_bank_have_length_one(bank):
    np.testing.assert_allclose(np.linalg.norm(bank.values, axis=1), 1, rtol=1e-5)
    assert bank.dims == ("prototype", "feature")


def test_a_bank_repeats_with_its_seed_and_differs_with_another(features, bank):
    np.testing.assert_array_equal(fit_prototypes(features, 8), bank)
    assert not np.array_equal(fit_prototypes(features, 8, seed=1), bank)


def test_no_prototype_of_a_fitted_bank_is_unused(features, bank):
    assert (usage(assign(features, bank)) > 0).all()


def test_prototypes_that_nothing_is_near_are_placed_anew_and_counted(truth, monkeypatch):
    # a start that puts every prototype on the same pixel leaves all but one unused
    monkeypatch.setattr(
        "skysense.analysis.prototypes._spread_out", lambda tokens, n, rng: tokens[np.zeros(n, int)]
    )
    clear = blobs(truth, noise=0.05)
    bank = fit_prototypes(clear, 6)
    assert bank.attrs["reseeded"] > 0
    assert len(np.unique(assign(clear, bank).values)) >= 4


def test_prototypes_that_fell_together_are_placed_anew(truth):
    clear = blobs(truth, noise=0.02)  # four tight classes for six prototypes: two become twins
    bank = fit_prototypes(clear, 6, epsilon=0.2)
    assert bank.attrs["reseeded"] > 0
    assert (np.tril(bank.values @ bank.values.T, -1) < 0.9999).all()


def test_one_bank_is_fitted_to_several_places_together(features):
    other = blobs(fields(96, 3, seed=8), seed=4)
    bank = fit_prototypes({"here": features, "there": other}, 8)
    assert bank.attrs["fitted_on"] == ["here", "there"]
    assert bank.attrs["encoder"] == "blobs"


def test_strength_is_the_cosine_with_the_nearest_prototype(features, bank):
    found = assign(features, bank)
    vector = features.values[:, 40, 50] - bank["centre"].values
    cosines = bank.values @ vector / np.linalg.norm(vector)
    assert int(found[40, 50]) == cosines.argmax()
    np.testing.assert_allclose(float(found["strength"][40, 50]), cosines.max(), rtol=1e-4)


def test_a_bank_of_an_encoder_needs_no_centre(features, bank):
    plain = bank.drop_vars("centre")
    found = assign(features, plain).values
    rows = features.values.reshape(16, -1).T
    expected = ((rows / np.linalg.norm(rows, axis=1, keepdims=True)) @ plain.values.T).argmax(1)
    np.testing.assert_array_equal(found.ravel(), expected)


def test_assignment_carries_the_provenance_of_features_and_bank(features, bank):
    attrs = assign(features, bank).attrs
    assert attrs["encoder"] == attrs["bank_encoder"] == "blobs"
    assert attrs["bank_fitted_on"] == ["place"]


def test_unseen_pixels_are_assigned_to_nothing(holey, bank):
    found = assign(holey, bank)
    assert np.isnan(found.values[:10, :20]).all()
    assert np.isnan(found["strength"].values[:10, :20]).all()
    assert np.isfinite(found.values[10:]).all()


def test_usage_counts_shares_that_sum_to_one(holey, bank):
    shares = usage(assign(holey, bank))
    assert float(shares.sum()) == pytest.approx(1)
    assert shares.attrs["pixels"] == 96 * 96 - 200


def test_usage_counts_groups_too(features, truth):
    shares = usage(cluster(features, 4))
    expected = np.bincount(truth.ravel()) / truth.size
    np.testing.assert_allclose(np.sort(shares.values), np.sort(expected), atol=0.01)


def test_usage_of_a_continuous_field_is_refused(features):
    with pytest.raises(AnalysisError, match="categorical"):
        usage(features[0])


@pytest.mark.parametrize(
    "wrong", [{"n": 1}, {"n": 5000}, {"momentum": 1.0}, {"epochs": 0}, {"epsilon": -1.0}]
)
def test_settings_that_fit_nothing_are_refused(features, wrong):
    with pytest.raises(AnalysisError):
        fit_prototypes(features, **wrong)


def test_fewer_pixels_than_prototypes_are_refused(features):
    with pytest.raises(AnalysisError, match="at least 64"):
        fit_prototypes(features[:, :7, :7], 64)


def test_a_bank_of_another_encoder_is_refused(bank, truth):
    with pytest.raises(AnalysisError, match="mean different things"):
        assign(blobs(truth, encoder="other"), bank)


def test_what_is_not_a_bank_is_refused(features):
    with pytest.raises(AnalysisError, match="fit_prototypes"):
        assign(features, features)


def test_nothing_seen_is_said_in_a_sentence(empty):
    with pytest.raises(AnalysisError, match="nothing valid was seen"):
        fit_prototypes(empty)
