"""What is compared: each output of a network, and what there is without one, as small encoders.

Every output is an `Encoder`, so `embed` runs a stack of raw dates and a trained network's fused
features by the same path: the same windows, the same dates, the same cells. `bundle` joins several
into one, so that a network encodes each date once however many of its outputs are asked for.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from skysense.batch import Batch
from skysense.cells import division
from skysense.encoders import (
    FIRST_CELL,
    Encoder,
    SkySenseEncoder,
    SpectralBaseline,
    best_device,
    cells_of,
    normalised,
    token_validity,
)
from skysense.model import TemporalModel
from skysense.sensors import SENSORS
from skysense.weights import build_model

NOISE_DIM = 64

HR_BLOCK = 8
"""Raw high-resolution pixels are averaged over blocks of so many: 16 blocks of 2.5 m in a cell."""

SUBSETS = (("s2",), ("s1",), ("s2", "s1"), ("hr",), ("hr", "s2", "s1"))
"""Sensors that are evaluated together, where a place has them."""


@dataclass(frozen=True)
class Output:
    """One kind of features, satisfying `skysense.encoders.Encoder`."""

    name: str
    """What is taken: `raw`, `percentiles`, `s2 tokens`, `s1 tokens`, `hr map`, `fused`, ..."""
    sensors: tuple[str, ...]
    """What it reads; all else in a batch is ignored."""
    dim: int
    look: Callable[[Batch, int, int], Tensor]
    """(batch, step, first) to (b, dim, h, w) at every `step`-th 10 m cell from `first`."""
    weights: str = "none"
    licence: str = "Apache-2.0 (no weights)"
    notes: tuple[str, ...] = ()
    untrained: bool = False
    device: torch.device = torch.device("cpu")  # noqa: RUF009 -- immutable
    dtype: torch.dtype = torch.float32
    stride: int = 10

    @torch.inference_mode()
    def __call__(self, batch: Batch, stride: int | None = None) -> Tensor:
        """See `skysense.encoders.Encoder`."""
        stride = self.stride if stride is None else stride
        return self.look(batch, stride // 10, FIRST_CELL[stride])


class Network:
    """A SkySense model under evaluation, and what is known of it; dates are encoded once a batch."""

    def __init__(
        self,
        encoder: SkySenseEncoder,
        *,
        name: str = "",
        seen: Sequence[str] | None = None,
        null: str = "",
        against: str = "",
    ) -> None:
        self.encoder = encoder
        self.name = name or encoder.name
        self.seen = seen
        """What its training saw, one text per place; None if nobody says."""
        self.null = null
        """Name of the same network with random weights; empty if it is not evaluated."""
        self.against = against
        """Name of the run that this one equals but for one part; empty for a run of its own."""
        self._batch: Batch | None = None
        self._memo: dict[object, Tensor | tuple[Tensor, Tensor]] = {}

    @property
    def model(self) -> TemporalModel:
        """The model."""
        return self.encoder.model

    @property
    def weights(self) -> str:
        """Identity of the weights: their hash, also of random ones."""
        return self.encoder.weights if not self.encoder.untrained else digest(self.model)

    def dates(self, batch: Batch, key: str) -> tuple[Tensor, Tensor]:
        """Features (b t c h w) and validity (b t h w) of the dates of one sensor."""
        self._forget(batch)
        if key not in self._memo:
            part = batch.only([key]).to(self.encoder.device)
            pixels, usable = normalised(part, key)
            valid = token_validity(key, usable)
            values = self.model.encode_dates(key, pixels.to(self.encoder.dtype), valid)
            self._memo[key] = values, valid
        return self._memo[key]  # type: ignore[return-value]

    def fuse(self, batch: Batch, sensors: Sequence[str], step: int, first: int) -> Tensor:
        """Fused features, with context where the model has it: (b dim h w)."""
        self._forget(batch)
        what = (*sensors, step)
        if what not in self._memo:
            parts = {}
            for key in sensors:
                doy = batch.sensors[key].doy.to(self.encoder.device)
                parts[key] = (*self.dates(batch, key), doy)
            p = self.model.config.prototypes
            options = {}
            if p.context and p.cells:
                lon, lat = batch.lonlat.double().cpu().numpy().T
                cell = division(p.cells, p.division).cell_of(lon, lat)
                options["cell"] = torch.from_numpy(cell)
            self._memo[what] = self.model.fuse(parts, step=step, offset=(first, first), **options)
        return self._memo[what]  # type: ignore[return-value]

    def _forget(self, batch: Batch) -> None:
        if batch is not self._batch:
            self._batch, self._memo = batch, {}

    def outputs(self, sensors: Sequence[str]) -> list[Output]:
        """Everything this network says of a place that has these sensors."""
        config = self.model.config
        facts = {
            "weights": self.weights,
            "licence": self.encoder.licence,
            "notes": self.encoder.notes,
            "untrained": self.encoder.untrained,
            "device": self.encoder.device,
            "dtype": self.encoder.dtype,
        }
        made = []
        for key in (k for k in ("s2", "s1", "hr") if k in sensors and k in config.parts):
            name = "hr map" if key == "hr" else f"{key} tokens"
            made.append(
                Output(name, (key,), getattr(config, key).out_dim, self._mean(key), **facts)
            )
        if "fusion" not in config.parts:
            return made
        for subset in subsets([key for key in sensors if key in config.sensors]):
            width = config.fusion.dim
            made.append(Output("fused", subset, width, self._fused(subset, width), **facts))
            if config.prototypes.context:
                look = self._fused(subset, config.dim)
                made.append(Output("fused + context", subset, config.dim, look, **facts))
        return made

    def _mean(self, key: str) -> Callable[[Batch, int, int], Tensor]:
        """Mean of a sensor's usable dates at each token, repeated to the cells it covers."""

        def look(batch: Batch, step: int, first: int) -> Tensor:
            values, valid = self.dates(batch, key)
            count = valid.sum(1)[:, None]  # b 1 h w
            mean = (values * valid[:, :, None]).sum(1) / count.clamp(min=1)
            mean = torch.where(count > 0, mean, torch.nan)
            if key != "hr":
                mean = mean.repeat_interleave(4, 2).repeat_interleave(4, 3)
            return mean[..., first::step, first::step]

        return look

    def _fused(self, sensors: tuple[str, ...], width: int) -> Callable[[Batch, int, int], Tensor]:
        return lambda batch, step, first: self.fuse(batch, sensors, step, first)[:, :width]


def untrained_twin(network: Network, name: str = "untrained", seed: int = 0) -> Network:
    """The same architecture with random weights: what learning is measured against."""
    given = network.encoder
    model = build_model(network.model.config, seed=seed)
    return Network(
        SkySenseEncoder(
            model,
            name=name,
            weights=f"random(seed={seed})",
            licence="Apache-2.0 (random numbers, nothing learnt)",
            device=str(given.device),
            dtype=given.dtype,
        ),
        seen=(),
    )


def architecture(network: Network) -> str:
    """Configuration without name, prototypes and queries: who share it share an untrained twin.

    An untrained bank reads zeros, so it adds nothing to the twin's features; queries read these and
    change nothing of them.
    """
    config = asdict(network.model.config)
    config["parts"] = [part for part in config["parts"] if part != "queries"]
    kept = {k: v for k, v in config.items() if k not in ("name", "prototypes", "queries")}
    return json.dumps(kept, sort_keys=True)


def digest(model: TemporalModel) -> str:
    """SHA-256 over the parameters, which identifies random weights as well as learned ones."""
    whole = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        whole.update(name.encode())
        whole.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return f"random:{whole.hexdigest()}"


def subsets(sensors: Sequence[str]) -> list[tuple[str, ...]]:
    """Combinations of a place's sensors that are evaluated, in the model's order."""
    return [each for each in SUBSETS if set(each) <= set(sensors)]


def weightless(sensors: Sequence[str], dates: Mapping[str, int]) -> list[Output]:
    """Noise, raw dates and band percentiles of a place: what any network must beat.

    Args:
        sensors: Which the place has.
        dates: How many dates of each are used.
    """
    every = [raw(each, dates) for each in subsets(sensors)]
    every += [restricted(SpectralBaseline("cpu"), each, "percentiles") for each in subsets(sensors)]
    return [noise(tuple(k for k in SENSORS if k in sensors)), *every]


def noise(sensors: tuple[str, ...], seed: int = 0) -> Output:
    """Random numbers that know nothing of the place: where they score is chance."""
    generator = torch.Generator().manual_seed(seed)

    def look(batch: Batch, step: int, first: int) -> Tensor:
        rows, columns = (-((first - n) // step) for n in cells_of(batch))
        return torch.randn(len(batch.lonlat), NOISE_DIM, rows, columns, generator=generator)

    return Output("noise", sensors, NOISE_DIM, look, weights=f"noise(seed={seed})")


def raw(sensors: tuple[str, ...], dates: Mapping[str, int]) -> Output:
    """The pixels themselves, all dates stacked.

    Per 10 m cell: every band of every Sentinel date that is used, in standard deviations from the
    sensor's mean. A gap is filled from the same pixel, linearly between the dates before and after
    it (in their order, as a batch knows the day but not the year) and with the nearest date at the
    ends; a pixel that was never seen is the sensor's mean. High resolution: means of blocks of
    8 × 8 pixels (2.5 m), 16 per cell and band, over the usable dates.

    Args:
        sensors: Which to stack.
        dates: How many dates of each the batches hold.
    """
    bands = {key: len(SENSORS[key].bands) for key in sensors}
    blocks = (32 // HR_BLOCK) ** 2
    dim = sum(n * (blocks if key == "hr" else dates[key]) for key, n in bands.items())

    def look(batch: Batch, step: int, first: int) -> Tensor:
        parts, seen = [], []
        for key in sensors:
            pixels, valid = normalised(batch, key)  # b t c h w, b t h w
            if key == "hr":
                values, some = _blocks(pixels, valid)
                values, some = (
                    values[..., first::step, first::step],
                    some[..., first::step, first::step],
                )
            else:
                values = filled(
                    pixels[..., first::step, first::step], valid[..., first::step, first::step]
                )
                some = valid[..., first::step, first::step].any(1)
                values = values.flatten(1, 2)
            parts.append(values)
            seen.append(some)
        some = torch.stack(seen).any(0)
        return torch.where(some[:, None], torch.cat(parts, dim=1), torch.nan)

    return Output("raw", sensors, dim, look)


def filled(pixels: Tensor, valid: Tensor) -> Tensor:
    """Dates (b t c h w) with gaps filled along t from (b t h w) valid ones; 0 if there is none."""
    t = pixels.shape[1]
    number = torch.arange(t)[None, :, None, None].expand(valid.shape)
    before = torch.where(valid, number, -1).cummax(1).values
    after = torch.where(valid, number, t).flip(1).cummin(1).values.flip(1)
    left = torch.where(before < 0, after, before).clamp(0, t - 1)
    right = torch.where(after >= t, before, after).clamp(0, t - 1)
    share = (number - left) / (right - left).clamp(min=1)  # 0 outside and at a valid date

    def at(index: Tensor) -> Tensor:
        return pixels.gather(1, index[:, :, None].expand(pixels.shape))

    values = torch.lerp(at(left), at(right), share.clamp(0, 1)[:, :, None].to(pixels.dtype))
    return torch.where(valid.any(1)[:, None, None], values, 0.0)


def _blocks(pixels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Means of blocks of high-resolution pixels (b 48 h w) and whether a cell was seen (b h w)."""
    weight = valid[:, :, None].to(pixels.dtype)
    total = F.avg_pool2d((pixels * weight).sum(1), HR_BLOCK)
    means = total / F.avg_pool2d(weight.sum(1), HR_BLOCK).clamp(min=1e-6)
    values = F.pixel_unshuffle(means, 32 // HR_BLOCK)
    return values, token_validity("hr", valid).any(1)


def restricted(encoder: Encoder, sensors: tuple[str, ...], name: str = "features") -> Output:
    """Any encoder, shown only some of the sensors."""
    return Output(
        name,
        sensors,
        encoder.dim,
        lambda batch, step, _: encoder(batch.only(sensors), 10 * step),
        encoder.weights,
        encoder.licence,
        encoder.notes,
        encoder.untrained,
        encoder.device,
        encoder.dtype,
    )


def bundle(outputs: Sequence[Output]) -> Output:
    """Several outputs as one, their features one after the other; split again by `dim`."""
    sensors = tuple(key for key in SENSORS if any(key in each.sensors for each in outputs))

    def look(batch: Batch, step: int, first: int) -> Tensor:
        return torch.cat([each.look(batch, step, first).float().cpu() for each in outputs], dim=1)

    return Output(
        "bundle",
        sensors,
        sum(each.dim for each in outputs),
        look,
        untrained=any(each.untrained for each in outputs),
        device=next((each.device for each in outputs), best_device("cpu")),
    )
