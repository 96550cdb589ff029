"""`skysense pretrain`: from names of places to a folder of weights."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from skysense.encoders import best_device
from skysense.errors import Cancelled, StackError
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
    words: str | None = None,
    seed: int = 0,
    leave_out: Sequence[str] = (),
    workers: int = 1,
    save_every: int = 250,
    device: str | None = None,
    wrap: str = "ddp",
    report: Report = print,
) -> Path:
    """Prepare the data if that is not done yet, and learn; arguments left None are the preset's.

    Ctrl-C and SIGTERM end the step at hand and save the state; a second one stops at once.

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
        words: Folder of a text encoder for the names of classes.
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
        KeyboardInterrupt: It was stopped, and said so.
    """
    given = {
        "steps": steps,
        "batch": batch,
        "accumulate": accumulate,
        "rate": rate,
        "precision": precision,
        "checkpoint": checkpoint,
        "words": words,
    }
    config = replace(pretraining(model), seed=seed)
    config = replace(config, **{k: v for k, v in given.items() if v is not None})
    config = without(config, tuple(leave_out))
    with processes.together(best_device(device)):
        folder = _prepared(data, out, report)
        try:
            with stopping(report) as wished:
                return pretrain(
                    config,
                    folder,
                    out,
                    workers=workers,
                    save_every=save_every,
                    device=device,
                    wrap=wrap,
                    report=report,
                    cancelled=wished,
                )
        except Cancelled as stopped:
            if parallel.rank() == 0:
                report(str(stopped))
            raise KeyboardInterrupt from stopped


@contextlib.contextmanager
def stopping(report: Report) -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM as a wish to stop, once; the next one means what it always does.

    Yields:
        Whether it was wished. In a thread other than the first, which hears no signals, it never is.
    """
    before, wished = {}, []

    def hear(*_: object) -> None:
        wished.append(True)
        as_before()
        if parallel.rank() == 0:
            report("Stopping after this step; once more stops at once.")

    def as_before() -> None:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    if threading.current_thread() is threading.main_thread():
        before |= {n: signal.signal(n, hear) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(wished)
    finally:
        as_before()


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
    processes.wait()
    return folder
