"""Pages without a browser: they are made, and nothing of them stays."""

import gc
import weakref
from types import SimpleNamespace

import pytest
from bokeh.document import Document
from panel.io.state import set_curdoc, state

from app.leaflet import detach, live_widgets, widgets_in
from app.main import Site
from app.overlays import Overlays
from app.page import Page
from app.panes.mapview import Web


@pytest.fixture
def site(compute, small_places):
    made = Site(Web(Overlays()), small_places, compute, encoder="spectral")
    yield made
    made.jobs.stop()


def leave(document):
    """What the server does once a session has expired."""
    context = SimpleNamespace(_document=document, id=str(id(document)))
    for callback in document.session_destroyed_callbacks:
        callback(context)


def come_and_go(site):
    document = Document()
    with set_curdoc(document):
        view = site.session()
        view.server_doc(document)
    assert live_widgets() > 0
    leave(document)
    return weakref.ref(document)


def test_sessions_leave_no_widgets_and_no_pictures(site):
    for _ in range(5):
        come_and_go(site)
    assert live_widgets() == 0
    assert len(site.web.overlays) == 0


def test_a_page_of_a_known_place_arrives_with_its_picture(site, visit):
    visit.open().encode()
    document = Document()
    with set_curdoc(document):
        site.session()
    assert len(site.web.overlays) == 2
    leave(document)


def test_detaching_finds_every_widget_that_a_map_refers_to(site, visit):
    page = Page(visit.flow, site.web)
    known = set(map(type, widgets_in(page.map.widget)))
    assert {each.__name__ for each in known} >= {"Map", "TileLayer", "ImageOverlay", "DrawControl"}
    page.close()
    assert live_widgets() == 0
    assert detach() == 0
    gc.collect()


def test_a_widget_that_the_browser_exchanged_is_let_go_too(site, visit):
    page = Page(visit.flow, site.web)
    page.map.widget.style = page.map.widget.default_style  # what a browser does to set the cursor
    page.close()
    assert live_widgets() == 0


def test_a_page_does_not_follow_that_some_other_visitor_keeps_the_server_busy(site, visit):
    page = Page(visit.flow, site.web)
    state._add_busy_event("of somebody else")
    assert state.busy
    assert not page.view.busy
    state._remove_busy_event("of somebody else")
    page.close()
