"""What the full model takes: time and peak memory of each module, on random weights.

`python -m benchmarks.full_size [--dtype float32|bfloat16] [--case NAME ...] [--out FILE.json]`

Every module of the `paper` preset is built alone in a process of its own, run once to warm up (on the
small cases) and once for the clock. Peak memory is the largest resident set of that process, weights
and libraries included. On a busy machine the processors' seconds say more than those of the clock. It is no benchmark: it says whether a machine can do it at all, and in seconds
or minutes.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.bench_model import build
from skysense.model import PRESETS, DateFeatures

GB = 2**30

#: Name to (what it is, free memory it is refused without in GB).
CASES = {
    "hr-512": ("high resolution, one image of 512 × 512 pixels (160 m)", 6),
    "hr-2048": ("high resolution, one image of 2,048 × 2,048 pixels (640 m, a window)", 12),
    "s2": ("Sentinel-2, one date of 64 × 64 pixels (640 m)", 3),
    "s1": ("Sentinel-1, one date of 64 × 64 pixels (640 m)", 3),
    "head": ("up-sampling head, 16 × 16 tokens to 64 × 64 cells (one of two)", 2),
    "fusion": ("fusion, 16 × 16 places of 12 Sentinel-2 dates", 4),
}


def prepared(case: str, dtype: torch.dtype):
    """(parameters, a function that runs the module once)."""
    config = PRESETS["paper"]
    if case.startswith("hr"):
        side = int(case.split("-")[1])
        model = build(config, ("hr",)).to(dtype)
        x = torch.randn(1, 1, 3, side, side, dtype=dtype)
        return model.hr, lambda: model.encode_dates("hr", x)
    if case in ("s2", "s1"):
        model = build(config, (case,)).to(dtype)
        bands = getattr(config, case).in_channels
        x = torch.randn(1, 1, bands, 64, 64, dtype=dtype)
        return getattr(model, case), lambda: model.encode_dates(case, x)
    if case == "head":
        model = build(config, ("head_s2",)).to(dtype)
        x = torch.randn(1, config.s2.dim, 16, 16, dtype=dtype)
        return model.head_s2, lambda: model.head_s2(x)
    import dataclasses

    light = dataclasses.replace(config.s2, layers=1)  # only its width is needed
    model = build(dataclasses.replace(config, s2=light), ("s2", "head_s2", "fusion", "calendar"))
    model.s2 = None
    model = model.to(dtype)
    values = torch.randn(1, 12, config.s2.dim, 4, 4, dtype=dtype)
    valid = torch.ones(1, 12, 4, 4, dtype=torch.bool)
    doy = torch.arange(1, 361, 30)[None]
    return model.fusion, lambda: model.fuse({"s2": DateFeatures(values, valid, doy)})


def measure(case: str, dtype: torch.dtype) -> dict:
    """Run one case in this process."""
    started = time.perf_counter()
    module, run = prepared(case, dtype)
    built = time.perf_counter() - started
    seconds, work = [], []
    with torch.inference_mode():
        for _ in range(1 if case == "hr-2048" else 2):
            started, before = time.perf_counter(), time.process_time()
            result = run()
            seconds.append(time.perf_counter() - started)
            work.append(time.process_time() - before)
    assert bool(result.float().isfinite().all())
    return {
        "case": case,
        "parameters": sum(p.numel() for p in module.parameters()),
        "build_s": round(built, 1),
        "run_s": round(seconds[-1], 2),
        "cpu_s": round(work[-1], 2),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB, 2),
        "output": list(result.shape),
    }


def free_gb() -> float:
    """Memory the system can still give."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable")) * 1024 / GB


def main() -> None:
    """Run every case in a child of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure(given.case[0], getattr(torch, given.dtype))))
        return
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GB
    machine = (
        f"{os.cpu_count()} {platform.machine()} cores, {total:.0f} GB of memory, no GPU, torch "
        f"{torch.__version__}, {torch.get_num_threads()} threads, {given.dtype}"
    )
    print(f"{machine}; load {os.getloadavg()[0]:.1f} before")
    print(
        "| module | parameters | seconds | of processors | peak memory |\n| --- | --- | --- | --- | --- |"
    )
    rows = []
    for case in given.case or CASES:
        what, needed = CASES[case]
        if free_gb() < needed + 1:
            print(f"| {what} | | not run: {free_gb():.1f} GB free, about {needed} needed | | |")
            continue
        command = [sys.executable, "-m", "benchmarks.full_size", "--here", "--case", case]
        done = subprocess.run(
            [*command, "--dtype", given.dtype], capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["killed"])[-1]
            print(f"| {what} | | failed: {last} | | |")
            continue
        row = json.loads(done.stdout.splitlines()[-1]) | {"load": os.getloadavg()[0]}
        rows.append(row)
        print(
            f"| {what} | {row['parameters']:,} | {row['run_s']:.1f} | {row['cpu_s']:.1f} | {row['peak_gb']:.1f} GB |",
            flush=True,
        )
    print(f"load {os.getloadavg()[0]:.1f} after")
    if given.out:
        given.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
