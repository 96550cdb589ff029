"""Experts: which one a token takes, what comes of it, and what the router learns from that."""

import copy
import dataclasses

import pytest
import torch
from mini import DENSE_V2, MINI_V2, make_inputs, make_model

from skysense.errors import EncoderError
from skysense.model import Routed, balance_loss
from skysense.model.layers import MLP
from skysense.model.moe import Experts
from skysense.pretrain.processes import recompute


@pytest.fixture
def experts():
    torch.manual_seed(0)
    return Experts(8, 2.0, 4).double()


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 20, 8, generator=generator, dtype=torch.float64)


def looped(experts, x):
    """The same, spelled out: a mask over all tokens for every expert."""
    probabilities = experts.router(x).softmax(-1)
    out, chosen = torch.zeros_like(x), probabilities.argmax(-1)
    for i, mlp in enumerate(experts.experts):
        share = torch.where(chosen == i, probabilities[..., i], 0.0)
        out = out + share[..., None] * mlp(x)
    return out


def test_grouped_tokens_get_what_a_loop_with_masks_gives(experts, tokens):
    y, routing = experts(tokens)
    torch.testing.assert_close(y, looped(experts, tokens))
    assert set(routing.expert.unique().tolist()) == {0, 1, 2, 3}


def test_each_token_passes_one_expert_and_no_other(experts, tokens):
    read = []
    for mlp in experts.experts:
        mlp.register_forward_pre_hook(lambda _, given: read.append(len(given[0])))
    _, routing = experts(tokens)
    assert read == routing.expert.flatten().bincount(minlength=4).tolist()


def test_gradients_are_those_of_the_loop_also_of_the_router(experts, tokens):
    twin = copy.deepcopy(experts)
    experts(tokens)[0].square().sum().backward()
    looped(twin, tokens).square().sum().backward()
    assert experts.router.weight.grad.abs().max() > 1e-3
    for a, b in zip(experts.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_one_expert_is_exactly_the_dense_block(tokens):
    one = Experts(8, 2.0, 1).double()
    dense = MLP(8, 2.0).double()
    dense.load_state_dict(one.experts[0].state_dict())
    y, routing = one(tokens)
    assert torch.equal(y, dense(tokens))
    assert torch.equal(routing.probabilities, torch.ones(3, 20, 1).double())


def test_a_model_with_one_expert_is_exactly_the_dense_model():
    backbone = dataclasses.replace(MINI_V2.backbone, experts=1)
    one, dense = make_model(dataclasses.replace(MINI_V2, backbone=backbone)), make_model(DENSE_V2)
    state = {k.replace("mlp.experts.0.", "mlp."): v for k, v in one.state_dict().items()}
    dense.load_state_dict({k: v for k, v in state.items() if "router" not in k})
    with torch.no_grad():
        for sensor, given in make_inputs().items():
            a, b = (m.encode_dates(sensor, given.pixels) for m in (one, dense))
            assert torch.equal(a, b)


def test_every_token_is_served_even_if_all_want_the_same(experts, tokens):
    with torch.no_grad():
        experts.router.weight.zero_()
        y, routing = experts(tokens)
    assert (routing.expert == 0).all()  # of equals the first
    torch.testing.assert_close(y, 0.25 * experts.experts[0](tokens))


def test_routing_is_the_same_every_time_and_knows_no_neighbours(experts, tokens):
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    (a, first), (b, again), (c, turned) = (experts(x) for x in (tokens, tokens, tokens[:, order]))
    assert torch.equal(a, b)
    assert torch.equal(first.expert, again.expert)
    assert torch.equal(turned.expert, first.expert[:, order])
    torch.testing.assert_close(c, a[:, order])


def test_an_expert_that_nobody_chose_has_a_gradient_of_zeros(experts, tokens):
    """So that processes which train together have gradients of the same parameters."""
    with torch.no_grad():
        experts.router.weight.zero_()
    experts(tokens)[0].sum().backward()
    assert all(p.grad is not None for p in experts.parameters())
    assert experts.experts[3].fc1.weight.grad.abs().max() == 0


def test_rounding_to_bfloat16_does_not_reach_the_router(experts, tokens):
    experts, x = experts.float(), tokens.float()
    with torch.autocast("cpu", torch.bfloat16):
        _, routing = experts(x)
    assert routing.probabilities.dtype == torch.float32
    torch.testing.assert_close(routing.probabilities, experts.router(x).softmax(-1))


# The whole model


def counted(model, inputs, **options):
    routed = Routed()
    for sensor, given in inputs.items():
        model.encode_dates(sensor, given.pixels, routed=routed, **options)
    return routed


def test_histograms_count_every_token_of_the_image_and_no_prompt():
    model, inputs = make_model(MINI_V2), make_inputs()
    with torch.no_grad():
        counts = counted(model, inputs).counts
    # three blocks: the last of stage 3, at 5 m or 40 m, and both of stage 4, at 10 m or 40 m
    assert counts["hr"].sum(1).tolist() == [4 * 16 * 16, 4 * 8 * 8, 4 * 8 * 8]
    assert counts["s2"].sum(1).tolist() == [8 * 2 * 2] * 3
    assert counts["s1"].sum(1).tolist() == [6 * 2 * 2] * 3


@pytest.mark.parametrize("block", [0, 1, -1])
def test_a_map_of_experts_has_the_histogram_s_counts(block):
    model, given = make_model(MINI_V2), make_inputs()["hr"]
    with torch.no_grad():
        counts = counted(model, {"hr": given}).counts["hr"][block]
        found = model.experts("hr", given.pixels.flatten(0, 1), block=block)
    assert found.shape == (4, 16, 16) if block == 0 else (4, 8, 8)
    assert torch.equal(found.flatten().bincount(minlength=3), counts)


def test_counting_changes_nothing_and_goes_on_over_pieces():
    model, given = make_model(MINI_V2), make_inputs()["s2"]
    routed, pieces = Routed(), Routed()
    with torch.no_grad():
        a = model.encode_dates("s2", given.pixels)
        b = model.encode_dates("s2", given.pixels, routed=routed)
        model.encode_dates("s2", given.pixels, routed=pieces, max_tokens=1)
    assert torch.equal(a, b)
    assert torch.equal(routed.counts["s2"], pieces.counts["s2"])


def test_gradient_reaches_every_parameter_on_a_batch_of_all_sensors_and_experts():
    config = dataclasses.replace(
        MINI_V2, fusion=dataclasses.replace(MINI_V2.fusion, calendar="all")
    )
    model, inputs, routed = make_model(config).train(), make_inputs(), Routed()
    torch.manual_seed(0)
    features = {
        sensor: (model.encode_dates(sensor, g.pixels, routed=routed), g.valid | True, g.doy)
        for sensor, g in inputs.items()
    }
    assert (routed.totals()[0] > 0).all()
    fused = model.fuse(features)
    found = model.queries(fused.flatten(2).transpose(1, 2))  # b m d
    (fused.square().mean() + found.square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_layers_that_are_computed_again_give_the_same_loss_and_gradients():
    def learn(model):
        routed = counted(model, make_inputs())
        loss = routed.balance()
        loss.backward()
        return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    plain, again = make_model(MINI_V2), make_model(MINI_V2)
    recompute(again)
    (a, first), (b, second) = learn(plain), learn(again)
    assert torch.equal(a, b)
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        torch.testing.assert_close(second[name], gradient)


@pytest.mark.parametrize(("config", "block"), [(MINI_V2, 3), (MINI_V2, -4), (DENSE_V2, -1)])
def test_a_block_without_experts_has_no_map_of_them(config, block):
    with pytest.raises(EncoderError, match="blocks with experts"):
        make_model(config).experts("s2", make_inputs()["s2"].pixels[0], block=block)


# The loss that keeps experts in use


def test_equal_use_costs_one_and_a_single_expert_as_many_as_there_are():
    even = torch.full((2, 4), 25.0)
    assert balance_loss(even, even).item() == pytest.approx(1)
    alone = torch.tensor([[100.0, 0, 0, 0]])
    assert balance_loss(alone, alone).item() == pytest.approx(4)


def test_following_the_loss_spreads_tokens_over_experts(experts, tokens):
    with torch.no_grad():
        experts.router.weight[0] += 1.0
    x = tokens + 0.5  # which expert 0 likes, whatever the token
    optimiser, found = torch.optim.Adam([experts.router.weight], lr=0.02), []
    for _ in range(150):
        routed = Routed()
        routed.add("s2", [experts(x)[1]])
        optimiser.zero_grad()
        routed.balance().backward()
        optimiser.step()
        found.append(routed.counts["s2"].max().item())
    assert found[0] > 50
    assert found[-1] < 25


def test_sensors_that_prefer_different_experts_are_balanced_together(experts):
    routed, routing = Routed(), experts(torch.zeros(1, 8, 8).double())[1]
    for sensor, expert in (("hr", 0), ("s2", 1), ("s1", 2), ("more", 3)):
        sure = torch.nn.functional.one_hot(torch.full((1, 8), expert), 4).double()
        routed.add(sensor, [routing._replace(expert=sure.argmax(-1), probabilities=sure)])
    assert routed.balance().item() == pytest.approx(1)


def test_where_nothing_is_routed_there_is_no_loss():
    routed = counted(make_model(DENSE_V2), make_inputs())
    assert routed.counts == {}
    assert routed.balance() is None
