"""Pixels as points: what is near in feature space, coloured like the map.

Up to 20,000 points are glyphs; more are binned into a picture (`skysense.view.cloud`).
"""

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import pandas as pd
import xarray as xr

from skysense.view.cloud import binned, points_of
from skysense.view.hues import UNSELECTED, hex_of, rgb_of
from skysense.view.pictures import heading, on_screen
from skysense.view.words import caption, title

MOST_GLYPHS = 20_000

_TOOLS = ["box_select", "lasso_select"]


def scatter(
    coordinates: xr.DataArray,
    colour: xr.DataArray | None = None,
    selected: np.ndarray | xr.DataArray | None = None,
    width: int = 420,
) -> hv.Overlay:
    """The pixels of a place as points.

    Args:
        coordinates: (component, y, x) from `pca` or `umap`; the first two are drawn.
        colour: A field on the same grid whose colours the points take.
        selected: (y, x) bool or a mask field; the rest turns grey.
        width: Of the plot (pixels on the screen).

    Raises:
        AnalysisError: If there are no two components, or the grids differ.
    """
    points, pixels, chosen = points_of(coordinates, colour, selected)
    width = on_screen(width)
    first, second = _dimensions(coordinates)
    if len(points) > MOST_GLYPHS:
        picture, bounds = binned(points, pixels, chosen)
        channels = [*hv.RGB.vdims, hv.RGB.alpha_dimension]
        layer = hv.RGB(picture, [first, second], channels, bounds=bounds)
        layers = [layer.opts(backend="bokeh", tools=_TOOLS)]
    else:
        layers = []
        pixels[~chosen, :3] = rgb_of(UNSELECTED)
        for part, alpha in ((~chosen, 0.4), (chosen, 0.85)):  # the selected on top
            if not part.any():
                continue  # HoloViews cannot colour nothing
            x, y = points[part].T
            hexes = [hex_of(row) for row in pixels[part]]
            table = pd.DataFrame({"first": x, "second": y, "colour": hexes})
            layer = hv.Points(table, [first, second], "colour")
            layers.append(
                layer.opts(backend="bokeh", color="colour", size=3, alpha=alpha, tools=_TOOLS)
            )
    return hv.Overlay(layers).opts(
        backend="bokeh",
        **heading(width, title(coordinates), caption(coordinates)),
        frame_width=width,
        frame_height=width,
        active_tools=["wheel_zoom"],
    )


def _dimensions(coordinates: xr.DataArray) -> tuple[hv.Dimension, hv.Dimension]:
    name = str(coordinates.attrs.get("projection", "component")).upper()
    shares = coordinates.attrs.get("explained")
    labels = [
        f"{name} {i + 1}" + (f" ({shares[i]:.0%} of the variance)" if shares else "")
        for i in range(2)
    ]
    return hv.Dimension("first", label=labels[0]), hv.Dimension("second", label=labels[1])
