"""Heads: cosines with prototypes, one head for each kind of feature and granularity."""

import copy

import pytest
import torch
from torch.nn.functional import gelu

from skysense.errors import EncoderError
from skysense.pretrain.heads import (
    FUSED,
    GRANULARITIES,
    SMALLEST_VARIANCE,
    Head,
    HeadConfig,
    Heads,
    standardised,
)
from skysense.pretrain.words import table

CONFIG = HeadConfig(hidden=8, out=6, prototypes=5)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_head_is_standardised_three_layers_a_sphere_and_unit_prototypes():
    head = Head(4, 8, 6, 5).double()
    x = torch.randn(7, 4, dtype=torch.float64, generator=generator())
    z = (x - x.mean(0)) / (x.var(0, correction=0) + SMALLEST_VARIANCE).sqrt()
    for layer in (head.fc1, head.fc2):
        z = gelu(z @ layer.weight.T + layer.bias)
    z = z @ head.fc3.weight.T + head.fc3.bias
    for row, got in zip(z, head(x), strict=True):
        for prototype, cosine in zip(head.prototypes, got, strict=True):
            torch.testing.assert_close(cosine, row @ prototype / row.norm() / prototype.norm())


def test_length_of_a_prototype_does_not_count():
    head = Head(4, 8, 6, 5)
    x = torch.randn(7, 4)
    before = head(x)
    with torch.no_grad():
        head.prototypes.mul_(torch.tensor([[0.1], [1.0], [3.0], [10.0], [100.0]]))
    torch.testing.assert_close(head(x), before)


def test_every_sensor_and_granularity_has_a_head_of_its_own():
    heads = Heads({"s2": 4, "s1": 3, FUSED: 6}, CONFIG, generator())
    made = {id(heads.head(key, g)) for key in ("s2", "s1", FUSED) for g in GRANULARITIES}
    assert len(made) == 9
    assert heads.head(FUSED, "image")(torch.zeros(3, 6)).shape == (3, 5)
    assert heads.projector("s1")(torch.randn(2, 3)).norm(dim=1).allclose(torch.ones(2))


def test_tied_granularities_share_one_head():
    heads = Heads({"s2": 4}, HeadConfig(8, 6, 5, tied=True), generator())
    assert len({id(heads.head("s2", g)) for g in GRANULARITIES}) == 1


def test_weights_follow_the_generator_and_nothing_else():
    first = Heads({"s2": 4, FUSED: 6}, CONFIG, generator(3)).state_dict()
    torch.manual_seed(99)
    again = Heads({"s2": 4, FUSED: 6}, CONFIG, generator(3)).state_dict()
    other = Heads({"s2": 4, FUSED: 6}, CONFIG, generator(4)).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(
        first["contrast.s2.pixel.prototypes"], other["contrast.s2.pixel.prototypes"]
    )


def test_parameters_of_a_copy_come_in_the_same_order():
    heads = Heads({"s2": 4, "s1": 3, FUSED: 6}, CONFIG, generator())
    names = [name for name, _ in heads.named_parameters()]
    assert names == [name for name, _ in copy.deepcopy(heads).named_parameters()]


def test_features_without_a_head_are_refused():
    heads = Heads({"s2": 4, FUSED: 6}, CONFIG, generator())
    with pytest.raises(EncoderError, match="not 'hr'"):
        heads.head("hr", "pixel")
    with pytest.raises(EncoderError, match="not 'fused'"):
        heads.projector(FUSED)


def test_sizes_that_make_no_head_are_refused():
    with pytest.raises(EncoderError, match="prototypes=1 "):
        HeadConfig(prototypes=1)


def test_what_all_cells_of_one_phase_share_is_taken_away():
    phase = torch.arange(32) % 16
    chequer = torch.randn(16, 3, generator=generator(1)).double()
    ground = torch.randn(32, 3, generator=generator(2)).double()
    with_chequer = standardised(ground + 10 * chequer[phase], phase)
    torch.testing.assert_close(with_chequer, standardised(ground, phase))
    assert not standardised(chequer[phase], phase).abs().gt(1e-9).any()


def test_one_phase_for_all_is_no_phase():
    x = torch.randn(9, 3, generator=generator(1))
    torch.testing.assert_close(standardised(x), standardised(x, torch.full((9,), 5)))


def test_heads_of_v2_change_no_weight_of_the_others():
    plain = Heads({"s2": 4, FUSED: 6}, CONFIG, generator())
    later = Heads({"s2": 4, FUSED: 6}, CONFIG, generator(), queries=3, words=table(), plain=3)
    more = later.state_dict()
    assert all(torch.equal(more[name], value) for name, value in plain.state_dict().items())
    assert {name.split(".")[0] for name in more} - {*dict(plain.named_children())} == {
        "queries", "text",
    }  # fmt: skip
