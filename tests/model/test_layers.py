"""Shared pieces: attention at one token, chunked MLPs, remembered values, the precision test."""

import dataclasses
import json

import platformdirs
import pytest
import torch
from mini import MINI

from skysense.errors import EncoderError
from skysense.model import PRESETS, SkySenseConfig, layers, precision
from skysense.model.config import FusionConfig, SwinConfig
from skysense.model.fusion import FusionTransformer
from skysense.model.layers import MLP, DropPath, Layer, Memo, drop_rates
from skysense.model.precision import choose_dtype


def test_first_token_alone_equals_the_first_of_all():
    layer, x = Layer(16, 2, 4.0, 0.0, 1e-5).double(), torch.randn(3, 5, 16).double()
    valid = torch.tensor([[True] * 5, [True, False, True, False, True], [True] + [False] * 4])
    torch.testing.assert_close(layer.first(x, valid), layer(x, valid)[:, :1])
    torch.testing.assert_close(layer.first(x), layer(x)[:, :1])


def test_masked_tokens_equal_absent_ones():
    fusion = FusionTransformer(FusionConfig(in_dim=6, dim=16, layers=2, heads=2)).double().eval()
    x = torch.randn(4, 5, 6).double()
    valid = torch.tensor([True, False, True, False, True])
    torch.testing.assert_close(fusion(x, valid.expand(4, 5)), fusion(x[:, valid]))


def test_sequence_without_a_valid_token_stays_finite():
    fusion = FusionTransformer(FusionConfig(in_dim=6, dim=16, layers=2, heads=2)).eval()
    x = torch.randn(2, 3, 6, requires_grad=True)
    out = fusion(x, torch.zeros(2, 3).bool())
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad.abs().max() == 0


def test_fusion_without_class_token_has_no_single_feature():
    fusion = FusionTransformer(FusionConfig(in_dim=6, dim=16, layers=1, heads=2, cls_token=False))
    with pytest.raises(EncoderError, match="no class token"):
        fusion(torch.zeros(1, 2, 6))


def test_mlp_in_pieces_equals_the_whole(monkeypatch):
    mlp, x = MLP(8, 4.0).double(), torch.randn(5, 7, 8).double()
    whole = mlp(x)
    monkeypatch.setattr(layers, "MLP_CHUNK", 4)
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), whole.detach())


def test_dropped_branches_keep_the_mean():
    torch.manual_seed(0)
    drop = DropPath(0.3).train()
    out = drop(torch.ones(20_000, 2))
    assert torch.equal(out[:, 0], out[:, 1])
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(drop.eval()(torch.ones(3)), torch.ones(3))


def test_drop_rates_rise_linearly():
    assert drop_rates(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert drop_rates(0.3, 1) == [0.0]


def test_nothing_is_remembered_in_training_or_with_gradients():
    memo, tensor, calls = Memo(), torch.ones(1), []
    with torch.no_grad():
        memo.get("x", [tensor], lambda: calls.append(1))  # in training
    memo.eval()
    memo.get("x", [tensor], lambda: calls.append(2))  # with gradients
    for _ in range(2):
        with torch.no_grad():
            memo.get("x", [tensor], lambda: calls.append(3))
    assert calls == [1, 2, 3]


def test_remembered_value_is_forgotten_on_request():
    memo, calls = Memo().eval(), []
    with torch.no_grad():
        memo.get("x", [], lambda: calls.append(1))
        memo.forget()
        memo.get("x", [], lambda: calls.append(2))
    assert calls == [1, 2]


# Configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hr": dataclasses.replace(MINI.hr, heads=(3, 2, 4, 8))}, "not a multiple of its 3 heads"),
        ({"hr": dataclasses.replace(MINI.hr, depths=(2, 2))}, "differ in length"),
        ({"hr": SwinConfig()}, "hr ends 2816 wide, but fusion reads tokens 64 wide"),
        ({"s2": dataclasses.replace(MINI.s2, patch=8)}, "must meet one Sentinel pixel"),
        ({"s2": dataclasses.replace(MINI.s2, resize="cubic")}, "resize is 'cubic'"),
        ({"fusion": dataclasses.replace(MINI.fusion, calendar="hr")}, "calendar is 'hr'"),
        ({"parts": ("hr", "s3")}, r"parts \['s3'\] are unknown"),
    ],
)
def test_configuration_that_cannot_be_built_is_refused(changes, message):
    with pytest.raises(EncoderError, match=message):
        dataclasses.replace(MINI, **changes)


def altered(path, value):
    values = json.loads(PRESETS["tiny"].to_json())
    *outer, last = path
    inner = values
    for key in outer:
        inner = inner[key]
    inner[last] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ("{}", "missing entries"),
        (altered(["hr", "more"], 1), r"unknown entries \['more'\]"),
        (altered(["hr", "dim"], "24"), "config.hr.dim is '24'"),
        (altered(["hr", "dim"], True), "config.hr.dim is True"),
        (altered(["hr", "depths"], [2, 2.5]), "config.hr.depths"),
        (altered(["parts"], "hr"), "config.parts"),
    ],
)
def test_json_that_is_no_configuration_is_refused(text, message):
    with pytest.raises(EncoderError, match=message):
        SkySenseConfig.from_json(text)


# Precision


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    monkeypatch.setattr(precision, "_known", {})
    return tmp_path / "skysense" / "precision.json"


def test_precision_given_needs_no_test(cache):
    assert choose_dtype("cpu", override="bfloat16") == torch.bfloat16
    assert choose_dtype("cpu", override="float32") == torch.float32
    assert not cache.exists()


def test_unknown_precision_is_refused():
    with pytest.raises(EncoderError, match="'half' is unknown"):
        choose_dtype("cpu", override="half")


@pytest.mark.parametrize(("pays", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_precision_is_tested_once_and_remembered_on_disk(cache, monkeypatch, pays, dtype):
    calls = []
    monkeypatch.setattr(precision, "_pays", lambda device: calls.append(device) or pays)
    assert choose_dtype("cpu") == choose_dtype("cpu") == dtype
    monkeypatch.setattr(precision, "_known", {})  # another process
    assert choose_dtype("cpu") == dtype
    assert len(calls) == 1


def test_damaged_cache_only_costs_another_test(cache, monkeypatch):
    cache.parent.mkdir(parents=True)
    cache.write_text("{damaged")
    monkeypatch.setattr(precision, "_pays", lambda device: False)
    assert choose_dtype("cpu") == torch.float32
    assert json.loads(cache.read_text())


def test_device_without_a_probe_runs_in_float32(cache):
    assert choose_dtype("meta") == torch.float32
