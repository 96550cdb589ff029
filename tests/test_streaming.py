"""Stacks that are read while they are used: what cannot be read, and what is read at all."""

import threading

import dask.array
import numpy as np
import pytest
import xarray as xr
from pyproj import Transformer
from stacks import CRS, file_stack

from skysense.cost import Cost
from skysense.embedding import embed
from skysense.encoders import load_encoder
from skysense.errors import Cancelled, SourceError
from skysense.region import Region
from skysense.sources.net import Fault, ReadError


@pytest.fixture
def spectral():
    return load_encoder("spectral", precision="float64", device="cpu")


def lazy(stack, *, broken=(), server=False):
    """The stack as a catalogue gives it, and what was read: [(sensor, date, row, column)].

    Dates in `broken`, (sensor, date), cannot be read right of the first 80 columns.
    """
    asked = []
    groups = {}
    for key in stack.children:
        group = stack[key].to_dataset()

        def read(block, block_info, key=key):
            if not block.size:
                return block
            (date, _), (row, _), (column, _) = [
                block_info[0]["array-location"][i] for i in (0, 2, 3)
            ]
            asked.append((key, date, row, column))
            if (key, date) in broken and column >= 80:
                raise ReadError(f"{key}-{date} could not be read.", Fault("damaged", server=server))
            return block

        chunks = group["data"].data
        chunks = dask.array.from_array(chunks, chunks=(1, -1, 40, 40))
        chunks = chunks.map_blocks(read, dtype=chunks.dtype, meta=np.empty((0,) * 4, "f4"))
        groups[f"/{key}"] = group.assign(data=(group["data"].dims, chunks, group["data"].attrs))
    return xr.DataTree.from_dict({"/": stack.to_dataset(), **groups}), asked


@pytest.fixture(params=["whole", "by window"])
def reading(request, monkeypatch):
    """Both ways of reading a lazy stack, whatever its size."""
    whole = request.param == "whole"
    monkeypatch.setattr(Cost, "holds_stack", lambda *_, **__: whole)
    return request.param


def test_both_ways_of_reading_give_the_same_numbers(spectral, reading):
    stack = file_stack(1200, 640)
    made = embed(lazy(stack)[0], spectral, resolution=40)
    np.testing.assert_array_equal(made.values, embed(stack, spectral, resolution=40).values)


@pytest.mark.parametrize("streamed", [False, True])
def test_an_image_that_cannot_be_read_costs_its_date_in_every_window(
    spectral, reading, streamed, tmp_path
):
    stack, said = file_stack(1200, 640), []
    broken = lazy(stack, broken={("s2", 1), ("s2", 3), ("s1", 2)})[0]
    made = embed(
        broken,
        spectral,
        resolution=40,
        batch_size=1,
        out=tmp_path / "f.zarr" if streamed else None,
        progress=lambda done, total, sentence: said.append(sentence),
    )
    fewer = {
        "/": stack.to_dataset(),
        "/s2": stack["s2"].to_dataset().isel(time=[0, 2]),
        "/s1": stack["s1"].to_dataset().isel(time=[0, 1]),
    }
    expected = embed(xr.DataTree.from_dict(fewer), spectral, resolution=40, batch_size=1)
    np.testing.assert_array_equal(made.values, expected.values)
    assert made.attrs["dates_s2"] == expected.attrs["dates_s2"]
    assert made.attrs["items_s1"] == ["s1-0", "s1-1"]
    notes = made.attrs["notes"]
    assert "Sentinel-2: 2023-03-22 left out: s2-1 could not be read." in notes
    assert "Sentinel-1: 2023-04-12 left out: s1-2 could not be read." in notes
    if reading == "by window":
        assert any("beginning again" in sentence for sentence in said)


def test_a_sensor_of_which_nothing_can_be_read_is_left_out(spectral, reading):
    stack = file_stack(1200, 640)
    broken = lazy(stack, broken={("s1", i) for i in range(3)})[0]
    made = embed(broken, spectral, resolution=40)
    assert made.attrs["sensors"] == ["s2"]
    assert "dates_s1" not in made.attrs
    assert any("Sentinel-1: no date could be read" in note for note in made.attrs["notes"])


def test_work_that_lost_a_date_goes_on_without_it(spectral, tmp_path, monkeypatch):
    monkeypatch.setattr(Cost, "holds_stack", lambda *_, **__: False)
    stack, stop = file_stack(1600, 640), threading.Event()
    options = {"resolution": 40, "batch_size": 1, "out": tmp_path / "f.zarr"}
    broken = {("s2", 1)}
    seen = []

    def after_second_start(done, total, sentence):
        seen.append(done)
        if 0 in seen and done == 1:
            stop.set()

    with pytest.raises(Cancelled):
        embed(
            lazy(stack, broken=broken)[0],
            spectral,
            progress=after_second_start,
            cancel=stop,
            **options,
        )
    again = []
    made = embed(lazy(stack)[0], spectral, progress=lambda d, t, s: again.append(d), **options)
    assert again[0] == 2
    assert made.attrs["dates_s2"] == ["2023-03-01", "2023-04-12", "2023-05-03"]
    assert any("2023-03-22 left out" in note for note in made.attrs["notes"])
    fewer = {
        "/": stack.to_dataset(),
        "/s2": stack["s2"].to_dataset().isel(time=[0, 2, 3]),
        "/s1": stack["s1"].to_dataset(),
    }
    expected = embed(xr.DataTree.from_dict(fewer), spectral, resolution=40, batch_size=1)
    np.testing.assert_array_equal(made.values, expected.values)


def test_a_server_that_has_gone_stops_the_work_and_keeps_what_is_done(
    spectral, tmp_path, monkeypatch
):
    monkeypatch.setattr(Cost, "holds_stack", lambda *_, **__: False)
    stack = file_stack(1200, 640, ("s2",))
    options = {"resolution": 40, "batch_size": 1, "out": tmp_path / "f.zarr"}
    gone = lazy(stack, broken={("s2", i) for i in range(4)}, server=True)[0]
    with pytest.raises(SourceError, match="stopped answering"):
        embed(gone, spectral, **options)
    again = []
    made = embed(lazy(stack)[0], spectral, progress=lambda d, t, s: again.append(d), **options)
    assert again[0] == 2
    assert len(made.attrs["dates_s2"]) == 4


def test_nothing_readable_at_all_is_an_error(spectral, reading):
    gone = lazy(file_stack(1200, 640, ("s1",)), broken={("s1", i) for i in range(3)})[0]
    with pytest.raises(SourceError, match="No image could be read"):
        embed(gone, spectral, resolution=40)


def test_only_the_part_that_is_asked_for_is_read_and_reading_shows_progress(spectral):
    stack, asked = lazy(file_stack(2000, 2000))
    said = []
    to_degrees = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    bounds = to_degrees.transform_bounds(500_100, 5_599_600, 500_300, 5_599_800)
    embed(
        stack,
        spectral,
        region=Region(bounds, ("2023-01-01", "2023-12-31")),
        progress=lambda done, total, sentence: said.append(sentence),
    )
    rows, columns = {row for *_, row, _ in asked}, {column for *_, column in asked}
    assert max(rows | columns) < 64
    assert len(asked) == 7 * 4
    assert said == [
        *[f"Sentinel-2 {day}" for day in ("2023-03-01", "2023-03-22", "2023-04-12", "2023-05-03")],
        *[f"Sentinel-1 {day}" for day in ("2023-03-01", "2023-03-22", "2023-04-12")],
        "1 of 1 windows encoded",
    ]
