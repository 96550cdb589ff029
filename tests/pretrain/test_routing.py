"""Experts in the loss and in the log."""

import pytest
import torch
from small_run import MODEL, MODEL_V2

from skysense.model import Routed
from skysense.model.moe import Routing
from skysense.pretrain.routing import balance, experts_of, use

SHAPE, HERE = (1, 2), torch.device("cpu")


def routed(**experts):
    """What tokens of some sensors did in one block, whose router is sure."""
    out = Routed()
    for key, chosen in experts.items():
        expert = torch.tensor([chosen])
        out.add(key, [Routing(expert, torch.nn.functional.one_hot(expert, 2).double())])
    return out


def test_a_dense_model_has_no_experts_and_others_have_theirs():
    assert experts_of(MODEL) is None
    assert experts_of(MODEL_V2) == (2, 2)


def test_balance_is_one_for_even_use_by_all_sensors_together_and_most_for_one_expert():
    assert float(balance(routed(s2=[0, 0], s1=[1, 1]), SHAPE, HERE)) == 1
    assert float(balance(routed(s2=[0, 0], s1=[0, 0]), SHAPE, HERE)) == 2
    assert float(balance(Routed(), SHAPE, HERE)) == 0


def test_the_log_says_who_goes_where():
    said = use(routed(s2=[0, 0, 0, 1], s1=[1, 1]), ["hr", "s2", "s1"], SHAPE, HERE)
    shares = {name: float(value) for name, value in said.items()}
    assert shares.pop("experts/entropy") == pytest.approx(1.0)
    assert shares == {
        "experts/s2/0/0": 0.75, "experts/s2/0/1": 0.25, "experts/s1/0/0": 0, "experts/s1/0/1": 1,
    }  # fmt: skip


def test_one_expert_for_all_has_no_entropy():
    assert float(use(routed(s2=[1, 1]), ["s2"], SHAPE, HERE)["experts/entropy"]) == 0
