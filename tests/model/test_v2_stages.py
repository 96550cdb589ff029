"""What is SkySense V2's own in its stages: merging or keeping, prompt tokens, positions."""

import dataclasses
import itertools

import pytest
import torch
from mini import DENSE_V2, MINI_V2, make_inputs, make_model

from skysense.errors import EncoderError
from skysense.model.backbone import PlainStage, ground_code
from skysense.model.config_parts import BackboneConfig
from skysense.model.swin import Merge
from skysense.weights import build_model

SCHEDULES = list(itertools.product((False, True), repeat=3))
IDS = ["".join("km"[yes] for yes in each) for each in SCHEDULES]


def with_backbone(config, **changes):
    return dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, **changes))


@pytest.fixture
def v2():
    return make_model(MINI_V2)


@pytest.fixture
def images():
    """By sensor, those of `make_inputs`, one after the other."""
    return {sensor: given.pixels.flatten(0, 1) for sensor, given in make_inputs().items()}


# Merging and keeping


def repeated(x):
    return x.repeat_interleave(2, 1).repeat_interleave(2, 2)


def test_keeping_is_merging_the_token_given_four_times_to_the_bit():
    """With whole numbers, which are added without rounding."""
    merge, x = Merge(3, 1e-5).double(), torch.randint(-9, 9, (2, 4, 6, 3)).double()
    merge.norm = torch.nn.Identity()
    with torch.no_grad():
        merge.reduction.weight.copy_(torch.randint(-9, 9, (6, 12)))
        assert torch.equal(merge.keep(x), merge(repeated(x)))


def test_on_a_map_of_identical_neighbours_keeping_is_merging_then_repeating():
    merge, x = Merge(8, 1e-5).double(), torch.randn(2, 3, 4, 8).double()
    alike = repeated(x)
    torch.testing.assert_close(merge.keep(alike), repeated(merge(alike)), rtol=0, atol=1e-12)


def test_keeping_is_not_the_mean_of_the_four_blocks_but_their_sum():
    merge, x = Merge(8, 1e-5).double(), torch.randn(2, 3, 4, 8).double()
    blocks = merge.reduction.weight.view(16, 8, 4)
    total = x @ blocks.sum(-1).T
    torch.testing.assert_close(merge.keep(x), merge.norm(total))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=IDS)
def test_any_stage_may_merge_or_keep(v2, images, schedule):
    with torch.no_grad():
        for sensor, side in (("hr", 64), ("s2", 2)):
            maps = v2.pyramid(sensor, images[sensor], merge=schedule).levels
            for i, level in enumerate(maps):
                scale = 2 ** sum(schedule[:i])
                assert level.shape[1:] == (8 * 2**i, -(-side // scale), -(-side // scale))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=IDS)
def test_dates_stay_on_the_lattice_of_fusion_whatever_the_schedule(v2, schedule):
    inputs = make_inputs()
    with torch.no_grad():
        for sensor, side in (("hr", 8), ("s2", 2), ("s1", 2)):
            found = v2.encode_dates(sensor, inputs[sensor].pixels, merge=schedule)
            assert found.shape == (*inputs[sensor].doy.shape, 64, side, side)


def test_finer_high_resolution_is_averaged_to_ten_metres(v2, images):
    with torch.no_grad():
        fine = v2.pyramid("hr", images["hr"], merge=(True, False, False)).levels[-1]  # 2.5 m
        coarse = v2.maps_of("hr", images["hr"], merge=(True, False, False))
    expected = fine.unflatten(3, (8, 4)).unflatten(2, (8, 4)).mean((3, 5))
    torch.testing.assert_close(coarse.permute(0, 3, 1, 2), expected)


def test_coarser_sentinel_tokens_are_repeated_to_forty_metres(v2):
    x = torch.randn(1, 10, 20, 12).double()
    with torch.no_grad():
        found = v2.maps_of("s2", x, merge=(True, False, False))  # 5 x 3 tokens, 3 x 2 merged
        merged = v2.pyramid("s2", x, merge=(True, False, False)).levels[-1].permute(0, 2, 3, 1)
    assert torch.equal(found, repeated(merged)[:, :5, :3])


def test_repeated_pixels_merged_like_high_resolution_give_tokens_of_forty_metres():
    """The ablation without adaptive merging: one schedule for all sensors."""
    tokens = dataclasses.replace(MINI_V2.tokens_s2, merge=(True, True, True), repeat=8)
    model = make_model(dataclasses.replace(MINI_V2, tokens_s2=tokens))
    pixels = make_inputs()["s2"].pixels
    with torch.no_grad():
        assert model.encode_dates("s2", pixels).shape == (2, 4, 64, 2, 2)
        levels = model.pyramid("s2", pixels[0]).levels
    assert [level.shape[-1] for level in levels] == [16, 8, 4, 2]
    assert model.s2.spacing == 5.0


def test_pooled_is_the_mean_of_the_last_map(v2, images):
    with torch.no_grad():
        levels, pooled = v2.pyramid("s1", images["s1"])
    torch.testing.assert_close(pooled, levels[-1].mean((2, 3)))


def test_the_last_map_is_normalised(v2, images):
    with torch.no_grad():
        v2.backbone.norm.weight.fill_(1)
        v2.backbone.norm.bias.fill_(0)
        last = v2.pyramid("s2", images["s2"]).levels[-1]
    torch.testing.assert_close(last.mean(1), torch.zeros_like(last.mean(1)), rtol=0, atol=1e-12)


def test_what_is_no_schedule_is_refused(v2, images):
    with pytest.raises(EncoderError, match="is no schedule"):
        v2.pyramid("s2", images["s2"], merge=(True, True))


def test_sensors_share_every_layer_of_the_backbone(v2):
    """Fed the same tokens with the same prompts on the same ground, they get the same maps."""
    with torch.no_grad():
        v2.s1.prompts.load_state_dict(v2.s2.prompts.state_dict())
        x = torch.randn(1, 2, 2, 8).double()
        a, b = (list(v2.backbone(x, t, (False,) * 3))[-1].map for t in (v2.s2, v2.s1))
    assert torch.equal(a, b)


# Prompt tokens


def without_attention(model):
    for stage in list(model.backbone.stages)[2:]:
        for layer in stage.layers:
            layer.attn.proj.weight.zero_()
            layer.attn.proj.bias.zero_()


def test_prompts_drop_out_at_the_end_of_a_stage(images):
    """Where no token attends to another, a model with prompts is one that never had any."""
    with torch.no_grad():
        model = make_model(MINI_V2)
        without_attention(model)
        bare = make_model(with_backbone(MINI_V2, prompts=0))
        kept = {k: v for k, v in model.state_dict().items() if "prompts" not in k}
        bare.load_state_dict(kept, strict=False)
        for sensor, pixels in images.items():
            for a, b in zip(
                model.pyramid(sensor, pixels).levels,
                bare.pyramid(sensor, pixels).levels,
                strict=True,
            ):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_stage_4_gets_nothing_of_stage_3_but_its_map(v2, images):
    """Prompts included: it starts with its own, whatever those of stage 3 became."""
    with torch.no_grad():
        *_, before, last = v2.pyramid("s2", images["s2"]).levels
        found = v2.backbone.stages[3](before.permute(0, 2, 3, 1), v2.s2.prompts[1], 40.0, False)
        torch.testing.assert_close(v2.backbone.norm(found.map).permute(0, 3, 1, 2), last)


def test_prompts_belong_to_one_sensor_and_one_stage(v2, images):
    with torch.no_grad():
        before = {s: v2.pyramid(s, x).levels for s, x in images.items()}
        v2.s1.prompts[1][:, :, 0].add_(1.0)
        after = {s: v2.pyramid(s, x).levels for s, x in images.items()}
    for sensor in ("hr", "s2"):
        pairs = zip(before[sensor], after[sensor], strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(before["s1"][2], after["s1"][2])
    assert not torch.allclose(before["s1"][3], after["s1"][3])


def test_attention_to_prompts_and_to_the_image_is_one(v2, images):
    with torch.no_grad():
        found = v2.prompt_attention("s2", images["s2"], block=0)
        stage, layer = v2.backbone.stages[2], v2.backbone.stages[2].layers[0]
        x = list(v2.backbone(v2.s2(images["s2"]), v2.s2, (False,) * 3))[1].map
        tokens, _ = stage.enter(x, v2.s2.prompts[0], 40.0, False)
        every = layer.attn.shares(layer.ln1(tokens), 8)
    assert found.shape == (8, 4, 2, 2)
    torch.testing.assert_close(every.sum(-1), torch.ones_like(every[..., 0]))
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), every[:, 4:, :4])


def test_where_all_tokens_look_alike_each_prompt_gets_its_equal_share(v2, images):
    with torch.no_grad():
        v2.backbone.stages[3].layers[1].attn.qkv.weight.zero_()
        found = v2.prompt_attention("hr", images["hr"])
    torch.testing.assert_close(found, torch.full((4, 4, 8, 8), 1 / 68).double())


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (MINI_V2, {"block": 4}, "no block 4; this model has 4 blocks of plain attention"),
        (with_backbone(MINI_V2, prompts=0), {}, "has no prompt tokens"),
    ],
)
def test_attention_to_what_is_not_there_is_refused(images, config, options, message):
    with pytest.raises(EncoderError, match=message):
        make_model(config).prompt_attention("s2", images["s2"], **options)


# Positions


def test_one_place_has_one_code_whatever_the_size_of_tokens():
    fine, coarse = ground_code(5, 5, 8.0, 16).view(5, 5, 16), ground_code(1, 1, 40.0, 16)
    torch.testing.assert_close(fine[2, 2], coarse[0])


def test_a_code_knows_rows_from_columns_and_near_from_far():
    code = ground_code(16, 16, 40.0, 32).view(16, 16, 32)
    assert torch.equal(code[3, 5, :16], code[3, 9, :16])
    assert torch.equal(code[3, 5, 16:], code[11, 5, 16:])
    apart = (code[0, 0] - code[0]).norm(dim=-1)
    assert apart[1] < apart[4] < apart[15]
    assert len(code.flatten(0, 1).unique(dim=0)) == 256


def test_without_positions_a_plain_stage_treats_tokens_as_a_set():
    config = BackboneConfig(dim=8, heads=(1, 2, 2, 4), positions="none")
    stage = PlainStage(config, 2, [0.0, 0.0], 1).double()
    x, prompts = torch.randn(1, 1, 6, 16).double(), torch.randn(1, 4, 32).double()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    plain, turned = (stage(each, prompts, 40.0, False).map for each in (x, x[:, :, order]))
    torch.testing.assert_close(turned, plain[:, :, order])


def test_with_positions_the_order_of_tokens_matters():
    stage = PlainStage(BackboneConfig(dim=8, heads=(1, 2, 2, 4)), 2, [0.0, 0.0], 0).double()
    x, prompts = torch.randn(1, 1, 6, 16).double(), torch.randn(1, 4, 32).double()
    plain, turned = (stage(each, prompts, 40.0, False).map for each in (x, x.flip(2)))
    assert not torch.allclose(turned, plain.flip(2))


# Configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": (1, 2, 3, 4)}, "stage 3 width 32 is not a multiple of its 3 heads"),
        ({"depths": (2, 2, 2), "heads": (1, 2, 2)}, "has four stages"),
        ({"dim": 16}, "ends 128 wide, but fusion reads 64"),
        ({"patch": 8}, "patches of 8 pixels"),
        ({"positions": "learned"}, "positions is 'learned'"),
        ({"moe_blocks": 5}, "may be in up to 4 blocks"),
        ({"experts": 0}, "0 experts"),
    ],
)
def test_a_backbone_that_cannot_be_built_is_refused(changes, message):
    with pytest.raises(EncoderError, match=message):
        with_backbone(MINI_V2, **changes)


def test_a_schedule_of_two_is_no_configuration():
    tokens = dataclasses.replace(MINI_V2.tokens_hr, merge=(True, True))
    with pytest.raises(EncoderError, match="tokens_hr needs three times yes or no"):
        dataclasses.replace(MINI_V2, tokens_hr=tokens)


def test_a_model_without_a_backbone_says_that_it_encodes_nothing(images):
    model = make_model(dataclasses.replace(DENSE_V2, parts=("s2",)))
    assert model.config.sensors == ()
    with pytest.raises(EncoderError, match="has no backbone"):
        model.pyramid("s2", images["s2"])


@pytest.mark.parametrize("sensor", ["hr", "s2", "s1"])
def test_what_nothing_is_known_of_and_padding_begin_with_gradients_of_usual_size(sensor):
    """Where all pixels are at the sensor's mean, cosine attention must not divide by nothing."""
    model, side = build_model(MINI_V2).double().requires_grad_(True), {"hr": 96}.get(sensor, 12)
    bands = MINI_V2.tokens(sensor).in_channels
    images = torch.randn(1, bands, side, side, dtype=torch.float64)
    images[..., : side // 2] = 0.0
    model.maps_of(sensor, images).square().mean().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert max(float(each.norm()) for each in gradients) < 1e4
