"""Draw the figure of a real place that the documents show: `docs/figures/flanders.png`.

It needs `../shared`, the folder of real imagery beside the checkout; without it nothing is drawn.
The imagery itself is not stored here, only this picture of it with its credits.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

import skysense as sky
from skysense.sources.files_labels import read_labels
from skysense.view.paint import colours, legend

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data" / "be-flanders-parcels"
RECIPE = ROOT / "tests" / "recipes" / "be-flanders-parcels.toml"
TARGET = ROOT / "docs" / "figures" / "flanders.png"

SEASON = sky.Dates(first="2018-03-01", last="2018-10-31")
CLICKS = 10
"""Labelled cells of each class."""

INK, PALE = "#222222", "#666666"
DPI = 125
COLOURS = 200
LARGEST = 400_000


def declared() -> xr.DataArray:
    """What the parcels of 2018 say, as three classes; NaN on the few fields of other crops."""
    crop, cover = (read_labels(RECIPE, name) for name in ("crop_type", "land_cover"))
    crop_names, cover_names = (np.array(each.attrs["categories"]) for each in (crop, cover))
    codes = np.full(crop.shape, np.nan, np.float32)
    for i, names in enumerate((["built-up", "no temporary crops"], ["maize"], ["permanent grass"])):
        known, table = (cover, cover_names) if i == 0 else (crop, crop_names)
        codes[np.isin(known.values, np.flatnonzero(np.isin(table, names)))] = i
    field = crop.copy(data=codes)
    field.attrs |= {"categories": ["village, roads, hedges", "maize", "grass"]}
    return field


def draw(pane: Axes, field: xr.DataArray, title: str, note: str) -> None:
    """One map with its title, a line below it, and its legend where it has classes."""
    pane.imshow(colours(field), interpolation="nearest")
    pane.set_axis_off()
    pane.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK, pad=19)
    pane.text(0, 1.025, note, transform=pane.transAxes, fontsize=7.5, color=PALE)
    if field.attrs["kind"] == "categorical":
        entries = [Patch(color=colour, label=text) for text, colour in legend(field)]
        numbered = field.attrs.get("family") == "prototype"
        for number, entry in enumerate(entries, 1):
            entry.set_label(str(number) if numbered else entry.get_label())
        pane.legend(
            handles=entries,
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.01),
            ncols=len(entries) if numbered else 3,
            fontsize=7.5,
            frameon=False,
            handlelength=0.9,
            handletextpad=0.4,
            columnspacing=0.9,
        )


def figure() -> Figure:
    """Colours, features, prototypes and classes of West Flanders side by side."""
    stack = sky.load_stack(RECIPE)
    features = sky.embed(stack, sky.load_encoder("skysense-tiny"), dates=SEASON)
    seen = sky.choose_dates(stack, SEASON)
    photo = sky.view.true_colour_field(seen["s2"])
    kinds = sky.assign(features, sky.fit_prototypes(features, n=8, seed=0))
    truth = declared()
    clicks = sky.training_points(truth, features, per_class=CLICKS, seed=0)
    found = sky.classes(sky.segment(features, clicks))
    score = sky.agreement(found, truth)
    dates = [len(features.attrs[f"dates_{key}"]) for key in ("s2", "s1")]
    panels = (
        (photo, "One clear day", f"Sentinel-2, {photo.attrs['date']}"),
        (sky.pca(features), "A season as colours", "the three main directions of its features"),
        (kinds, "Prototypes", "eight typical seasons, found without labels"),
        (found, "Ten clicks per class", f"{score.accuracy:.0%} agree with the labels of 2018"),
    )
    with mpl.rc_context({"font.family": "DejaVu Sans"}):
        result = Figure(figsize=(1440 / DPI, 470 / DPI), dpi=DPI, facecolor="white")
        panes = result.subplots(1, 4)
        result.subplots_adjust(left=0.012, right=0.988, top=0.875, bottom=0.155, wspace=0.06)
        for pane, (field, title, note) in zip(panes, panels, strict=True):
            draw(pane, field, title, note)
        side = features.sizes["x"] * int(features.attrs["resolution"])
        result.text(
            0.012,
            0.02,
            f"West Flanders, Belgium: {side} m, 10 m cells; March to October 2018, "
            f"{dates[0]} Sentinel-2 and {dates[1]} Sentinel-1 dates; features: skysense-tiny.\n"
            f"{truth.attrs['licence']}.",
            fontsize=6.5,
            linespacing=1.4,
            color=PALE,
        )
    return result


def main() -> int:
    """Draw it, or say why not."""
    if not DATA.is_dir():
        print("No figure: the folder `shared` with real imagery is not beside this checkout.")
        return 0
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    figure().savefig(TARGET)
    # few colours are used, so a palette keeps all that is to be seen in a third of the size
    with Image.open(TARGET) as picture:
        smaller = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    smaller.save(TARGET, optimize=True)
    size = TARGET.stat().st_size
    print(f"{TARGET.name}: {smaller.width} × {smaller.height}, {size / 1000:.0f} kB")
    return int(size > LARGEST)


if __name__ == "__main__":
    sys.exit(main())
