"""Other choices of dates: which one mattered, how sure the features are, a control for change."""

import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from sentences import ODD, refused
from stacks import file_stack
from test_streaming import lazy

from skysense.analysis import change, change_threshold, mean_sensitivity
from skysense.dates import Dates
from skysense.embedding import embed
from skysense.encoders import load_encoder
from skysense.errors import Cancelled, EncoderError, SkySenseError, StackError
from skysense.progressive import embed_steps
from skysense.region import Region
from skysense.sources import load_stack
from skysense.subsets import change_control, sensitivity, uncertainty
from skysense.tokens import TokenCache
from skysense.view import caption, colours

COUNT = {"s2": 4, "s1": 2, "hr": 1}


def clear(sensor, data, valid):
    return data, np.ones_like(valid)


def only(stack, **dates):
    """The stack with some dates of some sensors."""
    groups = {f"/{k}": stack[k].to_dataset().isel(time=chosen) for k, chosen in dates.items()}
    return xr.DataTree.from_dict({"/": stack.to_dataset(), **groups})


@pytest.fixture(scope="module", params=["skysense-tiny-untrained", "spectral"])
def encoder(request):
    return load_encoder(request.param, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def tiny():
    return load_encoder("skysense-tiny-untrained", precision="float32", device="cpu")


@pytest.fixture(scope="module")
def stack():
    return file_stack(320, 240, dates=COUNT)


def test_a_layer_is_the_change_when_that_date_is_left_out(encoder, stack):
    found = sensitivity(stack, encoder, resolution=40)
    assert list(found["dropped"].values)[3:5] == ["Sentinel-2 2023-05-03", "Sentinel-1 2023-03-01"]
    assert list(found["sensor"].values) == ["s2"] * 4 + ["s1"] * 2
    whole = embed(stack, encoder, resolution=40)
    fewer = embed(only(stack, s2=[0, 2, 3], s1=[0, 1]), encoder, resolution=40)
    np.testing.assert_allclose(found[1].values, change(whole, fewer).values, rtol=0, atol=2e-6)


def test_a_layer_is_the_change_when_that_sensor_is_left_out(encoder, stack):
    found = sensitivity(stack, encoder, drop="sensor", resolution=40)
    assert list(found["dropped"].values) == ["Sentinel-2", "Sentinel-1"]
    whole = embed(stack, encoder, resolution=40)
    fewer = embed(only(stack, s2=[0, 1, 2, 3]), encoder, resolution=40)
    np.testing.assert_allclose(found[1].values, change(whole, fewer).values, rtol=0, atol=2e-6)


def test_a_date_that_saw_nothing_does_not_matter(encoder):
    def cloud(sensor, data, valid):
        valid[:] = True
        if sensor == "s2":
            valid[2] = False
        return data, valid

    found = sensitivity(file_stack(160, 160, dates=COUNT, edit=cloud), encoder)
    assert (found[2].values == 0).all()
    assert found[1].values.min() > 0


def test_of_two_equal_dates_one_is_hardly_missed(tiny):
    def twins(sensor, data, valid):
        valid[:] = True
        if sensor == "s2":
            data[1] = data[0]
        return data, valid

    stack = file_stack(160, 160, ("s2",), dates=COUNT, edit=twins)
    stack["s2"] = (
        stack["s2"].to_dataset().assign_coords(doy=("time", np.array([60, 60, 200, 300], "f4")))
    )
    means = mean_sensitivity(sensitivity(stack, tiny)).values
    np.testing.assert_allclose(means[0], means[1], rtol=1e-3)
    assert means[:2].max() < means[2:].min()


def test_cells_that_one_date_alone_saw_have_no_distance_without_it(encoder):
    def alone(sensor, data, valid):
        valid[:] = True
        valid[1:, :12] = False
        return data, valid

    stack = file_stack(160, 240, ("s2",), dates=COUNT, edit=alone)
    found = sensitivity(stack, encoder)
    assert np.isnan(found[0].values[:3]).all()
    assert np.isfinite(found[0].values[3:]).all()
    assert (found[1:, :3].values == 0).all()
    np.testing.assert_allclose(mean_sensitivity(found)["alone"], [0.5, 0, 0, 0])


def test_with_a_cache_nothing_is_encoded_again_and_nothing_changes(tiny, stack):
    cache = TokenCache()
    embed(stack, tiny, resolution=40, cache=cache)
    made = cache.made
    options = {"resolution": 40, "cache": cache}
    with_cache = [
        sensitivity(stack, tiny, **options),
        uncertainty(stack, tiny, splits=3, **options),
        change_control(stack, tiny, **options),
    ]
    assert cache.made == made
    without = [
        sensitivity(stack, tiny),
        uncertainty(stack, tiny, splits=3),
        change_control(stack, tiny),
    ]
    for a, b in zip(with_cache, without, strict=True):
        xr.testing.assert_identical(a, b)


def test_uncertainty_is_nothing_where_all_dates_are_equal(encoder):
    def same(sensor, data, valid):
        data[:] = data[:1]
        return data, np.ones_like(valid)

    stack = file_stack(160, 160, ("s2",), dates=COUNT, edit=same)
    stack["s2"] = stack["s2"].to_dataset().assign_coords(doy=("time", np.full(4, 150, "f4")))
    same = uncertainty(stack, encoder).values
    other = uncertainty(file_stack(160, 160, ("s2",), dates=COUNT, edit=clear), encoder).values
    assert same.max() < 1e-6
    assert other.min() > 1e-4


def test_uncertainty_is_a_field_known_where_both_halves_saw(encoder, stack):
    found = uncertainty(stack, encoder, splits=5)
    seen = np.isfinite(embed(stack, encoder, resolution=40)[0].values)
    assert 0.5 < np.isfinite(found.values)[seen].mean() <= 1
    assert not np.isfinite(found.values)[~seen].any()
    assert found.attrs["long_name"] == "disagreement of halves of the dates (5 splits)"
    assert colours(found).shape == (6, 8, 4)


def test_one_split_of_two_dates_is_the_change_between_them(encoder):
    stack = file_stack(160, 160, ("s2",), dates={"s2": 2}, edit=clear)
    one, other = (embed(only(stack, s2=[i]), encoder, resolution=40) for i in (0, 1))
    expected = change(one, other).values
    for made in (uncertainty(stack, encoder, splits=1), change_control(stack, encoder)):
        np.testing.assert_allclose(made.values, expected, rtol=0, atol=2e-6)


def test_of_an_odd_number_of_dates_one_is_in_neither_half(tiny):
    def first(sensor, data, valid):
        return data[[0, 0, 0]], np.ones_like(valid)

    stack = file_stack(160, 160, ("s2",), dates={"s2": 3}, edit=first)
    stack["s2"] = stack["s2"].to_dataset().assign_coords(doy=("time", np.full(3, 150, "f4")))
    assert uncertainty(stack, tiny).values.max() < 1e-6


def test_more_splits_than_one_are_averaged(tiny, stack):
    controls = np.stack([uncertainty(stack, tiny, splits=n).values for n in (1, 4)])
    layers = [change_control(stack, tiny, seed=0).values]
    np.testing.assert_array_equal(controls[0], layers[0])
    assert not np.array_equal(controls[0], controls[1])


def test_the_same_seed_gives_the_same_halves(tiny, stack):
    a, b, c = (uncertainty(stack, tiny, splits=1, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.values, b.values)
    assert not np.array_equal(a.values, c.values)


def test_features_keep_their_provenance(encoder, stack):
    whole = embed(stack, encoder, resolution=40).attrs
    for made in (sensitivity(stack, encoder), uncertainty(stack, encoder)):
        assert {k: v for k, v in made.attrs.items() if k in whole and k != "long_name"} == {
            k: v for k, v in whole.items() if k != "long_name"
        }
        assert made.attrs["units"] == "cosine distance"
        assert made.odc.geobox == embed(stack, encoder, resolution=40).odc.geobox
    assert encoder.name in caption(sensitivity(stack, encoder)[0])


def test_a_date_that_cannot_be_read_is_not_asked_about(encoder):
    broken = lazy(file_stack(1200, 640), broken={("s2", 1)})[0]
    found = sensitivity(broken, encoder)
    assert list(found["sensor"].values) == ["s2"] * 3 + ["s1"] * 3
    assert any("left out" in note for note in found.attrs["notes"])


def test_two_images_of_one_day_have_two_names(encoder, stack):
    twice = only(stack, s2=[0, 0, 1])
    assert list(sensitivity(twice, encoder)["dropped"].values)[:2] == [
        "Sentinel-2 2023-03-01",
        "Sentinel-2 2023-03-01 (2)",
    ]


@pytest.mark.parametrize("call", [sensitivity, uncertainty, change_control])
def test_one_date_is_too_few(encoder, stack, call):
    text = refused(StackError, call, only(stack, s2=[0]), encoder)
    assert "Choose more dates" in text


def test_one_sensor_cannot_be_left_out(encoder, stack):
    assert "drop='date'" in refused(
        StackError, sensitivity, only(stack, s2=[0, 1]), encoder, drop="sensor"
    )


def test_too_many_dates_are_refused_before_any_is_read(tiny):
    many = file_stack(80, 80, ("s2",), dates={"s2": 70}, edit=clear)
    rule = Dates(s2=70, clear=0)
    assert "70 dates" in refused(StackError, sensitivity, many, tiny, dates=rule)


@pytest.mark.parametrize(
    ("call", "options"),
    [
        (sensitivity, {"drop": "band"}),
        (sensitivity, {"cache": 5}),
        (uncertainty, {"splits": 0}),
        (uncertainty, {"splits": 100}),
        (uncertainty, {"seed": None}),
        (change_control, {"seed": -1}),
        (change_control, {"resolution": 15}),
    ],
)
def test_options_that_cannot_be_are_refused(encoder, stack, call, options):
    assert next(iter(options)) in refused(EncoderError, call, stack, encoder, **options)


def test_it_can_be_cancelled(tiny, stack):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        uncertainty(stack, tiny, cancel=stop)


@pytest.fixture(scope="module")
def hesbaye(shared):
    """A real year and a half of months, on about a square kilometre."""
    path = Path(__file__).parent / "recipes" / "be-hesbaye-monthly.toml"
    whole = load_stack(path)
    box = whole["s2"].to_dataset().odc.geobox.geographic_extent.boundingbox
    lon, lat = (box.left + box.right) / 2, (box.bottom + box.top) / 2
    region = Region(
        (lon - 0.006, lat - 0.004, lon + 0.006, lat + 0.004), ("2020-01-01", "2022-12-31")
    )
    return whole, region


def test_a_real_place_says_which_month_mattered(hesbaye, tiny):
    stack, region = hesbaye
    cache = TokenCache()
    options = {"region": region, "dates": Dates(s2=6, s1=3), "cache": cache}
    found = sensitivity(stack, tiny, **options)
    means = mean_sensitivity(found)
    assert found.sizes["dropped"] == 9
    assert ((means > 0) & (means < 2)).all()
    assert np.isfinite(found.values).all()
    sure = uncertainty(stack, tiny, **options)
    assert 0 < sure.values.min() < sure.values.max() < 2
    assert cache.found == cache.made


def test_a_real_place_changes_more_between_seasons_than_between_halves_of_one(hesbaye, tiny):
    stack, region = hesbaye
    first, second = (
        Dates(first=f"2021-{a}-01", last=f"2021-{b}-28") for a, b in (("01", "04"), ("06", "09"))
    )
    options = {"region": region, "resolution": 40, "cache": TokenCache()}
    before, after = (embed(stack, tiny, dates=dates, **options) for dates in (first, second))
    moved = change(before, after)
    limit = change_threshold(change_control(stack, tiny, dates=second, **options), 50)
    assert (moved > limit).mean() > 0.5
    assert any("Season mismatch" in note for note in moved.attrs["notes"])


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_odd_arguments_are_refused_in_a_sentence(tiny, stack, odd):
    for call in (sensitivity, uncertainty, change_control, embed_steps):
        refused(SkySenseError, call, odd, tiny)
        refused(SkySenseError, call, stack, odd)
        if odd is not None:
            for name in ("region", "dates", "cancel", "cache", "resolution"):
                refused(SkySenseError, call, stack, tiny, **{name: odd})
        if odd is not None and not callable(odd):
            refused(SkySenseError, call, stack, tiny, progress=odd)
    refused(EncoderError, sensitivity, stack, tiny, drop=odd)
    if odd is not None:
        refused(EncoderError, embed_steps, stack, tiny, centre=odd)
    if odd != 5:
        refused(EncoderError, uncertainty, stack, tiny, splits=odd)
        refused(EncoderError, uncertainty, stack, tiny, seed=odd)
        refused(EncoderError, change_control, stack, tiny, seed=odd)
