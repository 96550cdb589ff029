"""Stacks on disk: whatever was lost or damaged is a sentence, never other pixels."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from sentences import refused
from stacks import file_stack

from skysense.embedding import embed
from skysense.encoders import load_encoder
from skysense.errors import StackError
from skysense.region import Region
from skysense.stack import check_stack, open_stack, region_of, save_stack


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    tree = file_stack(160, 160, region=Region.around(3.00113, 50.55121, 100, "2023"))
    return save_stack(tree, tmp_path_factory.mktemp("saved") / "a.zarr")


@pytest.fixture
def path(saved, tmp_path):
    """A copy of its own to damage."""
    return shutil.copytree(saved, tmp_path / "a.zarr")


def edit(path, **changes):
    """Change attributes of a group; `...` takes one away."""
    file = path / "zarr.json"
    content = json.loads(file.read_text())
    content["attributes"].update(changes)
    for name in [name for name, value in changes.items() if value is ...]:
        del content["attributes"][name]
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lattice_x0": "here"}, "windows cannot be read"),
        ({"lattice_y0": None}, "windows cannot be read"),
        ({"lattice_width": [160]}, "windows cannot be read"),
        ({"lattice_height": -160.0}, "windows cannot be read"),
        ({"lattice_crs": 32631}, "windows cannot be read"),
        ({"lattice_crs": ...}, "no attribute 'lattice_crs'"),
        ({"lattice_crs": "EPSG:32632"}, "the windows in EPSG:32632"),
        ({"region": "{"}, "region cannot be read"),
        ({"region": "{}"}, "region cannot be read"),
        ({"region": "[]"}, "region cannot be read"),
        ({"region": 5}, "region=5 is not text"),
        ({"region": None}, "region=None is not text"),
        ({"notes": "one"}, "not a list of text"),
        ({"notes": [1]}, "not a list of text"),
        ({"synthetic": "no"}, "not 0 or 1"),
        ({"licence": 5}, "not text"),
    ],
)
def test_attributes_of_a_stack_that_say_nothing_are_named(path, changes, words):
    edit(path, **changes)
    assert words in refused(StackError, open_stack, path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"units": "DN"}, "units is 'DN'"),
        ({"sensor": "s1"}, "sensor is 's1'"),
        ({"approximate": "x"}, "not 0 or 1"),
        ({"missing_bands": "red"}, "not a list of text"),
        ({"resampling": []}, "not text"),
    ],
)
def test_attributes_of_a_sensor_that_say_nothing_are_named(path, changes, words):
    edit(path / "s2", **changes)
    text = refused(StackError, open_stack, path)
    assert text.startswith("/s2: ")
    assert words in text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe"])
@pytest.mark.parametrize("where", [".", "s2", "s2/data", "s2/time", "s2/x"])
def test_descriptions_that_are_not_readable_are_refused(path, where, content):
    (path / where / "zarr.json").write_bytes(content)
    assert refused(StackError, open_stack, path)


@pytest.mark.parametrize("part", ["s2", "s1", "s2/data", "s2/valid", "s2/time", "s1/x", "s2/clear"])
def test_a_part_that_is_lost_is_refused(path, part):
    shutil.rmtree(path / part)
    assert refused(StackError, open_stack, path)


def test_a_lost_sensor_is_named(path):
    shutil.rmtree(path / "s1")
    assert "has lost the group s1" in refused(StackError, open_stack, path)


def chunks(path, name):
    return sorted(file for file in (path / name / "c").rglob("*") if file.is_file())


@pytest.mark.parametrize("name", ["s2/data", "s2/valid", "s1/item", "s1/y"])
def test_a_lost_file_does_not_read_as_nothing_seen(path, name):
    chunks(path, name)[-1].unlink()
    text = refused(StackError, open_stack, path)
    assert f"lost 1 of the {len(chunks(path, name)) + 1} files of {name}" in text


@pytest.mark.parametrize("name", ["s2/time", "s2/band", "s2/x", "s1/item", "s1/doy"])
@pytest.mark.parametrize("cut", [0, 10])
def test_damaged_coordinates_are_refused_at_once(path, name, cut):
    file = chunks(path, name)[0]
    file.write_bytes(file.read_bytes()[:cut])
    assert str(path) in refused(StackError, open_stack, path)


@pytest.mark.parametrize("name", ["s2/data", "s2/valid"])
@pytest.mark.parametrize("junk", [b"", b"junk" * 9])
def test_damaged_pixels_are_refused_when_they_are_read(path, name, junk):
    chunks(path, name)[1].write_bytes(junk)
    tree = open_stack(path)
    part = tree["s2"][name.removeprefix("s2/")]
    part.isel(time=0).load()  # another file
    assert "damaged" in refused(StackError, part.load)
    encoder = load_encoder("spectral", device="cpu")
    assert "damaged" in refused(StackError, embed, tree, encoder, resolution=40)
    assert "damaged" in refused(StackError, save_stack, tree, path.parent / "b.zarr")
    assert not (path.parent / "b.zarr").exists()


def test_stores_of_before_are_still_opened(saved, path):
    edit(path, written_whole=...)
    old, new = open_stack(path), open_stack(saved)
    xr.testing.assert_identical(old["s2"].to_dataset().load(), new["s2"].to_dataset().load())
    assert region_of(old) == region_of(new)


def test_how_it_was_written_is_no_part_of_the_stack(saved):
    assert "written_whole" not in open_stack(saved).attrs


# --- places that cannot be written ----------------------------------------------------------


@pytest.mark.parametrize("below", ["file", "file/below"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, below):
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / below / "a.zarr"
    text = refused(StackError, save_stack, file_stack(80, 80), path)
    assert "a.zarr" in text
    assert "cannot be" in text


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_, **__):
        (tmp_path / "a.zarr.partial").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.DataTree, "to_zarr", full)
    text = refused(StackError, save_stack, file_stack(80, 80), tmp_path / "a.zarr")
    assert "a.zarr cannot be written: No space left on device." in text
    assert list(tmp_path.iterdir()) == []


# --- in memory ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: g.drop_vars("time"), "time"),
        (lambda g: g.drop_vars("x"), "x and y"),
        (lambda g: g.isel(y=[]), "no pixel"),
        (lambda g: g.assign_coords(x=g["x"] + 10 * (g["x"] > 500_040)), "x and y"),
        (lambda g: g.assign_coords(y=np.where(g["y"] < 5_599_950, np.nan, g["y"])), "x and y"),
        (lambda g: g.assign_coords(x=[f"{x}" for x in g["x"].values]), "x and y"),
        (lambda g: g.assign_coords(time=("time", np.arange(g.sizes["time"]) * 1.0)), "time"),
        (lambda g: g.assign_coords(clear=("time", ["x"] * g.sizes["time"])), "clear"),
        (lambda g: g.assign_coords(item=("time", np.zeros(g.sizes["time"]))), "item"),
        (lambda g: g.assign_coords(level="L2A"), "level"),
    ],
)
def test_coordinates_of_another_kind_are_refused(change, words):
    tree = file_stack(80, 80, ("s2",))
    group = change(tree["s2"].to_dataset())
    broken = xr.DataTree.from_dict({"/": tree.to_dataset(), "/s2": group})
    assert words in refused(StackError, check_stack, broken)
