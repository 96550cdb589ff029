"""Prototypes: a balanced assignment, a mean that moves, and what a bank says about a place."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import ot
import psutil
import pytest
import together
import torch
from mini import MINI, make_inputs, make_model
from torch.nn.functional import normalize

from skysense import analysis
from skysense.errors import EncoderError
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


def cosines(n=300, k=20, seed=0):
    return (
        normalize(random(n, 8, seed=seed), dim=1) @ normalize(random(k, 8, seed=seed + 1), dim=1).T
    )


@pytest.mark.parametrize("iterations", [1, 3, 1000])
def test_assignment_is_that_of_pot_after_any_number_of_iterations(iterations):
    scores = cosines()
    n, k = scores.shape
    plan = ot.sinkhorn(
        np.full(n, 1 / n), np.full(k, 1 / k), -scores.numpy(), reg=0.05, numItermax=iterations,
        stopThr=0, warn=False,
    )  # fmt: skip
    np.testing.assert_allclose(sinkhorn(scores, 0.05, iterations) / n, plan, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("epsilon", [0.05, 1e-3])  # the second only logarithms can hold
@pytest.mark.parametrize("iterations", [1, 3, 50])
def test_both_halves_of_the_package_assign_alike(epsilon, iterations):
    scores = cosines()
    ours = sinkhorn(scores, epsilon, iterations)
    theirs = analysis.sinkhorn(scores.numpy(), epsilon, iterations)
    np.testing.assert_allclose(ours / len(scores), theirs, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logarithms_and_scaled_exponentials_assign_alike(dtype):
    scores = cosines().to(dtype)
    in_logarithms = sinkhorn(scores, 0.05, 3, total=lambda x: x)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(sinkhorn(scores, 0.05, 3), in_logarithms, rtol=tolerance, atol=0)


def test_assignment_of_no_features_is_empty():
    assert sinkhorn(torch.zeros(0, 4), 0.05, 3).shape == (0, 4)


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
    return exact(Prototypes(CONFIG, 4))


def exact(banks):
    banks.bank, banks.usage = banks.bank.double(), banks.usage.double()
    return banks.double()


def as_map(rows):
    """Features (n, d) as a map (1, d, n, 1)."""
    return rows.T[None, :, :, None]


HERE = torch.tensor([0])


def test_cells_start_untrained(banks):
    assert banks(torch.tensor([0, 1, -1]))[1].tolist() == [False, False, False]


def test_update_touches_only_the_cells_at_hand(banks):
    banks.update(random(2, 4, 5, 5), torch.tensor([1, -1]))
    assert banks.trained.tolist() == [False, True]
    assert banks.bank[0].abs().max() == 0
    assert banks.bank[1].abs().max() > 0


def test_window_that_saw_nothing_trains_no_cell(banks):
    done = banks.update(torch.full((1, 4, 5, 5), torch.nan).double(), HERE)
    assert banks.trained.tolist() == [False, False]
    assert done == (0, 0, 0)


def clusters(centres, each=20, noise=0.01):
    return centres.repeat(each, 1) + noise * random(each * len(centres), centres.shape[1])


def test_repeated_updates_find_clusters(banks):
    centres = torch.eye(4, dtype=torch.float64)[:3]
    for _ in range(200):
        banks.update(as_map(clusters(centres)), HERE)
    similarity = normalize(banks.bank[0], dim=1) @ centres.T
    assert (similarity.max(0).values > 0.99).all()


def test_first_prototypes_of_a_cell_are_features_far_apart(banks):
    centres = torch.eye(4, dtype=torch.float64)[:3]
    done = banks.update(as_map(clusters(centres)), HERE)
    similarity = normalize(banks.bank[0], dim=1) @ centres.T
    assert (similarity.max(0).values > 0.99).all()
    assert done == (1, 60, 0)


def trained_on(centres):
    banks = exact(Prototypes(CONFIG, 4))
    banks.update(as_map(clusters(centres)), HERE)
    return banks


def test_unused_prototype_is_placed_where_features_are_explained_worst_and_counted():
    eye = torch.eye(4, dtype=torch.float64)
    banks = trained_on(eye[:3])
    stray = int((normalize(banks.bank[0], dim=1) @ eye[2]).argmax())
    banks.usage[0, stray] = 0.0  # nothing was near it for long
    done = banks.update(as_map(clusters(eye[[0, 1, 3]])), HERE)
    assert done.reseeded == 1
    assert normalize(banks.bank[0, stray], dim=0) @ eye[3] > 0.99


def test_unused_prototype_stays_where_all_features_are_explained():
    eye = torch.eye(4, dtype=torch.float64)
    banks = trained_on(eye[:3])
    stray = int((normalize(banks.bank[0], dim=1) @ eye[2]).argmax())
    banks.usage[0, stray] = 0.0
    assert banks.update(as_map(clusters(eye[:2], noise=1e-4)), HERE).reseeded == 0


def test_twin_is_unused():
    eye = torch.eye(4, dtype=torch.float64)
    banks = trained_on(eye[:3])
    banks.bank[0, 2] = banks.bank[0, 1]
    assert banks.update(as_map(clusters(eye[:3])), HERE).reseeded == 1
    assert (normalize(banks.bank[0], dim=1) @ eye[:3].T).max(0).values.min() > 0.99


def test_usage_is_the_share_of_the_features_nearest_to_each_prototype():
    eye = torch.eye(4, dtype=torch.float64)
    banks = trained_on(eye[:3])
    order = (normalize(banks.bank[0], dim=1) @ eye[:3].T).argmax(0)
    before = banks.usage[0, order]
    banks.update(as_map(clusters(eye[[0, 0, 0, 1, 2]])), HERE)
    share = torch.tensor([0.6, 0.2, 0.2]).double()
    torch.testing.assert_close(banks.usage[0, order], 0.9 * before + 0.1 * share)


def test_banks_are_saved_but_get_no_gradient(banks):
    assert set(banks.state_dict()) == {"bank", "trained", "usage"}
    assert not list(banks.parameters())


def test_banks_come_back_from_their_state(banks):
    banks.update(random(1, 4, 5, 5), HERE)
    again = exact(Prototypes(CONFIG, 4))
    again.load_state_dict(banks.state_dict())
    assert all(torch.equal(again.state_dict()[k], v) for k, v in banks.state_dict().items())
    assert again.bank.data_ptr() != banks.bank.data_ptr()


def test_state_without_a_bank_or_with_another_is_refused(banks):
    state = banks.state_dict()
    with pytest.raises(RuntimeError, match=r"Missing key.*usage"):
        banks.load_state_dict({k: v for k, v in state.items() if k != "usage"})
    with pytest.raises(RuntimeError, match=r"bank is \(1, 3, 4\) instead of \(2, 3, 4\)"):
        banks.load_state_dict({**state, "bank": torch.zeros(1, 3, 4)})


def test_bank_keeps_its_type_whatever_becomes_of_the_model():
    banks = Prototypes(dataclasses.replace(CONFIG, dim=3), 4)
    before = banks.bank
    banks.to(torch.bfloat16)
    assert banks.bank is before
    assert banks.query.weight.dtype == torch.bfloat16


def test_bank_in_half_precision_is_updated_in_single(banks):
    banks.bank = banks.bank.half()
    banks.update(random(1, 4, 5, 5).bfloat16(), HERE)
    assert banks.bank.dtype == torch.float32


def test_teacher_sees_what_its_student_learns(banks):
    teacher = exact(Prototypes(CONFIG, 4))
    teacher.share(banks)
    banks.update(random(1, 4, 5, 5), HERE)
    assert torch.equal(teacher(HERE)[0], banks(HERE)[0])
    assert teacher.trained.tolist() == [True, False]


def narrow(cells=3):
    prototypes = PrototypeConfig(context=True, cells=cells, count=5, dim=6)
    return dataclasses.replace(MINI, prototypes=prototypes)


def test_narrow_bank_is_read_through_the_map_to_its_width():
    model, inputs = make_model(narrow()), make_inputs()
    model.prototypes.bank.normal_()
    model.prototypes.trained[:] = True
    out = model(inputs, cell=torch.tensor([0, 2]))
    fused, context = out[:, :32], out[:, 32:]
    assert out.shape[1] == model.config.dim == 38
    queries = model.prototypes.queries(fused.nan_to_num())
    expected = read_out(queries, model.prototypes.bank[[0, 2]].double())
    expected = expected.masked_fill(fused.isnan()[:, :1], torch.nan)
    torch.testing.assert_close(context, expected, equal_nan=True)


def test_places_that_saw_nothing_leave_the_gradient_of_the_map_finite():
    model, inputs = make_model(narrow()), make_inputs()
    model.prototypes.bank.normal_()
    model.prototypes.trained[:] = True
    out = model(inputs, cell=torch.tensor([0, 2]))
    out[out.isfinite()].sum().backward()
    gradient = model.prototypes.query.weight.grad
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_narrow_bank_follows_the_features_in_its_own_width():
    banks = exact(Prototypes(dataclasses.replace(CONFIG, dim=3), 4))
    banks.update(random(1, 4, 5, 5), HERE)
    assert banks.bank.shape == (2, 3, 3)
    assert banks.trained.tolist() == [True, False]


PAPER = PrototypeConfig(context=True, cells=4096, count=100, dim=512)
MEGABYTE = 2**20


def test_bank_of_paper_size_in_a_file_is_read_and_written_one_cell_at_a_time(tmp_path):
    process = psutil.Process()
    before = process.memory_info().rss
    banks = Prototypes(PAPER, 8)
    banks.map_to(tmp_path / "bank.npy")
    banks.update(torch.randn(1, 8, 20, 20), torch.tensor([4000]))
    bank, trained = banks(torch.tensor([4000, 7]))
    assert trained.tolist() == [True, False]
    assert process.memory_info().rss - before < 60 * MEGABYTE
    file = tmp_path / "bank.npy"
    assert file.stat().st_size > 800 * MEGABYTE
    assert file.stat().st_blocks * 512 < 2 * MEGABYTE
    assert np.array_equal(np.load(file, mmap_mode="r")[4000], bank[0])


def test_bank_moved_into_a_file_is_the_same_bank(tmp_path, banks):
    banks.update(random(1, 4, 5, 5), HERE)
    before = banks.bank.float()
    banks.map_to(tmp_path / "bank.npy")
    assert torch.equal(banks.bank, before)
    with pytest.raises(EncoderError, match="exists already"):
        banks.map_to(tmp_path / "bank.npy")


def test_two_processes_move_a_bank_as_one_does(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    batches = []
    for step in range(4):
        centres = random(5, 8, seed=step)[:, :, None, None]
        features = centres[[0, 1, 2, 3, 4, 0]] + 0.3 * random(6, 8, 4, 4, seed=10 + step)
        features[2, :, 1] = torch.nan
        # cell 0 is in both halves of the batch, cell 2 in the first only, cell 3 in the second
        batches.append((features, torch.tensor([0, 2, 0, 3, 0, -1])))
    torch.save(batches, tmp_path / "batches.pt")
    script = Path(together.__file__)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[2])}
    with subprocess.Popen([sys.executable, script, tmp_path, "1"], env=environment) as other:
        first = together.with_another(tmp_path, 0)
    assert other.returncode == 0
    second = torch.load(tmp_path / "1.pt")
    alone = together.followed(batches, 0, 1, None)
    assert alone.state["trained"].tolist() == [True, False, True, True]
    for rank in (first, together.Outcome(*second)):
        assert rank.done == alone.done
        for key, value in alone.state.items():
            torch.testing.assert_close(rank.state[key], value, rtol=1e-10, atol=1e-12)
    assert torch.equal(first.state["bank"], second[0]["bank"])
    torch.testing.assert_close(torch.cat([first.plan, second[2]]), alone.plan, rtol=1e-10, atol=0)
