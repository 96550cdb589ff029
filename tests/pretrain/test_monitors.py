"""Monitors: what a living and a dead network look like to them."""

import math

import pytest
import torch

from skysense.pretrain.assignment import entropy
from skysense.pretrain.heads import FUSED
from skysense.pretrain.monitors import (
    collapse,
    effective_rank,
    feature_deviation,
    likeness,
    neighbour_overlap,
    phase_share,
)
from skysense.pretrain.terms import Features, Seen


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ALL = torch.ones(5, 8, dtype=torch.bool)


def test_features_everywhere_have_deviation_one_and_a_point_has_none():
    assert float(feature_deviation(random(4000, 16))) == pytest.approx(1, abs=0.01)
    assert float(feature_deviation(torch.full((50, 16), 3.0))) == pytest.approx(0, abs=1e-6)


def test_rank_counts_the_directions_in_use():
    basis = torch.linalg.qr(random(10, 10))[0]
    signs = torch.cat([torch.eye(10), -torch.eye(10)]).double()
    assert float(effective_rank(signs @ basis)) == pytest.approx(10)
    assert float(effective_rank(signs[:, :3] @ basis[:3] + 7.0)) == pytest.approx(3)
    assert float(effective_rank(torch.ones(20, 10))) == pytest.approx(1)


def test_a_chequer_is_all_phase_and_noise_is_none():
    phase = torch.arange(16).repeat(200)
    chequer = random(16, 4, seed=1)[phase]
    noise = random(3200, 4, seed=2)
    assert float(phase_share(chequer, phase)) == pytest.approx(1)
    assert float(phase_share(noise, phase)) < 0.005
    half = chequer / chequer.std(0) + noise / noise.std(0)
    assert float(phase_share(half, phase)) == pytest.approx(0.5, abs=0.03)
    assert math.isnan(float(phase_share(noise[:16], phase[:16])))


def test_entropy_is_one_at_a_tie_and_zero_at_certainty():
    torch.testing.assert_close(entropy(torch.full((2, 7), 1 / 7)), torch.ones(2))
    torch.testing.assert_close(entropy(torch.eye(7)), torch.zeros(7))
    half = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    assert float(entropy(half)) == pytest.approx(math.log(2) / math.log(4))


def test_queries_that_like_the_same_are_alike_and_those_that_like_anything_are_not():
    same = random(20_000, 1, seed=3)
    scales = torch.tensor([1.0, 2.0, -3.0])
    assert float(likeness(same * scales + scales)) == pytest.approx(1)
    assert float(likeness(random(20_000, 3, seed=4))) == pytest.approx(0, abs=0.02)
    half = torch.cat([same, same, random(20_000, 1, seed=5)], 1)
    assert float(likeness(half)) == pytest.approx(1 / 3, abs=0.02)
    assert math.isnan(float(likeness(same)))


def test_views_of_one_place_are_nearest_to_each_other_unless_places_are_alike():
    places = random(5, 1, 16) * 4
    u, v = (places + random(5, 8, 16, seed=s) for s in (1, 2))
    assert float(neighbour_overlap(u, ALL, v, ALL)) == 1
    u, v = random(5, 8, 16, seed=1), random(5, 8, 16, seed=2)
    assert float(neighbour_overlap(u, ALL, v, ALL)) < 0.5
    assert float(neighbour_overlap(u, ALL, v, ALL, torch.zeros(5))) == 1  # one place, five times


def test_what_was_not_seen_is_nobodys_neighbour():
    u, v = random(5, 8, 16), random(5, 8, 16)
    some = ALL.clone()
    some[:, 0] = False
    v[0] = u[0]
    u[:, 0], v[:, 0] = math.nan, math.nan
    expected = neighbour_overlap(u[:, 1:], ALL[:, 1:], v[:, 1:], ALL[:, 1:])
    assert neighbour_overlap(u, some, v, some) == expected


def test_all_signs_are_given_for_what_was_seen():
    def part(*shape):
        on = torch.ones(shape[:-1], dtype=torch.bool)
        return Seen(random(*shape), on, random(*shape[:-2], shape[-1]), on[..., 0])

    s1 = part(4, 2, 6, 8)
    blind = s1._replace(weight=torch.zeros_like(s1.weight))
    u = Features({"s2": part(4, 3, 6, 8), "s1": blind, FUSED: part(4, 6, 8)})
    signs = collapse(u, u)
    names = {f"{k}/{sign}" for k in ("s2", FUSED) for sign in ("deviation", "rank", "overlap")}
    assert signs.keys() == names
    assert signs["s2/overlap"] == 1
