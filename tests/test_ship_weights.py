"""What a run left becomes a folder of shipped weights, of either model and whatever it went without."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
from mini import DENSE_V2, MINI, MINI_V2

from skysense.model.config import PrototypeConfig
from skysense.weights import build_model, load_checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("ship", ROOT / "scripts/ship_weights.py")
ship = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ship)

CONTEXT = PrototypeConfig(context=True, cells=64, count=4)
V1_LOSS = {"pixel": 1.0, "object": 1.0, "image": 1.0, "alignment": 1.0, "prediction": 2.0}
V2_LOSS = V1_LOSS | {"query": 1.0, "text": 1.0, "balance": 0.01, "clusters": 2}
V1_LINE = {"fused/pixel": 1.0, "s2/pixel": 2.0, "predict/s2": 1.0, "align/s2-s1": 3.0}
V2_LINE = V1_LINE | {"query": 4.0, "text": 2.0, "balance": 1.1, "query/agreement": 0.5}


def run_of(folder, config, loss, line):
    """What a run of three steps leaves."""
    model = build_model(config, seed=1)
    model.untrained = ""
    save_checkpoint(model, folder / "weights", licence="Apache-2.0", source="a test")
    place = {"name": "a", "source": "here", "credit": "us", "licence": "CC0", "synthetic": False}
    places = {"places": [place, place | {"synthetic": True, "source": "made"}]}
    (folder / "weights" / "data.json").write_text(json.dumps(places))
    facts = {"configuration": {"seed": 7, "loss": loss}}
    (folder / "state.json").write_text(json.dumps(facts))
    lines = [json.dumps(line | {"step": step, "seconds": 1200.0}) for step in (1, 2, 3)]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    return folder


RUNS = {
    "V1": (MINI, "tiny", CONTEXT, V1_LOSS, V1_LINE),
    "V2": (MINI_V2, "v2-tiny", CONTEXT, V2_LOSS, V2_LINE),
    "V2 without context, experts, new losses": (
        DENSE_V2, "v2-tiny", PrototypeConfig(), V1_LOSS, V1_LINE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", RUNS)
def test_a_run_becomes_weights_with_card_data_and_curves(which, tmp_path):
    config, preset, context, loss, line = RUNS[which]
    config = dataclasses.replace(config, name=preset, prototypes=context)
    run = run_of(tmp_path, config, loss, line)
    ship.main([str(run)], tmp_path / "shipped")
    folder = tmp_path / "shipped" / f"skysense-{preset}"
    named = {"README.md", "config.json", "data.json", "losses.png", "model.safetensors"}
    assert {file.name for file in folder.iterdir()} == named
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert load_checkpoint(folder).weights.removeprefix("sha256:") in card
    assert "| time | 1.0 hours of one core |" in card
    assert "1 real and 1 synthetic places" in card
    assert card.startswith(f"# skysense-{preset}\n")
    assert ("of 64 cells of the Earth" in card) == context.context


def test_the_card_of_v2_says_what_it_is_what_it_learnt_by_and_what_there_is_not(tmp_path):
    config = dataclasses.replace(MINI_V2, name="v2-tiny")
    run_of(tmp_path, config, V2_LOSS, V2_LINE)
    card = " ".join(ship.card(tmp_path, [V2_LINE | {"step": 3, "seconds": 1.0}]).split())
    assert "SkySense V2 (Zhang et al., ICCV 2025)" in card
    assert "3 experts in each of the last 3 blocks" in card
    assert "none of SkySense V2 that anyone could download" in card
    assert "full text was not at hand" in card
    for words in ("| query | 1 |", "| text | 1 |", "| balance | 0.01 |", "| prediction | 2 |"):
        assert words in card
    assert "labels of synthetic ones only" in card


def test_the_card_names_no_loss_that_a_run_went_without(tmp_path):
    run_of(tmp_path, dataclasses.replace(MINI, name="tiny"), V1_LOSS, V1_LINE)
    card = ship.card(tmp_path, [V1_LINE | {"step": 3, "seconds": 1.0}])
    assert "| query |" not in card
    assert "no labels, nothing of the labelled" in card


def test_curves_that_a_run_does_not_have_are_left_out():
    steps = [V1_LINE | {"step": step} for step in range(1, 4)]
    assert len(ship.draw(steps).axes) == 4
    later = ship.draw([V2_LINE | {"step": step} for step in range(1, 4)])
    assert [line.get_label() for line in later.axes[4].lines] == ["query", "text"]


def test_weights_of_a_model_that_is_not_shipped_are_refused(tmp_path):
    run_of(tmp_path, MINI, V1_LOSS, V1_LINE)
    with pytest.raises(SystemExit, match="'mini', which is not shipped"):
        ship.main([str(tmp_path)], tmp_path / "shipped")
