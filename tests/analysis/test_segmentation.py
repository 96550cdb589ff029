import json

import numpy as np
import pytest
import shapely
from blobs import blobs, fields
from sklearn.linear_model import LogisticRegression

from skysense.analysis import Segmenter, classes, segment
from skysense.analysis.places import place_of
from skysense.analysis.segmentation import COMMON, STRENGTH, fit
from skysense.errors import AnalysisError

NAMES = ("maize", "grass", "wood", "water")


def clicks(features, truth, each=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = {}
    for i, name in enumerate(NAMES):
        cells = rng.permutation(np.argwhere(truth == i))[:each]
        labels[name] = place_of(features, cells[:, 0], cells[:, 1])
    return labels


def square(features, rows, columns):
    """A polygon in degrees around whole cells."""
    (west, north), (east, south) = place_of(
        features, [rows[0] - 0.5, rows[1] - 0.5], [columns[0] - 0.5, columns[1] - 0.5]
    )
    return shapely.box(west, south, east, north)


def test_three_clicks_per_class_map_the_whole_place(features, truth):
    mapped = classes(segment(features, clicks(features, truth)))
    assert (mapped.values == truth).mean() > 0.95


def test_one_click_per_class_is_enough_for_clear_classes(truth):
    clear = blobs(truth, noise=0.05)
    mapped = classes(segment(clear, clicks(clear, truth, 1)))
    assert (mapped.values == truth).mean() > 0.99


def test_probabilities_are_between_zero_and_one_and_sum_to_one(features, truth):
    found = segment(features, clicks(features, truth))
    assert found.dims == ("class", "y", "x")
    assert list(found["class"].values) == list(NAMES)
    assert float(found.min()) >= 0
    np.testing.assert_allclose(found.sum("class"), 1, atol=1e-5)


def test_sure_pixels_are_right_more_often_than_doubtful_ones(truth):
    vague = blobs(truth, noise=0.5)
    mapped = classes(segment(vague, clicks(vague, truth, 30)))
    right = mapped.values == truth
    sure = mapped["confidence"].values > np.median(mapped["confidence"].values)
    assert right[sure].mean() > right[~sure].mean() + 0.1


def test_stated_confidence_is_near_the_share_that_is_right(truth):
    vague = blobs(truth, noise=0.5)
    mapped = classes(segment(vague, clicks(vague, truth, 30)))
    assert float(mapped["confidence"].mean()) == pytest.approx(
        (mapped.values == truth).mean(), abs=0.1
    )


def test_solving_in_the_span_of_the_labels_equals_solving_in_all_features(features, truth):
    values = features.values.reshape(16, -1).T
    rows = {f"{i}": np.flatnonzero(truth.ravel() == i)[:5] for i in range(3)}
    weights, offset = fit(values, rows)
    marked, which = values[np.concatenate(list(rows.values()))], np.repeat(np.arange(3), 5)
    own = marked.var(0)
    scale = np.sqrt((15 * own + COMMON * own.mean()) / (15 + COMMON) * 16)
    full = LogisticRegression(C=STRENGTH, class_weight="balanced", tol=1e-8, max_iter=1000)
    full.fit((marked - marked.mean(0)) / scale, which)
    expected = (values - marked.mean(0)) / scale @ full.coef_.T + full.intercept_
    found = values @ weights + offset
    np.testing.assert_allclose(found - found.mean(1, keepdims=True), expected, atol=0.02)


def test_the_map_does_not_depend_on_the_rectangle_that_was_drawn(features, truth):
    part = features[:, 20:80, 10:90]
    labels = {}
    for i, name in enumerate(NAMES):
        rows, columns = np.argwhere(truth[25:70, 15:80] == i)[::60].T
        labels[name] = place_of(features, rows + 25, columns + 15)
    labels["wood"] = [square(features, (40, 70), (20, 60))]  # sampled: more than PER_CLASS cells
    whole, cut = segment(features, labels), segment(part, labels)
    np.testing.assert_allclose(cut, whole[:, 20:80, 10:90], atol=1e-6)


def test_features_laid_out_once_give_the_same_map_after_every_click(features, truth):
    segmenter = Segmenter.of(features)
    for each in (1, 3):
        labels = clicks(features, truth, each)
        np.testing.assert_array_equal(segmenter(labels), segment(features, labels))


def test_the_order_of_the_marks_does_not_matter(features, truth):
    labels = clicks(features, truth)
    turned = {name: places[::-1] for name, places in labels.items()}
    np.testing.assert_array_equal(segment(features, turned), segment(features, labels))


def test_two_classes_give_the_same_map_whichever_is_first(features, truth):
    labels = clicks(features, truth)
    forth = segment(features, {k: labels[k] for k in ("maize", "wood")})
    back = segment(features, {k: labels[k] for k in ("wood", "maize")})
    np.testing.assert_allclose(
        forth.sel({"class": "maize"}), back.sel({"class": "maize"}), atol=1e-4
    )


def test_a_polygon_labels_the_cells_inside_it(features, truth):
    labels = {}
    for i, name in enumerate(NAMES):
        row, column = np.argwhere(truth == i)[0] // 16 * 16
        labels[name] = [square(features, (row + 2, row + 8), (column + 3, column + 10))]
    found = segment(features, labels)
    assert found.attrs["training_pixels"] == [42, 42, 42, 42]
    assert (classes(found).values == truth).mean() > 0.97


def test_geojson_and_shapely_and_pairs_mean_the_same(features, truth):
    labels = clicks(features, truth, 1)
    geojson = {k: json.loads(shapely.to_geojson(shapely.Point(v[0]))) for k, v in labels.items()}
    wrapped = {
        k: [{"type": "Feature", "geometry": v, "properties": {}}] for k, v in geojson.items()
    }
    shapes = {k: shapely.Point(v[0]) for k, v in labels.items()}
    bare = {k: v[0] for k, v in labels.items()}
    expected = segment(features, labels)
    for other in (geojson, wrapped, shapes, bare):
        np.testing.assert_array_equal(segment(features, other), expected)


def test_unseen_pixels_get_no_class(holey, truth):
    seen = np.where(np.isfinite(holey.values[0]), truth, -1)
    mapped = classes(segment(holey, clicks(holey, seen)))
    assert np.isnan(mapped.values[:10, :20]).all()
    assert np.isnan(mapped["confidence"].values[:10, :20]).all()


def test_labels_that_hit_nothing_are_counted(features, truth):
    labels = clicks(features, truth)
    labels["maize"] = [*labels["maize"], (12.5, 41.9)]
    assert segment(features, labels).attrs["labels_missed"] == 1


def test_a_class_without_any_usable_pixel_is_named(features, truth):
    labels = {**clicks(features, truth), "snow": [(12.5, 41.9)]}
    with pytest.raises(AnalysisError, match="'snow' has no usable pixel"):
        segment(features, labels)


def test_a_class_labelled_only_where_nothing_was_seen_is_named(holey, truth):
    seen = np.where(np.isfinite(holey.values[0]), truth, -1)
    labels = {**clicks(holey, seen), "snow": place_of(holey, [1], [1])}
    with pytest.raises(AnalysisError, match="'snow' has no usable pixel"):
        segment(holey, labels)


@pytest.mark.parametrize("labels", [{}, {"maize": [(3.0, 50.8)]}, None, [(3.0, 50.8)]])
def test_fewer_than_two_classes_are_refused(features, labels):
    with pytest.raises(AnalysisError, match="2 to 64 classes"):
        segment(features, labels)


@pytest.mark.parametrize(
    "place",
    [
        (3.0, 500.0),
        ("a", "b"),
        "here",
        {"type": "Polygon", "coordinates": []},
        {"type": "Nothing"},
        shapely.Polygon([(3, 50), (3.01, 50.01), (3.01, 50), (3, 50.01)]),
    ],
)
def test_a_label_that_is_no_place_is_refused(features, truth, place):
    with pytest.raises(AnalysisError):
        segment(features, {**clicks(features, truth), "odd": [place]})


def test_nothing_seen_is_said_in_a_sentence(empty):
    with pytest.raises(AnalysisError, match="nothing valid was seen"):
        segment(empty, {"a": [(3.0, 50.8)], "b": [(3.0, 50.8)]})


def test_classes_of_something_else_are_refused(features):
    with pytest.raises(AnalysisError, match="probabilities of segment"):
        classes(features)


def test_a_large_place_is_mapped_like_a_small_one():
    truth = fields(160, 4)
    wide = blobs(truth, dim=64)
    assert (classes(segment(wide, clicks(wide, truth, 5))).values == truth).mean() > 0.95
