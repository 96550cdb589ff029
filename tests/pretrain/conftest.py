"""Places that a run of a few steps learns from."""

import numpy as np
import pytest
from stacks import file_stack

from skysense.pretrain.prepare import prepare
from skysense.pretrain.shards import ShardSensor, write_shard
from skysense.pretrain.words import CLASSES
from skysense.sensors import SENSORS


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "places"
    series = file_stack(240, 200, dates={"s2": 6, "s1": 5})
    single = file_stack(160, 160, dates={"s2": 1, "s1": 1}, seed=1)
    prepare([series, single], folder)
    return folder


@pytest.fixture(scope="module")
def labelled(places, tmp_path_factory):
    """The same without the single dates, and two synthetic series with labels."""
    folder, rng = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0)
    sensors = {}
    for key, dates, low, high in (("s2", 6, 0.02, 0.4), ("s1", 5, -20, -5)):
        values = rng.uniform(low, high, (2, dates, len(SENSORS[key].names), 20, 24))
        days = np.tile(np.arange(1, 361, 360 // dates)[:dates], (2, 1))
        valid = np.ones((2, dates, 20, 24), bool)
        sensors[key] = ShardSensor(values.astype("f4"), valid, SENSORS[key].names, days)
    labels = rng.integers(-1, len(CLASSES), (2, 20, 24))
    shard = write_shard(folder / "made.zarr", sensors, licence="CC0-1.0", synthetic=True,
                        lonlat=np.full((2, 2), np.nan), labels=labels)  # fmt: skip
    prepare([file_stack(240, 200, dates={"s2": 6, "s1": 5}), shard], folder / "places")
    return folder / "places"
