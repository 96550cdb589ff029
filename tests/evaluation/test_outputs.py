"""Every output is an encoder of its own, and says what it claims to say."""

import dataclasses

import numpy as np
import pytest
import torch
from mini import MINI, MINI_V2
from stacks import file_stack

from skysense.batch import to_batch
from skysense.embedding import embed
from skysense.encoders import Encoder, SkySenseEncoder, load_encoder
from skysense.evaluation.command import _twins
from skysense.evaluation.outputs import (
    Network,
    architecture,
    bundle,
    filled,
    raw,
    restricted,
    untrained_twin,
    weightless,
)
from skysense.model.config import PrototypeConfig
from skysense.stack import sensors_of
from skysense.weights import build_model
from skysense.windows import Lattice, plan_windows

DATES = {"s2": 4, "s1": 3, "hr": 1}


def trained(config, name):
    net = network(config)
    net.name, net.encoder.untrained = name, ""
    return net


def network(config=MINI, seed=1):
    encoder = SkySenseEncoder(
        build_model(config, seed=seed), name="mini", weights="random", licence="none", device="cpu"
    )
    return Network(encoder, null="untrained")


@pytest.fixture(scope="module")
def stack():
    return file_stack(160, 160, ("hr", "s2", "s1"))


@pytest.fixture(scope="module")
def batch(stack):
    lattice = Lattice.from_attrs(stack.attrs)
    return to_batch(stack, plan_windows(lattice, lattice.bounds))


def same(a, b):
    return torch.equal(a.isnan(), b.isnan()) and torch.allclose(
        a.nan_to_num(), b.nan_to_num(), atol=1e-5
    )


def test_every_output_is_an_encoder_that_embed_runs(stack):
    every = [*weightless(sensors_of(stack), DATES), *network().outputs(sensors_of(stack))]
    names = {(each.name, "+".join(each.sensors)) for each in every}
    assert {("s2 tokens", "s2"), ("hr map", "hr"), ("fused", "hr+s2+s1"), ("raw", "s2+s1")} <= names
    for each in every:
        assert isinstance(each, Encoder)
        features = embed(stack, each, resolution=40)
        assert features.sizes["feature"] == each.dim
        assert np.isfinite(features.values).any()


def test_fused_output_is_what_the_encoder_gives(batch):
    net = network()
    fused = next(o for o in net.outputs(("hr", "s2", "s1")) if o.sensors == ("hr", "s2", "s1"))
    assert same(fused(batch, 20), net.encoder(batch, 20))
    alone = next(o for o in net.outputs(("s2",)) if o.name == "fused")
    assert same(alone(batch, 10), net.encoder(batch.only(["s2"]), 10))


def test_tokens_are_means_over_dates_repeated_to_cells(batch):
    net = network()
    tokens = next(o for o in net.outputs(("s2",)) if o.name == "s2 tokens")
    values, valid = net.dates(batch, "s2")
    found = tokens(batch, 10)
    for row, column in ((0, 0), (3, 2)):
        used = valid[0, :, row, column]
        expected = values[0, used, :, row, column].mean(0)
        block = found[0, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert torch.allclose(block, expected[:, None, None].expand_as(block), atol=1e-5)
    assert same(tokens(batch, 40), found[..., 2::4, 2::4])


def test_an_output_ignores_sensors_it_does_not_name(batch):
    spectral = load_encoder("spectral", device="cpu")
    every = [o for o in weightless(("s2", "s1"), DATES) if o.name != "noise"]
    every += network().outputs(("s2", "s1"))
    for output in (o for o in every if o.sensors == ("s2",)):
        assert same(output(batch, 10), output(batch.only(["s2"]), 10)), output.name
    optical = restricted(spectral, ("s2",))
    assert same(optical(batch, 10), spectral(batch.only(["s2"]), 10))


def test_a_bundle_gives_each_output_unchanged(batch):
    outputs = [o for o in weightless(("s2", "s1"), DATES) if o.name != "noise"]
    outputs += network().outputs(("s2", "s1"))
    together = bundle(outputs)
    values = together(batch, 20)
    assert values.shape[1] == together.dim
    first = 0
    for output in outputs:
        assert same(values[:, first : first + output.dim], output(batch, 20)), output.name
        first += output.dim


def test_dates_of_another_batch_are_never_reused(batch):
    net = network()
    output = next(o for o in net.outputs(("s2",)) if o.name == "fused")
    before = output(batch, 40)
    brighter = dataclasses.replace(
        batch,
        sensors={
            k: dataclasses.replace(v, pixels=v.pixels * 1.5) for k, v in batch.sensors.items()
        },
    )
    assert not same(output(brighter, 40), before)
    assert same(output(batch, 40), before)


def test_gaps_in_raw_dates_are_filled_from_the_same_pixel():
    pixels = torch.tensor([9.0, 1.0, 9.0, 9.0, 4.0, 9.0])[None, :, None, None, None]
    valid = torch.tensor([False, True, False, False, True, False])[None, :, None, None]
    values = filled(pixels, valid).flatten()
    assert values.tolist() == pytest.approx([1, 1, 2, 3, 4, 4])
    assert filled(pixels, torch.zeros_like(valid)).abs().max() == 0


def test_raw_features_are_the_pixels_where_all_dates_are_clear(batch):
    clear = dataclasses.replace(
        batch.sensors["s2"], valid=torch.ones_like(batch.sensors["s2"].valid)
    )
    whole = dataclasses.replace(batch, sensors={**batch.sensors, "s2": clear})
    from skysense.encoders import normalised

    expected = normalised(whole, "s2")[0].flatten(1, 2)
    assert torch.allclose(raw(("s2",), DATES)(whole, 10), expected)


def test_a_network_with_prototypes_also_gives_its_context(batch):
    prototypes = PrototypeConfig(context=True, cells=16, count=4)
    net = network(dataclasses.replace(MINI, prototypes=prototypes))
    outputs = {o.name: o for o in net.outputs(("s2",))}
    fused, both = outputs["fused"](batch, 40), outputs["fused + context"](batch, 40)
    assert both.shape[1] == 2 * fused.shape[1]
    assert same(both[:, : fused.shape[1]], fused)
    assert (both[:, fused.shape[1] :].nan_to_num() == 0).all()  # no cell was trained


def test_the_untrained_twin_is_the_same_network_with_seed_zero():
    learned = network(seed=1)
    twin = untrained_twin(learned)
    assert architecture(twin) == architecture(learned)
    assert twin.encoder.untrained
    assert twin.weights != learned.weights
    for a, b in zip(twin.model.parameters(), build_model(MINI, seed=0).parameters(), strict=True):
        assert torch.equal(a, b)


def test_each_network_stands_beside_the_untrained_one_of_its_architecture():
    context = PrototypeConfig(context=True, cells=64, count=4)
    dense = dataclasses.replace(MINI_V2.backbone, moe_blocks=0)
    given = {
        "v1": MINI,
        "v1 with context": dataclasses.replace(MINI, prototypes=context),
        "v2": MINI_V2,
        "v2 with context": dataclasses.replace(MINI_V2, prototypes=context),
        "v2 dense": dataclasses.replace(MINI_V2, backbone=dense),
    }
    models = [trained(config, name) for name, config in given.items()]
    twins = _twins(models)
    assert [twin.name for twin in twins] == [
        "untrained mini",
        "untrained mini-v2",
        "untrained mini-v2 2",
    ]
    nulls = [model.null for model in models]
    assert nulls == ["untrained mini"] * 2 + ["untrained mini-v2"] * 2 + ["untrained mini-v2 2"]


def test_outputs_of_v2_are_those_of_v1(stack):
    sensors = sensors_of(stack)
    one, other = (network(config).outputs(sensors) for config in (MINI, MINI_V2))
    assert [(o.name, o.sensors) for o in one] == [(o.name, o.sensors) for o in other]
    assert embed(stack, other[-1], resolution=40).sizes["feature"] == other[-1].dim
