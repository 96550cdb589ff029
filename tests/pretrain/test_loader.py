import numpy as np
import pytest
import torch
from small_places import random_place

from skysense.cells import division
from skysense.errors import EncoderError
from skysense.pretrain.augment import AugmentConfig
from skysense.pretrain.loader import Loader, cells_of, groups, plan_step
from skysense.pretrain.views import ViewConfig

CONFIG = ViewConfig(
    sizes=((16, 1.0), (8, 1.0)), dates=(("hr", 1), ("s2", 3), ("s1", 2)), positions=8
)


@pytest.fixture(scope="module")
def places():
    some = [random_place(f"pair {i}", dates=1, seed=i) for i in range(3)]
    some += [random_place(f"series {i}", dates=6, seed=i) for i in range(3)]
    some += [random_place("optical", (12, 9), ("s2",), 1, lonlat=(float("nan"),) * 2)]
    some += [random_place("sharp", (9, 8), ("hr",))]
    return some


def loader(places, **options):
    given = {"batch": 4, "steps": 8, "seed": 3, **options}
    return Loader(places, CONFIG, AugmentConfig(hr_jitter=0, hr_blur=0), **given)


def same(a, b):
    assert a.plan == b.plan
    for one, other in ((a.u, b.u), (a.v, b.v)):
        assert torch.equal(one.lonlat.nan_to_num(-999), other.lonlat.nan_to_num(-999))
        for key, each in one.sensors.items():
            assert torch.equal(each.pixels, other.sensors[key].pixels)
            assert torch.equal(each.valid, other.sensors[key].valid)
            assert torch.equal(each.doy, other.sensors[key].doy)
    for name in ("tokens", "cells"):
        for one, other in zip(getattr(a, name), getattr(b, name), strict=True):
            assert torch.equal(one, other)
    return True


def test_a_run_that_resumes_sees_what_it_would_have_seen(places):
    whole, rest = list(loader(places)), list(loader(places, start_step=5))
    assert len(rest) == 3
    assert all(same(a, b) for a, b in zip(whole[5:], rest, strict=True))


def test_workers_change_nothing(places):
    alone, helped = list(loader(places, steps=4)), list(loader(places, steps=4, workers=2))
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))


def test_two_processes_get_the_halves_of_one_batch(places):
    whole = loader(places)
    halves = [loader(places, rank=rank, world=2) for rank in range(2)]
    for step in range(4):
        one, (first, second) = whole[step], [half[step] for half in halves]
        assert first.plan == second.plan == one.plan
        for key, each in one.u.sensors.items():
            both = [half.u.sensors[key].pixels for half in (first, second)]
            assert torch.equal(each.pixels, torch.cat(both))
        assert torch.equal(one.cells[1], torch.cat([first.cells[1], second.cells[1]]))
        assert torch.equal(one.cell, torch.cat([first.cell, second.cell]))


def test_another_seed_or_step_is_another_pair(places):
    a, b = loader(places)[0], loader(places, seed=4)[0]
    assert a.plan != b.plan
    assert loader(places)[1].plan != a.plan


def test_places_are_grouped_by_sensors_and_by_having_several_dates(places):
    found = {group.name: group for group in groups(places, CONFIG)}
    assert {name: len(group.places) for name, group in found.items()} == {
        "s2+s1": 3,
        "s2+s1 series": 3,
        "s2": 1,
        "hr": 1,
    }
    # of a series a view holds three dates of one sensor and two of the other, of a pair one each
    assert found["s2+s1 series"].weight == pytest.approx(np.sqrt(5 / 2) * found["s2+s1"].weight)


def test_groups_are_drawn_as_often_as_their_weights_say(places):
    config = ViewConfig(
        sizes=CONFIG.sizes, weights={"s2+s1": 1.0, "s2": 3.0, "hr": 0.0, "s2+s1 series": 0.0}
    )
    among = groups(places, config)
    drawn = [plan_step(places, among, config, 1, 0, step).group for step in range(400)]
    assert set(drawn) == {"s2", "s2+s1"}
    assert drawn.count("s2") == pytest.approx(300, abs=35)


def test_a_batch_repeats_no_place_as_long_as_there_are_others(places):
    config = ViewConfig(sizes=((16, 1.0),))
    among = [group for group in groups(places, config) if group.name == "s2+s1"]
    for step in range(20):
        assert len(set(plan_step(places, among, config, 3, 0, step).places)) == 3
        counts = np.bincount(plan_step(places, among, config, 7, 0, step).places, minlength=3)
        assert sorted(counts[:3]) == [2, 2, 3]


def test_synthetic_places_get_their_share_and_no_more():
    places = [random_place("real")] + [random_place(str(i), synthetic=True) for i in range(9)]
    among = groups(places, CONFIG)
    drawn = [i for s in range(50) for i in plan_step(places, among, CONFIG, 8, 0, s).places]
    assert drawn.count(0) == len(drawn) * (1 - CONFIG.synthetic)


def test_some_steps_leave_sensors_out(places):
    config = ViewConfig(sizes=((16, 1.0),), drop_sensor=0.5)
    among = [group for group in groups(places, config) if group.name == "s2+s1"]
    drawn = [plan_step(places, among, config, 1, 0, step).sensors for step in range(200)]
    assert drawn.count(("s2", "s1")) == pytest.approx(100, abs=25)
    assert drawn.count(("s2",)) == pytest.approx(50, abs=20)


def test_cells_of_the_earth_are_those_of_the_places_and_unknown_for_synthetic_ones(places):
    pretended = random_place("pretended", synthetic=True)
    cells = cells_of([*places, pretended], 1024)
    assert cells[0] == division(1024).cell_of(3.0, 50.8)
    assert cells[6] == -1
    assert cells[-1] == -1
    assert (cells_of(places, 0) == -1).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"batch": 3, "world": 2}, "cannot be divided"), ({"rank": 2, "world": 2}, "number 2")],
)
def test_a_batch_that_cannot_be_divided_is_refused(places, options, said):
    with pytest.raises(EncoderError, match=said):
        loader(places, **options)


def test_weights_for_no_group_and_places_too_small_are_refused(places):
    with pytest.raises(EncoderError, match="s3"):
        groups(places, ViewConfig(weights={"s3": 1.0}))
    with pytest.raises(EncoderError, match="as large as the smallest view"):
        groups(places[:3], ViewConfig(sizes=((64, 1.0),)))
    zero = dict.fromkeys(("s2+s1", "s2+s1 series", "s2", "hr"), 0.0)
    with pytest.raises(EncoderError, match="nothing to learn"):
        groups(places, ViewConfig(sizes=CONFIG.sizes, weights=zero))
