"""Where queries begin."""

import dataclasses

import pytest
import torch
from small_run import MODEL, RUN_V2

from skysense.pretrain.data import open_places
from skysense.pretrain.loop import begin
from skysense.pretrain.start import views_of
from skysense.pretrain.start_queries import SHARP, start_queries
from skysense.pretrain.step import look
from skysense.weights import build_model


@pytest.fixture(scope="module")
def examples(places):
    return views_of(open_places(places), dataclasses.replace(RUN_V2, start=True))


def logits(model, examples):
    """(heads, queries, cells)."""
    views = [look(model, pair, 0) for pair in examples]
    width = model.config.fusion.dim
    seen = torch.cat([view.fused[..., :width][view.seen] for view in views])
    return model.queries.logits(seen[None])[0]


@pytest.mark.parametrize("among", [False, True])
@torch.no_grad()
def test_scores_begin_around_zero_and_as_far_apart_as_they_should(examples, among):
    queries = dataclasses.replace(RUN_V2.model.queries, among=among)
    model = build_model(dataclasses.replace(RUN_V2.model, queries=queries))
    start_queries(model, examples)
    begun = logits(model, examples)
    assert float(begun.var(-1).mean().sqrt()) == pytest.approx(SHARP, rel=1e-3)
    assert begun.mean(-1).abs().max() < 0.01 * SHARP


@torch.no_grad()
def test_only_the_keys_of_the_queries_change(examples):
    model, before = build_model(RUN_V2.model), build_model(RUN_V2.model).state_dict()
    start_queries(model, examples)
    changed = {name for name, value in model.state_dict().items()
               if not torch.equal(value, before[name])}  # fmt: skip
    assert changed == {"queries.attn.qkv.weight", "queries.attn.qkv.bias"}
    now, width = model.queries.attn.qkv.weight, model.config.fusion.dim
    for part in (slice(width), slice(2 * width, None)):
        assert torch.equal(now[part], before["queries.attn.qkv.weight"][part])


def test_a_model_without_queries_stays_as_it_is(examples):
    model, before = build_model(MODEL), build_model(MODEL).state_dict()
    start_queries(model, examples)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_queries_learn_at_the_rate_of_heads():
    run = begin(RUN_V2, "cpu")
    late = {id(p) for g in run.optimiser.param_groups if g["late"] for p in g["params"]}
    assert not late & {id(p) for p in run.student.model.queries.parameters()}
    assert {id(p) for p in run.student.model.fusion.parameters()} <= late
