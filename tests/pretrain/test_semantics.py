"""The contrast of what queries find: its formula, what takes part, and that it asks for the ground."""

import math

import pytest
import torch

from skysense.pretrain.heads import Head
from skysense.pretrain.semantics import Found, apart_loss, semantic_loss
from skysense.pretrain.terms import LossConfig

PLACES, QUERIES, WIDTH, KINDS = 5, 3, 4, 7
CONFIG, WARM = LossConfig(), 0.05


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def found(seed):
    return Found(*drawn(2, PLACES, QUERIES, WIDTH, seed=seed))


def head(seed, kinds=KINDS):
    torch.manual_seed(seed)
    return Head(WIDTH, 8, 6, kinds).double()


@pytest.fixture
def heads():
    return head(1), head(2)


def plain_cosines(head, z):
    """Rows of one query after another: less the query's mean, over all deviations, through the head."""
    apart = z - z.mean(0, keepdim=True)
    x = apart / (apart.flatten(0, 1).square().mean(0) + 1e-6).sqrt()
    gelu = torch.nn.functional.gelu
    y = head.fc3(gelu(head.fc2(gelu(head.fc1(x)))))
    return (y / y.norm(dim=-1, keepdim=True)) @ (
        head.prototypes / head.prototypes.norm(dim=-1, keepdim=True)
    ).T  # b m k


def plain_loss(u, v, heads):
    """1/(2m) Σ_i [CL(z_i^g, z_i^l') + CL(z_i^l, z_i^g')], mean over places, loop by loop."""
    sum_ = 0.0
    for mine, theirs in ((u.spread, v.met), (u.met, v.spread)):
        said, told = plain_cosines(heads[0], mine), plain_cosines(heads[1], theirs)
        for i in range(QUERIES):
            plan = (told[:, i] / WARM).exp()
            for _ in range(CONFIG.iterations):
                plan = plan / plan.sum(0, keepdim=True)
                plan = plan / plan.sum(1, keepdim=True)
            for place in range(PLACES):
                log = (said[place, i] / CONFIG.temperature).log_softmax(0)
                sum_ = sum_ - (plan[place] * log).sum()
    return sum_ / (2 * QUERIES * PLACES)


def test_it_is_the_formula_query_by_query(heads):
    u, v = found(3), found(4)
    term = semantic_loss(u, v, *heads, CONFIG, WARM)
    torch.testing.assert_close(term.loss, plain_loss(u, v, heads))
    assert int(term.count) == 2 * QUERIES * PLACES


def test_the_order_of_places_and_of_queries_changes_nothing(heads):
    u, v = found(3), found(4)
    before = semantic_loss(u, v, *heads, CONFIG, WARM).loss
    for order in (
        lambda z: z[torch.tensor([3, 1, 4, 0, 2])],
        lambda z: z[:, torch.tensor([2, 0, 1])],
    ):
        moved = (Found(*map(order, each)) for each in (u, v))
        torch.testing.assert_close(semantic_loss(*moved, *heads, CONFIG, WARM).loss, before)


def test_a_place_of_which_one_set_saw_nothing_takes_no_part(heads):
    u, v = found(3), found(4)
    blind = v.spread.clone()
    blind[2] = torch.nan
    u.spread.requires_grad_()
    term = semantic_loss(u, v._replace(spread=blind), *heads, CONFIG, WARM)
    term.loss.backward()
    rest = [0, 1, 3, 4]
    others = (Found(*(z[rest] for z in each)) for each in (u, v))
    torch.testing.assert_close(term.loss, semantic_loss(*others, *heads, CONFIG, WARM).loss)
    assert not u.spread.grad[2].any()
    assert u.spread.grad[rest].any(-1).all()


def test_without_any_place_it_is_zero_and_so_are_gradients(heads):
    u = Found(*torch.full((2, 2, QUERIES, WIDTH), torch.nan, dtype=torch.float64))
    term = semantic_loss(u, found(4)._replace(spread=u.spread, met=u.met), *heads, CONFIG, WARM)
    term.loss.backward()
    assert float(term.loss) == 0
    assert int(term.count) == 0
    assert all(p.grad is None or not p.grad.any() for p in heads[0].parameters())


def test_queries_that_find_the_same_everywhere_are_no_answer_however_they_differ():
    """Collapse to which query asks: the targets say nothing, and the loss is that of not knowing."""
    who = drawn(1, QUERIES, WIDTH, seed=7).expand(PLACES, -1, -1) * 10
    same, teacher = Found(who, who), head(2)
    term = semantic_loss(same, same, head(1), teacher, CONFIG, WARM)
    assert float(term.probe[2] / term.probe[0]) == pytest.approx(1.0, abs=1e-6)
    assert float(term.loss) >= math.log(KINDS) - 1e-9


def test_what_tells_queries_apart_changes_no_loss(heads):
    u, v, who = found(3), found(4), 5 * drawn(1, QUERIES, WIDTH, seed=7)
    marked = (Found(*(z + who for z in each)) for each in (u, v))
    torch.testing.assert_close(
        semantic_loss(*marked, *heads, CONFIG, WARM).loss,
        semantic_loss(u, v, *heads, CONFIG, WARM).loss,
    )


def test_only_the_student_and_its_head_learn(heads):
    u, v = found(3), found(4)
    for z in (*u, *v):
        z.requires_grad_()
    semantic_loss(u, v, *heads, CONFIG, WARM).loss.backward()
    assert all(z.grad.any() for z in u)
    assert all(z.grad is None for z in v)
    assert all(p.grad.any() for p in heads[0].parameters())
    assert all(p.grad is None for p in heads[1].parameters())


def test_queries_are_apart_where_they_like_unlike_cells_and_one_where_they_like_the_same():
    one, other = drawn(2, 4000, 1, seed=8)
    assert float(apart_loss(torch.cat([one, 3 - 2 * one], 1))) == pytest.approx(1)
    assert float(apart_loss(torch.cat([one, other], 1))) == pytest.approx(0, abs=5e-3)
    three = torch.cat([one, one, other], 1)
    assert float(apart_loss(three)) == pytest.approx(1 / 3, abs=5e-3)
    squares = torch.corrcoef(three.T).square()
    mean = (squares[0, 1] + squares[0, 2] + squares[1, 2]) / 3
    assert float(apart_loss(three)) == pytest.approx(float(mean), abs=1e-6)


def test_where_nothing_was_seen_queries_are_apart_and_nothing_is_learnt():
    scores = drawn(0, 3).requires_grad_()
    loss = apart_loss(scores)
    loss.backward()
    assert float(loss.detach()) == 0
    same = torch.ones(5, 3, dtype=torch.float64, requires_grad=True)
    apart_loss(same).backward()
    assert not same.grad.any()
