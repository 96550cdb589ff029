import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from blobs import CRS, LEFT, TOP, blobs, on_ground
from rasterio.transform import from_origin

from skysense.analysis import classes, label_field, segment, training_points
from skysense.analysis.places import cell_at
from skysense.errors import AnalysisError

NAMES = ("maize", "grass", "wood", "water")


def parcels(truth, side=16):
    """One polygon per field of the truth, in metres."""
    rows = []
    for row in range(0, len(truth), side):
        for column in range(0, len(truth), side):
            left, top = LEFT + column * 10, TOP - row * 10
            shape = shapely.box(left, top - side * 10, left + side * 10, top)
            rows.append({"crop": NAMES[truth[row, column]], "id": len(rows), "geometry": shape})
    return gpd.GeoDataFrame(rows, crs=CRS)


@pytest.fixture
def geojson(truth, tmp_path):
    path = tmp_path / "parcels.geojson"
    parcels(truth).to_crs("EPSG:4326").to_file(path, driver="GeoJSON")
    return path


@pytest.fixture
def raster(truth, tmp_path):
    path = tmp_path / "crops.tif"
    write(path, np.array([11, 13, 40, 70])[truth])
    return path


def write(path, codes, crs=CRS, resolution=10, nodata=0, left=LEFT, top=TOP):
    bands = codes if codes.ndim == 3 else codes[None]
    with rasterio.open(
        path, "w", "GTiff", bands.shape[2], bands.shape[1], len(bands), crs,
        from_origin(left, top, resolution, resolution), bands.dtype, nodata,
    ) as file:  # fmt: skip
        file.write(bands)


def test_polygons_give_the_classes_they_were_drawn_from(geojson, features, truth):
    field = label_field(geojson, features, "crop")
    named = np.array(field.attrs["categories"])[field.values.astype(int)]
    assert (named == np.array(NAMES)[truth]).mean() > 0.99


def test_a_geopackage_in_metres_reads_like_geojson_in_degrees(geojson, features, truth, tmp_path):
    parcels(truth).to_file(tmp_path / "parcels.gpkg", driver="GPKG")
    one = label_field(tmp_path / "parcels.gpkg", features, "crop")
    other = label_field(geojson, features, "crop")
    assert (one.values == other.values).mean() > 0.99
    assert one.attrs["categories"] == other.attrs["categories"]


def test_points_label_the_cell_they_lie_in(features, tmp_path):
    points = [shapely.Point(LEFT + 255, TOP - 405), shapely.Point(LEFT + 11, TOP - 19)]
    frame = gpd.GeoDataFrame({"kind": [3, 7]}, geometry=points, crs=CRS)
    frame.to_crs("EPSG:4326").to_file(tmp_path / "points.geojson", driver="GeoJSON")
    field = label_field(tmp_path / "points.geojson", features)
    assert field.attrs["categories"] == ["3", "7"]
    assert float(field[40, 25]) == 0
    assert float(field[1, 1]) == 1
    assert np.isfinite(field.values).sum() == 2


def test_a_polygon_between_cell_centres_labels_the_cell_it_lies_in(features, tmp_path):
    shape = shapely.box(LEFT + 101, TOP - 204, LEFT + 104, TOP - 201)
    frame = gpd.GeoDataFrame({"kind": ["tree"]}, geometry=[shape], crs=CRS)
    frame.to_file(tmp_path / "tree.gpkg", driver="GPKG")
    field = label_field(tmp_path / "tree.gpkg", features)
    assert float(field[20, 10]) == 0
    assert np.isfinite(field.values).sum() == 1


def test_a_raster_gives_its_codes_with_names(raster, features, truth):
    field = label_field(raster, features, names={11: "maize", 13: "grass"})
    assert field.attrs["categories"] == ["maize", "grass", "40", "70"]
    np.testing.assert_array_equal(field.values, truth)


def test_codes_of_the_same_name_become_one_class(raster, features, truth):
    names = {11: "crops", 13: "crops", 40: "wood", 70: "water"}
    field = label_field(raster, features, names=names)
    assert field.attrs["categories"] == ["crops", "wood", "water"]
    np.testing.assert_array_equal(field.values, np.maximum(truth - 1, 0))


def test_a_raster_in_another_crs_is_taken_at_the_nearest_value(features, truth, tmp_path):
    field = label_field_of_longlat(features, truth, tmp_path)
    assert (field.values == truth).mean() > 0.9
    assert set(field.attrs["categories"]) == {"1", "2", "3", "4"}


def label_field_of_longlat(features, truth, tmp_path):
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    source = from_origin(LEFT, TOP, 10, 10)
    bounds = rasterio.transform.array_bounds(96, 96, source)
    transform, width, height = calculate_default_transform(CRS, "EPSG:4326", 96, 96, *bounds)
    codes = np.zeros((height, width), np.uint8)
    reproject(
        (truth + 1).astype(np.uint8), codes, src_transform=source, src_crs=CRS,
        dst_transform=transform, dst_crs="EPSG:4326", resampling=Resampling.nearest,
    )  # fmt: skip
    path = tmp_path / "lonlat.tif"
    with rasterio.open(
        path, "w", "GTiff", width, height, 1, "EPSG:4326", transform, "uint8", 0
    ) as file:
        file.write(codes, 1)
    return label_field(path, features)


def test_nodata_of_a_raster_is_no_label(features, truth, tmp_path):
    codes = truth.astype(np.uint8) + 1
    codes[:30] = 0
    write(tmp_path / "part.tif", codes)
    field = label_field(tmp_path / "part.tif", features)
    assert np.isnan(field.values[:30]).all()
    assert np.isfinite(field.values[30:]).all()


def test_one_band_of_several_is_chosen_by_number(features, truth, tmp_path):
    write(tmp_path / "two.tif", np.stack([truth * 0 + 9, truth + 1]).astype(np.uint8))
    field = label_field(tmp_path / "two.tif", features, 2)
    np.testing.assert_array_equal(field.values, truth)


def test_an_array_of_labels_keeps_its_names(features, truth):
    labels = on_ground(truth.astype(float), categories=list(NAMES))
    field = label_field(labels, features)
    assert field.attrs["categories"] == list(NAMES)
    np.testing.assert_array_equal(field.values, truth)


def test_an_array_on_a_finer_grid_is_taken_at_the_nearest_value(features, truth):
    fine = on_ground(np.kron(truth, np.ones((2, 2))), resolution=5.0)
    np.testing.assert_array_equal(label_field(fine, features).values, truth)


def test_coarse_features_take_the_label_of_their_sampled_cell(truth):
    coarse = blobs(truth)[:, 2::4, 2::4]  # the 10 m cells that stand for 40 m blocks
    field = label_field(on_ground(truth.astype(float)), coarse)
    np.testing.assert_array_equal(field.values, truth[2::4, 2::4])


def test_points_are_drawn_equally_and_lie_on_their_class(raster, features, truth):
    points = training_points(raster, features, per_class=25)
    assert {name: len(places) for name, places in points.items()} == {
        "11": 25, "13": 25, "40": 25, "70": 25,
    }  # fmt: skip
    for i, places in enumerate(points.values()):
        assert all(truth[cell_at(features, *place)] == i for place in places)


def test_points_repeat_with_their_seed(raster, features):
    assert training_points(raster, features) == training_points(raster, features)
    assert training_points(raster, features) != training_points(raster, features, seed=1)


def test_points_from_a_file_train_a_map(geojson, features, truth):
    points = training_points(geojson, features, "crop", per_class=20)
    mapped = classes(segment(features, points))
    named = np.array(mapped.attrs["categories"])[mapped.values.astype(int)]
    assert (named == np.array(NAMES)[truth]).mean() > 0.97


def test_points_are_drawn_only_where_something_was_seen(raster, holey):
    points = training_points(raster, holey, per_class=5000)
    cells = [cell_at(holey, *place) for places in points.values() for place in places]
    assert len(cells) == 96 * 96 - 200
    assert not any(row < 10 and column < 20 for row, column in cells)


def test_labels_where_nothing_was_seen_train_nothing(raster, empty):
    with pytest.raises(AnalysisError, match="Nothing valid was seen"):
        training_points(raster, empty)


def test_without_a_choice_of_column_all_are_listed(geojson, features):
    with pytest.raises(AnalysisError, match=r"has the columns crop, id.*Pass column="):
        training_points(geojson, features)


def test_a_column_that_is_not_there_is_refused_with_those_that_are(geojson, features):
    with pytest.raises(AnalysisError, match=r"columns crop, id; not 'class'"):
        training_points(geojson, features, "class")


def test_a_band_that_is_not_chosen_is_asked_for(features, truth, tmp_path):
    write(tmp_path / "two.tif", np.stack([truth, truth]).astype(np.uint8))
    with pytest.raises(AnalysisError, match="has 2 bands"):
        training_points(tmp_path / "two.tif", features)


def test_a_file_without_crs_is_refused(features, truth, tmp_path):
    write(tmp_path / "bare.tif", truth.astype(np.uint8), crs=None)
    with pytest.raises(AnalysisError, match="has no CRS"):
        training_points(tmp_path / "bare.tif", features)


def test_labels_of_another_place_are_refused_with_the_bounds(features, truth, tmp_path):
    write(tmp_path / "far.tif", truth.astype(np.uint8) + 1, left=LEFT + 50_000)
    with pytest.raises(AnalysisError, match="no label on the features: they cover"):
        training_points(tmp_path / "far.tif", features)


def test_a_measurement_is_not_taken_for_labels(features, tmp_path):
    values = np.random.default_rng(0).uniform(size=(96, 96)).astype(np.float32)
    write(tmp_path / "height.tif", values, nodata=-1)
    with pytest.raises(AnalysisError, match="distinct values"):
        training_points(tmp_path / "height.tif", features)


@pytest.mark.parametrize("name", ["labels.geojson", "labels.gpkg", "labels.tif"])
def test_a_broken_file_is_refused_in_a_sentence(features, tmp_path, name):
    (tmp_path / name).write_text("nothing of the kind")
    with pytest.raises(AnalysisError, match="cannot be read"):
        training_points(tmp_path / name, features)


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(features, tmp_path):
    with pytest.raises(AnalysisError, match="no label file"):
        training_points(tmp_path / "none.tif", features)
    (tmp_path / "labels.docx").write_text("")
    with pytest.raises(AnalysisError, match="Convert it to GeoJSON or GeoTIFF"):
        training_points(tmp_path / "labels.docx", features)
