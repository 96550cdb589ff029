"""A session with something in every part."""

import numpy as np
import shapely
import xarray as xr

from skysense.dates import Dates
from skysense.region import Region
from skysense.selected import cells_text
from skysense.session import Session, SessionChoices, SessionClass, SessionPlace, SessionView

REGION = Region.around(3.0239, 50.8160, 640, "2023", "fens")
FIELD = shapely.Polygon([(3.02, 50.81), (3.03, 50.81), (3.03, 50.82), (3.02, 50.81)])


def bank(prototypes=5, features=7, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(prototypes, features)).astype("f4")
    coords = {
        "prototype": np.arange(prototypes),
        "feature": np.arange(features),
        "centre": ("feature", rng.normal(size=features).astype("f4")),
    }
    attrs = {"encoder": "spectral", "fitted_on": ["fens"], "seed": 0, "epsilon": 0.01}
    return xr.DataArray(values, coords, ("prototype", "feature"), attrs=attrs)


def some_session(**changes):
    places = (
        SessionPlace("fens", region=REGION, sensors=("s2", "s1"), features=f"sha256:{'ab' * 32}"),
        SessionPlace("a coast", "earth-search", Region((1.0, 2.0, 1.01, 2.01), "2022", "", None)),
    )
    labels = (
        SessionClass("maize", "#e69f00", ((3.0239, 50.8160), FIELD)),
        SessionClass("<b>grass</b> & 'wood'", "#009e73", ((3.0241, 50.8161),)),
    )
    view = SessionView(
        "fens", "classes", 0.5, "UMAP", 9, 12, "fens", (3.02, 50.81), 14.5, "Search",
        ((3.0239, 50.8160), (3.0240, 50.8160)), ((3.0241, 50.8161),), 0.25,
        cells_text(np.eye(7, 11, dtype=bool)),
    )  # fmt: skip
    facts = {
        "places": places,
        "choices": SessionChoices("spectral", "none", dates=Dates(s2=3, first="2023-03-01")),
        "labels": labels,
        "prototypes": ("water", "maize", "", "wood", "π"),
        "bank": bank(),
        "view": view,
    }
    return Session(**{**facts, **changes})
