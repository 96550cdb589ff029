"""What is written opens with one line elsewhere."""

import json
import re
import warnings
from pathlib import Path

import geopandas as gpd
import jsonschema
import numpy as np
import pystac
import pytest
import referencing
import referencing.jsonschema
import rioxarray
import xarray as xr
from blobs import blobs, fields
from PIL import Image
from sentences import ODD, refused

from skysense.analysis import cluster
from skysense.conventions import CONVENTIONS
from skysense.embedding import embed
from skysense.encoders import load_encoder
from skysense.errors import AnalysisError
from skysense.export import save_classes, save_features
from skysense.item import save_item
from skysense.sources import synthetic
from skysense.table import save_table
from skysense.view import save_figure

SCHEMAS = Path(__file__).resolve().parents[2] / "shared/reference/schemas"


@pytest.fixture(scope="module")
def features():
    array = blobs(fields(32), dim=6, weights_licence="non-commercial", region="place")
    array[:, :5, :9] = np.nan
    return array


@pytest.fixture(scope="module")
def groups(features):
    return cluster(features, 3)


# --- Zarr and GeoTIFF -----------------------------------------------------------------------


def test_xarray_opens_the_store_with_grid_and_model_in_the_words_of_the_conventions(
    features, tmp_path
):
    path = save_features(features, tmp_path / "place.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xr.open_zarr(path)
    attrs = opened.attrs
    assert opened.rio.crs.to_epsg() == 32631
    assert attrs["proj:code"] == "EPSG:32631"
    assert attrs["spatial:shape"] == [32, 32]
    assert attrs["geoemb:type"] == "pixel"
    assert attrs["geoemb:dimensions"] == 6
    assert attrs["geoemb:model"] == "urn:skysense:blobs:random(seed=0)"
    assert attrs["geoemb:data_type"] == str(opened["features"].dtype)
    assert attrs["geoemb:gsd"] == 10
    assert [c["name"] for c in attrs["zarr_conventions"]] == [c["name"] for c in CONVENTIONS]
    np.testing.assert_array_equal(opened["features"], features)


def test_streamed_features_say_the_same_as_saved_ones(tmp_path):
    stack, _ = synthetic.scene(size=160, sensors=("s2",), time="2023-06")
    encoder = load_encoder("spectral", device="cpu")
    streamed = embed(stack, encoder, out=tmp_path / "a.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert xr.open_zarr(tmp_path / "a.zarr").rio.crs.to_epsg() == 32631
    save_features(streamed, tmp_path / "b.zarr")
    one, two = (xr.open_zarr(tmp_path / n, consolidated=False).attrs for n in ("a.zarr", "b.zarr"))
    two.pop("written_whole")
    assert streamed.dtype == np.float32
    assert one == two
    assert len(one["geoemb:source_data"]) > 1


def test_rioxarray_opens_the_geotiff(features, tmp_path):
    opened = rioxarray.open_rasterio(save_features(features, tmp_path / "place.tif"), masked=True)
    assert opened.rio.crs.to_epsg() == 32631
    np.testing.assert_array_equal(opened, features)


# --- tables ---------------------------------------------------------------------------------


def test_geopandas_opens_the_table_with_one_row_for_every_seen_cell(features, groups, tmp_path):
    pytest.importorskip("pyarrow", reason="GeoParquet needs pyarrow")
    path = save_table(features, tmp_path / "place.parquet", group=groups)
    frame = gpd.read_parquet(path)
    assert len(frame) == int(np.isfinite(features[0]).sum())
    assert frame.crs.to_epsg() in (4326, None)
    assert frame.crs.name == "WGS 84 (CRS84)"
    assert set(frame.geom_type) == {"Point"}
    assert set(frame["group"]) == {"group 1", "group 2", "group 3"}
    assert set(frame["model"]) == {"blobs"}
    assert frame["id"].is_unique
    assert set(frame["datetime"].dt.strftime("%Y-%m-%d")) == {"2018-06-16"}
    metres = frame.to_crs(32631).geometry
    at = features.sel(
        x=xr.DataArray(metres.x.to_numpy(), dims="row"),
        y=xr.DataArray(metres.y.to_numpy(), dims="row"),
        method="nearest",
        tolerance=0.01,
    )
    np.testing.assert_array_equal(np.stack(frame["embedding"]), at.values.T)


def test_embeddings_are_lists_of_one_length_of_float32(features, tmp_path):
    pytest.importorskip("pyarrow", reason="GeoParquet needs pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(save_table(features, tmp_path / "place.parquet"))
    assert schema.field("embedding").type == pa.list_(pa.float32(), 6)
    assert json.loads(schema.metadata[b"skysense"])["weights"] == "random(seed=0)"


def test_a_cell_has_the_same_name_in_every_file(features, tmp_path):
    pytest.importorskip("pyarrow", reason="GeoParquet needs pyarrow")
    whole = gpd.read_parquet(save_table(features, tmp_path / "a.parquet")).set_index("id")
    part = gpd.read_parquet(save_table(features[:, 8:20, 12:], tmp_path / "b.parquet"))
    again = whole.loc[part["id"]]
    np.testing.assert_array_equal(np.stack(again["embedding"]), np.stack(part["embedding"]))


def test_footprints_are_the_cells_themselves(features, tmp_path):
    pytest.importorskip("pyarrow", reason="GeoParquet needs pyarrow")
    frame = gpd.read_parquet(save_table(features, tmp_path / "a.parquet", geometry="footprint"))
    np.testing.assert_allclose(frame.to_crs(32631).area, 100, rtol=1e-6)


def test_part_of_a_table_is_read_by_its_bounds(features, tmp_path):
    pytest.importorskip("pyarrow", reason="GeoParquet needs pyarrow")
    path = save_table(features, tmp_path / "a.parquet")
    whole = gpd.read_parquet(path)
    west, south, east, north = whole.total_bounds
    box = (west, south, (west + east) / 2, north)
    assert 0 < len(gpd.read_parquet(path, bbox=box)) < len(whole)


def test_numbers_are_kept_as_numbers_and_nothing_as_null(features, groups, tmp_path):
    pytest.importorskip("pyarrow", reason="GeoParquet needs pyarrow")
    alike = features[0]
    holes = groups.where(groups > 0)
    holes.attrs = groups.attrs
    frame = gpd.read_parquet(save_table(features, tmp_path / "a.parquet", first=alike, group=holes))
    assert frame["first"].dtype == np.float32
    assert frame["group"].isna().sum() == int((groups == 0).sum())


def test_duckdb_reads_the_table(features, groups, tmp_path):
    pytest.importorskip("pyarrow", reason="GeoParquet needs pyarrow")
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    path = save_table(features, tmp_path / "a.parquet", group=groups)
    rows = duckdb.sql(
        f"SELECT \"group\", count(*), min(len(embedding)) FROM '{path}' GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert [row[0] for row in rows] == groups.attrs["categories"]
    assert sum(row[1] for row in rows) == int(np.isfinite(features[0]).sum())
    assert {row[2] for row in rows} == {6}


@pytest.mark.parametrize("name", ["geometry2", "id", "bbox"])
def test_a_field_may_not_hide_a_column_nor_lie_elsewhere(features, groups, tmp_path, name):
    field = groups[2:] if name == "geometry2" else groups
    words = "another grid" if name == "geometry2" else "cannot be called"
    assert words in refused(
        AnalysisError, save_table, features, tmp_path / "a.parquet", **{name: field}
    )


def test_a_table_keeps_to_its_ending_and_its_geometries(features, tmp_path):
    assert ".parquet" in refused(AnalysisError, save_table, features, tmp_path / "a.csv")
    assert "point, footprint" in refused(
        AnalysisError, save_table, features, tmp_path / "a.parquet", geometry="line"
    )


# --- STAC -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def item(features, tmp_path_factory):
    folder = tmp_path_factory.mktemp("item")
    save_features(features, folder / "place.zarr")
    return save_item(features, folder / "place.json")


def test_pystac_opens_the_item_and_finds_the_features(item, features):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pystac, about versions it migrates
        read = pystac.read_file(str(item))
    assert Path(read.assets["embeddings"].get_absolute_href()) == item.with_suffix(".zarr")
    assert read.properties["proj:code"] == "EPSG:32631"
    assert read.properties["start_datetime"] == "2018-06-01T00:00:00Z"
    assert read.properties["end_datetime"] == "2018-07-01T23:59:59Z"
    assert read.properties["skysense:data_licence"] == "none needed"
    assert read.properties["skysense:weights_licence"] == "non-commercial"
    assert read.properties["skysense:synthetic"] is True
    assert read.properties["mlm:output"][0]["result"]["shape"] == [-1, 6, -1, -1]


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the schemas are not in ../shared")
@pytest.mark.parametrize("name", ["emb", "mlm", "projection"])
def test_the_item_keeps_to_the_schemas_of_its_extensions(item, name):
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    checker = jsonschema.Draft7Validator(schema, registry=REGISTRY)
    content = json.loads(item.read_text())
    assert [e.message for e in checker.iter_errors(content)] == []
    without = {k: v for k, v in content.items() if k != "assets"} | {"assets": {}}
    if name == "emb":  # and the schema would notice
        assert not checker.is_valid(without)


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the schemas are not in ../shared")
def test_the_item_is_an_item(item):
    schema = json.loads((SCHEMAS / "stac-core/item-spec/item.json").read_text())
    text = json.dumps(schema).replace('"const": "1.1.0-beta.1"', '"const": "1.0.0"')
    checker = jsonschema.Draft7Validator(json.loads(text), registry=REGISTRY)
    assert [e.message for e in checker.iter_errors(json.loads(item.read_text()))] == []


def _resource(uri):
    """Schemas by their address; those that are not at hand allow anything."""
    found = re.fullmatch(r"https://schemas\.stacspec\.org/v[^/]+/item-spec/json-schema/(.*)", uri)
    path = SCHEMAS / "stac-core/item-spec" / found[1] if found else None
    if path is not None and path.is_file():
        text = path.read_text().replace('"const": "1.1.0-beta.1"', '"const": "1.0.0"')
        content = {**json.loads(text), "$id": uri}
    else:
        names = ("processing:expression", "classification:classes")
        anything = {"properties": {name: {} for name in names}}
        content = {"definitions": {
            "fields": anything, "link": {},
            "bands": {"items": {"properties": {"data_type": {"type": "string"}}}},
        }}  # fmt: skip
    return referencing.Resource.from_contents(content, referencing.jsonschema.DRAFT7)


REGISTRY = referencing.Registry(retrieve=_resource)


def test_scenes_of_a_catalogue_are_linked_without_signature(features, tmp_path):
    made = features.assign_attrs(
        source="Microsoft Planetary Computer", items_s2=["S2A_one S2A_two", "S2B_three"]
    )
    save_features(made, tmp_path / "place.tif")
    content = json.loads(save_item(made, tmp_path / "place.json").read_text())
    links = [link["href"] for link in content["links"] if link["rel"] == "emb:source-data"]
    assert [link.rsplit("/", 1)[1] for link in links] == ["S2A_one", "S2A_two", "S2B_three"]
    assert links[0].startswith("https://planetarycomputer.microsoft.com/api/stac/v1/collections/")
    assert not any("?" in link for link in links)


def test_an_item_needs_its_feature_file_beside_it(features, tmp_path):
    assert "beside" in refused(AnalysisError, save_item, features, tmp_path / "place.json")
    far = save_features(features, tmp_path / "far.tif")
    (tmp_path / "here").mkdir()
    path = tmp_path / "here/place.json"
    assert "moved with it" in refused(AnalysisError, save_item, features, path, data=far)
    assert "no feature file" in refused(AnalysisError, save_item, features, path, data="x.png")


@pytest.mark.parametrize("odd", ODD, ids=[str(i) for i in range(len(ODD))])
def test_odd_features_paths_and_fields_are_refused(features, tmp_path, odd):
    assert refused(AnalysisError, save_table, odd, tmp_path / "a.parquet")
    assert refused(AnalysisError, save_item, odd, tmp_path / "a.json")
    for call in (save_table, save_item):
        assert refused(AnalysisError, call, features, odd)
    assert refused(AnalysisError, save_table, features, tmp_path / "a.parquet", geometry=odd)
    assert refused(AnalysisError, save_table, features, tmp_path / "a.parquet", field=odd)
    if odd is not None:
        assert refused(AnalysisError, save_item, features, tmp_path / "a.json", data=odd)
    assert refused(AnalysisError, save_figure, features[0], odd)


# --- figures and labels ---------------------------------------------------------------------


def test_a_picture_file_holds_legend_and_credit(features, groups, tmp_path):
    path = save_figure([groups, features[0].assign_attrs(kind="continuous")], tmp_path / "a.svg")
    text = path.read_text()
    for words in ("group 3", "UNTRAINED", "SYNTHETIC", "none needed", "Weights: non-commercial"):
        assert words in text


def test_the_same_picture_is_the_same_file(groups, tmp_path):
    for kind in ("png", "svg"):
        one, two = (save_figure(groups, tmp_path / f"{i}.{kind}").read_bytes() for i in "ab")
        assert one == two
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 400


def test_a_picture_is_not_overwritten_unless_asked(groups, tmp_path):
    path = save_figure(groups, tmp_path / "a.png")
    assert "overwrite=True" in refused(AnalysisError, save_figure, groups, path)
    assert "does not end in" in refused(AnalysisError, save_figure, groups, tmp_path / "a.bmp")
    save_figure(groups, path, overwrite=True)


def test_any_reader_of_geojson_opens_the_classes(groups, tmp_path):
    assert len(gpd.read_file(save_classes(groups, tmp_path / "g.geojson"))) == 3
