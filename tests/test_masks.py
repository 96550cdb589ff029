"""Masks of the semantic queries: of each cell alone, comparable, and the model's own scores behind."""

import numpy as np
import pytest
import torch
from blobs import on_ground
from sentences import ODD, refused

from skysense.encoders import load_encoder
from skysense.errors import AnalysisError, EncoderError
from skysense.masks import leading_query, query_levels, query_masks
from skysense.view import caption, colours


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("skysense-v2-tiny-untrained", device="cpu", precision="float64")


@pytest.fixture(scope="module")
def features(encoder):
    values = np.random.default_rng(0).normal(size=(encoder.dim, 12, 20)).astype(np.float32)
    values[:, 0, :3] = np.nan
    said = {"encoder": encoder.name, "weights": encoder.weights, "untrained": 1, "region": "here"}
    return on_ground(values, **said)


@pytest.fixture(scope="module")
def levels(features, encoder):
    return query_levels({"here": features}, encoder)


def test_shares_are_a_softmax_over_the_queries_of_the_models_own_scores(features, encoder, levels):
    scores = encoder.model.query_scores(torch.from_numpy(features.values).double()[None])[0]
    expected = (scores.numpy() - levels.values[:, None, None])[:, 5, 7]
    expected = np.exp(expected) / np.exp(expected).sum()
    found = query_masks(features, encoder, levels)
    np.testing.assert_allclose(found.values[:, 5, 7], expected, rtol=1e-5)
    np.testing.assert_allclose(found.values[:, 1:].sum(0), 1, rtol=1e-5)
    assert found.sizes["query"] == 16


@pytest.mark.parametrize("fitted", [True, False])
def test_a_mask_does_not_depend_on_the_rectangle(features, encoder, levels, fitted):
    given = levels if fitted else None
    whole = query_masks(features, encoder, given)
    part = query_masks(features[:, 3:9, 5:], encoder, given)
    np.testing.assert_allclose(part.values, whole.values[:, 3:9, 5:], rtol=0, atol=1e-6)


def test_a_constant_added_to_what_one_query_likes_changes_no_mask(features, encoder, levels):
    # training cannot tell such constants: its softmax is over places
    own = load_encoder("skysense-v2-tiny-untrained", device="cpu", precision="float64")
    score = own.model.query_scores
    shift = torch.linspace(-3, 3, 16)[None, :, None, None]
    own.model.query_scores = lambda fused: score(fused) + shift
    shifted = query_masks(features, own, query_levels(features, own))
    before = query_masks(features, encoder, levels)
    np.testing.assert_allclose(shifted.values, before.values, rtol=0, atol=1e-6)
    blank = query_masks(features, own)
    np.testing.assert_allclose(blank.values, query_masks(features, encoder).values, atol=1e-6)


def test_an_average_cell_gives_every_query_its_level(features, encoder, levels):
    scores = encoder.model.query_scores(torch.from_numpy(features.values).double()[None])[0]
    seen = np.isfinite(features.values[0])
    np.testing.assert_allclose(
        np.exp(levels.values), np.exp(scores.numpy()[:, seen]).mean(1), rtol=1e-6
    )


def test_geo_context_is_left_aside(features, encoder, levels):
    wide = load_encoder("skysense-v2-tiny-untrained", device="cpu", precision="float64")
    wide.dim = encoder.dim + 8
    values = np.concatenate([features.values, np.ones((8, 12, 20), np.float32)])
    context = on_ground(values, **features.attrs)
    np.testing.assert_array_equal(
        query_masks(context, wide, levels).values, query_masks(features, encoder, levels).values
    )


def test_the_leading_query_has_the_largest_share_and_nothing_leads_where_nothing_was_seen(
    features, encoder, levels
):
    masks = query_masks(features, encoder, levels)
    field = leading_query(masks)
    seen = np.isfinite(features.values[0])
    np.testing.assert_array_equal(np.isfinite(field.values), seen)
    np.testing.assert_array_equal(field.values[seen], masks.values.argmax(0)[seen])
    np.testing.assert_array_equal(field["strength"].values[seen], masks.values.max(0)[seen])
    assert field.attrs["categories"][15] == "query 16"


def test_pictures_say_that_the_weights_are_random_and_where_levels_are_from(
    features, encoder, levels
):
    field = leading_query(query_masks(features, encoder, levels))
    assert "UNTRAINED" in caption(field)
    assert "fitted on here" in caption(field)
    assert colours(field).shape == (12, 20, 4)
    assert colours(query_masks(features, encoder)[3]).shape == (12, 20, 4)


@pytest.mark.parametrize("name", ["skysense-tiny-untrained", "spectral"])
def test_encoders_without_queries_are_refused(features, name):
    other = load_encoder(name, device="cpu")
    assert "SkySense V2" in refused(EncoderError, query_masks, features, other)
    assert "SkySense V2" in refused(EncoderError, query_levels, features, other)


def test_a_checkpoint_without_queries_says_so(features, encoder):
    bare = load_encoder("skysense-v2-tiny-untrained", device="cpu", precision="float64")
    bare.model.queries = None
    assert "hold no semantic queries" in refused(EncoderError, query_masks, features, bare)


def test_features_or_levels_of_others_are_refused(features, encoder, levels):
    other = features.assign_attrs(weights="random(seed=1)")
    assert "random(seed=0)" in refused(AnalysisError, query_masks, other, encoder)
    assert "levels" in refused(AnalysisError, query_masks, features, encoder, levels[:3])
    odd = levels.assign_attrs(weights="none")
    assert "levels" in refused(AnalysisError, query_masks, features, encoder, odd)


def test_what_is_no_mask_has_no_leading_query():
    for odd in ODD:
        refused(AnalysisError, leading_query, odd)
