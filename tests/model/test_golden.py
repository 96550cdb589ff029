"""Every published output of the official modules is reproduced, in float64 and in float32."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from skysense.errors import EncoderError
from skysense.model.config import FusionConfig, SwinConfig, ViTConfig
from skysense.model.fusion import FusionTransformer
from skysense.model.heads import UPHead
from skysense.model.keys import to_official
from skysense.model.swin import Swin
from skysense.model.vit import ViT

HERE = Path(__file__).resolve().parents[1] / "golden"
PRECISIONS = [torch.float64, torch.float32]

SWIN = SwinConfig(
    dim=16, depths=(2, 2, 6, 2), heads=(2, 4, 8, 16), window=4, extra_norm_every=3,
    out_indices=(0, 1, 2, 3),
)  # fmt: skip
SWIN_CASES = {
    "a128": {},
    "b136x152": {},
    "c131x149": {},
    "d64_pad_small": {"pad_small_map": True},
    "e128_last_only": {"out_indices": (3,)},
    "f128_pad_small": {"pad_small_map": True},
    "g128x192": {},
}
VIT = ViTConfig(image=16, dim=32, layers=4, heads=4, out_indices=(0, 1, 3))
VIT_CASES = {
    "a16": {},
    "b24x32": {},
    "c18x17": {},
    "d16_nocls": {"cls_token": False},
    "e24x32_nocls": {"cls_token": False},
    "f16_outcls": {},
    "g16_eps1e-6": {"eps": 1e-6},
    "h24x32_bilinear": {"resize": "bilinear"},
}
FUSION = FusionConfig(in_dim=24, dim=32, layers=3, heads=4)


def loaded(module, part, data, dtype):
    module.load_state_dict({k: data[f"weight.{to_official(part, k)}"] for k in module.state_dict()})
    return module.to(dtype).eval().requires_grad_(False)


def assert_golden(found, data, key, dtype):
    bits = "64" if dtype == torch.float64 else "32"
    expected = data[key.replace(".out", f".out{bits}")]
    assert found.shape == expected.shape
    if dtype == torch.float64:
        assert (found - expected).abs().max() <= 1e-10, key
    else:
        assert (found - expected).norm() <= 1e-4 * expected.norm(), key


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("case", SWIN_CASES)
def test_high_resolution_encoder_equals_the_official_one(shared, case, dtype):
    data = load_file(shared / "reference" / "golden" / "hr_swinv2_tiny.safetensors")
    model = loaded(Swin(dataclasses.replace(SWIN, **SWIN_CASES[case])), "hr", data, dtype)
    for i, level in enumerate(model.levels(data[f"{case}.input"].to(dtype))):
        assert_golden(level, data, f"{case}.out.{i}", dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("case", VIT_CASES)
def test_sentinel_2_encoder_equals_the_official_one(shared, case, dtype):
    data = load_file(shared / "reference" / "golden" / "s2_vit_tiny.safetensors")
    model = loaded(ViT(dataclasses.replace(VIT, **VIT_CASES[case])), "s2", data, dtype)
    for i, (grid, token) in enumerate(model.levels(data[f"{case}.input"].to(dtype))):
        if case == "f16_outcls":
            assert_golden(grid, data, f"{case}.out.{i}.0", dtype)
            assert_golden(token, data, f"{case}.out.{i}.1", dtype)
        else:
            assert_golden(grid, data, f"{case}.out.{i}", dtype)
            assert (token is None) == ("nocls" in case)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_sentinel_1_encoder_equals_the_official_one(dtype):
    data = load_file(HERE / "s1_vit_tiny.safetensors")
    model = loaded(ViT(dataclasses.replace(VIT, in_channels=2)), "s1", data, dtype)
    for i, (grid, _) in enumerate(model.levels(data["a16.input"].to(dtype))):
        assert_golden(grid, data, f"a16.out.{i}", dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_last_layer_alone_equals_the_last_of_all_levels(dtype):
    data = load_file(HERE / "s1_vit_tiny.safetensors")
    model = loaded(ViT(dataclasses.replace(VIT, in_channels=2)), "s1", data, dtype)
    assert_golden(model(data["a16.input"].to(dtype)), data, "a16.out.2", dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_up_sampling_head_equals_the_official_one(dtype):
    data = load_file(HERE / "uphead_tiny.safetensors")
    model = loaded(UPHead(32, 24, 4), "head_s2", data, dtype)
    assert_golden(model(data["a.input"].to(dtype)), data, "a.out", dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_fusion_class_token_equals_the_official_one(dtype):
    data = load_file(HERE / "fusion_tiny.safetensors")
    model = loaded(FusionTransformer(FUSION), "fusion", data, dtype)
    assert_golden(model(data["input"].to(dtype)), data, "cls.out", dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_every_other_fusion_output_is_a_slice_of_the_levels(dtype):
    data = load_file(HERE / "fusion_tiny.safetensors")
    model = loaded(FusionTransformer(FUSION), "fusion", data, dtype)
    levels = model.levels(data["input"].to(dtype))
    assert_golden(levels[-1][:, :2], data, "two.out", dtype)
    assert_golden(levels[-1][:, 1:], data, "tokens.out", dtype)
    assert_golden(levels[-1][:, 0], data, "feat.out.0", dtype)
    for i, level in enumerate(levels):
        assert_golden(level, data, f"feat.out.1.{i}", dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_fusion_without_class_token_equals_the_official_one(dtype):
    data = load_file(HERE / "fusion_tiny.safetensors")
    config = dataclasses.replace(FUSION, cls_token=False)
    model = loaded(FusionTransformer(config), "fusion", data, dtype)
    assert_golden(model.levels(data["input"].to(dtype))[-1], data, "nocls.out", dtype)


def test_map_smaller_than_the_window_is_refused_with_what_to_do():
    with pytest.raises(EncoderError, match=r"2 × 2 tokens is smaller .* at least 128 × 128 pixels"):
        Swin(SWIN).eval()(torch.zeros(1, 3, 64, 64))


def test_relative_position_buffers_equal_the_official_ones(shared):
    from skysense.model.swin import _relative_coordinates, _relative_index

    data = load_file(shared / "reference" / "golden" / "hr_swinv2_tiny.safetensors")
    torch.testing.assert_close(
        _relative_coordinates(4, 0)[None], data["buffer.relative_coords_table"]
    )
    assert torch.equal(_relative_index(4), data["buffer.relative_position_index"])


def test_cases_tested_are_all_there_are(shared):
    configs = json.loads((shared / "reference" / "golden" / "configs.json").read_text())
    assert set(configs["hr"]["cases"]) == set(SWIN_CASES)
    assert set(configs["s2"]["cases"]) == set(VIT_CASES)
