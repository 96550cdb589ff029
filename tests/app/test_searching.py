import numpy as np
import pytest

from skysense import similarity
from tests.app.middles import middle_of


@pytest.fixture
def searching(encoded):
    encoded.state.searching = True
    encoded.flow.show_layer("similarity")
    return encoded


def click(visit, row, column, like=True):
    visit.state.like = like
    visit.flow.click(*middle_of(visit.state.features, row, column))
    visit.settle()


def test_examples_and_counter_examples_are_those_of_the_library(searching):
    click(searching, 5, 5)
    click(searching, 20, 20, like=False)
    click(searching, 9, 25)
    places = [(each.lon, each.lat) for each in searching.state.examples]
    expected = similarity(searching.state.features, [places[0], places[2]], [places[1]])
    np.testing.assert_array_equal(searching.state.fields["similarity"], expected)


def test_the_threshold_keeps_what_is_at_least_so_similar(searching):
    click(searching, 5, 5)
    field = searching.state.fields["similarity"].values
    least = float(np.median(field))
    searching.flow.search.set_threshold(least)
    np.testing.assert_array_equal(searching.flow.search.cells(), field >= least)
    count, area = searching.flow.search.summary()
    assert count == (field >= least).sum()
    assert area == pytest.approx(count * 100 / 1e6)
    assert searching.state.top_field is searching.state.found


def test_the_threshold_stays_while_more_is_added(searching):
    click(searching, 5, 5)
    searching.flow.search.set_threshold(0.5)
    least = searching.state.threshold
    click(searching, 9, 25)
    assert searching.state.threshold == pytest.approx(least, abs=1e-6)


def test_with_counter_examples_the_threshold_begins_where_both_are_as_near(searching):
    click(searching, 5, 5)
    click(searching, 20, 20, like=False)
    assert searching.state.threshold == 0


def test_a_second_click_on_a_cell_changes_what_it_stands_for(searching):
    click(searching, 9, 25)
    click(searching, 5, 5)
    click(searching, 5, 5, like=False)
    assert [each.like for each in searching.state.examples] == [True, False]


def test_taking_the_last_example_away_ends_the_search(searching):
    click(searching, 5, 5)
    searching.flow.search.take_away(0)
    searching.settle()
    assert "similarity" not in searching.state.fields
    assert searching.state.threshold is None


def test_counter_examples_alone_search_for_nothing(searching):
    click(searching, 5, 5, like=False)
    assert "similarity" not in searching.state.fields


def test_what_is_found_can_be_selected_and_become_a_class(searching):
    click(searching, 5, 5)
    searching.flow.search.select()
    np.testing.assert_array_equal(searching.state.selection, searching.flow.search.cells())
    searching.flow.search.promote()
    searching.settle()
    assert searching.state.classes[0].name == "Found alike"


def test_outside_the_panel_a_click_is_the_only_example(encoded):
    encoded.flow.show_layer("similarity")
    for row in (5, 20):
        encoded.flow.click(*middle_of(encoded.state.features, row, row))
        encoded.settle()
    assert len(encoded.state.examples) == 1
    assert encoded.state.threshold is None


def test_another_place_begins_with_no_examples(searching):
    click(searching, 5, 5)
    searching.open(1)
    assert searching.state.examples == []
    assert searching.state.found is None
