"""Sessions: kept, and opened again to the same screen."""

from dataclasses import replace

import numpy as np
import pytest

import skysense as sky
from app.compute import Compute
from app.state import LabelClass
from skysense.dates import Dates
from skysense.errors import SkySenseError
from skysense.link import shared
from skysense.selected import cells_text
from tests.app.conftest import Visit
from tests.app.middles import middle_of


@pytest.fixture
def lived_in(encoded):
    """Two places, labels, names, and another layer on top."""
    features = encoded.state.features
    encoded.open(1).encode()
    encoded.open(0)
    for number in (0, 1):
        encoded.flow.labels.pick(number)
        for row in (4, 20):
            encoded.flow.labels.add_point(*middle_of(features, row, 5 + 15 * number))
    encoded.settle()
    encoded.flow.labels.rename(0, "winter wheat")
    encoded.flow.banks.rename(2, "orchard")
    encoded.settle()
    encoded.flow.show_layer("groups")
    encoded.state.opacity = 0.4
    encoded.settle()
    return encoded


@pytest.fixture
def again(compute, jobs, small_places):
    return Visit(compute, jobs, small_places)


def test_the_session_of_a_restored_session_is_the_same(lived_in, again):
    session = lived_in.flow.keep.session()
    again.flow.keep.restore(session)
    again.settle()
    assert again.flow.keep.session() == session


def test_a_session_holds_places_marks_names_and_what_was_loaded(lived_in):
    session = lived_in.flow.keep.session()
    assert [place.name for place in session.places] == ["Small 1", "Small 2"]
    assert all(place.features.startswith("sha256:") for place in session.places)
    assert session.places[0].sensors == ("s2", "s1")
    assert len(session.labels[0].places) == 2
    assert session.labels[0].name == "winter wheat"
    assert session.prototypes[2] == "orchard"
    assert session.view.top == "groups"


def test_restoring_keeps_the_layer_on_top_though_classes_are_mapped(lived_in, again):
    again.flow.keep.restore(lived_in.flow.keep.session())
    again.settle()
    assert again.state.top == "groups"
    assert "classes" in again.state.fields
    assert again.state.bank.attrs["names"][2] == "orchard"


def test_the_selection_comes_back(lived_in, again):
    lived_in.flow.select_category("groups", 3)
    session = lived_in.flow.keep.session()
    again.flow.keep.restore(session)
    again.settle()
    assert (again.state.selection == lived_in.state.selection).all()
    assert again.flow.keep.session() == session


def test_a_selection_of_another_grid_is_left_out_with_a_sentence(lived_in, again):
    session = lived_in.flow.keep.session()
    other = replace(session.view, selected=cells_text(np.ones((3, 5), bool)))
    again.flow.keep.restore(replace(session, view=other))
    again.settle()
    assert again.state.selection is None
    assert "grid of 3 x 5" in again.state.notice


def test_the_search_and_its_panel_come_back(lived_in, again):
    features = lived_in.state.features
    lived_in.state.param.update(tab="Search", searching=True)
    for row, like in ((5, True), (20, False)):
        lived_in.state.like = like
        lived_in.flow.show_layer("similarity")
        lived_in.flow.click(*middle_of(features, row, 7))
        lived_in.settle()
    lived_in.flow.search.set_threshold(0.1)
    again.flow.keep.restore(lived_in.flow.keep.session())
    again.state.searching = True
    again.settle()
    assert again.state.tab == "Search"
    assert again.state.examples == lived_in.state.examples
    assert again.state.threshold == lived_in.state.threshold
    assert again.flow.search.summary() == lived_in.flow.search.summary()


def test_a_session_opens_again_from_its_file_where_nothing_was_made_before(
    lived_in, jobs, small_places, tmp_path
):
    session = lived_in.flow.keep.session()
    path = sky.save_session(session, tmp_path / "kept.json")
    fresh = Compute()
    try:
        other = Visit(fresh, jobs, small_places)
        other.flow.keep.restore(sky.open_session(path))
        other.settle()
        assert other.flow.keep.session() == session
        assert other.state.notice == ""
    finally:
        fresh.close()


def test_features_of_other_choices_are_not_in_the_session(encoded):
    encoded.state.resolution = 20
    encoded.open(1)
    session = encoded.flow.keep.session()
    assert session.choices.resolution == 20
    assert [place.features for place in session.places] == ["", ""]


def test_features_that_come_out_differently_are_not_passed_over(lived_in, again):
    session = lived_in.flow.keep.session()
    first = replace(session.places[0], features=f"sha256:{'0' * 64}")
    again.flow.keep.restore(replace(session, places=(first, *session.places[1:])))
    again.settle()
    assert "differ from" in again.state.notice


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"choices": sky.SessionChoices(encoder="prithvi")}, "encoder"),
        ({"view": sky.SessionView(top="heat")}, "layer"),
        ({"view": sky.SessionView(axes="TSNE")}, "axes"),
        ({"view": sky.SessionView(tab="Kitchen")}, "panel"),
        ({"places": (sky.SessionPlace("x", "/etc/passwd"),)}, "not on offer"),
        ({"places": (sky.SessionPlace("x", "synthetic"),)}, "no region"),
        ({"places": ()}, "no place"),
    ],
)
def test_a_session_that_cannot_be_shown_changes_nothing(lived_in, change, word):
    before = lived_in.flow.keep.session()
    wanted = replace(before, view=sky.SessionView())
    with pytest.raises(SkySenseError, match=word):
        lived_in.flow.keep.restore(replace(wanted, **change))
    assert lived_in.flow.keep.session() == before


def test_a_link_opens_its_place_with_its_choices(visit):
    link = "lon=3.02&lat=50.82&size=320&time=2023&encoder=spectral&resolution=20&layer=groups&s2=6"
    visit.flow.keep.follow(shared(link))
    visit.settle()
    assert visit.state.place.region.area == pytest.approx(0.1, rel=0.2)
    assert (visit.state.resolution, visit.state.top) == (20, "groups")
    assert visit.state.dates == Dates(s2=6)


def test_a_link_to_a_catalogue_asks_nobody_before_its_place_is_chosen(visit):
    offered = visit.state.places
    link = "lon=3.02&lat=50.82&size=320&time=2023&source=earth-search&layer=groups"
    visit.flow.keep.follow(shared(link))
    visit.settle()
    assert visit.state.place == offered[0]
    assert visit.state.places[-1].source == "earth-search"
    assert visit.state.places[-1].name in visit.state.notice


def test_a_link_to_a_place_on_offer_opens_that_place(visit):
    visit.flow.keep.follow(shared("place=Small+2&layer=prototypes"))
    visit.settle()
    assert visit.state.place == visit.state.places[1]


def test_the_link_of_a_session_opens_the_same_place(lived_in, again):
    session = lived_in.flow.keep.session()
    again.flow.keep.follow(shared(sky.share_text(session, "Small 2")))
    again.settle()
    assert again.state.place == again.state.places[1]
    assert again.state.features is not None


@pytest.mark.parametrize(
    "link",
    ["place=nowhere", "encoder=prithvi", "layer=heat", "lon=3&lat=50&size=90000&time=2023"],
)
def test_a_link_that_cannot_be_followed_changes_nothing(visit, link):
    with pytest.raises(SkySenseError):
        visit.flow.keep.follow(shared(link))
    assert visit.state.place is None


def test_control_characters_in_a_name_do_not_stop_a_session_from_being_kept(encoded):
    encoded.state.classes = [LabelClass("wheat\x00\n\u202e", (), (), "#0072b2")]
    assert encoded.flow.keep.session().labels[0].name == "wheat"
