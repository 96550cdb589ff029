"""What an encoder is, and what all of them share: spacings, statistics, gaps, devices.

Anything with the few attributes of `Encoder` is one, also a model of somebody else.
"""

import numbers
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from skysense.batch import Batch
from skysense.checks import shown
from skysense.errors import EncoderError
from skysense.sensors import CELL, SENSORS, TOKEN

STRIDES = (10, 20, 40)
"""Spacings of features (m)."""

FIRST_CELL = {10: 0, 20: 0, 40: 2}
"""Which 10 m cell of each block is the sampled one, along both axes: 40 m cells are 20 m cells are
10 m cells, and none lies more than 5 m from the middle of its block."""

VALID_SHARE = 0.5
"""A date enters fusion at a token only if at least this share of its pixels is usable."""


@runtime_checkable
class Encoder(Protocol):
    """What `embed` needs to know of a model."""

    name: str
    sensors: tuple[str, ...]
    """Sensors it reads, of `hr`, `s2`, `s1`."""
    stride: int
    """Finest spacing of its features (m)."""
    dim: int
    """Number of features."""
    weights: str
    """`sha256:...`, `random(seed=0)`, or `none`."""
    licence: str
    """Terms of the weights."""
    notes: tuple[str, ...]
    """What a user of the weights must be told."""
    untrained: bool
    """True for random weights, however they were stored."""
    device: torch.device
    dtype: torch.dtype

    def __call__(self, batch: Batch, stride: int | None = None) -> Float[Tensor, "b dim h w"]:
        """Features of each window on its 10 m cells, or on every second or fourth of them.

        Args:
            batch: Windows in contract units.
            stride: 10, 20 or 40 m; the finest if None. Coarser features are the finest ones at
                the cells `FIRST_CELL` names, not means.

        Returns:
            NaN where no sensor saw anything usable.
        """
        ...


def step_of(stride: int | None) -> tuple[int, int]:
    """10 m cells per feature along an axis, and the first one, for a spacing (m); 10 m if None.

    Raises:
        EncoderError: It is none of `STRIDES`.
    """
    stride = 10 if stride is None else stride
    if not isinstance(stride, numbers.Integral) or stride not in STRIDES:
        raise EncoderError(f"stride={shown(stride)} m is not one of {STRIDES}.")
    return stride // 10, FIRST_CELL[stride]


def normalised(batch: Batch, key: str) -> tuple[Tensor, Tensor]:
    """(pixels, valid) of a sensor in standard deviations from its mean, gaps at the mean."""
    each, sensor = batch.sensors[key], SENSORS[key]
    like = {"dtype": each.pixels.dtype, "device": each.pixels.device}
    mean = torch.tensor(sensor.mean, **like)[:, None, None]
    std = torch.tensor(sensor.std, **like)[:, None, None]
    pixels = (each.pixels - mean) / std
    return torch.where(each.valid[:, :, None], pixels, 0.0), each.valid


def token_validity(key: str, valid: Tensor) -> Tensor:
    """Which tokens (40 m; 10 m for high resolution) of each date are usable enough: b t h w."""
    side = 32 if key == "hr" else round(TOKEN / CELL)
    rows, columns = valid.shape[-2] // side, valid.shape[-1] // side
    blocks = valid.reshape(*valid.shape[:2], rows, side, columns, side)
    return blocks.float().mean((3, 5)) >= VALID_SHARE


def cells_of(batch: Batch) -> tuple[int, int]:
    """(rows, columns) of 10 m cells in each window of a batch."""
    key, each = next(iter(batch.sensors.items()))
    side = round(CELL / SENSORS[key].resolution)
    return each.valid.shape[-2] // side, each.valid.shape[-1] // side


def best_device(wanted: str | None = None) -> torch.device:
    """CUDA, else MPS, else the CPU; or the one asked for.

    Raises:
        EncoderError: If the one asked for is not there.
    """
    if wanted is not None and not isinstance(wanted, str | torch.device):
        raise EncoderError(
            f"device={shown(wanted)} is not the name of a device, such as 'cuda' or 'cpu'; leave it "
            "out to get the best there is."
        )
    if wanted is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise EncoderError(
            f"The device {shown(wanted)} cannot be used here: {reason}. Leave `device` out to get the "
            f"best there is ({best_device()})."
        ) from error
    return device
