"""Two processes learn, step after step, what one learns from the same global batch; and how they end."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import learn_together
import pytest
import torch
from safetensors.torch import load_file
from small_run import RUN

from skysense.errors import EncoderError
from skysense.pretrain import command, processes
from skysense.pretrain.journal import read_log
from skysense.weights import load_checkpoint

SCRIPT = Path(learn_together.__file__)
EXACT = {"rtol": 1e-4, "atol": 1e-6}
"""Banks are single precision, and all features read them."""


@pytest.fixture(scope="module")
def alone(places, labelled, tmp_path_factory):
    """What one process gets, and the folder of its run, in which `v2` is one of SkySense V2."""
    out = tmp_path_factory.mktemp("alone")
    torch.set_default_dtype(torch.float64)
    try:
        learn_together.learn(places, out, "ddp")
        learn_together.learn(labelled, out / "v2", "ddp", config=learn_together.SHORT_V2)
        return learn_together.steps_that_see_unequally(places, "ddp"), out
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def both(places, labelled, tmp_path_factory):
    """What each of two processes got, and the folder of their runs."""
    out = tmp_path_factory.mktemp("both")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = subprocess.run(
        [sys.executable, SCRIPT, places, labelled, out, str(port)],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parent)},
    )
    assert started.returncode == 0, started.stderr
    return [torch.load(out / f"{i}.pt") for i in range(2)], out


def state(out):
    return load_file(out / "state.safetensors")


def weights(out):
    return {k: v.float() for k, v in load_checkpoint(out / "weights").model.state_dict().items()}


@pytest.mark.parametrize("run", ["ddp", "fsdp", "v2-ddp", "v2-fsdp"])
def test_a_run_of_two_processes_is_the_run_of_one(alone, both, run):
    """Student, teacher, banks and the moments of AdamW; the one with FSDP was also taken up again."""
    folder = alone[1] / "v2" if run.startswith("v2") else alone[1]
    one, two = state(folder), state(both[1] / run)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, **EXACT, msg=name)


@pytest.mark.parametrize("run", ["ddp", "fsdp"])
def test_the_first_process_alone_writes_log_and_weights(alone, both, run):
    one, two = weights(alone[1]), weights(both[1] / run)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-3, msg=name)
    first, second = read_log(alone[1]), read_log(both[1] / run)
    assert [line["step"] for line in second] == [line["step"] for line in first]
    assert [line["loss"] for line in second] == pytest.approx([line["loss"] for line in first])
    assert not list((both[1] / run).glob("*.part*"))


@pytest.mark.parametrize("wrap", ["ddp", "fsdp"])
def test_processes_may_see_unequally_and_steps_may_lack_sensors(alone, both, wrap):
    """The second process never sees S1, some passes have one sensor only, and gradients accumulate."""
    one = alone[0]
    assert one["sensors"] == [("s2", "s1"), ("s1",), ("s2", "s1"), ("s2",)]
    for each in both[0]:
        two = each[wrap]
        for name in ("loss", "gradient"):
            said = [[line[name] for line in of["lines"]] for of in (one, two)]
            assert said[1] == pytest.approx(said[0], rel=1e-4)
        for name, value in one["weights"].items():
            torch.testing.assert_close(two["weights"][name], value, **EXACT, msg=name)


def test_processes_take_leave_of_one_another(both):
    assert all(each["left"] for each in both[0])


def test_more_processes_than_gpus_are_a_sentence(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "99")
    with pytest.raises(EncoderError, match="process 100 on a machine with"):
        processes.own_device(torch.device("cuda"))
    assert processes.own_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_wish_to_stop_once(number):
    before, said = signal.getsignal(number), []
    with command.stopping(said.append) as wished:
        assert not wished()
        os.kill(os.getpid(), number)
        assert wished()
        assert signal.getsignal(number) is before
    assert len(said) == 1
    assert signal.getsignal(number) is before


def test_ctrl_c_saves_the_state_says_so_and_the_run_goes_on(places, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "pretraining", lambda _: RUN)
    said = []

    def press(sentence):
        said.append(sentence)
        if len(said) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        command.run("small", [places], tmp_path, steps=2, workers=0, report=press)
    assert said[-1] == "Stopped after step 1 of 2; the state is saved."
    command.run("small", [places], tmp_path, steps=2, workers=0, report=said.append)
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2]
    assert (tmp_path / "weights" / "data.json").is_file()
