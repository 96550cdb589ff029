"""Distances between places with their controls, and what pays for them, as charts."""

from collections.abc import Mapping
from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import pandas as pd

from skysense.analysis import Comparison
from skysense.checks import shown, whole
from skysense.errors import AnalysisError
from skysense.view.hues import PALETTE, UNSELECTED, USED
from skysense.view.pictures import heading, on_screen

Years = Mapping[str, Comparison]
"""{name of a place: two years of it, compared through the same bank}."""


def comparison(
    found: Comparison,
    width: int = 600,
    pair: tuple[str, str] | None = None,
    years: Years | None = None,
) -> hv.Overlay:
    """Distances between places with their intervals, above the controls on the same scale.

    Args:
        found: From `compare`.
        width: Of the chart (pixels on the screen).
        pair: Only these two places; otherwise all.
        years: Controls of another year, by the name of the place.
    """
    rows = distance_table(found, pair, years)
    width = on_screen(width)
    rows["place"] = np.arange(len(rows))[::-1]
    known = rows.dropna(subset=["low", "high"]).assign(again=lambda table: table["place"])
    whiskers = hv.Segments(known, ["low", "place", "high", "again"], ["colour"])
    dots = hv.Points(rows, ["distance", "place"], ["what", "low", "high", "colour"])
    whiskers = whiskers.opts(backend="bokeh", color="colour", line_width=3)
    dots = dots.opts(
        backend="bokeh",
        color="colour",
        size=9,
        tools=["hover"],
        hover_tooltips=["what", "distance", "low", "high"],
    )
    reach = float(np.nanmax([*rows["high"], *rows["distance"], 0.01]))
    return hv.Overlay([whiskers, dots]).opts(
        backend="bokeh",
        width=width,
        height=80 + 32 * len(rows),
        xlabel="transport distance (0 to 2)",
        ylabel="",
        xlim=(0, reach * 1.1),
        xticks=4,
        ylim=(-0.6, len(rows) - 0.4),
        yticks=list(zip(rows["place"].tolist(), rows["what"], strict=True)),
        **heading(width, "blue: two places; grey: controls, what no difference looks like"),
    )


def distance_table(
    found: Comparison, pair: tuple[str, str] | None = None, years: Years | None = None
) -> pd.DataFrame:
    """Pairs of places, then the controls: what, distance, low, high, colour.

    The controls are both places mixed and dealt out again, two halves of each place, and two years
    of a place where they are given.

    Raises:
        AnalysisError: If it is no comparison, or one of the pair was not compared.
    """
    if not isinstance(found, Comparison):
        raise AnalysisError(f"{shown(found)} is no comparison; compare(places, bank) makes one.")
    names = found.names if pair is None else tuple(pair)
    if pair is not None:
        found.verdict(*pair)  # refuses places that were not compared
    rows = [
        _row(
            "the two places" if pair else f"{r['region']} – {r['other']}",
            r["distance"],
            r["low"],
            r["high"],
            USED,
        )
        for r in found.to_dataframe().to_dict("records")
        if {r["region"], r["other"]} <= set(names)
    ]
    for name in names:
        for year in [years[name]] if years and name in years else []:
            one, other = year.names
            at = {"region": one, "other": other}
            ends = (float(each.sel(at)) for each in (year.distance, year.low, year.high))
            one, other = (title.removeprefix(name).strip() for title in (one, other))
            rows.append(_row(f"{name}, {one} and {other}", *ends, UNSELECTED))
    if len(names) == 2:
        at = {"region": names[0], "other": names[1]}
        low, middle, high = found.shuffled.sel(at).values
        rows.append(_row("both, shuffled", middle, low, high, UNSELECTED))
    for name in names:
        low, middle, high = found.control.sel(region=name).values
        rows.append(_row(f"{name}, halved", middle, low, high, UNSELECTED))
    return pd.DataFrame(rows)


def _row(what: str, distance: float, low: float, high: float, colour: str) -> dict[str, Any]:
    return {"what": what, "distance": distance, "low": low, "high": high, "colour": colour}


def payers(found: Comparison, region: str, other: str, n: int = 8, width: int = 600) -> hv.Overlay:
    """Which prototypes pay for the distance between two places, in the prototypes' colours.

    A bar is as long as its part of the distance, to the left where `region` has more of the
    prototype and to the right where `other` has.

    Args:
        found: From `compare`.
        region: One of the places.
        other: The other.
        n: How many prototypes, the largest payers.
        width: Of the chart (pixels on the screen).

    Raises:
        AnalysisError: If it is no comparison, or a place was not compared.
    """
    table = payers_table(found, region, other, n)
    width = on_screen(width)
    height = np.arange(len(table))[::-1]
    signed = np.where(table["more_in"] == other, table["part"], -table["part"])
    bars = hv.Rectangles(
        (
            np.minimum(signed, 0), height - 0.36, np.maximum(signed, 0), height + 0.36,
            table["name"], table["part"], table["more_in"], table["colour"],
        ),
        ["left", "low", "right", "high"],
        ["name", "part", "more_in", "colour"],
    )  # fmt: skip
    reach = 1.15 * float(table["part"].max())
    return hv.Overlay([bars.opts(backend="bokeh", color="colour", line_color=None,
                                 tools=["hover"]),
                       hv.VLine(0).opts(backend="bokeh", color="#999999", line_width=1)]).opts(
        backend="bokeh",
        width=width,
        height=90 + 24 * len(table),
        xlim=(-reach, reach),
        ylim=(-0.6, len(table) - 0.4),
        xlabel="part of the distance",
        ylabel="",
        xformatter="%.2f",
        yticks=list(zip(height.tolist(), table["name"], strict=True)),
        **heading(width, f"left: more in {region}; right: more in {other}"),
    )  # fmt: skip


def payers_table(found: Comparison, region: str, other: str, n: int = 8) -> pd.DataFrame:
    """The first rows of `found.payers(region, other)`, with the colour of each prototype.

    Raises:
        AnalysisError: If it is no comparison, a place was not compared, or `n` is none.
    """
    if not isinstance(found, Comparison):
        raise AnalysisError(f"{shown(found)} is no comparison; compare(places, bank) makes one.")
    n = whole("n", n, 1, None, AnalysisError)
    table = found.payers(region, other)
    table = table[table["part"] > 0].head(n)
    return table.assign(colour=[PALETTE[i % len(PALETTE)] for i in table["prototype"]])
