"""Numbers that pin SkySense V2, at full size and without memory: the checks its brief gives."""

import dataclasses
from pathlib import Path

import pytest
import torch

from skysense.model import PRESETS, SkySenseV2
from skysense.weights import parameter_counts

PAPER = PRESETS["v2-paper"]
PAGE = Path(__file__).parents[2] / "docs" / "decisions" / "v2.md"
PUBLISHED = 661.40e6
"""Parameters of the dense backbone, from the paper's table by way of a reader's notes."""


def backbone(**changes):
    """The full-size backbone without its memory."""
    config = dataclasses.replace(PAPER, backbone=dataclasses.replace(PAPER.backbone, **changes))
    with torch.device("meta"):
        return SkySenseV2(dataclasses.replace(config, parts=("backbone",))).backbone


def size(module, *without):
    return sum(
        p.numel() for n, p in module.named_parameters() if not any(word in n for word in without)
    )


@pytest.fixture(scope="module")
def dense():
    return backbone()


def test_blocks_and_merges_have_the_published_number_of_parameters(dense):
    """Without what Swin V2 adds to a block, its position MLP and temperature, and the last norm."""
    assert size(dense.stages, "cpb_mlp", "logit_scale") == 654_653_120


def test_each_block_and_each_merge_has_its_share(dense):
    for stage, width in zip(dense.stages, (352, 704, 1408, 2816), strict=True):
        for block in getattr(stage, "blocks", None) or stage.layers:
            assert size(block, "cpb_mlp", "logit_scale") == 12 * width**2 + 13 * width
        if width > 352:
            c = width // 2
            assert size(stage.downsample) == 8 * c**2 + 4 * c


def test_experts_add_the_published_number_of_parameters(dense):
    moe = backbone(moe_blocks=6, experts=8)
    assert size(moe) - size(dense) == 1_332_700_160
    assert PRESETS["v2-paper-moe"].backbone == dataclasses.replace(
        PAPER.backbone, moe_blocks=6, experts=8
    )


@pytest.mark.parametrize(
    ("experts", "ours", "published"),
    [(4, "1.23", "1.23"), (8, "1.99", "1.99"), (16, "3.51", "3.52")],
)
def test_numbers_of_experts_give_the_published_sizes(dense, experts, ours, published):
    more = size(backbone(moe_blocks=6, experts=experts)) - size(dense)
    assert f"{(size(dense) + more) / 1e9:.2f}" == ours
    assert f"{(PUBLISHED + more) / 1e9:.2f}" == published


def test_the_last_six_blocks_are_four_of_stage_3_and_both_of_stage_4():
    stages = backbone(moe_blocks=6).stages
    routed = [
        [hasattr(layer.mlp, "router") for layer in getattr(stage, "layers", [])] for stage in stages
    ]
    assert routed == [[], [], [False] * 14 + [True] * 4, [True] * 2]


def test_what_the_published_totals_leave_unexplained_is_what_we_say():
    counts = parameter_counts("v2-paper")
    prompts = 4 * 3 * (1408 + 2816)
    assert counts["backbone"] == 654_689_520
    assert PUBLISHED - counts["backbone"] == pytest.approx(6.71e6, abs=5e3)
    assert 9.94e6 - prompts == pytest.approx(9.89e6, abs=5e3)
    assert counts["hr"] + counts["s2"] + counts["s1"] - prompts == 87_648  # published: 0.09 M
    said = PAGE.read_text(encoding="utf-8")
    assert "**6.71 M unexplained**" in said
    assert "**9.89 M unexplained**" in said
    heads = counts["head_s2"] + counts["head_s1"]
    assert counts["fusion"] + heads == pytest.approx(559.04e6, abs=5e3)  # published: 347.01 M


def test_fusion_is_v1_s_at_full_size():
    assert parameter_counts("v2-paper")["fusion"] == parameter_counts("paper")["fusion"]


@pytest.mark.parametrize(
    ("sensor", "bands", "side", "strides"),
    [("hr", 3, 2048, (4, 8, 16, 32)), ("s2", 10, 64, (4,) * 4), ("s1", 2, 64, (4,) * 4)],
)
def test_maps_of_every_sensor_have_the_published_shapes(sensor, bands, side, strides):
    with torch.device("meta"):
        model = SkySenseV2(dataclasses.replace(PAPER, parts=(sensor, "backbone"))).eval()
        images = torch.zeros(1, bands, side, side)
    tokenizer = getattr(model, sensor)
    with torch.no_grad():
        stages = model.backbone(tokenizer(images), tokenizer, PAPER.tokens(sensor).merge)
        found = [tuple(mapped.map.shape) for mapped in stages]
    widths = (352, 704, 1408, 2816)
    assert found == [(1, side // s, side // s, c) for s, c in zip(strides, widths, strict=True)]


def test_the_tiny_preset_and_a_bank_fit_into_fifteen_megabytes_in_half_precision():
    tiny = sum(parameter_counts("v2-tiny").values())
    assert tiny <= 6e6
    assert 2 * (tiny + 1024 * 8 * 128) <= 15e6  # with the bank that training adds
