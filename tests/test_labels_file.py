"""Labels written and read back: the same marks, the same map."""

import contextlib
import json

import geopandas as gpd
import numpy as np
import pytest
import shapely
from blobs import blobs, features, truth
from hypothesis import given, settings
from hypothesis import strategies as st

from skysense import Labels, classes, open_labels, save_classes, save_labels, segment, view
from skysense.analysis.marks import LabelClass
from skysense.analysis.places import place_of
from skysense.errors import AnalysisError, SkySenseError
from skysense.labels_file import holds_labels, labels_from, labels_text

__all__ = ["features", "truth"]

EVIL = '"><script>alert(1)</script>'


@pytest.fixture
def labels(features, truth):
    """Points and polygons of three classes, in colours that are not the palette's order."""
    made = []
    for i, (name, colour) in enumerate((("maize", "#d55e00"), (EVIL, "#0072b2"), ("Wälder", ""))):
        row, column = np.argwhere(truth == i)[0] // 16 * 16
        (west, north), (east, south) = place_of(
            features, [row + 1, row + 9], [column + 2, column + 9]
        )
        ring = shapely.Polygon([(west, south), (east, south + 1e-7 / 3), (east, north)])
        points = place_of(features, *np.argwhere(truth == i)[5::500].T)
        made.append(LabelClass(name, tuple(points), (ring,), colour))
    return Labels((*made, LabelClass("not yet marked")))


def test_labels_come_back_as_they_were(labels, tmp_path):
    found = open_labels(save_labels(labels, tmp_path / "mine.geojson"))
    assert [each.name for each in found.classes] == [each.name for each in labels.classes]
    assert [each.points for each in found.classes] == [each.points for each in labels.classes]
    for ours, theirs in zip(found.classes, labels.classes, strict=True):
        assert [p.wkb for p in ours.polygons] == [p.wkb for p in theirs.polygons]
    assert [each.colour for each in found.classes][:2] == ["#d55e00", "#0072b2"]


def test_labels_read_back_give_the_same_map_bit_for_bit(features, labels, tmp_path):
    found = open_labels(save_labels(labels, tmp_path / "mine.geojson"))
    one, other = classes(segment(features, labels)), classes(segment(features, found))
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one["confidence"].values, other["confidence"].values)
    assert view.overlay(one).png == view.overlay(other).png


def test_a_class_without_marks_stays_and_trains_nothing(labels, tmp_path):
    found = open_labels(save_labels(labels, tmp_path / "mine.geojson"))
    assert found.classes[-1] == LabelClass("not yet marked", colour=view.palette(4)[3])
    assert "not yet marked" not in found


def test_other_tools_read_the_marks(labels, tmp_path):
    frame = gpd.read_file(save_labels(labels, tmp_path / "mine.geojson"))
    assert frame.crs.to_epsg() == 4326
    assert set(frame["class"]) == {each.name for each in labels.classes}
    assert (frame.geometry.geom_type == "Polygon").sum() == 3


def test_a_class_keeps_its_colour_on_the_map_and_in_files(features, labels, tmp_path):
    mapped = classes(segment(features, labels))
    assert view.legend(mapped)[0] == ("maize", "#d55e00")
    row, column = np.argwhere(mapped.values == 0)[0]
    assert view.colours(mapped)[row, column, :3].tolist() == [0xD5, 0x5E, 0x00]
    polygons = gpd.read_file(save_classes(mapped, tmp_path / "map.geojson"))
    assert dict(zip(polygons["class"], polygons["colour"], strict=True))["maize"] == "#d55e00"


def test_a_colour_that_is_none_is_not_drawn(features, labels):
    field = classes(segment(features, labels))
    field.attrs["colours"] = ["red;background:url(x)", None, 3]
    assert [colour for _, colour in view.legend(field)] == view.palette(3)


def test_labels_of_another_tool_need_only_a_class():
    text = json.dumps({"type": "FeatureCollection", "features": [
        {"type": "Feature", "properties": {"class": name}, "geometry": {"type": "Point", "coordinates": at}}
        for name, at in (("b", [3, 50]), ("a", [3.1, 50, 12.0]))
    ]})  # fmt: skip
    assert dict(labels_from(text)) == {"b": [(3.0, 50.0)], "a": [(3.1, 50.0)]}
    assert not holds_labels(text)


def test_what_was_saved_is_told_from_other_geojson(labels):
    assert holds_labels(labels_text(labels))
    for other in ("", "[]", "{", '{"features": [1]}', '{"features": [{"properties": null}]}'):
        assert not holds_labels(other)


def point(coordinates, **properties):
    return {
        "type": "Feature",
        "properties": {"class": "a", **properties},
        "geometry": {"type": "Point", "coordinates": coordinates},
    }


@pytest.mark.parametrize(
    "feature",
    [
        None, 3, {}, point([3]), point([200, 50]), point([3, 95]), point("3,50"), point([True, 1]),
        point([None, 1]), point([3, 50], **{"class": ""}), point([3, 50], **{"class": 7}), point([3, 10**400]),
        point([3, 50], **{"class": "x" * 1000}),
        {**point([3, 50]), "geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}},
        {**point([3, 50]), "geometry": [3]},
        {**point([3, 50]), "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}},
        {**point([3, 50]), "geometry": {"type": "Polygon", "coordinates": [[[500, 0], [501, 1], [501, 0], [500, 0]]]}},
    ],
)  # fmt: skip
def test_what_is_no_label_is_refused_with_a_sentence(feature):
    text = json.dumps({"type": "FeatureCollection", "features": [feature]})
    with pytest.raises(AnalysisError) as found:
        labels_from(text)
    assert str(found.value).endswith(".")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"features": []}', "[" * 100_000])
def test_text_that_holds_no_labels_is_refused(text):
    with pytest.raises(AnalysisError):
        labels_from(text)


leaves = st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.sampled_from(
    ["class", "Point", "Polygon", "FeatureCollection", [3, 50], [[[0, 0], [1, 0], [1, 1], [0, 0]]]]
)  # fmt: skip
keys = st.sampled_from(
    ["type", "features", "properties", "geometry", "class", "coordinates", "order"]
)


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(leaves, lambda c: st.lists(c, max_size=3) | st.dictionaries(keys, c, max_size=4))
)
def test_whatever_json_is_given_only_our_own_errors_come_back(parsed):
    collection = {"type": "FeatureCollection", "features": [parsed]}
    for each in (parsed, collection):
        with contextlib.suppress(SkySenseError):
            labels_from(json.dumps(each))


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(AnalysisError, match="two classes 'a'"):
        Labels((LabelClass("a"), LabelClass("a")))


def test_orders_without_end_are_the_last():
    features = [point([3, 50], **{"class": n, "order": o}) for n, o in (("b", 10**400), ("a", 1))]
    found = labels_from(json.dumps({"type": "FeatureCollection", "features": features}))
    assert list(found) == ["a", "b"]


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(AnalysisError, match="no label file"):
        open_labels(tmp_path / "none.geojson")


def test_labels_do_not_overwrite_unasked(labels, tmp_path):
    save_labels(labels, tmp_path / "mine.geojson")
    with pytest.raises(AnalysisError, match="already there"):
        save_labels(labels, tmp_path / "mine.geojson")
    save_labels(labels, tmp_path / "mine.geojson", overwrite=True)


def test_clusters_become_classes_that_survive_saving(features, truth, tmp_path):
    from skysense.analysis import cluster, points_of

    groups = cluster(blobs(truth), 4)
    promoted = Labels(
        tuple(LabelClass(f"was {i}", points_of(groups.values == i, features)) for i in range(3))
    )
    found = open_labels(save_labels(promoted, tmp_path / "mine.geojson"))
    assert found == Labels(
        tuple(
            LabelClass(each.name, each.points, (), colour)
            for each, colour in zip(promoted.classes, view.palette(3), strict=True)
        )
    )
    np.testing.assert_array_equal(segment(features, found), segment(features, promoted))
