"""The spectral baseline: what a place looks like with no weights at all.

It is the honest null model to hold beside every picture.
"""

import math

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from skysense.batch import Batch
from skysense.context import NO_BANK
from skysense.errors import EncoderError
from skysense.protocol import VALID_SHARE, best_device, cells_of, normalised, step_of
from skysense.region import Region
from skysense.sensors import SENSORS


class SpectralBaseline:
    """Band percentiles over the dates: no weights, no learning, often hard to beat.

    Per 10 m cell: five percentiles of each Sentinel-2 band, three of each Sentinel-1 band, and
    mean and standard deviation over the cell's 1,024 pixels of each high-resolution band, all in
    standard deviations from the sensor's mean. A sensor that saw nothing gives zeros, so that the
    number of features never changes.
    """

    name = "spectral"
    sensors: tuple[str, ...] = ("hr", "s2", "s1")
    stride = 10
    weights = "none"
    licence = "Apache-2.0 (no weights)"
    notes: tuple[str, ...] = ()
    untrained = False
    percentiles: dict[str, tuple[float, ...]] = {  # noqa: RUF012 -- a constant
        "s2": (0.1, 0.25, 0.5, 0.75, 0.9),
        "s1": (0.1, 0.5, 0.9),
    }

    def __init__(self, device: str | None = None, dtype: torch.dtype = torch.float32) -> None:
        self.device = best_device(device)
        self.dtype = dtype
        self.dim = 2 * len(SENSORS["hr"].bands) + sum(
            len(SENSORS[key].bands) * len(q) for key, q in self.percentiles.items()
        )

    @torch.inference_mode()
    def __call__(self, batch: Batch, stride: int | None = None) -> Float[Tensor, "b dim h w"]:
        """See `Encoder`."""
        step, first = step_of(stride)
        batch = batch.to(self.device, self.dtype)
        parts, seen = [], None
        rows, columns = cells_of(batch)
        for key in self.sensors:
            if key in batch.sensors:
                values, some = self._read(key, batch, step, first)
            else:
                wide = 2 if key == "hr" else len(self.percentiles[key])
                shape = (len(batch.lonlat), len(SENSORS[key].bands) * wide)
                size = (math.ceil((rows - first) / step), math.ceil((columns - first) / step))
                values = torch.zeros(*shape, *size, dtype=self.dtype, device=self.device)
                some = torch.zeros(shape[0], *size, dtype=torch.bool, device=self.device)
            parts.append(torch.where(some[:, None], values, 0.0))
            seen = some if seen is None else seen | some
        features = torch.cat(parts, dim=1)
        assert seen is not None
        return torch.where(seen[:, None], features, torch.nan)

    def bank(self, region: Region) -> xr.DataArray:
        """There is none: always an `EncoderError` that says what to do instead."""
        raise EncoderError(NO_BANK.format(self.name))

    def _read(self, key: str, batch: Batch, step: int, first: int) -> tuple[Tensor, Tensor]:
        pixels, valid = normalised(batch, key)
        if key == "hr":
            cells = pixels.unfold(3, 32, 32).unfold(4, 32, 32)[..., first::step, first::step, :, :]
            usable = valid.unfold(2, 32, 32).unfold(3, 32, 32)[..., first::step, first::step, :, :]
            count = usable.sum((1, 4, 5)).clamp(min=1)[:, None]  # b 1 h w
            mean = (cells * usable[:, :, None]).sum((1, 5, 6)) / count
            apart = (cells - mean[:, None, ..., None, None]) * usable[:, :, None]
            deviation = (apart.square().sum((1, 5, 6)) / count).sqrt()
            share = usable.to(self.dtype).mean((4, 5))  # b t h w
            return torch.cat([mean, deviation], dim=1), (share >= VALID_SHARE).any(1)
        pixels = pixels[..., first::step, first::step]
        valid = valid[..., first::step, first::step]
        levels = torch.tensor(self.percentiles[key], dtype=self.dtype, device=self.device)
        gaps = torch.where(valid[:, :, None], pixels, torch.nan)
        values = gaps.nanquantile(levels, dim=1)  # q b c h w
        return values.movedim(0, 2).flatten(1, 2), valid.any(1)
