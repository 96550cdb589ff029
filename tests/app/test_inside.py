"""Inside SkySense V2, and V1 beside it: experts, queries, disagreement; without a browser."""

import numpy as np
import pytest
import xarray as xr

from app.inside import verdict
from app.panes.inside import Inside
from app.panes.inspector import Inspector
from app.panes.layers import LayerBar, Legend
from skysense.dates import Dates
from tests.app.middles import middle_of

V2 = "skysense-v2-tiny-untrained"


def encoded_by(visit, encoder):
    visit.state.param.update(encoder=encoder, resolution=20, dates=Dates(s2=4, s1=3))
    return visit.open().encode()


@pytest.fixture
def v2(visit):
    return encoded_by(visit, V2)


def asked(visit, verb, *given):
    verb(*given)
    visit.settle()
    assert visit.state.status("inside").kind != "failed"
    return visit.state.fields["inside"]


def test_experts_are_a_layer_with_a_row_for_each(v2):
    pane, bar, legend = Inside(v2.flow), LayerBar(v2.flow), Legend(v2.flow)
    assert "Inside" not in bar._layers.options
    pane._sensor.value = "s1"
    field = asked(v2, pane._look, "experts")
    assert v2.state.top == bar._layers.value == "inside"
    assert field.attrs["sensor"] == "s1"
    rows = pane._rows["experts"].rows
    assert [row["name"] for row in rows] == ["expert 1", "expert 2", "expert 3", "expert 4"]
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-4)
    assert "expert 4" in legend._text.object
    assert "UNTRAINED" in legend._text.object


def test_the_clicked_cell_says_its_expert_and_on_how_many_dates(v2):
    line, field = Inspector(v2.flow), asked(v2, v2.flow.inside.look, "experts", "s2")
    v2.flow.click(*middle_of(field, 3, 2))
    v2.settle()
    said = f"expert {int(field.values[3, 2]) + 1} of 4 on {float(field['strength'][3, 2]):.0%}"
    assert said in line.view.object
    assert "Sentinel-2 dates" in line.view.object


def test_attention_to_prompts_says_what_looking_at_all_alike_would_give(v2):
    pane, field = Inside(v2.flow), asked(v2, v2.flow.inside.look, "prompts", "s2")
    assert f"{field.attrs['even']:.2%}" in pane._says["experts"].object


def test_a_row_of_the_queries_shows_the_mask_of_one_and_the_first_that_of_all(v2):
    pane, most = Inside(v2.flow), asked(v2, v2.flow.inside.ask_queries)
    assert len(pane._rows["queries"].rows) == 17
    pane._pick(3)
    mask = v2.state.fields["inside"]
    np.testing.assert_array_equal(mask.values, v2.state.inside["masks"].values[2])
    assert "query 3" in mask.attrs["long_name"]
    assert pane._rows["queries"].rows[3]["active"]
    pane._pick(0)
    assert v2.state.fields["inside"] is most


def test_queries_of_another_place_are_measured_by_the_levels_of_the_first(v2):
    asked(v2, v2.flow.inside.ask_queries)
    v2.open(1).encode()
    field = asked(v2, v2.flow.inside.ask_queries)
    assert field.attrs["basis_fitted_on"] == ["Small 1"]


def test_encoders_without_experts_say_what_to_choose(encoded):
    pane = Inside(encoded.flow)
    assert "Choose a SkySense V2 encoder" in pane._says["experts"].object
    assert pane._experts.disabled
    assert pane._ask.disabled
    assert not pane._differ.disabled
    encoded.flow.inside.look("experts", "s2")
    assert "Spectral baseline" in encoded.state.status("inside").sentence


def test_nothing_is_seen_inside_before_the_place_is_encoded(visit):
    visit.state.param.update(encoder=V2, dates=Dates(s2=7))
    visit.open()
    pane = Inside(visit.flow)
    assert "Encode the place first" in pane._says["queries"].object
    visit.flow.inside.differ()
    assert visit.state.status("differ").kind == "failed"


def test_what_v1_and_v2_do_not_share_stands_beside_chance_and_a_control(v2):
    pane = Inside(v2.flow)
    assert "SkySense tiny" in pane._differ.label
    field = asked(v2, v2.flow.inside.differ)
    attrs = field.attrs
    assert (attrs["encoder"], attrs["other_encoder"]) == (V2, "skysense-tiny")
    assert attrs["overlap"] < attrs["overlap_control"]
    for said in (verdict(field), "UNTRAINED", f"{attrs['overlap_control']:.0%}", "itself"):
        assert said in pane._result.object
    assert v2.state.features.attrs["encoder"] == V2


@pytest.mark.parametrize(
    ("shared", "words"),
    [(0.02, "hardly more than chance"), (0.16, "50% of the way"), (0.31, "as much as"),
     (0.44, "more than one of them with itself")],
)  # fmt: skip
def test_how_far_two_agree_is_said_from_chance_to_what_one_has_with_itself(shared, words):
    attrs = {"overlap": shared, "overlap_chance": 0.01, "overlap_control": 0.31, "neighbours": 20}
    assert words in verdict(xr.DataArray(0.0, attrs=attrs))


def test_the_button_of_what_is_on_the_map_is_filled(v2):
    pane = Inside(v2.flow)
    asked(v2, v2.flow.inside.look, "prompts", "s2")
    assert (pane._experts.variant, pane._prompts.variant) == ("outlined", "contained")
    v2.flow.show_layer("features")
    assert pane._prompts.variant == "outlined"


def test_a_comparison_that_was_made_is_not_made_again(v2, compute, monkeypatch):
    found = asked(v2, v2.flow.inside.differ)
    v2.open(1).open(0)
    monkeypatch.setattr(compute, "features", None)
    assert asked(v2, v2.flow.inside.differ) is found


def test_the_other_of_v1_is_v2(visit):
    encoded_by(visit, "skysense-tiny")
    pane, field = Inside(visit.flow), asked(visit, visit.flow.inside.differ)
    assert "V2" in pane._differ.label
    assert field.attrs["encoder"] == "skysense-tiny"
    assert field.attrs["other_encoder"].startswith("skysense-v2")


def test_another_place_forgets_what_was_seen_inside(v2):
    asked(v2, v2.flow.inside.look, "experts", "s2")
    v2.open(1)
    assert v2.state.inside == {}
    assert "inside" not in v2.state.fields


def test_another_encoder_drops_what_is_being_looked_for(v2):
    v2.flow.inside.look("experts", "s2")
    v2.flow.inside.differ()
    v2.state.encoder = "spectral"
    assert v2.state.status("inside").kind == v2.state.status("differ").kind == "empty"
    v2.settle()
    assert v2.state.inside == {}


def test_a_look_that_is_stopped_says_so(v2):
    v2.state.dates = Dates(s2=3, s1=2)
    v2.encode()
    v2.flow.inside.differ()
    v2.flow.inside.stop()
    v2.settle()
    assert "Cancelled" in v2.state.status("differ").sentence


def test_a_session_whose_layer_was_inside_opens_all_the_same(v2, compute, jobs, small_places):
    asked(v2, v2.flow.inside.look, "experts", "s2")
    bar, session = LayerBar(v2.flow), v2.flow.keep.session()
    v2.flow.keep.restore(session)
    v2.settle()
    assert bar._layers.value in bar._layers.options.values()
    assert v2.state.features is not None
