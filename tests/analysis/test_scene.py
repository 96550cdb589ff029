"""The analyses on the synthetic scene, whose truth is known, seen by the spectral baseline."""

import numpy as np
import pytest

from skysense.analysis import (
    agreement,
    assign,
    classes,
    cluster,
    compare,
    fit_pca,
    fit_prototypes,
    segment,
    similarity,
    training_points,
)
from skysense.analysis.places import place_of
from skysense.embedding import embed
from skysense.encoders import load_encoder
from skysense.sources import synthetic


@pytest.fixture(scope="module")
def scenes():
    """{style: (features, truth)}"""
    found = {}
    for style in ("fens", "hills"):
        stack, truth = synthetic.scene(size=1280, sensors=("s2", "s1"), style=style)
        found[style] = embed(stack, load_encoder("spectral")), truth
    return found


@pytest.fixture(scope="module", params=["fens", "hills"])
def place(request, scenes):
    return scenes[request.param]


def test_kmeans_finds_much_of_the_land_cover(place):
    features, truth = place
    assert agreement(cluster(features, 8), truth).ari > 0.45


def test_hdbscan_finds_it_without_being_told_how_many(place):
    features, truth = place
    assert agreement(cluster(features, 8, "hdbscan"), truth).ari > 0.5


def test_ten_labels_per_class_map_the_scene(place):
    features, truth = place
    points = training_points(truth, features, per_class=10)
    found = agreement(classes(segment(features, points)), truth)
    assert found.accuracy > 0.85
    assert found.miou > 0.7


def test_more_labels_map_it_better(place):
    features, truth = place
    score = [
        np.mean([
            agreement(
                classes(segment(features, training_points(truth, features, per_class=n, seed=s))),
                truth,
            ).miou
            for s in range(3)
        ])
        for n in (1, 20)
    ]  # fmt: skip
    assert score[1] > score[0] + 0.1


def test_prototypes_hold_pixels_of_one_class_each(place):
    features, truth = place
    table = agreement(assign(features, fit_prototypes(features, 32)), truth).confusion.to_numpy()
    assert table.max(0).sum() / table.sum() > 0.85


def test_water_is_most_like_water(place):
    features, truth = place
    water = truth.values == truth.attrs["categories"].index("water")
    row, column = np.argwhere(water)[water.sum() // 2]
    alike = similarity(features, place_of(features, [row], [column])[0]).values
    best = np.argsort(-alike.ravel())[: int(water.sum()) // 2]
    assert water.ravel()[best].mean() > 0.9


def test_three_components_hold_most_of_the_variance(place):
    assert fit_pca(place[0], 3).explained.sum() > 0.7


def test_two_landscapes_differ_more_than_halves_of_one(scenes):
    places = {style: features for style, (features, _) in scenes.items()}
    table = compare(places, fit_prototypes(places, 32), bootstrap=50).to_dataframe()
    assert table["distance"][0] > table["control"][0]
