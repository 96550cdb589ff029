"""What an embedding will take, known before it starts: windows, gigabytes, seconds.

Operations are counted from the model's configuration (one multiply-add is two); seconds come from
them and from a short run of the same encoder on this machine. Read them as "seconds or minutes?",
not as a promise: a busy machine and small models are slower than their arithmetic.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import xarray as xr

from skysense.batch import Batch, SensorBatch
from skysense.encoders import Encoder, SkySenseEncoder
from skysense.model import SkySenseConfig
from skysense.sensors import CELL, SENSORS

PROBE_CELLS = 32
"""Side of the probe window in 10 m cells: large enough to be bound by arithmetic, not by calls."""


@dataclass(frozen=True)
class Cost:
    """Size of one call of `embed`."""

    windows: int
    output_gb: float
    """The features."""
    stack_gb: float
    """The chosen dates of the stack."""
    window_gb: float
    """Working memory of one window in the encoder, an upper estimate."""
    weights_gb: float
    tflop: float
    """Operations of all windows (10¹²); 0 for an encoder without a network."""

    def batch(self, memory_gb: float) -> int:
        """Windows at once that fit into the budget, at least one, at most eight."""
        return int(max(1, min(8, memory_gb / 2 // max(self.window_gb, 1e-6))))

    def seconds(self, tflops: float) -> float:
        """Expected time at a measured speed (10¹² operations a second)."""
        return self.tflop / tflops if tflops > 0 else 0.0

    def sentence(self, tflops: float = 0.0) -> str:
        """The cost in words, for the screen."""
        memory = self.output_gb + self.weights_gb + self.window_gb
        text = f"{self.windows} window{'s' * (self.windows != 1)}, about {memory:.1f} GB"
        if self.tflop and tflops:
            each = self.seconds(tflops) / self.windows
            text += f", {_duration(self.seconds(tflops))} ({_duration(each)} per window)"
        return text


def estimate(
    stack: xr.DataTree,
    encoder: Encoder,
    sensors: Sequence[str],
    *,
    cells: tuple[int, int],
    window: tuple[int, int],
    windows: int,
    step: int,
) -> Cost:
    """The cost of encoding `sensors` of a stack.

    Args:
        stack: With the chosen dates only.
        encoder: What will run.
        sensors: What it will read.
        cells: (rows, columns) of the features.
        window: (rows, columns) of 10 m cells in one window.
        windows: How many.
        step: 10 m cells per feature along one axis: 1, 2 or 4.
    """
    dates = {key: int(stack[key].sizes["time"]) for key in sensors}
    inputs = sum(
        count
        * len(SENSORS[key].bands)
        * window[0]
        * window[1]
        * (CELL / SENSORS[key].resolution) ** 2
        for key, count in dates.items()
    )
    outputs = encoder.dim * window[0] * window[1] / step**2
    size = torch.finfo(encoder.dtype).bits / 8
    weights = 0.0
    tflop = 0.0
    if isinstance(encoder, SkySenseEncoder):
        weights = sum(p.numel() for p in encoder.model.parameters()) * size / 1e9
        tflop = windows * operations(encoder.model.config, dates, window, step) / 1e12
    return Cost(
        windows=windows,
        output_gb=encoder.dim * cells[0] * cells[1] * 4 / 1e9,
        stack_gb=sum(stack[k]["data"].nbytes + stack[k]["valid"].nbytes for k in sensors) / 1e9,
        window_gb=(inputs + outputs) * 4 * 6 / 1e9,
        weights_gb=weights,
        tflop=tflop,
    )


def operations(
    config: SkySenseConfig, dates: Mapping[str, int], window: tuple[int, int], step: int
) -> float:
    """Operations of one window: matrix products of the encoders and of the fusion transformer.

    A transformer layer of width C over n tokens in sequences of s takes n (24 C² + 4 s C).

    Args:
        config: The model.
        dates: Sensor to number of dates.
        window: (rows, columns) of 10 m cells.
        step: 10 m cells per fused place along one axis.
    """
    cells = window[0] * window[1]
    fusion = config.fusion
    places = cells / step**2
    total = 0.0
    for key, count in dates.items():
        if key == "hr":
            total += count * _swin(config, cells * 1024)
            read = 2 * fusion.in_dim * fusion.dim
        else:
            vit = config.s2 if key == "s2" else config.s1
            tokens = cells / vit.patch**2
            total += count * _layers(tokens, tokens, vit.dim, vit.layers)
            read = 2 * vit.dim * fusion.dim
        total += places * count * read
    length = sum(dates.values()) + 1
    return total + _layers(places * length, length, fusion.dim, fusion.layers)


def speed(encoder: Encoder, sensors: Sequence[str]) -> float:
    """Measured speed of an encoder on this machine (10¹² operations a second), in a few seconds.

    Returns:
        0 for an encoder without a network, whose time is that of reading the data.
    """
    if not isinstance(encoder, SkySenseEncoder):
        return 0.0
    dates = {key: 1 if key == "hr" else 2 for key in sensors}
    batch = _probe(dates)
    encoder(batch, 40)
    started = time.perf_counter()
    encoder(batch, 40)
    if encoder.device.type == "cuda":
        torch.cuda.synchronize(encoder.device)
    elapsed = time.perf_counter() - started
    done = operations(encoder.model.config, dates, (PROBE_CELLS, PROBE_CELLS), 4)
    return done / elapsed / 1e12


def _probe(dates: Mapping[str, int]) -> Batch:
    generator = torch.Generator().manual_seed(0)
    sensors = {}
    for key, count in dates.items():
        side = round(PROBE_CELLS * CELL / SENSORS[key].resolution)
        shape = (1, count, len(SENSORS[key].bands), side, side)
        mean = torch.tensor(SENSORS[key].mean)[:, None, None]
        std = torch.tensor(SENSORS[key].std)[:, None, None]
        pixels = mean + std * torch.randn(shape, generator=generator)
        valid = torch.ones(1, count, side, side, dtype=torch.bool)
        sensors[key] = SensorBatch(pixels, valid, torch.full((1, count), 180))
    return Batch(sensors, torch.zeros(1, 2))


def _layers(tokens: float, sequence: float, width: int, layers: int) -> float:
    return layers * tokens * (24 * width**2 + 4 * sequence * width)


def _swin(config: SkySenseConfig, pixels: float) -> float:
    hr, total = config.hr, 0.0
    for stage, depth in enumerate(hr.depths):
        width = hr.dim * 2**stage
        tokens = pixels / hr.patch**2 / 4**stage
        total += _layers(tokens, hr.window**2, width, depth)
        if stage:
            total += tokens * 16 * (width / 2) ** 2
    return total


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "under a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
