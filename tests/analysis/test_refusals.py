"""Odd arguments at every door of the analysis: a sentence each, never another library's error."""

import numpy as np
import pytest
import xarray as xr
from blobs import PROVENANCE, fields, on_ground
from sentences import ODD, refused

from skysense.analysis import (
    agreement,
    assign,
    classes,
    cluster,
    compare,
    fit_pca,
    fit_prototypes,
    fit_umap,
    label_field,
    open_projection,
    pca,
    segment,
    similarity,
    sinkhorn,
    training_points,
    umap,
    usage,
)
from skysense.analysis.places import place_of
from skysense.errors import AnalysisError
from skysense.export import open_features, save_classes, save_features

named = {"ids": lambda odd: type(odd).__name__}
no_whole = [odd for odd in ODD if odd not in (5, -1, 2**70, 10**5000)]
ARRAYS: tuple = (
    xr.DataArray(3.0),
    xr.DataArray(np.zeros((2, 3))),
    xr.Dataset(),
    np.array([1.0, 2.0]),
)


@pytest.fixture(scope="module")
def bank(features):
    return fit_prototypes(features, 4, epochs=1)


@pytest.fixture(scope="module")
def marks(features):
    one, other = place_of(features, np.array([5, 60]), np.array([5, 60]))
    return {"a": [one], "b": [other]}


# --- numbers --------------------------------------------------------------------------------


COUNTS = {
    "cluster": (cluster, "n", (1, 65, 0)),
    "hdbscan": (lambda f, v: cluster(f, v, "hdbscan"), "n", (1, 65, 0)),
    "fit_prototypes": (fit_prototypes, "n", (1, 4097)),
    "epochs": (lambda f, v: fit_prototypes(f, 4, epochs=v), "epochs", (0,)),
    "iterations": (lambda f, v: fit_prototypes(f, 4, iterations=v), "iterations", (0,)),
    "fit_pca": (fit_pca, "n", (0, 17)),
    "pca": (pca, "n", (0, 17)),
    "fit_umap": (fit_umap, "n", (0, 4)),
    "sample": (lambda f, v: umap(f, sample=v), "sample", (0, 59)),
    "sinkhorn": (lambda f, v: sinkhorn(np.eye(3), iterations=v), "iterations", (0, -1)),
}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("odd", [*no_whole, "8", np.float32(4), ARRAYS[0]], **named)
def test_what_is_no_whole_number_is_refused(features, name, odd):
    call, argument, _ = COUNTS[name]
    text = refused(AnalysisError, call, features, odd)
    assert text.startswith(f"{argument}=")
    assert "whole number" in text


@pytest.mark.parametrize("name", COUNTS)
def test_counts_outside_their_range_are_refused_with_it(features, name):
    call, argument, wrong = COUNTS[name]
    for value in wrong:
        assert f"{argument}={value} " in refused(AnalysisError, call, features, value)


def test_numbers_of_numpy_are_as_good(features):
    assert len(cluster(features, np.int64(3), seed=np.uint8(1)).attrs["categories"]) == 3
    assert fit_pca(features, np.int32(2)).n == 2


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd != 5], **named)
def test_a_seed_is_never_guessed(features, bank, marks, odd):
    truth = cluster(features, 3)
    for call in (
        lambda: cluster(features, 3, seed=odd),
        lambda: fit_prototypes(features, 3, seed=odd),
        lambda: fit_umap(features, seed=odd),
        lambda: umap(features, seed=odd),
        lambda: compare({"a": features, "b": features}, bank, seed=odd),
        lambda: segment(features, marks, seed=odd),
        lambda: training_points(truth, features, seed=odd),
    ):
        assert refused(AnalysisError, call).startswith("seed=")


@pytest.mark.parametrize("odd", [*no_whole, 0, -1, 19], **named)
def test_too_few_redraws_are_refused(features, bank, odd):
    pair = {"a": features, "b": features}
    assert "bootstrap=" in refused(AnalysisError, compare, pair, bank, odd)


@pytest.mark.parametrize("odd", [*(odd for odd in ODD if odd not in (5, 2.5)), 0, 1e9], **named)
def test_odd_settings_of_prototypes_are_refused(features, odd):
    assert "epsilon=" in refused(AnalysisError, fit_prototypes, features, 4, odd)
    assert "epsilon=" in refused(AnalysisError, sinkhorn, np.eye(3), odd)
    if odd != 0:
        assert "momentum=" in refused(AnalysisError, fit_prototypes, features, 4, momentum=odd)


@pytest.mark.parametrize("odd", [*ODD, *ARRAYS], **named)
def test_odd_methods_are_refused(features, odd):
    assert "kmeans, hdbscan" in refused(AnalysisError, cluster, features, 4, odd)


# --- arrays ---------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [*ODD, *ARRAYS], **named)
def test_what_is_no_field_is_refused(features, bank, marks, tmp_path, odd):
    truth = cluster(features, 3)
    for call in (
        lambda: usage(odd),
        lambda: classes(odd),
        lambda: agreement(odd, truth),
        lambda: agreement(truth, odd),
        lambda: save_classes(odd, tmp_path / "x.tif"),
        lambda: assign(features, odd),
        lambda: compare({"a": features, "b": features}, odd),
        lambda: compare(odd, bank),
        lambda: label_field(odd, features),
        lambda: training_points(odd, features),
    ):
        assert refused(AnalysisError, call)


@pytest.mark.parametrize("odd", [*ODD, xr.Dataset(), np.zeros((0, 2)), [[np.nan]]], **named)
def test_scores_are_a_matrix_of_numbers(odd):
    assert "matrix" in refused(AnalysisError, sinkhorn, odd)


@pytest.mark.parametrize("odd", [*ODD, *ARRAYS], **named)
def test_what_is_no_features_is_refused(bank, marks, tmp_path, odd):
    for call in (
        lambda: fit_pca(odd),
        lambda: pca(odd),
        lambda: fit_umap(odd),
        lambda: cluster(odd),
        lambda: fit_prototypes(odd),
        lambda: assign(odd, bank),
        lambda: similarity(odd, (3.0, 50.0)),
        lambda: segment(odd, marks),
        lambda: label_field("x.geojson", odd),
        lambda: save_features(odd, tmp_path / "x.zarr"),
    ):
        assert refused(AnalysisError, call)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.copy(data=f.values + 0.5),
        lambda f: f.copy(data=f.values - 1),
        lambda f: f.copy(data=f.values + 7),
        lambda f: f.astype(str),
        lambda f: f.assign_attrs(categories=[]),
        lambda f: f.assign_attrs(categories="ab"),
        lambda f: f.assign_attrs(categories=None),
        lambda f: f.expand_dims("t"),
    ],
)
def test_a_field_whose_values_are_no_categories_is_refused(features, tmp_path, change):
    field = cluster(features, 3)
    broken = change(field)
    assert "such fields" in refused(AnalysisError, usage, broken)
    assert "such fields" in refused(AnalysisError, agreement, field, broken)
    assert "such fields" in refused(AnalysisError, save_classes, broken, tmp_path / "x.tif")


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd is not None], **named)
def test_odd_bases_columns_and_names_are_refused(features, odd):
    truth = cluster(features, 3)
    assert "basis=" in refused(AnalysisError, pca, features, 3, odd)
    if not callable(odd):
        assert "progress=" in refused(AnalysisError, fit_umap, features, progress=odd)
    if not isinstance(odd, str | int) or odd is True:
        assert "column=" in refused(AnalysisError, label_field, truth, features, odd)
    if not isinstance(odd, dict):
        assert "names=" in refused(AnalysisError, label_field, truth, features, None, odd)


# --- places ---------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [*ODD, np.zeros(3), ("3", "50"), (True, 50.0)], **named)
def test_odd_targets_are_refused(features, odd):
    assert refused(AnalysisError, similarity, features, odd)


@pytest.mark.parametrize("odd", [*ODD, np.zeros(3), [("3", "50")], [None, None]], **named)
def test_odd_places_of_a_class_are_refused(features, marks, odd):
    text = refused(AnalysisError, segment, features, {**marks, "snow": odd})
    assert len(text) < 500


@pytest.mark.parametrize("odd", ODD, **named)
def test_odd_labels_are_refused(features, odd):
    assert "class" in refused(AnalysisError, segment, features, odd)


def test_classes_that_look_alike_everywhere_are_refused(marks):
    flat = on_ground(np.full((4, 96, 96), 0.3), **PROVENANCE)
    assert "apart" in refused(AnalysisError, segment, flat, marks)
    varied = flat.copy(deep=True)
    varied[:, 40:50] = np.random.default_rng(0).normal(size=(4, 10, 96))
    assert "apart" in refused(AnalysisError, segment, varied, marks)


def test_one_place_in_two_classes_is_refused(features, marks):
    assert "apart" in refused(AnalysisError, segment, features, {"a": marks["a"], "b": marks["a"]})


def test_constant_features_are_grouped_by_nothing():
    flat = on_ground(np.full((4, 20, 20), 0.3), **PROVENANCE)
    assert refused(AnalysisError, cluster, flat, 3)
    assert refused(AnalysisError, cluster, flat, 3, "hdbscan")


# --- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [*(o for o in ODD if not isinstance(o, str)), "a\0b"], **named)
def test_odd_paths_are_refused(features, odd):
    field = cluster(features, 3)
    for call in (
        lambda: save_features(features, odd),
        lambda: save_classes(field, odd),
        lambda: open_features(odd),
        lambda: open_projection(odd),
        lambda: fit_pca(features).save(odd),
    ):
        assert "path=" in refused(AnalysisError, call)


LONG = "n" * 247
"""Short enough for a name, too long once `.partial` stands behind it: a file nobody can write."""


def test_places_that_cannot_be_written_are_named(features, tmp_path):
    field = cluster(features, 3)
    for ending, write in (
        (".zarr", lambda path: save_features(features, path)),
        (".tif", lambda path: save_features(features, path)),
        (".tif", lambda path: save_classes(field, path)),
        (".geojson", lambda path: save_classes(field, path)),
        (".npz", lambda path: fit_pca(features).save(path)),
    ):
        path = tmp_path / f"{LONG[: 255 - len(ending)]}{ending}"
        text = refused(AnalysisError, write, path)
        assert f"{ending} cannot be written" in text
        assert list(tmp_path.iterdir()) == []


def test_a_projection_that_was_cut_off_or_mixed_up_is_refused(features, tmp_path):
    path = fit_pca(features).save(tmp_path / "a.npz")
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[: len(whole) // 2], b"junk" * 50):
        path.write_bytes(content)
        assert "a.npz" in refused(AnalysisError, open_projection, path)
    np.savez(path, facts=np.array('{"kind": "pca", "attrs": {}}'), mean=np.zeros(3),
             components=np.zeros((2, 4)), low=np.zeros(2), high=np.zeros(2))  # fmt: skip
    assert "fit together" in refused(AnalysisError, open_projection, path)


@pytest.mark.parametrize("name", ["features", "y", "spatial_ref"])
@pytest.mark.parametrize("content", [None, b"", b"junk" * 9])
def test_features_that_lost_something_are_refused(features, tmp_path, name, content):
    path = save_features(features, tmp_path / "a.zarr")
    store = path / name / "c"
    file = sorted(f for f in store.rglob("*") if f.is_file())[0] if store.is_dir() else store
    file.unlink() if content is None else file.write_bytes(content)
    assert "a.zarr" in refused(AnalysisError, lambda: open_features(path).load())


def test_a_picture_of_ours_with_broken_facts_is_refused(features, tmp_path):
    import rasterio

    path = save_features(features, tmp_path / "a.tif")
    for facts in ("{", "[1]", "5"):
        with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
            file.update_tags(SKYSENSE=facts)
        assert "a.tif" in refused(AnalysisError, open_features, path)


def test_labels_of_text_are_refused(features):
    words = on_ground(fields(96)).astype(str)
    assert "numbers" in refused(AnalysisError, label_field, words, features)
