"""Dates, shares, distances and agreement as charts."""

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import pandas as pd
import xarray as xr

from skysense.analysis import Agreement
from skysense.checks import shown
from skysense.dates import Acquisition
from skysense.errors import AnalysisError
from skysense.sensors import SENSORS
from skysense.view.hues import LEFT_OUT, PALETTE, USED, hex_of, ramp
from skysense.view.pictures import heading, on_screen

HALF_DAY = pd.Timedelta(hours=12)


def rail(acquisitions: Sequence[Acquisition]) -> tuple[pd.DataFrame, int]:
    """The date rail as a table, and how many dates are unknown and so not on it.

    Returns:
        One row per known date: sensor, day, left, right (datetimes), low, high (height on the
        rail, one unit per sensor), clear, used, reason, colour.

    Raises:
        AnalysisError: If there is no date at all, or these are no acquisitions.
    """
    if not isinstance(acquisitions, Sequence) or not all(
        isinstance(each, Acquisition) for each in acquisitions
    ):
        raise AnalysisError(
            f"{shown(acquisitions)} is no list of dates; acquisitions(stack) gives one."
        )
    if not acquisitions:
        raise AnalysisError("There are no dates to show.")
    order = [key for key in SENSORS if any(a.sensor == key for a in acquisitions)][::-1]
    rows = []
    for each in acquisitions:
        if each.day == "unknown":
            continue
        day = pd.Timestamp(each.day)
        level = order.index(each.sensor)
        # radar and images of unknown clearness stand at full height
        height = each.clear if np.isfinite(each.clear) else 1.0
        rows.append(
            {
                "sensor": SENSORS[each.sensor].title,
                "day": each.day,
                "left": day - HALF_DAY,
                "right": day + HALF_DAY,
                "low": float(level),
                "high": level + 0.05 + 0.8 * height,
                "clear": each.clear,
                "used": "used" if each.used else f"not used: {each.reason}",
                "colour": USED if each.used else LEFT_OUT,
            }
        )
    return pd.DataFrame(rows), sum(a.day == "unknown" for a in acquisitions)


def dates(acquisitions: Sequence[Acquisition], width: int = 900) -> hv.Rectangles:
    """Every acquisition on one time axis: height is the usable share, grey was not used.

    Args:
        acquisitions: From `skysense.dates.acquisitions(stack)`.
        width: Of the chart (pixels on the screen).
    """
    table, unknown = rail(acquisitions)
    width = on_screen(width)
    used = sum(a.used for a in acquisitions)
    words = f"{used} of {len(acquisitions)} dates used; height is the usable share"
    if unknown:
        words += f"; {unknown} without a known date are not shown"
    titles = [SENSORS[k].title for k in SENSORS if any(a.sensor == k for a in acquisitions)][::-1]
    if table.empty:
        table = pd.DataFrame(columns=_RAIL)
    return hv.Rectangles(
        table,
        ["left", "low", "right", "high"],
        ["sensor", "day", "clear", "used", "colour"],
    ).opts(
        backend="bokeh",
        color="colour",
        line_color=None,
        tools=["hover", "tap"],
        width=width,
        height=50 + 60 * len(titles),
        yticks=[(i + 0.45, name) for i, name in enumerate(titles)],
        ylim=(-0.05, len(titles)),
        xlabel="",
        ylabel="",
        **heading(width, words),
    )


_RAIL = ["left", "low", "right", "high", "sensor", "day", "clear", "used", "colour"]


def usage_table(shares: xr.DataArray) -> pd.DataFrame:
    """Shares as a table: region, prototype (number from 1), share, colour.

    Raises:
        AnalysisError: If these are not shares of prototypes.
    """
    if not isinstance(shares, xr.DataArray) or shares.dims not in (
        ("prototype",),
        ("region", "prototype"),
    ):
        raise AnalysisError(
            "usage() draws the result of analysis.usage(field) or compare(...).usage, not "
            f"{shares.dims if isinstance(shares, xr.DataArray) else type(shares).__name__}."
        )
    wide = shares if shares.ndim == 2 else shares.expand_dims(region=["share"])
    rows = [
        {
            "region": str(region),
            "prototype": str(i + 1),
            "share": float(wide.values[r, i]),
            "colour": PALETTE[i % len(PALETTE)],
        }
        # place by place: HoloViews draws grouped bars in this order, whatever order it is given,
        # but takes their colours in the order it is given
        for r, region in enumerate(wide["region"].values)
        for i in range(wide.sizes["prototype"])
    ]
    return pd.DataFrame(rows)


def usage(
    shares: xr.DataArray, width: int = 600, colours: Mapping[str, str] | None = None
) -> hv.Bars:
    """Share of pixels that each prototype has; several places side by side.

    Bars of one place have the colours of the map; of several places, one colour per place.

    Args:
        shares: From `analysis.usage(field)` or `compare(...).usage`.
        width: Of the chart (pixels on the screen).
        colours: {name of the place: `#rrggbb`}, where places have colours already.
    """
    table = usage_table(shares)
    width = on_screen(width)
    names = list(dict.fromkeys(table["region"]))
    given = dict(colours or {})
    hues = [given.get(name, PALETTE[i % len(PALETTE)]) for i, name in enumerate(names)]
    several = len(names) > 1
    keys = ["prototype", "region"] if several else ["prototype"]
    bars = hv.Bars(table, keys, ["share", "colour"])
    style: dict[str, Any] = (
        {"color": "region", "cmap": hues, "show_legend": True} if several else {"color": "colour"}
    )
    return bars.opts(
        backend="bokeh",
        width=width,
        height=260,
        tools=["hover"],
        xlabel="prototype",
        ylabel="share of pixels",
        xrotation=0 if len(table) < 40 else 90,
        multi_level=False,
        line_color=None,
        **style,
    )


def agreement(found: Agreement, width: int = 420) -> hv.HeatMap:
    """How labels (rows) were mapped (columns): share of each row, with the pixels on hover."""
    table = confusion_table(found)
    width = on_screen(width)
    return hv.HeatMap(table, ["map", "labels"], ["share", "pixels"]).opts(
        backend="bokeh",
        cmap=[hex_of(c) for c in ramp("continuous")],
        clim=(0, 1),
        colorbar=True,
        tools=["hover"],
        frame_width=width,
        frame_height=max(120, width * len(found.confusion) // max(1, found.confusion.shape[1])),
        xrotation=45,
        invert_yaxis=True,
        **heading(width, str(found)),
    )


def confusion_table(found: Agreement) -> pd.DataFrame:
    """The confusion table row by row: labels, map, pixels, share of the row.

    Raises:
        AnalysisError: If it is no agreement.
    """
    if not isinstance(found, Agreement):
        raise AnalysisError(f"{shown(found)} is no agreement; agreement(map, labels) makes one.")
    rows = []
    for name, row in zip(found.confusion.index, found.confusion.to_numpy(), strict=True):
        total = max(int(row.sum()), 1)
        for column, pixels in zip(found.confusion.columns, row, strict=True):
            rows.append(
                {"labels": name, "map": column, "pixels": int(pixels), "share": pixels / total}
            )
    return pd.DataFrame(rows)
