"""Paths and what is kept at them: written whole or not at all, read back whole or not at all.

Everything that goes wrong with a disk becomes the border's own error, a sentence with the path.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr

from skysense.checks import Kind, shown
from skysense.errors import SkySenseError


def path_of(value: Any, error: Kind, name: str = "path") -> Path:
    """A path from text or a path-like object, at which one can look."""
    if not isinstance(value, str | os.PathLike) or "\0" in str(value):
        raise error(f"{name}={shown(value)} is not a path; give text or a pathlib.Path.")
    path = Path(value)
    try:
        path.exists()
    except OSError as fault:  # a name too long, a folder that may not be looked into
        raise error(f"{name}={shown(value)} cannot be used: {_said(fault)}.") from fault
    return path


@contextmanager
def writing(path: Path, error: Kind, *also: type[Exception]) -> Iterator[None]:
    """Turn what the system refuses into a sentence with the path.

    Args:
        path: What is being written.
        error: The kind to raise.
        also: What a library raises in place of OSError.
    """
    try:
        yield
    except (OSError, *also) as fault:
        raise error(
            f"{path} cannot be written: {_said(fault)}. Choose another place, or make room there."
        ) from fault


@contextmanager
def written(path: Path, error: Kind, *also: type[Exception]) -> Iterator[Path]:
    """Where to write what belongs at `path`: beside it, renamed once all is there.

    A killed run leaves no half file under the name, a failed one leaves nothing; what was there
    before is replaced only by the rename. Errors as for `writing`.
    """
    partial = path.with_name(path.name + ".partial")
    with writing(path, error, *also):
        try:
            _remove(partial)
            yield partial
            if path.is_dir() or partial.is_dir():
                _remove(path)
            partial.replace(path)  # a file takes the old one's place at once
        finally:
            _remove(partial)


@contextmanager
def reading(path: Path, error: Kind, what: str) -> Iterator[None]:
    """Turn whatever a damaged file makes its libraries raise into one sentence with its path."""
    try:
        yield
    except SkySenseError:
        raise
    except Exception as fault:
        raise error(
            f"{path} cannot be opened as {what}: {_said(fault)}. It is damaged or something else; "
            "write it again."
        ) from fault


WHOLE = "written_whole"
"""Attribute of a Zarr store written with every chunk: the names of its groups."""


def check_whole(path: Path, error: Kind) -> None:
    """Refuse a Zarr store that lost a file, where Zarr itself reads the fill value.

    Says nothing about stores without the attribute `WHOLE`, whose empty chunks have no file.
    """
    import zarr

    store = zarr.open_group(path, mode="r")
    parts = store.attrs.get(WHOLE)
    if not isinstance(parts, list):
        return
    lost = [f"the group {name}" for name in parts if name not in store]
    for name, part in store.members(max_depth=None):
        if isinstance(part, zarr.Array):
            chunks = path / name / "c"
            there = sum(len(files) for _, _, files in os.walk(chunks)) + chunks.is_file()
            if there < part.nchunks:
                lost.append(f"{part.nchunks - there} of the {part.nchunks} files of {name}")
    if lost:
        raise error(
            f"{path} has lost {', '.join(lost)}: it was copied in part, or damaged. Copy or write "
            "it again."
        )


def lazily(variable: xr.Variable, path: Path, error: Kind, name: str) -> xr.Variable:
    """A variable of a store opened with `chunks=None`, as dask; see `_Careful`."""
    careful = _Careful(variable, path, name, error)
    empty = np.empty((0,) * variable.ndim, variable.dtype)
    chunks = variable.encoding["chunks"]
    values = dask.array.from_array(careful, chunks, name=False, meta=empty)
    return xr.Variable(variable.dims, values, variable.attrs)


class _Careful:
    """An array on disk whose damaged pieces are named when they are read."""

    def __init__(self, variable: xr.Variable, path: Path, name: str, error: Kind) -> None:
        self.variable, self.path, self.name, self.error = variable, path, name, error
        self.shape, self.dtype, self.ndim = variable.shape, variable.dtype, variable.ndim

    def __getitem__(self, key: Any) -> Any:
        with reading(self.path / self.name, self.error, "a part of its store"):
            return self.variable[key].values


def _said(fault: Exception) -> str:
    """What the system said, without its number and without repeating the path."""
    said = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
    return " ".join(said.split())[:200].rstrip(".")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
