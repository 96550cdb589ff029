"""load_stack from small files made here: every kind of file, and every kind of bad input."""

import numpy as np
import pytest
import rasterio
import xarray as xr
from pyproj import CRS, Transformer
from rasterio.transform import from_origin

import skysense as sky
from skysense.batch import to_batch
from skysense.errors import RecipeError, RegionError, SourceError, StackError
from skysense.region import Region
from skysense.sources import load_stack
from skysense.sources.files import open_recipe
from skysense.sources.files_geotiff import open_geotiff
from skysense.sources.files_labels import read_labels
from skysense.sources.files_open import Picture
from skysense.sources.recipe import parse_recipe
from skysense.stack import all_notes, save_stack
from skysense.windows import HR_MARGIN, Lattice, cover, plan_windows

LEFT, TOP = 500_000.0, 5_600_000.0


def write_tif(path, values, *, crs="EPSG:32631", pixel=10.0, origin=(LEFT, TOP), **extra):
    """A GeoTIFF of (band, y, x)."""
    names = extra.pop("names", None)
    colours = extra.pop("colours", None)
    values = np.asarray(values)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(values),
        height=values.shape[1],
        width=values.shape[2],
        dtype=values.dtype,
        crs=crs,
        transform=from_origin(*origin, pixel, pixel),
        **extra,
    ) as file:
        file.write(values)
        if names:
            file.descriptions = names
        if colours:
            file.colorinterp = [rasterio.enums.ColorInterp[c] for c in colours]
    return path


def colours(height=40, width=60, count=3, seed=0):
    return np.random.default_rng(seed).integers(60, 200, (count, height, width), np.uint8)


def table(sensor="s2", bands=("B02", "B03", "B04", "B08"), path="a.tif", **more):
    units = {"s2": "reflectance", "s1": "dB", "hr": "0..255"}[sensor]
    return {
        "name": sensor,
        "units": units,
        "time": "unknown",
        "file": [{"path": path, "bands": list(bands)}],
    } | more


def load(folder, *tables, region=None, sensors=None, scene=None, **top):
    content = {"title": "T", "sensor": list(tables), **top}
    return open_recipe(parse_recipe(content, folder), region, sensors, scene)


# -- a lone image --------------------------------------------------------------------------------


def test_a_picture_opens_by_its_path_alone(tmp_path):
    values = colours()
    path = write_tif(tmp_path / "my.tif", values, pixel=0.5, photometric="RGB")
    stack = sky.load_stack(str(path))
    np.testing.assert_array_equal(stack["hr"]["data"].values[0], values)
    assert any("Taken as a high-resolution picture" in note for note in all_notes(stack))


def test_alpha_says_where_there_is_no_picture(tmp_path):
    values = colours(count=4)
    values[3] = 255
    values[3, :10] = 0
    path = write_tif(
        tmp_path / "a.tif", values, pixel=0.5, colours=("red", "green", "blue", "alpha")
    )
    group = load_stack(path)["hr"]
    assert list(group["band"].values) == ["red", "green", "blue"]
    np.testing.assert_array_equal(group["valid"].values[0, 10:], True)
    np.testing.assert_array_equal(group["valid"].values[0, :10], False)
    assert float(group["clear"][0]) == pytest.approx(0.75)


def test_a_fourth_band_that_only_claims_to_be_alpha_is_asked_about(tmp_path):
    path = write_tif(
        tmp_path / "a.tif", colours(count=4), colours=("red", "green", "blue", "alpha")
    )
    with pytest.raises(RecipeError, match="could be several things"):
        load_stack(path)


def test_named_bands_need_no_further_words(tmp_path):
    values = np.full((4, 8, 8), 2500, np.uint16)
    names = ("B02", "B03", "B04", "B08")
    stack = load_stack(write_tif(tmp_path / "a.tif", values, names=names))
    assert list(stack["s2"]["band"].values) == ["blue", "green", "red", "nir"]
    assert float(stack["s2"]["data"].mean()) == pytest.approx(0.25)
    assert any("reflectance × 10,000" in note for note in all_notes(stack))


def test_bands_without_names_are_asked_for(tmp_path):
    path = write_tif(tmp_path / "a.tif", np.full((4, 8, 8), 2500, np.uint16))
    with pytest.raises(RecipeError, match=r"4 bands of uint16.*Pass sensor=.*bands="):
        load_stack(path)


def test_units_that_are_not_clear_are_asked_for(tmp_path):
    path = write_tif(tmp_path / "a.tif", np.full((2, 8, 8), 0.05, np.float32))
    with pytest.raises(RecipeError, match="Pass units='dB' or 'power' or 'amplitude'"):
        open_geotiff(path, "s1", ["VV", "VH"])
    stack = open_geotiff(path, "s1", ["VV", "VH"], units="power")
    assert float(stack["s1"]["data"].mean()) == pytest.approx(10 * np.log10(0.05), abs=1e-4)


def test_an_image_without_a_place_can_be_given_one(tmp_path):
    path = tmp_path / "photo.png"
    with rasterio.open(
        path, "w", driver="PNG", count=3, height=20, width=30, dtype="uint8"
    ) as file:
        file.write(colours(20, 30))
    with pytest.raises(RecipeError, match="does not say where on Earth it is"):
        load_stack(path)
    stack = open_geotiff(
        path, crs="EPSG:32631", bounds=(LEFT, TOP - 10, LEFT + 15, TOP), approximate=True
    )
    assert stack["hr"].to_dataset().odc.geobox.resolution.x == pytest.approx(0.5)
    assert any("position is approximate" in note for note in all_notes(stack))


@pytest.mark.parametrize("name", ["odd [1]*.tif", "ümlaut ?.tif"])
def test_names_with_pattern_letters_are_only_names(tmp_path, name):
    path = write_tif(tmp_path / name, colours(), pixel=0.5, photometric="RGB")
    assert load_stack(path)["hr"].sizes["time"] == 1


def test_a_text_that_calls_itself_tif_is_refused(tmp_path):
    (tmp_path / "a.tif").write_text("hello")
    with pytest.raises(RecipeError, match=r"a\.tif cannot be read as an image"):
        load_stack(tmp_path / "a.tif")


def test_another_format_behind_tif_is_not_opened(tmp_path):
    """A virtual raster could point anywhere, so its driver is not even tried."""
    (tmp_path / "a.tif").write_text(
        "<VRTDataset rasterXSize='4' rasterYSize='4'><VRTRasterBand dataType='Byte' band='1'>"
        "<SimpleSource><SourceFilename>/vsicurl/http://127.0.0.1:9/a.tif</SourceFilename>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(RecipeError, match="cannot be read as an image"):
        load_stack(tmp_path / "a.tif")


def test_a_cut_off_file_is_refused_with_its_name(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (3, 300, 300), np.uint8)
    path = write_tif(tmp_path / "a.tif", values, pixel=0.5, photometric="RGB")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RecipeError, match=r"a\.tif"):
        load_stack(path)["hr"]["data"].compute()


# -- grids ---------------------------------------------------------------------------------------


def test_an_unnamed_utm_system_is_recognised(tmp_path):
    wkt = (
        'PROJCS["unnamed",GEOGCS["unnamed",DATUM["unnamed",SPHEROID["GRS80",6378137,298.257222101]]'
        ',PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
        'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
        'PARAMETER["central_meridian",3],PARAMETER["scale_factor",0.9996],'
        'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1]]'
    )
    path = write_tif(tmp_path / "a.tif", colours(), crs=wkt, pixel=0.5, photometric="RGB")
    stack = load_stack(path)
    assert stack.attrs["lattice_crs"] == "EPSG:32631"
    assert stack["hr"].attrs["resampling"] == ""
    assert "used as EPSG:32631" in " ".join(all_notes(stack))


def test_another_transverse_mercator_is_not_taken_for_utm(tmp_path):
    """British National Grid: the same projection, other numbers."""
    path = write_tif(
        tmp_path / "a.tif",
        colours(),
        crs="EPSG:27700",
        pixel=0.5,
        origin=(530_000, 180_000),
        photometric="RGB",
    )
    stack = load_stack(path)
    assert stack.attrs["lattice_crs"] == "EPSG:32630"
    assert "reprojected from EPSG:27700" in stack["hr"].attrs["resampling"]


def test_web_mercator_becomes_true_ground_metres(tmp_path):
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(3.0, 60.0)
    path = write_tif(
        tmp_path / "a.tif",
        colours(),
        crs="EPSG:3857",
        pixel=1.0,
        origin=(x, y),
        photometric="RGB",
    )
    grid = load_stack(path)["hr"].to_dataset().odc.geobox
    assert grid.resolution.x == pytest.approx(0.5, abs=0.003)


def test_a_file_with_south_first_is_turned(tmp_path):
    values = colours(6, 5)
    with rasterio.open(
        tmp_path / "a.tif",
        "w",
        driver="GTiff",
        count=3,
        height=6,
        width=5,
        dtype="uint8",
        crs="EPSG:32631",
        transform=rasterio.Affine(1, 0, LEFT, 0, 1, TOP - 6),
        photometric="RGB",
    ) as file:
        file.write(values[:, ::-1])
    group = load_stack(tmp_path / "a.tif")["hr"]
    np.testing.assert_array_equal(group["data"].values[0], values)
    assert float(group["y"][0]) > float(group["y"][-1])


def test_a_window_of_a_reprojected_image_equals_the_whole(tmp_path):
    lon, lat = 3.2, 50.8
    path = write_tif(
        tmp_path / "a.tif",
        colours(900, 900),
        crs="EPSG:4326",
        pixel=2e-5,
        origin=(lon, lat),
        photometric="RGB",
    )
    whole = load_stack(path)["hr"]
    part = open_geotiff(path, region=Region.around(lon + 0.009, lat - 0.009, 50, "2020"))["hr"]
    assert part.sizes["x"] < whole.sizes["x"]
    same = whole["data"].sel(x=part["x"], y=part["y"], method="nearest", tolerance=1e-6)
    np.testing.assert_array_equal(part["data"].values, same.values)


def test_sensors_of_other_systems_share_the_zone_of_sentinel_2(tmp_path):
    write_tif(tmp_path / "a.tif", np.full((4, 20, 20), 2000, np.uint16))
    x, y = Transformer.from_crs(32631, 3857, always_xy=True).transform(LEFT, TOP)
    write_tif(tmp_path / "b.tif", colours(200, 200), crs="EPSG:3857", pixel=1.5, origin=(x, y))
    stack = load(
        tmp_path,
        table("hr", "RGB", "b.tif"),
        table(scale=0.0001),
    )
    assert list(stack.children) == ["hr", "s2"]
    assert stack["hr"].to_dataset().odc.geobox.crs.to_epsg() == 32631
    assert (stack.attrs["lattice_x0"], stack.attrs["lattice_y0"]) == (LEFT, TOP)


def test_coarser_parts_fall_on_their_own_ground(tmp_path):
    fine = np.arange(16, dtype=np.uint16).reshape(1, 4, 4) * 100 + 500
    coarse = np.array([[[1000, 2000], [3000, 4000]]], np.uint16)
    write_tif(tmp_path / "a.tif", np.repeat(fine, 4, axis=0))
    write_tif(tmp_path / "b.tif", coarse, pixel=20.0)
    files = [
        {"path": "a.tif", "bands": ["B02", "B03", "B04", "B08"]},
        {"path": "b.tif", "bands": ["B11"]},
    ]
    group = load(tmp_path, table(file=files, scale=0.0001))["s2"]
    found = group["data"].sel(band="swir16").values[0]
    np.testing.assert_allclose(found, np.kron(coarse[0], np.ones((2, 2))) / 10_000)
    assert group.attrs["resampling"] == (
        "B11 put from 20 m onto the 10 m grid by repeating pixels (nearest)."
    )


def test_a_place_beyond_utm_is_refused(tmp_path):
    path = write_tif(
        tmp_path / "a.tif",
        colours(),
        crs="EPSG:4326",
        pixel=1e-5,
        origin=(10, 88),
        photometric="RGB",
    )
    with pytest.raises(RecipeError, match="84° of the equator"):
        load_stack(path)


def test_a_wrong_system_is_refused_by_name(tmp_path):
    write_tif(tmp_path / "a.tif", colours(), crs=None, pixel=0.5)
    with pytest.raises(RecipeError, match="'EPSG:0' is not a coordinate reference system"):
        load(tmp_path, table("hr", "RGB", crs="EPSG:0", bounds=[0, 0, 1, 1]))


def test_a_place_that_the_file_knows_cannot_be_given_again(tmp_path):
    write_tif(tmp_path / "a.tif", colours())
    with pytest.raises(RecipeError, match="has its own position"):
        load(tmp_path, table("hr", "RGB", crs="EPSG:32631", bounds=[0, 0, 1, 1]))
    with pytest.raises(RecipeError, match="says it is in EPSG:32631, the recipe says EPSG:32632"):
        load(tmp_path, table("hr", "RGB", crs="EPSG:32632"))


# -- values, masks, dates ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "stored", "more"),
    [
        ("dB", -12.5, {}),
        ("power", 10**-1.25, {}),
        ("amplitude", 10**-0.625, {}),
        ("amplitude", 10 ** (70.5 / 20), {"db_offset": -83.0}),
        ("dB", -125_000.0, {"scale": 0.0001}),
    ],
)
def test_the_encodings_of_radar_agree(tmp_path, units, stored, more):
    write_tif(tmp_path / "a.tif", np.full((2, 4, 4), stored, np.float64))
    group = load(tmp_path, table("s1", ["VV", "VH"], units=units, **more))["s1"]
    np.testing.assert_allclose(group["data"].values, -12.5, atol=1e-4)


def test_zero_power_is_missing_and_not_minus_infinity(tmp_path):
    values = np.full((2, 4, 4), 0.1, np.float32)
    values[0, 0, 0], values[1, 1, 1] = 0, 1e-12
    write_tif(tmp_path / "a.tif", values)
    group = load(tmp_path, table("s1", ["VV", "VH"], units="power"))["s1"]
    assert int((~group["valid"]).sum()) == 2
    assert not np.isinf(group["data"].values).any()


def test_no_data_holds_band_by_band_for_satellites_and_together_for_pictures(tmp_path):
    values = np.full((3, 4, 4), 100, np.uint8)
    values[0, 0, 0] = 0
    values[:, 1, 1] = 0
    write_tif(tmp_path / "a.tif", values)
    picture = load(tmp_path, table("hr", "RGB", nodata=0))["hr"]["valid"].values[0]
    assert picture[0, 0]
    assert not picture[1, 1]
    s2 = load(tmp_path, table("s2", ["B02", "B03", "B04"], nodata=0, scale=0.01))["s2"]
    assert not s2["valid"].values[0, 0, 0]
    assert not s2["valid"].values[0, 1, 1]
    assert np.isnan(s2["data"].values[0, 0, 0, 0])
    assert np.isfinite(s2["data"].values[0, 1, 0, 0])


def test_scale_and_no_data_of_the_file_are_applied_first(tmp_path):
    values = np.full((3, 4, 4), 3000, np.uint16)
    values[:, 0, 0] = 7
    path = write_tif(tmp_path / "a.tif", values, nodata=7)
    with rasterio.open(path, "r+") as file:
        file.scales = (0.0001,) * 3
    group = load(tmp_path, table("s2", ["B02", "B03", "B04"]))["s2"]
    assert float(group["data"].max()) == pytest.approx(0.3)
    assert not group["valid"].values[0, 0, 0]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"usable": [1, 2]}, [1, 2]),
        ({"unusable": [0]}, [1, 2, 3]),
        ({"above": 2}, [0, 1, 2]),
        ({"below": 2}, [2, 3]),
        ({"above": 2, "unusable": [1]}, [0, 2]),
    ],
)
def test_masks_keep_what_they_say(tmp_path, rule, kept):
    write_tif(tmp_path / "a.tif", np.full((4, 2, 2), 2000, np.uint16))
    layer = np.array([[0, 1], [2, 3]], np.uint8)
    write_tif(tmp_path / "m.tif", np.stack([layer * 0, layer]))
    mask = {"path": "m.tif", "band": 2, "meaning": "cloud", **rule}
    group = load(tmp_path, table(scale=0.0001, mask=mask))["s2"]
    np.testing.assert_array_equal(group["valid"].values[0], np.isin(layer, kept))
    assert any("Not usable by the cloud mask" in n for n in group.attrs["notes"])


def cube(folder, name="c.zarr", dates=("2020-01-05", "2020-01-15"), **variables):
    """A Zarr store of (time, y, x) variables on the 10 m grid."""
    grid = {
        "x": LEFT + 5 + 10 * np.arange(6),
        "y": TOP - 5 - 10 * np.arange(4),
        "time": np.array(dates, "M8[ns]"),
    }
    rng = np.random.default_rng(1)
    made = {
        key: (("time", "y", "x"), rng.random((len(dates), 4, 6)) / 2 if v is None else v)
        for key, v in variables.items()
    }
    data = xr.Dataset(made, grid)
    data["spatial_ref"] = xr.DataArray(0, attrs={"crs_wkt": CRS(32631).to_wkt()})
    for key in variables:
        data[key].attrs["grid_mapping"] = "spatial_ref"
    data.to_zarr(folder / name, zarr_format=3, consolidated=False)
    return data


def file_table(path="c.zarr", bands=("B02", "B03", "B04", "B08"), **more):
    made = table(path=path, bands=bands, **more)
    made.pop("time")
    return made


def test_a_zarr_store_opens_by_variables(tmp_path):
    data = cube(tmp_path, B02=None, B03=None, B04=None, B08=None)
    group = load(tmp_path, file_table())["s2"]
    np.testing.assert_allclose(group["data"].sel(band="nir"), data["B08"], rtol=1e-6)
    np.testing.assert_array_equal(group["time"].values, data["time"].values)
    np.testing.assert_allclose(group["y"], data["y"])


def test_variables_may_have_other_names(tmp_path):
    data = cube(tmp_path, blau=None, rot=None)
    files = [{"path": "c.zarr", "bands": {"B02": "blau", "B04": "rot"}}]
    group = load(tmp_path, file_table(file=files))["s2"]
    np.testing.assert_allclose(group["data"].sel(band="red"), data["rot"], rtol=1e-6)


def test_a_missing_variable_is_named_with_those_there_are(tmp_path):
    cube(tmp_path, B02=None, B03=None)
    with pytest.raises(RecipeError, match="no variable 'B04'; it has B02, B03"):
        load(tmp_path, file_table())


def test_a_mask_with_dates_of_its_own_is_matched_by_time(tmp_path):
    cube(tmp_path, B02=None, B03=None, B04=None, B08=None)
    dates = ("2020-01-01", "2020-01-15", "2020-01-25")
    clouds = np.zeros((3, 4, 6))
    clouds[1, :2] = 1
    cube(tmp_path, "m.zarr", dates, cloud=clouds)
    mask = {"path": "m.zarr", "variable": "cloud", "unusable": [1], "meaning": "cloud"}
    group = load(tmp_path, file_table(mask=mask))["s2"]
    np.testing.assert_allclose(group["clear"], [1, 0.5])
    assert any("1 of 2 dates have no cloud mask" in n for n in group.attrs["notes"])


def test_parts_with_other_dates_are_refused(tmp_path):
    cube(tmp_path, B02=None)
    cube(tmp_path, "d.zarr", ("2020-01-05", "2020-01-16"), B03=None)
    files = [{"path": "c.zarr", "bands": ["B02"]}, {"path": "d.zarr", "bands": ["B03"]}]
    with pytest.raises(RecipeError, match="do not have the same dates"):
        load(tmp_path, file_table(file=files))


def test_facts_are_read_from_variables(tmp_path):
    data = cube(tmp_path, B02=None)
    data = data.assign(product=("time", ["S2A_N0500_R008_X", "S2B_N0214_R051_Y"]))
    data.to_zarr(tmp_path / "d.zarr", zarr_format=3, consolidated=False)
    facts = {
        "item": {"variable": "product"},
        "baseline": {"variable": "product", "regex": r"_N(\d{4})_"},
        "orbit_number": {"variable": "product", "regex": r"_R(\d{3})_"},
    }
    group = load(tmp_path, file_table("d.zarr", ["B02"], **facts))["s2"]
    assert group["baseline"].values.tolist() == ["0500", "0214"]
    assert group["orbit_number"].values.tolist() == [8, 51]
    with pytest.raises(RecipeError, match="no file of the sensor has a variable 'name'"):
        load(tmp_path, file_table("d.zarr", ["B02"], item={"variable": "name"}))
    with pytest.raises(RecipeError, match="finds nothing in"):
        load(
            tmp_path,
            file_table("d.zarr", ["B02"], item={"variable": "product", "regex": "(GRD)"}),
        )


def test_uneven_coordinates_are_refused(tmp_path):
    data = cube(tmp_path, B02=None)
    x = data["x"].values.copy()
    x[3] += 4
    data.assign_coords(x=x).to_zarr(tmp_path / "d.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(RecipeError, match="along x are not evenly spaced"):
        load(tmp_path, file_table("d.zarr", ["B02"]))


def test_a_band_axis_must_agree_with_the_list(tmp_path):
    values = np.random.default_rng(0).random((2, 2, 4, 6))
    data = cube(tmp_path, B02=None).drop_vars("B02")
    data["r"] = (("time", "band", "y", "x"), values)
    data = data.assign_coords(band=["B02", "B08"])
    data.to_zarr(tmp_path / "d.zarr", zarr_format=3, consolidated=False)

    def files(*bands):
        return [{"path": "d.zarr", "variable": "r", "bands": list(bands)}]

    group = load(tmp_path, file_table(file=files("-", "B08")))["s2"]
    np.testing.assert_allclose(group["data"][:, 0], values[:, 1], rtol=1e-6)
    with pytest.raises(RecipeError, match="the file itself says 'B02'"):
        load(tmp_path, file_table(file=files("B08", "B02")))
    with pytest.raises(RecipeError, match="has 2 bands, but 1 are listed"):
        load(tmp_path, file_table(file=files("B02")))


def test_dates_must_be_given_where_the_file_has_none(tmp_path):
    write_tif(tmp_path / "a.tif", np.full((4, 4, 4), 2000, np.uint16))
    made = table(scale=0.0001)
    made.pop("time")
    with pytest.raises(RecipeError, match="holds no dates"):
        load(tmp_path, made)


def test_a_list_of_dates_must_be_as_long_as_the_files(tmp_path):
    for day in (1, 2, 3):
        write_tif(tmp_path / f"d{day}.tif", np.full((4, 4, 4), 2000, np.uint16))
    days = ["2020-01-03", "2020-01-01", "unknown"]
    group = load(tmp_path, table(path="d*.tif", scale=0.0001, time=days))["s2"]
    assert group["item"].values.tolist() == ["d2.tif", "d1.tif", "d3.tif"]  # sorted, unknown last
    with pytest.raises(RecipeError, match="2 times are listed"):
        load(tmp_path, table(path="d*.tif", scale=0.0001, time=days[:2]))


def test_a_name_without_a_date_is_refused(tmp_path):
    write_tif(tmp_path / "a.tif", np.full((4, 4, 4), 2000, np.uint16))
    rule = {"regex": r"(\d{8})", "format": "%Y%m%d"}
    with pytest.raises(RecipeError, match=r"no date can be read from the name 'a\.tif'"):
        load(tmp_path, table(scale=0.0001, time=rule))


def test_the_band_list_must_be_as_long_as_the_file(tmp_path):
    write_tif(tmp_path / "a.tif", np.full((3, 4, 4), 2000, np.uint16))
    with pytest.raises(RecipeError, match="has 3 bands, but 4 are listed"):
        load(tmp_path, table(scale=0.0001))


def test_dates_with_other_bands_are_refused(tmp_path):
    write_tif(tmp_path / "a.tif", np.full((3, 4, 4), 2000, np.uint16))
    first = table(bands=["B02", "B03", "B04"], scale=0.0001)
    second = table(bands=["B02", "B03", "-"], scale=0.0001)
    with pytest.raises(RecipeError, match="All dates of a sensor need the same bands"):
        load(tmp_path, first, second)


# -- alarms --------------------------------------------------------------------------------------


def test_a_forgotten_scale_is_said(tmp_path):
    write_tif(tmp_path / "a.tif", np.full((4, 4, 4), 2000, np.uint16))
    notes = load(tmp_path, table())["s2"].attrs["notes"]
    assert any("median value is 2000" in n and "look wrong" in n for n in notes)


BACKSCATTER = np.random.default_rng(0).normal([[[-11]], [[-18]]], 4, (2, 40, 40))
"""A usual landscape, VV and VH in decibels."""


@pytest.mark.parametrize(
    ("stored", "units", "words"),
    [
        (BACKSCATTER, "dB", ""),
        (10 ** (BACKSCATTER / 10), "power", ""),
        (10 ** (BACKSCATTER / 20), "amplitude", ""),
        (10 ** (BACKSCATTER / 10), "dB", "not 'dB'"),
        (10 ** (BACKSCATTER / 20), "dB", "not 'dB'"),
        (1000 * 10 ** (BACKSCATTER / 20), "dB", "not 'dB'"),
        (np.where(BACKSCATTER[:1] < -30, 0.0, 10 ** (BACKSCATTER / 10)), "dB", "not 'dB'"),
        (BACKSCATTER, "power", "declared as units = 'dB'"),
        (BACKSCATTER, "amplitude", "declared as units = 'dB'"),
    ],
)
def test_backscatter_in_other_units_than_declared_is_said(tmp_path, stored, units, words):
    write_tif(tmp_path / "a.tif", stored.astype("f4"))
    notes = load(tmp_path, table("s1", ["VV", "VH"], units=units))["s1"].attrs["notes"]
    alarms = [n for n in notes if "look wrong" in n]
    assert len(alarms) == bool(words)
    assert all(words in n for n in alarms)


def test_swapped_radar_bands_are_said(tmp_path):
    write_tif(tmp_path / "a.tif", np.stack([np.full((4, 4), v, "f4") for v in (-18, -11)]))
    notes = load(tmp_path, table("s1", ["VV", "VH"]))["s1"].attrs["notes"]
    assert any("VH is brighter than VV" in n for n in notes)


def test_a_wrong_order_of_the_near_infrared_is_said(tmp_path):
    levels = {"B02": 400, "B03": 700, "B04": 500, "B08": 3500, "B8A": 3600}
    write_tif(
        tmp_path / "a.tif", np.stack([np.full((4, 4), v, np.uint16) for v in levels.values()])
    )
    good = load(tmp_path, table(bands=list(levels), scale=0.0001))["s2"].attrs["notes"]
    assert not any("looks wrong" in n for n in good)
    bad = load(tmp_path, table(bands=["B08", "B03", "B04", "B02", "B8A"], scale=0.0001))
    assert any("band order looks wrong" in n for n in bad["s2"].attrs["notes"])


# -- regions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixel", [0.6, pytest.param(0.25, marks=pytest.mark.slow)])
def test_a_window_of_a_region_is_that_of_the_whole_picture(tmp_path, pixel):
    """Coarser pixels are interpolated and finer ones averaged, across the edge of the window."""
    height, width = round(640 / pixel), round(1300 / pixel)
    values = colours(height, width)
    path = write_tif(tmp_path / "a.tif", values, pixel=pixel, photometric="RGB")
    to_lonlat = Transformer.from_crs(32631, 4326, always_xy=True)
    region = Region.around(*to_lonlat.transform(LEFT + 700, TOP - 200), 40, "2020")
    whole, part = load_stack(path), load_stack(region, source=path)
    lattice = Lattice.from_attrs(part.attrs)
    assert lattice == Lattice.from_attrs(whole.attrs)
    (window,) = plan_windows(lattice, (LEFT + 680, TOP - 220, LEFT + 720, TOP - 180))
    assert part["hr"].sizes["x"] < whole["hr"].sizes["x"]
    expected, found = (to_batch(each, [window]).sensors["hr"] for each in (whole, part))
    np.testing.assert_array_equal(found.valid.numpy(), expected.valid.numpy())
    np.testing.assert_array_equal(found.pixels.numpy(), expected.pixels.numpy())


def test_only_pictures_are_loaded_beyond_the_windows_of_a_region(tmp_path):
    write_tif(tmp_path / "s2.tif", np.full((4, 70, 200), 2000, np.uint16))
    write_tif(tmp_path / "hr.tif", colours(350, 1000), pixel=2.0)
    to_lonlat = Transformer.from_crs(32631, 4326, always_xy=True)
    region = Region.around(*to_lonlat.transform(LEFT + 800, TOP - 200), 40, "2020")
    part = load(
        tmp_path,
        table(path="s2.tif", scale=0.0001),
        table("hr", ("R", "G", "B"), "hr.tif"),
        region=region,
    )
    box = (LEFT + 780, TOP - 220, LEFT + 820, TOP - 180)
    left, bottom, right, top = cover(Lattice.from_attrs(part.attrs), box)
    assert top == TOP, "there is nothing above the file to load"
    assert part["s2"].to_dataset().odc.geobox.boundingbox.bbox == (left, bottom, right, top)
    beyond = 2.0 * HR_MARGIN
    assert part["hr"].to_dataset().odc.geobox.boundingbox.bbox == (
        left - beyond,
        bottom - beyond,
        right + beyond,
        top,
    )


# -- large files ---------------------------------------------------------------------------------


def test_a_large_file_is_sampled_and_read_by_window(tmp_path, monkeypatch):
    """Opening reads a small share of the pixels, a window no more than its blocks."""
    size = 6144
    path = tmp_path / "big.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=3,
        height=size,
        width=size,
        dtype="uint8",
        crs="EPSG:32631",
        transform=from_origin(LEFT, TOP, 0.3, 0.3),
        tiled=True,
        compress="deflate",
        photometric="RGB",
    ) as file:
        for row in range(0, size, 2048):
            block = np.full((3, 2048, size), 100 + row // 2048, np.uint8)
            file.write(block, window=rasterio.windows.Window(0, row, size, 2048))
    seen = []
    read = Picture.read

    def counted(self, layers, dates, rows, columns):
        seen.append(len(layers) * (rows.stop - rows.start) * (columns.stop - columns.start))
        return read(self, layers, dates, rows, columns)

    monkeypatch.setattr(Picture, "read", counted)
    stack = load_stack(path)
    assert sum(seen) < 0.2 * 3 * size**2
    assert any("estimated from" in note for note in all_notes(stack))
    seen.clear()
    assert float(stack["hr"]["data"][0, 0, 3000:3100, 3000:3100].mean()) == 101
    assert sum(seen) <= 3 * 1024**2 * 4


# -- labels --------------------------------------------------------------------------------------


def labelled(folder, **labels):
    return parse_recipe(
        {"title": "T", "sensor": [table()], "labels": {"land": labels}},
        folder,
    )


def test_values_outside_the_legend_are_unlabelled_and_said(tmp_path):
    write_tif(tmp_path / "l.tif", np.array([[[0, 7], [9, 11]]], np.uint8))
    legend = {"11": "crops", "7": "wood"}
    field = read_labels(labelled(tmp_path, path="l.tif", legend=legend))
    np.testing.assert_array_equal(field.values, [[np.nan, 1], [np.nan, 0]])
    assert field.attrs["categories"] == ["crops", "wood"]
    assert field.attrs["notes"] == ["values 0, 9 are taken as unlabelled."]


def test_labels_without_a_legend_are_their_values(tmp_path):
    write_tif(tmp_path / "l.tif", np.array([[[3, 7]]], np.uint8))
    assert read_labels(labelled(tmp_path, path="l.tif")).attrs["categories"] == ["3", "7"]


def test_a_legend_of_words_for_a_raster_is_refused(tmp_path):
    write_tif(tmp_path / "l.tif", np.array([[[3, 7]]], np.uint8))
    with pytest.raises(RecipeError, match="a legend for a raster needs numbers"):
        read_labels(labelled(tmp_path, path="l.tif", legend={"x": "crops"}))


def test_polygons_get_their_class_from_a_column(tmp_path):
    (tmp_path / "l.geojson").write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"k": 3}, '
        '"geometry": {"type": "Point", "coordinates": [3, 50]}}]}'
    )
    frame = read_labels(labelled(tmp_path, path="l.geojson", column="k", legend={"3": "oak"}))
    assert frame["class"].tolist() == ["oak"]
    assert frame.crs.to_epsg() == 4326
    with pytest.raises(RecipeError, match="no column 'q'; it has k"):
        read_labels(labelled(tmp_path, path="l.geojson", column="q"))


@pytest.mark.parametrize("name", ["l.geojson", "l.gpkg"])
def test_rubbish_is_not_labels(tmp_path, name):
    (tmp_path / name).write_text("<OGRVRTDataSource></OGRVRTDataSource>")
    with pytest.raises(RecipeError, match=rf"{name}"):
        read_labels(labelled(tmp_path, path=name))


# -- load_stack ----------------------------------------------------------------------------------


def test_a_recipe_opens_by_its_path(tmp_path):
    write_tif(tmp_path / "a.tif", np.full((4, 4, 4), 2000, np.uint16))
    text = (
        "title = 'T'\nscenes = ['a']\n[[sensor]]\nname = 's2'\nunits = 'reflectance'\n"
        "scale = 0.0001\ntime = 'unknown'\n[[sensor.file]]\npath = '{scene}.tif'\n"
        "bands = ['B02', 'B03', 'B04', 'B08']\n"
    )
    (tmp_path / "sub").mkdir()
    recipe = tmp_path / "sub" / "r.toml"
    recipe.write_text(text)
    stack = load_stack(recipe, root=tmp_path)
    assert float(stack["s2"]["data"].mean()) == pytest.approx(0.2)
    assert stack.attrs["source"] == "T (a)"


def test_a_saved_stack_opens_by_its_path(tmp_path):
    path = write_tif(tmp_path / "a.tif", colours(), pixel=0.5, photometric="RGB")
    save_stack(load_stack(path), tmp_path / "s.zarr")
    assert list(load_stack(tmp_path / "s.zarr", "hr").children) == ["hr"]
    with pytest.raises(RecipeError, match="has no 's2'"):
        load_stack(tmp_path / "s.zarr", "s2")
    with pytest.raises(RecipeError, match="opened whole"):
        load_stack(Region.around(3, 50, 100, "2020"), source=tmp_path / "s.zarr")


def test_a_store_that_is_not_a_stack_is_refused(tmp_path):
    cube(tmp_path, B02=None)
    with pytest.raises((RecipeError, StackError)):
        load_stack(tmp_path / "c.zarr")


@pytest.mark.parametrize(
    ("source", "home", "given"),
    [
        ("auto", "stac.load_stack", (("s2", "s1"), "planetary-computer")),
        ("earth-search", "stac.load_stack", (("s2", "s1"), "earth-search")),
        ("https://a.b/stac", "stac.load_stack", (("s2", "s1"), "https://a.b/stac")),
        ("synthetic", "synthetic.scene_for", (None,)),
    ],
)
def test_each_source_is_asked_for_the_region(monkeypatch, source, home, given):
    asked = []
    monkeypatch.setattr(f"skysense.sources.{home}", lambda *a, **k: asked.append((a, k)))
    region = Region.around(3, 50, 640, "2020")
    load_stack(region, source=source, allow_hosts=("tiles.b",))
    hosts = {} if source == "synthetic" else {"allow_hosts": ("tiles.b",)}
    assert asked == [((region, *given), hosts)]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"source": "nowhere"}, SourceError, "is not known: use 'auto'"),
        ({"source": "a.docx"}, SourceError, "is not known"),
        ({"source": "missing.tif"}, RecipeError, "There is no file at missing.tif"),
        ({"source": "missing.toml"}, RecipeError, "There is no recipe at missing.toml"),
        ({"source": "missing.nc"}, RecipeError, "There is no file at missing.nc"),
        ({"region": "a.tif", "source": "b.tif"}, RegionError, "is a path, and source="),
        ({"region": (1, 2, 3, 4), "source": "a.tif"}, RegionError, "is not a Region"),
        ({"sensors": ["s5"], "source": "a.tif"}, SourceError, "'s5' is not one of hr, s2, s1"),
        ({"sensors": [], "source": "a.tif"}, SourceError, "sensors is empty"),
        ({"source": "auto"}, RegionError, "needs a region"),
        ({"source": "earth-search"}, RegionError, "needs a region"),
        ({"source": "https://example.com/stac"}, RegionError, "needs a region"),
        ({"source": "synthetic"}, RegionError, "needs a region"),
        ({"source": "a.tif", "scene": "x"}, RecipeError, "belong to a recipe"),
        ({"source": "a.tif", "sensors": ["hr", "s2"]}, RecipeError, "holds one sensor"),
    ],
)
def test_bad_input_is_a_sentence(tmp_path, monkeypatch, arguments, error, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        load_stack(**arguments)
    assert says in str(caught.value)


def test_a_netcdf_file_alone_asks_for_a_recipe(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"x")
    with pytest.raises(RecipeError, match="Describe it by a recipe"):
        load_stack(tmp_path / "a.nc")


def test_a_broken_netcdf_file_is_refused_with_its_name(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"x" * 2000)
    with pytest.raises(RecipeError, match=r"a\.nc"):
        load(tmp_path, file_table("a.nc"))


def test_a_sensor_that_is_not_there_is_refused(tmp_path):
    write_tif(tmp_path / "a.tif", np.full((4, 4, 4), 2000, np.uint16))
    with pytest.raises(RecipeError, match="has no sensor 's1'; it has s2"):
        load(tmp_path, table(scale=0.0001), sensors=["s1"])


def test_an_unknown_ending_is_refused(tmp_path):
    (tmp_path / "a.jp2").write_bytes(b"x")
    with pytest.raises(RecipeError, match=r"files ending in '\.jp2' cannot be read"):
        load(tmp_path, table(path="a.jp2"))
