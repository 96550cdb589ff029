import numpy as np
import pytest
from small_stack import stack

from skysense import view
from skysense.errors import AnalysisError


def test_the_clearest_date_is_shown_by_default():
    shown = view.true_colour_field(stack()["s2"])
    assert shown.attrs["date"] == "2018-06-01"
    assert shown.attrs["long_name"] == "Sentinel-2, 2018-06-01, 90% usable"


def test_a_date_is_chosen_by_number_or_day():
    tree = stack()
    first = view.true_colour_field(tree["s2"], 0)
    np.testing.assert_array_equal(first, view.true_colour_field(tree["s2"], "2018-05-01"))
    assert first.attrs["date"] == "2018-05-01"


def test_red_green_and_blue_are_red_green_and_blue():
    tree = stack()
    shown = view.true_colour_field(tree["s2"], 0)
    for channel in ("red", "green", "blue"):
        expected = tree["s2"]["data"].isel(time=0).sel(band=channel)
        np.testing.assert_array_equal(shown.sel(band=channel), expected)


def test_natural_colours_share_one_stretch_of_usable_pixels():
    tree = stack()
    tree["s2"]["data"].values[0, :, 0, 0] = 50.0
    tree["s2"]["valid"].values[0, 0, 0] = False
    shown = view.true_colour_field(tree["s2"], 0)
    assert len(set(shown.attrs["stretch_high"])) == 1
    assert shown.attrs["stretch_high"][0] < 0.3
    rest = tree["s2"]["data"].isel(time=0).sel(band=["red", "green", "blue"]).values
    usable = rest[:, tree["s2"]["valid"].values[0]]
    assert shown.attrs["stretch_low"][0] == pytest.approx(np.percentile(usable, 2))


def test_masked_pixels_are_shown_and_missing_ones_are_not():
    tree = stack()
    tree["s2"]["valid"].values[0, 1, 1] = False
    tree["s2"]["data"].values[0, :, 2, 2] = np.nan
    drawn = view.colours(view.true_colour_field(tree["s2"], 0))
    assert drawn[1, 1, 3] == 255
    assert drawn[2, 2, 3] == 0


def test_radar_is_vv_vh_and_their_difference():
    tree = stack()
    shown = view.true_colour_field(tree["s1"]).values
    np.testing.assert_allclose(shown[2], shown[0] - shown[1])
    assert view.date_title(tree["s1"]) == "Sentinel-1, date unknown"


def test_a_synthetic_scene_says_so_under_its_true_colours():
    assert view.warnings(view.true_colour_field(stack()["s2"])) == ["SYNTHETIC scene"]
    assert view.warnings(view.true_colour_field(stack()["s2"].to_dataset())) == ["SYNTHETIC scene"]
    assert view.warnings(view.true_colour_field(stack(synthetic=False)["s2"])) == []


def test_a_name_with_synthetic_in_it_makes_no_scene_synthetic():
    group = stack(synthetic=False)["s2"].to_dataset()
    group.attrs["source"] = "archive of synthetic aperture radar"
    assert view.warnings(view.true_colour_field(group)) == []


def test_a_large_image_is_shown_at_every_so_many_pixels(monkeypatch):
    monkeypatch.setattr("skysense.view.imagery.MOST_PIXELS", 5)
    shown = view.true_colour_field(stack()["s2"])
    assert shown.shape == (3, 3, 4)
    assert shown.attrs["notes"] == ["Every 3th pixel is shown."]


def test_bands_that_make_no_picture_are_named():
    with pytest.raises(AnalysisError, match=r"no red, green here \(only blue, nir\)"):
        view.true_colour_field(stack(bands=("blue", "nir"))["s2"])


@pytest.mark.parametrize("date", ["2020-01-01", 7, -3])
def test_a_date_that_is_not_there_is_refused(date):
    with pytest.raises(AnalysisError, match=r"There is no (image of|date)"):
        view.true_colour_field(stack()["s2"], date)


def test_what_is_not_a_sensor_of_a_stack_is_refused(features):
    for wrong in (stack(), features, None):
        with pytest.raises(AnalysisError, match=r"stack\['s2'\]"):
            view.true_colour_field(wrong)
