import holoviews as hv
import numpy as np
import pytest
import xarray as xr
from blobs import on_ground

from skysense import view
from skysense.analysis import agreement, assign, fit_prototypes, usage
from skysense.dates import Acquisition
from skysense.errors import AnalysisError
from skysense.view.charts import confusion_table, rail
from skysense.view.hues import LEFT_OUT, PALETTE, USED

RAIL = [
    Acquisition("s2", "2018-05-01", 0.9, True, ""),
    Acquisition("s2", "2018-05-06", 0.2, False, "clearer dates nearby"),
    Acquisition("s1", "2018-05-02", np.nan, True, ""),
    Acquisition("hr", "unknown", np.nan, True, ""),
]


def drawn(element):
    return hv.renderer("bokeh").get_plot(element).handles


def test_every_dated_acquisition_stands_on_the_rail_as_high_as_it_is_clear():
    table, unknown = rail(RAIL)
    assert list(table["day"]) == ["2018-05-01", "2018-05-06", "2018-05-02"]
    assert unknown == 1
    heights = (table["high"] - table["low"] - 0.05) / 0.8
    np.testing.assert_allclose(heights, [0.9, 0.2, 1.0])


def test_dates_left_out_are_grey_and_say_why():
    table, _ = rail(RAIL)
    assert list(table["colour"]) == [USED, LEFT_OUT, USED]
    assert table["used"][1] == "not used: clearer dates nearby"


def test_the_rail_counts_what_is_used_and_what_has_no_date():
    handles = drawn(view.dates(RAIL))
    text = handles["plot"].title.text.replace("\n", " ")
    assert text.startswith("3 of 4 dates used")
    assert "1 without a known date" in text
    assert set(handles["source"].data["colour"]) == {USED, LEFT_OUT}


def test_a_rail_of_unknown_dates_only_is_empty_but_drawn():
    assert len(view.dates(RAIL[-1:])) == 0
    drawn(view.dates(RAIL[-1:]))


def test_no_dates_at_all_are_refused():
    with pytest.raises(AnalysisError, match="no dates"):
        view.dates([])


def test_bars_of_one_place_have_the_colours_of_the_map(features):
    shares = usage(assign(features, fit_prototypes(features, 6)))
    source = drawn(view.usage(shares))["source"].data
    np.testing.assert_allclose(source["share"], shares)
    assert list(source["colour"]) == list(PALETTE[:6])


def test_bars_of_several_places_have_one_colour_per_place():
    values = [[0.1, 0.2, 0.7], [0.5, 0.4, 0.1]]
    shares = xr.DataArray(values, {"region": ["zoo", "alps"], "prototype": range(3)},
                          ("region", "prototype"))  # fmt: skip
    handles = drawn(view.usage(shares))
    source = handles["source"].data
    assert list(source["color"]) == list(source["region"])
    for region, share, prototype in zip(
        source["region"], source["share"], source["prototype"], strict=True
    ):
        assert share == float(shares.sel(region=region)[int(prototype) - 1])
    mapper = handles["color_color_mapper"]
    assert dict(zip(mapper.factors, mapper.palette, strict=True)) == {
        "zoo": PALETTE[0], "alps": PALETTE[1],
    }  # fmt: skip


def test_bars_of_places_take_the_colours_they_are_given():
    shares = xr.DataArray([[0.3, 0.7], [0.5, 0.5]], {"region": ["zoo", "alps"]},
                          ("region", "prototype"))  # fmt: skip
    mapper = drawn(view.usage(shares, colours={"alps": "#112233"}))["color_color_mapper"]
    assert dict(zip(mapper.factors, mapper.palette, strict=True)) == {
        "zoo": PALETTE[0], "alps": "#112233",
    }  # fmt: skip


def test_what_are_no_shares_is_refused(features):
    with pytest.raises(AnalysisError, match="usage"):
        view.usage(features)


def test_a_confusion_table_gives_shares_of_each_label():
    true = on_ground(np.array([[0, 0], [1, 1]]), kind="categorical", categories=["a", "b"])
    mapped = on_ground(np.array([[0, 1], [1, 1]]), kind="categorical", categories=["a", "b"])
    found = agreement(mapped, true)
    table = confusion_table(found).set_index(["labels", "map"])
    assert table.loc[("a", "b"), "share"] == 0.5
    assert table.loc[("b", "b"), "pixels"] == 2
    source = drawn(view.agreement(found))["source"].data
    assert sorted(float(v) for v in source["share"]) == [0, 0.5, 0.5, 1]
