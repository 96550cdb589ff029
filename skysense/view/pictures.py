"""Fields as HoloViews elements, for notebooks and for whoever embeds them.

`hv.extension("bokeh")` (or Panel) must be loaded by the notebook itself; nothing here does, so that
importing costs little and changes nothing.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import shapely
import xarray as xr
from bokeh.models import FixedTicker

from skysense.analysis.pixels import geobox_of
from skysense.checks import whole
from skysense.errors import AnalysisError
from skysense.view.hues import SELECTED, UNSELECTED, hex_of, of_categories, ramp
from skysense.view.imagery import true_colour_field
from skysense.view.paint import check_field, colours, many_coloured, stretch
from skysense.view.words import caption, title

MOST_PIXELS = 1024
"""Longest side of an interactive picture; larger fields show every so many cells, and say so."""

NAMED_TICKS = 24
"""Most categories named beside a map; with more, the colour bar counts."""


def field(array: xr.DataArray, width: int = 420) -> hv.Element:
    """A field as a map with its legend, hover read-out and caption.

    Args:
        array: Any field; see `skysense.view.paint`.
        width: Of the picture (pixels on the screen).

    Returns:
        `hv.Image` with a colour bar, or `hv.RGB` for colour pictures.

    Raises:
        AnalysisError: If it cannot be drawn as one picture.
    """
    return _picture(array, width, "")


def rgb(array: xr.DataArray, width: int = 420) -> hv.RGB:
    """A colour picture of any field, without read-out: what `colours` gives, as a map."""
    return _coloured(array, width, "")


def _picture(array: xr.DataArray, width: int, place: str) -> hv.Element:
    check_field(array)
    width = on_screen(width)
    if many_coloured(array):
        return _coloured(array, width, place)
    shown, note = _bounded(array)
    kind = array.attrs["kind"]
    units = str(array.attrs.get("units", ""))
    image = hv.Image(
        (_axis(shown, "x"), _axis(shown, "y"), np.asarray(shown.values, float)),
        _axes(place),
        hv.Dimension("value", label=title(array), unit=units or None),
    )
    options: dict[str, Any] = {"clipping_colors": {"NaN": (0, 0, 0, 0)}, "tools": ["hover"]}
    if kind == "categorical":
        names = [str(name) for name in array.attrs["categories"]]
        options |= {
            "cmap": of_categories(array.attrs, len(names)),
            "clim": (-0.5, len(names) - 0.5),
            "colorbar": True,
            "clabel": "",
        }
        if len(names) <= NAMED_TICKS:
            options["colorbar_opts"] = {
                "ticker": FixedTicker(ticks=list(range(len(names)))),
                "major_label_overrides": dict(enumerate(names)),
            }
    elif kind == "mask":
        options |= {"cmap": [UNSELECTED, SELECTED], "clim": (0, 1)}
    else:
        options |= {
            "cmap": [hex_of(colour) for colour in ramp(kind)],
            "clim": stretch(array),
            "colorbar": True,
            "clabel": units,
        }
    return _dressed(image, array, width, note, options)


def _coloured(array: xr.DataArray, width: int, place: str) -> hv.RGB:
    check_field(array)
    width = on_screen(width)
    shown, note = _bounded(array)
    pixels = colours(shown)
    picture = hv.RGB(
        (_axis(shown, "x"), _axis(shown, "y"), *np.moveaxis(pixels, -1, 0)),
        _axes(place),
        [*hv.RGB.vdims, hv.RGB.alpha_dimension],
    )
    return _dressed(picture, array, width, note, {})


def true_colour(group: Any, date: int | str | None = None, width: int = 420) -> hv.RGB:
    """One date of a sensor as a map; see `true_colour_field`."""
    return rgb(true_colour_field(group, date), width)


def maps(*fields: Any, columns: int = 3, width: int = 320) -> hv.Layout:
    """Maps side by side, those of one place panning and zooming together.

    Args:
        fields: Fields, or sensors of a stack, which are shown in their colours.
        columns: Most maps in one row.
        width: Of each map (pixels on the screen).

    Raises:
        AnalysisError: If there is none, or one of them cannot be drawn.
    """
    if not fields:
        raise AnalysisError("maps() was given no field to draw.")
    columns = whole("columns", columns, 1, None, AnalysisError)
    ready = [as_field(each) for each in fields]
    shown = [
        _picture(each, width, place) for each, place in zip(ready, _places(ready), strict=True)
    ]
    return hv.Layout(shown).cols(columns).opts(backend="bokeh", shared_axes=True)


def _places(fields: Sequence[xr.DataArray]) -> list[str]:
    """A suffix for the axes of each field: HoloViews links axes of one label."""
    boxes: list[tuple[Any, Any]] = []
    suffixes = []
    for each in fields:
        geobox = geobox_of(each)
        box = geobox.boundingbox
        shape = shapely.box(box.left, box.bottom, box.right, box.top)
        crs = str(geobox.crs)
        same = [i for i, (c, b) in enumerate(boxes) if c == crs and b.intersects(shape)]
        number = same[0] if same else len(boxes)
        if not same:
            boxes.append((crs, shape))
        suffixes.append("" if number == 0 else str(number + 1))
    return suffixes


def as_field(thing: Any) -> xr.DataArray:
    """A field as it is; a sensor's part of a stack as its colour picture."""
    if isinstance(thing, xr.DataTree | xr.Dataset):
        return true_colour_field(thing)
    check_field(thing)
    return thing


def _dressed(
    element: hv.Element, array: xr.DataArray, width: int, note: str, options: dict[str, Any]
) -> Any:
    rows, columns = array.shape[-2:]
    height = int(np.clip(width * rows / columns, width / 3, width * 2)) + 60
    return element.opts(
        backend="bokeh",
        **heading(width, title(array), caption(array), note),
        frame_width=width,
        frame_height=height - 60,
        data_aspect=1,
        xaxis=None,
        yaxis=None,
        active_tools=["pan", "wheel_zoom"],
        **options,
    )


def on_screen(width: int) -> int:
    """A width in pixels on the screen.

    Raises:
        AnalysisError: If it is no whole number that a screen has.
    """
    return whole("width", width, 20, 20_000, AnalysisError)


def heading(width: int, *texts: str) -> dict[str, Any]:
    """Options for a title of several lines, broken so that nothing of it is cut off."""
    wide = max(20, width // 5)
    lines = [line for text in texts if text for line in textwrap.wrap(text, wide)]
    return {
        "title": "\n".join(lines),
        "fontsize": {"title": "8pt"},
        "backend_opts": {"title.text_font_style": "normal"},
    }


def _axes(place: str) -> list[hv.Dimension]:
    return [
        hv.Dimension(f"x{place}", label=f"Easting {place}".strip(), unit="m"),
        hv.Dimension(f"y{place}", label=f"Northing {place}".strip(), unit="m"),
    ]


def _bounded(array: xr.DataArray) -> tuple[xr.DataArray, str]:
    step = -(-max(array.shape[-2:]) // MOST_PIXELS)
    if step <= 1:
        return array, ""
    part = array.isel(y=slice(None, None, step), x=slice(None, None, step))
    return part, f"every {step}th cell is shown"


def _axis(array: xr.DataArray, name: str) -> np.ndarray:
    # HoloViews compares bounds exactly, which float32 coordinates do not survive
    return np.asarray(array[name].values, np.float64)
