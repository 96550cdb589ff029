import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from skysense.sources.radiometry import (
    CLEAR_CLASSES,
    Decode,
    doubts,
    offset_to_add,
    parse_baseline,
    usable,
)

PATIENT = settings(deadline=None)  # other work may share the processor
DIGITAL = arrays("u2", array_shapes(min_dims=2, max_dims=3, max_side=8))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("05.09", (5, 9)), ("04.00", (4, 0)), ("02.12", (2, 12)), ("N0509", (5, 9)),
        ("0214", (2, 14)), ("5.9", (5, 9)), (" 03.01 ", (3, 1)),
        ("", None), (None, None), ("L2A", None), ("12345", None), (4, None), ("-1.0", None),
    ],
)  # fmt: skip
def test_baselines_are_read_in_every_spelling(text, expected):
    assert parse_baseline(text) == expected


@pytest.mark.parametrize(
    ("rule", "baseline", "declared", "add"),
    [
        ("raw", "03.01", None, 0), ("raw", "04.00", None, -1000), ("raw", "05.10", None, -1000),
        ("raw", "02.12", -0.1, 0),
        ("declared", "05.00", -0.1, -1000), ("declared", "05.00", 0.0, 0),
        ("declared", "05.00", None, -1000), ("declared", "02.12", None, 0),
        ("shifted", "05.00", -0.1, 0), ("shifted", "", None, 0),
    ],
)  # fmt: skip
def test_the_offset_follows_the_baseline_and_the_provider_never_the_date(
    rule, baseline, declared, add
):
    assert offset_to_add(rule, baseline, declared) == (add, "")


def test_an_unknown_baseline_is_said_and_nothing_is_subtracted():
    add, sentence = offset_to_add("raw", "", None)
    assert add == 0
    assert "baseline is unknown" in sentence


@PATIENT
@given(DIGITAL)
def test_digital_numbers_become_ten_thousandths_exactly(raw):
    made = Decode(1e-4, nodata=0)(raw)
    assert made.dtype == np.float32
    assert (np.isnan(made) == (raw == 0)).all()
    assert np.array_equal(made[raw > 0], (raw[raw > 0] / 10_000).astype("f4"))


@PATIENT
@given(DIGITAL.map(lambda raw: np.minimum(raw, 64_000)))
def test_reprocessed_scenes_have_the_same_reflectance_as_the_old_ones(raw):
    shifted = np.where(raw == 0, 0, raw + 1000).astype("u2")
    old, new = Decode(1e-4, 0, 0, floor=0.0)(raw), Decode(1e-4, -1000, 0, floor=0.0)(shifted)
    assert np.array_equal(old, new, equal_nan=True)


def test_no_data_is_set_aside_before_the_offset_and_darkness_is_zero():
    made = Decode(1e-4, -1000, 0, floor=0.0)(np.array([0, 1, 999, 1000, 1001, 11_000], "u2"))
    assert np.isnan(made[0])
    assert np.allclose(made[1:], [0, 0, 0, 1e-4, 1])


@PATIENT
@given(st.floats(-60, 20))
def test_power_becomes_decibels_and_back(decibels):
    power = np.array([10 ** (decibels / 10)], "f8")
    assert Decode(power=True)(power)[0] == pytest.approx(decibels, abs=1e-5)


def test_power_that_is_none_is_missing():
    made = Decode(nodata=-32768, power=True)(np.array([0, -1, -32768, np.nan, np.inf, 1], "f4"))
    assert np.isnan(made[:5]).all()
    assert made[5] == 0


@PATIENT
@given(arrays("u1", (4, 4)), st.sets(st.integers(0, 11), max_size=6))
def test_exactly_the_listed_classes_are_usable(classes, keep):
    assert (usable(classes, tuple(keep)) == np.isin(classes, list(keep))).all()


def test_clouds_shadows_and_no_data_are_never_usable_by_default():
    assert not set(CLEAR_CLASSES) & {0, 1, 2, 3, 8, 9, 10}


def test_an_offset_subtracted_twice_is_flagged():
    rng = np.random.default_rng(0)
    true = rng.gamma(2, 0.05, (10, 32, 32)).astype("f4")
    everywhere = np.ones((32, 32), bool)
    assert not doubts("s2", true, everywhere)
    twice = np.maximum(true - 0.1, 0)
    assert any("subtracted twice" in sentence for sentence in doubts("s2", twice, everywhere))


@pytest.mark.parametrize(
    ("sensor", "value"), [("s2", 1500.0), ("s1", 0.04), ("s1", 1200.0), ("hr", 0.4)]
)
def test_a_wrong_scale_is_flagged(sensor, value):
    data = np.full((2, 16, 16), value, "f4")
    assert any("look wrong" in each for each in doubts(sensor, data, np.ones((16, 16), bool)))


def test_linear_backscatter_is_not_taken_for_decibels():
    decibels = np.random.default_rng(0).normal([[[-11]], [[-18]]], 4, (2, 32, 32)).astype("f4")
    everywhere = np.ones((32, 32), bool)
    assert not doubts("s1", decibels, everywhere)
    for linear in (10 ** (decibels / 10), 10 ** (decibels / 20)):
        assert "not 'dB'" in " ".join(doubts("s1", linear, everywhere))


def test_masked_pixels_raise_no_doubts():
    data = np.zeros((10, 32, 32), "f4")
    assert not doubts("s2", data, np.zeros((32, 32), bool))
