import importlib

import numpy as np
import pytest
from blobs import PROVENANCE, blobs, fields, on_ground
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

from skysense.analysis import fit_pca, fit_umap, open_projection, pca, umap
from skysense.errors import AnalysisError, Cancelled


def rows_of(array):
    return array.values.reshape(len(array), -1).T


def test_components_equal_those_of_an_svd(features):
    rows = rows_of(features).astype(float)
    _, _, axes = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    found = fit_pca(features, 4).components
    np.testing.assert_allclose(np.abs((found * axes[:4]).sum(1)), 1, atol=1e-4)


def test_explained_shares_equal_those_of_scikit_learn(features):
    reference = PCA(5).fit(rows_of(features)).explained_variance_ratio_
    np.testing.assert_allclose(fit_pca(features, 5).explained, reference, rtol=1e-4)


def test_wide_features_are_reduced_to_the_same_components_as_by_an_svd():
    wide = blobs(fields(48), dim=300, noise=0.02)
    rows = rows_of(wide).astype(float)
    _, _, axes = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    found = fit_pca(wide, 3).components
    np.testing.assert_allclose(np.abs((found * axes[:3]).sum(1)), 1, atol=1e-3)


def test_signs_survive_a_refit_on_half_of_the_pixels(features):
    whole, half = fit_pca(features, 3), fit_pca(features[:, :, ::2], 3)
    assert ((whole.components * half.components).sum(1) > 0.9).all()


def test_one_basis_gives_the_same_place_the_same_values_whatever_is_around_it(features):
    basis = fit_pca(features)
    part = basis(features[:, 20:50, 30:70])
    np.testing.assert_allclose(part, basis(features)[:, 20:50, 30:70], atol=1e-5)


def test_a_basis_of_several_places_stands_between_theirs(features):
    other = blobs(fields(96, 3, seed=5), seed=2)
    both = fit_pca({"a": features, "b": other}, 2)
    stacked = np.concatenate([rows_of(features), rows_of(other)])
    np.testing.assert_allclose(both.mean, stacked.mean(0), atol=1e-4)
    assert both.attrs["fitted_on"] == ["a", "b"]


def test_unseen_pixels_stay_empty_and_change_nothing(features, holey):
    picture = fit_pca(holey)(holey)
    assert np.isnan(picture.values[:, :10, :20]).all()
    assert np.isfinite(picture.values).sum() == 3 * (96 * 96 - 200)
    garbage = holey.copy(deep=True)
    garbage[1:, :10, :20] = 1e6  # one missing feature makes the pixel unseen
    np.testing.assert_array_equal(fit_pca(garbage).components, fit_pca(holey).components)


def test_a_picture_states_its_stretch_and_both_provenances(features):
    picture = pca(blobs(fields(), weights="sha256:1"), basis=None)
    low, high = (np.array(picture.attrs[f"stretch_{end}"]) for end in ("low", "high"))
    inside = (picture.values > low[:, None, None]) & (picture.values < high[:, None, None])
    np.testing.assert_allclose(inside.mean((1, 2)), 0.96, atol=0.005)
    assert picture.attrs["kind"] == "rgb"
    assert picture.attrs["encoder"] == picture.attrs["basis_encoder"] == "blobs"
    assert picture.odc.geobox == features.odc.geobox


def test_a_projection_survives_its_file(features, tmp_path):
    basis = fit_pca(features)
    again = open_projection(basis.save(tmp_path / "basis.npz"))
    np.testing.assert_array_equal(again(features), basis(features))
    assert again.attrs == basis.attrs


def test_a_file_without_a_projection_is_refused(tmp_path):
    (tmp_path / "basis.npz").write_bytes(b"nothing")
    with pytest.raises(AnalysisError, match="cannot be opened as a projection"):
        open_projection(tmp_path / "basis.npz")


@pytest.mark.parametrize(
    "changes", [{"dim": 12}, {"encoder": "other"}, {"weights": "sha256:other"}]
)
def test_a_basis_refuses_another_encoders_features(features, truth, changes):
    with pytest.raises(AnalysisError, match=r"different encoders|mean different things"):
        fit_pca(features)(blobs(truth, **changes))


def test_places_of_two_encoders_have_no_common_basis(features, truth):
    with pytest.raises(AnalysisError, match="Embed both with the same encoder"):
        fit_pca([features, blobs(truth, encoder="other")])


def test_nothing_seen_is_said_in_a_sentence(empty):
    with pytest.raises(AnalysisError, match="nothing valid was seen"):
        pca(empty)


@pytest.mark.parametrize("n", [0, 17])
def test_more_components_than_features_are_refused(features, n):
    with pytest.raises(AnalysisError, match="from 1 to 16"):
        fit_pca(features, n)


@pytest.mark.parametrize("wrong", [None, 3.0, "features", [], {}])
def test_what_is_not_features_is_refused(wrong):
    with pytest.raises(AnalysisError):
        fit_pca(wrong)


def test_axes_in_another_order_are_refused(features):
    with pytest.raises(AnalysisError, match="axes"):
        pca(features.transpose("y", "x", "feature"))


@pytest.fixture(scope="module")
def small():
    return blobs(fields(32, 3, 8), noise=0.05)


@pytest.fixture(scope="module")
def arranged(small):
    heard = []
    projection = fit_umap(small, sample=400, progress=lambda *call: heard.append(call))
    return projection, heard


@pytest.mark.slow
def test_umap_keeps_apart_what_is_apart(small, arranged):
    coordinates = arranged[0](small)
    assert coordinates.dims == ("component", "y", "x")
    points = coordinates.values.reshape(2, -1).T
    assert silhouette_score(points, fields(32, 3, 8).ravel()) > 0.5


@pytest.mark.slow
def test_umap_puts_a_fitted_pixel_where_it_was_arranged(arranged):
    projection = arranged[0]
    rows = projection.landmarks @ projection.components + projection.mean
    np.testing.assert_allclose(projection.transform(rows), projection.placed, atol=1e-2)


@pytest.mark.slow
def test_umap_repeats_with_its_seed(small, arranged):
    again = fit_umap(small, sample=400)
    np.testing.assert_array_equal(again.placed, arranged[0].placed)


@pytest.mark.slow
def test_umap_reports_how_far_it_is(arranged):
    done = [call[0] for call in arranged[1]]
    assert done == sorted(done)
    assert {call[1] for call in arranged[1]} == {200}
    assert (done[0], done[-1]) == (0, 200)


@pytest.mark.slow
def test_umap_stops_when_progress_says_so(small):
    def stop(done, total, sentence):
        raise Cancelled

    with pytest.raises(Cancelled):
        fit_umap(small, sample=400, progress=stop)


def test_without_umap_learn_a_sentence_says_what_to_install(small, monkeypatch):
    real = importlib.import_module

    def missing(name, *rest):
        if name == "umap":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(AnalysisError, match="pip install umap-learn"):
        umap(small)


def test_umap_of_too_few_pixels_is_refused(small):
    with pytest.raises(AnalysisError, match="at least 30"):
        umap(small[:, :5, :5])


@pytest.mark.parametrize("wrong", [{"n": 4}, {"sample": 10}])
def test_umap_refuses_settings_that_make_no_picture(small, wrong):
    with pytest.raises(AnalysisError, match="whole number"):
        fit_umap(small, **wrong)


def test_constant_features_have_components_without_variance():
    flat = on_ground(np.ones((4, 8, 8)), **PROVENANCE)
    assert (fit_pca(flat, 2).explained == 0).all()
    assert np.isfinite(pca(flat).values).all()
