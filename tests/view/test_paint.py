import numpy as np
import pytest
from blobs import on_ground

from skysense import view
from skysense.errors import AnalysisError
from skysense.view.hues import PALETTE, ramp, rgb_of
from skysense.view.paint import stretch

PROTAN = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
          [-0.003882, -0.048116, 1.051998]]  # fmt: skip
DEUTAN = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
          [-0.011820, 0.042940, 0.968881]]  # fmt: skip
"""Machado et al. (2009), severity 1, linear RGB."""


def oklab(colours, eye=None):
    """Perceptual coordinates (Ottosson 2020) of hex colours as an eye sees them."""
    srgb = np.array([rgb_of(c) for c in colours]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    if eye is not None:
        linear = np.clip(linear @ np.array(eye).T, 0, 1)
    lms = linear @ np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074],
                             [0.0883, 0.2817, 0.6300]]).T  # fmt: skip
    return np.cbrt(lms) @ np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506],
                                    [0.0259, 0.7828, -0.8087]]).T  # fmt: skip


def closest(colours, eye=None):
    lab = oklab(colours, eye)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    return apart[~np.eye(len(lab), dtype=bool)].min()


@pytest.mark.parametrize("eye", [None, PROTAN, DEUTAN], ids=["normal", "protan", "deutan"])
@pytest.mark.parametrize(("n", "apart"), [(8, 0.07), (16, 0.06), (64, 0.03)])
def test_categories_can_be_told_apart_by_every_eye(eye, n, apart):
    assert closest(view.palette(n), eye) > apart


def test_a_longer_palette_begins_with_a_shorter_one():
    assert view.palette(64)[:10] == view.palette(10) == list(PALETTE[:10])


def test_more_colours_than_can_be_told_apart_are_refused():
    with pytest.raises(AnalysisError, match="only 64"):
        view.palette(65)


@pytest.mark.parametrize("kind", ["continuous"])
def test_lightness_of_the_continuous_map_only_rises(kind):
    light = oklab([f"#{r:02x}{g:02x}{b:02x}" for r, g, b in ramp(kind)])[:, 0]
    assert (np.diff(light) > -0.005).all()
    assert light[-1] - light[0] > 0.5


def test_a_category_has_its_colour_whatever_else_is_on_the_map():
    both = on_ground(np.array([[0, 3], [3, 5]]), kind="categorical", categories=list("abcdef"))
    alone = on_ground(np.array([[3, 3], [3, 3]]), kind="categorical", categories=list("abcdef"))
    assert tuple(view.colours(both)[0, 1]) == tuple(view.colours(alone)[0, 0])
    assert tuple(view.colours(both)[0, 1]) == (*rgb_of(PALETTE[3]), 255)


def test_nothing_is_transparent_in_every_kind():
    values = np.array([[0.0, 1.0], [np.nan, 2.0]])
    for kind in ("continuous", "diverging", "categorical", "mask"):
        field = on_ground(values, kind=kind, categories=["a", "b", "c"])
        drawn = view.colours(field)[..., 3]
        assert drawn[1, 0] == 0
        assert drawn[0, 1] == 255
    rgb = on_ground(np.stack([values] * 3), kind="rgb").rename(feature="component")
    assert view.colours(rgb)[1, 0].tolist() == [0, 0, 0, 0]


def test_what_is_not_selected_is_transparent():
    field = on_ground(np.array([[0.0, 1.0]]), kind="mask")
    assert view.colours(field)[0, :, 3].tolist() == [0, 255]


def test_continuous_colours_run_from_the_2nd_to_the_98th_percentile():
    values = np.arange(10_000.0).reshape(100, 100)
    field = on_ground(values, kind="continuous")
    low, high = stretch(field)
    assert (low, high) == pytest.approx((199.98, 9799.02))
    drawn = view.colours(field).reshape(-1, 4)
    assert (drawn[:200] == drawn[0]).all()
    assert (drawn[-200:] == drawn[-1]).all()
    assert len(np.unique(drawn, axis=0)) > 200


def test_a_stated_stretch_is_kept():
    field = on_ground(np.array([[0.2, 0.9]]), kind="continuous", stretch=[0.0, 1.0])
    assert stretch(field) == (0, 1)


def test_zero_is_in_the_middle_of_a_diverging_map():
    field = on_ground(np.linspace(-1, 5, 100).reshape(10, 10), kind="diverging")
    low, high = stretch(field)
    assert low == -high
    zero = on_ground(np.zeros((1, 1)), kind="diverging", stretch=[low, high])
    assert np.abs(view.colours(zero)[0, 0, :3].astype(int) - 230).max() < 20


def test_a_field_of_one_value_has_a_colour():
    drawn = view.colours(on_ground(np.full((3, 3), 7.0), kind="continuous"))
    assert (drawn[..., 3] == 255).all()


def test_a_colour_picture_takes_its_stated_stretch():
    layers = np.stack([np.full((2, 2), v) for v in (0.0, 5.0, 20.0)])
    field = on_ground(layers, kind="rgb", stretch_low=[0, 0, 0], stretch_high=[10, 10, 10])
    assert view.colours(field)[0, 0].tolist() == [0, 128, 255, 255]


def test_probabilities_are_fainter_where_they_are_less_sure():
    values = np.array([[[1.0, 0.6, 0.5]], [[0.0, 0.4, 0.5]]])
    field = on_ground(values, kind="continuous", categories=["a", "b"]).rename(feature="class")
    drawn = view.colours(field)[0]
    assert drawn[0].tolist() == [*rgb_of(PALETTE[0]), 255]
    assert drawn[:, 3].tolist() == [255, 51, 0]


def test_more_categories_than_colours_repeat_them():
    codes = np.arange(300.0).reshape(10, 30)
    field = on_ground(codes, kind="categorical", categories=[str(i) for i in range(300)])
    drawn = view.colours(field).reshape(-1, 4)
    np.testing.assert_array_equal(drawn[5], drawn[5 + 64])
    np.testing.assert_array_equal(drawn[260], drawn[260 - 256])
    assert "colours repeat every 64" in view.caption(field)


def test_the_legend_of_categories_has_the_colours_of_the_map():
    field = on_ground(np.array([[0, 1]]), kind="categorical", categories=["maize", "grass"])
    assert view.legend(field) == [("maize", PALETTE[0]), ("grass", PALETTE[1])]


def test_the_legend_of_values_runs_from_low_to_high_with_units():
    field = on_ground(np.zeros((2, 2)), kind="continuous", units="dB", stretch=[-20, 0])
    texts = [text for text, _ in view.legend(field)]
    assert texts == ["-20 dB", "-15", "-10", "-5", "0 dB"]


@pytest.mark.parametrize(
    "attrs",
    [{}, {"kind": "rainbow"}, {"kind": "rgb"}, {"kind": "categorical"}],
    ids=["no kind", "unknown", "flat rgb", "no names"],
)
def test_a_field_that_has_no_colours_is_refused(attrs):
    with pytest.raises(AnalysisError):
        view.colours(on_ground(np.zeros((2, 2)), **attrs))


def test_several_layers_are_not_one_picture(features):
    with pytest.raises(AnalysisError, match=r"isel\(feature=0\)"):
        view.colours(features.assign_attrs(kind="continuous"))


def test_what_is_not_a_field_is_refused():
    with pytest.raises(AnalysisError, match="A field is a DataArray"):
        view.legend(np.zeros((2, 2)))
