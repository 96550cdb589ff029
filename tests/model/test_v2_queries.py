"""Semantic queries: what they find does not depend on order, company or what was never seen."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from mini import MINI, MINI_V2, make_inputs, make_model

from skysense.errors import EncoderError
from skysense.model import make_model as bare_model
from skysense.model.config_parts import PrototypeConfig, QueriesConfig
from skysense.weights import build_model, load_checkpoint, save_checkpoint

AMONG = dataclasses.replace(MINI_V2, queries=QueriesConfig(count=5, heads=2, among=True))


@pytest.fixture(params=[MINI_V2, AMONG], ids=["alone", "among"])
def model(request):
    return make_model(request.param)


@pytest.fixture
def fused():
    return torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def plain(queries, fused):
    """The decoder layer head by head, and its logits (heads, m, n) of the first view."""
    x, c, heads = queries.tokens[0], fused.shape[-1], queries.config.heads
    if queries.config.among:
        x = x + queries.among(queries.ln0(x)[None])[0]
    qkv, logits, out = queries.attn.qkv, [], []
    keys = queries.ln_fused(fused[0])
    for h in range(heads):
        own = [slice(i * c + h * c // heads, i * c + (h + 1) * c // heads) for i in range(3)]
        q, k, v = (
            F.linear(y, qkv.weight[s], qkv.bias[s])
            for y, s in zip((queries.ln1(x), keys, keys), own, strict=True)
        )
        logits.append(q @ k.T / (c / heads) ** 0.5)
        out.append(logits[-1].softmax(-1) @ v)
    x = x + queries.attn.proj(torch.cat(out, -1))
    return x + queries.mlp(queries.ln2(x)), torch.stack(logits)


def test_the_layer_and_its_scores_are_those_written_head_by_head(model, fused):
    found, logits = plain(model.queries, fused)
    torch.testing.assert_close(model.queries(fused)[0], found)
    torch.testing.assert_close(model.queries.scores(fused)[0], logits.mean(0))
    torch.testing.assert_close(model.queries.logits(fused)[0], logits)


def test_the_order_of_features_changes_nothing_that_is_found(model, fused):
    torch.testing.assert_close(model.queries(fused[:, torch.randperm(12)]), model.queries(fused))


def test_what_was_not_seen_takes_no_part_whatever_it_holds(model, fused):
    seen = torch.arange(12).expand(2, -1) < 7
    for fill in (torch.nan, 1e6):
        holes = fused.masked_fill(~seen[..., None], fill)
        torch.testing.assert_close(model.queries(holes, seen), model.queries(fused[:, :7]))
    holes = fused.masked_fill(~seen[..., None], torch.nan)
    torch.testing.assert_close(model.queries(holes), model.queries(fused[:, :7]))


def test_a_view_of_nothing_finds_nan_and_has_no_nan_in_any_gradient(model, fused):
    fused = fused.clone()
    fused[0] = torch.nan
    fused.requires_grad_()
    found = model.queries(fused)
    assert found[0].isnan().all()
    assert found[1].isfinite().all()
    model.requires_grad_(True)
    found[1].square().sum().backward()
    grads = [p.grad for p in model.queries.parameters()]
    assert all(g is not None and g.isfinite().all() for g in [*grads, fused.grad])
    assert not fused.grad[0].any()
    assert fused.grad[1].any()


def test_scores_of_a_map_are_those_of_each_place_alone_and_nan_where_nothing_was_seen(model):
    fused = model(make_inputs())
    scores = model.query_scores(fused)
    assert scores.shape == (2, model.config.queries.count, 8, 8)
    assert torch.equal(scores.isnan()[:, 0], fused.isnan()[:, 0])
    assert scores.isnan().any()
    torch.testing.assert_close(model.query_scores(fused[:, :, 2:3, 5:6]), scores[:, :, 2:3, 5:6])


def test_scores_leave_geo_context_aside():
    config = dataclasses.replace(MINI_V2, prototypes=PrototypeConfig(context=True))
    model = make_model(config)
    fused = model(make_inputs())
    assert fused.shape[1] == 64
    torch.testing.assert_close(
        model.query_scores(fused), model.query_scores(fused[:, :32]), equal_nan=True
    )


def test_queries_come_back_from_a_checkpoint(tmp_path):
    model = build_model(AMONG)
    save_checkpoint(model, tmp_path / "weights", licence="none", source="test")
    again = load_checkpoint(tmp_path / "weights").model
    assert again.config == AMONG
    assert torch.equal(again.queries.tokens, model.queries.tokens)
    assert model.queries.tokens.any()


def test_a_model_without_queries_says_so_and_so_do_features_that_do_not_fit():
    parts = tuple(part for part in MINI_V2.parts if part != "queries")
    without = bare_model(dataclasses.replace(MINI_V2, parts=parts))
    assert without.queries is None
    assert bare_model(MINI).queries is None
    with pytest.raises(EncoderError, match="no semantic queries"):
        without.query_scores(torch.zeros(1, 32, 1, 1))
    with pytest.raises(EncoderError, match="at least 32 channels"):
        make_model(MINI_V2).query_scores(torch.zeros(1, 8, 1, 1))
    with pytest.raises(EncoderError, match="queries' width 32 is not a multiple of its 5 heads"):
        dataclasses.replace(MINI_V2, queries=QueriesConfig(heads=5))
    with pytest.raises(EncoderError, match="0 queries ask nothing"):
        dataclasses.replace(MINI_V2, queries=QueriesConfig(count=0))
