"""Two processes learn what one would from the same global batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_processes

from skysense.pretrain.parallel import gathered, rank, total, world

SCRIPT = Path(two_processes.__file__)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each of two processes got."""
    folder = tmp_path_factory.mktemp("processes")
    outs = [folder / f"{i}.pt" for i in range(2)]
    started = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(i), "2", folder / "meeting", out],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for i, out in enumerate(outs)
    ]
    try:
        for process in started:
            assert process.wait(timeout=120) == 0, process.stderr.read()
    finally:
        for process in started:
            process.kill()
            process.stderr.close()
    return [torch.load(out) for out in outs]


@pytest.fixture(scope="module")
def alone():
    """What one process gets."""
    return two_processes.run(0, 1)


def test_one_process_is_left_as_it_is():
    x = torch.randn(3, requires_grad=True)
    assert total(x) is x
    assert gathered(x) is x
    assert (rank(), world()) == (0, 1)


def test_sums_and_concatenations_go_over_all_processes(both):
    for here in both:
        assert here["total"].tolist() == [3.0]
        assert here["gathered"].tolist() == [0, 10, 1, 11]
        assert here["flags"].tolist() == [True, True, False, True]


def test_gradients_come_back_from_all_processes(both):
    # loss: sum over ranks r of (r + 1) (|x0 + x1|^2 + (x0, x1) . (0, 1, ..., 5))
    together = torch.arange(3.0) * 2 + 1
    for r, here in enumerate(both):
        expected = 3 * 2 * together + 3 * torch.arange(6.0)[3 * r : 3 * r + 3]
        torch.testing.assert_close(here["primitive"], expected)


def test_two_processes_have_the_loss_of_one(both, alone):
    exact = [k for k in alone["log"] if k.count("/") < 2 or k.endswith("count")]
    assert any(k.startswith("align") for k in exact)
    for here in both:
        assert here["log"].keys() == alone["log"].keys()
        for name in exact:
            torch.testing.assert_close(here["log"][name], alone["log"][name], msg=name)


def test_two_processes_have_the_gradients_of_one(both, alone):
    for name, grad in alone["grads"].items():
        assert grad.any(), name
        for here in both:
            torch.testing.assert_close(here["grads"][name], grad, msg=name)
