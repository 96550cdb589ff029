"""Where learning begins: half-white patches, UPHeads that decode pixels, heads that look at seasons."""

import dataclasses

import pytest
import torch
from small_run import RUN

from skysense.batch import Batch, SensorBatch
from skysense.encoders import normalised, token_validity
from skysense.errors import EncoderError
from skysense.pretrain.start import start
from skysense.sensors import SENSORS
from skysense.weights import build_model


def views(seed=0, key="s2", valid=True, noise=1.0):
    """Two dates of four views of 16 cells: noise, each date brighter or darker by more than that."""
    generator = torch.Generator().manual_seed(seed)
    sensor = SENSORS[key]
    noise = noise * torch.randn(4, 2, len(sensor.names), 16, 16, generator=generator)
    noise += 2 + torch.randn(4, 2, 1, 1, 1, generator=generator)
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
def chequer(model, batch):
    """Share of the variance of an UPHead's output that the place in the token makes, 0..1."""
    pixels, usable = normalised(batch, "s2")
    tokens = model.encode_dates("s2", pixels, token_validity("s2", usable))
    fine = model.head_s2(tokens.flatten(0, 1))
    cells = fine.unflatten(3, (-1, 4)).unflatten(2, (-1, 4)).mean((0, 2, 4))  # o 4 4
    return float(cells.flatten(1).var(1).sum() / fine.movedim(1, 0).flatten(1).var(1).sum())


def test_the_place_in_the_token_counts_for_little_in_the_beginning():
    decoded, random = started([views(s) for s in range(8)]), build_model(RUN.model, seed=0)
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


def test_a_sensor_that_was_not_seen_keeps_its_random_uphead():
    given = started([views(seed) for seed in range(8)])
    random = build_model(RUN.model, seed=0)
    assert torch.equal(given.head_s1.conv.weight, random.head_s1.conv.weight)
    assert not torch.equal(given.head_s2.conv.weight, random.head_s2.conv.weight)


def test_where_no_date_is_known_there_are_no_seasons_and_all_weights_are_numbers():
    examples = [views(seed) for seed in range(4)]
    for each in examples:
        each.sensors["s2"].doy[:] = 0
    assert all(bool(p.isfinite().all()) for p in started(examples).parameters())


def test_views_in_which_nothing_is_usable_are_refused():
    with pytest.raises(EncoderError, match="Nothing of sensor s2 is usable"):
        started([views(valid=False)])


def test_everything_random_follows_the_generator():
    examples = [views(seed) for seed in range(4)]
    one, again, other = (started(examples, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert not torch.equal(one["calendar.table"], other["calendar.table"])
