"""Every colour of every picture, in one place.

Categorical colours begin with those of Okabe and Ito (2008, jfly.uni-koeln.de/color) and go on
with colours that keep away from all earlier ones, from black, white and the grey of what is not
selected, in OKLab as seen with normal, protan and deutan eyes (Machado et al. 2009). Continuous
maps are Crameri's (2018, doi:10.5281/zenodo.1243862): even steps, never a rainbow.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from skysense.errors import AnalysisError

PALETTE: tuple[str, ...] = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#332288",
    "#0d470d", "#96345b", "#6ef7bd", "#6e5b0d", "#9682f7", "#5b0d47", "#34d06e", "#6e34a9",
    "#f7bdf7", "#6e5b82", "#96a982", "#f782e4", "#5b8282", "#5b6ee4", "#6e3434", "#0d345b",
    "#968247", "#965b47", "#f7d096", "#bdd00d", "#344782", "#472020", "#a947a9", "#96f7f7",
    "#f7a996", "#e48247", "#345b5b", "#8296bd", "#e496bd", "#0de4f7", "#82e46e", "#a96ebd",
    "#e45b5b", "#345bd0", "#bdf782", "#d04796", "#0dbdbd", "#5b206e", "#a99620", "#bd8282",
    "#0d96d0", "#82e4d0", "#820d0d", "#822082", "#0d3434", "#824796", "#bd6ee4", "#20960d",
    "#96bd47", "#bd476e", "#6ed096", "#965bd0", "#6e4720", "#2047bd", "#5b345b", "#346e34",
)  # fmt: skip
"""Colours by index: class, group or prototype i is `PALETTE[i]` in every panel and session."""

UNSELECTED = "#bdbdbd"
"""What is not selected is grey, never gone."""

SELECTED = "#ffb000"
"""A selection on the map."""

USED = "#0072b2"
LEFT_OUT = "#bdbdbd"
"""Dates that were used, and dates that were not."""

SENSOR = {"hr": "#cc79a7", "s2": "#009e73", "s1": "#e69f00"}
"""Bars of sensors, where each has its colour."""

RAMPS = {"continuous": "batlow", "diverging": "vik"}


def palette(n: int) -> list[str]:
    """The first n categorical colours, as `#rrggbb`; a longer list begins with a shorter one.

    Raises:
        AnalysisError: For more than 64, which no eye tells apart.
    """
    if not 0 <= n <= len(PALETTE):
        raise AnalysisError(
            f"{n} colours were asked for, but only {len(PALETTE)} can be told apart. "
            "Merge some classes."
        )
    return list(PALETTE[:n])


def of_categories(attrs: Mapping[str, Any], count: int) -> list[str]:
    """The colours of the first `count` categories of a field, as `#rrggbb`.

    `attrs["colours"]` where it names one, so that a class keeps its colour when another goes; else
    the palette's own, which repeat every 64.
    """
    given = attrs.get("colours")
    given = [str(each) for each in given] if isinstance(given, list | tuple) else []
    return [
        given[i] if i < len(given) and is_colour(given[i]) else PALETTE[i % len(PALETTE)]
        for i in range(count)
    ]


def is_colour(text: object) -> bool:
    """Whether this is `#rrggbb`."""
    return isinstance(text, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", text) is not None


def rgb_of(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as three numbers, 0..255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def hex_of(rgb: np.ndarray) -> str:
    """Three numbers 0..255 as `#rrggbb`."""
    red, green, blue = (int(v) for v in rgb[:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


@lru_cache(maxsize=4)
def ramp(kind: str) -> np.ndarray:
    """(256, 3) uint8 colours from low to high for a continuous or diverging field."""
    # read as text, since importing cmcrameri imports matplotlib
    text = files("cmcrameri").joinpath("cmaps", f"{RAMPS[kind]}.txt").read_text()
    values = np.array([line.split() for line in text.splitlines() if line.strip()], float)
    table = np.rint(values[:, :3] * 255).astype(np.uint8)
    table.setflags(write=False)
    return table
