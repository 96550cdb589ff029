"""How fast prototypes are assigned, as ratios to the tools one would take otherwise.

`python -m benchmarks.bench_prototypes [--runs 9] [--history FILE]`

Only ratios inside one run mean something: all forms take turns, and the load of the machine is
printed. Before any timing, each form is compared with a float64 transcription.

- `prototype_assign`: `skysense.assign`, from a map of features to a map of numbers and cosines, and
  `torch.cdist().argmin` on the same features laid out as rows and scaled to length one beforehand.
- `sinkhorn`: the plan of 3 iterations by `ot.sinkhorn` (POT, NumPy, float64), `skysense.analysis`
  (the same) and `skysense.model` (PyTorch, float32, as in training).
"""

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ot
import torch
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import assign_crs, xr_coords

from benchmarks.timing import WARM_UPS, compare
from skysense import analysis
from skysense.model.prototypes import sinkhorn

SIDE, DIM, PROTOTYPES = 256, 128, 100
TOKENS, EPSILON, ITERATIONS = 16_384, 0.05, 3

Forms = dict[str, Callable[[], Any]]


def prototype_assign() -> tuple[Forms, dict[str, float]]:
    """Forms of finding the nearest of 100 prototypes for 65,536 pixels, and their errors."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(DIM, SIDE, SIDE)).astype(np.float32)
    box = GeoBox((SIDE, SIDE), Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32631")
    axes = {k: v.values for k, v in xr_coords(box).items() if k in ("y", "x")}
    features = assign_crs(xr.DataArray(values, axes, ("feature", "y", "x")), box.crs)
    bank = xr.DataArray(
        rng.normal(size=(PROTOTYPES, DIM)).astype(np.float32), dims=("prototype", "feature")
    )
    rows = torch.from_numpy(values.reshape(DIM, -1).T.copy())
    rows = torch.nn.functional.normalize(rows, dim=1)
    prototypes = torch.nn.functional.normalize(torch.from_numpy(bank.values), dim=1)

    def assigned() -> np.ndarray:
        return analysis.assign(features, bank).values.ravel()

    forms = {
        "torch.cdist().argmin, float32": lambda: torch.cdist(rows, prototypes).argmin(1).numpy(),
        "skysense.assign, float32": assigned,
    }
    flat, exact_bank = values.reshape(DIM, -1).T.astype(np.float64), bank.values.astype(np.float64)
    exact = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    exact = exact @ (exact_bank / np.linalg.norm(exact_bank, axis=1, keepdims=True)).T
    lost = {}
    for name, form in forms.items():
        chosen = np.take_along_axis(exact, form().astype(int)[:, None], 1)[:, 0]
        lost[name] = float((exact.max(1) - chosen).max())  # cosine given away, at worst
    return forms, lost


def transport() -> tuple[Forms, dict[str, float]]:
    """Forms of Sinkhorn's plan between 16,384 tokens and 100 prototypes, and their errors."""
    rng = np.random.default_rng(0)
    tokens, bank = rng.normal(size=(TOKENS, DIM)), rng.normal(size=(PROTOTYPES, DIM))
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    scores = tokens @ bank.T
    single = torch.from_numpy(scores.astype(np.float32))
    masses = np.full(TOKENS, 1 / TOKENS), np.full(PROTOTYPES, 1 / PROTOTYPES)
    options = {"reg": EPSILON, "numItermax": ITERATIONS, "stopThr": 0, "warn": False}
    forms = {
        "POT, float64": lambda: ot.sinkhorn(*masses, -scores, **options),
        "skysense.analysis, float64": lambda: analysis.sinkhorn(scores, EPSILON, ITERATIONS),
        "skysense.model, float32": lambda: sinkhorn(single, EPSILON, ITERATIONS).numpy() / TOKENS,
    }
    exact = np.exp(scores / EPSILON)
    for _ in range(ITERATIONS):
        exact /= exact.sum(0) * PROTOTYPES
        exact /= exact.sum(1, keepdims=True) * TOKENS
    norm = np.linalg.norm(exact)
    return forms, {n: float(np.linalg.norm(form() - exact) / norm) for n, form in forms.items()}


def measure(case: str, runs: int) -> list[dict[str, Any]]:
    """Check, then time, all forms of one case; the first is the peer."""
    forms, errors = {"prototype_assign": prototype_assign, "sinkhorn": transport}[case]()
    return compare(case, forms, errors, runs)


def main() -> None:
    """Run both cases and print, and keep, the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--history", type=Path, help="append the results to this JSON-lines file")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, load "
        f"{load:.1f}; median of {given.runs} after {WARM_UPS} warm-ups"
    )
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # POT's, of three iterations that did not converge
        for case in ("prototype_assign", "sinkhorn"):
            print(case)
            rows += measure(case, given.runs)
    if given.history:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "runs": given.runs,
            "load": [load, os.getloadavg()[0]],
            "rows": rows,
        }
        with given.history.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
