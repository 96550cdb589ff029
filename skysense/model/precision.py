"""Which floating-point type pays on this machine: a short self-test, run once and remembered."""

import copy
import json
import platform
import time
from pathlib import Path

import platformdirs
import torch

from skysense.errors import EncoderError
from skysense.model.layers import Layer

#: bfloat16 must be at least this much faster to be worth its three decimal digits.
WORTH = 1.3
#: A probe whose bfloat16 result is further than this from float32 speaks of a broken kernel.
TOLERANCE = 0.05
_known: dict[str, torch.dtype] = {}


def choose_dtype(device: torch.device | str, *, override: str = "auto") -> torch.dtype:
    """The type in which to run a model on a device.

    One transformer layer (width 512, 1024 tokens) is timed in float32 and in bfloat16. The answer
    is kept for this process, and on disk under the user's cache folder for this torch version and
    processor; deleting the file there runs the test again.

    Args:
        device: Where the model will run.
        override: "float32" or "bfloat16" to decide without a test; "auto" to test.

    Returns:
        `torch.bfloat16` if it is at least 1.3 times as fast and agrees with float32 to 5 %, else
        `torch.float32`.

    Raises:
        EncoderError: `override` is something else.
    """
    fixed = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if override in fixed:
        return fixed[override]
    if override != "auto":
        raise EncoderError(
            f'The precision {override!r} is unknown; use "auto", "float32" or "bfloat16".'
        )
    device = torch.device(device)
    key = f"{torch.__version__} {device.type} {_device_name(device)}"
    if key not in _known:
        file = Path(platformdirs.user_cache_dir("skysense")) / "precision.json"
        stored = _read(file)
        if stored.get(key) not in fixed:
            stored[key] = "bfloat16" if _pays(device) else "float32"
            _write(file, stored)
        _known[key] = fixed[stored[key]]
    return _known[key]


def _device_name(device: torch.device) -> str:
    """The processor or graphics card by name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if device.type == "cpu" and info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        flags = next((line for line in lines if line.startswith("flags")), "")
        wide = "with bfloat16" if "bf16" in flags else "without bfloat16"
        return f"{names[0] if names else platform.machine()} {wide}"
    return platform.processor() or platform.machine()


@torch.inference_mode()
def _pays(device: torch.device) -> bool:
    """Whether a layer in bfloat16 is clearly faster than in float32, and right."""
    if device.type not in ("cpu", "cuda"):
        return False
    generator = torch.Generator().manual_seed(0)
    layer = Layer(512, 8, 4.0, 0.0, 1e-5).eval().to(device)
    x = torch.randn(4, 256, 512, generator=generator).to(device)
    short, y = copy.deepcopy(layer).to(torch.bfloat16), x.to(torch.bfloat16)
    found, expected = short(y).float(), copy.deepcopy(short).float()(x)  # the same rounded weights
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(7):
        # Turn by turn, and the best of each: other work on the machine then harms neither.
        seconds[torch.float32].append(_time(layer, x))
        seconds[torch.bfloat16].append(_time(short, y))
    close = (found - expected).norm() <= TOLERANCE * expected.norm()
    return bool(close) and min(seconds[torch.float32]) >= WORTH * min(seconds[torch.bfloat16])


def _time(layer: Layer, x: torch.Tensor) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    layer(x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start


def _read(file: Path) -> dict[str, str]:
    """Earlier answers; none if the file is missing or damaged."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _write(file: Path, values: dict[str, str]) -> None:
    """Keep the answers; a cache that cannot be written only costs the test again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        unfinished.write_text(json.dumps(values, indent=1), encoding="utf-8")
        unfinished.replace(file)
    except OSError:
        return
