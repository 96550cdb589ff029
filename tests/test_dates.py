"""Which dates an encoder is given: the rule does what its sentence says."""

import numpy as np
import pandas as pd
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from skysense.dates import ALL, Dates, acquisitions, choose_dates, summary
from skysense.errors import StackError
from skysense.stack import make_stack, sensor_group
from skysense.windows import Lattice

UTM = "EPSG:32631"
GRID = GeoBox((2, 2), Affine(10, 0, 500_000, 0, -10, 5_600_000), UTM)
quick = settings(deadline=None, max_examples=40)


def group(key, days, order=None, **per_date):
    bands = {
        "s2": ("blue", "green", "red", "nir"),
        "s1": ("vv", "vh"),
        "hr": ("red", "green", "blue"),
    }
    order = range(len(days)) if order is None else order
    n = len(days)
    data = np.arange(n, dtype="f4")[:, None, None, None] * np.ones((1, len(bands[key]), 2, 2), "f4")
    return sensor_group(
        key, data[list(order)], np.ones((n, 2, 2), bool), bands=bands[key],
        time=[days[i] for i in order], geobox=GRID,
        per_date={k: [v[i] for i in order] for k, v in per_date.items()},
        source="a test", licence="CC0",
    )  # fmt: skip


def stack(**groups):
    return make_stack(groups, lattice=Lattice(UTM), region=None, source="a test")


def days_of_year(count, step=5):
    return list(pd.date_range("2023-01-01", periods=count, freq=f"{step}D"))


def used(tree, key):
    """Position, in the order of days, of the dates that were kept (it is their pixel value)."""
    return tree[key]["data"].values[:, 0, 0, 0].astype(int).tolist()


clear_lists = st.lists(st.floats(0, 1), min_size=1, max_size=80)


@quick
@given(clear_lists)
def test_the_default_keeps_at_most_20_usable_sentinel_2_dates(clear):
    tree = stack(s2=group("s2", days_of_year(len(clear)), clear=clear))
    enough = np.sum(np.array(clear, "f4") >= 0.05)
    if not enough:
        with pytest.raises(StackError, match="No date"):
            choose_dates(tree)
    else:
        kept = choose_dates(tree)
        assert kept["s2"].sizes["time"] == min(20, enough)
        assert (kept["s2"]["clear"].values >= 0.05).all()


@quick
@given(clear_lists, st.integers(1, 30))
def test_the_clearest_date_of_every_part_of_the_period_is_kept(clear, count):
    clear = [max(c, 0.05) for c in clear]
    n = len(clear)
    kept = used(
        choose_dates(stack(s2=group("s2", days_of_year(n), clear=clear)), Dates(s2=count)), "s2"
    )
    if n <= count:
        assert kept == list(range(n))
        return
    part = np.minimum(np.arange(n) / (n - 1) * count, count - 1).astype(int)
    values = np.array(clear, "f4")
    for each in set(part.tolist()):
        best = values[part == each].max()
        assert any(values[i] == best for i in kept if part[i] == each)


@quick
@given(clear_lists, st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_of_the_source(clear, random):
    days = days_of_year(len(clear))
    order = list(range(len(clear)))
    random.shuffle(order)
    rule = Dates(clear=0.0)
    one = choose_dates(stack(s2=group("s2", days, clear=clear)), rule)
    other = choose_dates(stack(s2=group("s2", days, order, clear=clear)), rule)
    assert used(one, "s2") == used(other, "s2")


def test_a_cloudy_month_still_gets_its_clearest_dates():
    clear = [1.0] * 40 + [0.2, 0.3, 0.1, 0.2] + [1.0] * 29
    kept = used(choose_dates(stack(s2=group("s2", days_of_year(73), clear=clear))), "s2")
    assert 41 in kept


@quick
@given(st.lists(st.sampled_from(["ascending", "descending"]), min_size=1, max_size=60))
def test_sentinel_1_dates_are_of_one_orbit_direction(directions):
    tree = stack(s1=group("s1", days_of_year(len(directions), 6), orbit_direction=directions))
    kept = choose_dates(tree)["s1"]
    most = max(("ascending", "descending"), key=directions.count)
    assert set(kept["orbit_direction"].values.tolist()) == {most}
    assert kept.sizes["time"] == min(10, directions.count(most))


def test_sentinel_1_dates_are_spread_over_the_period():
    tree = stack(s1=group("s1", days_of_year(60, 6), orbit_direction=["ascending"] * 60))
    gaps = np.diff(choose_dates(tree)["s1"]["time"].values).astype("timedelta64[D]").astype(int)
    assert gaps.min() >= 30
    assert gaps.max() <= 42


def test_every_date_is_kept_on_request_but_never_both_orbit_directions():
    tree = stack(
        s2=group("s2", days_of_year(70), clear=[0.0] * 70),
        s1=group("s1", days_of_year(3), orbit_direction=["ascending", "descending", "ascending"]),
    )
    kept = choose_dates(tree, ALL)
    assert kept["s2"].sizes["time"] == 70
    assert used(kept, "s1") == [0, 2]


def test_the_newest_close_view_is_kept():
    tree = stack(hr=group("hr", ["2019-06-01", "2023-06-01", None, "2021-06-01"]))
    assert used(choose_dates(tree), "hr") == [1]
    assert used(choose_dates(tree, Dates(hr=2)), "hr") == [3, 1]


def test_a_period_keeps_both_its_days_and_dates_that_are_unknown():
    tree = stack(s2=group("s2", ["2023-03-01", "2023-03-02T10:56", "2023-03-03T23:59", "2023-03-04", None]))  # fmt: skip
    rule = Dates(first="2023-03-02", last="2023-03-03")
    assert used(choose_dates(tree, rule), "s2") == [1, 2, 4]


def test_dates_of_which_none_is_known_are_chosen_by_clearness():
    clear = np.linspace(0.1, 1, 30).tolist()
    tree = stack(s2=group("s2", [None] * 30, clear=clear))
    assert used(choose_dates(tree, Dates(s2=3)), "s2") == [27, 28, 29]


def test_pixels_of_the_dates_kept_are_not_touched():
    tree = stack(s2=group("s2", days_of_year(30), clear=np.linspace(0, 1, 30).tolist()))
    kept = choose_dates(tree)["s2"].to_dataset()
    whole = tree["s2"].to_dataset().sel(time=kept["time"])
    assert kept.identical(whole)


def test_dates_left_out_are_counted_in_the_notes():
    tree = stack(s2=group("s2", days_of_year(30)))
    assert "Sentinel-2: 20 of 30 dates used." in choose_dates(tree).attrs["notes"]


def test_mixed_levels_and_backscatter_are_said():
    tree = stack(
        s2=group("s2", days_of_year(2), level=["L1C", "L2A"]),
        s1=group("s1", days_of_year(2), backscatter=["sigma0", "gamma0"]),
    )
    notes = " ".join(choose_dates(tree).attrs["notes"])
    assert "levels L1C and L2A are mixed" in notes
    assert "gamma0 and sigma0 are mixed" in notes


def test_a_sensor_can_be_left_out():
    tree = stack(s2=group("s2", days_of_year(3)), s1=group("s1", days_of_year(3)))
    assert "s1" not in choose_dates(tree, Dates(s1=0)).children


def test_the_rail_shows_every_date_with_the_reason_it_was_left_out():
    tree = stack(
        s2=group("s2", ["2023-01-01", "2023-05-01", "2023-05-06", None], clear=[1, 0.01, 0.9, 1]),
        s1=group("s1", ["2022-01-01", "2022-01-09", "2023-05-01", "2023-05-02", "2023-05-03"],
                 orbit_direction=["ascending", "ascending", "descending", "descending", "ascending"]),
        hr=group("hr", ["2023-05-01", "2023-06-01"]),
    )  # fmt: skip
    rail = acquisitions(tree, Dates(first="2023-04-01"))
    assert [(a.sensor, a.day, a.reason) for a in rail] == [
        ("hr", "2023-05-01", "an older image"),
        ("hr", "2023-06-01", ""),
        ("s2", "2023-01-01", "outside the period"),
        ("s2", "2023-05-01", "only 1% usable"),
        ("s2", "2023-05-06", ""),
        ("s2", "unknown", ""),
        ("s1", "2022-01-01", "outside the period"),
        ("s1", "2022-01-09", "outside the period"),
        ("s1", "2023-05-01", ""),
        ("s1", "2023-05-02", ""),
        ("s1", "2023-05-03", "ascending orbit"),
    ]
    assert all(a.used == (a.reason == "") for a in rail)


def test_the_rail_and_the_choice_agree():
    clear = np.random.default_rng(0).random(60).tolist()
    tree = stack(s2=group("s2", days_of_year(60), clear=clear))
    days = [a.day for a in acquisitions(tree) if a.used]
    assert days == summary(choose_dates(tree)).dates["s2"]


def test_a_summary_counts_without_loading():
    told = summary(stack(s2=group("s2", days_of_year(3), clear=[1.0, 0.5, 0.0])))
    assert told.shapes == {"s2": (3, 4, 2, 2)}
    assert told.resolution == {"s2": 10.0}
    assert told.nbytes == 3 * 4 * 4 * 4 + 3 * 4
    assert "50% usable on average" in str(told)


@pytest.mark.parametrize(
    "wrong",
    [{"s2": -1}, {"s1": 1.5}, {"hr": True}, {"clear": 1.1}, {"clear": float("nan")},
     {"first": "2023"}, {"last": "soon"}, {"first": 20230101}],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(StackError):
        Dates(**wrong)


def test_a_period_without_dates_is_refused_with_the_rule():
    tree = stack(s2=group("s2", days_of_year(3)))
    with pytest.raises(StackError, match=r"from 2024-01-01 to the end.*Widen the period"):
        choose_dates(tree, Dates(first="2024-01-01"))


def test_a_date_left_out_by_hand_is_replaced_and_the_others_stay():
    clear = np.random.default_rng(0).uniform(0.2, 1, 40)
    days = days_of_year(40)
    tree = stack(s2=group("s2", days, clear=clear))
    before = used(choose_dates(tree, Dates(s2=10)), "s2")
    for gone in before:
        rule = Dates(s2=10, without=(f"s2 {days[gone]:%Y-%m-%d}",))
        after = used(choose_dates(tree, rule), "s2")
        assert len(after) == 10
        assert set(before) - set(after) == {gone}


def test_dates_left_out_by_hand_say_so_on_the_rail():
    tree = stack(
        s2=group("s2", days_of_year(3), clear=[1, 1, 1]),
        s1=group("s1", days_of_year(2), orbit_direction=["ascending"] * 2),
    )
    rule = Dates(without=["s2 2023-01-06", "s1 2023-01-01"])
    reasons = [(a.sensor, a.day) for a in acquisitions(tree, rule) if not a.used]
    assert reasons == [("s2", "2023-01-06"), ("s1", "2023-01-01")]
    assert {a.reason for a in acquisitions(tree, rule)} == {"", "left out by hand"}
    assert rule.sentence().endswith("without s2 2023-01-06, s1 2023-01-01")


def test_without_its_newest_image_high_resolution_is_the_one_before():
    tree = stack(hr=group("hr", days_of_year(3)))
    assert used(choose_dates(tree, Dates(without=("hr 2023-01-11",))), "hr") == [1]


@pytest.mark.parametrize(
    "odd", [5, "s2 2023-01-01", ["s3 2023-01-01"], ["s2"], [5], ["s2 x"], None]
)
def test_what_is_no_date_to_leave_out_is_refused(odd):
    with pytest.raises(StackError, match="without"):
        Dates(without=odd)
