"""Make a finished run the weights that come with the package, with card, data list and loss curves.

    python scripts/ship_weights.py out/tiny      # writes skysense/shipped/skysense-tiny

The card is written from what the run left, so that its numbers are those of the run.
"""

import json
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from skysense.encoders import SHIPPED
from skysense.weights import load_checkpoint

NAME = "skysense-tiny"
MOST = 15e6
"""Bytes of the weights file."""

CURVES = {
    "Contrast of fused features": ("fused/pixel", "fused/object", "fused/image"),
    "Contrast of Sentinel-2 and Sentinel-1": ("s2/pixel", "s2/object", "s1/pixel", "s1/object"),
    "What the other view saw": ("predict/s2", "predict/s1"),
    "One place, two sensors": ("align/s2-s1", "align/s1-s2"),
}
WINDOW = 50
"""Steps in a running mean; single steps, of different groups and sizes, are not comparable."""

CARD = """# {name}

SkySense V1 (Guo et al., CVPR 2024) in small, {parameters:.1f} million parameters of which {bank:.1f} are the bank of
prototypes, trained without labels on open imagery by the code of this repository. Not official weights, and no
claim to what those can do: {steps:,} steps on one processor beside 875,000 on 80 GPUs.

| | |
|---|---|
| weights | `model.safetensors`, half precision, {size:.1f} MB, SHA-256 `{digest}` |
| licence | Apache-2.0 |
| sensors | Sentinel-2 (10 bands, reflectance), Sentinel-1 (VV, VH, dB), high resolution (RGB, 0.3 m) |
| features | {fused} per 10 m cell of ground, and as many more read from the prototypes of its part of the Earth |
| seed | {seed} |
| time | {hours:.1f} hours of one core |

## How it was made

```bash
python scripts/pretraining_shards.py out/pretraining --shared ../shared
python -c 'from skysense.pretrain.prepare import prepare; prepare("out/pretraining", "out/places")'
OMP_NUM_THREADS=1 skysense pretrain tiny --data out/places --out out/tiny
python scripts/ship_weights.py out/tiny
```

What is learnt, and what of it is the paper's and what ours, is in `docs/pretraining.md`; every choice of the run is
`pretraining("tiny")` in `skysense/pretrain/config.py`.

![Losses](losses.png)

## What it is worth

`docs/evaluation.md`, beside raw dates, band percentiles and the same network untrained, on places it saw and on
places it never saw. Read the bar there before you use it for anything: it was made to teach with and to try the
tools, not to map with.

## What it learnt from

{real} real and {made} synthetic places, no labels, nothing of the labelled evaluation sets. `data.json` lists each of
them.

| places | source | licence | credit |
|---|---|---|---|
{sources}

## Limits

- Six places on Earth gave it series of real dates; most of what it knows of seasons is Belgian.
- What it knows of high resolution beside other sensors comes from synthetic scenes.
- Prototypes are trained in {cells} of {all_cells:,} cells of the Earth; elsewhere they are zeros, and
  `features.attrs["context"]` says so.
"""


def draw(lines: list[dict[str, Any]]) -> Figure:
    """Running means of the losses over the steps that had them."""
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    for pane, (title, names) in zip(figure.subplots(2, 2).flat, CURVES.items(), strict=True):
        for name in names:
            known = np.array([(each["step"], each[name]) for each in lines if name in each])
            width = min(WINDOW, len(known))
            mean = np.convolve(known[:, 1], np.ones(width) / width, "valid")
            pane.plot(known[width - 1 :, 0], mean, label=name, lw=1.4)
        pane.set_title(title, loc="left", fontsize=10, fontweight="bold")
        pane.legend(frameon=False, fontsize=8)
        pane.spines[["top", "right"]].set_visible(False)
        pane.set_xlim(0, lines[-1]["step"])
    figure.supxlabel(f"step (means over {WINDOW} steps that had the loss)", fontsize=8)
    return figure


def card(run: Path, lines: list[dict[str, Any]]) -> str:
    """The model card."""
    loaded = load_checkpoint(run / "weights")
    model, file = loaded.model, run / "weights" / "model.safetensors"
    if file.stat().st_size > MOST:
        raise SystemExit(
            f"{file} has {file.stat().st_size:,} bytes; at most {MOST:,.0f} are shipped."
        )
    facts = json.loads((run / "state.json").read_text(encoding="utf-8"))
    places = json.loads((run / "weights" / "data.json").read_text(encoding="utf-8"))["places"]
    groups: dict[tuple[str, str, str], int] = defaultdict(int)
    for each in places:
        tile = each["source"].partition(" (tile_")[0]
        groups[tile, each["licence"], each["credit"]] += 1
    bank = model.prototypes
    return CARD.format(
        name=NAME,
        parameters=(sum(p.numel() for p in model.parameters()) + bank.bank.numel()) / 1e6,
        bank=bank.bank.numel() / 1e6,
        steps=lines[-1]["step"],
        size=file.stat().st_size / 1e6,
        digest=loaded.weights.removeprefix("sha256:"),
        fused=model.config.fusion.dim,
        seed=facts["configuration"]["seed"],
        hours=sum(each["seconds"] for each in lines) / 3600,
        real=sum(not each["synthetic"] for each in places),
        made=sum(each["synthetic"] for each in places),
        sources="\n".join(f"| {n} | {' | '.join(g)} |" for g, n in sorted(groups.items())),
        cells=int(bank.trained.sum()),
        all_cells=len(bank.trained),
    )


def main() -> None:
    """Write the folder."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    run, out = Path(sys.argv[1]), SHIPPED[NAME]
    text = (run / "log.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    written = card(run, lines)
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(run / "weights", out)
    (out / "README.md").write_text(written, encoding="utf-8")
    draw(lines).savefig(out / "losses.png", dpi=110)
    print(f"{out}: {sum(f.stat().st_size for f in out.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
