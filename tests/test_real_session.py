"""A session of a real place: saved, opened with the folders of its files, played again."""

import dataclasses
from pathlib import Path

import pytest
from sentences import refused

from skysense.dates import Dates
from skysense.errors import SessionError
from skysense.pack import open_pack, save_pack
from skysense.replaying import replay
from skysense.session import Session, SessionChoices, SessionPlace
from skysense.session_file import open_session, save_session

RECIPES = Path(__file__).parent / "recipes"


@pytest.fixture(scope="module")
def played(shared):
    place = SessionPlace("New York", str(RECIPES / "us-newyork-hro.toml"), scene="tile_1003")
    choices = SessionChoices("spectral", "none", dates=Dates(hr=1), resolution=40)
    session = Session(places=(place,), choices=choices)
    made = replay(session)
    return session.with_features(made.features), made


def test_a_place_of_a_recipe_is_played_again_with_the_same_features(played, tmp_path):
    session, made = played
    path = save_session(session, tmp_path / "s.json")
    assert "folders=" in refused(SessionError, open_session, path)
    again = replay(open_session(path, folders=[RECIPES]))
    assert (again.features["New York"].values == made.features["New York"].values).all()


def test_a_real_place_is_packed_with_the_terms_of_its_images(played, tmp_path):
    session, made = played
    pack = open_pack(save_pack(session, tmp_path / "pack", made.stacks, made.features))
    assert pack.session.places[0].features == session.places[0].features
    licence = made.stacks["New York"].attrs["licence"]
    assert licence in (tmp_path / "pack/README.txt").read_text()
    assert pack.session.places[0].scene is None
    again = replay(dataclasses.replace(pack.session))
    assert again.features.keys() == {"New York"}
