"""Checkpoints: the official schema, and folders that hold exactly what they say."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from skysense.errors import WeightsError
from skysense.model import PRESETS, config_from_json
from skysense.model.config import PrototypeConfig
from skysense.weights import (
    build_model,
    file_sha256,
    load_checkpoint,
    official_schema,
    parameter_counts,
    random_id,
    read_header,
    save_checkpoint,
    schema,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny"
    save_checkpoint(build_model("tiny", seed=1), path, licence="CC0", source="a test")
    return path


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.mark.parametrize("part", ["hr", "s2", "s1", "head_s2", "head_s1", "fusion"])
def test_schema_of_the_paper_preset_is_the_official_one(shared, part):
    text = (shared / "reference" / "keys" / f"{part}.json").read_text()
    expected = {k: tuple(v) for k, v in json.loads(text).items() if k != "mask_token"}
    assert official_schema("paper")[part] == expected


def test_schema_of_the_one_file_form_is_the_official_one(shared):
    text = (shared / "reference" / "keys" / "full_mm.json").read_text()
    expected = {k: tuple(v) for k, v in json.loads(text).items()}
    prefix = {"hr": "backbone_gep", "s2": "backbone_s2", "s1": "backbone_s1"}
    found = {
        key if part == "calendar" else f"{prefix.get(part, part)}.{key}": shape
        for part, keys in official_schema("paper").items()
        for key, shape in keys.items()
    }
    assert found == {k: v for k, v in expected.items() if not k.endswith(".mask_token")}


def test_parameter_counts_are_those_of_the_paper():
    counts = parameter_counts("paper")
    assert counts["hr"] == 655_074_704
    assert counts["s2"] == 302_738_432
    assert counts["s1"] == 302_607_360
    assert counts["fusion"] + counts["head_s2"] + counts["head_s1"] == 397_559_808
    assert counts["calendar"] == 1_027_840


def test_every_official_name_maps_back_to_one_of_ours():
    for part, keys in official_schema("paper").items():
        ours = [k for k in schema("paper") if k.startswith(f"{part}.")]
        assert len(keys) == len(ours)


def test_saved_model_comes_back_equal_with_its_terms(folder):
    model, loaded = build_model("tiny", seed=1), load_checkpoint(folder)
    assert loaded.model.config == model.config
    assert (loaded.licence, loaded.source) == ("CC0", "a test")
    assert loaded.weights == f"sha256:{file_sha256(folder / 'model.safetensors')}"
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_loaded_model_can_be_trained_further(folder):
    model = load_checkpoint(folder).model
    assert all(p.requires_grad for p in model.parameters())


def test_model_is_loaded_in_the_type_asked_for(folder):
    assert load_checkpoint(folder, dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_banks_of_prototypes_come_back_equal(tmp_path):
    config = dataclasses.replace(
        PRESETS["tiny"], prototypes=PrototypeConfig(context=True, cells=3, count=4)
    )
    model = build_model(config)
    model.prototypes.bank.normal_()
    model.prototypes.trained[1] = True
    save_checkpoint(model, tmp_path / "w", licence="CC0")
    loaded = load_checkpoint(tmp_path / "w").model
    assert torch.equal(loaded.prototypes.bank, model.prototypes.bank)
    assert loaded.prototypes.trained.tolist() == [False, True, False]


def test_random_weights_depend_on_the_seed_and_nothing_else():
    torch.manual_seed(5)
    first = build_model("tiny", seed=7).state_dict()
    torch.manual_seed(6)
    again, other = build_model("tiny", seed=7).state_dict(), build_model("tiny").state_dict()
    assert all(torch.equal(v, again[k]) for k, v in first.items())
    assert not torch.equal(first["s2.pos_embed"], other["s2.pos_embed"])
    assert random_id(7) == "random(seed=7)"


def test_a_model_of_v2_comes_back_equal_and_its_file_says_which_family_it_is(tmp_path):
    model = build_model("v2-tiny", seed=1)
    save_checkpoint(model, tmp_path / "w", licence="CC0")
    loaded = load_checkpoint(tmp_path / "w").model
    assert loaded.config == model.config
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())
    said = json.loads((tmp_path / "w" / "config.json").read_text())["config"]
    assert said["family"] == "skysense-v2"


def test_a_file_of_v1_says_nothing_of_families(folder):
    assert "family" not in json.loads((folder / "config.json").read_text())["config"]


def test_v2_has_no_official_names():
    with pytest.raises(WeightsError, match="neither code nor weights were published"):
        official_schema("v2-tiny")


@pytest.mark.parametrize("name", PRESETS)
def test_configuration_survives_its_json(name):
    assert config_from_json(PRESETS[name].to_json()) == PRESETS[name]


def test_unknown_preset_is_refused():
    with pytest.raises(WeightsError, match="no model preset 'huge'; the presets are tiny, base"):
        build_model("huge")


def test_weights_without_a_licence_are_not_written(tmp_path):
    with pytest.raises(WeightsError, match="need a licence"):
        save_checkpoint(build_model("tiny"), tmp_path / "w", licence="")


def test_existing_folder_is_not_overwritten(folder):
    with pytest.raises(WeightsError, match="exists already"):
        save_checkpoint(build_model("tiny"), folder, licence="CC0")


def test_weight_that_is_no_number_is_not_written(tmp_path):
    model = build_model("tiny")
    model.fusion.input.bias.data[0] = torch.inf
    with pytest.raises(WeightsError, match=r"fusion.input.bias holds NaN or infinite"):
        save_checkpoint(model, tmp_path / "w", licence="CC0")


def describe(path, **changes):
    file = path / "config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": ""}, "names no licence"),
        ({"licence": None}, "must hold the strings"),
        ({"format": "other"}, "this version reads"),
        ({"sha256": "0" * 64}, "was changed or replaced"),
        ({"config": {}}, "no usable model configuration.*missing entries"),
        ({"notes": [1]}, "list of notes"),
    ],
)
def test_wrong_description_is_refused(copy, changes, message):
    describe(copy, **changes)
    with pytest.raises(WeightsError, match=message):
        load_checkpoint(copy)


def test_folder_without_a_description_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"no config.json.*skysense convert"):
        load_checkpoint(tmp_path)


def test_description_that_is_no_json_is_refused(copy):
    (copy / "config.json").write_text("[" * 100_000)
    with pytest.raises(WeightsError, match="not readable JSON"):
        load_checkpoint(copy)


def test_folder_without_tensors_is_refused(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        load_checkpoint(copy)


def rewrite(path, change):
    file = path / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    describe(path, sha256=file_sha256(file))


def test_missing_tensor_is_named(copy):
    rewrite(copy, lambda t: t.pop("s1.cls_token"))
    with pytest.raises(WeightsError, match=r"1 missing: s1.cls_token"):
        load_checkpoint(copy)


def test_misshapen_tensor_is_named(copy):
    rewrite(copy, lambda t: t.update({"s1.cls_token": torch.zeros(1, 1, 5)}))
    with pytest.raises(WeightsError, match=r"s1.cls_token \[1, 1, 5\] instead of \[1, 1, 128\]"):
        load_checkpoint(copy)


def test_unexpected_tensor_is_named(copy):
    rewrite(copy, lambda t: t.update({"more": torch.zeros(2)}))
    with pytest.raises(WeightsError, match="1 unexpected: more"):
        load_checkpoint(copy)


def test_whole_numbers_are_no_weights(copy):
    rewrite(copy, lambda t: t.update({"s1.cls_token": torch.zeros(1, 1, 128).long()}))
    with pytest.raises(WeightsError, match=r"stores s1.cls_token as I64"):
        load_checkpoint(copy)


def header_file(path, header, body=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + body)
    return path


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        (b"{", b"", "not a safetensors file"),
        (b"{}}", b"", "not JSON"),
        (b"[1]", b"", "not a table"),
        (b"[" * 50_000, b"", "not JSON"),
        ({"a": {**ONE, "shape": [2**62]}}, b"abcd", "but 4 bytes"),
        ({"a": {**ONE, "shape": [-1]}}, b"abcd", "no tensor of a type"),
        ({"a": {**ONE, "dtype": "F4"}}, b"abcd", "no tensor of a type"),
        ({"a": {**ONE, "data_offsets": [0]}}, b"abcd", "no tensor of a type"),
        ({"a": 3}, b"abcd", "no tensor of a type"),
        ({"a": ONE}, b"abc", "do not fill"),
        ({"a": ONE}, b"abcde", "do not fill"),
        ({"a": ONE, "b": ONE}, b"abcd", "do not fill"),
    ],
)
def test_header_that_does_not_describe_its_file_is_refused(tmp_path, header, body, message):
    with pytest.raises(WeightsError, match=message):
        read_header(header_file(tmp_path / "x.safetensors", header, body))


def test_header_that_claims_to_be_huge_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "x.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(WeightsError, match="announce a header of 4611686018427387904 bytes"):
        read_header(tmp_path / "x.safetensors")


def test_cut_off_file_is_refused(copy):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="do not fill"):
        load_checkpoint(copy)
