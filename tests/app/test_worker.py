import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import xarray as xr

from app import encoding
from app.worker import NICENESS, Worker
from skysense.dates import Dates, choose_dates
from skysense.embedding import embed, forecast
from skysense.encoders import load_encoder
from skysense.errors import AnalysisError, Cancelled, EncoderError
from skysense.sources import load_stack
from tests.app import chores


@pytest.fixture(scope="module")
def worker():
    made = Worker(patience=0.3)
    yield made
    made.close()


def begun(worker, task, **options):
    """A call of a task in a thread of its own, once the task has begun."""
    started, heard = threading.Event(), []

    def call():
        try:
            heard.append(worker.call(task, progress=lambda *_: started.set(), **options))
        except Exception as error:  # noqa: BLE001 -- looked at by the test
            heard.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert started.wait(60)

    def outcome():
        thread.join(60)
        return heard[0]

    return outcome


def test_tasks_are_done_in_a_process_that_steps_back_behind_the_server(worker):
    pid, niceness, _ = worker.call(chores.who)
    assert pid == worker.pid != os.getpid()
    assert niceness == min(19, os.nice(0) + NICENESS)


def test_a_process_that_has_loaded_no_encoder_has_no_torch(worker):
    assert worker.call(chores.who)[2] is False


def test_large_arrays_come_back_whole_may_be_written_to_and_leave_no_file(worker):
    values = worker.call(chores.squares, 1_000_000)
    np.testing.assert_array_equal(values, np.arange(1_000_000, dtype="f8") ** 2)
    values[0] = 7
    assert list(worker._child._folder.iterdir()) == []


def test_progress_and_what_there_is_so_far_come_before_the_result(worker):
    told = []
    result = worker.call(
        chores.half_and_whole,
        progress=lambda *words: told.append(words),
        partial=lambda value: told.append(value.sum()),
    )
    assert (told, result) == ([(1, 2, "1 of 2"), 3.0], "whole")


def test_what_a_library_prints_does_not_disturb_the_answers(worker):
    assert worker.call(chores.say) == "said"


@pytest.mark.parametrize(
    ("task", "kind", "words"),
    [
        (chores.refuse, AnalysisError, "too little to cluster"),
        (chores.divide, RuntimeError, "ZeroDivisionError"),
        (chores.run_out_of_memory, MemoryError, "MemoryError"),
        (chores.leave, RuntimeError, "SystemExit"),
        (chores.unsendable, RuntimeError, "pickle"),
    ],
)
def test_errors_of_a_task_are_raised_where_it_was_asked_for(worker, task, kind, words):
    before = worker.pid
    with pytest.raises(kind, match=words):
        worker.call(task)
    assert worker.pid == before


def test_an_error_that_is_our_fault_tells_where_it_happened(worker):
    with pytest.raises(RuntimeError) as caught:
        worker.call(chores.divide)
    assert "chores.py" in caught.value.__notes__[0]


def test_a_task_that_is_cancelled_stops_and_the_process_stays(worker):
    before, cancel = worker.pid, threading.Event()
    outcome = begun(worker, chores.until_cancelled, cancel=cancel)
    cancel.set()
    assert isinstance(outcome(), Cancelled)
    assert worker.pid == before


def test_a_task_that_does_not_stop_is_ended_by_force(worker):
    cancel = threading.Event()
    outcome = begun(worker, chores.deaf, cancel=cancel)
    before = worker.pid
    cancel.set()
    assert isinstance(outcome(), Cancelled)
    assert worker.call(chores.who)[0] != before


def test_a_task_that_says_nothing_for_long_is_ended_with_a_sentence():
    impatient = Worker(silence=0.3)
    with pytest.raises(EncoderError, match="no progress"):
        impatient.call(chores.deaf)
    impatient.close()


def test_a_small_task_does_not_wait_for_a_heavy_one(worker):
    cancel = threading.Event()
    outcome = begun(worker, chores.until_cancelled, cancel=cancel)
    assert worker.call(chores.squares, 3, beside=True).tolist() == [0, 1, 4]
    cancel.set()
    outcome()


def test_a_small_task_outlives_the_process_that_is_ended_for_a_heavy_one(worker):
    cancel = threading.Event()
    heavy = begun(worker, chores.deaf, cancel=cancel)
    small, first = begun(worker, chores.small, beside=True), worker.pid
    cancel.set()
    assert isinstance(heavy(), Cancelled)
    assert small() == "done"
    assert worker.pid != first


def test_a_process_that_is_killed_fails_its_task_with_a_sentence_and_the_next_one_works(worker):
    outcome = begun(worker, chores.deaf)
    before = worker.pid
    os.kill(before, signal.SIGKILL)
    error = outcome()
    assert isinstance(error, EncoderError)
    assert "memory runs out" in str(error)
    assert worker.call(chores.who)[0] != before


def test_a_task_that_crashes_its_process_fails_alone(worker):
    with pytest.raises(EncoderError, match="signal 9"):
        worker.call(chores.crash)
    assert worker.call(chores.say) == "said"


def test_a_closed_worker_leaves_no_process_and_no_folder():
    closed = Worker()
    pid, folder = closed.call(chores.who)[0], closed._child._folder
    closed.close()
    assert not psutil.pid_exists(pid)
    assert not folder.exists()


def test_when_the_server_is_killed_its_worker_ends_and_leaves_no_folder():
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.app.orphan"], stdout=subprocess.PIPE, text=True
    )
    pid, folder = server.stdout.readline().split()
    child = psutil.Process(int(pid))
    server.kill()
    server.wait()
    gone, _ = psutil.wait_procs([child], timeout=30)
    ended = gone or child.status() == psutil.STATUS_ZOMBIE
    assert ended
    assert not Path(folder).exists()
    server.stdout.close()


@pytest.fixture(autouse=True)
def as_many_threads_as_a_new_process():
    """Other tests may have changed how many threads this one has."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))


@pytest.mark.parametrize("name", ["spectral", "skysense-tiny-untrained"])
def test_features_are_exactly_those_of_embed_in_this_process(worker, compute, small_places, name):
    stack = compute.stack(small_places[0])
    options = {"resolution": 20, "dates": Dates(s2=3, s1=2), "memory_gb": 8.0}
    here = embed(stack, load_encoder(name), **options)
    there = worker.call(encoding.embed_stack, stack, name, None, **options)
    xr.testing.assert_identical(here, there)


def test_images_that_are_not_read_yet_are_read_by_the_worker(worker, small_places):
    stack = load_stack(small_places[0].region, ("s2",), "synthetic")
    options = {"resolution": 40, "dates": Dates(s2=2), "memory_gb": 8.0}
    here = embed(stack, load_encoder("spectral"), **options)
    there = worker.call(encoding.embed_stack, stack, "spectral", None, **options)
    xr.testing.assert_identical(here, there)


def test_the_cost_of_an_outline_is_that_of_its_stack(compute, small_places):
    stack = choose_dates(compute.stack(small_places[0]), Dates())
    lazy = choose_dates(load_stack(small_places[0].region, ("s2", "s1"), "synthetic"), Dates())
    encoder = load_encoder("skysense-tiny-untrained")
    for each in (stack, lazy):
        outline = encoding.from_outline(encoding.outline_of(each))
        assert forecast(outline, encoder, resolution=20) == forecast(each, encoder, resolution=20)
