"""Real places through their recipes: what the files mean must be what the stack says."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Transformer

from skysense.dates import summary
from skysense.errors import RecipeError
from skysense.region import Region
from skysense.sensors import S2
from skysense.sources import load_stack
from skysense.sources.files_labels import read_labels
from skysense.stack import all_notes, check_stack, open_stack, save_stack

RECIPES = Path(__file__).parent / "recipes"

PLACES = [
    # recipe; scene; zone; west, south, east, north; dates, bands, height, width, metres by sensor
    ("be-flanders-parcels", None, 32631, (3.019304, 50.813085, 3.028392, 50.818843),
     {"s2": (118, 10, 64, 64, 10), "s1": (159, 2, 64, 64, 10)}),
    ("be-hesbaye-monthly", None, 32631, (5.326162, 50.633104, 5.340883, 50.642465),
     {"s2": (20, 9, 101, 101, 10), "s1": (20, 2, 101, 101, 10)}),
    ("de-lowersaxony-forest", None, 32632, (9.95801, 52.084943, 9.958909, 52.085496),
     {"hr": (1, 4, 304, 304, 0.2), "s2": (146, 10, 6, 6, 10), "s1": (146, 2, 6, 6, 10)}),
    ("si-turjak-l1c", None, 32633, (14.55134, 45.865889, 14.564289, 45.875027),
     {"s2": (5, 10, 101, 100, 9.995)}),
    ("br-coast", None, 32722, (-48.117398, -25.326264, -48.094691, -25.305624),
     {"s2": (1, 10, 224, 224, 10), "s1": (1, 2, 224, 224, 10)}),
    ("br-coast-l1c", None, 32722, (-48.117398, -25.326264, -48.094691, -25.305624),
     {"s2": (1, 10, 224, 224, 10)}),
    ("tz-simiyu", None, 32736, (34.055939, -3.411497, 34.076123, -3.391213),
     {"s2": (1, 10, 224, 224, 10), "s1": (1, 2, 224, 224, 10)}),
    ("dk-jutland", None, 32632, (9.826133, 57.216692, 9.863688, 57.237061),
     {"s2": (1, 10, 224, 224, 10), "s1": (1, 2, 224, 224, 10)}),
    ("ph-manila-oam", None, 32651, (120.980898, 14.595059, 120.98274, 14.59685),
     {"hr": (1, 3, 2065, 2068, 0.0968)}),
    ("us-vegas-spacenet", None, 32611, (-115.170628, 36.237108, -115.167118, 36.240618),
     {"hr": (1, 3, 1467, 1198, 0.2696)}),
    ("us-yellowstone-neon", None, 32612, None, {"hr": (1, 3, 1035, 1249, 0.1)}),
    ("us-newyork-hro", "tile_1003", 32618, (-74.22065, 40.637847, -74.219726, 40.638548),
     {"hr": (1, 3, 516, 518, 0.1523)}),
    ("us-northdakota-naip5m", None, 32614, (-99.185591, 47.004015, -99.124047, 47.036674),
     {"hr": (2, 4, 724, 934, 5)}),
]  # fmt: skip


@pytest.fixture(scope="module")
def opened(shared):
    """Stacks by recipe, opened once."""
    found = {}

    def get(name, scene=None):
        if (name, scene) not in found:
            found[name, scene] = load_stack(RECIPES / f"{name}.toml", scene=scene)
        return found[name, scene]

    del shared  # skips where it is absent
    return get


def lonlat_bounds(group):
    box = group.to_dataset().odc.geobox.boundingbox
    to_lonlat = Transformer.from_crs(str(box.crs), "EPSG:4326", always_xy=True)
    return to_lonlat.transform_bounds(*box.bbox)


def usable(group):
    """(band, n) values where the pixel is usable."""
    data, valid = group["data"].values, group["valid"].values
    return np.moveaxis(data, 1, 0)[:, valid]


@pytest.mark.parametrize(
    ("name", "scene", "epsg", "bounds", "sensors"), PLACES, ids=[p[0] for p in PLACES]
)
def test_a_place_opens_as_its_description_says(opened, name, scene, epsg, bounds, sensors):
    stack = opened(name, scene)
    check_stack(stack)
    assert set(stack.children) == set(sensors)
    for key, (dates, bands, height, width, metres) in sensors.items():
        group = stack[key]
        assert group["data"].shape == (dates, bands, height, width)
        grid = group.to_dataset().odc.geobox
        assert grid.crs.to_epsg() == epsg
        assert grid.resolution.x == pytest.approx(metres, rel=0.002)
        assert group.attrs["licence"] != "not stated in the recipe"
        if bounds is not None:
            # degrees to metres: the box round a slightly turned image is a little larger
            away = np.abs(np.subtract(lonlat_bounds(group), bounds))
            degree = 111_320 * np.cos(np.radians(bounds[1])), 110_574
            assert (away * [*degree, *degree]).max() < 12


@pytest.mark.parametrize("name", ["be-flanders-parcels", "be-hesbaye-monthly", "br-coast",
                                  "tz-simiyu", "dk-jutland"])  # fmt: skip
@pytest.mark.usefixtures("shared")
def test_grids_of_satellite_files_are_kept_to_the_millimetre(opened, name):
    first = {
        "be-flanders-parcels": (501360.0, 5629680.0),
        "be-hesbaye-monthly": (664500.0, 5612650.0),
        "br-coast": (790236.0403820039, 7198039.252334285),
        "tz-simiyu": (617301.8198784497, 9625098.22745184),
        "dk-jutland": (549892.6970314482, 6344077.6142594535),
    }[name]
    box = opened(name)["s2"].to_dataset().odc.geobox.boundingbox
    assert (box.left, box.top) == pytest.approx(first, abs=1e-3)


@pytest.mark.parametrize(
    "name",
    ["be-flanders-parcels", "be-hesbaye-monthly", "de-lowersaxony-forest", "si-turjak-l1c",
     "br-coast", "br-coast-l1c", "tz-simiyu", "dk-jutland"],
)  # fmt: skip
def test_reflectance_is_between_0_and_1(opened, name):
    values = usable(opened(name)["s2"])
    low, middle, high = np.percentile(values, [1, 50, 99], axis=1)
    assert (low >= 0).all()
    assert ((middle > 0.01) & (middle < 0.5)).all()
    assert (high < 1.2).all()


@pytest.mark.parametrize(
    "name",
    ["be-flanders-parcels", "be-hesbaye-monthly", "de-lowersaxony-forest", "br-coast",
     "tz-simiyu", "dk-jutland"],
)  # fmt: skip
def test_radar_is_in_decibels_whatever_its_encoding(opened, name):
    vv, vh = np.median(usable(opened(name)["s1"]), axis=1)
    assert -16 < vv < -7
    assert -23 < vh < -13
    assert 4 < vv - vh < 10


def test_decibels_are_those_of_the_files(shared, opened):
    with rasterio.open(shared / "data" / "br-coast" / "s1rtc.tif") as source:
        stored = source.read()
    np.testing.assert_allclose(opened("br-coast")["s1"]["data"].values[0], stored, atol=1e-5)


def test_reflectance_is_that_of_the_file(shared, opened):
    with rasterio.open(shared / "data" / "br-coast" / "s2l2a.tif") as source:
        stored = source.read()
    group = opened("br-coast")["s2"]
    for name, number in {"blue": 2, "nir": 8, "nir08": 9, "swir22": 12}.items():
        found = group["data"].sel(band=name).values[0]
        np.testing.assert_allclose(found, stored[number - 1] / 10_000, atol=1e-7)


def test_the_offset_of_level_1_is_taken_off(opened):
    """Without it the darkest water would be ten percent bright in the short-wave infrared."""
    dark = opened("br-coast-l1c")["s2"]["data"].sel(band="swir16").quantile(0.01)
    assert float(dark) < 0.02


def test_bands_are_in_the_order_of_the_model(opened):
    for name in ("be-flanders-parcels", "de-lowersaxony-forest", "si-turjak-l1c"):
        assert tuple(opened(name)["s2"]["band"].values) == S2.names
    assert list(opened("be-flanders-parcels")["s1"]["band"].values) == ["vv", "vh"]


def test_near_infrared_first_is_understood(shared, opened):
    with rasterio.open(shared / "data" / "de-lowersaxony-forest" / "aerial_0p2m.tif") as source:
        nir, green, blue, red = source.read()
    group = opened("de-lowersaxony-forest")["hr"]["data"]
    for name, stored in {"red": red, "green": green, "blue": blue, "nir": nir}.items():
        np.testing.assert_array_equal(group.sel(band=name).values[0], stored)


def test_a_missing_band_is_recorded_and_not_invented(opened):
    group = opened("be-hesbaye-monthly")["s2"]
    assert "nir08" not in group["band"].values
    assert group.attrs["missing_bands"] == ["nir08"]
    assert any("no nir08" in note for note in all_notes(opened("be-hesbaye-monthly")))


def test_months_without_data_are_not_usable(opened):
    group = opened("be-hesbaye-monthly")["s2"]
    share = group["clear"].sel(time=["2020-12-01", "2021-01-01"]).values
    assert (share < 0.1).all()
    invalid = ~group["valid"].values
    assert np.isnan(np.moveaxis(group["data"].values, 1, 0)[:, invalid]).any(axis=0).all()


def test_the_scene_classification_becomes_valid(opened):
    """The README counts 11 dates at least 98 % and 30 at least 90 % clear."""
    clear = opened("be-flanders-parcels")["s2"]["clear"].values
    assert int((clear >= 0.98).sum()) == 11
    assert int((clear >= 0.90).sum()) == 30


def test_clouds_of_dated_masks_find_their_image(opened):
    clear = opened("si-turjak-l1c")["s2"]["clear"].values
    np.testing.assert_array_equal(clear, [1, 0, 0, 1, 1])


def test_the_black_corner_is_not_usable(opened):
    group = opened("ph-manila-oam")["hr"]
    assert float(group["clear"][0]) == pytest.approx(1 - 0.1812, abs=0.002)
    assert np.isnan(group["data"].values[0][:, ~group["valid"].values[0]]).all()


def test_pixels_outside_a_turned_image_are_not_usable(opened):
    group = opened("us-newyork-hro", "tile_1003")["hr"]
    assert float(group["clear"][0]) == 1
    valid = group["valid"].values[0]
    assert not valid[0, 0]
    assert not valid[-1, -1]
    assert valid[10:-10, 10:-10].all()


def test_facts_per_date_come_from_the_product_names(opened):
    group = opened("de-lowersaxony-forest")["s2"]
    first = group.isel(time=0)
    assert str(first["item"].values).startswith("S2A_MSIL2A_20200102T102421_N0213_R065")
    assert str(first["baseline"].values) == "0213"
    assert int(first["orbit_number"]) == 65
    assert str(first["level"].values) == "L2A"


def test_two_orbit_directions_are_one_series(opened):
    group = opened("de-lowersaxony-forest")["s1"]
    directions, counts = np.unique(group["orbit_direction"].values, return_counts=True)
    assert dict(zip(directions.tolist(), counts.tolist(), strict=True)) == {
        "ascending": 60,
        "descending": 86,
    }
    assert (np.diff(group["time"].values) >= np.timedelta64(0)).all()


def test_two_products_of_a_day_are_kept_and_said(opened):
    notes = opened("de-lowersaxony-forest")["s1"].attrs["notes"]
    assert "25 days hold more than one image; each is kept as a date of its own." in notes


def test_a_guessed_position_is_said(opened):
    for name, key in (("de-lowersaxony-forest", "s2"), ("us-yellowstone-neon", "hr")):
        assert opened(name)[key].attrs["approximate"] == 1
        assert any("position is approximate" in note for note in all_notes(opened(name)))
    assert opened("de-lowersaxony-forest")["hr"].attrs["approximate"] == 0


def test_an_unknown_date_is_unknown_and_said(opened):
    group = opened("us-vegas-spacenet")["hr"]
    assert np.isnat(group["time"].values[0])
    assert np.isnan(group["doy"].values[0])
    assert "The date is unknown." in group.attrs["notes"]


def test_dates_are_read_from_file_names(opened):
    days = opened("us-northdakota-naip5m")["hr"]["time"].values.astype("datetime64[D]")
    np.testing.assert_array_equal(days, np.array(["2009-08-18", "2020-08-31"], "M8[D]"))


def test_coarse_pixels_are_repeated_and_that_is_said(opened):
    group = opened("be-flanders-parcels")["s2"]
    red_edge = group["data"].sel(band="rededge1").values
    np.testing.assert_array_equal(red_edge[..., ::2, ::2], red_edge[..., 1::2, 1::2])
    assert "B05" in group.attrs["resampling"]
    assert "B02" not in group.attrs["resampling"]
    assert "20 m" in opened("be-flanders-parcels")["s1"].attrs["resampling"]


def test_untouched_pixels_say_nothing_about_resampling(opened):
    assert opened("br-coast")["s2"].attrs["resampling"] == ""
    assert opened("si-turjak-l1c")["s2"].attrs["resampling"] == ""


def test_a_later_date_is_put_on_the_first_grid(opened, shared):
    """The grids of 2009 and 2020 are a metre apart: the nearest pixel is one of the same place."""
    group = opened("us-northdakota-naip5m")["hr"]
    with rasterio.open(shared / "data" / "us-northdakota-naip5m" / "naip_20200831.tif") as source:
        stored = source.read()
    np.testing.assert_array_equal(
        group["data"].sel(band="red").values[1, :723, :900], stored[0, :, :900]
    )
    assert "first grid (nearest)" in group.attrs["resampling"]


def test_a_related_system_is_renamed_and_said(opened):
    notes = " ".join(all_notes(opened("us-northdakota-naip5m")))
    assert "EPSG:26914" in notes
    assert "EPSG:32614" in notes


def test_colours_of_a_reprojected_image_are_those_of_the_file(shared, opened):
    """Sampled at places, the stack and the file agree: nothing is mixed, mirrored or shifted."""
    group = opened("us-newyork-hro", "tile_1003")["hr"].to_dataset()
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(20, 490, (2, 400))
    x, y = group["x"].values[columns], group["y"].values[rows]
    with rasterio.open(shared / "data" / "us-newyork-hro" / "tile_1003.tif") as source:
        to_file = Transformer.from_crs("EPSG:32618", source.crs, always_xy=True)
        stored = np.array(list(source.sample(zip(*to_file.transform(x, y), strict=True))))
    found = group["data"].values[0][:, rows, columns].T
    np.testing.assert_array_equal(found, stored)


def test_coarse_high_resolution_opens_with_a_warning(opened):
    assert any("coarser than" in n for n in opened("us-northdakota-naip5m")["hr"].attrs["notes"])


@pytest.mark.parametrize("name", ["be-flanders-parcels", "ph-manila-oam", "br-coast"])
def test_good_scales_raise_no_alarm(opened, name):
    assert not any("look wrong" in note for note in all_notes(opened(name)))


@pytest.mark.usefixtures("shared")
def test_every_scene_of_a_recipe_opens():
    from skysense.sources.recipe import read_recipe

    recipe = RECIPES / "us-newyork-hro.toml"
    scenes = read_recipe(recipe).scenes
    assert len(scenes) == 24
    for scene in (scenes[3], scenes[17]):  # another zone: Portland, Maine
        stack = load_stack(recipe, scene=scene)
        assert scene in stack.attrs["source"]
        assert stack["hr"].to_dataset().odc.geobox.resolution.x == pytest.approx(0.15, abs=0.006)
    assert stack.attrs["lattice_crs"] == "EPSG:32619"


def test_a_stack_says_what_it_holds_before_pixels_are_loaded(opened):
    stack = opened("be-flanders-parcels")
    assert stack["s2"]["data"].chunks is not None
    told = summary(stack)
    assert len(told.dates["s2"]) == 118
    assert told.nbytes == (118 * 10 + 159 * 2) * 64 * 64 * 4 + (118 + 159) * 64 * 64


def test_a_stack_survives_being_saved(opened, tmp_path):
    stack = opened("de-lowersaxony-forest")
    back = open_stack(save_stack(stack, tmp_path / "s.zarr"))
    for key in stack.children:
        assert back[key].to_dataset().identical(stack[key].to_dataset().compute())


# -- regions -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shared")
def test_a_region_loads_whole_windows_of_the_same_pixels():
    region = Region.around(-48.106, -25.3155, 300, ("2021-01-01", "2021-12-31"))
    part = load_stack(region, source=RECIPES / "br-coast.toml")
    whole = load_stack(RECIPES / "br-coast.toml")
    group = part["s2"].to_dataset()
    assert group.sizes["x"] < 224
    assert group.sizes["x"] % 16 == 0  # tokens of 4 cells, windows of 64, 48 apart
    same = whole["s2"]["data"].sel(x=group["x"], y=group["y"])
    np.testing.assert_array_equal(group["data"].values, same.values)
    assert {k: whole.attrs[k] for k in whole.attrs if k.startswith("lattice")} == {
        k: part.attrs[k] for k in part.attrs if k.startswith("lattice")
    }


@pytest.mark.usefixtures("shared")
def test_a_region_of_a_reprojected_image_gives_the_same_pixels():
    recipe = RECIPES / "us-vegas-spacenet.toml"
    whole = load_stack(recipe)["hr"]
    region = Region.around(-115.1689, 36.2389, 60, "2017")
    part = load_stack(region, source=recipe)["hr"]
    same = whole["data"].sel(x=part["x"], y=part["y"], method="nearest", tolerance=1e-6)
    np.testing.assert_array_equal(part["data"].values, same.values)


@pytest.mark.usefixtures("shared")
def test_the_clear_share_does_not_depend_on_the_region():
    region = Region.around(3.0239, 50.8160, 100, ("2018-01-01", "2018-12-31"))
    recipe = RECIPES / "be-flanders-parcels.toml"
    part = load_stack(region, "s2", source=recipe)["s2"]
    whole = load_stack(recipe, "s2")["s2"].sel(time=part["time"])
    np.testing.assert_array_equal(part["clear"].values, whole["clear"].values)


@pytest.mark.usefixtures("shared")
def test_dates_outside_the_period_are_left_out_and_counted():
    region = Region.around(3.0239, 50.8160, 400, ("2018-05-01", "2018-05-31"))
    group = load_stack(region, "s2", source=RECIPES / "be-flanders-parcels.toml")["s2"]
    days = group["time"].values
    assert (days >= np.datetime64("2018-05-01")).all()
    assert (days < np.datetime64("2018-06-01")).all()
    assert f"{118 - len(days)} of 118 dates lie outside the period." in group.attrs["notes"]


@pytest.mark.usefixtures("shared")
def test_a_period_without_images_is_refused_with_the_period_there_is():
    region = Region.around(3.0239, 50.8160, 400, "2022")
    with pytest.raises(RecipeError, match="its images are from 2017-08-04 to 2018-11-27"):
        load_stack(region, "s2", source=RECIPES / "be-flanders-parcels.toml")


@pytest.mark.usefixtures("shared")
def test_a_region_elsewhere_is_refused_with_the_place_there_is():
    with pytest.raises(RecipeError, match=r"does not touch the images, which cover \(3\.0193"):
        load_stack(Region.around(10, 50, 400, "2018"), source=RECIPES / "be-flanders-parcels.toml")


# -- labels --------------------------------------------------------------------------------------


def counts(field):
    values, found = np.unique(field.values[np.isfinite(field.values)], return_counts=True)
    return {field.attrs["categories"][int(v)]: int(n) for v, n in zip(values, found, strict=True)}


@pytest.mark.usefixtures("shared")
def test_labels_count_as_the_readme_says():
    recipe = RECIPES / "be-flanders-parcels.toml"
    assert counts(read_labels(recipe, "land_cover")) == {
        "temporary crops": 1401,
        "grassland": 835,
        "built-up": 107,
        "no temporary crops": 1753,
    }
    crops = read_labels(recipe, "crop_type")
    assert counts(crops)["maize"] == 1249
    assert int(np.isnan(crops).sum()) == 1860
    assert crops.attrs["kind"] == "categorical"


def test_labels_lie_on_the_grid_of_their_images(opened):
    labels = read_labels(RECIPES / "br-coast.toml")
    group = opened("br-coast")["s2"]
    np.testing.assert_allclose(labels["x"], group["x"])
    np.testing.assert_allclose(labels["y"], group["y"])
    assert labels.odc.geobox.crs.to_epsg() == 32722


@pytest.mark.usefixtures("shared")
def test_polygons_keep_their_own_system():
    trees = read_labels(RECIPES / "ph-manila-oam.toml")
    assert len(trees) == 5
    assert trees.crs.to_epsg() == 3395
    place = shapely.box(120.980898, 14.595059, 120.98274, 14.59685)
    assert trees.to_crs(4326).within(place).all()
    fields = read_labels(RECIPES / "si-turjak-l1c.toml", "land_cover_polygons")
    assert len(fields) == 88


@pytest.mark.usefixtures("shared")
def test_unknown_labels_are_refused_with_those_there_are():
    with pytest.raises(RecipeError, match="it has land_cover, crop_type"):
        read_labels(RECIPES / "be-flanders-parcels.toml", "soil")
