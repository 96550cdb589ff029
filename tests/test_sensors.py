"""Units and statistics of the sensors are pinned: a change here changes every feature."""

import pytest

from skysense.sensors import CELL, HR, HR_RESOLUTION, MIN_BANDS, S1, S2, SENSORS, TOKEN, WINDOW


def test_sentinel_2_bands_stand_in_the_order_of_the_model():
    assert [b.code for b in S2.bands] == [
        "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12",
    ]  # fmt: skip
    assert S2.names == (
        "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16",
        "swir22",
    )  # fmt: skip


def test_radar_and_close_view_bands_stand_in_the_order_of_the_model():
    assert S1.names == ("vv", "vh")
    assert HR.names == ("red", "green", "blue")
    assert HR.known == ("red", "green", "blue", "nir")


def test_wavelengths_are_in_micrometres():
    assert [b.wavelength for b in S2.bands] == pytest.approx(
        [0.49, 0.56, 0.665, 0.705, 0.74, 0.783, 0.842, 0.865, 1.61, 2.19]
    )
    speed_of_light, carrier = 299_792_458.0, 5.405e9
    assert S1.bands[0].wavelength == pytest.approx(speed_of_light / carrier * 1e6, rel=1e-4)
    assert all(0.4 < b.wavelength < 1.0 for b in (*HR.bands, *HR.extra))


def test_sentinel_2_statistics_are_the_published_ones_in_reflectance():
    digital = (884.29673756, 1144.16202635, 1297.47289228, 1624.90992062, 2194.6423161,
               2422.21248945, 2517.76053101, 2581.64687018, 2368.51236873, 1805.06846033)  # fmt: skip
    assert tuple(10_000 * v for v in S2.mean) == pytest.approx(digital)
    assert S2.std[0] == pytest.approx(0.115515170768)
    assert S2.units == "reflectance"


def test_radar_statistics_are_in_decibel():
    assert S1.mean == (-12.54847273, -20.19237134)
    assert S1.std == (5.25697717, 5.91150917)
    assert S1.units == "dB"


def test_close_view_statistics_are_those_of_imagenet_in_0_to_255():
    assert tuple(v / 255 for v in HR.mean) == pytest.approx((0.485, 0.456, 0.406))
    assert tuple(v / 255 for v in HR.std) == pytest.approx((0.229, 0.224, 0.225))
    assert HR.units == "0..255"


def test_grids_fit_into_each_other():
    assert CELL / HR_RESOLUTION == 32
    assert TOKEN / CELL == 4
    assert WINDOW / CELL == 64
    assert WINDOW / HR_RESOLUTION == 2048
    assert {k: s.resolution for k, s in SENSORS.items()} == {"hr": 0.3125, "s2": 10, "s1": 10}


def test_every_sensor_has_one_mean_and_one_deviation_per_band():
    for sensor in SENSORS.values():
        assert len(sensor.mean) == len(sensor.std) == len(sensor.bands)
        assert min(sensor.std) > 0
        assert MIN_BANDS[sensor.key] <= len(sensor.bands)


def test_the_mean_of_every_sensor_is_plausible_for_it():
    for sensor in SENSORS.values():
        assert all(sensor.plausible[0] < m < sensor.plausible[1] for m in sensor.mean)


@pytest.mark.parametrize(
    ("sensor", "given", "name"),
    [
        (S2, "B02", "blue"),
        (S2, "b2", "blue"),
        (S2, "B8A", "nir08"),
        (S2, "B08", "nir"),
        (S2, "B8", "nir"),
        (S2, " NIR ", "nir"),
        (S2, "B11", "swir16"),
        (S2, "B01", None),
        (S2, "B10", None),
        (S2, "", None),
        (S1, "VV", "vv"),
        (S1, "hh", None),
        (HR, "R", "red"),
        (HR, "NIR", "nir"),
    ],
)
def test_bands_are_known_by_name_and_by_product_code(sensor, given, name):
    assert sensor.name_of(given) == name
