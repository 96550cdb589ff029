"""A run on disk: enough to go on after `kill -9` as if nothing had happened.

Tensors are safetensors, the rest is JSON; both are written under another name and renamed, so what
is there is always whole. No generator is stored: everything random is a function of the step. Nor does it
matter how many processes learn, or how they share the student: tensors are written whole.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from skysense.errors import WeightsError
from skysense.pretrain.parallel import rank, shared_like, whole

TENSORS, NUMBERS = "state.safetensors", "state.json"
FORM = "skysense pre-training 1"


def save_state(
    folder: Path,
    step: int,
    student: nn.Module,
    teacher: nn.Module,
    optimiser: torch.optim.Optimizer,
    facts: Mapping[str, Any],
) -> None:
    """Write the run as it is after `step` steps. All processes must call it; the first one writes.

    Args:
        folder: Of the run; the state before this one is replaced.
        step: Steps made.
        student: The network that learns, with its heads.
        teacher: Its moving average; buffers both share are stored once.
        optimiser: AdamW over the student's parameters.
        facts: What must be equal for the run to go on: its configuration and its data.
    """
    tensors = {f"student.{k}": v for k, v in student.state_dict().items()}
    tensors |= {f"teacher.{k}": v for k, v in teacher.named_parameters()}
    for name, parameter in student.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{key}.{name}"] = torch.as_tensor(value)
    plain = {}
    for key, share in tensors.items():
        value = whole(share.detach())
        if rank() == 0:
            plain[key] = value.cpu().contiguous().clone()
    if rank():
        return
    unfinished = folder / f"{TENSORS}.part"
    # The step is inside too: a kill between the two renames must not pair new with old.
    save_file(plain, unfinished, metadata={"step": str(step)})
    unfinished.replace(folder / TENSORS)
    unfinished = folder / f"{NUMBERS}.part"
    unfinished.write_text(json.dumps({"form": FORM, **facts}, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(folder / NUMBERS)


def load_state(
    folder: Path,
    student: nn.Module,
    teacher: nn.Module,
    optimiser: torch.optim.Optimizer,
    facts: Mapping[str, Any],
) -> int:
    """Put a run back where it was.

    Returns:
        Steps made; 0 where nothing was saved yet.

    Raises:
        WeightsError: If the state is damaged, or belongs to another configuration or other data.
    """
    if not (folder / TENSORS).is_file():
        return 0
    before = _numbers(folder)
    strangers = [key for key in facts if before.get(key) != facts[key]]
    if strangers:
        raise WeightsError(
            f"{folder} holds a run with another {' and another '.join(strangers)}. Go on with the same "
            "options, or give a new folder with --out."
        )
    try:
        tensors, step = load_file(folder / TENSORS), _step(folder)
        own = student.state_dict()
        given = _under(tensors, "student.")
        student.load_state_dict(
            {key: shared_like(value, own.get(key, value)) for key, value in given.items()}
        )
        with torch.no_grad():
            averages = _under(tensors, "teacher.")
            for name, parameter in teacher.named_parameters():
                parameter.copy_(averages[name])
        for name, parameter in student.named_parameters():
            kept = {
                key: tensors[f"optimiser.{key}.{name}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"optimiser.{key}.{name}" in tensors
            }
            if kept:
                optimiser.state[parameter] = {
                    key: value if key == "step" else shared_like(value, parameter)
                    for key, value in kept.items()
                }
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"{folder / TENSORS} cannot be read as this run's state ({error}). Give a new folder "
            "with --out to begin again."
        ) from error
    return step


def _numbers(folder: Path) -> dict[str, Any]:
    file = folder / NUMBERS
    try:
        numbers = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file} cannot be read ({error}); the run cannot go on.") from error
    if not isinstance(numbers, dict) or numbers.get("form") != FORM:
        raise WeightsError(f"{file} does not describe a pre-training run of this version.")
    return numbers


def _step(folder: Path) -> int:
    from safetensors import safe_open

    with safe_open(folder / TENSORS, framework="pt") as file:
        return int((file.metadata() or {})["step"])


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
