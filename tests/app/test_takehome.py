"""Files to take home: each opens elsewhere."""

import json
import zipfile

import geopandas
import pytest
import rioxarray

import skysense as sky
from app.takehome import slug
from skysense.hashes import feature_hash


@pytest.fixture
def made(encoded, tmp_path):
    def make(what):
        found = []
        encoded.flow.files.make(what, tmp_path, found.append)
        encoded.settle()
        assert encoded.state.status("keep").kind == "ready", encoded.state.status("keep").sentence
        return found[0]

    return make


def test_a_saved_session_opens_in_python(made, encoded):
    assert sky.open_session(made("session").files[0]) == encoded.flow.keep.session()


def test_a_link_is_read_back(made):
    assert sky.shared(made("link").text).place == "Small 1"


def test_code_and_notebook_hold_the_hash(made, encoded):
    recorded = feature_hash(encoded.state.features)
    compile(code := made("code").text, "code", "exec")
    assert recorded in code
    notebook = json.loads(made("notebook").files[0].read_text())
    assert recorded in json.dumps(notebook)


def test_features_come_as_geotiff_geoparquet_and_item_in_one_zip(made, encoded, tmp_path):
    (path,) = made("features").files
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path / "out")
    folder = tmp_path / "out" / "small-1"
    with rioxarray.open_rasterio(folder / "small-1.tif") as image:
        assert image.shape == encoded.state.features.shape
    assert {"groups", "prototypes"} <= set(geopandas.read_parquet(folder / "small-1.parquet"))
    item = json.loads((folder / "small-1.json").read_text())
    assert item["assets"]["embeddings"]["href"].endswith("small-1.tif")


def test_a_zarr_store_in_a_zip_gives_the_same_features_back(made, encoded, tmp_path):
    (path,) = made("zarr").files
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path / "out")
    folder = tmp_path / "out" / "small-1"
    opened = sky.open_features(folder / "small-1.zarr")
    assert feature_hash(opened.load()) == feature_hash(encoded.state.features)
    item = json.loads((folder / "small-1.json").read_text())
    assert item["assets"]["embeddings"]["href"].endswith("small-1.zarr")


@pytest.mark.parametrize("layer", ["features", "groups", "colour"])
def test_the_picture_of_a_layer_comes_as_png_and_svg(made, encoded, layer):
    encoded.flow.show_layer(layer)
    png, svg = made("picture").files
    assert png.read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in svg.read_bytes()


def test_a_class_pack_opens_without_a_network(made, tmp_path):
    (path,) = made("pack").files
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path / "pack")
    assert list(sky.open_pack(tmp_path / "pack" / "small-1").features) == ["Small 1"]


@pytest.mark.parametrize("what", ["features", "zarr"])
def test_without_features_a_sentence_says_what_to_do(visit, tmp_path, what):
    visit.state.resolution = 40
    visit.open(1)
    visit.flow.files.make(what, tmp_path, lambda _: None)
    visit.settle()
    assert "Press Encode" in visit.state.status("keep").sentence


def test_an_uploaded_session_is_shown(made, encoded, tmp_path):
    content = made("session").files[0].read_bytes()
    encoded.flow.show_layer("groups")
    done = []
    encoded.flow.files.open(content, tmp_path, lambda: done.append(True))
    encoded.settle()
    assert done == [True]
    assert encoded.state.top == "features"


def test_an_upload_that_is_no_session_gets_a_sentence(visit, tmp_path):
    visit.flow.files.open(b"\x00\xff", tmp_path, lambda: None)
    visit.settle()
    assert visit.state.status("keep").kind == "failed"


def test_file_names_are_plain():
    assert slug("<b>Ä/../x y</b>") == "b-x-y-b"
    assert slug("///") == "place"
