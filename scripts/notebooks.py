"""Run every notebook from its source and keep its pictures.

The source of a notebook is `notebooks/NN_name.py` (jupytext, percent cells). This runs it offline,
in a fresh kernel, and writes `NN_name.ipynb` beside it with static PNG outputs only, so that it
can be read where it cannot be run. `--check` compares the cells of each pair and runs nothing.
"""

import argparse
import base64
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent / "notebooks"

LARGEST = 300_000
"""A notebook with its outputs, in bytes: it is read in the browser and kept for ever."""

COLOURS = 160
"""Colours of a stored picture; a photograph in all its colours would be three times as large."""

TIMEOUT = 180
"""Longest that one cell may take (s)."""

TRANSPORT = "tcp" if sys.platform == "win32" else "ipc"
"""How to talk to the kernel: by files where that is possible, so that no port is open."""


def sources(root: Path = ROOT) -> list[Path]:
    """Notebook sources in reading order."""
    return sorted(root.glob("[0-9][0-9]_*.py"))


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """(kind, text) of every cell, which is what a pair must share."""
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


def differing(root: Path = ROOT) -> list[str]:
    """Names of sources whose notebook has other cells or is not there."""
    faults = []
    for source in sources(root):
        target = source.with_suffix(".ipynb")
        if not target.exists() or cells(jupytext.read(source)) != cells(
            nbformat.read(target, as_version=4)
        ):
            faults.append(source.name)
    return faults


def run(source: Path) -> Path:
    """Execute one notebook and write it beside its source.

    Raises:
        CellExecutionError: If a cell fails.
        ValueError: If a cell warns, or if what is to be stored is too large to commit.
    """
    notebook = jupytext.read(source)
    with TemporaryDirectory() as folder:
        kernel = {"transport": TRANSPORT, "connection_file": str(Path(folder) / "kernel.json")}
        NotebookClient(
            notebook,
            config=Config({"KernelManager": kernel}),
            kernel_name="python3",
            timeout=TIMEOUT,
            coalesce_streams=True,
            resources={"metadata": {"path": str(source.parent)}},
        ).execute()
    notebook.metadata = nbformat.from_dict(
        {
            "jupytext": {"formats": "ipynb,py:percent"},
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        }
    )
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        if cell.cell_type == "code":
            cell.metadata = nbformat.from_dict({})
            kept = [stored(output) for output in cell.outputs]
            cell.outputs = [output for output in kept if output is not None]
    text = nbformat.writes(notebook, version=4)
    if len(text) > LARGEST:
        raise ValueError(
            f"with its outputs it would be {len(text) / 1000:.0f} kB, over "
            f"{LARGEST / 1000:.0f} kB. Make its figures smaller."
        )
    target = source.with_suffix(".ipynb")
    target.write_text(text + "\n", encoding="utf-8")
    return target


def stored(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """An output as it is kept: printed text, a picture or a plain value; None for all else.

    Raises:
        ValueError: If it is a warning.
    """
    if output.output_type == "stream":
        if output.name == "stderr":
            raise ValueError(f"a cell wrote to stderr: {output.text.strip()[-500:]}")
        return output
    if "image/png" in output.data:
        kept = {"image/png": smaller(output.data["image/png"])}
    elif "text/plain" in output.data and output.output_type == "execute_result":
        kept = {"text/plain": output.data["text/plain"]}
    else:
        return None
    output.data, output.metadata = nbformat.from_dict(kept), nbformat.from_dict({})
    return output


def smaller(png: str) -> str:
    """A picture (PNG in base64) with at most `COLOURS` colours."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    image = image.quantize(COLOURS, dither=Image.Dither.NONE)
    file = io.BytesIO()
    image.save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or check all notebooks, one line for each; 1 if any is not in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the pairs, run nothing")
    if parser.parse_args(arguments).check:
        for name in differing():
            print(f"{name}: the notebook beside it has other cells; run `make notebooks`")
        return int(bool(differing()))
    failed = False
    for source in sources():
        started = time.perf_counter()
        try:
            size = run(source).stat().st_size
        except (CellExecutionError, CellTimeoutError, DeadKernelError, ValueError) as error:
            print(f"{source.stem}: FAILED: {error}", flush=True)
            failed = True
        else:
            took = time.perf_counter() - started
            print(f"{source.stem}: {took:.0f} s, {size / 1000:.0f} kB", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
