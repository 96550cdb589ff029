import threading

import numpy as np
import pytest
import shapely
import torch
import xarray as xr
from pyproj import Transformer
from stacks import CRS, file_stack, stack_of

from skysense.dates import ALL, Dates
from skysense.embedding import embed, forecast
from skysense.encoders import load_encoder
from skysense.errors import Cancelled, EncoderError, StackError
from skysense.region import Region
from skysense.windows import Lattice, cover

ENCODERS = ("spectral", "skysense-tiny", "skysense-v2-tiny-untrained")
UTM = (500_000.0, 5_600_000.0)


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request):
    return load_encoder(request.param, precision="float64", device="cpu")


def region_at(left, bottom, size):
    to_degrees = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    bounds = to_degrees.transform_bounds(left, bottom, left + size, bottom + size)
    return Region(bounds, ("2023-01-01", "2023-12-31"))


def catalogue(left, bottom, size, sensors=("s2", "s1")):
    """What a catalogue gives for a rectangle: its windows, on the absolute lattice."""
    region = region_at(left, bottom, size)
    to_utm = Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    held = cover(Lattice(CRS), to_utm.transform_bounds(*region.bounds))
    return stack_of(held, sensors, region=region)


def common(a, b):
    return xr.align(a, b, join="inner")


def test_same_place_gets_the_same_value_whatever_rectangle_was_drawn(encoder):
    a = embed(catalogue(UTM[0], UTM[1], 300), encoder, resolution=20)
    b = embed(catalogue(UTM[0] + 130, UTM[1] + 70, 500), encoder, resolution=20)
    a, b = common(a, b)
    assert a.sizes["x"] >= 8
    np.testing.assert_allclose(a.values, b.values, rtol=0, atol=1e-6)


def test_part_of_a_file_gets_the_values_of_the_whole_file(encoder):
    lattice = Lattice(CRS, *UTM, 1500.0, 700.0)
    region = region_at(UTM[0] + 900, UTM[1] - 500, 300)
    to_utm = Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    seen, file = cover(lattice, to_utm.transform_bounds(*region.bounds)), lattice.bounds
    held = (*map(max, seen[:2], file[:2]), *map(min, seen[2:], file[2:]))
    part = stack_of(held, lattice=lattice, region=region)
    a = embed(part, encoder, resolution=20)
    b = embed(stack_of(lattice.bounds, lattice=lattice), encoder, resolution=20, region=region)
    assert a.odc.geobox == b.odc.geobox
    np.testing.assert_allclose(a.values, b.values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("coarse", [20, 40])
@pytest.mark.parametrize("sensors", [("s2", "s1"), ("hr", "s2")])
def test_coarse_features_are_the_fine_ones_at_their_cells(encoder, coarse, sensors):
    stack = file_stack(320, 240, sensors)
    fine = embed(stack, encoder, resolution=10)
    rough = embed(stack, encoder, resolution=coarse)
    picked = fine.sel(x=rough.x, y=rough.y)
    np.testing.assert_allclose(rough.values, picked.values, rtol=0, atol=1e-6)


def test_coarse_coordinates_are_centres_of_sampled_cells(encoder):
    rough = embed(file_stack(320, 240), encoder, resolution=40)
    assert float(rough.x[0]) == UTM[0] + 25
    assert float(rough.y[0]) == UTM[1] - 25
    assert float(rough.x[1] - rough.x[0]) == 40


def test_batch_of_one_equals_batch_of_many(encoder):
    stack = file_stack(1200, 640)
    one = embed(stack, encoder, resolution=40, batch_size=1)
    many = embed(stack, encoder, resolution=40, batch_size=4)
    np.testing.assert_allclose(one.values, many.values, rtol=0, atol=1e-6)


def test_order_in_which_a_source_gives_its_dates_changes_nothing(encoder):
    a = embed(file_stack(160, 160), encoder)
    b = embed(file_stack(160, 160, backwards=True), encoder)
    np.testing.assert_array_equal(a.values, b.values)


def test_what_lies_under_an_invalid_pixel_changes_nothing(encoder):
    def hide(sensor, data, valid):
        data[np.broadcast_to(~valid[:, None], data.shape)] = 1e6
        return data, valid

    def gap(sensor, data, valid):
        data[np.broadcast_to(~valid[:, None], data.shape)] = np.nan
        return data, valid

    a = embed(file_stack(160, 160, edit=hide), encoder)
    b = embed(file_stack(160, 160, edit=gap), encoder)
    np.testing.assert_array_equal(a.values, b.values)


def test_a_fully_invalid_date_equals_its_absence(encoder):
    def cloud(sensor, data, valid):
        valid[1] = False
        return data, valid

    stack = file_stack(160, 160, edit=cloud)
    without = xr.DataTree.from_dict(
        {
            "/": stack.to_dataset(),
            "/s2": stack["s2"].to_dataset().isel(time=[0, 2, 3]),
            "/s1": stack["s1"].to_dataset().isel(time=[0, 2]),
        }
    )
    a, b = embed(stack, encoder), embed(without, encoder)
    np.testing.assert_allclose(a.values, b.values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sensors", [("s2",), ("s1",), ("hr",), ("hr", "s2", "s1")])
def test_a_dropped_sensor_keeps_the_shape(encoder, sensors):
    features = embed(file_stack(160, 160, sensors), encoder)
    assert features.shape == (encoder.dim, 16, 16)
    assert features.attrs["sensors"] == list(sensors)
    assert np.isfinite(features.values).any()


def test_nothing_usable_gives_nan_there_and_nowhere_else(encoder):
    def cloud(sensor, data, valid):
        valid[:] = True
        valid[:, :8, :] = False
        return data, valid

    features = embed(file_stack(160, 160, edit=cloud), encoder)
    assert np.isnan(features.values[:, :8]).all()
    assert np.isfinite(features.values[:, 8:]).all()


def test_streaming_gives_the_same_numbers_and_provenance(encoder, tmp_path):
    stack = file_stack(1200, 640)
    kept = embed(stack, encoder, resolution=40)
    streamed = embed(stack, encoder, resolution=40, out=tmp_path / "f.zarr")
    np.testing.assert_array_equal(kept.values, streamed.values)
    assert streamed.attrs == kept.attrs
    assert streamed.odc.geobox == kept.odc.geobox


def test_cancelled_work_goes_on_where_it_stopped(encoder, tmp_path):
    stack = file_stack(1200, 640)
    stop, seen = threading.Event(), []

    def after_one(done, total, sentence):
        seen.append(done)
        stop.set()

    options = {"resolution": 40, "batch_size": 1, "out": tmp_path / "f.zarr"}
    with pytest.raises(Cancelled):
        embed(stack, encoder, progress=after_one, cancel=stop, **options)
    assert seen == [1]
    assert not (tmp_path / "f.zarr").exists()
    again = []
    features = embed(stack, encoder, progress=lambda d, t, s: again.append(d), **options)
    assert again[0] == 2
    whole = embed(stack, encoder, resolution=40, batch_size=1)
    np.testing.assert_array_equal(features.values, whole.values)


def test_unfinished_work_of_other_choices_is_not_mixed_in(encoder, tmp_path):
    stop = threading.Event()
    path = tmp_path / "f.zarr"
    with pytest.raises(Cancelled):
        embed(
            file_stack(1200, 640),
            encoder,
            resolution=40,
            batch_size=1,
            out=path,
            progress=lambda *_: stop.set(),
            cancel=stop,
        )
    with pytest.raises(EncoderError, match=r"other choices: .*resolution was 40 and is 20"):
        embed(file_stack(1200, 640), encoder, resolution=20, batch_size=1, out=path)
    with pytest.raises(EncoderError, match="choices: batch_size was 1 and is 2 now"):
        embed(file_stack(1200, 640), encoder, resolution=40, batch_size=2, out=path)
    with pytest.raises(EncoderError, match="dates_s2 had 2023-04-12, 2023-05-03 where"):
        embed(
            file_stack(1200, 640),
            encoder,
            resolution=40,
            batch_size=1,
            out=path,
            dates=Dates(last="2023-03-31", s1=3),
        )
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        with pytest.raises(EncoderError, match=f"threads was {threads} and is {threads + 1} now"):
            embed(file_stack(1200, 640), encoder, resolution=40, batch_size=1, out=path)
    finally:
        torch.set_num_threads(threads)


def test_default_dates_are_recorded_and_the_rest_counted(encoder):
    stack = file_stack(160, 160, dates={"s2": 6, "s1": 3})
    features = embed(stack, encoder, dates=Dates(s2=2, s1=1))
    assert len(features.attrs["dates_s2"]) == 2
    assert any("2 of 6 dates used" in note for note in features.attrs["notes"])


def test_missing_bands_are_recorded(encoder):
    stack = file_stack(160, 160, ("s2",))
    fewer = xr.DataTree.from_dict(
        {
            "/": stack.to_dataset(),
            "/s2": stack["s2"].to_dataset().isel(band=[0, 1, 2, 3, 4, 5, 6, 8, 9]),
        }
    )
    assert embed(fewer, encoder).attrs["missing_bands"] == ["s2:nir08"]


def test_random_weights_are_called_untrained():
    random = load_encoder("skysense-tiny-untrained", device="cpu")
    features = embed(file_stack(80, 80, ("s2",)), random)
    assert features.attrs["untrained"] == 1
    assert features.attrs["weights"] == "random(seed=0)"


def test_too_few_bands_are_refused_with_the_missing_names(encoder):
    stack = file_stack(160, 160, ("s2",))
    three = xr.DataTree.from_dict(
        {"/": stack.to_dataset(), "/s2": stack["s2"].to_dataset().isel(band=[0, 1, 2])}
    )
    with pytest.raises(StackError, match=r"3 of the 10 bands.*rededge1"):
        embed(three, encoder)


def test_more_memory_than_the_budget_is_refused_with_the_number(encoder):
    with pytest.raises(EncoderError, match=r"would take .* GB"):
        embed(file_stack(640, 640), encoder, memory_gb=1e-5)


def test_a_region_outside_the_stack_is_refused(encoder):
    with pytest.raises(StackError, match="does not touch"):
        embed(file_stack(160, 160), encoder, region=region_at(600_000, 5_700_000, 500))


@pytest.mark.parametrize("resolution", [0, 7, 30, "10"])
def test_an_odd_resolution_is_refused(encoder, resolution):
    with pytest.raises(EncoderError, match="is not one of"):
        embed(file_stack(160, 160), encoder, resolution=resolution or 1)


def test_small_files_are_padded_not_refused(encoder):
    features = embed(file_stack(60, 60, ("s2",)), encoder, dates=ALL)
    assert features.shape[1:] == (6, 6)


def test_a_place_that_cannot_be_written_is_a_sentence(encoder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EncoderError, match="cannot be"):
        embed(file_stack(160, 160), encoder, out=tmp_path / "file" / "f.zarr")


def test_a_forecast_needs_an_encoder():
    with pytest.raises(EncoderError, match="is not an encoder"):
        forecast(file_stack(160, 160), 5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"memory_gb": float("nan")}, "memory_gb=nan"),
        ({"memory_gb": "4"}, "memory_gb='4'"),
        ({"resolution": 0}, "resolution=0"),
        ({"out": "features.tif"}, "must end in .zarr"),
        ({"out": 5}, "out=5 is not a path"),
        ({"memory_gb": 10**400}, "is not a number of gigabytes"),
        ({"resolution": np.array([10, 20])}, "is not one of"),
        ({"progress": 5}, "progress=5 cannot be called"),
        ({"cancel": 5}, "cancel=5 is not"),
    ],
)
def test_options_that_cannot_be_are_refused_before_any_work(encoder, options, words):
    with pytest.raises(EncoderError, match=words):
        embed(file_stack(160, 160), encoder, **options)


def test_a_name_is_not_an_encoder():
    with pytest.raises(EncoderError, match="load_encoder"):
        embed(file_stack(160, 160), "spectral")


def test_a_single_cell_is_no_map(encoder):
    with pytest.raises(StackError, match="two each way"):
        embed(
            file_stack(160, 160),
            encoder,
            region=region_at(UTM[0] + 50, UTM[1] - 90, 40),
            resolution=40,
        )


def test_what_does_not_fit_into_memory_is_refused_with_its_parts(encoder):
    stack = file_stack(640, 640)
    need = forecast(stack, encoder).need_gb(1, held=False, streamed=False)
    with pytest.raises(EncoderError, match=r"features .* 1 window at once .* pass memory_gb="):
        embed(stack, encoder, memory_gb=need * 0.9)


def test_a_band_that_a_date_lacks_is_noted():
    def single(sensor, data, valid):
        if sensor == "s1":
            data[1, 1] = np.nan
        return data, valid

    features = embed(file_stack(160, 160, edit=single), load_encoder("spectral", device="cpu"))
    lacking = [note for note in features.attrs["notes"] if "stands in" in note]
    assert lacking == ["Sentinel-1: no vh on 2023-03-22; the sensor's mean stands in for it."]


def test_a_polygon_masks_nothing():
    spectral = load_encoder("spectral", device="cpu")
    box = region_at(UTM[0] + 20, UTM[1] - 140, 120)
    corner = shapely.box(*box.bounds).difference(shapely.Point(box.bounds[:2]).buffer(1e-3))
    whole = embed(file_stack(160, 160), spectral, region=box)
    part = embed(file_stack(160, 160), spectral, region=Region(box.bounds, box.time, "", corner))
    xr.testing.assert_equal(whole, part)


def test_an_approximate_position_travels_with_the_features(encoder):
    stack = file_stack(80, 80, ("s2",))
    stack["s2"].attrs["approximate"] = 1
    assert embed(stack, encoder).attrs["approximate"] == ["s2"]
