"""What mattered, what changed, how sure it is, and null models: without a browser."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from app import encoding
from app.closer import HAS_NULL, NULLS
from app.compute import Compute
from app.panes.layers import Legend
from app.panes.scatter import Scatter
from app.panes.time import Time
from app.worker import Worker
from skysense.dates import Dates
from tests.app import chores
from tests.app.conftest import Visit
from tests.app.middles import middle_of

SPRING, AUTUMN = ("2023-03-01", "2023-05-31"), ("2023-08-01", "2023-10-31")


@pytest.fixture
def asked(encoded):
    encoded.state.resolution = 10
    encoded.flow.closer.leave_out("date")
    encoded.settle()
    return encoded


@pytest.fixture
def compared(encoded):
    encoded.flow.closer.compare(SPRING, AUTUMN)
    encoded.settle()
    return encoded


def test_each_date_that_was_used_is_left_out_once(asked):
    attrs = asked.state.features.attrs
    used = [*attrs["dates_s2"], *attrs["dates_s1"]]
    assert sorted(asked.state.mattered["date"].values) == sorted(used)


def test_a_row_of_what_mattered_shows_where_it_did(asked):
    pane = Time(asked.flow)
    pane._pick(0)
    asked.settle()
    field = asked.state.fields["mattered"]
    assert asked.state.top == "mattered"
    assert pane._rows.rows[0]["name"] in field.attrs["long_name"]
    assert pane._rows.rows[0]["active"]


def test_the_rows_of_a_clicked_cell_are_what_mattered_there(asked):
    pane, found = Time(asked.flow), asked.state.mattered
    asked.state.here = middle_of(found, 2, 3)
    pane._where.value = "cell"
    there = found.values[:, 2, 3]
    assert pane._rows.rows[0]["name"] == str(found["dropped"].values[np.nanargmax(there)])
    asked.state.here = None
    assert not pane._where.visible
    assert [row["note"] for row in pane._rows.rows] != [f"{v:.2g}" for v in sorted(-there)]


def test_leaving_out_sensors_gives_a_row_for_each(encoded):
    encoded.flow.closer.leave_out("sensor")
    encoded.settle()
    assert set(encoded.state.mattered["sensor"].values) == {"s2", "s1"}


def test_nothing_matters_before_the_place_is_encoded(visit):
    visit.state.dates = Dates(s2=9)  # no other test encodes these
    visit.open().flow.closer.leave_out("date")
    assert visit.state.status("mattered").kind == "failed"


def test_change_is_drawn_beside_what_halves_of_one_period_differ_by(compared):
    found = compared.state.change
    assert compared.state.top == "change"
    assert np.nanmean(found.field.values) > np.nanmean(found.control.values)
    assert (found.before, found.after) == (SPRING, AUTUMN)


def test_a_higher_threshold_finds_less_and_the_pane_says_how_much(compared):
    pane = Time(compared.flow)
    compared.flow.closer.set_least(0.0)
    every = pane._found.object
    compared.flow.closer.set_least(1.9)
    assert every != pane._found.object
    assert "0 cells" in pane._found.object
    assert "season" in pane._found.object.lower() or "apart" in pane._found.object


def test_cells_that_changed_can_be_selected(compared):
    compared.flow.closer.set_least(float(np.nanmedian(compared.state.change.field.values)))
    compared.flow.closer.select_changed()
    share = compared.state.selection.mean()
    assert 0.4 < share < 0.6


def test_a_period_that_ends_before_it_begins_is_refused_in_the_pane(encoded):
    encoded.flow.closer.compare(("2023-05-01", "2023-03-01"), AUTUMN)
    assert "last day" in encoded.state.status("change").sentence
    assert encoded.state.change is None


def test_what_is_unsure_is_drawn_fainter_and_the_legend_says_so(encoded):
    legend = Legend(encoded.flow)
    encoded.flow.show_layer("groups")
    encoded.flow.closer.set_unsure(True)
    encoded.settle()
    assert "opacity" in encoded.state.top_field.coords
    assert "faint" in legend._text.object
    encoded.flow.closer.set_unsure(False)
    assert encoded.state.top_field is encoded.state.fields["groups"]


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("layer", HAS_NULL)
def test_every_null_model_has_a_picture_of_every_layer_it_is_for(encoded, layer, null):
    legend = Legend(encoded.flow)
    encoded.state.here = middle_of(encoded.state.features, 10, 10)
    encoded.flow.show_layer(layer)
    encoded.settle()
    encoded.flow.closer.set_null(null)
    encoded.settle()
    drawn = encoded.state.top_field
    assert drawn is not encoded.state.fields[layer]
    assert drawn.attrs["kind"] == encoded.state.fields[layer].attrs["kind"]
    assert "NULL" in legend._text.object
    if null == "shuffled":
        assert drawn.attrs["shuffled"]


def test_the_scatter_says_what_is_scattered_where_a_null_model_is_shown(encoded):
    note = Scatter(encoded.flow)._note
    assert "A null model is scattered: features of Spectral baseline" in note.object
    encoded.flow.show_layer("features")
    encoded.flow.closer.set_null("shuffled")
    encoded.settle()
    assert "NULL: shuffled" in note.object
    assert "Points and colours: features of Spectral baseline" in note.object
    encoded.flow.show_layer("colour")
    encoded.settle()
    assert "NULL" not in note.object


def test_the_scatter_of_trained_features_needs_no_such_note(encoded):
    made, features = encoded.state.made_with, encoded.state.features
    encoded.state.param.update(
        made_with=replace(made, encoder="skysense-tiny"),
        features=features.assign_attrs(encoder="skysense-tiny"),
    )
    assert not Scatter(encoded.flow)._note.visible


def test_a_null_model_that_is_let_go_of_before_it_answers_is_never_shown(encoded):
    encoded.flow.closer.set_null("spectral")
    encoded.flow.closer.set_null("")
    encoded.settle()
    assert encoded.state.top_field is encoded.state.fields["features"]


def test_no_null_picture_of_another_layer_is_shown_meanwhile(encoded):
    encoded.flow.show_layer("groups")
    encoded.settle()
    encoded.flow.closer.set_null("shuffled")
    encoded.settle()
    assert encoded.state.instead is not None
    encoded.flow.show_layer("features")
    assert encoded.state.top_field is encoded.state.fields["features"]
    encoded.settle()
    assert encoded.state.top_field.attrs["shuffled"]


def test_a_null_picture_is_not_made_again_when_another_layer_comes(encoded):
    encoded.flow.closer.set_null("shuffled")
    encoded.settle()
    shown = encoded.state.top_field
    encoded.state.set_field("mattered", encoded.state.fields["features"])
    assert encoded.state.top_field is shown


def test_other_features_forget_what_was_found_about_these(asked):
    asked.open(1)
    state = asked.state
    assert (state.mattered, state.change, state.doubt, state.null) == (None, None, None, "")


def test_what_was_encoded_before_a_cancel_stays_and_is_kept_for_nobody_else(visit, compute):
    visit.open()
    choices = visit.state.choices
    part = compute.features(choices, lambda *_: None, threading.Event())
    half = part.where(part["x"] < part["x"].mean())
    half.attrs = {**part.attrs, "unfinished": 0.5}
    visit.flow._take_part(choices, half)
    visit.settle()
    assert visit.state.features is half
    assert visit.state.made_with.part
    assert compute.known_features(visit.state.made_with) is None
    assert compute.known_features(choices) is part


def test_what_was_shown_stays_though_the_process_that_made_it_had_to_be_ended(
    jobs, compute, small_places, monkeypatch
):
    monkeypatch.setattr(encoding, "embed_stack", chores.deaf_after_a_part)
    deaf = Compute(store=compute.store, worker=Worker(patience=0.3))
    visit = Visit(deaf, jobs, small_places)
    visit.state.resolution = 40
    visit.open()
    choices = visit.state.choices
    visit.flow.encode()
    while deaf.partial(choices) is None:
        visit.calls.get(timeout=240)()
    visit.flow.cancel()
    visit.settle()
    assert visit.state.features.attrs["unfinished"] == 0.5
    assert visit.state.made_with == replace(choices, part=visit.state.made_with.part)
    assert compute.known_features(choices) is None
    deaf.close()
