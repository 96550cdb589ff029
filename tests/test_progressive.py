"""Features while they are made: in order, honest about what is missing, and in the end the same."""

import itertools
import threading

import numpy as np
import pytest
import xarray as xr
from pyproj import Transformer
from sentences import refused
from stacks import CRS, file_stack
from test_streaming import lazy

from skysense.analysis import pca
from skysense.embedding import embed
from skysense.encoders import load_encoder
from skysense.errors import Cancelled, EncoderError
from skysense.progressive import embed_steps
from skysense.tokens import TokenCache
from skysense.view import caption, warnings


@pytest.fixture(scope="module")
def tiny():
    return load_encoder("skysense-tiny-untrained", precision="float32", device="cpu")


@pytest.fixture(scope="module")
def spectral():
    return load_encoder("spectral", device="cpu")


@pytest.fixture(scope="module")
def stack():
    return file_stack(1500, 900, dates={"s2": 2, "s1": 1})


def degrees(x, y):
    return Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(x, y)


def copies(steps):
    return [each.copy(deep=True) for each in steps]


def made(features):
    """(y, x) cells that hold something."""
    return np.isfinite(features.values).any(0)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_last_step_is_what_embed_gives_to_the_bit(tiny, stack, batch_size):
    options = {"resolution": 20, "batch_size": batch_size}
    *_, last = embed_steps(stack, tiny, centre=degrees(501_200, 5_599_300), **options)
    xr.testing.assert_identical(last, embed(stack, tiny, **options))


def test_the_coarse_map_is_whole_before_the_fine_one_begins(tiny, stack):
    steps = copies(embed_steps(stack, tiny, resolution=20, batch_size=1))
    spacing = [each.attrs["resolution"] for each in steps]
    half = len(steps) // 2
    assert spacing == [40] * half + [20] * half
    coarse = embed(stack, tiny, resolution=40, batch_size=1)
    assert "unfinished" not in steps[half - 1].attrs
    np.testing.assert_allclose(steps[half - 1].values, coarse.values, rtol=0, atol=1e-6)


def test_windows_come_in_order_of_their_distance_from_the_centre(spectral, stack):
    x, y = 501_300, 5_599_200
    steps = copies(embed_steps(stack, spectral, centre=degrees(x, y), resolution=40, batch_size=1))
    before, nearest = np.zeros(steps[0].shape[1:], bool), []
    for each in steps:
        new = made(each) & ~before
        before |= new
        rows, columns = new.nonzero()
        nearest.append(np.hypot(each.x.values[columns] - x, each.y.values[rows] - y).min())
    assert len(nearest) == 6
    assert nearest == sorted(nearest)


def test_what_was_made_never_changes_and_the_share_to_do_falls(tiny, stack):
    steps = copies(embed_steps(stack, tiny, resolution=40, batch_size=1))
    left = [each.attrs.get("unfinished", 0) for each in steps]
    np.testing.assert_allclose(left, np.arange(5, -1, -1) / 6, atol=1e-4)
    for one, other in itertools.pairwise(steps):
        known = made(one)
        np.testing.assert_array_equal(one.values[:, known], other.values[:, known])
        assert known.sum() < made(other).sum()


def test_pictures_of_unfinished_features_say_so(tiny, stack):
    steps = embed_steps(stack, tiny, resolution=40, batch_size=1)
    for _ in range(2):
        part = next(steps)
    assert "UNFINISHED, 67% to do" in warnings(pca(part))
    *_, last = steps
    assert "UNFINISHED" not in caption(pca(last))


def test_cancelling_keeps_what_is_done(tiny, stack):
    stop = threading.Event()
    steps = []
    for part in embed_steps(stack, tiny, resolution=40, batch_size=1, cancel=stop):
        steps.append(part)
        if len(steps) == 2:
            stop.set()
    assert len(steps) == 2
    assert part.attrs["unfinished"] == pytest.approx(4 / 6, abs=1e-4)
    whole = embed(stack, tiny, resolution=40, batch_size=1)
    np.testing.assert_array_equal(part.values[:, made(part)], whole.values[:, made(part)])


def test_cancelling_before_the_first_window_leaves_nothing_to_give(tiny, stack):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        next(embed_steps(stack, tiny, cancel=stop))


def test_the_fine_pass_encodes_no_date_again(tiny, stack):
    cache = TokenCache()
    for _ in embed_steps(stack, tiny, resolution=20, cache=cache):
        pass
    assert cache.made == cache.found == 6 * 3


def test_at_the_coarsest_spacing_there_is_one_pass(spectral, stack):
    steps = list(embed_steps(stack, spectral, resolution=40, batch_size=2))
    assert [each.attrs["resolution"] for each in steps] == [40] * 3


def test_a_region_too_small_for_a_coarse_map_has_one_pass(spectral):
    steps = list(embed_steps(file_stack(60, 60, ("s2",)), spectral, resolution=10))
    assert [each.attrs["resolution"] for each in steps] == [10]


def test_both_passes_count_as_one_piece_of_work(spectral, stack):
    told = []
    options = {"resolution": 20, "batch_size": 3, "progress": lambda *step: told.append(step)}
    list(embed_steps(stack, spectral, **options))
    assert [done for done, _, _ in told] == [3, 6, 9, 12]
    assert {total for _, total, _ in told} == {12}
    assert told[0][2] == "3 of 6 windows encoded at 40 m"


def test_a_date_that_cannot_be_read_starts_the_picture_again_without_it(spectral, monkeypatch):
    monkeypatch.setattr("skysense.cost.Cost.holds_stack", lambda *_, **__: False)
    broken = lazy(file_stack(1200, 640), broken={("s2", 1)})[0]
    steps = copies(
        embed_steps(broken, spectral, centre=degrees(500_100, 5_599_700), resolution=40,
                    batch_size=1)
    )  # fmt: skip
    again = next(i for i, each in enumerate(steps) if each.attrs.get("unfinished") == 1)
    assert not made(steps[again]).any()
    assert len(steps[again].attrs["dates_s2"]) == 3
    fewer = embed(broken, spectral, resolution=40, batch_size=1)
    xr.testing.assert_identical(steps[-1], fewer)


@pytest.mark.parametrize("centre", [5, (1,), (4.0, 200.0), ("a", "b"), (np.nan, 3.0)])
def test_a_centre_that_is_no_place_is_refused_at_once(spectral, stack, centre):
    assert "centre=" in refused(EncoderError, embed_steps, stack, spectral, centre=centre)


def test_a_centre_far_away_is_a_direction(spectral, stack):
    steps = copies(embed_steps(stack, spectral, centre=(9.0, 50.5), resolution=40, batch_size=1))
    assert made(steps[0])[:, -1].any()
