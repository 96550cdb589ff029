import threading

import numpy as np
import pytest
import xarray as xr

from app.places import Place
from app.state import LAYERS, ON_DEMAND
from skysense.dates import Dates
from skysense.errors import Cancelled, EncoderError, SourceError
from skysense.region import Region
from tests.app.middles import middle_of

YEAR = ("2023-01-01", "2023-12-31")


def place_in(field, row=10, column=10):
    return middle_of(field, row, column)


def test_opening_a_place_shows_its_dates_before_anything_is_encoded(visit):
    visit.state.dates = Dates(s2=11)  # no other test encodes these
    visit.open()
    assert visit.state.stack is not None
    assert {a.sensor for a in visit.state.rail} == {"s2", "s1"}
    assert visit.state.features is None


def test_the_cost_is_known_before_encoding(visit, compute):
    visit.state.resolution = 20
    visit.open()
    assert "window" in visit.state.cost
    assert "GB" in visit.state.cost


def test_encoding_fills_every_layer_that_needs_no_click(encoded):
    assert {"features", "prototypes", "groups"} <= set(encoded.state.fields)
    assert encoded.state.coordinates.sizes["component"] == 2
    assert encoded.state.bank.sizes["prototype"] == 8
    assert encoded.state.status("encode").kind == "ready"


def test_features_say_what_they_were_made_from(encoded):
    attrs = encoded.state.features.attrs
    assert attrs["encoder"] == "spectral"
    assert attrs["synthetic"] == 1
    assert len(attrs["dates_s2"]) <= Dates().s2


def test_pressing_encode_while_images_are_opened_encodes_once_they_are_there(visit, compute):
    place = visit.state.places[1]
    stack = compute.stack(place)
    compute.store._values.pop(("stack", place))
    go = threading.Event()
    original = compute.stack

    def slow(asked):
        go.wait(10)
        return compute.store.get(("stack", asked), lambda: stack)

    compute.stack = slow
    try:
        visit.flow.open_place(place)
        visit.flow.encode()
        assert visit.state.status("encode").kind == "working"
        go.set()
        visit.settle()
    finally:
        compute.stack = original
    assert visit.state.features is not None


def test_a_click_selects_what_is_alike_when_similarity_is_shown(encoded):
    lon, lat = place_in(encoded.state.features)
    encoded.flow.click(lon, lat)
    encoded.flow.show_layer("similarity")
    encoded.settle()
    assert encoded.state.fields["similarity"].values[10, 10] == pytest.approx(1)


def test_a_click_reads_the_values_of_the_shown_date(encoded):
    encoded.flow.click(*place_in(encoded.state.features))
    encoded.settle()
    assert "nir" in encoded.state.measured


def test_a_click_far_round_the_world_is_brought_back(encoded):
    lon, lat = place_in(encoded.state.features)
    encoded.flow.click(lon + 720, lat)
    assert encoded.state.here == pytest.approx((lon, lat))


def test_a_lasso_round_all_points_selects_all_cells(encoded):
    values = encoded.state.coordinates.values.reshape(2, -1)
    (left, low), (right, high) = values.min(1) - 1, values.max(1) + 1
    ring = np.array([(left, low), (right, low), (right, high), (left, high)])
    encoded.flow.selecting.lassoed(ring)
    assert encoded.state.selected_count == encoded.state.features[0].size


def test_a_lasso_round_nothing_lets_go(encoded):
    encoded.flow.select(np.ones(encoded.state.features.shape[1:], bool))
    encoded.flow.selecting.lassoed(np.array([(1e6, 1e6), (1e6 + 1, 1e6), (1e6, 1e6 + 1)]))
    assert encoded.state.selection is None


def test_a_rectangle_on_the_map_selects_the_cells_whose_middle_it_holds(encoded):
    features = encoded.state.features
    corners = [middle_of(features, r, c) for r, c in ((8, 5), (8, 9), (12, 9), (12, 5), (8, 5))]
    (west, south), (east, north) = np.min(corners, 0) - 1e-5, np.max(corners, 0) + 1e-5
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    encoded.flow.selecting.drawn({"type": "Polygon", "coordinates": [ring]})
    assert encoded.state.selection[10, 7]
    assert not encoded.state.selection[20, 7]
    assert 25 <= encoded.state.selected_count <= 36


def test_picking_a_prototype_selects_exactly_its_cells(encoded):
    field = encoded.state.fields["prototypes"]
    number = int(field.values[10, 10])
    encoded.flow.select_category("prototypes", number)
    assert (encoded.state.selection == (field.values == number)).all()


def test_another_place_lets_go_of_everything_that_was_of_the_first(encoded):
    encoded.flow.select(np.ones(encoded.state.features.shape[1:], bool))
    encoded.state.resolution = 40
    encoded.open(1)
    assert encoded.state.features is None
    assert encoded.state.selection is None
    assert encoded.state.fields == {}


def test_coming_back_shows_the_features_that_were_made(encoded):
    before = encoded.state.features
    encoded.open(1)
    encoded.open(0)
    assert encoded.state.features is before


def test_two_encoded_places_can_be_compared(encoded):
    encoded.open(1).encode()
    names = list(encoded.flow.made.encoded())
    assert len(names) == 2
    encoded.flow.comparing.compare(names)
    encoded.settle()
    assert encoded.state.comparison.names == tuple(names)


def test_one_place_alone_cannot_be_compared_and_a_sentence_says_so(encoded):
    encoded.flow.comparing.compare(["Small 1"])
    assert encoded.state.status("compare").kind == "failed"
    assert "two" in encoded.state.status("compare").sentence


def test_cancelling_keeps_what_is_shown(encoded, compute, monkeypatch):
    before, started = encoded.state.features, threading.Event()

    def endless(choices, progress, cancel, centre):
        started.set()
        cancel.wait(10)
        raise Cancelled

    monkeypatch.setattr(compute, "features", endless)
    encoded.state.resolution = 40
    encoded.flow.encode()
    started.wait(10)
    encoded.flow.cancel()
    encoded.settle()
    assert encoded.state.features is before
    assert "Cancelled" in encoded.state.status("encode").sentence


@pytest.mark.parametrize("verb", ["encode", "differ", "mattered"])
def test_leaving_a_place_stops_what_is_encoded_of_it(visit, compute, monkeypatch, verb):
    started, stopped = threading.Event(), threading.Event()

    def endless(*given, **_):
        started.set()
        cancel = next(each for each in given if isinstance(each, threading.Event))
        if cancel.wait(60):
            stopped.set()
        raise Cancelled

    for step in ("features", "subsets"):
        monkeypatch.setattr(compute, step, endless)
    monkeypatch.setattr(compute, "cost", lambda choices: "")
    visit.state.dates = Dates(s2=13)  # nobody has encoded these
    state, flow = visit.open().state, visit.flow
    if verb != "encode":
        features = xr.DataArray(np.zeros((2, 4, 4), "f4"), dims=("feature", "y", "x"))
        state.param.update(features=features, made_with=state.choices)
    {
        "encode": flow.encode,
        "differ": flow.inside.differ,
        "mattered": lambda: flow.closer.leave_out("date"),
    }[verb]()
    assert started.wait(60)
    visit.open(1)
    assert stopped.wait(60)
    visit.settle()
    assert (state.place, state.features) == (state.places[1], None)
    assert all(each.kind != "failed" for each in state.statuses.values())


def test_a_failing_encoder_leaves_its_sentence_and_the_session_alive(encoded, compute, monkeypatch):
    def broken(*_):
        raise EncoderError("The encoder reads s2, but the stack holds only hr.")

    with monkeypatch.context() as patch:
        patch.setattr(compute, "features", broken)
        encoded.state.resolution = 20
        encoded.flow.encode()
        encoded.settle()
    assert "only hr" in encoded.state.status("encode").sentence
    encoded.state.resolution = 10
    assert encoded.encode().state.status("encode").kind == "ready"


@pytest.mark.parametrize("text", ["Ghent", "0 0 5 5", "200, 95", '{"type": "Feature"}', "\x00"])
def test_a_place_that_is_none_is_refused_in_its_dialog(visit, text):
    visit.open()
    before = visit.state.place
    visit.flow.add_typed(text, 640, YEAR, "", "synthetic")
    assert visit.state.status("place").kind == "failed"
    assert visit.state.place is before


def test_a_drawing_that_is_no_place_is_refused_in_its_dialog(visit):
    visit.open()
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}
    visit.flow.add_drawn(bow, YEAR, "synthetic")
    assert "crosses itself" in visit.state.status("place").sentence


def test_a_file_that_is_not_there_is_said_on_the_map(visit, tmp_path):
    visit.state.places = [Place("gone", "Gone", str(tmp_path / "gone.toml"))]
    visit.open()
    assert "no recipe" in visit.state.status("map").sentence


def test_without_the_network_a_made_up_scene_is_shown_and_said(visit, compute, monkeypatch):
    original = compute.stack

    def offline(place):
        if place.local:
            return original(visit.state.places[0])
        raise SourceError("planetarycomputer cannot be reached.")

    monkeypatch.setattr(compute, "stack", offline)
    region = Region.around(3.0, 50.8, 320, YEAR, "Field")
    visit.flow.add_region(region, "planetary-computer")
    visit.settle()
    assert visit.state.stack.attrs["synthetic"] == 1
    assert "cannot be reached" in visit.state.notice
    assert "made-up" in visit.state.notice


def test_colours_of_a_made_up_scene_are_not_used_for_a_real_one(encoded):
    made = encoded.flow.made
    assert [synthetic for _, synthetic in made._basis] == [True]


def test_every_layer_has_a_name():
    always = [key for key in LAYERS if key not in ON_DEMAND]
    assert always == ["colour", "features", "prototypes", "groups", "classes", "similarity"]
