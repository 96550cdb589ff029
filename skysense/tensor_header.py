"""What a safetensors file says it holds, read and checked before any memory is taken for it."""

import json
import math
from pathlib import Path

from skysense.errors import WeightsError

#: Bytes per element of the types a checkpoint may hold, by their safetensors names.
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "BOOL": 1}
#: No honest header is longer: the full model's is 0.2 MB.
LARGEST_HEADER = 16 * 2**20


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names, types and shapes in a safetensors file, without reading a tensor.

    Raises:
        WeightsError: The file is no safetensors file, or its header does not describe exactly the
            bytes that follow it.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 10 or not 2 <= length <= min(size - 8, LARGEST_HEADER):
                raise WeightsError(
                    f"{path.name} is not a safetensors file: its first eight bytes announce a header "
                    f"of {length} bytes in a file of {size}. It may be another format under this "
                    "name; convert official .pth files with `skysense convert`."
                )
            raw = stream.read(length)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}).") from error
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"The header of {path.name} is not JSON; the file is damaged."
        ) from error
    return _checked_header(path.name, header, size - 8 - length)


def _checked_header(name: str, header: object, room: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Every tensor's type and shape, once all of them fill the file without gap or overlap."""
    if not isinstance(header, dict):
        raise WeightsError(f"The header of {name} is not a table of tensors.")
    out, spans = {}, []
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        fields = entry if isinstance(entry, dict) else {}
        dtype, shape, span = (fields.get(k) for k in ("dtype", "shape", "data_offsets"))
        whole = all(
            isinstance(x, list) and all(type(i) is int and 0 <= i < 2**63 for i in x)
            for x in (shape, span)
        )
        if dtype not in DTYPES or not whole or len(span) != 2:
            raise WeightsError(
                f"{name} describes {key!r} as {str(entry)[:200]}, which is no tensor of a type among "
                f"{', '.join(DTYPES)}."
            )
        if math.prod(shape) * DTYPES[dtype] != span[1] - span[0]:
            raise WeightsError(
                f"{name} gives {key!r} the shape {shape} of {dtype}, but {span[1] - span[0]} bytes."
            )
        out[key] = (dtype, tuple(shape))
        spans.append(tuple(span))
    spans.sort()
    ends = [0, *(end for _, end in spans)]
    if [start for start, _ in spans] != ends[:-1] or ends[-1] != room:
        raise WeightsError(
            f"The tensors {name} describes do not fill its {room} bytes exactly; the file is cut off "
            "or was made to mislead."
        )
    return out
