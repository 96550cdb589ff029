"""Small stacks of random but plausible pixels, cut from one endless world."""

import numpy as np
import pandas as pd
from affine import Affine
from odc.geo.geobox import GeoBox

from skysense.sensors import SENSORS
from skysense.stack import make_stack, sensor_group
from skysense.windows import Lattice

CRS = "EPSG:32631"
DATES = {"s2": 4, "s1": 3, "hr": 1}


def world(sensor: str, lattice: Lattice, bounds, dates: int, seed: int = 0):
    """(data, valid, geobox) whose values depend only on absolute position."""
    step = SENSORS[sensor].resolution
    left, bottom, right, top = bounds
    width, height = round((right - left) / step), round((top - bottom) / step)
    x = left + (np.arange(width) + 0.5) * step
    y = top - (np.arange(height) + 0.5) * step
    spec = SENSORS[sensor]
    phase = np.random.default_rng(seed).uniform(0, 6, (dates, len(spec.bands), 3))
    waves = [
        np.sin(x[None, None, None, :] / (step * 9) + phase[..., 0][..., None, None]),
        np.cos(y[None, None, :, None] / (step * 7) + phase[..., 1][..., None, None]),
        np.sin((x[None, :] - y[:, None]) / (step * 4) + phase[..., 2][..., None, None]),
    ]
    mean, std = (np.array(v)[:, None, None] for v in (spec.mean, spec.std))
    data = (mean + std * sum(waves) / 2).astype("f4")
    grid = np.floor(x[None, :] / 160) * 7 + np.floor(y[:, None] / 120) * 3
    valid = np.stack([(grid + t) % 5 != 0 for t in range(dates)])
    if sensor == "hr":
        valid[:] = True
    return data, valid, GeoBox((height, width), Affine(step, 0, left, 0, -step, top), CRS)


def stack_of(
    bounds,
    sensors=("s2", "s1"),
    *,
    lattice=None,
    region=None,
    dates=None,
    edit=None,
    seed=0,
    backwards=False,
):
    """A stack over `bounds` (UTM metres); `edit(sensor, data, valid)` may change it first."""
    lattice = lattice or Lattice(CRS)
    groups = {}
    for sensor in sensors:
        count = (dates or DATES)[sensor]
        data, valid, geobox = world(sensor, lattice, bounds, count, seed)
        if edit is not None:
            data, valid = edit(sensor, data.copy(), valid.copy())
        order = np.arange(count)[:: -1 if backwards else 1]
        groups[sensor] = sensor_group(
            sensor,
            data[order],
            valid[order],
            bands=SENSORS[sensor].names,
            time=pd.date_range("2023-03-01", periods=count, freq="21D")[order],
            geobox=geobox,
            per_date={"item": [f"{sensor}-{i}" for i in order]},
            source="test",
            licence="CC0-1.0",
        )
    return make_stack(groups, lattice=lattice, region=region, source="test")


def file_stack(width: float, height: float, sensors=("s2", "s1"), **options):
    """A stack that is a whole file of `width` by `height` metres."""
    lattice = Lattice(CRS, 500_000.0, 5_600_000.0, width, height)
    return stack_of(lattice.bounds, sensors, lattice=lattice, **options)
