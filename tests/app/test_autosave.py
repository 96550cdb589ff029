"""Sessions that outlive their page: kept under a name in the address, and found again."""

import os
import time
from contextlib import contextmanager
from types import SimpleNamespace

import panel as pn
import pytest
from bokeh.document import Document
from panel.io.state import set_curdoc

import skysense as sky
from app.arrival import arrival, grant
from app.autosave import MOST_FILES, TOKEN, Autosave, Shelf
from skysense.errors import SessionError, SkySenseError
from tests.app.conftest import Visit


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path / "sessions")


@pytest.fixture
def empty():
    return sky.Session(places=(sky.SessionPlace("nowhere"),))


@contextmanager
def address(query):
    """As if a page had been asked for with this query."""
    said = {}
    for key, value in query:
        said.setdefault(key, []).append(value)
    document = Document()
    request = SimpleNamespace(arguments=said)
    document._session_context = lambda: SimpleNamespace(request=request, id="x")
    with set_curdoc(document):
        assert pn.state.session_args == said
        yield


def test_names_are_new_and_match_their_own_rule(shelf):
    names = {shelf.new() for _ in range(100)}
    assert len(names) == 100
    assert all(TOKEN.fullmatch(name) for name in names)


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "a" * 15, "a" * 17, "a/b" * 5, "aaaaaaaaaaaaaaa\n", "ä" * 16]
)
def test_names_that_are_none_find_no_file(shelf, name):
    with pytest.raises(SessionError):
        shelf.open(name, [])


def test_a_session_comes_back_as_it_was_kept(shelf, empty):
    token = shelf.new()
    shelf.save(token, empty)
    assert shelf.open(token, []) == empty
    assert (shelf.folder.stat().st_mode & 0o777) == 0o700


def test_a_link_in_the_folder_is_not_followed(shelf, empty, tmp_path):
    elsewhere = sky.save_session(empty, tmp_path / "other.json")
    token = shelf.new()
    shelf.folder.mkdir()
    shelf.path(token).symlink_to(elsewhere)
    with pytest.raises(SessionError):
        shelf.open(token, [])


def test_old_files_and_those_beyond_the_number_go_and_others_stay(shelf, empty):
    tokens = [shelf.new() for _ in range(MOST_FILES + 3)]
    shelf.folder.mkdir()
    for age, token in enumerate(tokens):
        shelf.path(token).write_text("{}")
        os.utime(shelf.path(token), (time.time() - age, time.time() - age))
    os.utime(shelf.path(tokens[0]), (1e9, 1e9))
    (shelf.folder / "notes.json").write_text("mine")
    os.utime(shelf.folder / "notes.json", (1e9, 1e9))
    shelf.sweep()
    left = {path.name for path in shelf.folder.iterdir()}
    assert "notes.json" in left
    assert f"{tokens[0]}.json" not in left
    assert f"{tokens[1]}.json" in left
    assert len(left) == MOST_FILES + 1


def test_sweeping_a_folder_that_is_not_there_is_no_error(shelf):
    shelf.sweep()


def test_a_change_is_written_soon_and_the_same_name_opens_the_same_screen(
    encoded, shelf, compute, jobs, small_places
):
    token = shelf.new()
    saving = Autosave(encoded.flow, shelf, token, pause=0.01)
    encoded.flow.show_layer("groups")
    for _ in range(2000):
        while not encoded.calls.empty():
            encoded.calls.get()()
        if shelf.path(token).exists():
            break
        time.sleep(0.02)
    saving.close()
    back = Visit(compute, jobs, small_places)
    with address([("session", token.encode())]):
        wish, why = arrival(back.flow, shelf)
    assert why == ""
    grant(back.flow, wish, small_places[0])
    back.settle()
    assert back.flow.keep.session() == encoded.flow.keep.session()


@pytest.mark.parametrize(
    "query",
    [
        [("session", b"aaaaaaaaaaaaaaaa")],
        [("session", b"\xff\xfe")],
        [("session", b"../../secret")],
        [("session", b"a"), ("session", b"b")],
        [("lon", b"nan"), ("lat", b"1"), ("size", b"1"), ("time", b"2023")],
        [("lon", b"1"), ("lon", b"2")],
        [("place", b"\xff")],
        [("place", b"\x00")],
        [("s2", b"9" * 5000)],
        [("layer", b"<script>")],
        [("time", b"1e999"), ("bounds", b"0,0,1e308,1")],
    ],
)
def test_a_hostile_address_gives_a_sentence(visit, shelf, query):
    with address(query):
        wish, why = arrival(visit.flow, shelf)
    assert wish is None
    assert len(why.split()) > 4


def test_an_address_that_cannot_be_granted_shows_the_first_place_and_why(visit, small_places):
    with address([("encoder", b"prithvi")]):
        wish, _ = arrival(visit.flow, None)
    grant(visit.flow, wish, small_places[0])
    assert visit.state.place == small_places[0]
    assert "no encoder" in visit.state.notice


def test_other_keys_of_an_address_mean_nothing(visit):
    with address([("type", b"large"), ("utm_source", b"mail")]):
        assert arrival(visit.flow, None) == (None, "")


def test_nothing_that_is_not_ours_is_raised_by_a_broken_file(shelf):
    token = shelf.new()
    shelf.folder.mkdir()
    for content in (b"", b"{", b"[]", b"\xff", b'{"skysense_session": 2}', b"[" * 100_000):
        shelf.path(token).write_bytes(content)
        with pytest.raises(SkySenseError):
            shelf.open(token, [])
