"""What turns a batch into features: the `Encoder` protocol, and the encoders that come with us.

Anything with these few attributes is an encoder, also a model of somebody else. The spectral
baseline here has no weights at all: it is the honest null model to hold beside every picture.
"""

import math
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from skysense.batch import Batch
from skysense.checks import choice, seed_of, shown
from skysense.context import NO_BANK, bank_of, earth_of, queries_of, said_of
from skysense.errors import EncoderError
from skysense.model import SkySense
from skysense.model.inputs import DateFeatures
from skysense.model.precision import choose_dtype
from skysense.region import Region
from skysense.sensors import CELL, SENSORS, TOKEN
from skysense.weights import UNTRAINED, build_model, load_checkpoint, random_id

STRIDES = (10, 20, 40)
"""Spacings of features (m)."""

FIRST_CELL = {10: 0, 20: 0, 40: 2}
"""Which 10 m cell of each block is the sampled one, along both axes: 40 m cells are 20 m cells are
10 m cells, and none lies more than 5 m from the middle of its block."""

VALID_SHARE = 0.5
"""A date enters fusion at a token only if at least this share of its pixels is usable."""

FAMILIES = {"skysense-tiny": "tiny", "skysense-base": "base", "skysense-v1": "paper"}
"""Encoders that can be loaded from a checkpoint, and the preset it must have."""

SHIPPED = {"skysense-tiny": Path(__file__).parent / "shipped" / "skysense-tiny"}
"""Trained weights that come with the package: checkpoint folders, each with a card and a data list."""

NAMES = ("spectral", "skysense-tiny", "skysense-tiny-untrained", "skysense-base", "skysense-v1")


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
        step, first = _step(stride)
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


class SkySenseEncoder:
    """SkySense V1 behind the `Encoder` protocol: statistics, gaps, token validity, precision."""

    stride = 10

    def __init__(
        self,
        model: SkySense,
        *,
        name: str,
        weights: str,
        licence: str,
        notes: tuple[str, ...] = (),
        device: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device = best_device(device)
        self.dtype = dtype
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
        _step(stride)
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
            values = self.model.encode_dates(key, pixels.to(self.dtype), tokens)
            dates[key] = DateFeatures(values, tokens, each.doy)
        return dates

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
        step, first = _step(stride)
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
        step, first = _step(stride)
        return self.model.attention(dates, step=step, offset=(first, first))

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


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def load_encoder(
    name: str,
    *,
    path: str | Path | None = None,
    device: str | None = None,
    precision: str = "auto",
    seed: int = 0,
) -> Encoder:
    """An encoder by name, ready to run on the best device.

    Args:
        name: `spectral` (percentiles, no weights); `skysense-tiny` (small, trained, shipped with
            the package); `skysense-tiny-untrained` (such layers with random weights: a null
            model) and `skysense-base` (random weights too: nobody trained it), of which every
            picture says *untrained*; `skysense-v1` (the official weights, from `path`).
        path: Folder written by `skysense convert` or `skysense pretrain`; required for
            `skysense-v1`, and for the others instead of their own weights.
        device: `cuda`, `mps`, `cpu`; the best there is if None.
        precision: `auto` (bfloat16 only where a short self-test shows that it pays), `float32`,
            `bfloat16`, `float64`.
        seed: Of random weights, 0 to 2³² − 1; trained ones have none.

    Raises:
        EncoderError: For an unknown name, device or precision, a seed that is none, or one for
            trained weights.
        WeightsError: If the folder does not hold a complete, safe checkpoint.
    """
    if not isinstance(name, str) or name not in NAMES:
        raise EncoderError(f"There is no encoder {shown(name)}; there are {', '.join(NAMES)}.")
    choice("precision", precision, ("auto", *PRECISIONS), EncoderError)
    seed = seed_of(seed, EncoderError)
    if path is not None and (name == "spectral" or name.endswith("-untrained")):
        raise EncoderError(f"{name} has no weights to load; leave path={shown(path)} out.")
    where = best_device(device)
    if name == "spectral":
        exact = precision == "float64"
        return SpectralBaseline(device, torch.float64 if exact else torch.float32)
    dtype = choose_dtype(where) if precision == "auto" else PRECISIONS[precision]
    path = SHIPPED.get(name) if path is None else path
    if path is not None:
        if seed:
            raise EncoderError(
                f"{name} is trained, so seed={seed} would change nothing; leave it out, or load "
                "skysense-tiny-untrained."
            )
        checkpoint = load_checkpoint(path)
        family = checkpoint.model.config.name
        if family != FAMILIES[name]:
            raise EncoderError(
                f"{path} holds a {family!r} model, but {name} is {FAMILIES[name]!r}. "
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
        )
    if name == "skysense-v1":
        raise EncoderError(
            "skysense-v1 needs path=, the folder that `skysense convert FILES --out DIR` wrote from "
            "the official files; they are for non-commercial research and are never shipped here."
        )
    preset = name.removeprefix("skysense-").removesuffix("-untrained")
    return SkySenseEncoder(
        build_model(preset, seed=seed),
        name=name,
        weights=random_id(seed),
        licence="Apache-2.0 (random numbers, nothing learnt)",
        device=device,
        dtype=dtype,
    )


def _step(stride: int | None) -> tuple[int, int]:
    stride = 10 if stride is None else stride
    if not isinstance(stride, numbers.Integral) or stride not in STRIDES:
        raise EncoderError(f"stride={shown(stride)} m is not one of {STRIDES}.")
    return stride // 10, FIRST_CELL[stride]
