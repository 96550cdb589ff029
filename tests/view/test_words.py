import numpy as np
import pytest
from blobs import blobs, fields

from skysense import view
from skysense.analysis import assign, cluster, fit_pca, fit_prototypes, similarity

REAL = {
    "encoder": "skysense-v1",
    "weights": "sha256:0123456789abcdef",
    "weights_licence": "non-commercial research",
    "data_licence": "Contains modified Copernicus Sentinel data 2018",
    "synthetic": 0,
    "untrained": 0,
    "missing_bands": [],
}


@pytest.fixture(scope="module")
def real():
    return blobs(fields(32), sensors=["s2", "s1"], dates_s1=["2018-06-02"], **REAL)


def test_random_weights_and_synthetic_scenes_are_written_first(features):
    words = view.caption(cluster(features, 3))
    assert words.startswith("UNTRAINED random(seed=0) · SYNTHETIC scene · blobs")


def test_a_trained_encoder_on_a_real_place_carries_no_warning(real):
    assert view.warnings(cluster(real, 3)) == []
    assert view.caption(cluster(real, 3)).startswith("skysense-v1 · weights 01234567")


def test_sensors_and_numbers_of_dates_are_written(real):
    assert "2 Sentinel-2 dates · 1 Sentinel-1 date" in view.caption(similarity(real, np.ones(16)))


def test_missing_bands_are_written(features):
    assert "without nir08" in view.caption(cluster(features, 3))


def test_the_credit_of_images_and_weights_travels(real):
    shown = cluster(real, 3)
    assert "Copernicus" in view.caption(shown)
    assert view.credit(shown) == (
        "Images: Contains modified Copernicus Sentinel data 2018; Weights: non-commercial research"
    )


def test_an_untrained_or_synthetic_bank_is_written_on_a_real_place(real):
    synthetic = blobs(fields(32), **{**REAL, "synthetic": 1})
    found = assign(real, fit_prototypes({"made up": synthetic}, 4))
    assert "SYNTHETIC scene" in view.caption(found)
    assert "fitted on made up" in view.caption(found)


def test_a_basis_from_a_synthetic_scene_is_written_on_a_real_place(real):
    synthetic = blobs(fields(32), **{**REAL, "synthetic": 1})
    assert view.warnings(fit_pca(synthetic)(real)) == ["SYNTHETIC scene"]


def test_coarse_values_say_what_a_block_stands_for(features):
    coarse = features[:, 2::4, 2::4].assign_attrs(resolution=40.0)
    assert "one 10 m cell in every 40 m block" in view.caption(cluster(coarse, 3))


def test_the_title_names_the_target(features):
    assert view.title(similarity(features, np.ones(16))) == "similarity to a feature vector"
