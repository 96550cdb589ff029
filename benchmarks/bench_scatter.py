"""How fast a lasso over 250,000 points is answered, as a ratio to linked selections of HoloViews.

`python -m benchmarks.bench_scatter [--side 500] [--runs 9] [--history FILE]`

Only ratios inside one run mean something: all forms take turns, and the load of the machine is
printed. Every form goes from the corners of a lasso to what would be sent to a browser, in which
selected points keep their colours and the others are grey; sending and drawing there are left out,
which favours the form that sends most.

- HoloViews, glyphs: `link_selections` over `Points`, rendered by Bokeh.
- HoloViews, rasterised: `link_selections` over `rasterize(Points)`, where datashader is installed; it
  has one ramp of colours, not those of a map.
- skysense: `view.points_in` and `view.cloud.binned`, as in the dashboard.

The error of a form is the share of points that it selects otherwise than a test of the ring in
float64, point by point (Matplotlib).
"""

import argparse
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.path import Path as Ring

from benchmarks.timing import WARM_UPS, compare
from skysense import view
from skysense.view.cloud import binned, points_of
from skysense.view.hues import hex_of

GROUPS = 9
RING = np.array([(-1.0, -2.0), (5.0, -3.0), (6.0, 4.0), (1.0, 6.0), (2.0, 1.0), (-3.0, 3.0)])
SIZE = (380, 400)
"""Of the plot in the dashboard on a small laptop (pixels)."""


def cloud(side: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Coordinates (component, y, x) of side × side cells in nine heaps, and which heap each is of."""
    rng = np.random.default_rng(0)
    middles = 3 * rng.normal(size=(GROUPS, 2))
    heap = rng.integers(0, GROUPS, (side, side))
    places = middles[heap] + rng.normal(size=(side, side, 2))
    names = [f"heap {i}" for i in range(GROUPS)]
    attrs = {"kind": "categorical", "categories": names}
    return (
        xr.DataArray(np.moveaxis(places, -1, 0), dims=("component", "y", "x")),
        xr.DataArray(heap.astype(np.float32), dims=("y", "x"), attrs=attrs),
    )


def forms(side: int) -> tuple[dict[str, Callable[[], Any]], dict[str, float]]:
    """Ways of answering a lasso, the peer first, and how wrong each is."""
    coordinates, heap = cloud(side)
    points, pixels, _ = points_of(coordinates, heap)
    exact = Ring(RING).contains_points(points)

    def ours() -> np.ndarray:
        chosen = view.points_in(coordinates, lasso=RING)
        return binned(points, pixels, chosen.ravel(), size=SIZE, spread=None)[0]

    hv.extension("bokeh", logo=False)
    renderer = hv.renderer("bokeh")
    palette = [hex_of(row) for row in np.unique(pixels, axis=0)]
    table = pd.DataFrame(points, columns=["x", "y"])
    table["heap"] = heap.values.ravel()
    glyphs = hv.Points(table, ["x", "y"], "heap").opts(color="heap", cmap=palette, size=3)

    def linked(element: Any) -> Callable[[], Any]:
        link = hv.selection.link_selections.instance()
        plot = renderer.get_plot(link(element))

        def answer() -> Any:
            chosen = expression()
            # in turns with letting go, since an expression is taken for equal to any other
            link.selection_expr = chosen if link.selection_expr is None else None
            return plot.state

        return answer

    def expression() -> Any:
        return glyphs._get_selection_expr_for_stream_value(geometry=RING)[0]

    found = {"HoloViews, glyphs": linked(glyphs)}
    theirs = np.mean(np.asarray(expression().apply(glyphs), bool) != exact)
    lost = {"HoloViews, glyphs": float(theirs)}
    if importlib.util.find_spec("datashader") is not None:
        from holoviews.operation.datashader import rasterize

        found["HoloViews, rasterised"] = linked(rasterize(glyphs))
        lost["HoloViews, rasterised"] = float(theirs)
    name = "skysense.view, a picture"
    found[name] = ours
    chosen = view.points_in(coordinates, lasso=RING).ravel()
    lost[name] = float(np.mean(chosen != exact))
    return found, lost


def main() -> None:
    """Time all forms and print, and keep, the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=500, help="cells along one side of the map")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--history", type=Path, help="append the results to this JSON-lines file")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    print(
        f"HoloViews {hv.__version__}, NumPy {np.__version__}, {platform.machine()}, load {load:.1f}; "
        f"median of {given.runs} after {WARM_UPS} warm-ups"
    )
    case = f"lasso over {given.side**2:,} points"
    print(case)
    found, errors = forms(given.side)
    rows = compare(case, found, errors, given.runs)
    if given.history:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "holoviews": hv.__version__,
            "runs": given.runs,
            "load": [load, os.getloadavg()[0]],
            "rows": rows,
        }
        with given.history.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
