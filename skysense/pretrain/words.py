"""What classes are called, in numbers: a fixed table that stands for a text encoder.

SkySense V2 aligns fused features with the CLIP embeddings of class names. A text encoder is larger than
all of `v2-tiny`, and of eight classes it tells little more than which of them are alike. That is written
down here instead: each class of the synthetic scenes is answered ten questions, yes is 1 and no is -1,
and the answers, scaled to length 1, are its vector. Two classes are as near as they have answers in
common. Nothing is drawn at random. Whoever has the files of a text encoder may name their folder.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from skysense.errors import EncoderError

ATTRIBUTES = (
    "vegetated",
    "woody",
    "tilled",
    "wet",
    "built",
    "tall",
    "changing with the seasons",
    "green in winter",
    "green in spring",
    "green in summer",
)
"""The questions."""

_YES: dict[str, tuple[str, ...]] = {
    "water": ("wet",),
    "built-up": ("built", "tall"),
    "bare soil": ("tilled",),
    "grass": ("vegetated", "green in winter", "green in spring", "green in summer"),
    "maize": ("vegetated", "tilled", "changing with the seasons", "green in summer"),
    "winter wheat": (
        "vegetated", "tilled", "changing with the seasons", "green in winter", "green in spring",
    ),
    "deciduous forest": (
        "vegetated", "woody", "tall", "changing with the seasons", "green in summer",
    ),
    "conifers": (
        "vegetated", "woody", "tall", "green in winter", "green in spring", "green in summer",
    ),
}  # fmt: skip

CLASSES = tuple(_YES)
"""Names of the classes that labels count, by index: those of the synthetic scenes."""


def table(encoder: str = "", names: Sequence[str] = CLASSES) -> Float[Tensor, "k w"]:
    """One unit vector per class name.

    Args:
        encoder: Folder of a text encoder that the package sentence-transformers reads, CLIP's among
            them; empty = our own table. Nothing is downloaded.
        names: Of `CLASSES`.

    Raises:
        EncoderError: For a name that is not in `CLASSES`, a folder that holds no text encoder, or if
            sentence-transformers is not installed.
    """
    if unknown := [name for name in names if name not in _YES]:
        raise EncoderError(
            f"There are no words for {', '.join(map(repr, unknown))}; there are for "
            f"{', '.join(CLASSES)}."
        )
    if encoder:
        return _encoded(encoder, names)
    answers = [[1.0 if a in _YES[name] else -1.0 for a in ATTRIBUTES] for name in names]
    return torch.nn.functional.normalize(torch.tensor(answers), dim=-1)


def _encoded(encoder: str, names: Sequence[str]) -> Tensor:
    """What a text encoder on this disk makes of names."""
    if not Path(encoder).is_dir():
        raise EncoderError(
            f"There is no folder {encoder} to read a text encoder from. Name one that holds its files, or "
            "leave words out for the table of the package."
        )
    try:
        from sentence_transformers import (  # pyright: ignore[reportMissingImports]
            SentenceTransformer,
        )
    except ImportError as error:
        raise EncoderError(
            "A text encoder needs sentence-transformers, which is not installed. Run "
            "pip install 'skysense[text]', or leave words out for the table of the package."
        ) from error
    try:
        read = SentenceTransformer(encoder, device="cpu", local_files_only=True)
        vectors = torch.as_tensor(read.encode(list(names), show_progress_bar=False))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{encoder} cannot be read as a text encoder: {error}.") from error
    return torch.nn.functional.normalize(vectors.to(torch.get_default_dtype()), dim=-1)
