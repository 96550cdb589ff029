import json

import numpy as np
import pytest

from tests.app.middles import middle_of

EVIL = "<img src=x onerror=alert(1)>"


def click(visit, *cells):
    for row, column in cells:
        visit.flow.click(*middle_of(visit.state.features, row, column))
        visit.settle()


@pytest.fixture
def labelling(encoded):
    encoded.state.mode = "label"
    return encoded


def two_groups(visit):
    """One cell of each of the two largest clusters."""
    groups = visit.state.fields["groups"].values
    largest = np.argsort(-np.bincount(groups[np.isfinite(groups)].astype(int)))[:2]
    return [tuple(np.argwhere(groups == number)[5]) for number in largest]


def test_clicks_of_two_classes_segment_the_place(labelling):
    first, second = two_groups(labelling)
    click(labelling, first)
    labelling.state.active_class = 1
    click(labelling, second)
    field = labelling.state.fields["classes"]
    assert field.values[first] == 0
    assert field.values[second] == 1
    assert labelling.state.top == "classes"


def test_one_class_alone_shows_no_segmentation(labelling):
    click(labelling, (3, 3), (4, 4))
    assert "classes" not in labelling.state.fields


def test_undo_takes_back_the_latest_click(labelling):
    click(labelling, (3, 3), (4, 4))
    labelling.flow.labels.undo()
    assert len(labelling.state.classes[0].points) == 1


def test_clear_can_be_undone(labelling):
    click(labelling, (3, 3))
    labelling.flow.labels.clear()
    assert labelling.state.classes[0].points == ()
    labelling.flow.labels.undo()
    assert len(labelling.state.classes[0].points) == 1


def test_a_click_without_the_label_mode_adds_no_point(encoded):
    click(encoded, (3, 3))
    assert encoded.state.classes[0].points == ()


def test_a_new_class_gets_the_next_clicks(labelling):
    labelling.flow.labels.add_class("maize")
    click(labelling, (3, 3))
    assert labelling.state.classes[-1].name == "maize"
    assert len(labelling.state.classes[-1].points) == 1


@pytest.mark.parametrize("name", ["", "   ", "Class A"])
def test_a_class_needs_a_name_of_its_own(labelling, name):
    labelling.flow.labels.add_class(name)
    assert labelling.state.status("label").kind == "failed"
    assert len(labelling.state.classes) == 2


def test_labels_of_the_place_train_and_score(labelling):
    names = labelling.flow.labels.own
    labelling.flow.labels.use_own(names[0])
    labelling.settle()
    assert labelling.state.status("label").sentence == ""
    assert labelling.state.agreement.accuracy > 0.5
    trained = sum(len(each.points) for each in labelling.state.classes)
    assert labelling.state.agreement.n <= labelling.state.features[0].size - trained


def geojson(visit, column="crop"):
    features = []
    for number, (row, column_) in enumerate(((4, 4), (20, 20))):
        lon, lat = middle_of(visit.state.features, row, column_)
        ring = [[lon - 3e-4, lat - 2e-4], [lon + 3e-4, lat - 2e-4], [lon + 3e-4, lat + 2e-4],
                [lon - 3e-4, lat + 2e-4], [lon - 3e-4, lat - 2e-4]]  # fmt: skip
        properties = {column: EVIL if number else "grass"}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def test_a_label_file_of_ones_own_trains_whatever_its_names_are(labelling, tmp_path):
    labelling.flow.labels.load_file("mine.geojson", geojson(labelling), tmp_path, "crop")
    labelling.settle()
    assert {each.name for each in labelling.state.classes} == {"grass", EVIL}
    assert "classes" in labelling.state.fields


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("mine.exe", b"MZ", ""),
        ("mine.geojson", b"{", ""),
        ("mine.tif", b"not a picture", ""),
        ("mine.gpkg", b"\x00" * 100, ""),
        ("../../evil.geojson", b"[]", ""),
    ],
)
def test_a_file_that_holds_no_labels_is_refused_with_a_sentence(
    labelling, tmp_path, name, content, column
):
    labelling.flow.labels.load_file(name, content, tmp_path, column)
    labelling.settle()
    assert labelling.state.status("label").kind == "failed"
    assert "foresaw" not in labelling.state.status("label").sentence
    assert [path.parent for path in tmp_path.parent.rglob("*evil*")] == []


def test_a_column_that_is_not_there_is_named(labelling, tmp_path):
    labelling.flow.labels.load_file("mine.geojson", geojson(labelling), tmp_path, "species")
    labelling.settle()
    assert "species" in labelling.state.status("label").sentence
    assert "crop" in labelling.state.status("label").sentence


def test_labels_before_encoding_are_refused_with_what_to_do(visit, tmp_path):
    visit.state.resolution = 40
    visit.open()
    visit.flow.labels.load_file("mine.geojson", b"{}", tmp_path, "")
    assert "Encode" in visit.state.status("label").sentence
