"""Where the map looks: at the place, whatever size the browser gives it, until somebody moves it."""

import pytest

from app.overlays import Overlays
from app.panes.mapview import MapView, Web, fitting


@pytest.fixture
def seen(visit):
    made = MapView(visit.flow, Web(Overlays()))
    made.when_alive(lambda: None)
    visit.open()
    yield made
    made.close()


def resize(view, wide, tall):
    """What a browser reports when the layout gives the map another size."""
    view.widget.set_trait("pixel_bounds", ((7.0, 5.0), (7.0 + wide, 5.0 + tall)))


def place_of(view):
    west, south, east, north = view.state.place.region.bounds
    return (south, west), (north, east)


def test_bounds_fit_the_map_with_their_middle_in_the_middle():
    (lat, lon), zoom = fitting(((50.0, 3.0), (51.0, 4.0)), 840, 450)
    assert lon == pytest.approx(3.5)
    assert 50.4 < lat < 50.6
    assert zoom == pytest.approx(8.25, abs=0.5)


def test_a_place_is_fitted_again_when_the_map_gets_another_size(seen):
    for size in ((884, 200), (1600, 900)):
        resize(seen, *size)
        middle, zoom = fitting(place_of(seen), *size)
        assert seen.widget.zoom == zoom
        assert tuple(seen.widget.center) == pytest.approx(middle)


def test_a_map_that_somebody_moved_stays_when_it_gets_another_size(seen):
    lat, lon = seen.widget.center
    seen.widget.center = (lat + 0.01, lon)
    before = seen.widget.center, seen.widget.zoom
    resize(seen, 884, 200)
    assert (seen.widget.center, seen.widget.zoom) == before


def test_the_browser_hears_of_the_zoom_before_the_middle_which_it_rounds_to_a_pixel(
    seen, visit, monkeypatch
):
    told = []
    seen.widget.observe(lambda change: told.append(change["name"]), ["center", "zoom"])
    seen.widget.zoom = 2.0
    told.clear()
    visit.open(1)
    assert told == ["zoom", "center"]
