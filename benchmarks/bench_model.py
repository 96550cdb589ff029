"""How much faster the model is than the official way of computing it, part by part.

`python -m benchmarks.bench_model [--preset paper|base|tiny] [--runs 7] [--history FILE]`

Only ratios inside one run mean something: all forms take turns, and the load of the machine is
printed. Before any timing, each form is compared with the official semantics in float64. The paper
preset has full widths; the Sentinel-2 encoder and fusion have full depth (what is saved in the last
layer would look larger in a shallow model), the high-resolution encoder 2 of the 18 blocks of its
third stage and a 256-pixel image, so that a run takes about a minute on two idle cores.

Of SkySense V2: a block's experts, grouped, beside every expert on all tokens with masks; and one window
through the tiny preset beside V1's, each compared with itself in float64, as they are other functions.
"""

import argparse
import copy
import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.reference import (
    ReferenceExperts,
    ReferenceFusion,
    ReferenceSwin,
    ReferenceViT,
)
from benchmarks.timing import WARM_UPS, compare
from skysense.model import PRESETS, DateFeatures, SkySense, SkySenseConfig, TemporalModel
from skysense.model.moe import Experts
from skysense.model.precision import choose_dtype
from skysense.weights import build_model

DATES = 12
OFFICIAL = ("encode_s2", "encode_hr", "fusion")
CASES = (*OFFICIAL, "experts", "window_s2", "window_hr")
V2 = {"paper": "v2-paper-moe", "base": "v2-tiny", "tiny": "v2-tiny"}


def small_enough(config: SkySenseConfig) -> SkySenseConfig:
    """The preset with a high-resolution encoder that fits into a minute."""
    depths = tuple(min(d, 2) for d in config.hr.depths)
    return dataclasses.replace(config, hr=dataclasses.replace(config.hr, depths=depths))


def build(config: SkySenseConfig, parts: tuple[str, ...]) -> SkySense:
    """Some parts with quick random weights; a benchmark needs no better ones."""
    with torch.device("meta"):
        model = SkySense(dataclasses.replace(config, parts=parts))
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "logit_scale" not in name:
            deviation = parameter[0].numel() ** -0.5 if "token" not in name else 0.02
            parameter.uniform_(-1.7 * deviation, 1.7 * deviation, generator=generator)
        else:
            parameter.fill_(1.0 if ("norm" in name or ".ln" in name) and "weight" in name else 0.1)
    return model


def encode_s2(config: SkySenseConfig) -> tuple[SkySense, nn.Module, Tensor]:
    """One Sentinel-2 date of 64 × 64 pixels."""
    model = build(config, ("s2",))
    return model, ReferenceViT(model.s2), torch.randn(1, 1, 10, 64, 64)


def encode_hr(config: SkySenseConfig) -> tuple[SkySense, nn.Module, Tensor]:
    """One high-resolution image of 256 × 256 pixels."""
    model = build(config, ("hr",))
    return model, ReferenceSwin(model.hr), torch.randn(1, 1, 3, 256, 256)


def fusion(config: SkySenseConfig) -> tuple[SkySense, nn.Module, Tensor]:
    """Twelve encoded dates at 4 × 8 places."""
    config = dataclasses.replace(config, fusion=dataclasses.replace(config.fusion, calendar="none"))
    model = build(config, ("s2", "head_s2", "fusion"))
    model.s2 = None  # only its width is needed
    return (
        model,
        ReferenceFusion(model.head_s2, model.fusion),
        torch.randn(1, DATES, config.s2.dim, 1, 2),
    )


def ours_of(case: str, model: SkySense) -> Callable[[Tensor], Tensor]:
    """Our form of a case, on the reference's input and with its output."""
    if case == "fusion":

        def run(x: Tensor) -> Tensor:
            valid = torch.ones(*x.shape[:2], *x.shape[3:], dtype=torch.bool)
            doy = torch.zeros(x.shape[:2], dtype=torch.int64)
            return model.fuse({"s2": DateFeatures(x, valid, doy)})

        return run
    sensor = case.removeprefix("encode_")
    return lambda x: model.encode_dates(sensor, x)[:, 0]


def measure(case: str, config: SkySenseConfig, runs: int, dtype: torch.dtype) -> list[dict]:
    """Check, then time, the reference and our forms of one case."""
    model, reference, x = {"encode_s2": encode_s2, "encode_hr": encode_hr, "fusion": fusion}[case](
        config
    )
    given = x if case == "fusion" else x[:, 0]
    forms = {"official semantics, float32": (lambda: reference(given))}
    float32 = ours_of(case, model)
    forms["ours, float32"] = lambda: float32(x)
    if dtype == torch.bfloat16:
        short, y = ours_of(case, copy.deepcopy(model).to(dtype)), x.to(dtype)
        forms["ours, bfloat16"] = lambda: short(y)
    exact = copy.deepcopy(reference).double()(given.double())
    errors = {
        name: float((form().double() - exact).norm() / exact.norm()) for name, form in forms.items()
    }
    del exact
    return compare(case, forms, errors, runs)


def forms_of(
    name: str,
    model: nn.Module,
    run: Callable[[nn.Module, Tensor], Tensor],
    x: Tensor,
    dtype: torch.dtype,
) -> dict[str, Callable[[], Tensor]]:
    """A model in float32, and in bfloat16 where that is to be measured."""
    forms = {f"{name}, float32": lambda: run(model, x)}
    if dtype == torch.bfloat16:
        short, y = copy.deepcopy(model).to(dtype), x.to(dtype)
        forms[f"{name}, bfloat16"] = lambda: run(short, y)
    return forms


def experts(preset: str, runs: int, dtype: torch.dtype) -> list[dict]:
    """The experts of one block of stage 3, on the tokens of four images of 64 × 64 pixels."""
    backbone = PRESETS[V2[preset]].backbone
    width = backbone.widths[2]
    ours = Experts(width, backbone.mlp_ratio, backbone.experts).eval().requires_grad_(False)
    reference, x = ReferenceExperts(ours), torch.randn(4, 256, width)
    exact = copy.deepcopy(reference).double()(x.double())
    forms = forms_of("masks over all tokens", reference, lambda m, x: m(x), x, torch.float32)
    forms |= forms_of("grouped", ours, lambda m, x: m(x)[0], x, dtype)
    errors = {
        name: float((form().double() - exact).norm() / exact.norm()) for name, form in forms.items()
    }
    return compare("experts", forms, errors, runs)


def window(sensor: str, runs: int, dtype: torch.dtype) -> list[dict]:
    """Dates of one window through the tiny presets: four of Sentinel-2, or high resolution at 160 m."""
    shape = (1, 4, 10, 64, 64) if sensor == "s2" else (1, 1, 3, 512, 512)
    x, forms, errors = torch.randn(shape), {}, {}

    def run(model: TemporalModel, x: Tensor) -> Tensor:
        return model.encode_dates(sensor, x)

    for name, preset in (("V1 tiny", "tiny"), ("V2 tiny", "v2-tiny")):
        model = build_model(preset).requires_grad_(False)
        exact = run(copy.deepcopy(model).double(), x.double())
        made = forms_of(name, model, run, x, dtype)
        forms |= made
        errors |= {
            n: float((form().double() - exact).norm() / exact.norm()) for n, form in made.items()
        }
    return compare(f"window_{sensor}", forms, errors, runs)


def main() -> None:
    """Run all cases and print, and keep, the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=V2, default="paper")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--history", type=Path, help="append the results to this JSON-lines file")
    given = parser.parse_args()
    torch.manual_seed(0)
    dtype = choose_dtype("cpu", override=given.dtype)
    load = os.getloadavg()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, load "
        f"{load[0]:.1f}; self-test or choice: {str(dtype).removeprefix('torch.')}; "
        f"median of {given.runs} after {WARM_UPS} warm-ups"
    )
    rows = []
    started = time.perf_counter()
    with torch.inference_mode():
        for case in given.case or CASES:
            print(f"{case} ({'tiny' if case.startswith('window') else given.preset})")
            if case in OFFICIAL:
                rows += measure(case, small_enough(PRESETS[given.preset]), given.runs, dtype)
            elif case == "experts":
                rows += experts(given.preset, given.runs, dtype)
            else:
                rows += window(case.removeprefix("window_"), given.runs, dtype)
    print(
        f"{time.perf_counter() - started:.0f} s in all; load {load[0]:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after"
    )
    if given.history:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "preset": given.preset,
            "runs": given.runs,
            "load": [load[0], os.getloadavg()[0]],
            "rows": rows,
        }
        with given.history.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
