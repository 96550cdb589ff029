import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import shapely
import xarray as xr
from pyproj import Transformer
from stacks import CRS, file_stack
from typer.testing import CliRunner

from skysense.cli import app, for_shell, main, run
from skysense.errors import RecipeError
from skysense.stack import open_stack, save_stack


def skysense(*words, code=0):
    """Run the command line in this process; its output."""
    done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def failing(capsys, monkeypatch):
    """Runs the command line as its script does, in this process; what it says of a mistake."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["skysense", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 1
        return capsys.readouterr().err

    return call


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
    null = ("--encoder", "skysense-tiny-untrained", "--resolution", 40)
    said = skysense("embed", stored, "--out", tmp_path / "f.zarr", *null)
    assert "UNTRAINED" in said


def test_part_dates_and_memory_are_the_python_options(stored, tmp_path):
    import skysense as sky
    from skysense.dates import Dates

    tree = open_stack(stored)
    to_degrees = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    bounds = to_degrees.transform_bounds(500_030, 5_599_880, 500_110, 5_599_970)
    place = {
        "type": "Feature",
        "properties": {},
        "geometry": shapely.box(*bounds).__geo_interface__,
    }
    (tmp_path / "part.geojson").write_text(json.dumps(place))
    made = sky.embed(
        tree,
        sky.load_encoder("spectral"),
        region=sky.Region(bounds, "2023"),
        dates=Dates(s2=2, s1=1, first="2023-03-10"),
    )
    for k, part in enumerate((",".join(map(repr, bounds)), tmp_path / "part.geojson")):
        skysense(
            "embed", stored, "--encoder", "spectral", "--region", part, "--memory", 2,
            "--dates", "s2=2,s1=1,first=2023-03-10", "--out", tmp_path / f"{k}.zarr",
        )  # fmt: skip
        written = xr.open_zarr(tmp_path / f"{k}.zarr", consolidated=False)["features"]
        assert written.shape == made.shape
        assert (written.values == made.values).all()
        assert written.attrs["dates_s2"] == made.attrs["dates_s2"]


def test_all_dates_can_be_asked_for(tmp_path):
    many = save_stack(file_stack(80, 80, ("s2",), dates={"s2": 23}), tmp_path / "s.zarr")
    for words in ([], ["--dates", "all"]):
        out = tmp_path / f"f{len(words)}.zarr"
        skysense("embed", many, "--encoder", "spectral", "--out", out, *words)
    counts = [
        len(xr.open_zarr(tmp_path / name, consolidated=False)["features"].attrs["dates_s2"])
        for name in ("f0.zarr", "f2.zarr")
    ]
    assert counts == [20, 23]


def test_dates_can_be_left_out_by_hand(tmp_path):
    stack = save_stack(file_stack(80, 80, ("s2",)), tmp_path / "s.zarr")
    rule = "s2=3,without=s2 2023-03-01+s2 2023-04-12"
    skysense("embed", stack, "--encoder", "spectral", "--out", tmp_path / "f.zarr", "--dates", rule)
    features = xr.open_zarr(tmp_path / "f.zarr", consolidated=False)["features"]
    assert features.attrs["dates_s2"] == ["2023-03-22", "2023-05-03"]


def test_one_scene_of_a_recipe_is_embedded(shared, tmp_path):
    recipe = Path(__file__).parent / "recipes/us-newyork-hro.toml"
    options = ["--encoder", "spectral", "--resolution", 40]
    skysense("embed", recipe, "--scene", "tile_1003", *options, "--out", tmp_path / "f.zarr")
    written = xr.open_zarr(tmp_path / "f.zarr", consolidated=False)["features"]
    assert "tile_1003" in written.attrs["source"]
    with pytest.raises(RecipeError, match="tile_9322"):
        skysense("embed", recipe, *options, "--out", tmp_path / "g.zarr")


@pytest.mark.parametrize(
    ("python", "shell"),
    [
        ("more than memory_gb=4. Pass memory_gb=9.6.", "more than --memory 4. Pass --memory 9.6."),
        (
            "Pass out='f.zarr' to stream, or another `out`.",
            "Pass --out f.zarr to stream, or another --out.",
        ),
        ("needs path=, the folder", "needs --weights, the folder"),
        ("Pass scene=NAME.", "Pass --scene NAME."),
        ("Leave `device` out, or device='cpu'.", "Leave --device out, or --device cpu."),
        ("Pass time=(first, last).", "Pass --time FIRST/LAST."),
        ("GET https://a.b/c?size=3&out=4 failed", "GET https://a.b/c?size=3&out=4 failed"),
    ],
)
def test_a_sentence_names_options_of_the_shell_and_not_of_python(python, shell):
    assert for_shell(python) == shell


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
def test_a_mistake_is_one_sentence_and_exit_code_one(
    failing, words, sentence, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert sentence in failing(*words)


def test_a_mistake_in_a_shell_shows_no_traceback(tmp_path):
    command = [sys.executable, "-m", "skysense.cli", "embed", "nowhere.zarr", "--out", "f.zarr"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "There is no stack at nowhere.zarr" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--dates", "s3=4"], "'s3=4' is none of s2=N"),
        (["--dates", "first=may"], "is not an ISO day"),
        (["--scene", "north"], "belong to a recipe"),
        (["--region", "3,50,4"], "are not bounds"),
        (["--region", "none.geojson"], "none.geojson"),
        (["--region", "3,50,3.1,50.1"], "does not touch"),
        (["--memory", "0.0001"], "more than --memory 0.0001"),
        (["--memory", "-1"], "--memory -1"),
        (["--resolution", "30"], "--resolution 30"),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_the_words_of_the_shell(
    words, sentence, stored, tmp_path, capsys
):
    command = ["embed", str(stored), "--encoder", "spectral", "--out", str(tmp_path / "f.zarr")]
    with pytest.raises(SystemExit) as ended:
        run(lambda: app([*command, *words], standalone_mode=False))
    assert ended.value.code == 1
    assert sentence in capsys.readouterr().err


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
