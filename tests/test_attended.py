"""Attention: shares of what the model looks at, which change nothing it computes."""

import numpy as np
import pytest
import torch
import xarray as xr
from sentences import refused
from stacks import file_stack

from skysense.attended import attention
from skysense.batch import to_batch
from skysense.embedding import embed
from skysense.encoders import load_encoder
from skysense.errors import EncoderError
from skysense.model.inputs import DateFeatures
from skysense.model.layers import Attention
from skysense.tokens import TokenCache
from skysense.view import colours
from skysense.windows import Lattice, plan_windows

COUNT = {"s2": 3, "s1": 2, "hr": 1}


@pytest.fixture(scope="module")
def tiny():
    return load_encoder("skysense-tiny-untrained", precision="float32", device="cpu")


@pytest.fixture(scope="module")
def stack():
    return file_stack(160, 160, dates=COUNT)


def test_weights_are_those_that_torch_attends_with():
    torch.manual_seed(0)
    ours, x = Attention(32, 4), torch.randn(5, 7, 32)
    theirs = torch.nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.proj.weight,
            "out_proj.bias": ours.proj.bias,
        }
    )
    _, expected = theirs(x[:, :1], x, x, average_attn_weights=True)
    torch.testing.assert_close(ours.first_weights(x), expected[:, 0])


def test_shares_lie_within_one_and_leave_some_for_the_token_itself(tiny, stack):
    found = attention(stack, tiny)
    total = found.values.sum(0)
    assert found.values.min() >= 0
    assert ((total > 0) & (total < 1)).all()
    assert list(found["sensor"].values) == ["s2"] * 3 + ["s1"] * 2
    assert colours(found[0]).shape == (4, 4, 4)


def test_a_date_that_saw_nothing_gets_none_and_the_others_what_they_get_without_it(tiny):
    def cloud(sensor, data, valid):
        valid[:] = True
        valid[1] = False
        return data, valid

    stack = file_stack(160, 160, ("s2",), dates=COUNT, edit=cloud)
    without = xr.DataTree.from_dict(
        {"/": stack.to_dataset(), "/s2": stack["s2"].to_dataset().isel(time=[0, 2])}
    )
    hidden, gone = attention(stack, tiny), attention(without, tiny)
    assert (hidden[1].values == 0).all()
    np.testing.assert_allclose(hidden[[0, 2]].values, gone.values, rtol=0, atol=1e-6)


def test_each_date_keeps_its_share_in_whatever_order_they_come(tiny, stack):
    lattice = Lattice.from_attrs(stack.attrs)
    dates = tiny.encode(to_batch(stack, plan_windows(lattice, lattice.bounds)))
    turned = {key: DateFeatures(*(part.flip(1) for part in each)) for key, each in dates.items()}
    a, b = tiny.attention(dates, 40), tiny.attention(turned, 40)
    torch.testing.assert_close(a[:, [2, 1, 0, 4, 3]], b, rtol=0, atol=1e-6)


def test_nothing_seen_is_unknown(tiny):
    def cloud(sensor, data, valid):
        valid[:] = True
        valid[:, :8] = False
        return data, valid

    found = attention(file_stack(160, 160, dates=COUNT, edit=cloud), tiny)
    assert np.isnan(found.values[:, :2]).all()
    assert np.isfinite(found.values[:, 2:]).all()


def test_asking_changes_no_feature_and_encodes_nothing_again(tiny, stack):
    cache = TokenCache()
    before = embed(stack, tiny, resolution=40, cache=cache)
    made = cache.made
    attention(stack, tiny, cache=cache)
    assert cache.made == made
    np.testing.assert_array_equal(embed(stack, tiny, resolution=40).values, before.values)


def test_an_encoder_without_attention_points_to_sensitivity(stack):
    spectral = load_encoder("spectral", device="cpu")
    assert "sensitivity" in refused(EncoderError, attention, stack, spectral)
    refused(EncoderError, attention, stack, 5)
