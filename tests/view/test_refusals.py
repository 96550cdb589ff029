"""Odd arguments for pictures: a sentence each."""

import numpy as np
import pytest
import xarray as xr
from sentences import ODD, refused
from small_stack import stack

from skysense import view
from skysense.analysis import agreement, assign, cluster, compare, fit_prototypes, pca, usage
from skysense.dates import acquisitions
from skysense.errors import AnalysisError

named = {"ids": lambda odd: type(odd).__name__}
ARRAYS = (xr.DataArray(3.0), xr.DataArray(np.zeros((2, 3))), xr.Dataset(), np.array([1.0, 2.0]))


@pytest.fixture(scope="module")
def drawn(features):
    """What each function draws, by its name."""
    bank = fit_prototypes(features, 4, epochs=1)
    groups = cluster(features, 3)
    return {
        "field": groups,
        "rgb": groups,
        "true_colour": stack()["s2"],
        "dates": acquisitions(stack()),
        "usage": usage(assign(features, bank)),
        "comparison": compare({"a": features, "b": features}, bank, 20),
        "agreement": agreement(groups, groups),
        "scatter": pca(features, 2),
        "maps": groups,
    }


NAMES = ("field", "rgb", "true_colour", "dates", "usage", "comparison", "agreement", "scatter",
         "maps")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_odd_widths_are_refused(drawn, name):
    draw = getattr(view, name)
    draw(drawn[name], width=300)
    for odd in [*ODD, 0, 300.5, np.array([300, 300])]:
        assert refused(AnalysisError, draw, drawn[name], width=odd).startswith("width=")


@pytest.mark.parametrize("name", [*NAMES, "colours", "legend", "overlay", "title", "caption",
                                  "credit", "warnings", "figure", "true_colour_field",
                                  "date_title"])  # fmt: skip
@pytest.mark.parametrize("odd", [*ODD, np.array([1.0, 2.0])], **named)
def test_what_has_no_picture_is_refused(name, odd):
    assert refused(AnalysisError, getattr(view, name), odd)


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd not in (None, -1)], **named)
def test_odd_dates_are_refused(odd):
    for call in (view.true_colour, view.true_colour_field, view.date_title):
        assert "There is no" in refused(AnalysisError, call, stack()["s2"], odd)


@pytest.mark.parametrize("odd", [*ODD, *ARRAYS], **named)
def test_odd_selections_are_refused(features, odd):
    points = pca(features, 2)
    assert refused(AnalysisError, view.points_in, odd, (0, 0, 1, 1))
    assert refused(AnalysisError, view.mask, odd, features)
    assert refused(AnalysisError, view.scatter, odd)
    if odd is not None:
        assert refused(AnalysisError, view.points_in, points, odd)
        assert refused(AnalysisError, view.points_in, points, None, odd)
        assert refused(AnalysisError, view.scatter, points, odd)
        assert refused(AnalysisError, view.scatter, points, None, odd)
    if np.ndim(odd if not isinstance(odd, xr.Dataset) else 0) < 2:
        assert refused(AnalysisError, view.mask, np.ones((96, 96), bool), odd)


@pytest.mark.parametrize("odd", ODD, **named)
def test_odd_layouts_are_refused(drawn, odd):
    field = drawn["field"]
    assert "limit=" in refused(AnalysisError, view.overlay, field, odd)
    if odd not in (5, 2**70, 10**5000):
        assert "columns=" in refused(AnalysisError, view.maps, field, columns=odd)
        assert "columns=" in refused(AnalysisError, view.figure, field, columns=odd)
    if odd not in (5, 2.5):
        assert "size=" in refused(AnalysisError, view.figure, field, size=odd)
    if odd is not None and odd not in (["x"], (1,)):
        assert "titles" in refused(AnalysisError, view.figure, field, titles=odd)
