"""Sessions: what is kept comes back, and what a stranger wrote is read with care."""

import dataclasses
import json
import math
import os
import string
from contextlib import suppress

import numpy as np
import pytest
import xarray as xr
from blobs import blobs, fields
from hypothesis import given
from hypothesis import strategies as st
from sentences import ODD, refused
from some_session import FIELD, REGION, bank, some_session

from skysense.dates import Dates
from skysense.errors import SessionError, SkySenseError
from skysense.export import open_features, save_features
from skysense.hashes import feature_hash
from skysense.link import KEYS, SharedState, share_text, shared
from skysense.region import Region
from skysense.session import (
    Session,
    SessionChoices,
    SessionClass,
    SessionPlace,
    SessionView,
)
from skysense.session_file import (
    MOST_BYTES,
    open_session,
    parsed,
    read_session,
    save_session,
    session_text,
)

GOOD = json.loads(session_text(some_session()))


def written(folder, **changes):
    """The path of a good session's file with some keys changed."""
    path = folder / "s.json"
    path.write_text(json.dumps({**GOOD, **changes}))
    return path


def with_place(folder, **changes):
    return written(folder, places=[{**GOOD["places"][0], **changes}, GOOD["places"][1]])


# --- round trips ----------------------------------------------------------------------------


def test_a_session_comes_back_as_it_was(tmp_path):
    session = some_session()
    again = open_session(save_session(session, tmp_path / "s.json"))
    assert again == session
    xr.testing.assert_identical(again.bank, session.bank)
    assert again.bank.values.tobytes() == session.bank.values.tobytes()


def test_the_empty_session_comes_back(tmp_path):
    assert open_session(save_session(Session(), tmp_path / "s.json")) == Session()


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_every_float32_of_a_bank_comes_back_bit_for_bit(numbers):
    row = np.array([numbers], np.float32)
    coords = {"prototype": [0], "feature": np.arange(len(numbers))}
    session = Session(bank=xr.DataArray(row, coords, ("prototype", "feature")))
    again = read_session(parsed(session_text(session).encode()))
    assert again.bank.values.tobytes() == row.tobytes()


def test_the_file_is_for_people(tmp_path):
    text = save_session(some_session(), tmp_path / "s.json").read_text()
    content = json.loads(text)
    assert list(content) == sorted(content)
    assert "maize" in text
    assert "π" in text
    assert max(map(len, text.splitlines())) < 200
    assert any(line.strip() == '"zoom": 14.5' for line in text.splitlines())


def test_saving_twice_writes_the_same_bytes(tmp_path):
    first = save_session(some_session(), tmp_path / "a.json").read_bytes()
    again = save_session(open_session(tmp_path / "a.json"), tmp_path / "b.json").read_bytes()
    assert first == again


def test_files_beside_the_session_move_with_it(tmp_path):
    (tmp_path / "one").mkdir()
    place = tmp_path / "one/place.toml"
    place.write_text("")
    session = Session(places=(SessionPlace("a", str(place)),))
    path = save_session(session, tmp_path / "one/s.json")
    assert str(tmp_path) not in path.read_text()
    assert open_session(path) == session
    (tmp_path / "one").rename(tmp_path / "two")
    assert open_session(tmp_path / "two/s.json").places[0].source == str(
        tmp_path / "two/place.toml"
    )


def test_a_session_is_not_overwritten_unless_asked(tmp_path):
    path = save_session(some_session(), tmp_path / "s.json")
    assert "overwrite=True" in refused(SessionError, save_session, Session(), path)
    save_session(Session(), path, overwrite=True)
    assert open_session(path) == Session()


def test_a_failed_save_keeps_the_old_session(tmp_path, monkeypatch):
    path = save_session(some_session(), tmp_path / "s.json")

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.write_text", fail)
    assert "disk full" in refused(SessionError, save_session, Session(), path, True)
    assert open_session(path) == some_session()
    assert [each.name for each in tmp_path.iterdir()] == ["s.json"]


# --- hashes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def features():
    array = blobs(fields(80), dim=4)
    array[:, :3, :5] = np.nan
    return array


def test_features_have_the_same_hash_from_memory_and_from_every_file(features, tmp_path):
    known = feature_hash(features)
    for name in ("a.zarr", "a.tif"):
        assert feature_hash(open_features(save_features(features, tmp_path / name))) == known


def test_the_hash_notices_one_bit_and_another_place(features):
    known = feature_hash(features)
    other = features.copy(deep=True)
    other[0, 40, 40] = np.nextafter(other[0, 40, 40].values, np.float32(9))
    moved = features.assign_coords(x=features.x + 10)
    assert (
        len({known, feature_hash(other), feature_hash(moved), feature_hash(features[:, 1:])}) == 4
    )


def test_the_hash_does_not_look_at_attributes_or_at_the_kind_of_nan(features):
    other = features.copy(deep=True).assign_attrs(notes=["more"])
    bits = other.values.view(np.uint32)
    bits[np.isnan(other.values)] = 0x7FC12345
    assert feature_hash(other) == feature_hash(features)


def test_a_bank_has_a_hash_too():
    assert feature_hash(bank()) == feature_hash(bank())
    assert feature_hash(bank()) != feature_hash(bank(seed=1))


def test_choices_are_read_from_features(features):
    made = features.assign_attrs(
        resolution=10, device="cpu", dtype="float32", threads=2, batch_size=4
    )
    choices = SessionChoices.of(made.assign_attrs(encoder="spectral"), Dates(s2=3), memory_gb=9)
    assert choices == SessionChoices(
        "spectral", "random(seed=0)", "", Dates(s2=3), 10, "cpu", "float32", 2, 4, 9
    )
    assert "do not say their resolution, device" in refused(
        SessionError, SessionChoices.of, features
    )


def test_hashes_are_put_to_their_places(features):
    session = some_session().with_features({"a coast": features})
    assert session.place("a coast").features == feature_hash(features)
    assert session.place("fens") == some_session().place("fens")
    assert "no place 'x'" in refused(SessionError, session.with_features, {"x": features})


# --- what a session cannot be ---------------------------------------------------------------


numbered = {"ids": [str(i) for i in range(len(ODD))]}
WRONG = {
    SessionPlace: {"name": (), "source": (), "region": (None,), "scene": (None,),
                   "sensors": (None, []), "features": ("",)},
    SessionChoices: {"encoder": (), "weights": ("",), "checkpoint": ("",), "dates": (),
                     "device": (), "dtype": (), "resolution": (), "threads": (5,),
                     "batch_size": (None, 5), "memory_gb": (5, 2.5)},
    SessionClass: {"name": (), "colour": (), "places": ([],)},
    SessionView: {"place": ("",), "top": (), "opacity": (), "axes": (), "groups": (5,),
                  "prototypes": (5,), "basis_of": ("",), "centre": (None,),
                  "zoom": (None, 5, 2.5), "tab": (), "like": ([],), "unlike": ([],),
                  "threshold": (None, -1)},
    Session: {"places": ([],), "choices": (), "labels": ([],), "prototypes": ([], ["x"]),
              "bank": (None,), "view": (), "version": ("",)},
}  # fmt: skip
NAMED = {SessionPlace: {"name": "a"}, SessionClass: {"name": "a"}}


@pytest.mark.parametrize("odd", ODD, **numbered)
@pytest.mark.parametrize("kind", WRONG, ids=lambda kind: kind.__name__)
def test_every_part_of_a_session_refuses_what_it_cannot_be(kind, odd):
    for name, fine in WRONG[kind].items():
        if isinstance(odd, str) and odd.isalpha() and "\0" not in odd:
            continue  # a word may be a name, a layer, a version
        if any(type(odd) is type(each) and odd == each for each in fine):
            continue
        if kind is SessionPlace and name == "sensors" and odd in ([], (1,)) and odd == []:
            continue
        refused(SkySenseError, kind, **{**NAMED.get(kind, {}), name: odd})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"places": (SessionPlace("a"), SessionPlace("a"))}, "Two places are called 'a'"),
        ({"labels": (SessionClass("a"), SessionClass("a"))}, "Two classes are called 'a'"),
        ({"prototypes": ("a", "b")}, "2 names for 5 prototypes"),
        ({"view": SessionView(place="x")}, "names a place 'x'"),
        ({"bank": bank() * np.nan}, "not finite"),
    ],
)
def test_parts_of_a_session_fit_together(changes, words):
    assert words in refused(SkySenseError, some_session, **changes)


@pytest.mark.parametrize("letter", ["\n", "\r", "\0", "\x7f", "\ud800", "\u202e", "\u2028"])
def test_names_hold_nothing_that_cannot_be_seen(letter):
    assert "control character" in refused(SessionError, SessionPlace, f"a{letter}b")


# --- files of strangers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not the JSON"),
        (b"\xff\xfe\xff", "not the JSON"),
        (b"[" * 1_000_000, "not the JSON"),
        (b'{"a":' * 100_000, "not the JSON"),
        (b"9" * 10_000, "not the JSON"),
        (b"[1]", "not an object"),
        (b"null", "not an object"),
        (b"{}", "no 'skysense_session'"),
        (b'{"skysense_session": 2}', "reads 1"),
        (b'{"skysense_session": true}', "reads 1"),
        (b'{"skysense_session": "1"}', "reads 1"),
        (b'{"skysense_session": 1, "skysense_session": 1}', "stands twice"),
        (b'{"skysense_session": 1, "view": {"opacity": NaN}}', "NaN"),
        (b'{"skysense_session": 1, "view": {"opacity": 1e999}}', "opacity=inf"),
        (b'{"skysense_session": 1, "view": {"opacity": -Infinity}}', "-Infinity"),
        (b'{"skysense_session": 1, "macro": 1}', "unknown key 'macro'"),
        (b'{"skysense_session": 1, "places": [{}]}', "place 1 has no 'name'"),
        (b'{"skysense_session": 1, "places": [{"name": "a", "region": "x"}]}', "not GeoJSON"),
        (b'{"skysense_session": 1, "places": {}}', "not a list"),
        (b'{"skysense_session": 1, "bank": {"values": [[1, 2], [1]]}}', "row 2"),
        (b'{"skysense_session": 1, "bank": {"values": [["1"]]}}', "row 1"),
        (b'{"skysense_session": 1, "bank": {"values": [[1e39]]}}', "row 1"),
        (b'{"skysense_session": 1, "bank": {"values": [[1]], "attrs": {"a": {}}}}', "'a'"),
        (b'{"skysense_session": 1, "choices": {"dates": {"s2": -1}}}', "s2=-1"),
        (b'{"skysense_session": 1, "places": [{"name": "\\ud800"}]}', "control character"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_session_is_refused_with_what_is_wrong(tmp_path, content, words):
    path = tmp_path / "s.json"
    path.write_bytes(content)
    assert words in refused(SkySenseError, open_session, path)


def test_a_bomb_of_coordinates_is_refused_before_it_is_drawn(tmp_path):
    many = [{"name": str(i), "places": [[1, 2]] * 20_000} for i in range(60)]
    path = written(tmp_path, labels=many)
    assert "more than 200,000 numbers" in refused(SessionError, open_session, path)
    crowd = SessionClass("a", places=((1, 2),) * 20_000)
    classes = [dataclasses.replace(crowd, name=str(i)) for i in range(6)]
    assert "more than 200,000 numbers" in refused(SessionError, some_session, labels=classes)


def test_a_gigabyte_is_refused_without_being_read(tmp_path):
    path = tmp_path / "s.json"
    with path.open("wb") as file:
        file.truncate(10**9)
    assert "over 20 MB" in refused(SessionError, open_session, path)


def test_a_session_too_large_to_be_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("skysense.session_file.MOST_BYTES", 500)
    assert MOST_BYTES > 500
    assert "more than" in refused(SessionError, save_session, some_session(), tmp_path / "s.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "source",
    ["/etc/passwd", "../other/place.toml", "a/../../place.toml", "~/place.toml", "link.toml",
     "..\\place.toml", "/vsicurl/http://a.b/c.tif", "round/place.toml",
     "folder/place.toml"],
)  # fmt: skip
def test_a_source_outside_the_folder_is_refused(tmp_path, source):
    home = tmp_path / "home"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/place.toml").write_text("")
    home.mkdir()
    (home / "link.toml").symlink_to(tmp_path / "other/place.toml")
    (home / "folder").symlink_to(tmp_path / "other")
    (home / "round").symlink_to(home / "round")
    path = with_place(home, source=source)
    assert "folders=" in refused(SessionError, open_session, path)


def test_a_source_in_a_folder_that_the_caller_names_is_opened(tmp_path):
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    (other / "place.toml").write_text("")
    (home / "link.toml").symlink_to(other / "place.toml")
    for source in (str(other / "place.toml"), "link.toml"):
        opened = open_session(with_place(home, source=source), folders=[other])
        assert opened.places[0].source == str(other / "place.toml")
    assert "lists" in refused(SessionError, open_session, home / "s.json", str(other))


def test_weights_outside_the_folder_are_refused(tmp_path):
    path = written(tmp_path, choices={**GOOD["choices"], "checkpoint": "/weights"})
    assert "folders=" in refused(SessionError, open_session, path)
    assert open_session(path, folders=["/weights"]).choices.checkpoint == "/weights"


@pytest.mark.parametrize(
    "address",
    ["https://example.org/stac", "http://169.254.169.254/latest", "file:///etc/passwd",
     "https://planetarycomputer.microsoft.com.example.org/api/stac/v1"],
)  # fmt: skip
def test_a_catalogue_that_nobody_vouched_for_is_refused(tmp_path, address):
    path = with_place(tmp_path, source=address)
    assert "which is not one of" in refused(SessionError, open_session, path)


def test_built_in_catalogues_and_named_ones_are_opened(tmp_path):
    for source in ("https://earth-search.aws.element84.com/v1", "planetary-computer"):
        assert open_session(with_place(tmp_path, source=source)).places[0].source == source
    path = with_place(tmp_path, source="https://example.org/stac")
    opened = open_session(path, catalogues=["https://example.org/stac"])
    assert opened.places[0].source == "https://example.org/stac"


def test_what_is_no_file_is_no_session(tmp_path):
    assert "no session" in refused(SessionError, open_session, tmp_path / "none.json")
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path, tmp_path / "pipe.json"):
        assert "no session" in refused(SessionError, open_session, path)


def tried(call, *arguments):
    """What a call gives; None if it refuses with an error of ours, any other fails the test."""
    with suppress(SkySenseError):
        return call(*arguments)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def paths(value, here=()):
    """Where every part of a JSON value is."""
    yield here
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, each in parts:
        yield from paths(each, (*here, key))


PLACES_OF = [p for p in paths(GOOD) if p]


def put(value, path, new):
    """The value with another part at a path."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


def test_the_good_session_is_good():
    assert read_session(GOOD) == some_session()


@given(anything)
def test_anything_is_a_session_or_refused(value):
    tried(read_session, value)


@given(st.sampled_from(PLACES_OF), anything | st.sampled_from([GOOD[k] for k in GOOD]))
def test_a_session_with_any_part_replaced_is_a_session_or_refused(path, value):
    session = tried(read_session, put(GOOD, path, value))
    if session is not None:
        assert read_session(parsed(session_text(session).encode())) == session


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_refused(content):
    tried(parsed, content)


@given(st.integers(0, len(json.dumps(GOOD)) - 1), st.binary(min_size=1, max_size=3))
def test_a_damaged_file_is_a_session_or_refused(at, content):
    text = json.dumps(GOOD).encode()
    tried(lambda: read_session(parsed(text[:at] + content + text[at + len(content) :])))


# --- GeoJSON of strangers -------------------------------------------------------------------


@given(anything)
def test_any_geojson_is_a_region_or_refused(value):
    for given_ in (value, {"type": "Polygon", "coordinates": value}, {
        "type": "Feature", "geometry": REGION.to_geojson()["geometry"], "properties": value,
    }):  # fmt: skip
        tried(Region.from_geojson, given_, "2023")


FEATURE = Region(FIELD.bounds, "2023", "a", FIELD).to_geojson()


@given(st.sampled_from([p for p in paths(FEATURE) if p]), anything)
def test_geojson_with_any_part_replaced_is_a_region_or_refused(path, value):
    changed = put(FEATURE, path, value)
    for given_ in (changed, json.dumps(changed)):
        tried(Region.from_geojson, given_)


# --- links ----------------------------------------------------------------------------------


def test_a_link_says_place_encoder_dates_and_layer():
    state = shared(share_text(some_session()))
    assert state == SharedState(
        "fens", dataclasses.replace(REGION, name="fens"), "synthetic", "spectral", 10,
        Dates(s2=3, first="2023-03-01"), "classes",
    )  # fmt: skip
    assert state.region.bounds == REGION.bounds


def test_a_place_of_a_file_travels_by_name_alone():
    place = SessionPlace("my field", "/mine/secret.toml", REGION)
    text = share_text(Session(places=(place,)))
    assert "secret" not in text
    assert shared(text).place == "my field"
    assert shared(text).region is None


def test_a_link_can_be_typed():
    state = shared("?lon=3.0239&lat=50.8160&size=640&time=2023&encoder=spectral&s2=4")
    assert state.region == dataclasses.replace(REGION, name="")
    assert state.dates == Dates(s2=4)
    assert state.source == "synthetic"
    assert shared("") == SharedState()


def test_names_survive_the_address(tmp_path):
    name = "a & b=c?/ü%20<script>+"
    assert shared(share_text(Session(places=(SessionPlace(name),)))).place == name


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("lon=3&time=2023", "needs lon, lat and size"),
        ("lon=3&lat=50&size=640", "no time"),
        ("lon=3&lat=95&size=640&time=2023", "swap"),
        ("lon=nan&lat=50&size=640&time=2023", "not a number"),
        ("lon=1e400&lat=50&size=640&time=2023", "lon="),
        ("lon=٣&lat=50&size=640&time=2023", "not a number"),
        ("bounds=1,2,3&time=2023", "not bounds"),
        ("bounds=1,2,1.1,2.1&lon=3&time=2023", "one of them is enough"),
        ("bounds=1,2,1.1,2.1&time=later", "not a period"),
        ("source=/etc/passwd", "not one of synthetic"),
        ("source=https://example.org", "not one of synthetic"),
        ("encoder=../../x", "not a name"),
        ("layer=<script>", "not a name"),
        ("resolution=11", "not one of"),
        ("s2=-1", "not a number of dates"),
        ("first=x", "not an ISO day"),
        ("clear=2", "clear=2"),
        ("place=a%00b", "control character"),
        ("place=%ff", "cannot be read"),
        ("place=a&place=b", "twice"),
        ("placee=a", "unknown 'placee'"),
        ("x" * 3000, "up to 2,000"),
        ("&".join(f"a{i}=1" for i in range(40)), "cannot be read"),
        ("justtext", "cannot be read"),
    ],
)  # fmt: skip
def test_a_link_that_cannot_be_is_refused_with_what_is_wrong(query, words):
    assert words in refused(SkySenseError, shared, query)


words_of_links = st.text(string.printable, max_size=20) | st.text(max_size=8) | st.floats().map(str)


@given(st.dictionaries(st.sampled_from(KEYS), words_of_links, max_size=6))
def test_any_link_is_a_state_or_refused(said):
    from urllib.parse import urlencode

    for query in (urlencode(said, errors="replace"), "&".join(f"{k}={v}" for k, v in said.items())):
        state = tried(shared, query)
        assert state is None or state.region is None or all(map(math.isfinite, state.region.bounds))
