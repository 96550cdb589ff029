"""The encoders that come with us, by name."""

from pathlib import Path
from typing import Any

import torch

from skysense.checks import choice, seed_of, shown
from skysense.errors import EncoderError
from skysense.model.precision import choose_dtype
from skysense.network import SkySenseEncoder
from skysense.protocol import (
    FIRST_CELL,
    STRIDES,
    VALID_SHARE,
    Encoder,
    best_device,
    cells_of,
    normalised,
    token_validity,
)
from skysense.spectral import SpectralBaseline
from skysense.weights import build_model, load_checkpoint, random_id

__all__ = [
    "FAMILIES",
    "FIRST_CELL",
    "NAMES",
    "SHIPPED",
    "STRIDES",
    "VALID_SHARE",
    "Encoder",
    "SkySenseEncoder",
    "SpectralBaseline",
    "best_device",
    "cells_of",
    "load_encoder",
    "normalised",
    "token_validity",
]

FAMILIES = {
    "skysense-tiny": ("tiny",),
    "skysense-base": ("base",),
    "skysense-v1": ("paper",),
    "skysense-v2-tiny": ("v2-tiny",),
    "skysense-v2": ("v2-paper", "v2-paper-moe"),
}
"""Encoders that can be loaded from a checkpoint, and the presets it may have."""

_SHIPPED = Path(__file__).parent / "shipped"
SHIPPED = {
    name: _SHIPPED / name
    for name in ("skysense-tiny", "skysense-v2-tiny")
    if (_SHIPPED / name).is_dir()
}
"""Trained weights that come with the package: checkpoint folders, each with a card and a data list."""

NAMES = (
    "spectral",
    *SHIPPED,
    "skysense-tiny-untrained",
    "skysense-base",
    "skysense-v1",
    "skysense-v2-tiny-untrained",
    "skysense-v2",
)

NEEDS_PATH = {
    "skysense-v1": "skysense-v1 needs path=, the folder that `skysense convert FILES --out DIR` wrote "
    "from the official files; they are for non-commercial research and are never shipped here.",
    "skysense-v2": "skysense-v2 needs path=, a folder that `skysense pretrain` wrote: no weights of "
    "SkySense V2 were ever published. skysense-v2-tiny-untrained shows what it is made of.",
    "skysense-v2-tiny": "skysense-v2-tiny does not come with this version; give path=, a folder that "
    "`skysense pretrain v2-tiny` wrote, or load skysense-v2-tiny-untrained.",
}
"""What to say of encoders that have no weights of their own here."""


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def load_encoder(
    name: str,
    *,
    path: str | Path | None = None,
    device: str | None = None,
    precision: str = "auto",
    seed: int = 0,
    merge: Any = None,
) -> Encoder:
    """An encoder by name, ready to run on the best device.

    Args:
        name: `spectral` (percentiles, no weights); `skysense-tiny` (small, trained, shipped with
            the package); `skysense-tiny-untrained` (such layers with random weights: a null
            model) and `skysense-base` (random weights too: nobody trained it), of which every
            picture says *untrained*; `skysense-v1` (the official weights, from `path`);
            `skysense-v2-tiny` (trained, where this version ships it, else from `path`),
            `skysense-v2-tiny-untrained` and `skysense-v2` (from `path`), one backbone for all sensors.
        path: Folder written by `skysense convert` or `skysense pretrain`; required for
            `skysense-v1` and `skysense-v2`, and for the others instead of their own weights.
        device: `cuda`, `mps`, `cpu`; the best there is if None.
        precision: `auto` (bfloat16 only where a short self-test shows that it pays), `float32`,
            `bfloat16`, `float64`.
        seed: Of random weights, 0 to 2³² − 1; trained ones have none.
        merge: SkySense V2 only: whether tokens of high resolution are merged before stages 2, 3 and
            4, such as (True, True, False) or "2,3"; all of them if None. Less is finer, and slower.

    Raises:
        EncoderError: For an unknown name, device, precision or schedule, a seed that is none, or one
            for trained weights.
        WeightsError: If the folder does not hold a complete, safe checkpoint.
    """
    if not isinstance(name, str) or name not in {*NAMES, *FAMILIES}:
        raise EncoderError(f"There is no encoder {shown(name)}; there are {', '.join(NAMES)}.")
    choice("precision", precision, ("auto", *PRECISIONS), EncoderError)
    seed = seed_of(seed, EncoderError)
    if path is not None and (name == "spectral" or name.endswith("-untrained")):
        raise EncoderError(f"{name} has no weights to load; leave path={shown(path)} out.")
    where = best_device(device)
    if name == "spectral":
        if merge is not None:
            raise EncoderError(f"{name} merges no tokens; leave merge={shown(merge)} out.")
        exact = precision == "float64"
        return SpectralBaseline(device, torch.float64 if exact else torch.float32)
    dtype = choose_dtype(where) if precision == "auto" else PRECISIONS[precision]
    path = SHIPPED.get(name) if path is None else path
    if path is not None:
        if seed:
            random = f"skysense-{'v2-' if name.startswith('skysense-v2') else ''}tiny-untrained"
            raise EncoderError(
                f"{name} is trained, so seed={seed} would change nothing; leave it out, or load {random}."
            )
        checkpoint = load_checkpoint(path)
        family = checkpoint.model.config.name
        if family not in FAMILIES[name]:
            raise EncoderError(
                f"{path} holds a {family!r} model, but {name} is {' or '.join(map(repr, FAMILIES[name]))}. "
                f"Load it by its own name ({', '.join(FAMILIES)})."
            )
        return SkySenseEncoder(
            checkpoint.model,
            name=name,
            weights=checkpoint.weights,
            licence=checkpoint.licence,
            notes=checkpoint.notes,
            device=device,
            dtype=dtype,
            merge=merge,
        )
    if name in NEEDS_PATH:
        raise EncoderError(NEEDS_PATH[name])
    preset = name.removeprefix("skysense-").removesuffix("-untrained")
    return SkySenseEncoder(
        build_model(preset, seed=seed),
        name=name,
        weights=random_id(seed),
        licence="Apache-2.0 (random numbers, nothing learnt)",
        device=device,
        dtype=dtype,
        merge=merge,
    )
