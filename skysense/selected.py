"""Selected cells as a short text: the grid's size, and one bit per cell.

`128x96:eNpj...` is 128 rows of 96 columns, row by row, eight cells to a byte (the first is the
highest bit), deflated (RFC 1950) and in base64 (RFC 4648). Texts come from files of which nothing is
known, so that nothing is unpacked beyond what the size of the grid allows.
"""

import base64
import binascii
import re
import zlib

import numpy as np

from skysense.checks import shown
from skysense.errors import SessionError

MOST_CELLS = 16_777_216
"""Cells of the largest grid: 4096 by 4096."""

_TEXT = re.compile(r"([1-9]\d{0,7})x([1-9]\d{0,7}):([A-Za-z0-9+/]+={0,2})")


def cells_text(cells: np.ndarray) -> str:
    """Cells, (y, x) bool, as a text; `cells_of` gives them back.

    Raises:
        SessionError: If they are no such array, or more than `MOST_CELLS`.
    """
    if cells.ndim != 2 or cells.dtype != bool or not cells.size:
        raise SessionError(
            f"Selected cells are {cells.dtype} of shape {cells.shape}; give (y, x) bool, at least one."
        )
    rows, columns = cells.shape
    _check_size(rows, columns)
    packed = zlib.compress(np.packbits(cells).tobytes(), 9)
    return f"{rows}x{columns}:{base64.b64encode(packed).decode()}"


def cells_of(text: str) -> np.ndarray:
    """Cells, (y, x) bool, that `cells_text` wrote.

    Raises:
        SessionError: If the text is none of its, or of a grid larger than `MOST_CELLS`.
    """
    found = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise SessionError(
            f"selected={shown(text)} is not ROWSxCOLUMNS and bits in base64; leave it empty."
        )
    rows, columns = int(found[1]), int(found[2])
    _check_size(rows, columns)
    size = -(-rows * columns // 8)
    unpacking = zlib.decompressobj()
    try:
        bits = unpacking.decompress(base64.b64decode(found[3], validate=True), size + 1)
    except (binascii.Error, zlib.error) as error:
        raise SessionError(f"The selected cells are damaged ({error}); leave them out.") from error
    if len(bits) != size or not unpacking.eof or unpacking.unused_data:
        raise SessionError(
            f"The selected cells are not those of a grid of {rows} x {columns}; leave them out."
        )
    cells = np.unpackbits(np.frombuffer(bits, np.uint8), count=rows * columns)
    return cells.astype(bool).reshape(rows, columns)


def _check_size(rows: int, columns: int) -> None:
    if rows * columns > MOST_CELLS:
        raise SessionError(
            f"A selection on a grid of {rows} x {columns} is more than the {MOST_CELLS:,} cells that a "
            "session may hold; leave it out."
        )
