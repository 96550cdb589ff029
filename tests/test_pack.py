"""Class packs: one folder that opens anywhere, and is looked at before it is."""

import dataclasses
import json
import os
import shutil

import geopandas as gpd
import numpy as np
import pytest
from blobs import blobs, fields
from sentences import ODD, refused
from some_session import bank
from typer.testing import CliRunner

from skysense.cli import app, for_shell
from skysense.dates import Dates
from skysense.embedding import embed
from skysense.encoders import load_encoder
from skysense.errors import SessionError, SkySenseError
from skysense.hashes import feature_hash
from skysense.notebook import save_notebook
from skysense.pack import open_pack, save_pack
from skysense.replaying import replay
from skysense.session import Session, SessionChoices, SessionClass, SessionPlace, SessionView
from skysense.session_file import save_session
from skysense.sources import synthetic


@pytest.fixture(scope="module")
def made():
    """A session of one place with its stack and features."""
    stack, _ = synthetic.scene(size=320, sensors=("s2", "s1"), time="2023-05")
    features = embed(stack, load_encoder("spectral", device="cpu"), dates=Dates(s2=4))
    session = Session(
        places=(SessionPlace("fens / 1"),),
        choices=SessionChoices.of(features, Dates(s2=4)),
        labels=(SessionClass("maize", places=((3.016, 50.842),)),),
        bank=bank(),
        prototypes=("water", "b", "c", "d", "e"),
    )
    return session, stack, features


@pytest.fixture(scope="module")
def stored(made, tmp_path_factory):
    session, stack, features = made
    folder = tmp_path_factory.mktemp("packs") / "class"
    return save_pack(session, folder, {"fens / 1": stack}, {"fens / 1": features})


@pytest.fixture
def folder(stored, tmp_path):
    """A copy of its own to damage."""
    return shutil.copytree(stored, tmp_path / "copy")


def edit(folder, **changes):
    path = folder / "session.json"
    content = json.loads(path.read_text())
    content["places"][0] |= changes
    path.write_text(json.dumps(content))


def test_a_pack_opens_elsewhere_with_all_that_was_in_it(made, stored, tmp_path):
    session, stack, features = made
    moved = tmp_path / "somewhere else"
    shutil.copytree(stored, moved)
    pack = open_pack(moved)
    np.testing.assert_array_equal(pack.features["fens / 1"], features)
    np.testing.assert_array_equal(pack.stacks["fens / 1"]["s2/data"], stack["s2/data"])
    assert pack.session.places[0].features == feature_hash(features)
    assert pack.session.labels == session.labels
    assert pack.session.prototypes == session.prototypes
    assert pack.session.bank.values.tobytes() == session.bank.values.tobytes()


def test_a_pack_can_be_played_again_and_gives_the_same(stored):
    session = open_pack(stored).session
    assert feature_hash(replay(session).features["fens / 1"]) == session.places[0].features


def test_a_notebook_in_a_pack_names_no_place_outside_it(folder):
    text = save_notebook(open_pack(folder).session, folder / "again.ipynb").read_text()
    assert "stacks/1.zarr" in text
    assert str(folder) not in text


def test_the_readme_says_terms_and_what_is_not_real(stored):
    text = (stored / "README.txt").read_text()
    for words in ("open_pack", "fens / 1", "SYNTHETIC", "CC0", "Apache-2.0"):
        assert words in text


def test_a_pack_names_no_folder_of_its_maker(stored):
    text = (stored / "session.json").read_text() + (stored / "README.txt").read_text()
    assert str(stored.parent) not in text


def test_a_pack_is_there_whole_or_not_at_all(made, tmp_path, monkeypatch):
    session, stack, features = made

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("skysense.pack.save_features", fail)
    words = refused(
        SessionError, save_pack, session, tmp_path / "x", {"fens / 1": stack},
        {"fens / 1": features},
    )  # fmt: skip
    assert "disk full" in words
    assert list(tmp_path.iterdir()) == []


def test_a_pack_needs_a_stack_and_knows_its_places(made, stored, tmp_path):
    session, stack, features = made
    path = tmp_path / "x"
    assert "at least one" in refused(SessionError, save_pack, session, path, {}, {})
    more = {"fens / 1": features}
    assert "every place" in refused(SessionError, save_pack, session, path, {}, more)
    assert "no place 'b'" in refused(SessionError, save_pack, session, path, {"b": stack}, {})
    stacks = {"fens / 1": stack}
    assert "already there" in refused(SessionError, save_pack, session, stored, stacks, {})
    elsewhere = {"fens / 1": features[0]}
    assert refused(SkySenseError, save_pack, session, path, stacks, elsewhere)
    for odd in ODD:
        assert refused(SessionError, save_pack, odd, path, stacks, {})
        if not isinstance(odd, dict):
            assert refused(SessionError, save_pack, session, path, odd, {})


def test_places_without_images_are_left_out_of_a_pack(made, tmp_path):
    session, stack, features = made
    more = dataclasses.replace(
        session,
        places=(SessionPlace("far"), *session.places),
        view=SessionView(place="far", top="groups"),
    )
    folder = save_pack(more, tmp_path / "p", {"fens / 1": stack}, {"fens / 1": features})
    opened = open_pack(folder).session
    assert [place.name for place in opened.places] == ["fens / 1"]
    assert opened.view == SessionView(top="groups")


# --- packs of strangers ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["link", "stacks/1.zarr/link", "features/2.zarr"])
@pytest.mark.parametrize("target", ["/etc/passwd", "/etc", "session.json", "nowhere"])
def test_a_pack_with_a_link_is_refused(folder, name, target):
    (folder / name).symlink_to(target)
    assert "link" in refused(SessionError, open_pack, folder)


def test_a_pack_with_a_pipe_is_refused(folder):
    os.mkfifo(folder / "pipe")
    assert "no plain file" in refused(SessionError, open_pack, folder)


def test_a_pack_that_is_too_large_is_refused_unopened(folder):
    with (folder / "bomb").open("wb") as file:
        file.truncate(30 * 10**9)
    assert "most_gb" in refused(SessionError, open_pack, folder)
    assert "most_gb" in refused(SessionError, open_pack, folder, most_gb=-1)


@pytest.mark.parametrize(
    "source", ["synthetic", "earth-search", "../x.zarr", "/etc", "stacks/2.zarr", "features/1.zarr"]
)
def test_a_pack_uses_no_images_but_its_own(folder, source):
    edit(folder, source=source)
    refused(SessionError, open_pack, folder)


def test_changed_features_are_noticed(folder, tmp_path):
    edit(folder, features=f"sha256:{'0' * 64}")
    assert "changed or damaged" in refused(SessionError, open_pack, folder)


def test_lost_parts_are_named(folder):
    shutil.rmtree(folder / "features/1.zarr")
    assert "nothing at" in refused(SkySenseError, open_pack, folder)
    shutil.rmtree(folder / "stacks/1.zarr")
    assert "no stack" in refused(SkySenseError, open_pack, folder)
    (folder / "session.json").unlink()
    assert "no class pack" in refused(SessionError, open_pack, folder)


# --- the command line -----------------------------------------------------------------------


def skysense(*words, code=0):
    done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def test_a_shell_makes_packs_and_notebooks_of_a_session(stored, tmp_path):
    session = open_pack(stored).session
    path = save_session(session, tmp_path / "s.json")
    folder = stored / "stacks"
    assert "written" in skysense("pack", path, "--out", tmp_path / "p", "--folder", folder)
    assert open_pack(tmp_path / "p").session.places[0].features == session.places[0].features
    skysense("replay", path, "--out", tmp_path / "n.ipynb", "--folder", folder)
    assert "load_stack" in (tmp_path / "n.ipynb").read_text()
    with pytest.raises(SessionError, match="already there"):
        skysense("pack", path, "--out", tmp_path / "p", "--folder", folder)
    with pytest.raises(SessionError, match="folders=") as caught:
        skysense("replay", path, "--out", tmp_path / "m.ipynb")
    assert "pass --folder with the folder" in for_shell(str(caught.value))


def test_features_of_another_place_are_not_packed_under_a_wrong_hash(made, tmp_path):
    session, stack, _ = made
    other = blobs(fields(16), dim=3)
    wrong = dataclasses.replace(session.places[0], features=f"sha256:{'1' * 64}")
    session = dataclasses.replace(session, places=(wrong,))
    folder = save_pack(session, tmp_path / "p", {"fens / 1": stack}, {"fens / 1": other})
    assert open_pack(folder).session.places[0].features == feature_hash(other)


def test_a_shell_writes_a_table_with_groups(stored, tmp_path):
    pytest.importorskip("pyarrow", reason="GeoParquet needs pyarrow")
    out = tmp_path / "t.parquet"
    skysense("export", stored / "features/1.zarr", "--groups", 3, "--out", out)
    assert set(gpd.read_parquet(out)["group"]) == {"group 1", "group 2", "group 3"}
