import holoviews as hv
import numpy as np
import pytest

from skysense import view
from skysense.analysis import cluster, fit_pca
from skysense.errors import AnalysisError
from skysense.view.cloud import binned, points_of
from skysense.view.hues import PALETTE, UNSELECTED, rgb_of


@pytest.fixture(scope="module")
def coordinates(features):
    return fit_pca(features, 2)(features)


@pytest.fixture(scope="module")
def groups(features):
    return cluster(features, 4)


def test_every_seen_pixel_is_a_point_in_the_colour_of_the_map(holey, groups):
    coordinates = fit_pca(holey, 2)(holey)
    points, pixels, _ = points_of(coordinates, groups)
    assert len(points) == 96 * 96 - 200
    expected = view.colours(groups)[np.isfinite(coordinates.values[0])]
    np.testing.assert_array_equal(pixels, expected)


def test_pixels_without_a_group_are_grey_and_still_there(coordinates, groups):
    some = groups.copy(deep=True)
    some[:5] = np.nan
    points, pixels, _ = points_of(coordinates, some)
    assert len(points) == 96 * 96
    assert tuple(pixels[0]) == (*rgb_of(UNSELECTED), 255)


def test_unselected_points_are_grey_and_selected_keep_their_colour(coordinates, groups):
    plot = view.scatter(coordinates, groups, groups.values == 2)
    hv.renderer("bokeh").get_plot(plot)
    below, above = plot.values()
    assert set(below.dimension_values("colour")) == {UNSELECTED}
    assert set(above.dimension_values("colour")) == {PALETTE[2]}
    assert len(below) + len(above) == 96 * 96


def test_many_points_become_a_picture(monkeypatch, coordinates, groups):
    monkeypatch.setattr("skysense.view.points.MOST_GLYPHS", 1000)
    plot = view.scatter(coordinates, groups)
    hv.renderer("bokeh").get_plot(plot)
    assert isinstance(plot.values()[0], hv.RGB)


def test_the_picture_shows_a_point_where_it_is_and_in_its_colour():
    points = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    pixels = np.array([[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]], np.uint8)
    picture, (left, bottom, right, top) = binned(points, pixels, np.ones(3, bool))
    for (x, y), colour in zip(points, pixels, strict=True):
        row = int((top - y) / (top - bottom) * len(picture))
        column = int((x - left) / (right - left) * len(picture))
        np.testing.assert_array_equal(picture[row, column, :3], colour[:3])
    assert (picture[..., 3] > 0).sum() == 3


def test_points_in_one_bin_mix_and_more_points_are_more_opaque():
    points = np.repeat([[0.0, 0.0], [1.0, 1.0]], [2, 50], axis=0)
    pixels = np.full((52, 4), 255, np.uint8)
    pixels[0, :3], pixels[1, :3] = 0, 100
    picture, _ = binned(points, pixels, np.ones(52, bool))
    few, many = picture[picture[..., 3] > 0][::-1]
    assert few[0] == 50
    assert 0 < few[3] < many[3] == 255


def test_selected_points_lie_above_grey_ones():
    points = np.zeros((3, 2))
    pixels = np.tile(np.array([0, 0, 255, 255], np.uint8), (3, 1))
    picture, _ = binned(points, pixels, np.array([False, True, False]))
    assert picture[picture[..., 3] > 0][0, :3].tolist() == [0, 0, 255]


def test_axes_say_how_much_of_the_variance_they_hold(coordinates):
    plot = hv.renderer("bokeh").get_plot(view.scatter(coordinates)).handles["plot"]
    assert (
        plot.xaxis[0].axis_label
        == f"PCA 1 ({coordinates.attrs['explained'][0]:.0%} of the variance)"
    )


def test_colours_of_another_grid_are_refused(coordinates, groups):
    with pytest.raises(AnalysisError, match="cells and the points"):
        view.scatter(coordinates, groups[:50])


def test_a_selection_of_another_grid_is_refused(coordinates):
    with pytest.raises(AnalysisError, match="selection has shape"):
        view.scatter(coordinates, selected=np.ones((3, 3), bool))
