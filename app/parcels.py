"""Python values between two processes of ours, over a pipe; large arrays over files that are mapped.

A parcel is a short head, which is read at once, and a value, which is unpacked when it is asked
for: unpacking may import libraries, and who only carries parcels need not wait for that. Pickle,
so only for a pipe whose other end is our own child.
"""

import mmap
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import cloudpickle

LARGE = 1_000_000
"""Arrays of at least so many bytes travel as files, if there is a folder for them."""

_LENGTH = 8


def send(stream: BinaryIO, head: tuple, value: Any = None, folder: Path | None = None) -> None:
    """Write one parcel.

    Nothing is written if the value cannot be packed, so that the stream stays readable.

    Args:
        stream: The pipe.
        head: A few small values.
        value: Anything; functions of modules go by name, those of scripts and closures as code.
        folder: Where large arrays are left for the other end; None to send them through the pipe.

    Raises:
        OSError: If the other end is gone, or the folder is full.
    """
    buffers: list[pickle.PickleBuffer] = []
    body = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    raw = [each.raw() for each in buffers]
    places = [_left(each, folder) if folder and each.nbytes >= LARGE else "" for each in raw]
    sizes = [each.nbytes for each in raw]
    plan = pickle.dumps((head, len(body), list(zip(sizes, places, strict=True))))
    stream.write(len(plan).to_bytes(_LENGTH, "little") + plan)
    stream.write(body)
    for each, place in zip(raw, places, strict=True):
        if not place:
            stream.write(each)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[tuple, Callable[[], Any]]:
    """Read one parcel: its head, and what unpacks its value.

    Arrays that came as files are mapped, not read, and the files have no name any more; what is
    written into such an array changes this process's copy only.

    Raises:
        EOFError: If the other end is gone.
    """
    head, length, plan = pickle.loads(_exactly(stream, _length(stream)))
    body = _exactly(stream, length)
    buffers = [_taken(place, size) if place else _exactly(stream, size) for size, place in plan]
    return head, lambda: pickle.loads(body, buffers=buffers)


def _left(values: memoryview, folder: Path) -> str:
    handle, name = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(values)
    except OSError:
        Path(name).unlink()
        raise
    return name


def _taken(place: str, size: int) -> mmap.mmap:
    path = Path(place)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    if os.name == "posix":  # elsewhere a mapped file cannot be removed: its folder is, at the end
        path.unlink()
    return mapped


def _length(stream: BinaryIO) -> int:
    return int.from_bytes(_exactly(stream, _LENGTH), "little")


def _exactly(stream: BinaryIO, size: int) -> bytearray:
    """So many bytes, in memory that may be written to."""
    values = bytearray(size)
    view, got = memoryview(values), 0
    while got < size:
        count = stream.readinto(view[got:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        got += count
    return values
