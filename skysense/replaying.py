"""A session played again: images loaded, features made with the same choices, and compared."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import xarray as xr

from skysense.checks import shown
from skysense.embedding import embed
from skysense.encoders import Encoder, load_encoder
from skysense.errors import SessionError
from skysense.hashes import feature_hash
from skysense.notebook import SEEDED
from skysense.session import Session, SessionChoices, SessionPlace
from skysense.session_file import is_path
from skysense.sources import load_stack

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Replayed:
    """What a session was made of, made again."""

    stacks: dict[str, xr.DataTree]
    """By name of the place."""
    features: dict[str, xr.DataArray]


def replay(session: Session, progress: Progress | None = None) -> Replayed:
    """Load and encode every place of a session that had features (all where none had) as it was.

    Args:
        session: From `open_session`.
        progress: Called with (done, total, sentence) for every place.

    Returns:
        Stacks and features by name of the place.

    Raises:
        SessionError: If weights or features come out differently from what was recorded.
        SkySenseError: Whatever `load_stack`, `load_encoder` and `embed` raise.
    """
    if not isinstance(session, Session):
        raise SessionError(f"{shown(session)} is not a session; open one with open_session(path).")
    choices = session.choices
    encoder = encoder_of(choices)
    stacks, features = {}, {}
    with _threads(choices.threads):
        for place in session.encoded:
            stacks[place.name] = stack = stack_of(place)
            features[place.name] = embed(
                stack,
                encoder,
                resolution=choices.resolution,
                dates=choices.dates,
                batch_size=choices.batch_size,
                memory_gb=choices.memory_gb,
                progress=progress,
            )
            check_hash(place, features[place.name])
    return Replayed(stacks, features)


def encoder_of(choices: SessionChoices) -> Encoder:
    """The encoder of a session, with the same weights.

    Raises:
        SessionError: If its weights are others than those that were recorded.
    """
    seeded = SEEDED.fullmatch(choices.weights)
    encoder = load_encoder(
        choices.encoder,
        path=choices.checkpoint or None,
        device=choices.device,
        precision=choices.dtype,
        seed=int(seeded[1]) if seeded else 0,
        merge=choices.merge or None,
    )
    if choices.weights and encoder.weights != choices.weights:
        raise SessionError(
            f"The session was made with the weights {choices.weights}, but {choices.encoder} has "
            f"{encoder.weights} here. Give the folder of the same weights."
        )
    return encoder


def stack_of(place: SessionPlace) -> xr.DataTree:
    """The images of a place, as `load_stack` gives them."""
    saved = is_path(place.source) and place.source.rstrip("/").endswith(".zarr")
    region = None if saved else place.region  # a saved stack is opened whole
    return load_stack(region, place.sensors, place.source, scene=place.scene)


def check_hash(place: SessionPlace, features: xr.DataArray) -> None:
    """Raise `SessionError` unless these are the features that were recorded, if any were."""
    made = feature_hash(features)
    if place.features and made != place.features:
        raise SessionError(
            f"The features of {place.name!r} are not those of the session: {made} instead of "
            f"{place.features}. The images, the weights, the package's version or the machine is "
            "another one."
        )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
