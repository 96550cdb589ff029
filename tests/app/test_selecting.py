"""Selecting, keys and the scatter's picture, without a browser."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.cells import middle_of
from app.keys import WORDS, Keys, fade, let_go, listen
from app.panes.scatter import Scatter
from app.selecting import combined
from app.state import COMBINE, DRAWING_PLACE
from skysense.analysis.places import cell_at
from skysense.dates import Dates

MASKS = hnp.arrays(bool, (4, 5))


def box(left, bottom, right, top):
    return np.array([(left, bottom), (right, bottom), (right, top), (left, top)])


def halves(visit):
    """A box round the left and one round the right half of the scatter, and the cells of each."""
    x, y = visit.state.coordinates.values[:2]
    middle, low, high = np.median(x), y.min() - 1, y.max() + 1
    left = box(x.min() - 1, low, middle, high)
    right = box(middle, low, x.max() + 1, high)
    return left, right, x <= middle


@given(MASKS, MASKS)
def test_adding_and_removing_are_union_and_difference(before, cells):
    np.testing.assert_array_equal(combined(before, cells, "add"), before | cells)
    np.testing.assert_array_equal(combined(before, cells, "remove"), before & ~cells)
    np.testing.assert_array_equal(combined(before, cells, "replace"), cells)


@given(MASKS, st.sampled_from(sorted(COMBINE)))
def test_a_first_shape_selects_what_it_holds_unless_it_removes(cells, how):
    expected = np.zeros_like(cells) if how == "remove" else cells
    np.testing.assert_array_equal(combined(None, cells, how), expected)


def test_the_button_says_what_a_lasso_does(encoded):
    left, right, _ = halves(encoded)
    encoded.flow.selecting.lassoed(left)
    encoded.state.combine = "add"
    encoded.flow.selecting.lassoed(right)
    assert encoded.state.selection.all()
    encoded.state.combine = "remove"
    encoded.flow.selecting.lassoed(left)
    assert 0 < encoded.state.selected_count < encoded.state.selection.size


def test_a_held_key_goes_before_the_button_and_ends_when_it_is_released(encoded):
    left, right, _ = halves(encoded)
    encoded.flow.selecting.lassoed(left)
    encoded.flow.selecting.held("add")
    encoded.flow.selecting.lassoed(right)
    assert encoded.state.selection.all()
    encoded.flow.selecting.held("")
    encoded.flow.selecting.lassoed(left)
    assert not encoded.state.selection.all()


def test_a_drawing_on_the_map_adds_and_removes_like_a_lasso(encoded):
    features = encoded.state.features
    a, b = middle_of(features, (5, 5)), middle_of(features, (9, 9))
    ring = [[a[0], a[1]], [b[0], a[1]], [b[0], b[1]], [a[0], b[1]], [a[0], a[1]]]
    everything = np.ones(features.shape[-2:], bool)
    encoded.flow.select(everything)
    encoded.flow.selecting.held("remove")
    encoded.flow.selecting.drawn({"type": "Polygon", "coordinates": [ring]})
    gone = np.argwhere(~encoded.state.selection)
    assert len(gone)
    assert gone.min() >= 5
    assert gone.max() <= 9


def test_removing_all_that_was_selected_lets_go(encoded):
    left, _, _ = halves(encoded)
    encoded.flow.selecting.lassoed(left)
    encoded.state.combine = "remove"
    encoded.flow.selecting.lassoed(left)
    assert encoded.state.selection is None


def test_a_click_on_a_point_looks_at_its_cell_and_puts_no_label(encoded):
    encoded.state.mode = "label"
    x, y = encoded.state.coordinates.values[:2, 3, 4]
    encoded.flow.selecting.tapped(float(x), float(y), (1e-6, 1e-6))
    encoded.settle()
    assert cell_at(encoded.state.features, *encoded.state.here) == (3, 4)
    assert not any(each.points for each in encoded.state.classes)


def test_the_middle_of_a_cell_lies_in_it(encoded):
    field = encoded.state.features
    assert cell_at(field, *middle_of(field, (7, 2))) == (7, 2)


def picture(scatter):
    (drawn,) = scatter._picture.data["picture"]
    return np.ascontiguousarray(drawn).view(np.uint8).reshape(*drawn.shape, 4)


def test_the_scatter_draws_every_cell_and_what_is_not_selected_in_grey(encoded):
    scatter = Scatter(encoded.flow)
    encoded.settle()
    whole = picture(scatter)
    left, _, _ = halves(encoded)
    encoded.flow.selecting.lassoed(left)
    encoded.settle()
    part = picture(scatter)
    np.testing.assert_array_equal(part[..., 3] > 0, whole[..., 3] > 0)
    grey = (part[..., :3] == 0xBD).all(-1) & (part[..., 3] > 0)
    assert 0 < grey.sum() < (part[..., 3] > 0).sum()


def test_points_keep_their_own_colours_while_the_map_shows_another_layer(encoded):
    scatter = Scatter(encoded.flow)
    encoded.state.points_by = "groups"
    encoded.settle()
    before = picture(scatter)
    encoded.flow.show_layer("prototypes")
    encoded.settle()
    np.testing.assert_array_equal(picture(scatter), before)
    encoded.state.points_by = ""
    encoded.settle()
    assert (picture(scatter) != before).any()


def test_another_place_empties_the_scatter(encoded):
    scatter = Scatter(encoded.flow)
    encoded.settle()
    encoded.state.dates = Dates(s2=12)  # no other test encodes these
    encoded.open(1)
    assert scatter._picture.data["picture"] == []


def test_points_can_be_coloured_by_every_layer_there_is(encoded):
    scatter = Scatter(encoded.flow)
    assert set(scatter._by.options.values()) == {"", *encoded.state.fields}


def pressed(visit, word):
    keys = Keys()
    shown = []
    listen(keys, visit.flow, lambda: shown.append("guide"))
    keys._handle_msg({"key": word})
    return shown


@pytest.mark.parametrize(
    ("word", "mode"), [("label", "label"), ("inspect", "inspect"), ("select", "select")]
)
def test_a_key_changes_what_a_click_means(encoded, word, mode):
    pressed(encoded, word)
    assert encoded.state.mode == mode


def test_a_key_turns_to_the_rubber_and_the_number_of_a_class_back_to_points(encoded):
    encoded.flow.labels.add_class("water")
    pressed(encoded, "erase")
    assert (encoded.state.mode, encoded.state.tool) == ("label", "erase")
    pressed(encoded, "class-2")
    assert (encoded.state.active_class, encoded.state.tool) == (1, "point")


def test_a_key_switches_the_live_map_off_and_on_again(encoded):
    before = encoded.state.live
    pressed(encoded, "live")
    assert encoded.state.live is not before
    pressed(encoded, "live")
    assert encoded.state.live is before


def test_keys_take_a_label_back_and_put_it_again(encoded):
    encoded.flow.labels.pick(0)
    encoded.flow.labels.add_point(*middle_of(encoded.state.features, (1, 1)))
    labelled = encoded.state.classes
    pressed(encoded, "undo")
    assert encoded.state.classes != labelled
    pressed(encoded, "redo")
    assert encoded.state.classes == labelled


def test_every_word_of_the_window_is_answered_without_an_error(encoded):
    for word in WORDS:
        pressed(encoded, word)
    assert pressed(encoded, "guide") == ["guide"]


@pytest.mark.parametrize(
    "message", [None, 7, {"key": "<script>"}, {"key": ["undo"]}, {"held": "<script>"}, {}]
)
def test_what_no_window_says_does_nothing(encoded, message):
    keys = Keys()
    listen(keys, encoded.flow, lambda: pytest.fail("nothing was asked"))
    encoded.flow.select(np.ones(encoded.state.features.shape[-2:], bool))
    keys._handle_msg(message)
    assert encoded.state.selection is not None


def test_escape_leaves_the_drawing_of_a_place_before_it_lets_go(encoded):
    encoded.flow.select(np.ones(encoded.state.features.shape[-2:], bool))
    encoded.state.mode = DRAWING_PLACE
    let_go(encoded.flow)
    assert encoded.state.mode == "inspect"
    assert encoded.state.selection is not None
    let_go(encoded.flow)
    assert encoded.state.selection is None


def test_opacity_stays_between_nothing_and_all(visit):
    for _ in range(20):
        fade(visit.flow, 0.1)
    assert visit.state.opacity == 1
    for _ in range(20):
        fade(visit.flow, -0.1)
    assert visit.state.opacity == 0
