"""Commands of `skysense` about what is kept: packs and notebooks of sessions."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

Stored = Annotated[Path, typer.Argument(help="A session written by the dashboard or save_session.")]
Folders = Annotated[
    list[Path] | None,
    typer.Option("--folder", help="Where its images and weights may lie; may be repeated."),
]
Catalogues = Annotated[
    list[str] | None,
    typer.Option("--catalogue", help="Address of a STAC catalogue to trust; may be repeated."),
]


def pack(
    session: Stored,
    out: Annotated[Path, typer.Option(help="New folder of the pack.")],
    folder: Folders = None,
    catalogue: Catalogues = None,
) -> None:
    """Play a session again and keep it with images and features as one folder for a class."""
    from skysense.errors import SessionError
    from skysense.pack import save_pack
    from skysense.replaying import replay as run
    from skysense.session_file import open_session

    opened = open_session(session, folder or (), catalogue or ())
    if out.exists():  # before the work, not after it
        raise SessionError(f"{out} is already there. Choose another name or remove it first.")
    made = run(opened, lambda done, total, sentence: typer.echo(sentence, err=True))
    typer.echo(f"written: {save_pack(opened, out, made.stacks, made.features)}")


def replay(
    session: Stored,
    out: Annotated[Path, typer.Option(help="Notebook to write: .ipynb.")],
    folder: Folders = None,
    catalogue: Catalogues = None,
) -> None:
    """Write a notebook that plays a session again and checks that its features are the same."""
    from skysense.notebook import save_notebook
    from skysense.session_file import open_session

    opened = open_session(session, folder or (), catalogue or ())
    typer.echo(f"written: {save_notebook(opened, out)}")


COMMANDS: tuple[Callable[..., None], ...] = (pack, replay)
"""What `skysense.cli` adds to its own."""
