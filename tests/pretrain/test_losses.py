"""Every equation of learning against a transcription in plain loops, and what it must be in the limit."""

import math
from dataclasses import replace

import pytest
import torch
from plain_losses import (
    CONFIG,
    DIMS,
    SIZES,
    WARM,
    changed,
    heads,
    plain_alignment,
    plain_clusters,
    plain_contrast,
    plain_fine_grained,
    plain_sinkhorn,
    random,
    setting,
    views,
)

from skysense.errors import EncoderError
from skysense.model.prototypes import sinkhorn
from skysense.pretrain import losses
from skysense.pretrain.alignment import alignment, info_nce
from skysense.pretrain.assignment import clusters, entropy, pooled, targets, transport
from skysense.pretrain.heads import FUSED, Heads
from skysense.pretrain.losses import (
    Setting,
    contrast,
    fine_grained,
    image_loss,
    multi_granularity,
    object_loss,
    pixel_loss,
    total_loss,
)
from skysense.pretrain.terms import Features, LossConfig, Seen


def test_targets_are_sinkhorns_plan_of_the_teachers_cosines():
    cosines = torch.tanh(random(9, 4))
    torch.testing.assert_close(targets(cosines, 0.06, 3), plain_sinkhorn(cosines, 0.06, 3))


def test_balancing_equals_the_prototypes_one():
    cosines = torch.tanh(random(50, 8))
    torch.testing.assert_close(transport(cosines, 0.05, 3), sinkhorn(cosines, 0.05, 3))


def test_targets_spend_rows_once_and_prototypes_alike():
    q = targets(torch.tanh(random(40, 5)), 0.3, 100)
    torch.testing.assert_close(q.sum(1), torch.ones(40, dtype=q.dtype))
    torch.testing.assert_close(q.sum(0), torch.full((5,), 8.0, dtype=q.dtype))


def test_single_precision_holds_the_widest_cosines_at_the_sharpest_temperature():
    cosines = torch.where(torch.eye(6).bool(), 1.0, -1.0).repeat(3, 1)
    q = targets(cosines, 0.025, 3)
    torch.testing.assert_close(q, torch.eye(6).repeat(3, 1))
    lone = torch.tensor([[1.0, -1.0], [1.0, -1.0], [1.0, -1.0]])  # one prototype has no friends
    torch.testing.assert_close(targets(lone, 0.025, 3), torch.full((3, 2), 0.5))


def test_contrast_is_cross_entropy():
    cosines, target = torch.tanh(random(6, 5)), random(6, 5, seed=1).softmax(-1)
    expected = [plain_contrast(c, t, 0.1) for c, t in zip(cosines, target, strict=True)]
    torch.testing.assert_close(
        contrast(cosines, target, 0.1), random(6) * 0 + torch.tensor(expected)
    )


def test_groups_are_those_of_the_plain_algorithm():
    x, weight = random(2, 12, 5), torch.ones(2, 12, dtype=torch.bool)
    weight[0, 3] = weight[0, 7] = False
    plan = clusters(x, weight, 3, 0.05, 3)
    for i in range(2):
        torch.testing.assert_close(plan[i][weight[i]], plain_clusters(x[i][weight[i]], 3, 0.05, 3))
    assert (plan[~weight] == 0).all()


def test_groups_find_what_an_image_is_made_of():
    kinds = torch.arange(30) % 3
    x = (random(3, 8) * 3)[kinds] + 0.1 * random(30, 8, seed=5) + 50.0  # a common part drowns all
    plan = clusters(x[None], torch.ones(1, 30, dtype=torch.bool), 3, 0.05, 3)[0]
    groups = [set(plan.argmax(1)[kinds == k].tolist()) for k in range(3)]
    assert [len(g) for g in groups] == [1, 1, 1]
    assert len(set.union(*groups)) == 3


def test_what_all_pixels_of_an_image_share_is_no_business_of_the_pixel_loss():
    (u, v), by = views(("s2",)), setting()
    u, v = u.parts["s2"], v.parts["s2"]
    brighter = u._replace(values=u.values + random(4, 2, 1, 6, seed=9))
    before, after = pixel_loss("s2", u, v, by), pixel_loss("s2", brighter, v, by)
    torch.testing.assert_close(before.loss, after.loss)


@pytest.mark.parametrize("key", ["s2", FUSED])
def test_losses_of_one_sensor_are_those_of_the_plain_transcription(key):
    (u, v), by = views((key,)), setting()
    expected = plain_fine_grained(key, u.parts[key], v.parts[key], by)
    loss, terms = fine_grained(key, u.parts[key], v.parts[key], by)
    for name, value in expected.items():
        assert float(terms[name].loss.detach()) == pytest.approx(value, rel=1e-9), name
    assert float(loss.detach()) == pytest.approx(sum(expected.values()), rel=1e-9)
    assert int(terms["pixel"].count) == int(u.parts[key].weight.sum())
    assert int(terms["object"].count) == 3 * int(terms["image"].count)


def test_losses_of_all_sensors_are_summed():
    (u, v), by = views(), setting()
    expected = sum(
        sum(plain_fine_grained(key, u.parts[key], v.parts[key], by).values()) for key in DIMS
    )
    assert float(multi_granularity(u, v, by)[0].detach()) == pytest.approx(expected, rel=1e-9)


def test_alignment_is_that_of_the_plain_transcription():
    (u, _), projectors = views(share=0.6), heads(1)
    expected = plain_alignment(u, projectors, CONFIG)
    loss, terms = alignment(u, projectors, CONFIG)
    assert terms.keys() == expected.keys()
    assert len(terms) == 6
    for name, value in expected.items():
        assert float(terms[name].loss.detach()) == pytest.approx(value, rel=1e-9), name
    assert float(loss.detach()) == pytest.approx(sum(expected.values()), rel=1e-9)


def test_total_is_the_weighted_sum_and_the_log_says_so():
    (u, v), by = views(), setting()
    config = replace(CONFIG, pixel=0.5, object=2.0, s1=0.25, alignment=0.3)
    loss, log = total_loss(u, v, by.student, by.teacher, config, WARM)
    weights = {"pixel": 0.5, "object": 2.0, "image": 1.0, "s1": 0.25}
    expected = sum(
        (weights.get(key, 1.0) * weights[name] if key != "align" else 0.3) * float(value)
        for (key, _, name), value in ((k.partition("/"), v) for k, v in log.items())
        if name and "/" not in name
    )
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-9)
    assert float(log["loss"]) == pytest.approx(float(loss.detach()))
    assert not any(value.requires_grad for value in log.values())
    assert all(0 <= float(v) <= 1 for k, v in log.items() if k.endswith(("entropy", "agreement")))


# --- limits -----------------------------------------------------------------------------------


def test_a_student_that_says_what_the_teacher_says_is_left_with_the_targets_entropy():
    target = targets(torch.tanh(random(9, 4)), 0.06, 3)
    loss = contrast(0.1 * target.log(), target, 0.1)
    torch.testing.assert_close(loss, entropy(target) * math.log(4))


def test_identical_views_cost_the_entropy_of_the_target():
    row = torch.tanh(random(6))
    cosines = torch.stack([row.roll(i) for i in range(6)])  # balanced as it is
    target = targets(cosines, 0.1, 3)
    torch.testing.assert_close(target, (cosines / 0.1).softmax(-1))
    cost = contrast(cosines, target, 0.1)
    torch.testing.assert_close(cost, entropy(target) * math.log(6))
    assert (contrast(cosines.roll(1, 0), target, 0.1) > cost).all()  # another view costs more


def test_order_of_the_places_changes_nothing():
    (u, v), by = views(), setting()
    order = torch.tensor([2, 0, 3, 1])
    mixed = [changed(x, lambda p: Seen(*(t[order] for t in p[:4]))) for x in (u, v)]
    before = total_loss(u, v, by.student, by.teacher, CONFIG, WARM)[0]
    torch.testing.assert_close(total_loss(*mixed, by.student, by.teacher, CONFIG, WARM)[0], before)


def test_order_of_the_positions_changes_no_granularity():
    (u, v), by = views(), setting()
    order = torch.tensor([5, 2, 0, 4, 3, 1])
    turn = lambda p: p._replace(values=p.values[..., order, :], weight=p.weight[..., order])  # noqa: E731
    mixed = changed(u, turn), changed(v, turn)
    before = multi_granularity(u, v, by)[0]
    torch.testing.assert_close(multi_granularity(*mixed, by)[0], before)


def test_one_group_makes_the_object_the_mean_of_the_image():
    u, v = views(("s2",), share=math.inf)
    config = replace(CONFIG, clusters=1)
    tied = replace(SIZES, tied=True)
    two = [Heads(DIMS, tied, torch.Generator().manual_seed(s)).double() for s in (1, 2)]
    by = Setting(*two, config, WARM)
    mean = [p.parts["s2"]._replace(image=p.parts["s2"].values.mean(-2)) for p in (u, v)]
    whole = object_loss("s2", *mean, by)
    torch.testing.assert_close(whole.loss, image_loss("s2", *mean, by).loss)
    assert whole.count == 8


def test_pooling_with_equal_memberships_is_the_mean():
    x = random(2, 6, 3)
    torch.testing.assert_close(
        pooled(x, torch.full((2, 6, 1), 1.0, dtype=x.dtype))[:, 0], x.mean(1)
    )


@pytest.mark.parametrize("junk", [1e6, float("nan")])
def test_what_was_not_seen_changes_neither_loss_nor_gradient(junk):
    (u, v), by = views(), setting()

    def filled(part, fill):
        values = part.values.masked_fill(~part.weight[..., None], fill).requires_grad_()
        image = part.image.masked_fill(~part.image_weight[..., None], fill)
        return part._replace(values=values, image=image)

    def outcome(fill):
        x, y = (Features({k: filled(p, fill) for k, p in f.parts.items()}) for f in (u, v))
        loss, _ = total_loss(x, y, by.student, by.teacher, CONFIG, WARM)
        return loss, *torch.autograd.grad(loss, [p.values for p in x.parts.values()])

    for clean, dirty in zip(outcome(0.0), outcome(junk), strict=True):
        torch.testing.assert_close(dirty, clean)


def test_a_missing_sensor_drops_out():
    (u, v), by = views(), setting()
    few = [Features({k: p for k, p in x.parts.items() if k in ("s2", FUSED)}) for x in (u, v)]
    loss, log = total_loss(*few, by.student, by.teacher, CONFIG, WARM)
    _, everything = total_loss(u, v, by.student, by.teacher, CONFIG, WARM)
    assert {k.partition("/")[0] for k in log} == {"loss", "s2", FUSED}
    for name, value in log.items():
        if name != "loss":
            torch.testing.assert_close(value, everything[name])
    assert bool(loss.isfinite())


def test_a_batch_in_which_nothing_was_seen_costs_nothing():
    (u, v), by = views(), setting()
    blind = [
        changed(
            x,
            lambda p: Seen(
                p.values.clone().requires_grad_(),
                torch.zeros_like(p.weight),
                p.image,
                torch.zeros_like(p.image_weight),
            ),
        )
        for x in (u, v)
    ]
    loss, log = total_loss(*blind, by.student, by.teacher, CONFIG, WARM)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(float(value) == 0 for value in log.values())
    assert all(p.values.grad is None or (p.values.grad == 0).all() for p in blind[0].parts.values())
    assert all((p.grad == 0).all() for p in by.student.parameters())


def test_without_shared_dates_pixels_of_a_sensor_cost_nothing():
    (u, v), by = views(), setting()
    bare = [
        Features(
            {k: p if k == FUSED else Seen(*(t[:, :0] for t in p[:4])) for k, p in x.parts.items()}
        )
        for x in (u, v)
    ]
    loss, log = total_loss(*bare, by.student, by.teacher, CONFIG, WARM)
    assert float(log["s2/pixel"]) == float(log["s2/pixel/count"]) == float(log["align/s2-s1"]) == 0
    own, _ = fine_grained(FUSED, u.parts[FUSED], v.parts[FUSED], by)
    torch.testing.assert_close(loss, own)


def test_no_part_at_all_costs_nothing():
    by = setting()
    loss, log = total_loss(Features({}), Features({}), by.student, by.teacher, CONFIG, WARM)
    loss.backward()
    assert float(loss.detach()) == 0
    assert log.keys() == {"loss"}


def test_a_teacher_that_says_the_same_of_all_is_spread_evenly_and_costs_log_k():
    constant = torch.tanh(random(1, 10)).expand(20, 10)
    target = targets(constant, WARM, 3)
    torch.testing.assert_close(target, torch.full_like(target, 0.1))
    cost = contrast(torch.full_like(target, 0.3), target, 0.1)
    torch.testing.assert_close(cost, torch.full_like(cost, math.log(10)))
    assert (contrast(constant, target, 0.1) > math.log(10)).all()  # no way below


def test_alignment_of_equal_features_is_the_log_of_how_many_there_are():
    z = torch.nn.functional.normalize(torch.ones(5, 3), dim=1)
    negative = ~torch.eye(5, dtype=torch.bool)
    loss, nearest = info_nce(z, z, torch.arange(5), negative, 0.1)
    torch.testing.assert_close(loss, torch.full((5,), math.log(5)))
    assert not nearest.any()


def test_alignment_of_one_place_has_nothing_to_compare_with():
    (u, _), projectors = views(b=1), heads()
    loss, terms = alignment(u, projectors, CONFIG)
    assert float(loss.detach()) == 0
    assert all(int(term.count) == 0 for term in terms.values())


def test_equal_places_do_not_repel():
    (u, _), projectors = views(("s2", "s1"), share=math.inf), heads()
    same = replace(u, place=torch.tensor([7, 7, 7, 7]))
    assert int(alignment(same, projectors, CONFIG)[1]["align/s2-s1"].count) == 0
    two = replace(u, place=torch.tensor([7, 7, 3, 3]))
    fewer, all_of_them = (alignment(x, projectors, CONFIG)[0].detach() for x in (two, u))
    assert fewer < all_of_them


@pytest.mark.parametrize("part", ["pixel", "object", "image", "hr", "s2", "s1", FUSED, "alignment"])
def test_a_part_with_weight_zero_is_left_out(part):
    (u, v), by = views(), setting()
    _, log = total_loss(u, v, by.student, by.teacher, replace(CONFIG, **{part: 0.0}), WARM)
    words = {word for name in log for word in name.replace("-", "/").split("/")}
    assert {"alignment": "align"}.get(part, part) not in words


def test_gradients_reach_the_student_and_nobody_else():
    (u, v), by = views(), setting()
    for x in (u, v):
        for part in x.parts.values():
            part.values.requires_grad_()
            part.image.requires_grad_()
    total_loss(u, v, by.student, by.teacher, CONFIG, WARM)[0].backward()
    assert all(p.grad is not None and p.grad.any() for p in by.student.parameters())
    assert all(p.values.grad.any() and p.image.grad.any() for p in u.parts.values())
    assert all(p.grad is None for p in by.teacher.parameters())
    assert all(p.values.grad is None and p.image.grad is None for p in v.parts.values())


def test_gradients_are_those_of_finite_differences():
    (u, v), by = views(("s2", "s1"), b=2, t=1, m=4), setting()

    def loss(x, y):
        parts = {k: p._replace(values=z) for (k, p), z in zip(u.parts.items(), (x, y), strict=True)}
        return total_loss(Features(parts), v, by.student, by.teacher, CONFIG, WARM)[0]

    inputs = tuple(p.values.clone().requires_grad_() for p in u.parts.values())
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


def test_mixed_precision_comes_close_to_double():
    (u, v), by = views(b=8, m=32), setting()
    expected = total_loss(u, v, by.student, by.teacher, CONFIG, WARM)[0].detach()
    low = [changed(x, lambda p: Seen(p[0].bfloat16(), p[1], p[2].bfloat16(), p[3])) for x in (u, v)]
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = total_loss(*low, by.student.float(), by.teacher.float(), CONFIG, WARM)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(expected), rel=0.02)


def test_a_few_steps_teach_a_student_its_teachers_words():
    u, _ = views(("s2",), share=math.inf)
    u = changed(u, lambda p: Seen(p[0].float(), p[1], p[2].float(), p[3]))
    student, teacher = heads(1).float(), heads(2).float()
    optimiser = torch.optim.AdamW(student.parameters(), 1e-2)
    agreement = []
    for _ in range(30):
        loss, log = total_loss(u, u, student, teacher, CONFIG, WARM)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        agreement.append(float(log["s2/pixel/agreement"]))
    assert agreement[0] < 0.3  # ten prototypes
    assert agreement[-1] > 0.45


# --- refusals ---------------------------------------------------------------------------------


def test_views_of_different_sensors_are_refused():
    (u, _), (_, v), by = views(("s2",)), views(("s1",)), setting()
    with pytest.raises(EncoderError, match="student saw s2 and the teacher s1"):
        total_loss(u, v, by.student, by.teacher, CONFIG, WARM)


def test_a_teacher_too_sharp_to_balance_is_refused():
    (u, v), by = views(("s2",)), setting()
    with pytest.raises(EncoderError, match="is too sharp to be balanced"):
        total_loss(u, v, by.student, by.teacher, CONFIG, 0.01)


@pytest.mark.parametrize(
    ("name", "value"),
    [("clusters", 0), ("temperature", 0.0), ("pixel", -1.0), ("cluster_epsilon", 0.001)],
)
def test_numbers_that_make_no_loss_are_refused(name, value):
    with pytest.raises(EncoderError, match=f"{name}={value}"):
        LossConfig(**{name: value})


def test_probing_many_rows_looks_at_few(monkeypatch):
    (u, v), by = views(("s2",)), setting()
    monkeypatch.setattr(losses, "PROBED", 5)
    term = pixel_loss("s2", u.parts["s2"], v.parts["s2"], by)
    assert 3 <= int(term.probe[0]) <= 5
