"""Which dates mattered, and how often each value of a field occurs, as charts."""

from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import pandas as pd
import xarray as xr

from skysense.analysis import Distribution
from skysense.analysis.influence import check_sensitivity
from skysense.checks import shown
from skysense.errors import AnalysisError
from skysense.sensors import SENSORS
from skysense.view.hues import SELECTED, SENSOR, UNSELECTED, USED, hex_of, ramp
from skysense.view.pictures import heading, on_screen

NAMES = {"hr": "pink", "s2": "green", "s1": "orange"}
"""What the colours of the sensors are called."""


def sensitivity(means: xr.DataArray, width: int = 700) -> hv.Bars | hv.HeatMap:
    """How much each date or sensor mattered: bars in the colour of the sensor, or by class.

    Args:
        means: From `mean_sensitivity`; (dropped, class) is drawn as a table of colours.
        width: Of the chart (pixels on the screen).
    """
    table = sensitivity_table(means)
    width = on_screen(width)
    words = f"{means.attrs.get('long_name', 'mean sensitivity')}: what changes without it"
    if "class" in means.dims:
        return hv.HeatMap(table, ["dropped", "class"], ["distance", "cells"]).opts(
            backend="bokeh",
            cmap=[hex_of(c) for c in ramp("continuous")],
            colorbar=True,
            clabel="cosine distance",
            tools=["hover"],
            frame_width=width,
            frame_height=60 + 24 * means.sizes["class"],
            xrotation=60,
            xlabel="left out",
            ylabel="",
            invert_yaxis=True,
            **heading(width, words),
        )
    keys = ", ".join(
        f"{SENSORS[key].title} {NAMES[key]}" for key in SENSORS if key in set(table["sensor"])
    )
    return hv.Bars(table, ["dropped"], ["distance", "sensor", "alone", "colour"]).opts(
        backend="bokeh",
        color="colour",
        line_color=None,
        tools=["hover"],
        width=width,
        height=320,
        xrotation=60,
        xlabel="left out",
        ylabel="mean cosine distance",
        **heading(width, words, keys),
    )


def sensitivity_table(means: xr.DataArray) -> pd.DataFrame:
    """Means as a table: dropped, sensor, distance, alone, colour; class and cells if by class.

    Raises:
        AnalysisError: If these are no means of a sensitivity.
    """
    check_sensitivity(means)
    if means.dims not in (("dropped",), ("dropped", "class")):
        raise AnalysisError(
            f"A chart shows means over places or classes, not the axes {means.dims}; "
            "mean_sensitivity(found) gives them."
        )
    rows = []
    for i, name in enumerate(means["dropped"].values):
        sensor = str(means["sensor"].values[i])
        row = {
            "dropped": str(name),
            "sensor": sensor,
            "alone": float(means["alone"][i]),
            "colour": SENSOR[sensor],
        }
        if means.ndim == 1:
            rows.append(row | {"distance": float(means[i])})
            continue
        rows += [
            row | {"class": str(label), "cells": int(cells), "distance": float(value)}
            for label, cells, value in zip(
                means["class"].values, means["cells"].values, means.values[i], strict=True
            )
        ]
    return pd.DataFrame(rows)


def distribution(found: Distribution, width: int = 420) -> hv.Overlay:
    """How often each value occurs, the control in grey behind it, the threshold as a line."""
    if not isinstance(found, Distribution):
        raise AnalysisError(
            f"{shown(found)} is no distribution; distribution(field) in skysense makes one."
        )
    width = on_screen(width)
    steps = {
        name: hv.Histogram((found.edges, shares), kdims=["value"], vdims=["share"]).opts(
            backend="bokeh",
            color=UNSELECTED if name == "control" else USED,
            fill_alpha=0.6,
            line_color=None,
            tools=["hover"],
        )
        for name, shares in found.shares.items()
    }
    parts: list[Any] = [steps[name] for name in ("control", "field") if name in steps]
    if np.isfinite(found.threshold):
        line = hv.VLine(found.threshold)
        parts.append(line.opts(backend="bokeh", color=SELECTED, line_width=3))
    words = "blue: the field; grey: the control" if "control" in steps else ""
    return hv.Overlay(parts).opts(
        backend="bokeh",
        width=width,
        height=260,
        xlabel=f"{found.name} ({found.units})" if found.units else found.name,
        ylabel="share of cells",
        **heading(width, str(found), words),
    )
