"""Checks of what the model is given, and the 10 m places at which it is asked to fuse."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from skysense.errors import EncoderError
from skysense.model.config import SENSOR_ORDER, ModelConfig

#: 10 m cells per side of one 40 m Sentinel token.
CELLS_PER_TOKEN = 4


class SensorInput(NamedTuple):
    """One sensor's dates.

    Attributes:
        pixels: `(b, t, c, h, w)`, normalised (mean 0, deviation 1 of the sensor's statistics), in
            the band order of `skysense.sensors`, invalid pixels 0. Height and width are multiples
            of 4 (s2, s1) or 32 (hr, at least 256).
        valid: `(b, t, h', w')` bool, tokens that may enter fusion: `h' = h / 4` 40 m tokens for s2
            and s1, `h' = h / 32` 10 m cells for hr.
        doy: `(b, t)` int64, day of the year 1 to 366; 0 = unknown.
    """

    pixels: Tensor
    valid: Tensor
    doy: Tensor


class DateFeatures(NamedTuple):
    """One sensor's encoded dates: as `SensorInput`, with `encode_dates`' result for the pixels."""

    values: Tensor
    valid: Tensor
    doy: Tensor


@dataclass(frozen=True)
class Lattice:
    """The 10 m places asked for, in the order batch, row, column.

    Attributes:
        shape: (batch, rows, columns) asked for.
        batch: Batch element of each place.
        row: Row of each place among the window's 10 m cells.
        column: Its column.
        phase: `4 · (row mod 4) + column mod 4`, the place's sub-position in its 40 m token.
    """

    shape: tuple[int, int, int]
    batch: Tensor
    row: Tensor
    column: Tensor
    phase: Tensor

    def pick(self, sensor: str, valid: Tensor) -> Tensor:
        """Validity `(places, t)` of each place's tokens, from `(b, t, h', w')`."""
        scale = 1 if sensor == "hr" else CELLS_PER_TOKEN
        return valid[self.batch, :, self.row // scale, self.column // scale]

    def gather(self, sensor: str, values: Tensor, places: Tensor, date: Tensor) -> Tensor:
        """Tokens `(k, c)` of places and dates, from `(b, t, c, h', w')`."""
        scale = 1 if sensor == "hr" else CELLS_PER_TOKEN
        tokens = values.permute(0, 1, 3, 4, 2)  # b t h w c, as they lie in memory
        row, column = self.row[places] // scale, self.column[places] // scale
        return tokens[self.batch[places], date, row, column]


def lattice_of(features: Mapping[str, DateFeatures], step: int, offset: tuple[int, int]) -> Lattice:
    """Places of the window that features cover.

    Raises:
        EncoderError: `step` or `offset` is out of range, or leaves no place.
    """
    if step not in (1, 2, 4) or not all(0 <= o < step for o in offset):
        raise EncoderError(
            f"step={step} and offset={offset} were given; step must be 1, 2 or 4, and both offsets "
            "at least 0 and below it."
        )
    sensor, first = next(iter(features.items()))
    scale = 1 if sensor == "hr" else CELLS_PER_TOKEN
    b, (h, w) = len(first.valid), first.valid.shape[-2:]
    device = first.valid.device
    rows = torch.arange(offset[0], h * scale, step, device=device)
    columns = torch.arange(offset[1], w * scale, step, device=device)
    grid = torch.meshgrid(torch.arange(b, device=device), rows, columns, indexing="ij")
    batch, row, column = (g.flatten() for g in grid)
    phase = row % CELLS_PER_TOKEN * CELLS_PER_TOKEN + column % CELLS_PER_TOKEN
    return Lattice((b, len(rows), len(columns)), batch, row, column, phase)


def places_of(features: Mapping[str, DateFeatures], at: Tensor) -> Lattice:
    """The 10 m places named one by one, as a lattice of n rows and one column.

    Args:
        features: Encoded dates.
        at: (b, n) row-major indices of 10 m cells of each batch element's window.

    Raises:
        EncoderError: `at` is no (b, n) of whole numbers, or leaves the window.
    """
    sensor, first = next(iter(features.items()))
    scale = 1 if sensor == "hr" else CELLS_PER_TOKEN
    b, (h, w) = len(first.valid), (side * scale for side in first.valid.shape[-2:])
    if at.ndim != 2 or len(at) != b or at.is_floating_point() or not at.numel():
        raise EncoderError(
            f"at has shape {tuple(at.shape)} and type {at.dtype}; give whole numbers (batch {b}, n)."
        )
    if int(at.min()) < 0 or int(at.max()) >= h * w:
        raise EncoderError(
            f"at holds {int(at.min())} to {int(at.max())}, but the window's {h} × {w} cells are "
            f"numbered 0 to {h * w - 1}."
        )
    batch = torch.arange(b, device=at.device)[:, None].expand_as(at).flatten()
    row, column = at.flatten() // w, at.flatten() % w
    phase = row % CELLS_PER_TOKEN * CELLS_PER_TOKEN + column % CELLS_PER_TOKEN
    return Lattice((b, at.shape[1], 1), batch, row, column, phase)


def check_pixels(config: ModelConfig, sensor: str, pixels: Tensor, valid: Tensor | None) -> None:
    """Make sure that a sensor's encoder can read these pixels.

    Raises:
        EncoderError: Says what does not fit.
    """
    if sensor not in SENSOR_ORDER or sensor not in config.parts:
        have = ", ".join(s for s in SENSOR_ORDER if s in config.parts)
        raise EncoderError(
            f"The model {config.name!r} has no encoder for {sensor!r}; it has: {have}."
        )
    if pixels.ndim != 5:
        raise EncoderError(
            f"{sensor} pixels have shape {tuple(pixels.shape)}; give (batch, date, band, row, "
            "column)."
        )
    part = getattr(config, sensor)
    t, bands, h, w = pixels.shape[1:]
    if bands != part.in_channels:
        raise EncoderError(
            f"{sensor} pixels have {bands} bands, but this encoder reads {part.in_channels}; fill "
            "missing bands with the sensor mean (0)."
        )
    if t < 1 or h < part.stride or w < part.stride or h % part.stride or w % part.stride:
        raise EncoderError(
            f"{sensor} pixels have {t} dates of {h} × {w} pixels; give at least one date, and sides "
            f"that are multiples of {part.stride}, padding with invalid pixels."
        )
    expected = (len(pixels), t, h // part.stride, w // part.stride)
    if valid is not None and tuple(valid.shape) != expected:
        raise EncoderError(
            f"{sensor} validity has shape {tuple(valid.shape)}, but these pixels have tokens "
            f"{expected} (batch, date, row, column)."
        )
    # One sum finds them in a single pass: neither NaN nor infinity ever leaves it.
    if not bool(pixels.sum(dtype=torch.promote_types(pixels.dtype, torch.float32)).isfinite()):
        raise EncoderError(
            f"{sensor} pixels contain NaN or infinite values; set invalid pixels to 0, the sensor "
            "mean, and mark their tokens invalid."
        )


def check_features(config: ModelConfig, features: Mapping[str, DateFeatures]) -> None:
    """Make sure that encoded dates fit the model and each other.

    Raises:
        EncoderError: Says what does not fit.
    """
    unusable = sorted(set(features) - set(config.sensors))
    if unusable or not features:
        raise EncoderError(
            f"Sensors {unusable} cannot be fused by {config.name!r}; give one or more of "
            f"{', '.join(config.sensors) or 'none'}."
        )
    grids = {}
    for sensor, (values, valid, doy) in features.items():
        b, t, c, h, w = values.shape if values.ndim == 5 else (-1,) * 5
        dim = getattr(config, sensor).out_dim
        if (
            c != dim
            or tuple(valid.shape) != (b, t, h, w)
            or valid.dtype != torch.bool
            or tuple(doy.shape) != (b, t)
            or doy.is_floating_point()
        ):
            raise EncoderError(
                f"{sensor} features {tuple(values.shape)}, validity {tuple(valid.shape)} "
                f"({valid.dtype}) and days {tuple(doy.shape)} ({doy.dtype}) do not fit; expected "
                f"(b, t, {dim}, h, w), bool (b, t, h, w) and integer (b, t)."
            )
        scale = 1 if sensor == "hr" else CELLS_PER_TOKEN
        grids[sensor] = (b, h * scale, w * scale)
    if len(set(grids.values())) > 1:
        raise EncoderError(
            f"Sensors cover different ground, in (batch, 10 m rows, 10 m columns): {grids}; cut all "
            "to the same window (32 hr pixels to one Sentinel pixel)."
        )
