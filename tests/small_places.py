"""Small places to learn from, whose pixels say where and when they are."""

import numpy as np

from skysense.pretrain.data import Place, Series, pixels_per_cell
from skysense.sensors import SENSORS


def place_that_knows(name="a", cells=(24, 28), sensors=("hr", "s2", "s1"), dates=None, **facts):
    """A place whose first bands are row, column (pixels of the sensor) and number of the date."""
    dates = {"hr": 1, "s2": 9, "s1": 7, **(dates or {})}
    series = {}
    for key in sensors:
        side, bands, t = pixels_per_cell(key), len(SENSORS[key].names), dates[key]
        h, w = cells[0] * side, cells[1] * side
        pixels = np.zeros((t, bands, h, w), np.float32)
        pixels[:, 0] = np.arange(h)[:, None]
        pixels[:, 1] = np.arange(w)
        if bands > 2:
            pixels[:, 2] = np.arange(t)[:, None, None]
        doy = 1 + np.arange(t) * 20
        series[key] = Series(pixels, np.ones((t, h, w), bool), doy)
    return make_place(name, series, **facts)


def random_place(name, cells=(20, 20), sensors=("s2", "s1"), dates=5, seed=0, **facts):
    """A place of plausible values, stored as places are on disk."""
    rng = np.random.default_rng(seed)
    series = {}
    for key in sensors:
        spec, side = SENSORS[key], pixels_per_cell(key)
        t = 1 if key == "hr" else dates
        shape = (t, len(spec.names), cells[0] * side, cells[1] * side)
        mean, std = (np.array(v)[:, None, None] for v in (spec.mean, spec.std))
        values = mean + std * rng.standard_normal(shape)
        kind = {"hr": np.uint8, "s2": np.int16, "s1": np.float16}[key]
        scale = 1e-4 if key == "s2" else 1.0
        values = values.clip(0, 255) if key == "hr" else values / scale
        valid = rng.random((t, *shape[2:])) > 0.1
        doy = rng.integers(1, 367, t)
        series[key] = Series(values.astype(kind), valid, doy, scale)
    return make_place(name, series, **facts)


def make_place(name, series, lonlat=(3.0, 50.8), synthetic=False):
    """A place of given series."""
    return Place(name, series, lonlat, "no rights reserved", "nobody", synthetic, "L2A", "a test")
