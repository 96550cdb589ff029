"""SkySense V1 and V2 behind the `Encoder` protocol: statistics, gaps, token validity, precision."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from skysense.batch import Batch
from skysense.checks import shown
from skysense.context import bank_of, earth_of, queries_of, said_of
from skysense.errors import EncoderError
from skysense.merging import said, schedule_of
from skysense.model import SkySenseV2, TemporalModel
from skysense.model.inputs import DateFeatures
from skysense.protocol import best_device, normalised, step_of, token_validity
from skysense.region import Region
from skysense.weights import UNTRAINED


class SkySenseEncoder:
    """SkySense behind the `Encoder` protocol: statistics, gaps, token validity, precision.

    Args:
        model: V1 or V2.
        name: Of the encoder.
        weights: Identity of the weights.
        licence: Terms of the weights.
        notes: What a user of the weights must be told.
        device: `cuda`, `mps`, `cpu`; the best there is if None.
        dtype: In which it computes.
        merge: V2 only: before which stages tokens of high resolution are merged, see
            `skysense.merging`; as its configuration says if None.

    Raises:
        EncoderError: `merge` is no schedule, or the model has none.
    """

    stride = 10

    def __init__(
        self,
        model: TemporalModel,
        *,
        name: str,
        weights: str,
        licence: str,
        notes: tuple[str, ...] = (),
        device: str | None = None,
        dtype: torch.dtype = torch.float32,
        merge: Any = None,
    ) -> None:
        self.device = best_device(device)
        self.dtype = dtype
        self.merge = _merging(model, name, merge)
        """V2's schedule for high resolution, as `skysense.merging.said`; empty for V1."""
        self.model = model.eval().requires_grad_(False).to(self.device, dtype)
        self.name = name
        self.weights = weights
        self.licence = licence
        self.notes = notes
        self.untrained = bool(model.untrained) or any(n.startswith(UNTRAINED) for n in notes)
        self.sensors: tuple[str, ...] = model.config.sensors
        self.dim = model.config.dim
        self.earth = earth_of(model)
        """The cells of the Earth that the model's prototypes belong to; None if it holds none."""

    @torch.inference_mode()
    def __call__(self, batch: Batch, stride: int | None = None) -> Float[Tensor, "b dim h w"]:
        """See `Encoder`."""
        step_of(stride)
        return self.fuse(self.encode(batch), batch.lonlat, stride)

    @torch.inference_mode()
    def encode(self, batch: Batch) -> dict[str, DateFeatures]:
        """Each date by itself, the costly half: `fuse` of what this gives is a call.

        Keep it to fuse another choice of dates, or another spacing.

        Raises:
            EncoderError: If the batch has none of the encoder's sensors.
        """
        batch = batch.to(self.device).only(self.sensors)
        if not batch.sensors:
            raise EncoderError(f"{self.name} reads {self.sensors}, of which the batch has none.")
        dates = {}
        for key, each in batch.sensors.items():
            pixels, valid = normalised(batch, key)
            tokens = token_validity(key, valid)
            values = self.model.encode_dates(
                key, pixels.to(self.dtype), tokens, **self._options(key)
            )
            dates[key] = DateFeatures(values, tokens, each.doy)
        return dates

    @property
    def schedule(self) -> tuple[bool, ...] | None:
        """V2's schedule for high resolution, as `skysense.merging.schedule_of`; None for V1."""
        return schedule_of(self.merge) if self.merge else None

    def _options(self, key: str) -> dict[str, Any]:
        """What the model is told about how to encode a sensor."""
        return {"merge": self.schedule} if self.schedule and key == "hr" else {}

    @torch.inference_mode()
    def fuse(
        self,
        dates: Mapping[str, DateFeatures],
        lonlat: Float[Tensor, "b 2"],
        stride: int | None = None,
    ) -> Float[Tensor, "b dim h w"]:
        """Features of encoded dates; see `Encoder`.

        Args:
            dates: By sensor, from `encode`, or some of those dates.
            lonlat: Window centres, degrees.
            stride: 10, 20 or 40 m; the finest if None.
        """
        step, first = step_of(stride)
        cell = None
        if self.earth is not None:
            lon, lat = lonlat.double().cpu().numpy().T
            cell = torch.from_numpy(self.earth.cell_of(lon, lat))
        return self.model.fuse(dates, step=step, offset=(first, first), cell=cell)

    @torch.inference_mode()
    def attention(
        self, dates: Mapping[str, DateFeatures], stride: int | None = None
    ) -> Float[Tensor, "b t h w"]:
        """How much fusion looks at each date, see `SkySense.attention`."""
        step, first = step_of(stride)
        return self.model.attention(dates, step=step, offset=(first, first))

    @torch.inference_mode()
    def experts(self, batch: Batch, block: int = -1) -> dict[str, Int[Tensor, "b t h w"]]:
        """The expert that each token of each date went to, by sensor; V2 with experts only.

        Args:
            batch: Windows in contract units.
            block: Which of the blocks with experts, from 0; -1 = the last.

        Returns:
            Numbers from 0, and -1 where a date is not usable, on the grid of that block's stage: in
            the last one 10 m for hr and 40 m for s2 and s1, unless `merge` says otherwise.

        Raises:
            EncoderError: The model has no such block, or the batch none of the encoder's sensors.
        """

        def look(model: SkySenseV2, key: str, images: Tensor, options: dict[str, Any]) -> Tensor:
            return model.experts(key, images, block=block, **options)[:, None]

        found = self._looked(batch, "experts", look)
        return {
            key: torch.where(seen, values[:, :, 0], -1) for key, (values, seen) in found.items()
        }

    @torch.inference_mode()
    def prompt_attention(
        self, batch: Batch, block: int = -1
    ) -> dict[str, Float[Tensor, "b t p h w"]]:
        """How much each token of each date attends to its sensor's prompts, by sensor; V2 only.

        Args:
            batch: Windows in contract units.
            block: Which block of plain attention, from 0; -1 = the last.

        Returns:
            0..1 for each prompt, mean over the heads, NaN where a date is not usable; grids as of
            `experts`.

        Raises:
            EncoderError: The model has no such block or no prompts, or the batch no sensor of its.
        """

        def look(model: SkySenseV2, key: str, images: Tensor, options: dict[str, Any]) -> Tensor:
            return model.prompt_attention(key, images, block=block, **options)

        found = self._looked(batch, "prompt tokens", look)
        return {
            key: torch.where(seen[:, :, None], values, torch.nan)
            for key, (values, seen) in found.items()
        }

    def _looked(
        self,
        batch: Batch,
        what: str,
        look: Callable[[SkySenseV2, str, Tensor, dict[str, Any]], Tensor],
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """What a look into V2 gives of each image, (b t n h w), and where it was usable, (b t h w)."""
        if not isinstance(self.model, SkySenseV2):
            raise EncoderError(
                f"{self.name} is SkySense V1, which has no {what}; load a SkySense V2 encoder."
            )
        batch = batch.to(self.device).only(self.sensors)
        if not batch.sensors:
            raise EncoderError(f"{self.name} reads {self.sensors}, of which the batch has none.")
        found = {}
        for key in batch.sensors:
            pixels, valid = normalised(batch, key)
            images = pixels.to(self.dtype).flatten(0, 1)
            made = torch.cat(
                [look(self.model, key, image, self._options(key)) for image in images.split(1)]
            )
            seen = token_validity(key, valid)
            rows, columns = (
                torch.arange(made.shape[axis], device=made.device)
                * seen.shape[axis]
                // made.shape[axis]
                for axis in (-2, -1)
            )
            seen = seen[:, :, rows][..., columns]
            found[key] = made.unflatten(0, pixels.shape[:2]), seen
        return found

    def context(self, lon: np.ndarray, lat: np.ndarray) -> dict[str, str | int]:
        """What features of windows centred there must say, see `skysense.context.said_of`."""
        return said_of(self.model, lon, lat)

    def bank(self, region: Region) -> xr.DataArray:
        """The geo-context prototypes of a place, see `skysense.context.bank_of`."""
        return bank_of(
            self.model,
            region,
            encoder=self.name,
            weights=self.weights,
            weights_licence=self.licence,
            untrained=int(self.untrained),
            notes=list(self.notes),
        )

    def queries(self, features: xr.DataArray) -> xr.DataArray:
        """Fused features as the prototypes know them, see `skysense.context.queries_of`."""
        return queries_of(self.model, features, encoder=self.name, weights=self.weights)


def _merging(model: TemporalModel, name: str, merge: Any) -> str:
    """The schedule in words that a model will follow for high resolution; empty if it has none."""
    if isinstance(model, SkySenseV2):
        return said(schedule_of(model.config.tokens("hr").merge if merge is None else merge))
    if merge is not None:
        raise EncoderError(
            f"{name} merges tokens in one way only; leave merge={shown(merge)} out, or load a SkySense "
            "V2 encoder."
        )
    return ""
