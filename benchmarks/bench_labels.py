"""How soon a click becomes a map, as ratios to the tools one would take otherwise.

`python -m benchmarks.bench_labels [--runs 9] [--features 128]`

Only ratios inside one run mean something: all forms take turns, and the load of the machine is
printed. 65,536 pixels, 4 classes of 8 clicks and one polygon each.

- the peer: scikit-learn's LogisticRegression on standardised features, `fit` on the labelled pixels
  and `predict_proba` on all;
- `Segmenter`, from labels to probabilities, with the features laid out before;
- the whole click: labels to probabilities to classes to the PNG that the map shows.
"""

import argparse
import os
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import assign_crs, xr_coords
from sklearn.linear_model import LogisticRegression

from benchmarks.timing import WARM_UPS, compare
from skysense import analysis, view
from skysense.analysis.places import place_of

SIDE, CLASSES, CLICKS = 256, 4, 8


def place(dim: int) -> tuple[xr.DataArray, analysis.Labels]:
    """Features of four classes in square fields, with noise, and marks in them."""
    rng = np.random.default_rng(0)
    plan = rng.permutation(np.arange(256) % CLASSES).reshape(16, 16)
    truth = np.kron(plan, np.ones((16, 16), int))
    centres = rng.normal(size=(CLASSES, dim))
    values = np.moveaxis(centres[truth] + rng.normal(size=(SIDE, SIDE, dim)), -1, 0)
    box = GeoBox((SIDE, SIDE), Affine(10, 0, 500_000, 0, -10, 5_630_400), "EPSG:32631")
    axes = {k: v.values for k, v in xr_coords(box).items() if k in ("y", "x")}
    features = assign_crs(
        xr.DataArray(values.astype(np.float32), axes, ("feature", "y", "x")), box.crs
    )
    classes = []
    for i in range(CLASSES):
        cells = rng.permutation(np.argwhere(truth == i))[:CLICKS]
        row, column = np.argwhere(plan == i)[0] * 16
        (west, north), (east, south) = place_of(features, [row, row + 14], [column, column + 14])
        classes.append(
            analysis.LabelClass(
                f"class {i}",
                tuple(place_of(features, *cells.T)),
                (shapely.box(west, south, east, north),),
            )
        )
    return features, analysis.Labels(tuple(classes))


def forms(dim: int) -> tuple[dict[str, Callable[[], Any]], dict[str, float]]:
    """The forms, and the share of pixels on which each differs from the peer."""
    features, labels = place(dim)
    segmenter = analysis.Segmenter.of(features)
    rows, _ = segmenter.training(labels)
    every = np.ascontiguousarray(features.values.reshape(dim, -1).T)
    chosen = np.concatenate(list(rows.values()))
    which = np.repeat(np.arange(CLASSES), [len(each) for each in rows.values()])

    def peer() -> np.ndarray:
        marked = every[chosen]
        mean, scale = marked.mean(0), marked.std(0)
        model = LogisticRegression(class_weight="balanced", max_iter=200)
        model.fit((marked - mean) / scale, which)
        return model.predict_proba((every - mean) / scale).argmax(1)

    def segmented() -> np.ndarray:
        return segmenter(labels).values.reshape(CLASSES, -1).argmax(0)

    def clicked() -> view.Overlay:
        return view.overlay(analysis.classes(segmenter(labels)))

    reference = peer()
    apart = float((segmented() != reference).mean())
    found = {
        "LogisticRegression, fit + predict_proba": peer,
        "skysense.Segmenter": segmented,
        "the whole click, to the PNG": clicked,
    }
    return found, {"LogisticRegression, fit + predict_proba": 0.0} | dict.fromkeys(
        list(found)[1:], apart
    )


def main() -> None:
    """Time all forms and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--features", type=int, default=128)
    given = parser.parse_args()
    print(
        f"{platform.machine()}, {os.environ.get('OMP_NUM_THREADS', 'all')} threads, load "
        f"{os.getloadavg()[0]:.1f}; median of {given.runs} after {WARM_UPS} warm-ups; the error is "
        "the share of pixels of another class than the peer's"
    )
    compare(f"{SIDE}² pixels, {given.features} features", *forms(given.features), given.runs)


if __name__ == "__main__":
    main()
