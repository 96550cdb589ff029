"""Encoded dates that are kept: the same features, and the network runs for what is new only."""

import numpy as np
import pytest
import torch
import xarray as xr
from sentences import refused
from stacks import file_stack

from skysense.batch import to_batch
from skysense.dates import Dates
from skysense.embedding import embed
from skysense.encoders import load_encoder
from skysense.errors import EncoderError
from skysense.tokens import TokenCache
from skysense.windows import Lattice, plan_windows

COUNT = {"s2": 6, "s1": 4, "hr": 1}
EARLY = Dates(last="2023-04-30")
"""The first three dates of each sensor."""
LATE = Dates(first="2023-03-20", last="2023-05-10")
"""Dates two to four: one new date of each sensor."""


@pytest.fixture(scope="module", params=["skysense-tiny-untrained", "skysense-v2-tiny-untrained"])
def tiny(request):
    return load_encoder(request.param, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def stack():
    return file_stack(640, 960, dates=COUNT)


@pytest.fixture
def images(tiny, monkeypatch):
    """How many images of each sensor went through its backbone: filled while things run."""
    counts = {"s2": 0, "s1": 0, "hr": 0}
    hooks = [
        getattr(tiny.model, key).register_forward_pre_hook(
            lambda _, given, key=key: counts.__setitem__(key, counts[key] + len(given[0]))
        )
        for key in counts
    ]
    yield counts
    for hook in hooks:
        hook.remove()


def test_features_made_with_an_empty_cache_are_those_without_to_the_bit(tiny, stack):
    with_cache = embed(stack, tiny, resolution=20, cache=TokenCache())
    xr.testing.assert_identical(with_cache, embed(stack, tiny, resolution=20))


def test_a_second_choice_of_dates_gives_what_it_gives_alone(tiny, stack):
    cache = TokenCache()
    embed(stack, tiny, resolution=40, dates=EARLY, cache=cache)
    again = embed(stack, tiny, resolution=40, dates=LATE, cache=cache)
    alone = embed(stack, tiny, resolution=40, dates=LATE)
    assert again.attrs == alone.attrs
    # the new date went through the network alone, which rounds differently: 1.2e-6 of features up to 1.8
    np.testing.assert_allclose(again.values, alone.values, rtol=0, atol=2.5e-6)


def test_only_new_dates_go_through_the_network(tiny, stack, images):
    cache, windows = TokenCache(), 2
    embed(stack, tiny, resolution=40, dates=EARLY, cache=cache)
    assert images == {"s2": 3 * windows, "s1": 3 * windows, "hr": 0}
    embed(stack, tiny, resolution=40, dates=LATE, cache=cache)
    assert images == {"s2": 4 * windows, "s1": 4 * windows, "hr": 0}


def test_dates_that_are_all_known_only_have_to_be_fused(tiny, stack, images):
    cache = TokenCache()
    first = embed(stack, tiny, resolution=40, dates=EARLY, cache=cache)
    before = dict(images)
    second = embed(stack, tiny, resolution=40, dates=EARLY, cache=cache)
    assert images == before
    np.testing.assert_array_equal(first.values, second.values)


def test_another_spacing_uses_the_same_dates(tiny, stack, images):
    cache = TokenCache()
    embed(stack, tiny, resolution=40, dates=EARLY, cache=cache)
    before = dict(images)
    fine = embed(stack, tiny, resolution=20, dates=EARLY, cache=cache)
    assert images == before
    alone = embed(stack, tiny, resolution=20, dates=EARLY)
    np.testing.assert_array_equal(fine.values, alone.values)


def test_high_resolution_images_are_kept_too(tiny, images):
    stack, cache = file_stack(160, 160, ("hr", "s2")), TokenCache()
    first = embed(stack, tiny, cache=cache)
    assert images["hr"] == 1
    second = embed(stack, tiny, dates=Dates(s2=2), cache=cache)
    assert images["hr"] == 1
    assert not np.array_equal(first.values, second.values)


def test_the_same_items_with_other_pixels_are_other_images(tiny, stack, images):
    cache = TokenCache()
    embed(stack, tiny, resolution=40, cache=cache)
    before = dict(images)
    other = file_stack(640, 960, dates=COUNT, seed=1)
    assert list(other["s2"]["item"].values) == list(stack["s2"]["item"].values)
    found = embed(other, tiny, resolution=40, cache=cache)
    assert images["s2"] == 2 * before["s2"]
    np.testing.assert_array_equal(found.values, embed(other, tiny, resolution=40).values)


def test_an_edited_mask_is_noticed(tiny, stack):
    def cloud(sensor, data, valid):
        valid[0, :40] = False
        return data, valid

    cache = TokenCache()
    embed(stack, tiny, resolution=40, cache=cache)
    masked = file_stack(640, 960, dates=COUNT, edit=cloud)
    found = embed(masked, tiny, resolution=40, cache=cache)
    alone = embed(masked, tiny, resolution=40)
    np.testing.assert_allclose(found.values, alone.values, rtol=0, atol=1e-6)


def test_two_encoders_share_a_cache_without_mixing(tiny, stack):
    cache, other = TokenCache(), load_encoder("skysense-tiny-untrained", device="cpu", seed=1)
    embed(stack, tiny, resolution=40, cache=cache)
    mixed = embed(stack, other, resolution=40, cache=cache)
    np.testing.assert_array_equal(mixed.values, embed(stack, other, resolution=40).values)


def test_a_full_cache_keeps_what_the_work_began_with_and_changes_nothing(tiny, stack):
    each = 16 * 16 * (tiny.model.config.s2.out_dim * 4 + 1)
    cache = TokenCache(max_gb=10.5 * each / 1e9)
    options = {"resolution": 40, "dates": EARLY}
    alone = embed(stack, tiny, **options)
    for _ in range(2):
        np.testing.assert_allclose(
            embed(stack, tiny, cache=cache, **options).values, alone.values, rtol=0, atol=1e-6
        )
        assert len(cache) == 10
        assert cache.nbytes <= cache.max_gb * 1e9
    assert cache.found == 10


def test_what_was_not_used_for_longest_goes_first(tiny):
    each = 16 * 16 * (tiny.model.config.s2.out_dim * 4 + 1)
    cache = TokenCache(max_gb=2.5 * each / 1e9)
    stack = file_stack(
        640, 640, ("s2",), dates=COUNT, edit=lambda _, data, valid: (data, valid | 1)
    )
    lattice = Lattice.from_attrs(stack.attrs)
    windows = plan_windows(lattice, lattice.bounds)

    def ask(date):
        tree = xr.DataTree.from_dict(
            {"/": stack.to_dataset(), "/s2": stack["s2"].to_dataset().isel(time=[date])}
        )
        before = cache.found
        cache.encode(tiny, to_batch(tree, windows))
        return cache.found > before

    assert [ask(0), ask(1), ask(0), ask(2), ask(0), ask(1)] == [0, 0, 1, 0, 1, 0]


def test_tokens_from_the_cache_are_those_of_the_encoder(tiny, stack):
    lattice = Lattice.from_attrs(stack.attrs)
    batch = to_batch(stack, plan_windows(lattice, lattice.bounds))
    cache = TokenCache()
    cache.encode(tiny, batch)
    kept, fresh = cache.encode(tiny, batch), tiny.encode(batch)
    for key in ("s2", "s1"):
        assert all(torch.equal(a, b) for a, b in zip(kept[key], fresh[key], strict=True))


def test_an_encoder_without_two_halves_pays_no_attention(stack):
    spectral, cache = load_encoder("spectral", device="cpu"), TokenCache()
    found = embed(stack, spectral, resolution=40, cache=cache)
    xr.testing.assert_identical(found, embed(stack, spectral, resolution=40))
    assert len(cache) == 0


def test_a_cleared_cache_is_empty(tiny, stack):
    cache = TokenCache()
    embed(stack, tiny, resolution=40, cache=cache)
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0)


@pytest.mark.parametrize("size", [0, -1, "2", float("nan"), None])
def test_a_cache_without_a_size_is_refused(size):
    assert "max_gb=" in refused(EncoderError, TokenCache, size)


def test_what_is_no_cache_is_refused_before_any_work(tiny, stack):
    assert "TokenCache" in refused(EncoderError, embed, stack, tiny, cache={})
