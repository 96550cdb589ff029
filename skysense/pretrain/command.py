"""`skysense pretrain`: from names of places to a folder of weights."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch.distributed as dist

from skysense.encoders import best_device
from skysense.errors import StackError
from skysense.pretrain import parallel, processes
from skysense.pretrain.config import pretraining, without
from skysense.pretrain.loop import Report, pretrain
from skysense.pretrain.prepare import prepare

PLACES = "places"
"""Folder of prepared places inside that of a run."""


def run(
    model: str,
    data: Sequence[str | Path],
    out: Path,
    *,
    steps: int | None = None,
    batch: int | None = None,
    accumulate: int | None = None,
    rate: float | None = None,
    precision: str | None = None,
    checkpoint: bool | None = None,
    seed: int = 0,
    leave_out: Sequence[str] = (),
    workers: int = 1,
    save_every: int = 250,
    device: str | None = None,
    wrap: str = "ddp",
    report: Report = print,
) -> Path:
    """Prepare the data if that is not done yet, and learn; arguments left None are the preset's.

    Args:
        model: A preset of `pretraining`.
        data: A folder of prepared places, or whatever `prepare` takes.
        out: Folder of the run.
        steps: Optimiser steps.
        batch: Pairs of views per backward pass, over all processes.
        accumulate: Backward passes per step.
        rate: Highest learning rate.
        precision: `bfloat16` or `float32`.
        checkpoint: Whether activations are recomputed to save memory.
        seed: Of everything random.
        leave_out: Parts of learning that an ablation does without, see `without`.
        workers: Processes that cut views ahead.
        save_every: Steps between saved states.
        device: The best there is if None.
        wrap: `ddp` or `fsdp`, under `torchrun`.
        report: Is told how it goes.

    Returns:
        The folder of weights.

    Raises:
        SkySenseError: As `prepare` and `pretrain`.
    """
    given = {
        "steps": steps,
        "batch": batch,
        "accumulate": accumulate,
        "rate": rate,
        "precision": precision,
        "checkpoint": checkpoint,
    }
    config = replace(pretraining(model), seed=seed)
    config = replace(config, **{k: v for k, v in given.items() if v is not None})
    config = without(config, tuple(leave_out))
    processes.join(best_device(device))
    folder = _prepared(data, out, report)
    return pretrain(
        config,
        folder,
        out,
        workers=workers,
        save_every=save_every,
        device=device,
        wrap=wrap,
        report=report,
    )


def _prepared(data: Sequence[str | Path], out: Path, report: Report) -> Path:
    """The folder of prepared places; made by the first of several processes."""
    if not data:
        raise StackError("There is nothing to learn from: name recipes, shards or stacks.")
    if len(data) == 1 and (Path(data[0]) / "index.json").is_file():
        return Path(data[0])
    folder = out / PLACES
    if parallel.rank() == 0 and not (folder / "index.json").is_file():
        report(f"Preparing places in {folder}.")
        prepare(list(data), folder)
    if parallel.world() > 1:
        dist.barrier()
    return folder
