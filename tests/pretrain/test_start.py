"""Where learning begins: half-white patches, UPHeads that decode pixels, heads that look at seasons.

Of both models, where it is not a matter of fusion, which they share.
"""

import dataclasses

import pytest
import torch
from small_run import RUN

from skysense.batch import Batch, SensorBatch
from skysense.encoders import normalised, token_validity
from skysense.errors import EncoderError
from skysense.model.config import SkySenseV2Config
from skysense.model.config_parts import BackboneConfig
from skysense.pretrain.start import start
from skysense.pretrain.start_tokens import BRANCH
from skysense.sensors import SENSORS
from skysense.weights import build_model

V2 = SkySenseV2Config(
    name="small-v2",
    backbone=BackboneConfig(
        dim=24, depths=(1, 2, 2, 1), heads=(1, 2, 2, 4), window=4, drop_path=0.0, moe_blocks=2,
        experts=2,
    ),
    fusion=dataclasses.replace(RUN.model.fusion, in_dim=192),
)  # fmt: skip
BOTH = pytest.mark.parametrize("config", [RUN.model, V2], ids=["V1", "V2"])


def views(seed=0, key="s2", valid=True, noise=1.0, bands=None):
    """Two dates of four views of 16 cells: noise, each date brighter or darker by more than that.

    The noise of every band is another, or of all the same with `bands=1`.
    """
    generator = torch.Generator().manual_seed(seed)
    sensor = SENSORS[key]
    noise = noise * torch.randn(4, 2, bands or len(sensor.names), 16, 16, generator=generator)
    noise = noise.expand(-1, -1, len(sensor.names), -1, -1)
    noise = noise + 2 + torch.randn(4, 2, 1, 1, 1, generator=generator)
    mean, std = (torch.tensor(each)[:, None, None] for each in (sensor.mean, sensor.std))
    seen = torch.full((4, 2, 16, 16), valid)
    days = torch.randint(1, 366, (4, 2), generator=generator)
    given = SensorBatch(noise * std + mean, seen, days)
    return Batch({key: given}, torch.zeros(4, 2))


def started(examples, seed=0, config=RUN.model):
    model = build_model(config, seed=0)
    start(model, examples, torch.Generator().manual_seed(seed))
    return model


@torch.no_grad()
def apart(model, batch):
    """Variance within images of tokens along their middle direction over that along their main one."""
    pixels, usable = normalised(batch, "s2")
    tokens = model.encode_dates("s2", pixels, token_validity("s2", usable)).flatten(0, 1).flatten(2)
    inside = tokens - tokens.mean(2, keepdim=True)
    variance = [
        torch.linalg.eigvalsh(torch.cov(x.movedim(1, 0).flatten(1))) for x in (inside, tokens)
    ]
    return float(variance[0].median() / variance[1].max())


def test_what_tells_tokens_of_an_image_apart_is_less_faint_than_at_random():
    examples = [views(seed, noise=0.1) for seed in range(8)]
    white, random = (apart(m, examples[0]) for m in (started(examples), started([])))
    assert white > 4 * random


@torch.no_grad()
def explained(model, batch):
    """How much of the cells' pixels one linear map of the UPHead's output tells, 0..1."""
    pixels, usable = normalised(batch, "s2")
    tokens = model.encode_dates("s2", pixels, token_validity("s2", usable))
    x = model.head_s2(tokens.flatten(0, 1)).movedim(1, -1).flatten(0, 2).double()
    y = pixels.flatten(0, 1).movedim(1, -1).flatten(0, 2).double()
    x, y = x - x.mean(0), y - y.mean(0)
    found = torch.linalg.lstsq(x, y).solution
    return float(1 - (y - x @ found).square().sum() / y.square().sum())


def test_upheads_begin_with_the_pixel_of_each_cell_also_of_views_they_were_not_fitted_to():
    examples = [views(seed) for seed in range(8)]
    decoded, random = started(examples), build_model(RUN.model, seed=0)
    assert explained(decoded, views(99)) > 3 * explained(random, views(99))


@torch.no_grad()
def test_tokens_of_v2_hold_as_much_of_pixels_as_they_have_channels():
    examples = [views(seed, bands=1) for seed in range(8)]
    assert explained(started(examples, config=V2), views(99, bands=1)) > 0.97


@torch.no_grad()
def chequer(model, batch):
    """Share of the variance of an UPHead's output that the place in the token makes, 0..1."""
    pixels, usable = normalised(batch, "s2")
    tokens = model.encode_dates("s2", pixels, token_validity("s2", usable))
    fine = model.head_s2(tokens.flatten(0, 1))
    cells = fine.unflatten(3, (-1, 4)).unflatten(2, (-1, 4)).mean((0, 2, 4))  # o 4 4
    return float(cells.flatten(1).var(1).sum() / fine.movedim(1, 0).flatten(1).var(1).sum())


@BOTH
def test_the_place_in_the_token_counts_for_little_in_the_beginning(config):
    decoded = started([views(s) for s in range(8)], config=config)
    random = build_model(config, seed=0)
    assert chequer(decoded, views(99)) < 0.2 * chequer(random, views(99))


@torch.no_grad()
def test_each_head_of_fusion_looks_at_a_season_of_its_own():
    model = started([views(seed) for seed in range(12)])
    attention = model.fusion.layers[0].attn
    days = torch.arange(1, 366)
    tokens = model.head_s2.conv.bias.view(-1, 16)[:, 5] + model.calendar(days)
    x = torch.cat([model.fusion.cls_token[0], model.fusion.input(tokens)])
    q, k, _ = attention.qkv(model.fusion.layers[0].ln1(x)).chunk(3, 1)
    heads, width = attention.heads, q.shape[1] // attention.heads
    q, k = (each.unflatten(1, (heads, -1)) for each in (q, k))
    looked = (torch.einsum("hd,thd->ht", q[0], k[1:]) / width**0.5).softmax(1)  # heads days
    turn = 2 * torch.pi * days / 365.25
    middle = torch.atan2(looked @ turn.sin(), looked @ turn.cos())  # heads
    wanted = 2 * torch.pi * torch.arange(heads) / heads
    assert torch.cos(middle - wanted).min() > 0.8


@torch.no_grad()
def test_heads_of_the_first_layers_look_at_sentinel_2_and_of_the_third_at_sentinel_1():
    fusion = dataclasses.replace(RUN.model.fusion, dim=32, layers=3, calendar="all")
    config = dataclasses.replace(RUN.model, fusion=fusion)
    model = started([views(s, key) for s in range(12) for key in ("s2", "s1")], config=config)
    day = torch.tensor([100])
    seen = [
        getattr(model, f"head_{key}").conv.bias.view(-1, 16)[:, 5] + model.calendar(day)
        for key in ("s2", "s1")
    ]
    x = torch.cat([model.fusion.cls_token[0], model.fusion.input(torch.cat(seen))])
    for layer, first in zip(model.fusion.layers, (True, True, False), strict=True):
        q, k, _ = layer.attn.qkv(layer.ln1(x)).unflatten(1, (3, layer.attn.heads, -1)).unbind(1)
        scores = torch.einsum("hd,thd->th", q[0], k[1:])
        assert bool(((scores[0] > scores[1]) == first).all())


def test_the_calendar_turns_once_a_year_and_can_be_heard():
    table = started([]).calendar.table[0].detach()
    new_year, next_day, midsummer = table[364], table[0], table[181]
    assert float((new_year - next_day).norm()) < 0.2 * float((new_year - midsummer).norm())
    assert 0.3 < float(table.std()) < 1


def steepest(model):
    """The largest gradient of its high-resolution encoder, of an image half of mean colour."""
    images = torch.randn(1, 3, 128, 192, generator=torch.Generator().manual_seed(0))
    images[..., :96] = 0
    model.requires_grad_(True).maps_of("hr", images).square().mean().backward()
    return max(float(p.grad.norm()) for p in model.hr.parameters())


def test_patches_of_mean_colour_begin_with_gradients_of_usual_size():
    assert steepest(started([])) < 100
    assert not steepest(build_model(RUN.model, seed=0)) < 1e6  # where it would be needless


@torch.no_grad()
def test_high_resolution_of_v1_keeps_its_random_weights_but_for_the_biases_of_patches():
    given, random = started([]).hr.state_dict(), build_model(RUN.model, seed=0).hr.state_dict()
    assert {k for k in given if not torch.equal(given[k], random[k])} == {"patch.bias"}


@BOTH
def test_a_sensor_that_was_not_seen_keeps_its_random_uphead(config):
    given = started([views(seed) for seed in range(8)], config=config)
    random = build_model(config, seed=0)
    assert torch.equal(given.head_s1.conv.weight, random.head_s1.conv.weight)
    assert not torch.equal(given.head_s2.conv.weight, random.head_s2.conv.weight)


@BOTH
def test_where_no_date_is_known_there_are_no_seasons_and_all_weights_are_numbers(config):
    examples = [views(seed) for seed in range(4)]
    for each in examples:
        each.sensors["s2"].doy[:] = 0
    assert all(bool(p.isfinite().all()) for p in started(examples, config=config).parameters())


def test_views_in_which_nothing_is_usable_are_refused():
    with pytest.raises(EncoderError, match="Nothing of sensor s2 is usable"):
        started([views(valid=False)])


@BOTH
def test_everything_random_follows_the_generator(config):
    examples = [views(seed) for seed in range(4)]
    one, again, other = (started(examples, seed, config).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert not torch.equal(one["calendar.table"], other["calendar.table"])


@torch.no_grad()
def merge_of(config=V2):
    return started([], config=config).backbone.stages[1].downsample


@torch.no_grad()
def test_a_kept_token_of_v2_is_turned_and_loses_nothing():
    merge = merge_of()
    whole = merge.reduction.weight.unflatten(1, (-1, 4)).sum(-1)  # 2c c
    torch.testing.assert_close(whole.T @ whole, 2 * torch.eye(whole.shape[1]), atol=1e-5, rtol=0)
    assert float(whole.sum(0).abs().max()) < 1e-5  # nor does the mean, which a norm takes away


@torch.no_grad()
def test_merged_tokens_of_v2_give_their_mean_and_what_tells_them_apart():
    merge, c = merge_of(), V2.backbone.dim
    values = torch.linalg.svdvals(merge.reduction.weight)
    torch.testing.assert_close(values[: 2 * c - 1], torch.full((2 * c - 1,), 0.5**0.5))
    one = torch.randn(1, 1, 1, c)
    four = one.expand(1, 2, 2, c)
    torch.testing.assert_close(merge(four), merge.keep(one))


@torch.no_grad()
def test_branches_of_v2_are_faint_also_those_of_experts():
    given, random = started([], config=V2).backbone, build_model(V2, seed=0).backbone
    block, layer = given.stages[1].blocks[1], given.stages[3].layers[0]
    assert torch.equal(block.norm1.weight, torch.full_like(block.norm1.weight, BRANCH))
    pairs = zip(layer.mlp.experts, random.stages[3].layers[0].mlp.experts, strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one.fc2.weight, BRANCH * other.fc2.weight)


@torch.no_grad()
def test_tokens_of_v2_begin_as_their_own_place():
    examples = [views(seed) for seed in range(8)]
    model, batch = started(examples, config=V2), views(99)
    pixels, usable = normalised(batch, "s2")
    valid = token_validity("s2", usable)
    plain = model.encode_dates("s2", pixels, valid)
    pixels[..., 12:, 12:] += 3  # the token at the far corner
    change = (model.encode_dates("s2", pixels, valid) - plain).square().sum((0, 1, 2))
    assert float(change[:3, :3].sum()) < 0.02 * float(change[3, 3])


def test_without_adaptive_merging_tokens_of_v2_hold_their_pixels_too():
    tokens = dataclasses.replace(V2.tokens_s2, merge=(True, True, True), repeat=8)
    config = dataclasses.replace(V2, tokens_s2=tokens)
    examples = [views(seed, bands=1) for seed in range(2)]
    decoded, random = started(examples, config=config), build_model(config, seed=0)
    given = views(99, bands=1)
    assert explained(decoded, given) > 0.9 > explained(random, given)
