import numpy as np
import pytest
import shapely

from skysense import view
from skysense.analysis import fit_pca
from skysense.errors import AnalysisError


@pytest.fixture(scope="module")
def coordinates(features):
    return fit_pca(features, 2)(features)


def test_a_box_selects_the_points_inside_it(coordinates):
    x, y = coordinates.values
    inside = view.points_in(coordinates, bounds=(-0.5, -0.2, 0.3, 0.6))
    np.testing.assert_array_equal(inside, (x >= -0.5) & (x <= 0.3) & (y >= -0.2) & (y <= 0.6))
    assert inside.any()


def test_a_lasso_selects_the_points_inside_it(coordinates):
    ring = [(-1, -1), (0.5, -0.8), (0.2, 0.4), (-0.7, 0.9)]
    shape = shapely.Polygon(ring)
    inside = view.points_in(coordinates, lasso=ring)
    expected = shapely.contains_xy(shape, *coordinates.values.reshape(2, -1).astype(float))
    np.testing.assert_array_equal(inside.ravel(), expected)
    assert 0 < inside.mean() < 1


def test_a_lasso_that_crosses_itself_selects_both_loops(coordinates):
    loops = [(-1, -1), (1, 1), (1, -1), (-1, 1)]
    left = view.points_in(coordinates, lasso=[(-1, -1), (0, 0), (-1, 1)])
    right = view.points_in(coordinates, lasso=[(1, 1), (1, -1), (0, 0)])
    np.testing.assert_array_equal(view.points_in(coordinates, lasso=loops), left | right)


def test_unseen_pixels_are_never_selected(holey):
    basis = fit_pca(holey, 2)
    inside = view.points_in(basis(holey), bounds=(-1e9, -1e9, 1e9, 1e9))
    assert not inside[:10, :20].any()
    assert inside.sum() == 96 * 96 - 200


def test_a_selection_is_a_field_on_the_same_grid(coordinates, holey):
    chosen = view.points_in(coordinates, bounds=(0, 0, 9, 9))
    field = view.mask(chosen, holey)
    assert field.attrs["kind"] == "mask"
    assert field.attrs["encoder"] == "blobs"
    assert field.odc.geobox == holey.odc.geobox
    assert np.isnan(field.values[:10, :20]).all()
    np.testing.assert_array_equal(field.values[10:] == 1, chosen[10:])


def test_a_selection_of_another_shape_is_refused(features):
    with pytest.raises(AnalysisError, match=r"shape \(3, 3\)"):
        view.mask(np.ones((3, 3), bool), features)


@pytest.mark.parametrize("lasso", [None, [], [(0, 0), (1, 1)], [(0, 0), (1, 1), (np.nan, 0)]])
def test_a_lasso_without_area_is_refused(coordinates, lasso):
    with pytest.raises(AnalysisError):
        view.points_in(coordinates, lasso=lasso)


def test_one_component_makes_no_scatter_plot(features):
    with pytest.raises(AnalysisError, match="at least two components"):
        view.points_in(fit_pca(features, 1)(features), bounds=(0, 0, 1, 1))


def test_what_lies_below_a_threshold_is_gone_and_the_rest_keeps_its_colour(features):
    from skysense.analysis import similarity

    field = similarity(features, features.values[:, 5, 5])
    kept = view.above(field, 0.5)
    high = field.values >= 0.5
    assert np.isnan(kept.values[~high]).all()
    np.testing.assert_array_equal(view.colours(kept)[high], view.colours(field)[high])
    assert view.legend(kept) == view.legend(field)


def test_classes_have_no_threshold(features):
    groups = features[0].assign_attrs(kind="categorical", categories=["a"])
    with pytest.raises(AnalysisError, match="no threshold"):
        view.above(groups, 1)


@pytest.mark.parametrize("least", [None, "far", np.nan])
def test_a_threshold_is_a_number(features, least):
    field = features[0].assign_attrs(kind="continuous")
    with pytest.raises(AnalysisError, match="not a number"):
        view.above(field, least)
