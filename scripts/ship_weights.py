"""Make a finished run the weights that come with the package, with card, data list and loss curves.

    python scripts/ship_weights.py out/tiny         # writes skysense/shipped/skysense-tiny
    python scripts/ship_weights.py out/v2-tiny      # writes skysense/shipped/skysense-v2-tiny

Which of the two is told by the model that learnt. The card is written from what the run left, so that its
numbers are those of the run.
"""

import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from skysense.encoders import SHIPPED
from skysense.model import TemporalModel
from skysense.weights import load_checkpoint

OUT = SHIPPED["skysense-tiny"].parent
"""Where shipped weights lie, a folder for each name."""

MOST = 15e6
"""Bytes of the weights file."""

CURVES = {
    "Contrast of fused features": ("fused/pixel", "fused/object", "fused/image"),
    "Contrast of Sentinel-2 and Sentinel-1": ("s2/pixel", "s2/object", "s1/pixel", "s1/object"),
    "What the other view saw": ("predict/s2", "predict/s1"),
    "One place, two sensors": ("align/s2-s1", "align/s1-s2"),
    "Semantic queries, and names of classes": ("query", "text"),
    "Evenness of experts, 1 is even": ("balance",),
}
"""Panes, and the losses each shows; a pane of which a run had none is left out."""

WINDOW = 50
"""Steps in a running mean; single steps, of different groups and sizes, are not comparable."""

WHAT = {
    "tiny": """SkySense V1 (Guo et al., CVPR 2024) in small, {parameters:.1f} million parameters{banks}, trained without
labels on open imagery by the code of this repository. Not official weights, and no claim to what those can do:
{steps:,} steps on one processor beside 875,000 on 80 GPUs.""",
    "v2-tiny": """SkySense V2 (Zhang et al., ICCV 2025) in small, {parameters:.1f} million parameters{banks}: one backbone for
all sensors, two stages of Swin V2 and two of plain attention, tokens merged or kept, {prompts}, {experts}. Trained
by the code of this repository on open imagery, without labels of any real place. Not official weights: there are
none of SkySense V2 that anyone could download, and the paper's full text was not at hand when this was written, so
what it leaves open was decided by us (`docs/decisions/v2.md`). No claim to what the published model can do:
{steps:,} steps on one processor beside 600,000 of batches of 1,024 images on 128 GPUs, as readers report.""",
}
"""What a model is, by its preset."""

TERMS = {
    "pixel": "contrast of the same place and date in two views (L_pix), of each sensor and of fused features",
    "object": "contrast of groups of cells (L_obj)",
    "image": "contrast of whole views (L_img)",
    "alignment": "one place seen by two sensors (V1's L_align)",
    "prediction": "what the other view saw, on its days (ours)",
    "query": "what each semantic query finds in two views (V2's L_QSACL)",
    "text": "fused features of labelled cells and the names of their classes (V2's L_ITA); only synthetic scenes, "
    "whose truth their generator knows, have labels",
    "balance": "experts in even use (Switch Transformer)",
}
"""Losses by the name of their weight."""

CARD = """# {name}

{what}

| | |
|---|---|
| weights | `model.safetensors`, half precision, {size:.1f} MB, SHA-256 `{digest}` |
| licence | Apache-2.0 |
| sensors | Sentinel-2 (10 bands, reflectance), Sentinel-1 (VV, VH, dB), high resolution (RGB, 0.3 m) |
| features | {fused} per 10 m cell of ground{context} |
| seed | {seed} |
| time | {hours:.1f} hours of one core |

## How it was made

```bash
python scripts/pretraining_shards.py out/pretraining --shared ../shared
python -c 'from skysense.pretrain.prepare import prepare; prepare("out/pretraining", "out/places")'
OMP_NUM_THREADS=1 skysense pretrain {preset} --data out/places --out out/{preset}
python scripts/ship_weights.py out/{preset}
```

What is learnt, and what of it is the paper's and what ours, is in `docs/pretraining.md`; every choice of the run is
`pretraining("{preset}")` in `skysense/pretrain/config.py`. The sum of these was made small:

| loss | weight | of what |
|---|---|---|
{terms}

![Losses](losses.png)

## What it is worth

`docs/evaluation.md`, beside raw dates, band percentiles and the same network untrained, on places it saw and on
places it never saw. Read the bar there before you use it for anything: it was made to teach with and to try the
tools, not to map with.

## What it learnt from

{real} real and {made} synthetic places, {labels}nothing of the labelled evaluation sets. `data.json` lists each of
them.

| places | source | licence | credit |
|---|---|---|---|
{sources}

## Limits

- Six places on Earth gave it series of real dates; most of what it knows of seasons is Belgian.
- What it knows of high resolution beside other sensors comes from synthetic scenes.
{limit}"""

LIMIT = """- Prototypes are trained in {cells} of {all_cells:,} cells of the Earth; elsewhere they are zeros, and
  `features.attrs["context"]` says so.
"""


def draw(lines: Sequence[dict[str, Any]]) -> Figure:
    """Running means of the losses over the steps that had them."""
    known = {
        title: [name for name in names if any(name in each for each in lines)]
        for title, names in CURVES.items()
    }
    shown = {title: names for title, names in known.items() if names}
    rows = -(-len(shown) // 2)
    figure = Figure(figsize=(10, 2.8 * rows), layout="constrained")
    panes = figure.subplots(rows, 2, squeeze=False).flatten()
    for pane in panes[len(shown) :]:
        pane.remove()
    for pane, (title, names) in zip(panes, shown.items(), strict=False):
        for name in names:
            values = np.array([(each["step"], each[name]) for each in lines if name in each])
            width = min(WINDOW, len(values))
            mean = np.convolve(values[:, 1], np.ones(width) / width, "valid")
            pane.plot(values[width - 1 :, 0], mean, label=name, lw=1.4)
        pane.set_title(title, loc="left", fontsize=10, fontweight="bold")
        pane.legend(frameon=False, fontsize=8)
        pane.spines[["top", "right"]].set_visible(False)
        pane.set_xlim(0, lines[-1]["step"])
    figure.supxlabel(f"step (means over {WINDOW} steps that had the loss)", fontsize=8)
    return figure


def card(run: Path, lines: Sequence[dict[str, Any]]) -> str:
    """The model card.

    Raises:
        SystemExit: The weights are too large to ship, or of a model that is not shipped.
    """
    loaded = load_checkpoint(run / "weights")
    model, file = loaded.model, run / "weights" / "model.safetensors"
    if file.stat().st_size > MOST:
        raise SystemExit(
            f"{file} has {file.stat().st_size:,} bytes; at most {MOST:,.0f} are shipped."
        )
    facts = json.loads((run / "state.json").read_text(encoding="utf-8"))["configuration"]
    places = json.loads((run / "weights" / "data.json").read_text(encoding="utf-8"))["places"]
    groups: dict[tuple[str, str, str], int] = defaultdict(int)
    for each in places:
        tile = each["source"].partition(" (tile_")[0]
        groups[tile, each["licence"], each["credit"]] += 1
    preset, bank = model.config.name, model.prototypes
    weights = {key: facts["loss"].get(key) or 0.0 for key in TERMS}
    limit = context = ""
    if bank is not None:
        limit = LIMIT.format(cells=int(bank.trained.sum()), all_cells=len(bank.trained))
        context = ", and as many more read from the prototypes of its part of the Earth"
    return CARD.format(
        name=name_of(model),
        preset=preset,
        what=_what(model, lines[-1]["step"]),
        size=file.stat().st_size / 1e6,
        digest=loaded.weights.removeprefix("sha256:"),
        fused=model.config.fusion.dim,
        context=context,
        seed=facts["seed"],
        hours=sum(each["seconds"] for each in lines) / 3600,
        terms="\n".join(f"| {key} | {w:g} | {TERMS[key]} |" for key, w in weights.items() if w),
        real=sum(not each["synthetic"] for each in places),
        made=sum(each["synthetic"] for each in places),
        labels="labels of synthetic ones only, " if weights["text"] else "no labels, ",
        sources="\n".join(f"| {n} | {' | '.join(g)} |" for g, n in sorted(groups.items())),
        limit=limit,
    )


def name_of(model: TemporalModel) -> str:
    """The name that weights are shipped under, by the preset of their model.

    Raises:
        SystemExit: Weights of this preset are not shipped.
    """
    preset = model.config.name
    if preset not in WHAT:
        raise SystemExit(
            f"The run trained {preset!r}, which is not shipped; {' and '.join(WHAT)} are."
        )
    return f"skysense-{preset}"


def _what(model: TemporalModel, steps: int) -> str:
    """The first paragraph of the card."""
    name_of(model)
    bank, parameters = model.prototypes, sum(p.numel() for p in model.parameters())
    banks = ""
    if bank is not None:
        parameters += bank.bank.numel()
        banks = f" of which {bank.bank.numel() / 1e6:.1f} are the bank of prototypes"
    given = {"parameters": parameters / 1e6, "banks": banks, "steps": steps}
    if backbone := getattr(model.config, "backbone", None):
        prompts = f"{backbone.prompts} learned tokens that tell a sensor in each plain stage"
        experts = f"{backbone.experts} experts in each of the last {backbone.moe_blocks} blocks"
        given["prompts"] = prompts if backbone.prompts else "without tokens that tell a sensor"
        given["experts"] = experts if backbone.moe_blocks else "without experts"
    return WHAT[model.config.name].format(**given)


def main(arguments: Sequence[str], out: Path = OUT) -> None:
    """Write the folder of weights that belongs to a run.

    Args:
        arguments: The folder of the run.
        out: Folder of all shipped weights.
    """
    if len(arguments) != 1:
        raise SystemExit(__doc__)
    run = Path(arguments[0])
    text = (run / "log.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    written = card(run, lines)
    folder = out / name_of(load_checkpoint(run / "weights").model)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run / "weights", folder)
    (folder / "README.md").write_text(written, encoding="utf-8")
    draw(lines).savefig(folder / "losses.png", dpi=110)
    print(f"{folder}: {sum(f.stat().st_size for f in folder.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
