"""The merge schedule as a knob: where it counts, what it decides, and what keeps it."""

import json
from dataclasses import replace

import pytest

import skysense as sky
from app.panes.header import Header
from app.places import SYNTHETIC, Place
from app.state import MERGES, is_v2
from skysense.errors import SkySenseError
from skysense.link import share_text, shared
from skysense.region import Region
from skysense.session_file import read_session, session_text
from skysense.sources import synthetic
from tests.app.conftest import Visit

V2 = "skysense-v2-tiny-untrained"


class Nothing:
    """A dialog that nobody opens."""

    def show(self):
        raise AssertionError


@pytest.fixture(scope="module")
def sharp(compute):
    """A place of 160 m with high resolution."""
    region = Region.around(3.0, 50.81, 160, ("2023-01-01", "2023-03-31"), "Sharp")
    place = Place("sharp", region.name, SYNTHETIC, region)
    stack = synthetic.scene_for(place.region, ("hr", "s2")).load()
    compute.store.get(("stack", place), lambda: stack)
    return place


@pytest.fixture
def visitor(compute, jobs, small_places, sharp):
    visit = Visit(compute, jobs, [*small_places, sharp])
    visit.state.param.update(encoder=V2, resolution=40)
    return visit.open(2)


def test_both_families_are_on_offer(compute):
    assert {is_v2(name) for name in compute.encoders} == {True, False}
    assert "skysense-v2-tiny-untrained" in compute.encoders


def test_the_knob_is_there_for_v2_and_high_resolution_only(visitor):
    header = Header(visitor.flow, Nothing())
    assert header._merge.visible
    visitor.state.encoder = "skysense-tiny"
    assert not header._merge.visible
    visitor.state.encoder = V2
    assert header._merge.visible
    visitor.open(0)
    assert not header._merge.visible


def test_a_schedule_makes_other_features_on_the_same_cells_which_say_so(visitor, compute):
    visitor.encode()
    usual = visitor.state.features
    visitor.state.merge = "2,3"
    assert visitor.state.made_with != visitor.state.choices
    assert compute.known_features(visitor.state.choices) is None
    visitor.encode()
    fine = visitor.state.features
    assert (usual.attrs["merge"], fine.attrs["merge"]) == ("2,3,4", "2,3")
    assert usual.odc.geobox == fine.odc.geobox
    assert abs(usual.values - fine.values).max() > 1e-3


def test_smaller_tokens_are_counted_as_dearer(visitor, compute):
    costs = [
        compute.worker.call(_tflop, visitor.state.stack, V2, merge) for merge in ("", "2,3", "none")
    ]
    assert costs == sorted(costs)
    assert costs[2] > 5 * costs[0]
    visitor.state.merge = "none"
    visitor.settle()
    assert "window" in visitor.state.cost


def _tflop(room, stack, name, merge):
    from app.encoding import held
    from skysense.embedding import forecast

    return forecast(stack, held(name, None, merge), resolution=40).tflop


def test_where_it_decides_nothing_it_is_no_choice(visitor, compute, small_places):
    visitor.state.merge = "2,3"
    choices = visitor.state.choices
    assert choices.merge == "2,3"
    assert compute.settled(replace(choices, place=small_places[0])).merge == ""
    visitor.state.encoder = "spectral"
    assert visitor.state.choices.merge == ""


def test_sessions_links_and_notebooks_keep_the_schedule(visitor, compute, jobs, sharp):
    visitor.state.merge = "2,3"
    visitor.encode()
    session = visitor.flow.keep.session()
    assert session.choices.merge == "2,3"
    session = read_session(json.loads(session_text(session)))
    assert "merge='2,3'" in sky.as_code(session)
    again = Visit(compute, jobs, [sharp])
    again.flow.keep.restore(session)
    again.settle()
    assert again.state.merge == "2,3"
    assert again.state.features is visitor.state.features
    assert again.state.notice == ""
    guest = Visit(compute, jobs, [sharp])
    guest.flow.keep.follow(shared(share_text(session)))
    guest.settle()
    assert guest.state.choices == visitor.state.choices


def test_the_usual_schedule_is_left_out_of_links(visitor):
    visitor.encode()
    assert "merge" not in share_text(visitor.flow.keep.session())


@pytest.mark.parametrize("merge", ["3,4", "4"])
def test_a_schedule_that_is_not_on_offer_is_refused_and_changes_nothing(visitor, merge):
    assert merge not in MERGES
    session = visitor.flow.keep.session()
    odd = replace(session, choices=replace(session.choices, merge=merge))
    with pytest.raises(SkySenseError, match="merged before"):
        visitor.flow.keep.restore(odd)
    with pytest.raises(SkySenseError, match="merged before"):
        visitor.flow.keep.follow(shared(f"place=Sharp&merge={merge}"))
    assert visitor.state.merge == "2,3,4"


@pytest.mark.parametrize("merge", ["5", "2,2", "all", "2,3,", "../x"])
def test_a_link_with_what_is_no_schedule_is_refused(merge):
    with pytest.raises(SkySenseError, match="is no schedule"):
        shared(f"place=Sharp&merge={merge}")
