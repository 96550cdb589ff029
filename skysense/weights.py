"""Weights on disk: safetensors plus a config that says what they are, whose, and under what terms.

A checkpoint is a folder with `model.safetensors` and `config.json`. Nothing here unpickles; files
are refused by their header before any memory is taken for their contents.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from skysense.checks import seed_of, shown
from skysense.disk import path_of, writing
from skysense.errors import EncoderError, WeightsError
from skysense.model import (
    PRESETS,
    ModelConfig,
    SkySenseV2Config,
    TemporalModel,
    config_from_json,
    make_model,
)
from skysense.model.init import initialise
from skysense.model.keys import NAMES, to_official
from skysense.tensor_header import read_header

TENSORS, DESCRIPTION = "model.safetensors", "config.json"
FORMAT = "skysense-checkpoint-1"
LARGEST_DESCRIPTION = 2**20
#: Elements checked at once: a bank of prototypes may be larger than memory.
PIECE = 2**22


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model and where it comes from.

    Attributes:
        model: In evaluation mode.
        weights: "sha256:..." of the tensor file.
        licence: Terms of the weights.
        source: Where they come from.
        notes: Whatever a user of the weights should be told.
        path: The folder.
    """

    model: TemporalModel
    weights: str
    licence: str
    source: str
    notes: tuple[str, ...]
    path: Path


def preset(config: ModelConfig | str) -> ModelConfig:
    """A configuration by name, or the one given.

    Raises:
        WeightsError: No preset has this name.
    """
    if isinstance(config, ModelConfig):
        return config
    if not isinstance(config, str) or config not in PRESETS:
        raise WeightsError(
            f"There is no model preset {shown(config)}; the presets are {', '.join(PRESETS)}."
        )
    return PRESETS[config]


def random_id(seed: int) -> str:
    """What stands in place of a hash for weights that were never trained."""
    return f"random(seed={seed})"


UNTRAINED = "Untrained"
"""Begins the note of a checkpoint whose weights are random."""


def build_model(
    config: ModelConfig | str, *, seed: int = 0, device: str | torch.device = "cpu"
) -> TemporalModel:
    """A model with random weights, the same for the same seed on every device.

    Even an untrained model gives features that differ from place to place; see
    `skysense.model.init`.

    Returns:
        The model in evaluation mode.

    Raises:
        WeightsError: No preset has this name, or the seed is not a whole number from 0 to 2³² − 1.
    """
    seed = seed_of(seed, WeightsError)
    model = _empty(preset(config)).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for part, module in _parts(model):
        initialise(module, generator, depth=_depth(model.config, part))
    if model.prototypes is not None:  # its bank is zeros until it sees something
        initialise(model.prototypes, generator)
    model.untrained = random_id(seed)
    return model.to(device).eval()


def _depth(config: ModelConfig, part: str) -> int | None:
    """Layers of a part whose layers are in stages."""
    if isinstance(config, SkySenseV2Config):
        return sum(config.backbone.depths) if part == "backbone" else None
    return sum(config.hr.depths) if part == "hr" else None


def _empty(config: ModelConfig) -> TemporalModel:
    """The model without memory behind its parameters."""
    with torch.device("meta"):
        return make_model(config)


def _parts(model: TemporalModel) -> Iterator[tuple[str, nn.Module]]:
    """Parts that exist, in the order of `config.PARTS`."""
    for name in model.config.parts:
        yield name, getattr(model, name)


def schema(config: ModelConfig | str) -> dict[str, tuple[int, ...]]:
    """Our parameter and buffer names with their shapes, as in `model.safetensors`."""
    return {k: tuple(v.shape) for k, v in _empty(preset(config)).state_dict().items()}


def official_schema(config: ModelConfig | str) -> dict[str, dict[str, tuple[int, ...]]]:
    """For each part the official state-dict keys and shapes, after `skysense.model.keys`.

    The calendar table is part "calendar", with the single key `ctpe`.

    Raises:
        WeightsError: It is a model of which no official weights are known.
    """
    model = _empty(_with_official_names(config))
    return {
        part: {to_official(part, k): tuple(v.shape) for k, v in module.state_dict().items()}
        for part, module in _parts(model)
        if part in NAMES
    }


def _with_official_names(config: ModelConfig | str) -> ModelConfig:
    config = preset(config)
    if isinstance(config, SkySenseV2Config):
        raise WeightsError(
            f"{config.name} is SkySense V2, of which neither code nor weights were published; only V1 "
            "has official names."
        )
    return config


def parameter_counts(config: ModelConfig | str) -> dict[str, int]:
    """Parameters of each part."""
    return {
        part: sum(p.numel() for p in module.parameters())
        for part, module in _parts(_empty(preset(config)))
    }


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal, read piece by piece."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_checkpoint(
    model: TemporalModel, path: Path, *, licence: str, source: str = "", notes: tuple[str, ...] = ()
) -> str:
    """Write a checkpoint folder.

    Args:
        model: The model; its tensors are written as they are.
        path: A folder that does not exist yet, or is empty.
        licence: Terms of the weights, as they must be shown to whoever uses them.
        source: Where the weights come from.
        notes: Whatever a user of the weights should be told. A model of `build_model` that nothing
            was taught says so by itself; training sets `model.untrained = ""`.

    Returns:
        "sha256:..." of the tensor file.

    Raises:
        WeightsError: The licence is empty, the folder holds something or cannot be written, or a
            value is not finite.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if model.untrained:
        notes = (f"{UNTRAINED}: {model.untrained}.", *notes)
    path = path_of(path, WeightsError)
    with writing(path, WeightsError, SafetensorError):
        return write_checkpoint(
            tensors, model.config, path, licence=licence, source=source, notes=notes
        )


def write_checkpoint(
    tensors: Mapping[str, Tensor],
    config: ModelConfig,
    path: Path,
    *,
    licence: str,
    source: str,
    notes: tuple[str, ...],
) -> str:
    """As `save_checkpoint`, from tensors under our names."""
    if not licence.strip():
        raise WeightsError(
            "The weights need a licence: say under which terms they may be used, for example "
            '"non-commercial research only" for the official SkySense weights.'
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise WeightsError(f"{path} exists already; give a folder that is new or empty.")
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not all(
            bool(part.isfinite().all()) for part in tensor.reshape(-1).split(PIECE)
        ):
            raise WeightsError(f"The weight {key} holds NaN or infinite values; it is damaged.")
    path.mkdir(parents=True, exist_ok=True)
    # Written under another name first, so that a folder with a description is always whole.
    unfinished = path / f"{TENSORS}.part"
    save_file(dict(tensors), unfinished, metadata={"format": "pt"})
    unfinished.replace(path / TENSORS)
    digest = file_sha256(path / TENSORS)
    description = {
        "format": FORMAT,
        "licence": licence,
        "source": source,
        "notes": list(notes),
        "sha256": digest,
        "config": json.loads(config.to_json()),
    }
    unfinished = path / f"{DESCRIPTION}.part"
    unfinished.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path / DESCRIPTION)
    return f"sha256:{digest}"


def load_checkpoint(
    path: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Checkpoint:
    """Read a checkpoint folder.

    Args:
        path: A folder that `save_checkpoint` or `skysense convert` wrote.
        device: Where the model goes.
        dtype: Type of the parameters; None = as stored. A bank of prototypes stays as stored and
            in the file: each cell is read when it is needed.

    Raises:
        WeightsError: The folder is incomplete, has no licence, its tensors are not those its
            configuration needs (each is named), or the file is not the one that was described.
    """
    path = path_of(path, WeightsError)
    description, config = _description(path)
    file = path / TENSORS
    found, wanted = read_header(file), schema(config)
    check_names({k: shape for k, (_, shape) in found.items()}, wanted, str(file))
    for key, (kind, _) in found.items():
        if (kind == "BOOL") != key.endswith(".trained") or kind.startswith("I"):
            raise WeightsError(f"{file} stores {key} as {kind}, which no weight of its kind is.")
    digest = file_sha256(file)
    if digest != description["sha256"]:
        raise WeightsError(
            f"{file} has sha256 {digest}, but {DESCRIPTION} was written for "
            f"{description['sha256']}; one of them was changed or replaced."
        )
    model = _empty(config)
    with safe_open(file, framework="pt", device="cpu") as stream:
        state = {k: stream.get_tensor(k) for k in wanted}
    model.load_state_dict(state, assign=True)
    model.requires_grad_(True)
    model = model.to(device=device) if dtype is None else model.to(device=device, dtype=dtype)
    return Checkpoint(
        model.eval(),
        f"sha256:{digest}",
        description["licence"],
        description["source"],
        tuple(description["notes"]),
        path,
    )


def _description(path: Path) -> tuple[dict[str, object], ModelConfig]:
    """The checked contents of `config.json`."""
    file = path / DESCRIPTION
    if not file.is_file():
        raise WeightsError(
            f"{path} is not a checkpoint folder: it has no {DESCRIPTION}. Convert official .pth files "
            "with `skysense convert` first."
        )
    try:
        text = file.read_bytes()[: LARGEST_DESCRIPTION + 1].decode("utf-8")
        values = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{file} is not readable JSON ({error}).") from error
    strings = ("format", "licence", "source", "sha256")
    if (
        not isinstance(values, dict)
        or not all(isinstance(values.get(k), str) for k in strings)
        or not isinstance(values.get("notes"), list)
        or not all(isinstance(n, str) for n in values["notes"])
        or not isinstance(values.get("config"), dict)
    ):
        raise WeightsError(
            f"{file} must hold the strings {', '.join(strings)}, a list of notes and a config."
        )
    if values["format"] != FORMAT:
        raise WeightsError(
            f"{file} has format {values['format']!r}; this version reads {FORMAT!r}."
        )
    if not values["licence"].strip():
        raise WeightsError(f"{file} names no licence; weights without terms are not loaded.")
    try:
        return values, config_from_json(json.dumps(values["config"]))
    except EncoderError as error:
        raise WeightsError(f"{file} holds no usable model configuration: {error}") from error


def official_names(config: ModelConfig | str) -> dict[str, dict[str, str]]:
    """For each part, official key -> our name in `model.safetensors`; errors as `official_schema`."""
    return {
        part: {to_official(part, k): f"{part}.{k}" for k in module.state_dict()}
        for part, module in _parts(_empty(_with_official_names(config)))
    }


def check_names(
    found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Refuse tensors that are missing, unexpected or misshapen, each by name.

    Raises:
        WeightsError: Lists up to ten of each kind.
    """
    kinds = {
        "missing": [k for k in wanted if k not in found],
        "unexpected": [k for k in found if k not in wanted],
        "misshapen": [
            f"{k} {list(found[k])} instead of {list(wanted[k])}"
            for k in wanted
            if k in found and tuple(found[k]) != tuple(wanted[k])
        ],
    }
    if any(kinds.values()):
        listed = "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:10])}{' …' if len(names) > 10 else ''}"
            for kind, names in kinds.items()
            if names
        )
        raise WeightsError(f"{where} does not hold the weights this model needs. {listed}.")
