"""Gradients of cosine attention: plain where tokens have a length, bounded where they have none."""

import pytest
import torch
import torch.nn.functional as F
from mini import MINI_V2

from skysense.model import swin
from skysense.model.swin import Block, WindowAttention

CONFIG = MINI_V2.backbone.swin


def gradients(module, out):
    module.zero_grad()
    out.square().sum().backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def attention(seed=0):
    torch.manual_seed(seed)
    return WindowAttention(8, 2, 4, 0, key_bias=True)


def test_a_map_smaller_than_its_window_has_bounded_gradients():
    torch.manual_seed(0)
    block = Block(CONFIG, 1, shifted=False, extra_norm=False, drop_path=0.0, key_bias=True)
    found = gradients(block, block(torch.randn(2, 2, 2, 16)))
    assert max(float(each.abs().max()) for each in found.values()) < 1e4


@pytest.mark.parametrize("size", [0.0, 1e-14, 1e-8, 1e-3])
def test_tokens_of_no_length_and_nearly_none_have_bounded_gradients(size):
    layer = attention()
    x = (size * torch.randn(1, 3, 16, 8)).requires_grad_()
    found = gradients(layer, layer(x, (3,)))
    assert max(float(each.abs().max()) for each in (*found.values(), x.grad)) < 1e4


def plainly(x):
    return x, x.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def test_where_lengths_are_ordinary_the_gradient_is_that_of_dividing_by_them(monkeypatch):
    layer, x = attention().double(), 5 * torch.randn(2, 3, 16, 8, dtype=torch.float64)
    found = gradients(layer, layer(x, (3,)))
    monkeypatch.setattr(swin, "_with_norm", plainly)
    plain = gradients(layer, layer(x, (3,)))
    assert found.keys() == plain.keys()
    for name, each in plain.items():
        torch.testing.assert_close(found[name], each)


def test_bounding_gradients_changes_no_number(monkeypatch):
    layer, x = attention(), torch.randn(2, 3, 16, 8)
    x[:, 0] = 0
    bounded = layer(x, (3,))
    monkeypatch.setattr(swin, "_with_norm", plainly)
    assert torch.equal(bounded, layer(x, (3,)))


def test_queries_have_unit_length_and_those_of_no_length_stay_so():
    x = torch.randn(4, 8)
    x[0] = 0
    (same, norm), wanted = swin._with_norm(x.requires_grad_()), F.normalize(x, dim=-1, eps=1e-12)
    assert torch.equal(same, x)
    torch.testing.assert_close(same / norm, wanted)
