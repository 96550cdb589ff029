"""Prediction: curves over the year, read from fused features and held against the other view."""

import itertools
import math
import statistics

import pytest
import torch

from skysense.batch import Batch, SensorBatch
from skysense.pretrain.heads import SMALLEST_VARIANCE
from skysense.pretrain.prediction import (
    LEAST,
    YEAR,
    Curves,
    contrasts,
    fit,
    harmonics,
    observed,
    prediction_loss,
)
from skysense.sensors import SENSORS


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def raw(key, standardised):
    """Pixels in contract units that are so many deviations from the sensor's mean."""
    mean, std = (torch.tensor(getattr(SENSORS[key], name)) for name in ("mean", "std"))
    return standardised * std[:, None, None] + mean[:, None, None]


def view_of(key="s2", b=2, t=3, n=8, seed=0, doy=((10, 100, 250), (5, 180, 0))):
    values = random(b, t, len(SENSORS[key].names), n, n, seed=seed)
    valid = torch.ones(b, t, n, n, dtype=torch.bool)
    given = SensorBatch(raw(key, values), valid, torch.tensor(doy)[:, :t])
    return values, Batch({key: given}, torch.zeros(b, 2))


def test_harmonics_turn_once_and_twice_a_year_and_know_nothing_of_an_unknown_day():
    quarter = harmonics(torch.tensor([round(YEAR), 91, 0]), 2)
    turn = 2 * math.pi * 91 / YEAR
    expected = [1, math.cos(turn), math.cos(2 * turn), math.sin(turn), math.sin(2 * turn)]
    torch.testing.assert_close(quarter[1], torch.tensor(expected))
    torch.testing.assert_close(quarter[0], torch.tensor([1.0, 1, 1, 0, 0]), atol=0.01, rtol=0)
    assert quarter[2].tolist() == [1, 0, 0, 0, 0]


def test_loss_is_what_is_missed_of_values_and_of_contrasts_within_an_image():
    values, view = view_of()
    cells = torch.tensor([[3, 60, 17], [8, 0, 63]])
    curves = Curves(5, ("s2",), 2).double()
    fused = random(2, 3, 5, seed=4).double()
    seen = torch.tensor([[True, True, False], [True, True, True]])
    view.sensors["s2"].valid[1, 0, 1, 0] = False  # cell 8 of the second place
    loss, terms = prediction_loss(curves, fused, seen, view, cells)
    rows = fused[seen]  # standardised over all that was seen, as in the heads
    fused = (fused - rows.mean(0)) / (rows.var(0, correction=0) + SMALLEST_VARIANCE).sqrt()
    layer, costs = curves.read["s2"], []
    for place, t, band in itertools.product(range(2), range(3), range(10)):
        day = int(view.sensors["s2"].doy[place, t])
        known, guessed = [], []
        for j, cell in enumerate(cells[place].tolist()):
            row, column = divmod(cell, 8)
            if seen[place, j] and view.sensors["s2"].valid[place, t, row, column]:
                read = (layer.weight @ fused[place, j] + layer.bias).detach().view(10, 5)[band]
                turn = 2 * math.pi * day / YEAR
                waves = [1, math.cos(turn), math.cos(2 * turn), math.sin(turn), math.sin(2 * turn)]
                guessed.append(
                    float(read @ torch.tensor(waves).double()) if day else float(read[0])
                )
                known.append(float(values[place, t, band, row, column]))
        spread = max(statistics.pstdev(known), LEAST)
        shift = statistics.mean(known) - statistics.mean(guessed)
        for x, guess in zip(known, guessed, strict=True):
            costs.append(huber(x - guess) + huber((x - guess - shift) / spread))
    assert len(costs) == 10 * (3 * 5 - 1)
    assert float(loss.detach()) == pytest.approx(sum(costs) / len(costs), rel=1e-5)
    assert float(terms["predict/s2"]) == pytest.approx(float(loss.detach()))


def huber(miss):
    return miss**2 / 2 if abs(miss) <= 1 else abs(miss) - 0.5


def test_features_that_hold_the_curves_cost_nothing():
    values, view = view_of(t=1, doy=((50,), (200,)))
    cells = torch.arange(16).expand(2, -1)
    fused = values[:, 0].flatten(2).transpose(1, 2)[:, :16]
    rows = fused.flatten(0, 1)
    curves = Curves(10, ("s2",), 0)
    with torch.no_grad():  # what standardising took away
        curves.read["s2"].weight.copy_(
            torch.diag((rows.var(0, correction=0) + SMALLEST_VARIANCE).sqrt())
        )
        curves.read["s2"].bias.copy_(rows.mean(0))
    loss, _ = prediction_loss(curves, fused, torch.ones(2, 16, dtype=torch.bool), view, cells)
    assert float(loss.detach()) < 1e-10


def test_order_of_the_cells_changes_nothing():
    _, view = view_of()
    curves, fused = Curves(5, ("s2",), 3), random(2, 6, 5)
    cells, order = torch.arange(12).view(2, 6) * 3, torch.tensor([4, 2, 0, 5, 1, 3])
    seen = torch.rand(2, 6, generator=torch.Generator().manual_seed(1)) < 0.7
    loss, _ = prediction_loss(curves, fused, seen, view, cells)
    mixed, _ = prediction_loss(curves, fused[:, order], seen[:, order], view, cells[:, order])
    torch.testing.assert_close(loss, mixed)


def test_what_was_not_seen_costs_nothing_and_moves_nothing():
    _, view = view_of()
    view.sensors["s2"].valid[:] = False
    curves = Curves(5, ("s2",), 1)
    fused = torch.full((2, 4, 5), torch.nan, requires_grad=True)
    loss, _ = prediction_loss(
        curves, fused, torch.zeros(2, 4, dtype=torch.bool), view, torch.zeros(2, 4).long()
    )
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(not p.grad.any() for p in curves.parameters())
    assert not fused.grad.any()


def test_of_high_resolution_the_mean_over_a_cell_is_observed():
    pixels = random(1, 1, 3, 64, 64)
    view = Batch(
        {
            "hr": SensorBatch(
                raw("hr", pixels),
                torch.ones(1, 1, 64, 64, dtype=torch.bool),
                torch.zeros(1, 1, dtype=torch.int64),
            )
        },
        torch.zeros(1, 2),
    )
    values, usable = observed(view, "hr", torch.tensor([[3, 0]]))
    torch.testing.assert_close(
        values[0, 0, :, 0], pixels[0, 0, :, 32:, 32:].mean((1, 2)), atol=1e-5, rtol=0
    )
    assert usable.all()


def test_contrasts_do_not_depend_on_how_bright_a_date_is_or_how_strong_its_contrast():
    values, weight = random(2, 3, 4, 9), random(2, 3, 9, seed=2) > -1
    inside, spread = contrasts(values, weight)
    again, wider = contrasts(5 * values + 7, weight)
    there = weight[:, :, None].expand_as(inside)
    torch.testing.assert_close((inside / spread)[there], (again / wider)[there])
    assert float(contrasts(0 * values, weight)[1].max()) == pytest.approx(LEAST)


def test_fitted_curves_find_what_is_linear_in_the_features():
    dim, terms = 4, 3
    true = Curves(dim, ("s2",), 1).double()
    days = torch.randint(1, 366, (40, 2, 6), generator=torch.Generator().manual_seed(1))
    examples = []
    for number, doy in enumerate(days):
        fused = random(2, 64, dim, seed=number)
        fused = (fused - fused.mean((0, 1))) / fused.std((0, 1), correction=0)
        values = true("s2", fused.double(), doy).detach().float()  # b t c m
        seen = SensorBatch(raw("s2", values.unflatten(3, (8, 8))), torch.ones(2, 6, 8, 8) > 0, doy)
        view = Batch({"s2": seen}, torch.zeros(2, 2))
        cells = torch.arange(64).expand(2, -1)
        examples.append((fused, torch.ones(2, 64, dtype=torch.bool), view, cells))
    found = Curves(dim, ("s2", "s1"), 1)
    before = found.read["s1"].weight.clone()
    fit(found, examples[1:])
    assert found.read["s2"].weight.shape == (10 * terms, dim)
    assert float(prediction_loss(found, *examples[0])[0].detach()) < 1e-3
    assert torch.equal(found.read["s1"].weight, before)  # no example holds it
