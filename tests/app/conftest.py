import queue
from pathlib import Path

import pytest

from app.compute import Compute
from app.flow import Flow
from app.jobs import JobManager
from app.places import SYNTHETIC, Place
from app.state import State
from skysense.region import Region
from skysense.sources import synthetic
from tests.app.chromium import CHROMIUM, FLAGS


class Visit:
    """A session without a browser: its state, its verbs, and its loop, turned by hand."""

    def __init__(self, compute, jobs, places):
        self.calls = queue.Queue()
        self.state = State(places=list(places), encoder="spectral", groups=4, prototypes=8)
        self.flow = Flow(self.state, compute, jobs, self.calls.put, f"session {id(self)}")

    def settle(self):
        """Turn the loop until nothing is being computed."""
        while any(each.kind == "working" for each in self.state.statuses.values()):
            self.calls.get(timeout=240)()
        while not self.calls.empty():
            self.calls.get()()

    def open(self, number=0):
        self.flow.open_place(self.state.places[number])
        self.settle()
        return self

    def encode(self):
        self.flow.encode()
        self.settle()
        return self


def small_place(number, lon):
    region = Region.around(lon, 50.8, 320, ("2023-01-01", "2023-12-31"), f"Small {number}")
    return Place(f"small{number}", region.name, SYNTHETIC, region)


@pytest.fixture(scope="session")
def small_places():
    return [small_place(1, 3.0), small_place(2, 9.7)]


@pytest.fixture(scope="session")
def compute(small_places):
    """Steps whose two small places are there already, without high resolution, for speed."""
    made = Compute()
    for place in small_places:
        stack = synthetic.scene_for(place.region, ("s2", "s1")).load()
        made.store.get(("stack", place), lambda stack=stack: stack)
    yield made
    made.close()


@pytest.fixture
def jobs():
    manager = JobManager()
    yield manager
    manager.stop()


@pytest.fixture
def visit(compute, jobs, small_places):
    return Visit(compute, jobs, small_places)


@pytest.fixture
def encoded(visit):
    return visit.open().encode()


@pytest.fixture(scope="session")
def small():
    """Address of the dashboard with one small place and our recipes, under a URL prefix."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from tests.app.browsing import served

    here = Path(__file__).parent
    with served(str(here / "serve_small.py"), "/tools/sky", str(here.parent / "recipes")) as server:
        yield server.address()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A Chromium for the tests of one file; longer, its event loop would be in the way of others.

    Its profile is that of the files before: a page opens a third sooner where its scripts have been
    compiled before.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    profile = tmp_path_factory.getbasetemp() / "chromium"
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=FLAGS
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A page the size of a small laptop; at the end nothing may have gone outside."""
    from tests.app.browsing import watched

    made = watched(chromium.new_page())
    made.set_viewport_size({"width": 1366, "height": 768})
    yield made
    assert made.outside == []
    made.close()


@pytest.fixture
def visitor(page, small):
    """Somebody who has opened the small place; at the end the page may not have complained."""
    from tests.app.browsing import Visitor

    yield Visitor(page, small).arrive()
    assert page.title() == "SkySense Explorer"
    assert page.complaints == []
