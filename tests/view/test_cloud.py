import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from skysense.errors import AnalysisError
from skysense.view.cloud import binned, bounds_of, nearest_cell, radius_for
from skysense.view.hues import UNSELECTED, rgb_of

BLUE = np.array([0, 0, 255, 255], np.uint8)
SQUARE = (0.0, 0.0, 1.0, 1.0)


def blue(count):
    return np.tile(BLUE, (count, 1))


def test_a_part_of_the_plane_shows_the_points_in_it_and_no_others():
    points = np.array([[0.25, 0.75], [5.0, 5.0]])
    picture, bounds = binned(points, blue(2), np.ones(2, bool), SQUARE, (4, 8))
    assert bounds == SQUARE
    assert picture.shape == (8, 4, 4)
    assert np.argwhere(picture[..., 3]).tolist() == [[2, 1]]


def test_a_point_spreads_to_a_disc_round_it():
    points = np.array([[0.5, 0.5]])
    picture, _ = binned(points, blue(1), np.ones(1, bool), SQUARE, (9, 9), spread=1)
    drawn = np.argwhere(picture[..., 3]) - 4
    assert sorted(map(tuple, drawn)) == [(-1, 0), (0, -1), (0, 0), (0, 1), (1, 0)]


def test_a_point_at_the_edge_spreads_no_further_than_the_picture():
    points = np.array([[0.0, 0.0], [1.0, 1.0]])
    picture, _ = binned(points, blue(2), np.ones(2, bool), SQUARE, (9, 9), spread=2)
    assert picture[8, 0, 3] > 0
    assert picture[0, 8, 3] > 0
    assert picture[0, 0, 3] == picture[8, 8, 3] == 0


@given(st.integers(1, 300), st.integers(0, 3))
def test_every_point_is_drawn_whether_selected_or_not(count, spread):
    rng = np.random.default_rng(count)
    points, chosen = rng.random((count, 2)), rng.random(count) < 0.5
    picture, _ = binned(points, blue(count), chosen, SQUARE, (50, 50), spread=spread)
    column = np.minimum(points[:, 0] * 50, 49).astype(int)
    row = np.minimum((1 - points[:, 1]) * 50, 49).astype(int)
    assert (picture[row, column, 3] > 50).all()


def test_what_is_not_selected_is_grey_where_nothing_selected_covers_it():
    points = np.array([[0.15, 0.15], [0.95, 0.95]])
    picture, _ = binned(points, blue(2), np.array([False, True]), SQUARE, (10, 10))
    assert tuple(picture[8, 1, :3]) == rgb_of(UNSELECTED)
    assert tuple(picture[0, 9, :3]) == tuple(BLUE[:3])


def test_nothing_selected_leaves_all_points_grey():
    points = np.array([[0.1, 0.1], [0.9, 0.9]])
    picture, _ = binned(points, blue(2), np.zeros(2, bool), SQUARE, (10, 10))
    drawn = picture[picture[..., 3] > 0]
    assert {tuple(row[:3]) for row in drawn} == {rgb_of(UNSELECTED)}


def test_no_points_make_an_empty_picture():
    picture, bounds = binned(np.empty((0, 2)), blue(0), np.ones(0, bool))
    assert not picture.any()
    assert bounds == SQUARE


@pytest.mark.parametrize(
    ("bounds", "size"),
    [((0, 0, 0, 1), (9, 9)), ((0, 0, np.nan, 1), (9, 9)), (SQUARE, (0, 9)), (SQUARE, (9, 5000))],
)
def test_a_picture_of_no_area_is_refused(bounds, size):
    with pytest.raises(AnalysisError):
        binned(np.zeros((1, 2)), blue(1), np.ones(1, bool), bounds, size)


def test_points_are_larger_the_fewer_there_are():
    radii = [radius_for(count, (400, 400)) for count in (10, 1_000, 10_000, 1_000_000)]
    assert radii == sorted(radii, reverse=True)
    assert radii[-1] == 1


def test_bounds_hold_every_point_with_a_margin():
    points = np.random.default_rng(0).normal(size=(50, 2))
    left, bottom, right, top = bounds_of(points)
    assert left < points[:, 0].min() < points[:, 0].max() < right
    assert bottom < points[:, 1].min() < points[:, 1].max() < top


def test_the_cell_under_a_click_is_the_nearest_within_reach():
    places = np.stack(np.meshgrid([0.0, 1.0, np.nan], [0.0, 10.0])[::1])
    coordinates = xr.DataArray(places, dims=("component", "y", "x"))
    assert nearest_cell(coordinates, 0.9, 9.0, (0.5, 5.0)) == (1, 1)
    assert nearest_cell(coordinates, 0.9, 9.0, (0.05, 5.0)) is None
