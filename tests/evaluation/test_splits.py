"""Who trains and who is tested."""

import numpy as np
import pytest

from skysense.analysis.blocks import SHARE, split
from skysense.errors import AnalysisError
from skysense.evaluation.splits import CLICKS, SEEDS, draws

SIDE = 64


@pytest.fixture(scope="module")
def place():
    """(classes, metres) of 640 m with four classes in fields of 40 to 120 m."""
    y, x = np.mgrid[:SIDE, :SIDE] * 10.0
    field = np.floor(x / 70).astype(int) * 7 + np.floor(y / 110).astype(int) * 3
    return (field % 4).ravel(), np.stack([x.ravel(), y.ravel()], axis=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_block_of_a_checkerboard_is_in_both_train_and_test(place, seed):
    classes, metres = place
    train, blocks = split(classes, metres, np.zeros(len(classes), int), 160.0, (seed,))
    assert not set(blocks[train]) & set(blocks[~train])
    for block in np.unique(blocks):
        spans = np.ptp(metres[blocks == block], axis=0)
        assert (spans < 160).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_group_of_images_is_in_both_train_and_test(seed):
    group = np.repeat(np.arange(24) // 3, 10)
    classes = np.tile(np.arange(5), 48)
    train, blocks = split(classes, np.zeros((240, 2)), group, 0.0, (seed,))
    assert not set(blocks[train]) & set(blocks[~train])
    assert not set(group[train]) & set(group[~train])


def test_every_class_has_its_share_on_both_sides(place):
    classes, metres = place
    for seed in SEEDS:
        train, _ = split(classes, metres, np.zeros(len(classes), int), 160.0, (seed,))
        for name in np.unique(classes):
            assert SHARE <= train[classes == name].mean() <= 1 - SHARE


def test_clicks_are_training_rows_of_every_class(place):
    classes, metres = place
    for draw in draws("a place", classes, metres, np.zeros(len(classes), int), 160.0):
        assert not set(draw.train) & set(draw.test)
        for count in CLICKS:
            for clicks in draw.clicks[count]:
                assert not set(clicks) & set(draw.test)
                assert np.bincount(classes[clicks]).tolist() == [count] * 4


def test_splits_depend_on_nothing_but_the_task(place):
    classes, metres = place
    first, again, other = (
        draws(name, classes, metres, np.zeros(len(classes), int), 160.0)
        for name in ("one", "one", "two")
    )
    for a, b, c in zip(first, again, other, strict=True):
        assert (a.train == b.train).all()
        assert (a.clicks[5][0] == b.clicks[5][0]).all()
        assert not np.array_equal(a.clicks[5][0], c.clicks[5][0])


def test_a_class_in_one_block_is_refused():
    classes = np.array([0] * 50 + [1] * 10)
    group = np.array([i // 10 for i in range(50)] + [9] * 10)
    with pytest.raises(AnalysisError, match="a class lies in one block"):
        split(classes, np.zeros((60, 2)), group, 0.0, (0,))
