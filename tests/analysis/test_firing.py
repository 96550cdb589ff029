"""Examples, shares and neighbours of prototypes whose truth is known."""

import numpy as np
import pytest
from blobs import blobs, fields

from skysense.analysis import assign, atlas, examples, fit_prototypes, usage
from skysense.errors import AnalysisError


@pytest.fixture(scope="module")
def places():
    return {"here": blobs(fields(96, 4, 16)), "there": blobs(fields(64, 3, 8), seed=2)}


@pytest.fixture(scope="module")
def bank(places):
    return fit_prototypes(places, 6, epochs=4)


@pytest.fixture(scope="module")
def found(places, bank):
    return examples(places, bank, n=3, apart=100)


def test_the_first_example_is_the_strongest_cell_there_is(places, bank, found):
    field = assign(places["here"], bank)
    for number in range(6):
        best = found[(found.prototype == number) & (found["rank"] == 0)].strength
        mine = field["strength"].values[field.values == number]
        if len(mine):
            assert best.item() >= mine.max() - 1e-6


def test_an_example_is_a_cell_of_its_prototype(places, bank, found):
    fields_of = {name: assign(each, bank) for name, each in places.items()}
    for row in found.to_dict("records"):
        cell = fields_of[row["region"]].sel(x=row["x"], y=row["y"])
        assert int(cell) == row["prototype"]
        assert float(cell["strength"]) == pytest.approx(row["strength"])


def test_examples_of_one_prototype_in_one_place_keep_their_distance(found):
    for _, cells in found.groupby(["prototype", "region"]):
        x, y = cells.x.to_numpy(), cells.y.to_numpy()
        distance = np.hypot(x[:, None] - x, y[:, None] - y)[~np.eye(len(x), dtype=bool)]
        assert (distance >= 100).all()


def test_examples_keep_off_the_edge_where_they_can(places, bank):
    place = places["here"]
    (left, right), (low, high) = ((place[a].values.min(), place[a].values.max()) for a in "xy")
    found = examples(place, bank, n=2, margin=80)
    inside = found.x.between(left + 75, right - 75) & found.y.between(low + 75, high - 75)
    assert inside.mean() > 0.9
    assert (examples(place, bank, n=2, margin=5000).groupby("prototype").size() == 2).any()


def test_examples_are_the_same_each_time(places, bank, found):
    assert examples(places, bank, n=3, apart=100).equals(found)


def test_shares_are_those_of_the_assignment(places, bank):
    table = atlas(places, bank)
    expected = usage(assign(places["there"], bank))
    np.testing.assert_allclose(table["share"].sel(region="there"), expected)


def test_the_nearest_prototypes_are_those_of_highest_cosine(bank, places):
    table = atlas(places, bank, neighbours=2)
    rows = bank.values.astype(float)
    cosine = rows @ rows.T - 9 * np.eye(6)
    np.testing.assert_array_equal(table["nearest"][:, 0], cosine.argmax(1))
    np.testing.assert_allclose(table["cosine"][:, 0], cosine.max(1), atol=1e-6)


def test_a_prototype_in_one_block_has_no_spread_and_one_everywhere_has_all():
    truth = np.zeros((64, 64), int)
    truth[:16, :16] = 1
    place = blobs(truth, noise=0.02)
    bank = fit_prototypes(place, 2)
    table = atlas(place, bank).isel(region=0)
    corner = int(table["share"].values.argmin())
    assert float(table["spread"][corner]) == 0
    assert float(table["spread"][1 - corner]) > 0.9


def test_a_prototype_that_nothing_is_nearest_to_has_no_strength(places, bank):
    lonely = bank.copy(data=np.where(np.arange(6)[:, None] == 3, -bank.values[2], bank.values))
    lonely[3] = -bank.mean("prototype")
    table = atlas(blobs(np.full((32, 32), 1), noise=0.01), lonely).isel(region=0)
    unused = table["share"] == 0
    assert unused.any()
    assert np.isnan(table["strength"].where(unused, drop=True)).all()


@pytest.mark.parametrize(("option", "value"), [("n", 0), ("apart", -1), ("n", None)])
def test_examples_that_cannot_be_are_refused(places, bank, option, value):
    with pytest.raises(AnalysisError, match=option):
        examples(places, bank, **{option: value})
