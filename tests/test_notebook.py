"""A session played again, as code, as a notebook and in this process."""

import ast
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from sentences import refused
from some_session import some_session

from skysense.analysis import fit_prototypes
from skysense.embedding import embed
from skysense.encoders import load_encoder
from skysense.errors import SessionError
from skysense.notebook import MAGIC, as_code, labels_of, save_notebook
from skysense.region import Region
from skysense.replaying import replay
from skysense.session import Session, SessionChoices, SessionClass, SessionPlace, SessionView
from skysense.sources import load_stack
from skysense.stack import save_stack
from skysense.view.hues import of_categories

NAME = "fens 'n' \"hills\" <b>"


def recorded(encoder, **options):
    """A session of a real run on a small synthetic region, with what it made."""
    region = Region.around(3.0159, 50.8426, 640, "2023-05", NAME)
    stack = load_stack(region, ("s2", "s1"), "synthetic")
    model = load_encoder(encoder, device="cpu", precision="float32", **options)
    features = embed(stack, model, resolution=20, batch_size=2)
    place = SessionPlace(NAME, "synthetic", region, sensors=("s2", "s1"))
    lon, lat = region.centre
    corner = (region.bounds[0] + 0.002, region.bounds[1] + 0.002)
    labels = (SessionClass("in 'it'", places=((lon, lat),)), SessionClass("b", places=(corner,)))
    session = Session(
        places=(place,),
        choices=SessionChoices.of(features),
        labels=labels,
        prototypes=("one", *[""] * 5),
        bank=fit_prototypes({NAME: features}, 6),
        view=SessionView(groups=3, prototypes=6),
    )
    return session.with_features({NAME: features}), stack, features


@pytest.fixture(scope="module", params=["spectral", "skysense-tiny-untrained"])
def made(request):
    return recorded(request.param)


@pytest.fixture
def executed(monkeypatch):
    """Runs a notebook in a fresh kernel that finds this package; gives it with its outputs."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    return run_notebook


def run_notebook(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=240, resources={"metadata": {"path": str(path.parent)}}
    )
    return client.execute()


@pytest.mark.slow
def test_the_notebook_makes_the_same_features_and_a_picture(made, tmp_path, executed):
    session, *_ = made
    ran = executed(save_notebook(session, tmp_path / "again.ipynb"))
    kinds = {kind for output in ran.cells[-1].outputs for kind in output.get("data", {})}
    assert "image/png" in kinds
    assert "sky.segment" in "".join(cell.source for cell in ran.cells)


@pytest.mark.slow
def test_another_hash_makes_the_notebook_fail_with_a_sentence(tmp_path, executed):
    session, *_ = recorded("spectral")
    other = dataclasses.replace(session.places[0], features=f"sha256:{'0' * 64}")
    path = save_notebook(dataclasses.replace(session, places=(other,)), tmp_path / "a.ipynb")
    with pytest.raises(
        nbclient.exceptions.CellExecutionError, match="are not those of the session"
    ):
        executed(path)


def test_a_session_is_played_again_in_this_process(made):
    session, _, features = made
    again = replay(session)
    assert list(again.features) == [NAME]
    assert (again.features[NAME].values == features.values).all()


def test_classes_have_the_names_and_colours_of_the_session_when_it_is_run_again():
    session, *_ = recorded("spectral")
    one, other = session.labels
    labels = (
        dataclasses.replace(one, colour="#123456"),
        dataclasses.replace(other, colour="#abcdef"),
    )
    names = {}
    exec(as_code(dataclasses.replace(session, labels=labels)), names)
    found = names["classes"][NAME]
    assert found.attrs["categories"] == ["in 'it'", "b"]
    assert of_categories(found.attrs, 2) == ["#123456", "#abcdef"]


def test_other_features_and_other_weights_are_refused():
    session, *_ = recorded("skysense-tiny-untrained", seed=3)
    assert session.choices.weights == "random(seed=3)"
    replay(session)
    other = dataclasses.replace(session.places[0], features=f"sha256:{'0' * 64}")
    words = refused(SessionError, replay, dataclasses.replace(session, places=(other,)))
    assert "are not those of the session" in words
    choices = dataclasses.replace(session.choices, weights=f"sha256:{'0' * 64}")
    words = refused(SessionError, replay, dataclasses.replace(session, choices=choices))
    assert "made with the weights" in words


def test_a_saved_stack_is_played_again_from_beside_the_notebook(made, tmp_path):
    session, stack, _ = made
    save_stack(stack, tmp_path / "stack.zarr")
    place = dataclasses.replace(session.places[0], source=str(tmp_path / "stack.zarr"))
    session = dataclasses.replace(session, places=(place,))
    replay(session)
    text = save_notebook(session, tmp_path / "again.ipynb").read_text()
    assert str(tmp_path) not in text
    assert "load_stack('stack.zarr'" in text


# --- the code -------------------------------------------------------------------------------


def literals(code):
    return {n.value for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Constant)}


def test_the_code_is_python_and_names_are_only_literals_in_it():
    session = some_session(
        places=(SessionPlace("'); import os #", region=some_session().places[0].region),),
        view=SessionView(),
    )
    code = as_code(session)
    tree = ast.parse(code)
    modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert modules <= {"torch", "skysense", "numpy", "xarray"}
    assert "'); import os #" in literals(code)


def test_only_public_names_are_used():
    import skysense as sky

    code = as_code(some_session())
    used = {
        n.attr
        for n in ast.walk(ast.parse(code))
        if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "sky"
    }
    assert used <= set(sky.__all__)
    assert {"load_stack", "load_encoder", "embed", "feature_hash", "fit_pca", "cluster"} <= used


def test_a_bank_from_elsewhere_is_written_into_the_code():
    code = as_code(some_session())
    assert "fit_prototypes" not in code
    scope = {}
    lines = code[code.index("import numpy as np") : code.index("kinds = ")]
    exec(lines, scope)
    session = some_session()
    assert (scope["bank"].values == session.bank.values).all()
    assert (scope["bank"].centre.values == session.bank.centre.values).all()


def test_a_session_without_bank_or_labels_fits_and_draws_what_there_is():
    code = as_code(some_session(bank=None, prototypes=(), labels=()))
    assert "fit_prototypes(features, n=12)" in code
    assert "segment" not in code


def test_labels_go_to_the_place_they_lie_in():
    session = some_session()
    fens, coast = session.places
    assert set(labels_of(session, fens)) == {c.name for c in session.labels}
    assert labels_of(session, coast) == {}


def test_code_and_notebook_are_the_same_lines(tmp_path):
    notebook = nbformat.read(save_notebook(some_session(), tmp_path / "a.ipynb"), as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert "\n\n".join(cells) + "\n" == f"{MAGIC}\n\n{as_code(some_session())}"


def test_a_notebook_is_not_overwritten_unless_asked(tmp_path):
    path = save_notebook(some_session(), tmp_path / "a.ipynb")
    assert "overwrite=True" in refused(SessionError, save_notebook, some_session(), path)
    save_notebook(some_session(), path, overwrite=True)
    assert ".ipynb" in refused(SessionError, save_notebook, some_session(), tmp_path / "a.py")
    assert "no place" in refused(SessionError, as_code, Session())
    assert json.loads(path.read_text())["nbformat"] == 4


def test_the_code_of_two_places_runs_as_a_script(tmp_path):
    one, _, first = recorded("spectral")
    region = Region.around(3.0859, 50.8426, 640, "2023-05", "b")
    stack = load_stack(region, ("s2", "s1"), "synthetic")
    second = embed(stack, load_encoder("spectral", device="cpu"), resolution=20, batch_size=2)
    there, (lon, lat) = SessionPlace("b", region=region, sensors=("s2", "s1")), region.centre
    labels = [
        dataclasses.replace(each, places=(*each.places, (lon + 0.001 * i, lat)))
        for i, each in enumerate(one.labels)
    ]
    both = {NAME: first, "b": second}
    session = dataclasses.replace(
        one,
        places=(SessionPlace("never loaded", "earth-search"), *one.places, there),
        labels=tuple(labels),
        bank=fit_prototypes(both, 6),
        view=SessionView(basis_of="b", groups=3),
    ).with_features(both)
    code = as_code(session)
    assert "earth-search" not in code
    (tmp_path / "again.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "again.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # nor are the prototypes other ones


@pytest.mark.slow
def test_the_lines_of_the_page_about_sessions_run(tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "docs/sessions.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks[0], "sessions.md", "exec"), {})
