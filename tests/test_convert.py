"""Official checkpoints become ours whole, or not at all."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from skysense import convert as module
from skysense.convert import convert
from skysense.errors import WeightsError
from skysense.model.keys import to_official
from skysense.weights import build_model, load_checkpoint

LICENCE = "non-commercial research only"
FILES = {
    "hr": "skysense_model_backbone_hr.pth",
    "s2": "skysense_model_backbone_s2.pth",
    "s1": "skysense_model_backbone_s1.pth",
    "head_s2": "skysense_model_head_s2.pth",
    "head_s1": "skysense_model_head_s1.pth",
    "fusion": "skysense_model_fusion.pth",
}
PREFIX = {
    "hr": "backbone_gep.",
    "s2": "backbone_s2.",
    "s1": "backbone_s1.",
    "head_s2": "head_s2.",
    "head_s1": "head_s1.",
    "fusion": "fusion.",
}


@pytest.fixture(scope="module")
def model():
    return build_model("tiny", seed=3)


@pytest.fixture
def states(model):
    """A tiny model under official names, laid out as the released files are said to be."""
    states = {
        part: {
            to_official(part, k): v.clone() for k, v in getattr(model, part).state_dict().items()
        }
        for part in FILES
    }
    states["s2"]["ctpe"] = model.calendar.table.detach().clone()
    return states


def write_split(folder, states):
    """As safetensors, which are read here; a pickled file costs a process that imports torch."""
    files = [(folder / FILES[part]).with_suffix(".safetensors") for part in states]
    for state, file in zip(states.values(), files, strict=True):
        save_file(state, file)
    return files


def write_released(folder, states):
    """As they are released."""
    for part, state in states.items():
        torch.save(state, folder / FILES[part])
    return [folder / FILES[part] for part in states]


def one_file(states, prefix=PREFIX):
    state = {f"{prefix[p]}{k}": v for p, s in states.items() for k, v in s.items() if k != "ctpe"}
    return state | {"ctpe": states["s2"]["ctpe"]}


def assert_same(path, model):
    loaded = load_checkpoint(path).model.state_dict()
    assert loaded.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded[key], value), key


def test_split_files_become_the_same_model(tmp_path, states, model):
    report = convert(
        write_released(tmp_path, states), tmp_path / "out", licence=LICENCE, preset="tiny"
    )
    assert_same(tmp_path / "out", model)
    assert load_checkpoint(tmp_path / "out").weights == report.weights
    assert sum(report.parameters.values()) == sum(p.numel() for p in model.parameters())


def test_backbone_prefix_of_the_high_resolution_file_is_removed(tmp_path, states, model):
    states["hr"] = {f"backbone.{k}": v for k, v in states["hr"].items()}
    report = convert(
        write_split(tmp_path, states), tmp_path / "out", licence=LICENCE, preset="tiny"
    )
    assert_same(tmp_path / "out", model)
    assert "with the prefix `backbone.`" in report.text()


def test_preset_is_recognised_by_its_shapes(tmp_path, states):
    files = write_split(tmp_path, states)
    assert convert(files, tmp_path / "out", licence=LICENCE, preset="auto").preset == "tiny"


@pytest.mark.parametrize("wrapper", ["", "module."])
@pytest.mark.parametrize("hr_prefix", ["backbone_gep.", "backbone_hr."])
def test_one_file_form_becomes_the_same_model(tmp_path, states, model, wrapper, hr_prefix):
    state = one_file(states, PREFIX | {"hr": hr_prefix})
    state = {f"{wrapper}{k}": v for k, v in state.items()}
    torch.save({"model": state, "epoch": 3}, tmp_path / "all.pth")
    report = convert([tmp_path / "all.pth"], tmp_path / "out", licence=LICENCE, preset="tiny")
    assert_same(tmp_path / "out", model)
    assert "epoch (beside the state dict)" in report.text()


def test_extra_pretraining_heads_of_the_one_file_form_are_reported(tmp_path, states, model):
    state = one_file(states) | {"head_gep_x.weight": torch.ones(2), "head.bias": torch.ones(2)}
    torch.save({"model": state}, tmp_path / "all.pth")
    report = convert([tmp_path / "all.pth"], tmp_path / "out", licence=LICENCE, preset="tiny")
    assert any("head_gep_x.weight" in u for u in report.unused)
    assert_same(tmp_path / "out", model)


def test_joint_projections_under_their_later_name_are_recognised(tmp_path, states, model):
    for part in ("s2", "s1", "fusion"):
        states[part] = {k.replace("in_proj_", "Wqkv."): v for k, v in states[part].items()}
    convert(write_split(tmp_path, states), tmp_path / "out", licence=LICENCE, preset="tiny")
    assert_same(tmp_path / "out", model)


def test_half_precision_and_aliased_tensors_are_written_as_float32(tmp_path, states, model):
    states["fusion"] = {k: v.half() for k, v in states["fusion"].items()}
    joint = torch.stack([states["s1"]["layers.0.ln1.weight"]] * 2)
    states["s1"]["layers.0.ln1.weight"], states["s1"]["layers.1.ln1.weight"] = joint.unbind()
    convert(write_released(tmp_path, states), tmp_path / "out", licence=LICENCE, preset="tiny")
    loaded = load_checkpoint(tmp_path / "out").model
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded.s1.layers[1].ln1.weight, model.s1.layers[0].ln1.weight)


def test_tolerated_extras_are_left_out_and_reported(tmp_path, states, model):
    extras = {
        "mask_token": torch.zeros(1, 1, 24),
        "norm0.weight": torch.ones(24),
        "norm2.bias": torch.ones(96),
        "stages.0.blocks.0.attn.w_msa.relative_coords_table": torch.zeros(1, 15, 15, 2),
        "stages.0.blocks.0.attn.w_msa.relative_position_index": torch.zeros(64, 64).long(),
    }
    states["hr"] |= extras
    report = convert(
        write_split(tmp_path, states), tmp_path / "out", licence=LICENCE, preset="tiny"
    )
    assert len(report.unused) == len(extras)
    assert_same(tmp_path / "out", model)


def test_files_without_a_calendar_give_a_model_without_one_and_say_so(tmp_path, states):
    del states["s2"]["ctpe"]
    report = convert(
        write_split(tmp_path, states), tmp_path / "out", licence=LICENCE, preset="tiny"
    )
    assert any("no calendar" in n for n in report.notes)
    loaded = load_checkpoint(tmp_path / "out")
    assert loaded.model.calendar is None
    assert loaded.notes == report.notes


def test_longer_calendar_is_taken_as_it_is(tmp_path, states):
    states["s2"]["ctpe"] = torch.zeros(1, 366, 192)
    convert(write_split(tmp_path, states), tmp_path / "out", licence=LICENCE, preset="tiny")
    assert load_checkpoint(tmp_path / "out").model.config.fusion.calendar_rows == 366


def test_two_equal_calendars_are_one(tmp_path, states, model):
    states["s1"]["ctpe"] = states["s2"]["ctpe"].clone()
    convert(write_split(tmp_path, states), tmp_path / "out", licence=LICENCE, preset="tiny")
    assert_same(tmp_path / "out", model)


def test_two_different_calendars_are_refused(tmp_path, states):
    states["s1"]["ctpe"] = states["s2"]["ctpe"] + 1
    refuse(tmp_path, write_split(tmp_path, states), "Two files hold the part calendar")


def test_part_of_the_model_is_converted_only_when_said(tmp_path, states):
    some = {p: states[p] for p in ("s2", "head_s2", "fusion")}
    files = write_split(tmp_path, some)
    refuse(tmp_path, files, "hr, s1, head_s1 are missing")
    convert(
        files, tmp_path / "out", licence=LICENCE, preset="tiny", parts=("s2", "head_s2", "fusion")
    )
    loaded = load_checkpoint(tmp_path / "out").model
    assert loaded.config.sensors == ("s2",)
    assert loaded.hr is None


@pytest.mark.parametrize("parts", [(), ("s2", "s3")])
def test_unknown_parts_are_refused(tmp_path, states, parts):
    refuse(tmp_path, write_split(tmp_path, {"s2": states["s2"]}), "name some of", parts=parts)


def refuse(tmp_path, files, message, **options):
    with pytest.raises(WeightsError, match=message):
        convert(files, tmp_path / "out", **({"licence": LICENCE, "preset": "tiny"} | options))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".convert-*"))


def test_missing_key_is_named(tmp_path, states):
    del states["s1"]["layers.2.ffn.layers.1.bias"]
    files = write_split(tmp_path, states)
    refuse(
        tmp_path, files, r"backbone_s1.safetensors \(s1\).*1 missing: layers.2.ffn.layers.1.bias"
    )


def test_misshapen_key_is_named(tmp_path, states):
    states["fusion"]["porj_linear.weight"] = torch.zeros(128, 100)
    files = write_split(tmp_path, states)
    refuse(tmp_path, files, r"misshapen: porj_linear.weight \[128, 100\] instead of \[128, 192\]")


def test_unknown_key_is_named(tmp_path, states):
    states["hr"]["surprise.weight"] = torch.zeros(1)
    refuse(tmp_path, write_split(tmp_path, states), "unexpected: surprise.weight")


def test_value_that_is_no_number_is_named(tmp_path, states):
    states["fusion"]["porj_linear.bias"][5] = float("nan")
    refuse(tmp_path, write_split(tmp_path, states), "fusion.input.bias holds NaN")


def test_weights_of_another_size_are_refused(tmp_path, states):
    refuse(tmp_path, write_split(tmp_path, states), "misshapen", preset="base")


def test_plus_plus_weights_are_refused_by_name(tmp_path, states):
    state = one_file(states) | {"backbone_hr.vocabulary_token": torch.zeros(65, 24)}
    torch.save({"model": state}, tmp_path / "all.pth")
    refuse(tmp_path, [tmp_path / "all.pth"], r"SkySense\+\+")


def test_positions_without_a_class_row_are_refused_with_the_reason(tmp_path, states):
    states["s2"]["pos_embed"] = states["s2"]["pos_embed"][:, 1:].clone()
    refuse(tmp_path, write_split(tmp_path, states), "no row for the class token")


def test_part_given_twice_is_refused(tmp_path, states):
    files = write_split(tmp_path, states)
    again = tmp_path / "again.safetensors"
    again.write_bytes(files[0].read_bytes())
    refuse(tmp_path, [*files, again], "Two files hold the part hr")


def test_head_whose_sensor_is_not_told_is_refused(tmp_path, states):
    torch.save(states["head_s2"], tmp_path / "head.pth")
    refuse(tmp_path, [tmp_path / "head.pth"], "look alike")


def test_half_prefixed_file_is_refused(tmp_path, states):
    first = next(iter(states["hr"]))
    states["hr"][f"backbone.{first}"] = states["hr"].pop(first)
    refuse(tmp_path, write_split(tmp_path, states), "not clear what it holds")


def test_licence_must_be_given(tmp_path, states):
    refuse(tmp_path, write_split(tmp_path, states), "need a licence", licence=" ")


def test_existing_folder_is_not_overwritten(tmp_path, states):
    files = write_split(tmp_path, states)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(WeightsError, match="exists already"):
        convert(files, tmp_path / "out", licence=LICENCE, preset="tiny")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


class Bomb:
    """Runs a command when unpickled by an unguarded loader."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_bomb_would_go_off_without_the_guard(tmp_path):
    mark = tmp_path / "mark"
    code = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
    subprocess.run([sys.executable, "-c", code], input=pickle.dumps(Bomb(mark)), check=True)
    assert mark.exists()


def test_code_in_a_checkpoint_never_runs_and_is_named(tmp_path, states):
    mark = tmp_path / "mark"
    torch.save({**states["s2"], "x": Bomb(mark)}, tmp_path / "s2.pth")
    refuse(tmp_path, [tmp_path / "s2.pth"], "posix.system")
    assert not mark.exists()


def test_code_in_an_old_style_checkpoint_never_runs(tmp_path, states):
    mark = tmp_path / "mark"
    state = {**states["head_s2"], "x": Bomb(mark)}
    torch.save(state, tmp_path / "s2.pth", _use_new_zipfile_serialization=False)
    refuse(tmp_path, [tmp_path / "s2.pth"], "posix.system|not loaded")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_bare_pickle_never_runs_under_any_name(tmp_path, name):
    mark = tmp_path / "mark"
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(mark)))
    refuse(tmp_path, [tmp_path / name], "not loaded|not a safetensors file|can be read")
    assert not mark.exists()


def test_old_style_checkpoint_is_read(tmp_path, states, model):
    files = write_released(tmp_path, states)
    torch.save(states["hr"], files[0], _use_new_zipfile_serialization=False)
    convert(files, tmp_path / "out", licence=LICENCE, preset="tiny")
    assert_same(tmp_path / "out", model)


def test_safetensors_copies_are_read(tmp_path, states, model):
    files = write_released(tmp_path, states)
    copy = files[1].with_suffix(".safetensors")
    save_file(states["s2"], copy)
    convert([files[0], copy, *files[2:]], tmp_path / "out", licence=LICENCE, preset="tiny")
    assert_same(tmp_path / "out", model)


def test_tensor_larger_than_its_file_is_refused(tmp_path):
    torch.save({"stages.x": torch.zeros(1).expand(10**12)}, tmp_path / "x.pth")
    refuse(tmp_path, [tmp_path / "x.pth"], "more bytes than the file")


def test_compressed_archive_that_swells_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(50 * 2**20))
    refuse(tmp_path, [tmp_path / "x.pth"], "unpacks to")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 not a zip", os.urandom(4096)])
def test_file_of_another_kind_is_refused_in_a_sentence(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    refuse(tmp_path, [tmp_path / "x.pth"], "x.pth")


def test_checkpoint_that_is_no_table_is_refused(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "x.pth")
    refuse(tmp_path, [tmp_path / "x.pth"], "holds a list")


def test_reading_that_takes_too_long_is_given_up(tmp_path, states, monkeypatch):
    files = write_released(tmp_path, states)
    monkeypatch.setattr(module, "TIMEOUT", 0.01)
    refuse(tmp_path, files, "could not be read within")


def test_report_is_kept_beside_the_weights(tmp_path, states):
    report = convert(
        write_split(tmp_path, states), tmp_path / "out", licence=LICENCE, preset="tiny"
    )
    assert json.loads((tmp_path / "out" / "report.json").read_text())["weights"] == report.weights
    assert LICENCE in (tmp_path / "out" / "report.txt").read_text()
