"""How fast a step of pre-training is, as a ratio to the naive step.

`python -m benchmarks.bench_pretrain [--runs 5] [--history FILE]`

Both forms make the same step of `skysense pretrain tiny` on the same pair of views of synthetic places:
student and teacher, all losses, gradient, AdamW, moving average. The naive one is in float32 throughout
and fuses every 10 m cell of both views before it picks the matched ones; ours is in bfloat16 where that
is mixed and fuses the cells it needs. Before any timing, the loss of each is compared with float64.
"""

import argparse
import copy
import dataclasses
import json
import os
import platform
import tempfile
from pathlib import Path

import torch

from benchmarks.timing import compare
from skysense.encoders import normalised, token_validity
from skysense.pretrain.config import PretrainConfig, pretraining
from skysense.pretrain.data import open_places
from skysense.pretrain.loader import Loader
from skysense.pretrain.loop import Run, begin, make_step
from skysense.pretrain.prepare import prepare
from skysense.pretrain.schedule import rates
from skysense.pretrain.step import SPREAD, View, follow, look, matched
from skysense.pretrain.views import Pair
from skysense.sources.synthetic import scene

SIZE = 32


def run_of(precision: str) -> PretrainConfig:
    """Sixteen pairs of 32 cells, as most steps of `tiny`."""
    tiny = pretraining("tiny")
    views = dataclasses.replace(tiny.views, sizes=((SIZE, 1.0),), drop_sensor=0.0)
    return dataclasses.replace(tiny, views=views, precision=precision, steps=100)


def whole_look(model: torch.nn.Module, pair: Pair, side: int) -> View:
    """`look`, from the fused map of the whole view."""
    batch, inputs = (pair.u, pair.v)[side], {}
    for key, each in batch.sensors.items():
        pixels, usable = normalised(batch, key)
        valid = token_validity(key, usable)
        inputs[key] = (model.encode_dates(key, pixels, valid), valid, each.doy)
    fused = model.fuse(inputs, cell=pair.cell).flatten(2).transpose(1, 2)  # b cells d
    matches = pair.cells[side]
    spread = torch.linspace(0, SIZE * SIZE - 1, SPREAD).round().long()
    at = torch.cat([matches, spread.expand(len(matches), -1)], dim=1)
    picked = fused.gather(1, at[..., None].expand(-1, -1, fused.shape[2]))
    dates = {key: given[0] for key, given in inputs.items()}
    valid = {key: given[1] for key, given in inputs.items()}
    return View(dates, valid, picked, picked[..., 0].isfinite())


def loss_of(run: Run, pair: Pair, form=look) -> torch.Tensor:
    """The loss of one pair."""
    with torch.no_grad():
        seen = form(run.teacher.model, pair, 1)
    mine = form(run.student.model, pair, 0)
    given = (run.teacher.heads, run.config.loss, rates(run.config, 0).temperature)
    return run.student.compared(mine, *matched(mine, seen, pair), pair, *given)[0]


def naive_step(run: Run, pair: Pair) -> None:
    """One step as one would write it first."""
    run.student.train()
    loss_of(run, pair, whole_look).backward()
    torch.nn.utils.clip_grad_norm_(run.student.parameters(), run.config.clip)
    run.optimiser.step()
    run.optimiser.zero_grad()
    follow(run.teacher, run.student, 0.9)


def exact_loss(run: Run, pair: Pair) -> float:
    """The loss in float64, without stochastic depth."""
    double = dataclasses.replace(
        run,
        student=copy.deepcopy(run.student).double().eval(),
        teacher=copy.deepcopy(run.teacher).double(),
    )
    return float(loss_of(double, pair.to("cpu", torch.float64), whole_look).detach())


def main() -> None:
    """Check, time and print both forms."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--history", type=Path, help="append the results to this JSON-lines file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stacks = [scene(seed=seed, size=640, sensors=("s2", "s1"))[0] for seed in (3, 4)]
        prepare(stacks, Path(folder) / "places")
        config = run_of("bfloat16")
        loader = Loader(
            open_places(Path(folder) / "places"), config.views, None, batch=16, steps=99
        )
        pair = next(p for p in (loader[k] for k in range(99)) if len(p.u.sensors) == 2)
        plain, ours = begin(run_of("float32"), "cpu"), begin(config, "cpu")
        exact = exact_loss(plain, pair)
        for run in (plain, ours):
            run.student.eval()
        with torch.autocast("cpu", torch.bfloat16):
            mixed = float(loss_of(ours, pair).detach())
        errors = {"naive": abs(float(loss_of(plain, pair, whole_look).detach()) - exact) / exact}
        errors["skysense.pretrain"] = abs(mixed - exact) / exact
        forms = {
            "naive": lambda: naive_step(plain, pair),
            "skysense.pretrain": lambda: make_step(ours, iter([pair]), 1),
        }
        load = os.getloadavg()[0]
        print(
            f"pretrain_step, torch {torch.__version__}, {torch.get_num_threads()} threads, "
            f"{platform.machine()}, load {load:.1f}; median of {given.runs}"
        )
        rows = compare("pretrain_step", forms, errors, given.runs)
    if given.history:
        with given.history.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"case": "pretrain_step", "load": load, "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
