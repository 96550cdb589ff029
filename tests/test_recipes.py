"""Recipes: what they may say, and that everything else is refused by name."""

from pathlib import Path

import numpy as np
import pytest

from skysense.errors import RecipeError
from skysense.sources.recipe import find_files, parse_recipe, read_recipe

RECIPES = sorted((Path(__file__).parent / "recipes").glob("*.toml"))


def sensor(**changes):
    table = {
        "name": "hr",
        "units": "0..255",
        "time": "unknown",
        "file": [{"path": "a.tif", "bands": ["R", "G", "B"]}],
    }
    return {key: value for key, value in (table | changes).items() if value is not None}


def recipe(folder, **changes):
    return parse_recipe({"title": "T", "sensor": [sensor(**changes)]}, folder)


def test_a_few_lines_are_a_recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        "title = 'My orchard'\n[[sensor]]\nname = 'hr'\nunits = '0..255'\ntime = 2023-06-01\n"
        "file = { path = 'orchard.tif', bands = ['R', 'G', 'B'] }\n"
    )
    read = read_recipe(path)
    assert read.title == "My orchard"
    assert read.root == tmp_path
    assert [b.name for b in read.images[0].files[0].bands] == ["red", "green", "blue"]
    assert read.images[0].times.values == (np.datetime64("2023-06-01", "ns"),)
    assert read.licence == "not stated in the recipe"


def test_every_kept_recipe_can_be_read(shared):
    assert len(RECIPES) >= 12
    for path in RECIPES:
        assert read_recipe(path).images


def test_the_example_of_the_documentation_can_be_read(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in text.split("```toml\n")[1:]]
    whole = [b for b in blocks if b.lstrip().startswith("title")]
    assert len(whole) >= 2
    for block in whole:
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "r.toml").write_text(block, encoding="utf-8")
        assert read_recipe(tmp_path / "r.toml").images


def test_root_can_be_given_instead(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    content = {"title": "T", "root": "not-there", "sensor": [sensor()]}
    assert parse_recipe(content, tmp_path, tmp_path / "elsewhere").root == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scales": 1.0}, "unknown key 'scales'; known keys are"),
        ({"name": "s3"}, "name = 's3' cannot be used; use one of hr, s2, s1"),
        ({"name": None}, "needs name"),
        ({"units": "dB"}, "units = 'dB' cannot be used; use one of 0..255"),
        ({"units": None}, "needs units"),
        ({"scale": "big"}, "scale = 'big' must be a finite number"),
        ({"scale": float("nan")}, "must be a finite number"),
        ({"scale": True}, "must be a finite number"),
        ({"scale": 0}, "would make every value the same"),
        ({"db_offset": -83.0}, "db_offset is for Sentinel-1"),
        ({"nodata": "none"}, "nodata = 'none' must be a finite number"),
        ({"file": []}, "there is no file"),
        ({"file": "a.tif"}, "file must be one or several tables"),
        ({"file": [{"path": "a.tif"}]}, "needs bands"),
        ({"file": [{"path": "a.tif", "bands": []}]}, "bands is empty"),
        ({"file": [{"bands": ["R"]}]}, "needs path"),
        ({"file": [{"path": "a.tif", "bands": ["R"], "size": 3}]}, "unknown key 'size'"),
        ({"file": [{"path": "a", "bands": ["R", "X9"]}]}, "'X9' is not a band of High resolution"),
        ({"file": [{"path": "a", "bands": ["R", "G", "R"]}]}, "red is listed more than once"),
        ({"file": [{"path": "a", "bands": ["-", "-"]}]}, "none of the listed bands"),
        (
            {"file": [{"path": "a.nc", "bands": {"R": "r"}, "variable": "v"}]},
            "give `variable`, or a variable for each band, not both",
        ),
        ({"time": "last summer"}, "is not a date like 2018-06-30"),
        ({"time": 2018}, "is not a date"),
        ({"time": []}, "an empty list"),
        ({"time": {"regex": "(", "format": "%Y"}}, "cannot be read"),
        ({"time": {"regex": "\\d+", "format": "%Y"}}, "needs a group"),
        ({"time": {"regex": "(\\d+)"}}, "needs format"),
        ({"bounds": [0, 0, 1, 1]}, "bounds need a crs"),
        ({"crs": "EPSG:32631", "bounds": [1, 0, 0, 1]}, "left < right"),
        ({"approximate": True}, "needs the guessed crs and bounds"),
        ({"approximate": "yes"}, "must be true or false"),
        ({"mask": {"band": 2}}, "needs usable, unusable, above or below"),
        ({"mask": {"above": 1, "band": 0}}, "must be a whole number from 1"),
        ({"mask": {"above": 1, "cloud": 2}}, "unknown key 'cloud'"),
        ({"level": "L3"}, "level = 'L3'"),
        ({"orbit_direction": "up"}, "use one of ascending, descending"),
        ({"orbit_number": "88"}, "must be a whole number"),
        ({"item": {"regex": "(a)"}}, "needs variable"),
        ({"notes": "one"}, "must be a list of texts"),
    ],
)
def test_a_wrong_key_is_named(tmp_path, change, says):
    if "level" in change:
        change = change | {
            "name": "s2",
            "units": "reflectance",
            "file": {"path": "a", "bands": ["B02"]},
        }
    with pytest.raises(RecipeError) as error:
        recipe(tmp_path, **change)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "there is no [[sensor]] table"),
        ({"sensor": [sensor()]}, "needs title"),
        ({"title": "T", "sensor": [sensor()], "url": "x"}, "unknown key 'url'"),
        ({"title": "T", "sensor": [sensor()], "root": "/etc"}, "must be relative"),
        ({"title": "T", "sensor": [sensor()], "root": "http://a.b/c"}, "must be relative"),
        ({"title": "T", "sensor": [sensor()], "root": "absent"}, "is not there"),
        ({"title": "T", "sensor": [sensor()], "scenes": ["../x"]}, "may hold only letters"),
        ({"title": "T", "sensor": [sensor()], "labels": {"a": {"band": 1}}}, "needs path"),
        (
            {
                "title": "T",
                "sensor": [sensor()],
                "labels": {"a": {"path": "l", "legend": {"1": 2}}},
            },
            "every class in the legend must be a text",
        ),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path, content, says):
    with pytest.raises(RecipeError) as error:
        parse_recipe(content, tmp_path)
    assert says in str(error.value)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../secret.tif",
        "a/../../secret.tif",
        "/vsicurl/http://a.b/c.tif",
        "http://a.b/c.tif",
        "NETCDF:a.nc:B02",
        "~/a.tif",
        "..\\secret.tif",
        "**/a.tif",
        "",
    ],
)
def test_paths_cannot_leave_the_root(tmp_path, path):
    (tmp_path / "secret.tif").write_bytes(b"x")
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(RecipeError, match="inside the recipe's root"):
        find_files(root, path)


def test_a_symbolic_link_cannot_leave_the_root(tmp_path):
    (tmp_path / "secret.tif").write_bytes(b"x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.tif").symlink_to(tmp_path / "secret.tif")
    for pattern in ("a.tif", "*.tif"):
        with pytest.raises(RecipeError, match="symbolic link"):
            find_files(root, pattern)


def test_a_pattern_finds_files_by_name(tmp_path):
    for name in ("b_2.tif", "b_1.tif", "c.tif"):
        (tmp_path / name).write_bytes(b"x")
    assert [f.name for f in find_files(tmp_path, "b_*.tif")] == ["b_1.tif", "b_2.tif"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"no file 'a\.tif' under"):
        find_files(tmp_path, "a.tif")


def test_a_folder_is_not_a_file(tmp_path):
    (tmp_path / "a.tif").mkdir()
    with pytest.raises(RecipeError, match="there is no file"):
        find_files(tmp_path, "a.tif")


def test_broken_toml_is_refused_with_its_line(tmp_path):
    (tmp_path / "r.toml").write_text("title = \n")
    with pytest.raises(RecipeError, match=r"r\.toml is not readable TOML.*line 1"):
        read_recipe(tmp_path / "r.toml")


def test_a_recipe_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="There is no recipe at"):
        read_recipe(tmp_path / "r.toml")


def test_a_huge_recipe_is_refused(tmp_path):
    (tmp_path / "r.toml").write_text("#" * 1_100_000)
    with pytest.raises(RecipeError, match="too large for a recipe"):
        read_recipe(tmp_path / "r.toml")


def test_binary_rubbish_is_refused(tmp_path):
    (tmp_path / "r.toml").write_bytes(bytes(range(256)))
    with pytest.raises(RecipeError, match="not readable TOML"):
        read_recipe(tmp_path / "r.toml")


def test_a_scene_must_be_named_where_there_are_several(tmp_path):
    many = parse_recipe({"title": "T", "sensor": [sensor()], "scenes": ["a", "b"]}, tmp_path)
    assert many.choose_scene("b") == "b"
    with pytest.raises(RecipeError, match=r"Say which scene.*a, b"):
        many.choose_scene(None)
    with pytest.raises(RecipeError, match="scene='c' is not in"):
        many.choose_scene("c")


def test_a_scene_is_refused_where_there_is_none(tmp_path):
    with pytest.raises(RecipeError, match="has no scenes"):
        recipe(tmp_path).choose_scene("a")
