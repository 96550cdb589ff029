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


def square_round(visit, row, column, cells=3):
    """GeoJSON around a square of cells."""
    features = visit.state.features
    west, north = middle_of(features, row, column)
    east, south = middle_of(features, row + cells, column + cells)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


@pytest.fixture
def mapped(labelling):
    """Two classes with a click each."""
    first, second = two_groups(labelling)
    click(labelling, first)
    labelling.flow.labels.pick(1)
    click(labelling, second)
    return labelling


def test_redo_does_again_what_undo_took_back(mapped):
    before, labels = mapped.state.fields["classes"], mapped.flow.labels
    labels.undo()
    mapped.settle()
    assert "classes" not in mapped.state.fields
    labels.redo()
    mapped.settle()
    np.testing.assert_array_equal(mapped.state.fields["classes"], before)
    assert not labels.can_redo


def test_a_new_mark_ends_what_could_be_done_again(mapped):
    mapped.flow.labels.undo()
    click(mapped, (9, 9))
    assert not mapped.flow.labels.can_redo


def test_every_change_can_be_undone_one_by_one(labelling):
    labels, first = labelling.flow.labels, list(labelling.state.classes)
    click(labelling, (3, 3))
    labels.add_class("maize")
    labels.add_area(square_round(labelling, 10, 10))
    labels.rename(0, "grass")
    labels.delete(1)
    labels.clear()
    while labels.can_undo:
        labels.undo()
    assert labelling.state.classes == first


def test_an_area_is_added_by_drawing_in_the_mode_label(labelling):
    labelling.flow.drawn(square_round(labelling, 10, 10))
    labelling.settle()
    assert len(labelling.state.classes[0].polygons) == 1
    assert labelling.state.selection is None


def test_an_area_that_crosses_itself_is_refused(labelling):
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}
    labelling.flow.labels.add_area(bow)
    assert "crosses itself" in labelling.state.status("label").sentence
    assert labelling.state.classes[0].polygons == ()


def test_erasing_takes_the_nearest_mark_of_any_class(mapped):
    _, (row, column) = two_groups(mapped)
    mapped.flow.labels.choose_tool("erase")
    click(mapped, (row + 1 if row < 20 else row - 1, column))
    assert [len(each.points) for each in mapped.state.classes] == [1, 0]


def test_a_click_inside_an_area_erases_it(labelling):
    labelling.flow.drawn(square_round(labelling, 8, 8, 8))
    labelling.flow.labels.choose_tool("erase")
    click(labelling, (12, 12))
    assert labelling.state.classes[0].places == []


def test_erasing_far_from_every_mark_says_so(mapped):
    mapped.flow.labels.clear()
    mapped.settle()
    mapped.flow.labels.choose_tool("erase")
    click(mapped, (3, 3))
    assert "No point or area" in mapped.state.status("label").sentence


def test_clicks_mean_nothing_while_areas_are_drawn(labelling):
    labelling.flow.labels.choose_tool("area")
    click(labelling, (3, 3))
    assert labelling.state.classes[0].places == []


def test_picking_by_number_begins_labelling(encoded):
    encoded.flow.labels.add_class("maize")
    encoded.flow.labels.pick(2)
    assert (encoded.state.active_class, encoded.state.mode) == (2, "label")
    encoded.flow.labels.pick(8)
    assert encoded.state.active_class == 2


def test_a_class_keeps_its_colour_when_another_goes(mapped):
    labels = mapped.flow.labels
    labels.add_class("maize")
    before = {each.name: each.colour for each in mapped.state.classes}
    labels.delete(0)
    mapped.settle()
    after = {each.name: each.colour for each in mapped.state.classes}
    assert after == {name: before[name] for name in ("Class B", "maize")}
    labels.add_class("grass")
    assert mapped.state.classes[-1].colour == before["Class A"]


def test_without_live_the_map_waits_until_it_is_asked(mapped):
    before = mapped.state.fields["classes"]
    mapped.flow.labels.set_live(False)
    click(mapped, (9, 9))
    assert mapped.state.fields["classes"] is before
    assert mapped.state.stale
    mapped.flow.labels.set_live(True)
    mapped.settle()
    assert mapped.state.fields["classes"] is not before
    assert not mapped.state.stale


def test_fading_draws_the_probabilities(mapped):
    assert mapped.state.top_field is mapped.state.fields["classes"]
    mapped.state.fade = True
    assert mapped.state.top_field.dims == ("class", "y", "x")


def test_a_selection_becomes_a_class(labelling):
    cells = np.zeros(labelling.state.features.shape[1:], bool)
    cells[4:9, 4:9] = True
    labelling.flow.select(cells)
    labelling.flow.labels.promote_selection("pond")
    labelling.settle()
    made = labelling.state.classes[labelling.state.active_class]
    assert (made.name, len(made.points)) == ("pond", 25)


def test_clusters_become_classes_and_their_map_is_theirs(labelling):
    groups = labelling.state.fields["groups"]
    for number in (0, 1):
        labelling.flow.labels.promote_category("groups", number)
    labelling.settle()
    assert [each.name for each in labelling.state.classes] == groups.attrs["categories"][:2]
    field = labelling.state.fields["classes"].values
    for number in (0, 1):
        assert (field[groups.values == number] == number).mean() > 0.9


def test_nothing_selected_makes_no_class(labelling):
    labelling.flow.labels.promote_selection("pond")
    assert "Select cells" in labelling.state.status("label").sentence


def test_labels_saved_and_opened_again_give_the_same_map(mapped, tmp_path):
    labels = mapped.flow.labels
    labels.rename(0, EVIL)
    labels.add_area(square_round(mapped, 20, 20))
    labels.promote_category("groups", 2)
    mapped.settle()
    saved, classes = labels.labels_text(), list(mapped.state.classes)
    before = mapped.state.fields["classes"]
    labels.clear()
    labels.delete(0)
    mapped.settle()
    labels.load_file("mine.geojson", saved.encode(), tmp_path, "")
    mapped.settle()
    assert mapped.state.classes == classes
    np.testing.assert_array_equal(mapped.state.fields["classes"], before)
    assert mapped.state.fields["classes"].attrs["colours"] == before.attrs["colours"]


def test_the_map_is_saved_as_polygons_and_as_a_raster(mapped, tmp_path):
    import geopandas as gpd
    import rasterio

    field = mapped.state.fields["classes"]
    (tmp_path / "a.geojson").write_bytes(mapped.flow.labels.map_file(".geojson"))
    (tmp_path / "a.tif").write_bytes(mapped.flow.labels.map_file(".tif"))
    frame = gpd.read_file(tmp_path / "a.geojson")
    assert dict(zip(frame["class"], frame["colour"], strict=True)) == dict(
        zip(field.attrs["categories"], field.attrs["colours"], strict=True)
    )
    with rasterio.open(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.read(1), field.values)


def test_the_score_says_how_many_blocks_it_rests_on(labelling):
    labelling.flow.labels.use_own(labelling.flow.labels.own[0])
    labelling.settle()
    labelling.flow.labels.check()
    labelling.settle()
    assert labelling.state.score.few  # 320 m hold few blocks
    assert labelling.state.score.blocks <= 9
    click(labelling, (3, 3))
    assert labelling.state.score is None


def test_too_few_blocks_are_said_instead_of_a_score(mapped):
    mapped.flow.labels.check()
    mapped.settle()
    assert "Too few blocks" in mapped.state.status("score").sentence
