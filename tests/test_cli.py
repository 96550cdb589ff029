import importlib
import inspect
import subprocess
import sys

import pytest
import xarray as xr
from stacks import file_stack
from typer.testing import CliRunner

from skysense.cli import app
from skysense.stack import open_stack, save_stack


def skysense(*words, code=0):
    """Run the command line in this process; its output."""
    done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def in_shell(*words):
    return subprocess.run(
        [sys.executable, "-m", "skysense.cli", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return save_stack(file_stack(160, 160), tmp_path_factory.mktemp("cli") / "stack.zarr")


def test_stack_embed_export_is_the_whole_path(tmp_path):
    place = ["--around", 5.0, 50.0, "--size", 300, "--time", "2023"]
    said = skysense(
        "stack", "--source", "synthetic", *place, "--sensor", "s2", "--out", tmp_path / "s.zarr"
    )
    assert "Sentinel-2:" in said
    skysense(
        "embed", tmp_path / "s.zarr", "--encoder", "spectral", "--resolution", 40,
        "--out", tmp_path / "f.zarr",
    )  # fmt: skip
    features = xr.open_zarr(tmp_path / "f.zarr", consolidated=False)["features"]
    assert features.attrs["synthetic"] == 1
    skysense("export", tmp_path / "f.zarr", "--groups", 3, "--out", tmp_path / "g.geojson")
    assert "FeatureCollection" in (tmp_path / "g.geojson").read_text()


def test_command_line_and_python_give_the_same_numbers(stored, tmp_path):
    import skysense as sky

    skysense("embed", stored, "--encoder", "spectral", "--out", tmp_path / "f.zarr")
    written = xr.open_zarr(tmp_path / "f.zarr", consolidated=False)["features"]
    made = sky.embed(open_stack(stored), sky.load_encoder("spectral"))
    assert (written.values == made.values).all()


def test_untrained_weights_are_said_aloud(stored, tmp_path):
    said = skysense("embed", stored, "--out", tmp_path / "f.zarr", "--resolution", 40)
    assert "UNTRAINED" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["embed", "nowhere.zarr", "--out", "f.zarr"], "There is no stack at nowhere.zarr"),
        (["stack", "--around", "3", "50", "--out", "s.zarr"], "needs a period"),
        (["stack", "--around", "3", "95", "--time", "2023", "--out", "s.zarr"], "Did you swap"),
        (["embed", "nowhere.zarr", "--encoder", "x", "--out", "f.zarr"], "There is no"),
        (["embed", "nowhere.zarr", "--out", "f.png"], "ends in '.png'"),
        (
            [
                "stack",
                "--around",
                "3",
                "50",
                "--bounds",
                "3",
                "50",
                "3.1",
                "50.1",
                "--time",
                "2023",
                "--out",
                "s.zarr",
            ],
            "one place is enough",
        ),
        (["convert", "nowhere.pth", "--licence", "x", "--out", "w"], "nowhere.pth"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_one(words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = in_shell(*words)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_the_dashboard_takes_what_the_command_line_gives_it(monkeypatch):
    main = importlib.import_module("app.main")
    given = {}
    signature = inspect.signature(main.serve)
    monkeypatch.setattr(main, "serve", lambda **options: given.update(options))
    skysense("app", "--port", 0, "--tiles", "https://a.b/{z}/{x}/{y}.png")
    assert signature.bind(**given).arguments["port"] == 0
    given.clear()
    skysense("demo")
    assert signature.bind(**given).arguments["open_browser"] is True
