"""The synthetic world: known truth, real-looking physics, and one value per place."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from skysense.dates import choose_dates
from skysense.errors import SourceError
from skysense.region import Region
from skysense.sensors import SENSORS
from skysense.sources import synthetic
from skysense.sources.synthetic_noise import bell, fractal, noise, noise_at, unit
from skysense.sources.synthetic_plan import CLASSES, World
from skysense.sources.synthetic_sky import clouds, passes, usable
from skysense.stack import all_notes, check_stack, open_stack, region_of, save_stack
from skysense.windows import Lattice, plan_windows

YEAR = ("2023-01-01", "2023-12-31")
SPRING = ("2023-04-01", "2023-06-30")


@pytest.fixture(scope="module")
def fens():
    return synthetic.scene(seed=0, size=640)


@pytest.fixture(scope="module")
def hills():
    return synthetic.scene(seed=0, size=640, style="hills", sensors=("s2",))


def medians(tree, truth, sensor="s2"):
    """Class name to (time, band) median over its clear pixels."""
    group = tree[sensor]
    data = group["data"].values
    result = {}
    for k, name in enumerate(CLASSES):
        mask = group["valid"].values & (truth.values == k)[None]
        picked = np.where(mask[:, None], data, np.nan)
        with np.errstate(all="ignore"):
            result[name] = np.array([np.nanmedian(image.reshape(image.shape[0], -1), axis=1)
                                     if np.isfinite(image).any() else np.full(image.shape[0], np.nan)
                                     for image in picked])  # fmt: skip
    return result


def ndvi_by_day(tree, truth, name):
    """Day of year and NDVI of a class on dates that are nearly clear."""
    group = tree["s2"]
    bands = group["band"].values.tolist()
    values = medians(tree, truth)[name]
    red, nir = values[:, bands.index("red")], values[:, bands.index("nir")]
    clear = group["clear"].values > 0.9
    return group["doy"].values[clear], ((nir - red) / (nir + red))[clear]


def between(days, values, first, last):
    return values[(days >= first) & (days <= last)].mean()


# --- the contract ---------------------------------------------------------------------------


def test_a_scene_keeps_the_contract(fens):
    tree, _ = fens
    check_stack(tree)
    assert {k: tree[k]["data"].shape for k in tree.children} == {
        "hr": (1, 3, 2048, 2048),
        "s2": (tree["s2"].sizes["time"], 10, 64, 64),
        "s1": (tree["s1"].sizes["time"], 2, 64, 64),
    }
    assert tuple(tree["s2"]["band"].values) == SENSORS["s2"].names


def test_a_year_has_about_60_optical_and_30_radar_dates_of_two_orbits(fens):
    tree, _ = fens
    assert 50 <= tree["s2"].sizes["time"] <= 73
    assert 28 <= tree["s1"].sizes["time"] <= 32
    assert set(tree["s1"]["orbit_direction"].values.tolist()) == {"ascending", "descending"}


def test_it_says_that_no_satellite_saw_it(fens):
    tree, truth = fens
    assert tree.attrs["synthetic"] == 1
    assert truth.attrs["synthetic"] == 1
    assert "No satellite saw it" in " ".join(all_notes(tree))
    assert tree.attrs["licence"] == "synthetic, no rights reserved (CC0)"


def test_units_are_plausible_for_every_sensor(fens):
    tree, _ = fens
    for key, spec in SENSORS.items():
        values = tree[key]["data"].values
        assert np.isfinite(values).all()
        assert spec.plausible[0] < np.median(values) < spec.plausible[1]
        low, high = {"s2": (0.0001, 1.2), "s1": (-50, 20), "hr": (0, 255)}[key]
        assert low <= values.min()
        assert values.max() <= high


def test_a_scene_of_640_m_is_one_window(fens):
    tree, _ = fens
    lattice = Lattice.from_attrs(tree.attrs)
    windows = plan_windows(lattice, lattice.bounds)
    box = tree["s2"].to_dataset().odc.geobox.boundingbox
    assert [w.bounds for w in windows] == [tuple(box.bbox)]
    assert tuple(tree["hr"].to_dataset().odc.geobox.boundingbox.bbox) == tuple(box.bbox)


def test_a_scene_survives_being_stored(fens, tmp_path):
    tree = fens[0].filter(lambda node: node.name != "hr")
    opened = open_stack(save_stack(tree, tmp_path / "scene.zarr"))
    for key in ("s2", "s1"):
        xr.testing.assert_equal(tree[key].to_dataset(), opened[key].to_dataset())


# --- truth ----------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["fens", "hills"])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_every_class_is_in_every_scene(style, seed):
    _, truth = synthetic.scene(seed, 640, ("s1",), style=style, time="2023-05")
    shares = np.bincount(truth.values.astype(int).ravel(), minlength=len(CLASSES)) / truth.size
    assert truth.attrs["categories"] == list(CLASSES)
    assert shares.min() > 0.005
    assert shares.max() < 0.65


def test_truth_lies_on_the_grid_of_sentinel_2(fens):
    tree, truth = fens
    assert truth.odc.geobox == tree["s2"].to_dataset().odc.geobox
    assert truth.dtype == np.float32
    assert truth.attrs["kind"] == "categorical"


def test_classes_follow_their_calendar(fens):
    tree, truth = fens
    day, maize = ndvi_by_day(tree, truth, "maize")
    assert between(day, maize, 200, 240) > 0.7
    assert between(day, maize, 115, 150) < 0.4
    day, wheat = ndvi_by_day(tree, truth, "winter wheat")
    assert between(day, wheat, 125, 165) > 0.75
    assert between(day, wheat, 195, 235) < 0.45
    day, leafy = ndvi_by_day(tree, truth, "deciduous forest")
    assert between(day, leafy, 150, 250) > between(day, leafy, 1, 90) + 0.25
    day, needles = ndvi_by_day(tree, truth, "conifers")
    assert np.ptp(needles) < 0.15
    day, water = ndvi_by_day(tree, truth, "water")
    assert between(day, water, 1, 366) < 0.2


def test_spring_is_later_in_the_hills(fens, hills):
    greens = []
    for tree, truth in (fens, hills):
        day, values = ndvi_by_day(tree, truth, "deciduous forest")
        rising = (day > 80) & (day < 150)
        middle = (values[rising].min() + values[rising].max()) / 2
        greens.append(np.interp(middle, values[rising], day[rising]))
    assert 4 < greens[1] - greens[0] < 22


def test_one_year_of_spectra_tells_the_classes_apart(fens):
    tree, truth = fens
    clear = tree["s2"].isel(time=tree["s2"]["clear"].values > 0.98)
    pixels = clear["data"].values.reshape(-1, truth.size).T
    labels = truth.values.ravel().astype(int)
    train = np.add.outer(np.arange(64) // 8, np.arange(64) // 8).ravel() % 2 == 0
    centres = np.stack([np.median(pixels[train & (labels == k)], 0) for k in range(len(CLASSES))])
    guess = ((pixels[~train, None] - centres[None]) ** 2).sum(-1).argmin(1)
    # the rest are mixed pixels at borders
    assert (guess == labels[~train]).mean() > 0.75


def test_bare_water_and_wood_scatter_as_they_do(fens):
    values = medians(*fens, "s1")
    mean = {name: np.nanmean(v, axis=0) for name, v in values.items()}
    vv = {name: v[0] for name, v in mean.items()}
    assert vv["water"] < vv["bare soil"] < vv["deciduous forest"]
    assert vv["built-up"] > vv["bare soil"]
    assert all(v[0] - v[1] > 3 for v in mean.values())


def test_speckle_has_four_looks(fens):
    tree, truth = fens
    forest = truth.values == CLASSES.index("conifers")
    forest &= np.roll(forest, 1, 0) & np.roll(forest, -1, 0) & np.roll(forest, 1, 1)
    power = 10 ** (tree["s1"]["data"].values[:, 0][:, forest] / 10)
    looks = (power.mean(1) / power.std(1)) ** 2
    assert 2.5 < np.median(looks) < 5


# --- clouds ---------------------------------------------------------------------------------


def test_what_is_masked_is_mostly_cloud_or_shadow(fens):
    tree, _ = fens
    blue = tree["s2"]["data"].values[:, 0]
    valid = tree["s2"]["valid"].values
    assert np.median(blue[~valid]) > 0.3
    assert np.quantile(blue[valid], 0.99) < 0.3


def test_clear_is_the_share_of_usable_pixels_of_the_scene(fens):
    tree, _ = fens
    np.testing.assert_allclose(
        tree["s2"]["clear"].values, tree["s2"]["valid"].values.mean((1, 2)), atol=1e-6
    )


def test_some_dates_are_clear_and_some_are_not(fens):
    clear = fens[0]["s2"]["clear"].values
    assert (clear > 0.95).mean() > 0.25
    assert (clear < 0.5).mean() > 0.2


def test_the_default_rule_finds_20_optical_and_10_radar_dates(fens):
    kept = choose_dates(fens[0])
    assert (kept["s2"].sizes["time"], kept["s1"].sizes["time"]) == (20, 10)
    assert np.median(kept["s2"]["clear"].values) > 0.9


def test_a_catalogue_tells_the_usable_share_of_the_whole_image():
    world = World(0, "EPSG:32631", 0.0)
    flown = passes(world, "s2", *YEAR)
    xs, ys = np.arange(4e5, 4.2e5, 80.0), np.arange(5.62e6, 5.6e6, -80.0)
    true = [clouds(world, xs, ys, int(d), float(c))[2].mean()
            for d, c in zip(flown.day, flown.cover, strict=True)]  # fmt: skip
    assert np.abs(np.array(true) - usable(flown.cover)).max() < 0.12


# --- same place, same value -----------------------------------------------------------------


def assert_same_where_shared(one, other):
    """Both groups hold the same values on every date and pixel that they share."""
    for name in ("data", "valid"):
        a, b = xr.align(one[name], other[name], join="inner")
        assert a.size > 0
        np.testing.assert_array_equal(a.values, b.values)


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_a_place_has_the_same_values_whatever_rectangle_or_period_is_asked_for(sensor):
    here = Region.around(3.02, 50.82, 500, SPRING)
    wide = Region.around(3.026, 50.823, 1300, YEAR)
    assert_same_where_shared(
        synthetic.scene_for(here, [sensor])[sensor], synthetic.scene_for(wide, [sensor])[sensor]
    )


def test_a_place_looks_the_same_from_close_whatever_rectangle_is_asked_for():
    here = synthetic.scene_for(Region.around(3.02, 50.82, 300, YEAR), ["hr"])["hr"].to_dataset()
    wide = synthetic.scene_for(Region.around(3.026, 50.82, 900, YEAR), ["hr"])["hr"].to_dataset()
    middle = here.isel(x=slice(900, 1100), y=slice(700, 900))
    assert_same_where_shared(middle, wide.sel(x=middle["x"], y=middle["y"]))


def test_lazy_values_are_those_made_at_once(monkeypatch):
    region = Region.around(3.02, 50.82, 500, SPRING)
    eager = synthetic.scene_for(region, ["s2", "s1"])
    monkeypatch.setattr(synthetic, "_EAGER_CELLS", 0)
    monkeypatch.setattr(synthetic, "_BLOCK", {"s2": 50, "s1": 40})
    monkeypatch.setattr(synthetic, "_DATES_PER_BLOCK", 7)
    lazy = synthetic.scene_for(region, ["s2", "s1"])
    for key in ("s2", "s1"):
        assert lazy[key]["data"].chunks is not None
        assert_same_where_shared(eager[key], lazy[key])


def test_truth_is_the_same_whatever_rectangle_is_asked_for():
    one = synthetic.truth_for(Region.around(3.02, 50.82, 500, YEAR))
    other = synthetic.truth_for(Region.around(3.025, 50.82, 900, YEAR))
    a, b = xr.align(one, other, join="inner")
    assert a.size > 1000
    np.testing.assert_array_equal(a.values, b.values)


def test_a_large_region_is_made_only_where_it_is_read():
    tree = synthetic.scene_for(Region.around(3.0, 50.8, 20_000, "2023-06"))
    corner = tree["s2"]["data"][0, :, :20, :20]
    assert corner.compute().shape == (10, 20, 20)
    assert tree["hr"]["data"].sizes["x"] > 60_000


def test_the_same_metres_in_another_zone_are_another_place():
    one = synthetic.truth_for(Region.around(3.0, 50.8, 500, YEAR))
    other = synthetic.truth_for(Region.around(9.0, 50.8, 500, YEAR))
    assert one.shape == other.shape
    assert (one.values == other.values).mean() < 0.8


def test_another_seed_is_another_landscape_and_the_same_seed_the_same():
    (one, a), (_, b), (again, c) = (
        synthetic.scene(seed, 320, ("s1",), time="2023-05") for seed in (0, 1, 0)
    )
    assert (a.values == b.values).mean() < 0.8
    xr.testing.assert_identical(a, c)
    xr.testing.assert_identical(one["s1"].to_dataset(), again["s1"].to_dataset())


def test_the_south_has_its_summer_in_january():
    region = Region.around(-60.0, -33.0, 400, YEAR)
    tree, truth = synthetic.scene_for(region, ["s2"]), synthetic.truth_for(region)
    assert tree["s2"].to_dataset().odc.crs.to_epsg() == 32720
    leafy = truth.values == CLASSES.index("deciduous forest")
    if leafy.sum() < 20:
        leafy = truth.values == CLASSES.index("maize")
    clear = tree["s2"]["valid"].values[:, leafy].mean(1) > 0.9
    nir = tree["s2"]["data"].values[:, 6][:, leafy].mean(1)[clear]
    doy = tree["s2"]["doy"].values[clear]
    assert nir[(doy < 60) | (doy > 340)].mean() > nir[(doy > 150) & (doy < 240)].mean()


# --- places and refusals --------------------------------------------------------------------


def test_the_demo_regions_hold_every_class_in_four_windows_each():
    regions = synthetic.demo_regions(time="2023-05")
    assert [region.name for region in regions] == ["synthetic fens", "synthetic hills"]
    mixes = []
    for region in regions:
        tree, truth = synthetic.scene_for(region, ("s1",)), synthetic.truth_for(region)
        assert region_of(tree) == region
        assert tree["s1"]["data"].shape[2:] == (112, 112)
        mixes.append(np.bincount(truth.values.astype(int).ravel(), minlength=8) / truth.size)
        assert mixes[-1].min() > 0.02
    maize, wood = CLASSES.index("maize"), CLASSES.index("deciduous forest")
    assert mixes[0][maize] > mixes[1][maize]
    assert mixes[0][wood] < mixes[1][wood]


def test_the_region_of_a_scene_is_where_its_pixels_are(fens):
    tree, _ = fens
    centre = tree["s2"].to_dataset().odc.geobox.geographic_extent.centroid.coords[0]
    assert region_of(tree).centre == pytest.approx(centre, abs=2e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 645}, "multiple of 10"),
        ({"size": 70}, "multiple of 10"),
        ({"size": 1e6}, "scene_for"),
        ({"size": float("nan")}, "multiple of 10"),
        ({"style": "alps"}, "alps"),
        ({"sensors": ("s3",)}, "s3"),
        ({"sensors": ()}, "sensors"),
        ({"sensors": ("s1",), "time": "2023-05-01"}, "longer period"),
    ],
)
def test_scenes_that_cannot_be_made_are_refused(options, words):
    with pytest.raises(SourceError, match=words):
        synthetic.scene(**options)


def test_a_sensor_that_does_not_pass_is_said():
    region = Region.around(3.02, 50.82, 200, "2023-06-10")
    tree = synthetic.scene_for(region)
    assert "hr" in tree.children
    for key, title in (("s2", "Sentinel-2"), ("s1", "Sentinel-1")):
        told = f"{title} does not pass over" in " ".join(tree.attrs["notes"])
        assert told == (key not in tree.children)


# --- noise ----------------------------------------------------------------------------------


def test_noise_has_mean_0_and_deviation_1():
    xs = np.arange(0, 40_000, 37.0)
    for values in (
        noise(1, xs, xs, 100.0),
        fractal(2, xs, xs, 400.0, 3),
        bell(3, np.arange(10**6)),
    ):
        assert abs(values.mean()) < 0.03
        assert 0.9 < values.std() < 1.1


def test_hashes_are_even():
    values = unit(5, np.arange(1_000_000))
    counts = np.histogram(values, 50, (0, 1))[0]
    assert abs(counts / 20_000 - 1).max() < 0.04
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.01


@settings(deadline=None, max_examples=30)
@given(st.floats(-1e6, 1e6), st.floats(-1e7, 1e7), st.floats(1, 5000))
def test_noise_at_a_place_is_the_noise_of_the_grid_there(x, y, scale):
    xs, ys = x + np.arange(4) * 7.3, y + np.arange(3) * 5.1
    grid = noise(9, xs, ys, scale)
    places = noise_at(9, *np.meshgrid(xs, ys), scale)
    np.testing.assert_allclose(grid, places, atol=1e-4)
