"""Static figures: the same pictures as PNG, for committed notebooks, papers and the README.

matplotlib is imported here and nowhere else in the package.
"""

import textwrap
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from skysense.analysis import Agreement, Comparison, Distribution
from skysense.checks import number, whole
from skysense.checks import shown as brief
from skysense.dates import Acquisition
from skysense.disk import path_of, written
from skysense.errors import AnalysisError
from skysense.sensors import SENSORS
from skysense.view.charts import rail, usage_table
from skysense.view.cloud import BINS, binned, points_of
from skysense.view.distances import distance_table
from skysense.view.effects import sensitivity_table
from skysense.view.hues import PALETTE, SELECTED, SENSOR, UNSELECTED, USED, ramp
from skysense.view.imagery import true_colour_field
from skysense.view.paint import check_field, colours, legend, stretch
from skysense.view.words import caption, credit, title, warnings

DPI = 110
NAMED = 12
"""Most categories named below a map; with more, their number is given."""

ROOM = 0.8
"""Height of title and key of each picture (inches)."""

LINE = 0.12
"""Height of a line of small print (inches)."""

INK = "#333333"

FIGURES: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
"""What figures can be written to, and what of their metadata is left out."""


def figure(
    *things: Any, titles: Sequence[str] | None = None, columns: int = 3, size: float = 3.4
) -> Figure:
    """Fields and charts side by side, with legends, warnings and credits.

    Args:
        things: Fields, sensors of a stack, two-component projections (drawn as points; as a pair
            with a field, in its colours), shares, comparisons, agreements, mean sensitivities,
            distributions, or a list of acquisitions, in any mixture.
        titles: One per picture; otherwise each says what it is.
        columns: Most pictures in one row.
        size: Width of each picture (inches).

    Returns:
        A matplotlib Figure: the last line of a notebook cell shows it, `.savefig(path)` keeps it.

    Raises:
        AnalysisError: If there is nothing to draw, or one thing has no picture.
    """
    if not things:
        raise AnalysisError("figure() was given nothing to draw.")
    if titles is not None and not isinstance(titles, list | tuple):
        raise AnalysisError(f"titles={brief(titles)} is no list of texts; give one per picture.")
    if titles is not None and len(titles) != len(things):
        raise AnalysisError(f"There are {len(titles)} titles for {len(things)} pictures.")
    columns = whole("columns", columns, 1, None, AnalysisError)
    size = number("size", size, 0.5, 50, AnalysisError)
    shown = [_ready(thing) for thing in things]
    across = min(columns, len(shown))
    down = -(-len(shown) // across)
    words = _small_print([t for t in shown if isinstance(t, xr.DataArray)], size * across)
    height = down * (size + ROOM) + LINE * words.count("\n")
    with mpl.rc_context(_STYLE):
        result = Figure(figsize=(size * across, height), dpi=DPI, layout="constrained")
        panes = result.subplots(down, across, squeeze=False)
        for pane in panes.ravel()[len(shown) :]:
            pane.set_axis_off()
        for i, (thing, pane) in enumerate(zip(shown, panes.ravel(), strict=False)):
            draw(thing, pane)
            if titles is not None:
                pane.set_title(titles[i])
        if words:
            result.supxlabel(words, fontsize=6, color=INK)
    return result


def save_figure(
    things: Any,
    path: str | Path,
    overwrite: bool = False,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 3,
    size: float = 3.4,
) -> Path:
    """Write what `figure` draws: pictures with legends, warnings and credits.

    Args:
        things: One thing that `figure` draws, or a list of them.
        path: A file ending in `.png`, `.svg` or `.pdf`. The same things give the same bytes.
        overwrite: Replace what is there.
        titles: As for `figure`.
        columns: As for `figure`.
        size: As for `figure`.

    Returns:
        The path.

    Raises:
        AnalysisError: As `figure`; or if the ending is another, or the path is taken or cannot be
            written.
    """
    path = path_of(path, AnalysisError)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FIGURES:
        raise AnalysisError(f"{path.name!r} does not end in {', '.join(f'.{k}' for k in FIGURES)}.")
    if path.exists() and not overwrite:
        raise AnalysisError(
            f"{path} is already there. Choose another name, or pass overwrite=True."
        )
    several = things if isinstance(things, list) else [things]
    drawn = figure(*several, titles=titles, columns=columns, size=size)
    # text stays text in SVG, and neither a date nor random identifiers change the bytes
    with (
        mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "skysense"}),
        written(path, AnalysisError) as partial,
    ):
        drawn.savefig(partial, format=kind, dpi=2 * DPI, metadata=FIGURES[kind])
    return path


_STYLE = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def _ready(thing: Any) -> Any:
    return true_colour_field(thing) if isinstance(thing, xr.DataTree | xr.Dataset) else thing


def _small_print(fields: Sequence[xr.DataArray], width: float) -> str:
    """Captions and credits, broken to a width in inches."""
    lines = list(dict.fromkeys(caption(f) for f in fields if f.attrs.get("encoder")))
    lines += [credit(f) for f in fields if not f.attrs.get("encoder")]
    terms = [f.attrs.get("weights_licence") for f in fields if f.attrs.get("encoder")]
    lines += [f"Weights: {text}" for text in terms if text]
    letters = max(30, int(width * 22))
    return "\n".join(
        part for line in dict.fromkeys(lines) if line for part in textwrap.wrap(line, letters)
    )


@singledispatch
def draw(thing: Any, pane: Axes) -> None:
    """Draw one thing into matplotlib axes."""
    raise AnalysisError(
        f"There is no picture for a {type(thing).__name__}; figure() draws fields, sensors of a "
        "stack, projections, shares, comparisons, agreements, mean sensitivities, distributions and "
        "lists of acquisitions."
    )


@draw.register
def _array(thing: xr.DataArray, pane: Axes) -> None:
    if "prototype" in thing.dims and "y" not in thing.dims:
        _usage(thing, pane)
    elif thing.dims[0] == "dropped" and "y" not in thing.dims:
        _sensitivity(thing, pane)
    elif thing.dims[0] == "component" and thing.sizes["component"] == 2:
        _scatter(thing, pane)
    else:
        _map(thing, pane)


@draw.register
def _comparison(thing: Comparison, pane: Axes) -> None:
    rows = distance_table(thing)
    height = np.arange(len(rows))[::-1]
    for y, row in zip(height, rows.to_dict("records"), strict=True):
        if np.isfinite(row["low"]):
            pane.plot([row["low"], row["high"]], [y, y], color=row["colour"], lw=3)
        pane.plot(row["distance"], y, "o", color=row["colour"], ms=6)
    pane.set_yticks(height, list(rows["what"]))
    pane.set_xlim(left=0)
    pane.set_xlabel("transport distance")
    pane.set_title("distance and control")


@draw.register
def _agreement(thing: Agreement, pane: Axes) -> None:
    counts = thing.confusion.to_numpy()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    pane.imshow(share, cmap=ListedColormap(ramp("continuous") / 255), vmin=0, vmax=1)
    if counts.size <= 150:
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.005:
                ink = "white" if value < 0.55 else "black"
                pane.text(
                    column, row, f"{value:.0%}", ha="center", va="center", fontsize=6, color=ink
                )
    pane.set_xticks(range(counts.shape[1]), thing.confusion.columns, rotation=60, ha="right")
    pane.set_yticks(range(counts.shape[0]), thing.confusion.index)
    pane.set_xlabel("map")
    pane.set_ylabel("labels")
    pane.set_title(str(thing).replace(", adjusted", ",\nadjusted"), fontsize=7)


@draw.register
def _distribution(thing: Distribution, pane: Axes) -> None:
    for name, colour in (("control", UNSELECTED), ("field", USED)):
        if name in thing.shares:
            pane.stairs(thing.shares[name], thing.edges, fill=True, alpha=0.6, color=colour,
                        label=name)  # fmt: skip
    if np.isfinite(thing.threshold):
        pane.axvline(thing.threshold, color=SELECTED, lw=2, label="threshold")
    pane.legend(fontsize=6, frameon=False)
    pane.set_xlabel(f"{thing.name} ({thing.units})" if thing.units else thing.name, fontsize=7)
    pane.set_ylabel("share of cells")
    pane.set_title(str(thing).replace(", of", ",\nof"), fontsize=7)


@draw.register
def _dates(thing: list, pane: Axes) -> None:
    if not all(isinstance(each, Acquisition) for each in thing):
        raise AnalysisError("A list that figure() draws is one of acquisitions(stack).")
    table, unknown = rail(thing)
    for row in table.to_dict("records"):
        # a bar of one day would be thinner than a pixel over a year
        pane.vlines(row["left"], row["low"], row["high"], color=row["colour"], lw=2)
    keys = [k for k in SENSORS if any(a.sensor == k for a in thing)][::-1]
    pane.set_yticks([i + 0.45 for i in range(len(keys))], [SENSORS[k].title for k in keys])
    pane.tick_params(axis="x", rotation=45)
    used = sum(a.used for a in thing)
    words = f"{used} of {len(thing)} dates used (blue)"
    pane.set_title(words + (f", {unknown} unknown" if unknown else ""))


@draw.register
def _coloured(thing: tuple, pane: Axes) -> None:
    if len(thing) != 2 or not all(isinstance(each, xr.DataArray) for each in thing):
        raise AnalysisError("A pair that figure() draws is (coordinates, field that colours them).")
    _scatter(thing[0], pane, thing[1])


def _map(field: xr.DataArray, pane: Axes) -> None:
    check_field(field)
    pane.imshow(colours(field), interpolation="nearest")
    pane.set_xticks([])
    pane.set_yticks([])
    pane.set_title(title(field))
    flags = warnings(field)
    if flags:
        pane.text(
            0.02, 0.02, " · ".join(flags), transform=pane.transAxes, fontsize=6, va="bottom",
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip
    kind = field.attrs["kind"]
    if kind == "categorical" or "class" in field.dims or "opacity" in field.coords:
        _key(field, pane)
    elif kind in ("continuous", "diverging"):
        low, high = stretch(field)
        scale = ScalarMappable(Normalize(low, high), ListedColormap(ramp(kind) / 255))
        assert pane.figure is not None
        bar = pane.figure.colorbar(
            scale, ax=pane, orientation="horizontal", fraction=0.05, pad=0.02
        )
        bar.set_label(str(field.attrs.get("units", "")), fontsize=7)
        bar.ax.tick_params(labelsize=6)


def _key(field: xr.DataArray, pane: Axes) -> None:
    entries = legend(field)
    if len(entries) > NAMED:
        pane.set_xlabel(f"{len(entries)} categories", fontsize=7)
        return
    patches = [Patch(color=colour, label=text) for text, colour in entries]
    pane.legend(
        handles=patches, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=3, fontsize=6,
        frameon=False, handlelength=1, columnspacing=1,
    )  # fmt: skip


def _scatter(coordinates: xr.DataArray, pane: Axes, colour: xr.DataArray | None = None) -> None:
    points, pixels, chosen = points_of(coordinates, colour)
    picture, (left, bottom, right, top) = binned(points, pixels, chosen)
    assert picture.shape[0] == BINS
    pane.imshow(picture, extent=(left, right, bottom, top), aspect="auto", interpolation="nearest")
    shares = coordinates.attrs.get("explained")
    name = str(coordinates.attrs.get("projection", "component")).upper()
    for i, label in enumerate((pane.set_xlabel, pane.set_ylabel)):
        label(f"{name} {i + 1}" + (f" ({shares[i]:.0%})" if shares else ""))
    pane.set_title(title(coordinates))


def _usage(shares: xr.DataArray, pane: Axes) -> None:
    table = usage_table(shares)
    names = list(dict.fromkeys(table["region"]))
    wide = 0.85 / len(names)
    for i, name in enumerate(names):
        rows = table[table["region"] == name]
        places = 1 + np.arange(len(rows)) + (i - (len(names) - 1) / 2) * wide
        tint = list(rows["colour"]) if len(names) == 1 else PALETTE[i]
        pane.bar(places, rows["share"], wide, color=tint, label=name)
    if len(names) > 1:
        pane.legend(fontsize=6, frameon=False)
    pane.set_xlabel("prototype")
    pane.set_ylabel("share of pixels")
    pane.set_title("usage")


def _sensitivity(means: xr.DataArray, pane: Axes) -> None:
    table = sensitivity_table(means)
    names = [str(name) for name in means["dropped"].values]
    if "class" in means.dims:
        labels = [str(name) for name in means["class"].values]
        shown = pane.imshow(
            means.values.T, cmap=ListedColormap(ramp("continuous") / 255), aspect="auto"
        )
        assert pane.figure is not None
        pane.figure.colorbar(shown, ax=pane).set_label("cosine distance", fontsize=7)
        pane.set_yticks(range(len(labels)), labels)
    else:
        pane.bar(range(len(names)), table["distance"], color=list(table["colour"]))
        used = [key for key in SENSORS if key in set(table["sensor"])]
        pane.legend(
            handles=[Patch(color=SENSOR[key], label=SENSORS[key].title) for key in used],
            fontsize=6, frameon=False,
        )  # fmt: skip
        pane.set_ylabel("mean cosine distance")
    pane.set_xticks(range(len(names)), names, rotation=90, fontsize=5)
    pane.set_title(str(means.attrs.get("long_name", "mean sensitivity")))
