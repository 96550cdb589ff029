"""A tiny stack for pictures: two dates of Sentinel-2 and one of Sentinel-1."""

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from skysense.stack import make_stack, sensor_group
from skysense.windows import Lattice

GEOBOX = GeoBox((8, 12), Affine(10, 0, 500_000, 0, -10, 5_630_000), "EPSG:32631")


def stack(clear=(0.4, 0.9), bands=("blue", "green", "red", "nir"), synthetic=True):
    rng = np.random.default_rng(0)
    s2 = sensor_group(
        "s2",
        rng.uniform(0, 0.3, (len(clear), len(bands), 8, 12)).astype("f4"),
        np.ones((len(clear), 8, 12), bool),
        bands=bands,
        time=[f"2018-0{i + 5}-01" for i in range(len(clear))],
        geobox=GEOBOX,
        per_date={"clear": list(clear)},
        source="test scene",
        licence="CC0",
    )
    s1 = sensor_group(
        "s1",
        rng.uniform(-20, -5, (1, 2, 8, 12)).astype("f4"),
        np.ones((1, 8, 12), bool),
        bands=["vv", "vh"],
        time=[None],
        geobox=GEOBOX,
        source="test scene",
        licence="CC0",
    )
    return make_stack(
        {"s2": s2, "s1": s1},
        lattice=Lattice("EPSG:32631", 500_000, 5_630_000, 120, 80),
        region=None,
        source="test scene",
        synthetic=synthetic,
    )
