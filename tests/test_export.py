import json
import warnings

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rioxarray
import shapely
import xarray as xr
from blobs import blobs, fields, on_ground

from skysense.analysis import assign, classes, cluster, fit_prototypes, label_field, segment
from skysense.analysis.places import place_of
from skysense.errors import AnalysisError
from skysense.export import open_features, save_classes, save_features
from skysense.view.hues import PALETTE, rgb_of


@pytest.fixture(scope="module")
def features():
    array = blobs(fields(64), dim=6)
    array[:, :5, :9] = np.nan
    return array


@pytest.fixture(scope="module")
def groups(features):
    return cluster(features, 4)


def test_features_survive_zarr_and_geotiff(features, tmp_path):
    for name in ("place.zarr", "place.tif"):
        again = open_features(save_features(features, tmp_path / name))
        np.testing.assert_array_equal(again, features)
        assert again.attrs == features.attrs
        assert again.odc.geobox == features.odc.geobox
        assert again.dtype == np.float32


def test_coarse_features_keep_their_places(features, tmp_path):
    coarse = features[:, 2::4, 2::4].assign_attrs(resolution=40.0)
    for name in ("place.zarr", "place.tif"):
        again = open_features(save_features(coarse, tmp_path / name))
        np.testing.assert_array_equal(again.x, coarse.x)
        np.testing.assert_array_equal(again.y, coarse.y)


def test_plain_xarray_and_rioxarray_find_the_crs_of_the_store(features, tmp_path):
    path = save_features(features, tmp_path / "place.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xr.open_zarr(path)
    assert opened["features"].rio.crs.to_epsg() == 32631
    assert opened.rio.crs.to_epsg() == 32631
    assert opened.attrs["proj:code"] == "EPSG:32631"
    assert opened.attrs["spatial:transform"][:3] == [10.0, 0.0, 500_000.0]
    assert json.loads((tmp_path / "place.zarr" / "zarr.json").read_text())["zarr_format"] == 3


def test_rioxarray_opens_the_geotiff_with_band_names_and_nodata(features, tmp_path):
    path = save_features(features, tmp_path / "place.tif")
    opened = rioxarray.open_rasterio(path, masked=True)
    assert opened.rio.crs.to_epsg() == 32631
    np.testing.assert_array_equal(opened.values, features.values)
    with rasterio.open(path) as file:
        assert file.descriptions == ("E000", "E001", "E002", "E003", "E004", "E005")
        assert np.isnan(file.nodata)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.tags()["weights"] == "random(seed=0)"
        assert file.tags()["missing_bands"] == "nir08"


def test_features_that_were_opened_can_be_analysed_and_saved_again(features, tmp_path, groups):
    opened = open_features(save_features(features, tmp_path / "one.zarr"))
    np.testing.assert_array_equal(cluster(opened, 4), groups)
    again = open_features(save_features(opened, tmp_path / "two.tif"))
    assert again.attrs == features.attrs


def test_classes_survive_geotiff_with_names_and_colours(groups, tmp_path):
    path = save_classes(groups, tmp_path / "groups.tif")
    with rasterio.open(path) as file:
        codes = file.read(1, masked=True)
        np.testing.assert_array_equal(np.ma.getmaskarray(codes), np.isnan(groups.values))
        np.testing.assert_array_equal(codes.compressed(), groups.values[~codes.mask])
        assert file.colormap(1)[2] == (*rgb_of(PALETTE[2]), 255)
        assert file.tags()["CLASS_1"] == "group 2"
        assert file.tags()["synthetic"] == "1"
        assert file.dtypes == ("uint8",)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_more_than_255_classes_take_two_bytes(tmp_path):
    field = on_ground(np.arange(400.0).reshape(20, 20), kind="categorical",
                      categories=[str(i) for i in range(400)])  # fmt: skip
    with rasterio.open(save_classes(field, tmp_path / "many.tif")) as file:
        assert file.dtypes == ("uint16",)
        np.testing.assert_array_equal(file.read(1), field)


def test_classes_survive_geojson(groups, features, tmp_path):
    path = save_classes(groups, tmp_path / "groups.geojson")
    again = label_field(path, features, "class")
    assert again.attrs["categories"] == groups.attrs["categories"]
    np.testing.assert_array_equal(again, groups)


def test_polygons_carry_name_colour_area_and_provenance(groups, tmp_path):
    frame = gpd.read_file(save_classes(groups, tmp_path / "groups.geojson"))
    assert frame.crs.to_epsg() == 4326
    assert list(frame["class"]) == groups.attrs["categories"]
    assert list(frame["colour"]) == list(PALETTE[:4])
    counts = [float((groups == i).sum()) * 100 for i in range(4)]
    np.testing.assert_allclose(frame["area_m2"], counts)
    assert set(frame["weights"]) == {"random(seed=0)"}
    text = json.loads((tmp_path / "groups.geojson").read_text())
    assert text["skysense"]["missing_bands"] == ["nir08"]


def test_neighbouring_polygons_share_borders_without_gap_or_overlap(groups, tmp_path):
    # far from the middle of the zone straight borders in metres are curves in degrees
    far = on_ground(groups.values, left=790_000.0, **groups.attrs)
    frame = gpd.read_file(save_classes(far, tmp_path / "groups.geojson"))
    assert frame.is_valid.all()
    assert shapely.coverage_is_valid(np.concatenate([parts(g) for g in frame.geometry]))
    union = shapely.union_all(frame.geometry.values)
    assert union.geom_type == "Polygon"
    assert len(union.interiors) == 0


def parts(geometry):
    return np.array(getattr(geometry, "geoms", [geometry]))


def test_an_island_of_another_class_and_a_hole_are_kept(tmp_path):
    values = np.zeros((7, 7))
    values[2:5, 2:5] = 1
    values[3, 3] = np.nan
    field = on_ground(values, kind="categorical", categories=["sea", "atoll"])
    frame = gpd.read_file(save_classes(field, tmp_path / "atoll.geojson"))
    assert dict(zip(frame["class"], frame["area_m2"], strict=True)) == {
        "sea": 4000.0, "atoll": 800.0,
    }  # fmt: skip


def test_assignments_and_maps_of_clicks_can_be_written(features, tmp_path):
    found = assign(features, fit_prototypes(features, 4))
    labels = {"a": place_of(features, [20], [20]), "b": place_of(features, [60], [60])}
    save_classes(found, tmp_path / "prototypes.tif")
    save_classes(classes(segment(features, labels)), tmp_path / "classes.geojson")
    assert set(gpd.read_file(tmp_path / "classes.geojson")["class"]) == {"a", "b"}
    with rasterio.open(tmp_path / "prototypes.tif") as file:
        assert "bank_fitted_on" in file.tags()


@pytest.mark.parametrize("name", ["x.zarr", "x.tif"])
def test_what_is_there_is_not_overwritten_unless_asked(features, tmp_path, name):
    path = save_features(features, tmp_path / name)
    with pytest.raises(AnalysisError, match="overwrite=True"):
        save_features(features * 2, path)
    save_features((features * 2).assign_attrs(features.attrs), path, overwrite=True)
    np.testing.assert_array_equal(open_features(path), features * 2)


def test_a_failed_write_leaves_nothing_behind_and_keeps_the_old(features, tmp_path, monkeypatch):
    path = save_features(features, tmp_path / "x.tif")

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("rasterio.shutil.copy", fail)
    with pytest.raises(AnalysisError, match=r"x\.tif cannot be written: disk full"):
        save_features(features * 2, path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x.tif"]
    np.testing.assert_array_equal(open_features(path), features)


@pytest.mark.parametrize("name", ["x.nc", "x", "x.geojson"])
def test_another_ending_is_refused_for_features(features, tmp_path, name):
    with pytest.raises(AnalysisError, match=r"\.zarr or \.tiff?"):
        save_features(features, tmp_path / name)


@pytest.mark.parametrize("name", ["x.shp", "x.zarr"])
def test_another_ending_is_refused_for_classes(groups, tmp_path, name):
    with pytest.raises(AnalysisError, match=r"\.tiff or \.geojson"):
        save_classes(groups, tmp_path / name)


def test_a_folder_that_is_not_there_is_refused(features, tmp_path):
    with pytest.raises(AnalysisError, match="no folder"):
        save_features(features, tmp_path / "nowhere" / "x.tif")


def test_what_is_no_class_map_is_refused(features, groups, tmp_path):
    for wrong in (features, features[0], groups.copy(data=groups.values * np.nan)):
        with pytest.raises(AnalysisError):
            save_classes(wrong, tmp_path / "x.tif")


def test_what_holds_no_features_is_refused(tmp_path, groups):
    with pytest.raises(AnalysisError, match="nothing at"):
        open_features(tmp_path / "none.zarr")
    with pytest.raises(AnalysisError, match="did not write"):
        open_features(write_foreign(tmp_path / "foreign.tif"))
    (tmp_path / "broken.tif").write_text("no")
    with pytest.raises(AnalysisError, match="cannot be opened"):
        open_features(tmp_path / "broken.tif")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(AnalysisError):
        open_features(tmp_path / "empty.zarr")


def write_foreign(path):
    with rasterio.open(path, "w", "GTiff", 4, 4, 2, "EPSG:32631", dtype="float32") as file:
        file.write(np.zeros((2, 4, 4), np.float32))
    return path


def test_an_attribute_that_files_cannot_keep_is_named(features, tmp_path):
    with pytest.raises(AnalysisError, match="'odd' is a dict"):
        save_features(features.assign_attrs(odd={}), tmp_path / "x.zarr")
