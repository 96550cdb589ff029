"""Several sessions at once: what they share, and what one cannot do to another."""

import subprocess
import sys
import threading

import pytest

from app import encoding
from tests.app import chores
from tests.app.conftest import Visit


@pytest.fixture
def slow(compute, monkeypatch):
    """Encoding that reports half of its work and waits for `go`; counts how often it began."""
    real, go, begun = compute.features, threading.Event(), []

    def features(choices, progress, cancel, centre):
        begun.append(choices)
        progress(1, 2, "1 of 2 windows encoded")
        go.wait(30)
        return real(choices, progress, cancel, centre)

    monkeypatch.setattr(compute, "features", features)
    monkeypatch.setattr(compute, "known_features", lambda choices: None)
    features.go, features.begun = go, begun
    yield features
    go.set()


def until(visit, holds):
    while not holds():
        visit.calls.get(timeout=60)()


def halfway(visit):
    return visit.state.status("encode").share == 0.5


def come(compute, jobs, places):
    return Visit(compute, jobs, places)


def test_a_page_that_is_reloaded_while_its_place_is_encoded_shows_how_far_it_is(
    compute, jobs, small_places, slow
):
    before = come(compute, jobs, small_places)
    before.open().flow.encode()
    until(before, lambda: halfway(before))
    before.flow.close()
    after = come(compute, jobs, small_places)
    after.flow.open_place(small_places[0])
    until(after, lambda: halfway(after))
    slow.go.set()
    after.settle()
    assert after.state.features is not None
    assert len(slow.begun) == 1


def test_two_visitors_of_one_place_wait_for_one_encoding(compute, jobs, small_places, slow):
    one, two = come(compute, jobs, small_places), come(compute, jobs, small_places)
    one.open().flow.encode()
    until(one, lambda: halfway(one))
    two.flow.open_place(small_places[0])
    until(two, lambda: halfway(two))
    one.flow.cancel()
    slow.go.set()
    one.settle()
    two.settle()
    assert "Cancelled" in one.state.status("encode").sentence
    assert two.state.features is not None
    assert len(slow.begun) == 1


def test_another_choice_is_another_encoding(compute, jobs, small_places, slow):
    one, two = come(compute, jobs, small_places), come(compute, jobs, small_places)
    two.state.resolution = 40
    slow.go.set()
    one.open().encode()
    two.open().encode()
    assert [choices.resolution for choices in slow.begun] == [10, 40]


def test_an_encoder_that_crashes_fails_one_step_and_the_next_one_works(
    compute, jobs, small_places, monkeypatch
):
    visit = come(compute, jobs, small_places)
    visit.state.resolution = 40
    visit.open()
    compute.store._values.pop(("features", visit.state.choices), None)
    with monkeypatch.context() as patch:
        patch.setattr(encoding, "embed_stack", chores.crash)
        visit.encode()
    assert "memory runs out" in visit.state.status("encode").sentence
    assert visit.encode().state.status("encode").kind == "ready"


ENCODE_HERE = """
import sys, threading
from app import main
from app.compute import Compute
from app.places import SYNTHETIC, Place
from app.state import Choices
from skysense.region import Region
from skysense.sources import synthetic

region = Region.around(3.0, 50.8, 320, ("2023-01-01", "2023-12-31"))
compute, place = Compute(), Place("a", "a", SYNTHETIC, region)
compute.store.get(("stack", place), lambda: synthetic.scene_for(region, ("s2",)).load())
choices = Choices(place, "spectral", resolution=40)
compute.cost(choices)
compute.features(choices, lambda *_: None, threading.Event())
print("torch" in sys.modules)
"""


def test_the_server_encodes_without_importing_torch_itself():
    said = subprocess.run(
        [sys.executable, "-c", ENCODE_HERE], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "False"
