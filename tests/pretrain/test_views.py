import dataclasses
import itertools

import numpy as np
import pytest
import torch
from small_places import make_place, place_that_knows, random_place

from skysense.errors import EncoderError
from skysense.model.inputs import DateFeatures, places_of
from skysense.pretrain.augment import AugmentConfig
from skysense.pretrain.data import Series
from skysense.pretrain.geometry import Turn, turned, turned_index
from skysense.pretrain.views import Plan, ViewConfig, pairs
from skysense.sensors import SENSORS

TURNS = [Turn(flip, turns) for flip in (False, True) for turns in range(4)]
CONFIG = ViewConfig(positions=24)


def plan_of(size, sensors, *, dates=3, turn_u=TURNS[0], turn_v=TURNS[0], step=0,
            samples=(0,), whole=True):  # fmt: skip
    t = {key: 1 if key == "hr" else dates for key in sensors}
    shared = {key: max(1, round(t[key] / 2)) for key in sensors}
    return Plan(7, step, "test", tuple(sensors), size, t, shared, whole, turn_u, turn_v, samples)


def ground(batch, key):
    """(2, b, n, n): row and column in 10 m cells of each cell of a view, as one sensor saw them."""
    where = batch.sensors[key].pixels[:, 0, :2].double().numpy()  # b 2 n n
    if key == "hr":
        b, _, h, w = where.shape
        where = (where.reshape(b, 2, h // 32, 32, w // 32, 32).mean((3, 5)) - 15.5) / 32
    return where.swapaxes(0, 1)


def at(grid, index):
    """Values (2, b, m) of (2, b, h, w) at flat positions (b, m)."""
    flat = grid.reshape(*grid.shape[:2], -1)
    return np.take_along_axis(flat, index.numpy()[None].repeat(2, 0), axis=-1)


@pytest.mark.parametrize("turn", TURNS)
def test_an_index_goes_where_its_element_goes(turn):
    square = np.arange(36).reshape(6, 6)
    rows, columns = np.indices((6, 6))
    moved = np.empty_like(square)
    moved[turned_index(rows, columns, 6, turn)] = square
    assert (moved == turned(square, turn)).all()


@pytest.mark.parametrize("turn_u", TURNS)
def test_matched_positions_are_one_ground_however_views_are_turned(turn_u):
    places = [place_that_knows()]
    for number, turn_v in enumerate(TURNS):
        plan = plan_of(8, ("hr", "s2", "s1"), turn_u=turn_u, turn_v=turn_v, step=number)
        pair = pairs(places, plan, [0], CONFIG)
        seen = [ground(batch, "s2") for batch in (pair.u, pair.v)]
        # every sensor shows the same ground in every cell
        for batch, here in zip((pair.u, pair.v), seen, strict=True):
            assert (ground(batch, "s1") == here).all()
            assert np.allclose(ground(batch, "hr"), here)
        # cells
        fine = [at(grid, index) for grid, index in zip(seen, pair.cells, strict=True)]
        assert (fine[0] == fine[1]).all()
        # tokens
        means = [g.reshape(2, 1, 2, 4, 2, 4).mean((3, 5)) for g in seen]
        coarse = [at(grid, index) for grid, index in zip(means, pair.tokens, strict=True)]
        assert (coarse[0] == coarse[1]).all()
        # fused cells: what the model itself computes there
        fused = []
        for grid, index in zip(seen, pair.cells, strict=True):
            empty = DateFeatures(torch.empty(0), torch.ones(1, 1, 2, 2, dtype=torch.bool), None)
            lattice = places_of({"s2": empty}, index)
            fused.append(grid[:, :, lattice.row, lattice.column])
        assert (fused[0] == fused[1]).all()
        # and position k is one place on every map
        for side in range(2):
            assert (np.abs(fine[side] - coarse[side]) <= 1.5).all()
            assert (fused[side] == fine[side]).all()


@pytest.mark.parametrize("turn_u", TURNS)
def test_cells_are_one_ground_also_where_views_are_not_whole_tokens_apart(turn_u):
    places, apart = [place_that_knows()], set()
    for number, turn_v in enumerate(TURNS):
        plan = plan_of(8, ("s2",), turn_u=turn_u, turn_v=turn_v, step=number, whole=False)
        pair = pairs(places, plan, [0], CONFIG)
        seen = [ground(batch, "s2") for batch in (pair.u, pair.v)]
        fine = [at(grid, index) for grid, index in zip(seen, pair.cells, strict=True)]
        assert (fine[0] == fine[1]).all()
        for token, cell in zip(pair.tokens, pair.cells, strict=True):
            assert (token == cell // 8 // 4 * 2 + cell % 8 // 4).all()
        apart |= {int(each) % 4 for each in (seen[0].min((1, 2, 3)) - seen[1].min((1, 2, 3)))}
    assert apart > {0}


@pytest.mark.parametrize("size", [16, 32])
def test_matched_positions_are_one_ground_at_every_size(size):
    places = [place_that_knows(cells=(50, 41), sensors=("s2", "s1"))] * 2
    for step, (turn_u, turn_v) in enumerate(itertools.product(TURNS[::3], TURNS[::2])):
        plan = plan_of(
            size, ("s2", "s1"), turn_u=turn_u, turn_v=turn_v, step=step, samples=(0, 1, 0)
        )
        pair = pairs(places, plan, range(3), CONFIG)
        for key in plan.sensors:
            grids = [ground(batch, key) for batch in (pair.u, pair.v)]
            means = [g.reshape(2, 3, size // 4, 4, size // 4, 4).mean((3, 5)) for g in grids]
            for positions, maps in ((pair.cells, grids), (pair.tokens, means)):
                u, v = (at(g, index) for g, index in zip(maps, positions, strict=True))
                assert (u == v).all()


def test_views_overlap_by_half_or_more_and_begin_anywhere():
    place = place_that_knows(cells=(40, 60), sensors=("s2",))
    shares, firsts = [], set()
    for step in range(60):
        pair = pairs([place], plan_of(16, ("s2",), step=step), [0], CONFIG)
        u, v = (
            {tuple(each) for each in ground(b, "s2").reshape(2, -1).T} for b in (pair.u, pair.v)
        )
        shares.append(len(u & v) / len(u))
        firsts.add(tuple(int(x) % 4 for x in min(u)))
    assert min(shares) >= 0.5
    assert min(shares) < 0.6
    assert max(shares) > 0.9
    assert len(firsts) == 16


def test_positions_do_not_repeat_before_every_token_is_there():
    plan = plan_of(16, ("s2",))
    pair = pairs([place_that_knows(cells=(16, 16), sensors=("s2",))], plan, [0], CONFIG)
    assert sorted(pair.tokens[0][0, :16].tolist()) == list(range(16))
    assert len(set(pair.cells[0][0].tolist())) == 24


def test_half_of_the_dates_are_shared_and_the_others_differ():
    place = place_that_knows(sensors=("s2",), dates={"s2": 20})
    counts = np.zeros(20)
    for step in range(100):
        pair = pairs([place], plan_of(8, ("s2",), dates=6, step=step), [0], CONFIG)
        u, v = (b.sensors["s2"].pixels[0, :, 2, 0, 0].numpy().astype(int) for b in (pair.u, pair.v))
        iu, iv = (days.numpy() for days in pair.dates["s2"])
        assert (u[iu] == v[iv]).all()
        assert len(iu) == 3
        assert len(set(u) | set(v)) == 9
        np.add.at(counts, [*u, *v], 1)
    assert counts.min() > 0.6 * counts.mean()


@pytest.mark.parametrize("held", [1, 2, 3, 5])
def test_a_short_series_leaves_the_rest_of_the_dates_invalid(held):
    place = place_that_knows(sensors=("s2",), dates={"s2": held})
    pair = pairs([place], plan_of(8, ("s2",), dates=6), [0], CONFIG)
    u, v = (b.sensors["s2"].valid[0].flatten(1).all(1) for b in (pair.u, pair.v))
    both = pair.dates["s2"][0]
    assert (u[both] == v[both]).all()
    assert both.tolist() == [0, 1, 2]
    assert int(u[both].sum()) >= 1
    assert int(u.sum() + v.sum() - u[both].sum()) == held  # no date is wasted
    assert (pair.u.sensors["s2"].doy[0][~u] == 0).all()


def test_days_move_by_the_jitter_and_no_further():
    series = place_that_knows(sensors=("s2",), dates={"s2": 4}).sensors["s2"]
    known = np.array([0, 1, 200, 366])
    place = make_place("a", {"s2": Series(series.pixels, series.valid, known)})
    for step in range(30):
        pair = pairs([place], plan_of(8, ("s2",), dates=4, step=step), [0], CONFIG)
        here = pair.u.sensors["s2"]
        for day, date, seen in zip(
            here.doy[0].tolist(), here.pixels[0, :, 2, 0, 0].tolist(), here.valid[0, :, 0, 0],
            strict=True,
        ):  # fmt: skip
            true = known[round(date)] if seen else 0
            if true == 0:
                assert day == 0
            else:
                assert 1 <= day <= 366
                assert min(abs(day - true), 366 - abs(day - true)) <= CONFIG.jitter


def test_a_sample_is_the_same_whoever_asks_for_it():
    places = [random_place(str(i), seed=i) for i in range(4)]
    plan = plan_of(16, ("s2", "s1"), samples=(2, 0, 1, 3), turn_u=TURNS[5])
    whole = pairs(places, plan, range(4), CONFIG, AugmentConfig())
    part = pairs(places, plan, [2, 3], CONFIG, AugmentConfig())
    for key in plan.sensors:
        for a, b in ((whole.u, part.u), (whole.v, part.v)):
            assert torch.equal(a.sensors[key].pixels[2:], b.sensors[key].pixels)
            assert torch.equal(a.sensors[key].doy[2:], b.sensors[key].doy)
    assert torch.equal(whole.tokens[1][2:], part.tokens[1])
    assert part.place.tolist() == [1, 3]


@pytest.mark.parametrize("noise", [None, AugmentConfig(s2_drop=1.0)])
def test_what_is_not_known_is_at_the_mean_and_all_is_finite(noise):
    place = random_place("a", dates=4)
    s2 = place.sensors["s2"]
    place = make_place(
        "a",
        {"s2": Series(s2.pixels, s2.valid, s2.doy, s2.scale, (3, 7)), "s1": place.sensors["s1"]},
    )
    pair = pairs([place], plan_of(16, ("s2", "s1")), [0], CONFIG, noise)
    for batch in (pair.u, pair.v):
        for key, each in batch.sensors.items():
            mean = torch.tensor(SENSORS[key].mean)[:, None, None].expand(each.pixels.shape)
            assert each.pixels.isfinite().all()
            unseen = ~each.valid[:, :, None].expand(each.pixels.shape)
            assert torch.equal(each.pixels[unseen], mean[unseen])
        assert (batch.sensors["s2"].pixels[:, :, 7] == SENSORS["s2"].mean[7]).all()


def test_what_lies_beyond_a_small_place_is_invalid():
    place = place_that_knows(cells=(6, 6))
    for step, turn in enumerate(TURNS):
        plan = plan_of(8, ("hr", "s2", "s1"), turn_u=turn, step=step)
        pair = pairs([place], plan, [0], CONFIG)
        assert int(pair.u.sensors["s2"].valid[0, 0].sum()) == 36
        assert int(pair.u.sensors["hr"].valid[0, 0].sum()) == 36 * 32**2
        blocks = pair.u.sensors["hr"].valid[0, 0].reshape(8, 32, 8, 32).all(3).all(1)
        assert torch.equal(blocks, pair.u.sensors["s2"].valid[0, 0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"sizes": ((30, 1.0),)},
        {"hr_sizes": ((4, 1.0),)},
        {"overlap": 1.5},
        {"positions": 0},
        {"dates": (("s2", 3),)},
    ],
)
def test_impossible_views_are_refused_in_a_sentence(wrong):
    with pytest.raises(EncoderError, match=next(iter(wrong))):
        ViewConfig(**wrong)


@pytest.mark.parametrize("turn_u", TURNS)
def test_labels_lie_on_the_ground_of_the_cells_of_view_u(turn_u):
    rows, columns = np.indices((24, 28))
    truth = ((rows * 5 + columns) % 8 - 1).astype(np.int8)
    place = dataclasses.replace(place_that_knows(sensors=("s2",)), labels=truth, synthetic=True)
    pair = pairs([place], plan_of(8, ("s2",), turn_u=turn_u, turn_v=TURNS[3]), [0], CONFIG)
    row, column = at(ground(pair.u, "s2"), pair.cells[0]).astype(int)
    assert (pair.labels.numpy() == truth[row, column]).all()


def test_places_without_labels_and_ground_beyond_a_place_have_none():
    bare = place_that_knows(sensors=("s2",), cells=(6, 8))
    made = dataclasses.replace(bare, labels=np.full((6, 8), 2, np.int8), synthetic=True)
    pair = pairs([bare, made], plan_of(8, ("s2",), samples=(0, 1)), [0, 1], CONFIG)
    assert (pair.labels[0] == -1).all()
    inside = pair.u.sensors["s2"].valid[1, 0].flatten()[pair.cells[0][1]]
    assert pair.labels[1].tolist() == torch.where(inside, 2, -1).tolist()
    assert set(pair.labels[1].tolist()) == {-1, 2}
