"""Prototypes: a balanced assignment, a mean that moves, and what a bank says about a place."""

import dataclasses

import pytest
import torch

from skysense.model.config import PrototypeConfig
from skysense.model.prototypes import Prototypes, read_out, sinkhorn, updated_bank

CONFIG = PrototypeConfig(context=True, cells=2, count=3, epsilon=0.05, iterations=3, momentum=0.9)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_assignment_spends_every_feature_once():
    s = sinkhorn(random(40, 5), 0.05, 3)
    assert (s >= 0).all()
    torch.testing.assert_close(s.sum(1), torch.ones(40, dtype=torch.float64))


def test_assignment_is_balanced_after_many_iterations():
    s = sinkhorn(random(40, 5), 0.5, 200)
    torch.testing.assert_close(s.sum(0), torch.full((5,), 8.0, dtype=torch.float64))


def test_assignment_survives_extreme_scores():
    s = sinkhorn(torch.tensor([[1e4, -1e4], [-1e4, 1e4]]), 1e-3, 3)
    torch.testing.assert_close(s, torch.eye(2))


def test_bank_moves_towards_the_mean_of_what_is_assigned_to_it():
    bank = torch.eye(3, dtype=torch.float64)
    features = torch.cat([2.0 * bank, 4.0 * bank])  # two along each prototype, mean 3
    moved = updated_bank(bank, features, dataclasses.replace(CONFIG, epsilon=1e-3))
    torch.testing.assert_close(moved, (0.9 + 0.1 * 3.0) * bank)


def test_bank_ignores_places_that_saw_nothing():
    bank, features = random(3, 4), random(10, 4, seed=1)
    gaps = torch.cat([features, torch.full((5, 4), torch.nan, dtype=torch.float64)])
    assert torch.equal(updated_bank(bank, gaps, CONFIG), updated_bank(bank, features, CONFIG))
    assert torch.equal(updated_bank(bank, gaps[10:], CONFIG), bank)


def test_read_out_at_a_sharp_feature_is_its_prototype():
    bank = torch.eye(4, dtype=torch.float64)[None]
    features = 1000.0 * torch.eye(4, dtype=torch.float64)[:, 2].view(1, 4, 1, 1)
    torch.testing.assert_close(read_out(features, bank)[0, :, 0, 0], bank[0, 2])


def test_read_out_of_equal_prototypes_is_that_prototype():
    bank = random(1, 1, 6).expand(2, 5, 6)
    context = read_out(random(2, 6, 3, 3, seed=2), bank)
    torch.testing.assert_close(context, bank[:, 0, :, None, None].expand(2, 6, 3, 3))


@pytest.fixture
def banks():
    return Prototypes(CONFIG, 4).double()


def test_cells_start_untrained(banks):
    assert banks(torch.tensor([0, 1, -1]))[1].tolist() == [False, False, False]


def test_update_touches_only_the_cells_at_hand(banks):
    banks.update(random(2, 4, 5, 5), torch.tensor([1, -1]))
    assert banks.trained.tolist() == [False, True]
    assert banks.bank[0].abs().max() == 0
    assert banks.bank[1].abs().max() > 0


def test_window_that_saw_nothing_trains_no_cell(banks):
    banks.update(torch.full((1, 4, 5, 5), torch.nan).double(), torch.tensor([0]))
    assert banks.trained.tolist() == [False, False]


def test_repeated_updates_find_clusters(banks):
    centres = torch.eye(4, dtype=torch.float64)[:3]
    features = centres.repeat(20, 1) + 0.01 * random(60, 4)
    tokens = features.T.reshape(1, 4, 6, 10)
    for _ in range(200):
        banks.update(tokens, torch.tensor([0]))
    similarity = torch.nn.functional.normalize(banks.bank[0], dim=1) @ centres.T
    assert (similarity.max(0).values > 0.99).all()


def test_banks_are_saved_but_get_no_gradient(banks):
    assert set(banks.state_dict()) == {"bank", "trained"}
    assert not list(banks.parameters())
