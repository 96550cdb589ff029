"""Two things in one picture: certainty as opacity, coarse beneath fine."""

import holoviews as hv
import matplotlib.text
import numpy as np
import pytest
from blobs import on_ground
from sentences import ODD, refused

from skysense import view
from skysense.analysis import cluster, pca, similarity
from skysense.errors import AnalysisError
from skysense.view.paint import FAINTEST


@pytest.fixture(scope="module")
def groups(features):
    return cluster(features, 4)


@pytest.fixture(scope="module")
def doubt(features):
    """0 at the left edge, 1 at the right."""
    across = np.linspace(0, 1, 96)[None, :].repeat(96, 0)
    return on_ground(across, kind="continuous", long_name="disagreement", units="cosine distance")


@pytest.mark.parametrize(
    "make", [lambda f: cluster(f, 4), pca, lambda f: similarity(f, np.ones(16))]
)
def test_colours_stay_and_opacity_falls_with_doubt(features, doubt, make):
    field = make(features)
    plain, faded = view.colours(field), view.colours(view.faded(field, doubt, (0.2, 0.8)))
    np.testing.assert_array_equal(plain[..., :3], faded[..., :3])
    assert (faded[:, :19, 3] == 255).all()
    assert (faded[:, -19:, 3] == round(255 * FAINTEST)).all()
    assert (np.diff(faded[0, :, 3].astype(int)) <= 0).all()


def test_what_was_not_seen_stays_transparent_and_what_was_does_not(holey, doubt):
    field = cluster(holey, 4)
    alpha = view.colours(view.faded(field, doubt))[..., 3]
    np.testing.assert_array_equal(alpha == 0, np.isnan(field.values))


def test_unknown_doubt_is_drawn_as_the_least_certain(groups, doubt):
    unknown = doubt.copy(deep=True)
    unknown[:, :5] = np.nan
    alpha = view.colours(view.faded(groups, unknown))[..., 3]
    assert (alpha[:, :5] == round(255 * FAINTEST)).all()


def test_ends_are_the_percentiles_that_the_doubt_itself_is_drawn_with(groups, doubt):
    low, high = view.faded(groups, doubt).attrs["faded_ends"]
    assert (low, high) == pytest.approx((0.02, 0.98), abs=0.01)


def test_the_legend_says_what_opaque_means(groups, doubt):
    faded = view.faded(groups, doubt)
    assert view.legend(faded)[:4] == view.legend(groups)
    assert [text for text, _ in view.legend(faded)[4:]] == ["opaque = certain", "faint = uncertain"]
    assert view.title(faded).endswith("; opaque = certain")
    assert "fainter where there is more disagreement" in view.caption(faded)


def test_every_kind_of_picture_shows_it(groups, doubt):
    faded = view.faded(groups, doubt)
    figure = view.figure(faded)
    words = "\n".join(t.get_text() for t in figure.findobj(matplotlib.text.Text))
    assert "faint = uncertain" in words
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), view.colours(faded))
    shown = view.field(faded)
    assert isinstance(shown, hv.RGB)
    assert "opaque = certain" in hv.renderer("bokeh").get_plot(shown).handles["plot"].title.text
    assert view.overlay(faded).png != view.overlay(groups).png


def test_a_coarser_doubt_covers_the_whole_fine_map(groups):
    # 40 m, sampled at the third cell of each block, as features are
    values = np.arange(24 * 24, dtype=float).reshape(24, 24)
    coarse = on_ground(values, resolution=40.0, left=500_005.0, top=5_630_395.0, kind="continuous")
    faded = view.faded(groups, coarse, (0, 575))
    expected = 1 - (1 - FAINTEST) * values / 575
    np.testing.assert_allclose(faded["opacity"].values[2::4, 2::4], expected, rtol=1e-6)
    assert faded["opacity"].values[0, 0] == 1
    assert faded["opacity"].values[-1, -1] == pytest.approx(FAINTEST)


@pytest.mark.parametrize("ends", [(1, 0), (0,), "ab", (0, np.nan), 5])
def test_ends_that_do_not_rise_are_refused(groups, doubt, ends):
    assert "ends=" in refused(AnalysisError, view.faded, groups, doubt, ends)


def test_a_doubt_of_elsewhere_or_of_another_kind_is_refused(groups, doubt):
    away = on_ground(doubt.values, left=600_000.0, kind="continuous")
    assert "other places" in refused(AnalysisError, view.faded, groups, away)
    zone = on_ground(doubt.values, crs="EPSG:32632", kind="continuous")
    assert "other zones" in refused(AnalysisError, view.faded, groups, zone)
    assert "continuous" in refused(AnalysisError, view.faded, groups, groups)


def test_blocks_of_the_coarse_field_show_until_the_fine_one_is_there(features):
    fine = features.copy(deep=True)
    coarse = features.isel(y=slice(2, None, 4), x=slice(2, None, 4))
    fine[:, :, 40:] = np.nan
    basis = [similarity(each, np.ones(16)) for each in (coarse, fine)]
    both = view.beneath(*basis)
    np.testing.assert_array_equal(both.values[:, :40], basis[1].values[:, :40])
    assert np.isfinite(both.values).all()
    assert (both.values[40:43, 41:44] == basis[0].values[10, 10]).all()
    assert both.attrs == basis[1].attrs


def test_colour_pictures_can_lie_beneath_too(features):
    coarse = pca(features.isel(y=slice(2, None, 4), x=slice(2, None, 4)))
    fine = pca(features).where(False)
    fine.attrs = pca(features).attrs
    both = view.beneath(coarse, fine)
    assert both.shape == (3, 96, 96)
    np.testing.assert_array_equal(both.values[:, 2::4, 2::4], coarse.values)


def test_fields_that_do_not_go_together_are_refused(features, groups):
    refused(AnalysisError, view.beneath, groups, pca(features))
    refused(AnalysisError, view.beneath, groups, cluster(features, 3))
    refused(AnalysisError, view.beneath, groups, features)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_odd_arguments_are_refused_in_a_sentence(groups, doubt, odd):
    for draw in (view.faded, view.beneath):
        refused(AnalysisError, draw, odd, groups)
        refused(AnalysisError, draw, groups, odd)
    if odd is not None:
        refused(AnalysisError, view.faded, groups, doubt, odd)
