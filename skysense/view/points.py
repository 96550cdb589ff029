"""Pixels as points: what is near in feature space, coloured like the map.

Up to 20,000 points are glyphs; more are binned into a picture on the server, each bin the mean
colour of its points and the more opaque the more there are. (That is what datashader does with
categories; a few sums over bins take milliseconds and compile nothing on the first click.)
"""

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import pandas as pd
import xarray as xr

from skysense.checks import shown
from skysense.errors import AnalysisError
from skysense.view.hues import PALETTE, UNSELECTED, hex_of, rgb_of
from skysense.view.paint import check_field, colours
from skysense.view.pictures import heading, on_screen
from skysense.view.selection import axes_of
from skysense.view.words import caption, title

MOST_GLYPHS = 20_000

BINS = 400
"""Side of the picture that more points are binned into."""

_TOOLS = ["box_select", "lasso_select"]

FAINTEST = 0.35
"""Opacity of a bin with a single point: never gone."""


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


def points_of(
    coordinates: xr.DataArray,
    colour: xr.DataArray | None = None,
    selected: np.ndarray | xr.DataArray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a scatter plot draws.

    Returns:
        (n, 2) places, (n, 4) uint8 colours, (n,) bool selected; seen pixels only.

    Raises:
        AnalysisError: If there are no two components, or the grids differ.
    """
    x, y = axes_of(coordinates)
    shape = x.shape
    if colour is not None:
        check_field(colour)
    if colour is not None and colour.shape[-2:] != shape:
        raise AnalysisError(
            f"The colours are for {colour.shape[-2:]} cells and the points for {shape}."
        )
    pixels = np.empty((*shape, 4), np.uint8)
    pixels[:] = (*rgb_of(PALETTE[0]), 255)
    if colour is not None:
        drawn = colours(colour)
        nothing = drawn[..., 3] == 0
        drawn[nothing] = (*rgb_of(UNSELECTED), 255)
        pixels = drawn
    chosen = np.ones(shape, bool)
    if selected is not None:
        given = not isinstance(selected, xr.Dataset | xr.DataTree)
        values = np.asarray(selected) if given else np.empty(0)
        if values.shape != shape or values.dtype.kind not in "bfiu":
            found = f"has shape {values.shape} of {values.dtype}" if given else shown(selected)
            raise AnalysisError(
                f"The selection {found}, the points {shape}; give a bool array or a mask of theirs."
            )
        chosen = values if values.dtype == bool else np.nan_to_num(values) > 0
    seen = np.isfinite(x) & np.isfinite(y)
    return np.column_stack([x[seen], y[seen]]), pixels[seen], chosen[seen]


def binned(
    points: np.ndarray, pixels: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Points as a picture, grey ones below.

    Returns:
        (BINS, BINS, 4) uint8, first row at the top, and (left, bottom, right, top).
    """
    low, high = points.min(0), points.max(0)
    margin = np.maximum(0.02 * (high - low), 1e-6)
    low, high = low - margin, high + margin
    column, row = np.minimum((points - low) / (high - low) * BINS, BINS - 1).astype(int).T
    place = (BINS - 1 - row) * BINS + column
    out = np.zeros((BINS * BINS, 4), np.uint8)
    if not chosen.all():
        grey = np.tile(np.array([*rgb_of(UNSELECTED), 255], np.uint8), ((~chosen).sum(), 1))
        _pour(out, place[~chosen], grey)
        out[:, 3] = out[:, 3] // 2
    _pour(out, place[chosen], pixels[chosen])
    bounds = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return out.reshape(BINS, BINS, 4), bounds


def _pour(out: np.ndarray, place: np.ndarray, pixels: np.ndarray) -> None:
    """Mean colour of the points of each bin, opacity by the logarithm of their number."""
    if not len(place):
        return
    count = np.bincount(place, minlength=len(out))
    full = count > 0
    for channel in range(3):
        total = np.bincount(place, pixels[:, channel], minlength=len(out))
        out[full, channel] = np.rint(total[full] / count[full])
    depth = np.log1p(count[full]) / np.log1p(count.max())
    out[full, 3] = np.rint(255 * (FAINTEST + (1 - FAINTEST) * depth))


def _dimensions(coordinates: xr.DataArray) -> tuple[hv.Dimension, hv.Dimension]:
    name = str(coordinates.attrs.get("projection", "component")).upper()
    shares = coordinates.attrs.get("explained")
    labels = [
        f"{name} {i + 1}" + (f" ({shares[i]:.0%} of the variance)" if shares else "")
        for i in range(2)
    ]
    return hv.Dimension("first", label=labels[0]), hv.Dimension("second", label=labels[1])
