import numpy as np
import pytest
from blobs import blobs, fields
from sklearn.metrics import adjusted_rand_score

from skysense.analysis import cluster
from skysense.errors import AnalysisError


def ari(a, b):
    return adjusted_rand_score(np.ravel(a), np.nan_to_num(np.ravel(b), nan=-1))


def test_kmeans_recovers_the_classes(features, truth):
    assert ari(truth, cluster(features, 4)) > 0.98


def test_hdbscan_finds_the_number_of_classes(truth):
    clear = blobs(truth, noise=0.05)
    found = cluster(clear, 4, "hdbscan")
    assert len(found.attrs["categories"]) == 4
    assert ari(truth, found) > 0.98


def test_pixels_that_belong_nowhere_have_no_hdbscan_group(truth):
    clear = blobs(truth, noise=0.03)
    strange = np.random.default_rng(3).normal(size=(16, 4, 96)) * 3
    clear[:, :4] = strange
    found = cluster(clear, 4, "hdbscan")
    assert np.isnan(found.values[:4]).mean() > 0.9
    assert np.isfinite(found.values[4:]).all()


def test_a_feature_in_large_units_does_not_decide(features, truth):
    loud = features.copy(deep=True)
    loud[0] = loud[0] * 1e4
    assert ari(truth, cluster(loud, 4)) > 0.98


def test_group_numbers_survive_a_refit_with_another_seed(features):
    first, second = cluster(features, 4, seed=0), cluster(features, 4, seed=7)
    assert (first.values == second.values).mean() > 0.99


def test_unseen_pixels_have_no_group_and_change_nothing(holey, features):
    part = cluster(holey, 4)
    assert np.isnan(part.values[:10, :20]).all()
    assert (part.values[10:] == cluster(features, 4).values[10:]).mean() > 0.99


def test_groups_carry_provenance_and_names(features):
    found = cluster(features, 3)
    assert found.attrs["kind"] == "categorical"
    assert found.attrs["categories"] == ["group 1", "group 2", "group 3"]
    assert found.attrs["weights"] == "random(seed=0)"
    assert found.odc.geobox == features.odc.geobox


def test_a_method_that_is_not_known_is_refused(features):
    with pytest.raises(AnalysisError, match="one of kmeans, hdbscan"):
        cluster(features, 4, "ward")


@pytest.mark.parametrize("n", [1, 65])
def test_numbers_of_groups_that_make_no_picture_are_refused(features, n):
    with pytest.raises(AnalysisError, match="2 to 64"):
        cluster(features, n)


def test_more_groups_than_pixels_are_refused(features):
    with pytest.raises(AnalysisError, match="at least 9"):
        cluster(features[:, :2, :4], 9)


def test_more_groups_than_different_pixels_are_refused(truth):
    with pytest.raises(AnalysisError, match="different feature vectors"):
        cluster(blobs(truth, noise=0.0), 6)


def test_hdbscan_without_any_dense_place_says_so(features):
    even = features.copy(data=np.random.default_rng(0).uniform(size=features.shape))
    with pytest.raises(AnalysisError, match="method='kmeans'"):
        cluster(even.astype("f4"), 2, "hdbscan")


def test_nothing_seen_is_said_in_a_sentence(empty):
    with pytest.raises(AnalysisError, match="nothing valid was seen"):
        cluster(empty)


def test_large_places_are_grouped_like_small_ones():
    truth = fields(160, 4)
    assert ari(truth, cluster(blobs(truth), 4)) > 0.98
