"""Reads pickled checkpoints in a process of its own; run by path, never imported.

Usage: `python -I unpickle.py MEMORY_BYTES CPU_SECONDS (CHECKPOINT FOLDER)...`. It imports nothing of
this package. torch's restricted unpickler (`weights_only=True`) is used and nothing else; there is
no fallback. Each folder receives `result.json` and, if all went well, `tensors.safetensors` with
every tensor of the state dict, floating ones as float32. It stops at the first refusal.
"""

import json
import pickle
import resource
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

#: Keys under which a checkpoint may keep its state dict.
NESTS = ("model", "state_dict")
#: A file may be this much smaller than the tensors it describes (bytes).
SLACK = 2**20


class Refused(Exception):  # noqa: N818 -- an answer, not a failure
    """The file will not be used; the first argument is the answer."""


def load(source: Path, size: int) -> object:
    """Unpickle tensors, numbers and strings; anything else is refused before it is made."""
    zipped = zipfile.is_zipfile(source)
    if zipped:
        with zipfile.ZipFile(source) as archive:
            inflated = sum(entry.file_size for entry in archive.infolist())
        if inflated > size + SLACK:
            raise Refused({"refused": f"it unpacks to {inflated} bytes from {size}"})
        if unsafe := torch.serialization.get_unsafe_globals_in_checkpoint(source):
            raise Refused({"unsafe": sorted(unsafe)})
    try:
        return torch.load(source, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        # The first sentences advise loading without the restriction; the last names the cause.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = next((line for line in lines if "WeightsUnpickler error" in line), lines[-1])
        raise Refused({"refused": cause}) from error


def state_of(loaded: object, size: int) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """The plain dense tensors of the state dict, and what was beside them."""
    if not isinstance(loaded, Mapping):
        raise Refused({"refused": f"it holds a {type(loaded).__name__}, not a table of tensors"})
    nest = next((n for n in NESTS if isinstance(loaded.get(n), Mapping)), None)
    state = loaded if nest is None else loaded[nest]
    beside = [] if nest is None else [str(k) for k in loaded if k != nest]
    tensors = {str(k): v for k, v in state.items() if isinstance(v, torch.Tensor)}
    others = [str(k) for k, v in state.items() if not isinstance(v, torch.Tensor)]
    # A few bytes can describe a tensor of any size by repeating its elements.
    if sum(t.numel() * t.element_size() for t in tensors.values()) > size + SLACK:
        raise Refused({"refused": "its tensors claim more bytes than the file has"})
    for key, tensor in tensors.items():
        plain = tensor.layout == torch.strided and not tensor.is_meta
        if not plain or tensor.is_quantized or tensor.is_complex():
            raise Refused({"refused": f"{key} ({tensor.dtype}) is not a plain dense tensor"})
    return tensors, {"nest": nest, "beside": beside, "others": others}


def main(source: Path, folder: Path) -> dict[str, object]:
    """Read, flatten and write; the result says what happened."""
    size = source.stat().st_size
    try:
        tensors, result = state_of(load(source, size), size)
    except Refused as refusal:
        return refusal.args[0]
    written, seen = {}, set()
    for key, tensor in tensors.items():
        value = tensor.detach()
        value = value.to(torch.float32) if value.is_floating_point() else value
        value = value.contiguous()
        storage = value.untyped_storage()
        # One storage per tensor, no larger than it, is what the format asks for.
        if storage.nbytes() != value.nbytes or storage.data_ptr() in seen:
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        written[key] = value
    save_file(written, folder / "tensors.safetensors")
    return result


if __name__ == "__main__":
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for given, into in zip(map(Path, sys.argv[3::2]), map(Path, sys.argv[4::2]), strict=True):
        answer = main(given, into)
        (into / "result.json").write_text(json.dumps(answer), encoding="utf-8")
        if "refused" in answer or "unsafe" in answer:
            break
