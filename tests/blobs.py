"""Features whose truth is known: one cluster of directions per class, on a real UTM grid."""

import numpy as np
import odc.geo.xr
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

CRS = "EPSG:32631"
LEFT, TOP = 500_000.0, 5_630_400.0
"""A corner on the 160 m lattice, near 3 °E 50.8 °N."""

PROVENANCE = {
    "encoder": "blobs",
    "weights": "random(seed=0)",
    "weights_licence": "Apache-2.0",
    "data_licence": "none needed",
    "sensors": ["s2"],
    "dates_s2": ["2018-06-01", "2018-07-01"],
    "dates_s1": [],
    "dates_hr": [],
    "missing_bands": ["nir08"],
    "synthetic": 1,
    "untrained": 1,
    "resolution": 10.0,
    "notes": ["made for a test"],
    "version": "0.1.0",
}


def on_ground(values, resolution=10.0, left=LEFT, top=TOP, crs=CRS, **attrs):
    """(feature, y, x) or (y, x) values on a UTM grid."""
    shape = values.shape[-2:]
    geobox = GeoBox(shape, Affine(resolution, 0, left, 0, -resolution, top), crs)
    dims = ("feature", "y", "x") if values.ndim == 3 else ("y", "x")
    coords = {k: (k, np.asarray(v.values)) for k, v in geobox.coordinates.items()}
    if values.ndim == 3:
        coords["feature"] = np.arange(len(values))
    array = xr.DataArray(values.astype(np.float32), coords, dims, attrs=attrs)
    return odc.geo.xr.assign_crs(array, crs)


def blobs(truth, dim=16, noise=0.15, seed=0, offset=0.0, left=LEFT, top=TOP, **changes):
    """Features around one random unit vector per class of `truth` (y, x) int."""
    rng = np.random.default_rng(99)  # the classes mean the same in every place
    centres = rng.normal(size=(12, dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    values = centres[truth] + offset
    values = values + np.random.default_rng(seed).normal(size=values.shape) * noise
    features = np.moveaxis(values, -1, 0)
    return on_ground(features, left=left, top=top, **{**PROVENANCE, **changes})


def fields(size=96, n=4, side=16, seed=1):
    """(y, x) int: square fields of `side` cells, each of one of n classes."""
    rng = np.random.default_rng(seed)
    count = -(-size // side)
    plan = rng.permutation(np.arange(count * count) % n).reshape(count, count)
    return np.kron(plan, np.ones((side, side), int))[:size, :size]


@pytest.fixture(scope="session")
def truth():
    return fields()


@pytest.fixture(scope="session")
def features(truth):
    return blobs(truth)


@pytest.fixture
def holey(features):
    """The same with a corner in which nothing was seen."""
    array = features.copy(deep=True)
    array[:, :10, :20] = np.nan
    return array


@pytest.fixture
def empty(features):
    return features.copy(data=np.full(features.shape, np.nan, np.float32))
