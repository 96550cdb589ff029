"""Charts of sensitivity and of distributions."""

import holoviews as hv
import matplotlib.text
import numpy as np
import pytest
import xarray as xr
from blobs import on_ground
from sentences import ODD, refused

from skysense import view
from skysense.analysis import distribution, mean_sensitivity
from skysense.errors import AnalysisError
from skysense.view.effects import sensitivity_table
from skysense.view.hues import SELECTED, SENSOR, UNSELECTED, USED


def drawn(element):
    return hv.renderer("bokeh").get_plot(element)


def texts(figure):
    return "\n".join(t.get_text() for t in figure.findobj(matplotlib.text.Text))


@pytest.fixture(scope="module")
def found():
    values = np.random.default_rng(0).uniform(0.01, 0.2, (3, 6, 6))
    first = on_ground(values[0], kind="continuous", units="cosine distance",
                      long_name="sensitivity")  # fmt: skip
    layers = xr.concat([first.copy(data=v) for v in values.astype("f4")], "dropped")
    return layers.assign_coords(
        dropped=["Sentinel-2 2018-05-01", "Sentinel-2 2018-06-01", "Sentinel-1 2018-05-02"],
        sensor=("dropped", ["s2", "s2", "s1"]),
        date=("dropped", ["2018-05-01", "2018-06-01", "2018-05-02"]),
    )


@pytest.fixture(scope="module")
def by_class(found):
    codes = np.arange(36).reshape(6, 6) % 2
    labels = on_ground(codes, kind="categorical", categories=["wheat", "maize"])
    return mean_sensitivity(found, labels)


def test_there_is_a_bar_per_date_in_the_colour_of_its_sensor(found):
    means = mean_sensitivity(found)
    source = drawn(view.sensitivity(means)).handles["source"].data
    np.testing.assert_allclose(source["distance"], means)
    assert list(source["colour"]) == [SENSOR["s2"], SENSOR["s2"], SENSOR["s1"]]


def test_the_chart_names_the_sensors_colours(found):
    title = drawn(view.sensitivity(mean_sensitivity(found))).handles["plot"].title.text
    assert "Sentinel-2 green, Sentinel-1 orange" in title.replace("\n", " ")


def test_by_class_there_is_a_table_of_colours(by_class):
    table = sensitivity_table(by_class).set_index(["dropped", "class"])
    assert table.loc[("Sentinel-1 2018-05-02", "maize"), "distance"] == float(by_class[2, 1])
    assert table.loc[("Sentinel-1 2018-05-02", "maize"), "cells"] == 18
    assert isinstance(view.sensitivity(by_class), hv.HeatMap)
    drawn(view.sensitivity(by_class))


def test_one_layer_is_a_map(found):
    assert view.colours(found[0]).shape == (6, 6, 4)
    assert view.title(found[0]) == "sensitivity: without Sentinel-2 2018-05-01"


def test_figures_hold_bars_tables_and_distributions(found, by_class, tmp_path):
    counts = distribution(found[0], 0.1, found[1])
    figure = view.figure(mean_sensitivity(found), by_class, counts, found[2])
    words = texts(figure)
    for text in ("Sentinel-1", "maize", "control", "threshold", "mean sensitivity"):
        assert text in words
    figure.savefig(tmp_path / "figure.png")


def test_a_distribution_shows_field_control_and_threshold(found):
    chart = view.distribution(distribution(found[0], 0.1, found[1]))
    assert [type(part) for part in chart] == [hv.Histogram, hv.Histogram, hv.VLine]
    colours = [
        hv.Store.lookup_options("bokeh", part, "style").kwargs.get("color") for part in chart
    ]
    assert colours == [UNSELECTED, USED, SELECTED]
    assert "of the cells lie above 0.1" in drawn(chart).handles["plot"].title.text.replace(
        "\n", " "
    )


def test_without_a_control_there_is_one_histogram(found):
    assert [type(part) for part in view.distribution(distribution(found[0]))] == [hv.Histogram]


def test_what_has_no_chart_is_refused(found):
    refused(AnalysisError, view.sensitivity, found)
    refused(AnalysisError, view.sensitivity, 5)
    refused(AnalysisError, view.distribution, found[0])


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_odd_arguments_are_refused_in_a_sentence(found, odd):
    chart = {view.sensitivity: mean_sensitivity(found), view.distribution: distribution(found[0])}
    for draw, thing in chart.items():
        refused(AnalysisError, draw, odd)
        assert refused(AnalysisError, draw, thing, width=odd).startswith("width=")
