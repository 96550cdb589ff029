"""Commands of `skysense` about learning: pre-training, and what features are worth."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    model: Annotated[
        str, typer.Argument(help="tiny, v2-tiny, base, paper, v2-paper or v2-paper-moe.")
    ],
    data: Annotated[
        list[str],
        typer.Option(help="Prepared places, or recipes, shards, stacks, folders; repeatable."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted one goes on.")],
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    batch: Annotated[int | None, typer.Option(help="Pairs of views per pass.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Passes per step.")] = None,
    rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    precision: Annotated[str | None, typer.Option(help="bfloat16 or float32.")] = None,
    checkpointing: Annotated[
        bool | None, typer.Option(help="Recompute activations: less memory, more time.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    without: Annotated[
        list[str] | None,
        typer.Option(help="A part to leave out, for ablations; see the documents."),
    ] = None,
    words: Annotated[str | None, typer.Option(help="Folder of a text encoder; V2.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that cut views ahead.")] = 1,
    save_every: Annotated[int, typer.Option(help="Steps between saved states.")] = 250,
    device: Annotated[str, typer.Option(help="cuda, mps or cpu; the best if left out.")] = "",
    wrap: Annotated[str, typer.Option(help="ddp or fsdp, under torchrun.")] = "ddp",
) -> None:
    """Learn without labels, as SkySense does; several processes are started with torchrun."""
    from skysense.pretrain.command import run

    written = run(
        model,
        data,
        out,
        steps=steps,
        batch=batch,
        accumulate=accumulate,
        rate=rate,
        precision=precision,
        checkpoint=checkpointing,
        words=words,
        seed=seed,
        leave_out=without or [],
        workers=workers,
        save_every=save_every,
        device=device or None,
        wrap=wrap,
        report=lambda sentence: typer.echo(sentence, err=True),
    )
    typer.echo(f"written: {written}")


def evaluate(
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of a checkpoint; may be repeated.")
    ] = None,
    encoder: Annotated[
        list[str] | None, typer.Option(help="Name of an encoder that comes with us; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The page; numbers go beside it.")] = Path(
        "docs/evaluation.md"
    ),
    shared: Annotated[Path, typer.Option(help="Folder with labelled sets.")] = Path("../shared"),
    recipes: Annotated[Path, typer.Option(help="Folder of recipes with labels.")] = Path(
        "tests/recipes"
    ),
    merge: Annotated[
        list[Path] | None, typer.Option(help="Numbers of another run to show beside these.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Only tasks with this in the name.")
    ] = None,
    untrained: Annotated[
        bool, typer.Option(help="Also run each trained network with random weights.")
    ] = True,
    against: Annotated[str, typer.Option(help="The run that checkpoints lack a part of.")] = "",
    cache: Annotated[Path | None, typer.Option(help="Where finished scores are kept.")] = None,
    device: Annotated[str, typer.Option(help="cuda, mps or cpu; the best if left out.")] = "",
) -> None:
    """Score encoders on every labelled place at hand, beside null models that know nothing."""
    from skysense.evaluation.command import run

    named = encoder if encoder is not None else [] if checkpoint else ["skysense-tiny"]
    said = run(
        encoders=named,
        checkpoints=checkpoint or [],
        out=out,
        shared=shared,
        recipes=recipes,
        merge=merge or [],
        only=task or [],
        untrained=untrained,
        against=against,
        cache=cache,
        device=device or None,
    )
    typer.echo(f"written: {said}")


COMMANDS: tuple[Callable[..., None], ...] = (pretrain, evaluate)
"""What `skysense.cli` adds to its own."""
