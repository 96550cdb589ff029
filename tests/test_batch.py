import gc
import tracemalloc

import numpy as np
import pytest
import torch
from stacks import CRS, file_stack, stack_of

from skysense.batch import crop, to_batch
from skysense.errors import StackError
from skysense.sensors import S1, S2
from skysense.windows import Lattice, Window, plan_windows


def windows_of(stack):
    lattice = Lattice.from_attrs(stack.attrs)
    return plan_windows(lattice, lattice.bounds)


def test_pixels_of_a_window_are_the_pixels_of_the_stack():
    stack = file_stack(640, 640, ("s2",))
    batch = to_batch(stack, windows_of(stack))
    valid = batch.sensors["s2"].valid.numpy()[0]
    np.testing.assert_array_equal(valid, stack["s2"]["valid"].values)
    pixels = batch.sensors["s2"].pixels.numpy()[0]
    seen = np.broadcast_to(valid[:, None], pixels.shape)
    np.testing.assert_array_equal(pixels[seen], stack["s2"]["data"].values[seen])


def test_what_the_stack_does_not_cover_is_not_valid():
    stack = file_stack(60, 60, ("s2",))
    batch = to_batch(stack, windows_of(stack))
    assert batch.sensors["s2"].pixels.shape[-2:] == (8, 8)
    assert not batch.sensors["s2"].valid[..., 6:, :].any()
    assert not batch.sensors["s2"].valid[..., :, 6:].any()


def test_missing_bands_are_filled_with_the_mean_of_the_sensor():
    stack = file_stack(80, 80, ("s2",))
    stack["s2"] = stack["s2"].to_dataset().isel(band=[0, 1, 2, 3, 4, 5, 6, 8, 9])
    batch = to_batch(stack, windows_of(stack))
    filled = batch.sensors["s2"].pixels[:, :, S2.names.index("nir08")]
    assert np.allclose(filled, S2.mean[S2.names.index("nir08")])


def test_a_missing_sensor_is_an_absent_key():
    stack = file_stack(80, 80, ("s1",))
    assert list(to_batch(stack, windows_of(stack)).sensors) == ["s1"]


def test_an_unknown_date_is_day_zero():
    stack = file_stack(80, 80, ("hr",))
    stack["hr"] = stack["hr"].to_dataset().assign_coords(doy=("time", np.array([np.nan], "f4")))
    assert to_batch(stack, windows_of(stack)).sensors["hr"].doy.tolist() == [[0]]


def test_finer_high_resolution_is_averaged_onto_the_window():
    left, top = 500_000.0, 5_600_000.0
    fine = stack_of((left, top - 80, left + 80, top), ("hr",))
    data = np.broadcast_to(np.arange(256) % 2 * 100.0, (1, 3, 256, 256)).astype("f4")
    group = fine["hr"].to_dataset()
    half = group.isel(x=slice(0, 256)).assign(data=(group["data"].dims, data.copy()))
    half = half.assign_coords(
        x=left + (np.arange(256) + 0.5) * 0.15625, y=top - (np.arange(256) + 0.5) * 0.15625
    )
    fine["hr"] = half
    window = Window((left, top - 80, left + 80, top), (left, top - 80, left + 80, top))
    pixels = to_batch(fine, [window]).sensors["hr"]
    inner = pixels.pixels[0, 0, 0, 5:100, 5:100]
    assert np.allclose(inner, 50.0, atol=1e-3)
    assert not pixels.valid[0, 0, 200:, 200:].any()


def test_lonlat_is_the_middle_of_the_window():
    stack = stack_of((500_000.0, 0.0, 500_640.0, 640.0), ("s2",), lattice=Lattice(CRS))
    batch = to_batch(stack, plan_windows(Lattice(CRS), (500_000.0, 0.0, 500_640.0, 640.0))[:1])
    lon, lat = batch.lonlat[0].tolist()
    assert abs(lon - 3.0) < 0.01
    assert abs(lat) < 0.01


def test_windows_of_two_shapes_are_refused():
    stack = file_stack(640, 640, ("s2",))
    bounds = (500_000.0, 5_599_920.0, 500_080.0, 5_600_000.0)
    with pytest.raises(StackError, match="one shape"):
        to_batch(stack, [*windows_of(stack), Window(bounds, bounds)])


def test_sensors_that_are_not_there_are_refused():
    stack = file_stack(80, 80, ("s2",))
    with pytest.raises(StackError, match="none of which"):
        to_batch(stack, windows_of(stack), ["s1"])


def test_a_band_that_one_date_lacks_is_a_missing_band_not_a_missing_date():
    def single(sensor, data, valid):
        data[1, 1] = np.nan
        return data, valid

    stack = file_stack(80, 80, ("s1",), edit=single)
    whole = to_batch(file_stack(80, 80, ("s1",)), windows_of(stack)).sensors["s1"]
    batch = to_batch(stack, windows_of(stack)).sensors["s1"]
    assert torch.equal(batch.valid, whole.valid)
    assert torch.equal(batch.pixels[:, 1, 0], whole.pixels[:, 1, 0])
    assert np.allclose(batch.pixels[:, 1, 1], S1.mean[1])


def test_which_date_lacks_which_band_is_said_where_its_others_are_used():
    def single(sensor, data, valid):
        data[1, 1] = np.nan
        data[2] = np.nan  # nothing at all: an unusable date, not a missing band
        return data, valid

    stack = file_stack(80, 80, ("s1",), edit=single)
    assert to_batch(stack, windows_of(stack)).lacking == {("s1", 1, "vh")}


@pytest.mark.parametrize("corner", [0, 600])
def test_windows_read_the_same_in_the_part_of_a_stack_that_they_need(corner):
    stack = file_stack(900, 900, ("hr", "s2", "s1"), dates={"hr": 1, "s2": 2, "s1": 1})
    lattice = Lattice.from_attrs(stack.attrs)
    left, top = lattice.x0 + corner, lattice.y0 - corner
    windows = plan_windows(lattice, (left, top - 200, left + 200, top))
    part = crop(stack, windows)
    assert part["s2"]["data"].size < stack["s2"]["data"].size
    a, b = to_batch(stack, windows), to_batch(part, windows)
    for key, each in a.sensors.items():
        assert torch.equal(each.pixels, b.sensors[key].pixels)
        assert torch.equal(each.valid, b.sensors[key].valid)


def test_pixels_of_earlier_windows_do_not_stay_in_memory():
    stack = file_stack(1200, 640, ("s2",))
    windows = windows_of(stack)
    size = to_batch(stack, windows).sensors["s2"].pixels.nbytes
    gc.collect()
    gc.disable()  # it would free them some day, but not before many windows have gone by
    tracemalloc.start()
    try:
        for _ in range(4):
            to_batch(stack, windows)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert kept < size / 4
