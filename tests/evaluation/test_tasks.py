"""What is asked, of which imagery, and that labels stay out of training."""

import ast
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from labelled import CLASSES, SIDE, fields, task
from rasterio.transform import from_origin
from safetensors.torch import save_file
from test_cli import skysense as shell

import skysense.pretrain
from skysense.convert import convert
from skysense.errors import AnalysisError, StackError
from skysense.evaluation.command import KEEP, network_of, places_seen, run
from skysense.evaluation.places import find_tasks
from skysense.evaluation.tasks import pooled, seen_by
from skysense.model.keys import to_official
from skysense.pretrain.data import Place, Series, check_labels
from skysense.weights import build_model

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
WORDS = ("label", "truth", "class", "legend")


def test_the_data_of_pre_training_has_labels_of_synthetic_scenes_only():
    names = [field.name for kind in (Place, Series) for field in dataclasses.fields(kind)]
    assert [name for name in names if any(word in name for word in WORDS)] == ["labels"]
    labels = np.zeros((4, 4), np.uint8)
    with pytest.raises(StackError, match="synthetic"):
        check_labels("meadow", labels, (4, 4), synthetic=False)


def test_pre_training_imports_nothing_that_reads_labels():
    files = list(Path(skysense.pretrain.__path__[0]).glob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module), *(alias.name for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                assert "labels" not in name or name == "check_labels", f"{file.name} imports {name}"
                assert "evaluation" not in name, f"{file.name} imports {name}"


def test_a_list_of_training_data_says_what_was_seen(tmp_path):
    made = task()
    assert seen_by(made, None) == "unknown"
    assert seen_by(made, ()) == "no"
    assert places_seen(tmp_path) is None
    listed = {"places": [{"name": "made-up/3", "licence": "CC0"}, {"name": "elsewhere"}]}
    (tmp_path / "data.json").write_text(json.dumps(listed))
    assert seen_by(made, places_seen(tmp_path)) == "yes"
    (tmp_path / "data.json").write_text('["elsewhere"]')
    assert seen_by(made, places_seen(tmp_path)) == "no"


def test_without_the_shared_folder_the_sets_are_skipped_by_name(tmp_path):
    tasks, skipped = find_tasks(tmp_path / "shared", tmp_path / "recipes")
    assert all(each.synthetic for each in tasks)
    reasons = {each.name: each.reason for each in skipped}
    for name in ("EuroSAT", "BigEarthNet2", "AID", "LEVIR"):
        assert "is not there" in reasons[name]
    assert "no recipe" in reasons["places of recipes"]


def test_every_labelled_place_at_hand_is_a_task_or_is_skipped_with_a_reason(shared):
    tasks, skipped = find_tasks(shared, RECIPES)
    sites = {each.site for each in tasks} | {each.name for each in skipped}
    assert {path.stem for path in RECIPES.glob("*.toml")} <= sites
    assert all(each.licence for each in tasks)
    assert all(each.reason for each in skipped)
    names = {each.name for each in tasks}
    assert len(names) == len(tasks)
    assert {"be-flanders-parcels: crop type", "EuroSAT: scene", "LEVIR: building change"} <= names


@pytest.mark.parametrize(
    "name", ["EuroSAT: scene", "BigEarthNet2: land cover", "LEVIR: building change"]
)
def test_sets_have_as_many_labels_as_cells_or_images(shared, name):
    made = next(t for t in find_tasks(shared, RECIPES)[0] if t.name == name)
    images = made.load()
    labels = images.labels[made.labels]
    count = len(images.windows) if made.kind == "patches" else len(images.image)
    assert labels.index.shape == (count,)
    assert labels.index.max() < len(labels.classes)
    assert set(images.dates) == set(made.sensors)


def test_patches_are_described_by_mean_and_deviation_of_their_cells():
    values = np.array([[1.0], [3.0], [np.nan], [5.0], [5.0]])
    rows = pooled(values, np.array([0, 0, 0, 1, 1]))
    assert rows.tolist() == [[2, 1], [5, 0]]


@pytest.fixture
def quick(monkeypatch):
    """Two seeds and one draw of clicks: enough to see that the path is whole."""
    monkeypatch.setattr("skysense.evaluation.splits.SEEDS", (0, 1))
    monkeypatch.setattr("skysense.evaluation.splits.REPEATS", {1: 1, 5: 1, 20: 1})


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """A recipe of one Sentinel-2 image with labels, as a user would write it."""
    folder = tmp_path_factory.mktemp("recipes")
    transform = from_origin(500_000, 5_600_000, 10, 10)
    options = {"driver": "GTiff", "height": SIDE, "width": SIDE, "crs": "EPSG:32631"}
    rng = np.random.default_rng(0)
    pixels = (1000 + 300 * rng.normal(size=(4, SIDE, SIDE)) + 400 * fields()).astype("u2")
    with rasterio.open(
        folder / "s2.tif", "w", count=4, dtype="uint16", transform=transform, **options
    ) as file:
        file.write(pixels)
    with rasterio.open(
        folder / "labels.tif", "w", count=1, dtype="uint8", transform=transform, **options
    ) as file:
        file.write(fields()[None].astype("u1"))
    legend = ", ".join(f'{i} = "{name}"' for i, name in enumerate(CLASSES))
    (folder / "made-up.toml").write_text(
        'title = "Made up"\nlicence = "CC0"\n[[sensor]]\nname = "s2"\nunits = "reflectance"\n'
        'scale = 0.0001\nlevel = "L2A"\ntime = 2023-06-01\n'
        '[[sensor.file]]\npath = "s2.tif"\nbands = ["B02", "B03", "B04", "B08"]\n'
        f'[labels.fields]\npath = "labels.tif"\nlegend = {{ {legend} }}\n'
    )
    return folder


def test_a_converted_official_checkpoint_is_evaluated_like_any_other(made_up, tmp_path, quick):
    model = build_model("tiny", seed=3)
    parts = ("hr", "s2", "s1", "head_s2", "head_s1", "fusion")
    for part in parts:
        state = {to_official(part, k): v for k, v in getattr(model, part).state_dict().items()}
        if part == "s2":
            state["ctpe"] = model.calendar.table.detach()
        save_file(state, tmp_path / f"skysense_model_{part}.safetensors")
    files = sorted(tmp_path.glob("*.safetensors"))
    convert(files, tmp_path / "v1", licence="research only", preset="tiny")
    (tmp_path / "v1" / "data.json").write_text('["made-up"]')
    out = tmp_path / "page.md"
    out.write_text(f"old\n{KEEP}\n\n## Mine\n\nkept.\n")
    words = ["--checkpoint", f"v1={tmp_path / 'v1'}", "--task", "made-up", "--out", out]
    words += ["--recipes", made_up, "--shared", tmp_path, "--cache", tmp_path / "cache"]
    said = shell("evaluate", *words)
    assert "written" in said
    page = out.read_text()
    assert not page.startswith("old")
    assert "## Mine" in page
    assert "imagery seen in training" in page
    assert "no task is known to be unseen" in page or "FAIL" in page
    assert "| v1 |" in (tmp_path / "page-tasks.md").read_text()
    records = json.loads(out.with_suffix(".json").read_text())["records"]
    rows = {(r["network"], r["output"]): r for r in records}
    assert rows["v1", "fused"]["seen"] == "yes"
    assert rows["v1", "fused"]["null"] == "untrained"
    assert {("untrained", "fused"), ("v1", "s2 tokens"), ("none", "raw")} <= set(rows)
    raw = np.mean(rows["none", "raw"]["scores"]["linear"])
    assert raw > np.mean(rows["none", "noise"]["scores"]["linear"]) + 0.2


def test_runs_are_merged_into_one_table(made_up, tmp_path, quick):
    options = {
        "recipes": made_up, "shared": tmp_path, "only": ["made-up"], "cache": tmp_path / "cache",
    }  # fmt: skip
    run(encoders=["spectral"], out=tmp_path / "a.md", **options)
    numbers = tmp_path / "a.json"
    numbers.write_text(numbers.read_text().replace('"network": "none"', '"network": "theirs"'))
    run(out=tmp_path / "b.md", merge=[numbers], **options)
    networks = {r["network"] for r in json.loads((tmp_path / "b.json").read_text())["records"]}
    assert networks == {"none", "theirs"}


def mine(folder):
    """A small trained network, as far as anyone can tell."""
    from mini import MINI

    from skysense.weights import save_checkpoint

    model = build_model(MINI)
    model.untrained = ""
    save_checkpoint(model, folder, licence="CC0")
    return folder


def test_a_checkpoint_may_be_compared_with_one_of_another_run(made_up, tmp_path, quick):
    options = {
        "recipes": made_up, "shared": tmp_path, "only": ["made-up"], "cache": tmp_path / "cache",
    }  # fmt: skip
    folder = mine(tmp_path / "mine")
    run(checkpoints=[f"whole={folder}"], out=tmp_path / "a.md", **options)
    options |= {"against": "whole", "merge": [tmp_path / "a.json"]}
    run(checkpoints=[f"part={folder}"], out=tmp_path / "b.md", **options)
    rows = json.loads((tmp_path / "b.json").read_text())["records"]
    assert {r["network"]: r["against"] for r in rows}["part"] == "whole"
    assert {r["null"] for r in rows if r["network"] == "part"} == {""}, "not held to the bar"
    assert "| part | whole | fused | +0.0 ± 0.0 |" in (tmp_path / "b.md").read_text()


def test_a_run_to_compare_with_that_nobody_knows_is_refused(made_up, tmp_path):
    with pytest.raises(AnalysisError, match="no network 'whole' to compare with"):
        run(recipes=made_up, shared=tmp_path, against="whole", out=tmp_path / "a.md")


def test_a_checkpoint_without_a_list_of_its_data_says_unknown(tmp_path):
    network = network_of(mine(tmp_path / "mine"), "mine")
    assert network.seen is None
    assert seen_by(task(), network.seen) == "unknown"
