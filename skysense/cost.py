"""What an embedding will take, known before it starts: windows, gigabytes, seconds.

Operations are counted from the model's configuration (one multiply-add is two); seconds come from
them and from a short run of the same encoder on this machine. Read them as "seconds or minutes?",
not as a promise: a busy machine and small models are slower than their arithmetic.

Gigabytes are a sum of tensors: the weights, the stack and the features where these are held, and
for a batch of windows what is read, what each step of the encoder makes of it, and what stays. How
many copies a step holds at once was measured (peak resident memory in a process of its own, three
encoders, two to three sensors, one to eight windows); the sum is meant to be somewhat too large.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import xarray as xr

from skysense.batch import Batch, SensorBatch
from skysense.encoders import Encoder, SkySenseEncoder, SpectralBaseline
from skysense.model.temporal import MAX_TOKENS
from skysense.operations import operations, widest
from skysense.sensors import CELL, SENSORS
from skysense.sources.fetch import is_lazy

PROBE_CELLS = 32
"""Side of the probe window in 10 m cells: large enough to be bound by arithmetic, not by calls."""

PROGRAM_GB = 0.65
"""Python and the libraries, those that read files among them, without any work."""

KERNELS_GB = 0.2
"""What running a network at all brings into memory: code, and its libraries' workspaces."""

MAX_BATCH = 8
"""Most windows at once when nobody names a number."""

LAYER = 10
"""Tensors as wide as a transformer layer's tokens that it holds at once."""

SHIFTED = 14
"""The same for a layer of the high-resolution encoder, which also reorders its tokens."""

QUANTILE = 7
"""Copies of its input that a percentile over dates holds at once: it sorts, with places."""

READING = 5
"""Copies of one window's pixels while they are cut, masked and put on the window's grid."""

LOADING = 2
"""Copies of a date beside the one that is kept, while a stack is read whole."""


@dataclass(frozen=True)
class Cost:
    """Size of one call of `embed`."""

    windows: int
    output_gb: float
    """The features."""
    stack_gb: float
    """The chosen dates of the stack, where the windows are."""
    read_gb: float
    """Pixels of one window of a batch, as read."""
    window_gb: float
    """What the encoder keeps of one window until its batch is done."""
    weights_gb: float
    """The network's numbers and code."""
    tflop: float
    """Operations of all windows (10¹²); 0 for an encoder without a network."""
    load_gb: float = 0.0
    """Working memory of reading the largest date, before the first window."""
    steps: tuple[tuple[float, float], ...] = ()
    """Working memory of steps that follow each other (GB): per window of a batch, and at most."""
    lazy: bool = True
    """True if the stack is not in memory yet."""
    dates: tuple[tuple[str, int], ...] = ()
    """(sensor, dates that are read)."""
    cells: int = 0
    """How many places on the ground get a feature."""
    gpu_gb: float | None = None
    """Free memory of the GPU that holds weights and working memory; None if the machine's does."""

    def batch_gb(self, size: int) -> float:
        """Working memory of `size` windows at once, input included."""
        work = max((min(size * each, most) for each, most in self.steps), default=0.0)
        return size * (self.read_gb + self.window_gb) + work

    def need_gb(self, size: int, *, held: bool, streamed: bool) -> float:
        """What `size` windows at once take of the machine's memory, the program itself not counted.

        Args:
            size: Windows at once.
            held: Whether the stack is read whole, and not window by window.
            streamed: Whether the features go to disk, and not to memory.
        """
        size = min(size, self.windows)
        kept = self.stack_gb * (held or not self.lazy) + self.output_gb * (not streamed)
        load = self.load_gb * (held and self.lazy)
        if self.gpu_gb is not None:
            return kept + max(load, size * (self.read_gb + self.window_gb))
        return kept + self.weights_gb + max(load, self.batch_gb(size))

    def fits(self, size: int, memory_gb: float, *, held: bool, streamed: bool) -> bool:
        """Whether `size` windows at once keep within the budget and, if there is one, the GPU."""
        if self.gpu_gb is not None and self.batch_gb(min(size, self.windows)) > self.gpu_gb:
            return False
        return self.need_gb(size, held=held, streamed=streamed) <= memory_gb

    def holds_stack(self, memory_gb: float, *, streamed: bool) -> bool:
        """Whether to read the stack whole: neighbouring windows share pixels.

        It may take a quarter of the budget, if the rest is enough for the work.
        """
        small = self.stack_gb < memory_gb / 4
        return small and self.fits(1, memory_gb, held=True, streamed=streamed)

    def batch(self, memory_gb: float, *, streamed: bool = False) -> int:
        """Windows at once that fit into half the budget, at least one, at most eight.

        Half, because more windows at once are little faster: the encoder cuts them up anyway.
        """
        held = self.holds_stack(memory_gb, streamed=streamed)
        sizes = range(1, min(MAX_BATCH, self.windows) + 1)
        fitting = [n for n in sizes if self.fits(n, memory_gb / 2, held=held, streamed=streamed)]
        return max(fitting, default=1)

    def seconds(self, tflops: float) -> float:
        """Expected time at a measured speed (10¹² operations a second)."""
        return self.tflop / tflops if tflops > 0 else 0.0

    def peak_gb(self, memory_gb: float = 4.0, *, streamed: bool = False) -> float:
        """What the whole program will hold at its peak, on the machine and on its GPU."""
        held = self.holds_stack(memory_gb, streamed=streamed)
        size = self.batch(memory_gb, streamed=streamed)
        need = self.need_gb(size, held=held, streamed=streamed)
        on_gpu = 0.0 if self.gpu_gb is None else self.weights_gb + self.batch_gb(size)
        return PROGRAM_GB + need + on_gpu

    def sentence(self, tflops: float = 0.0, memory_gb: float = 4.0) -> str:
        """The cost in words, for the screen: dates, pixels, windows, memory, time."""
        memory = self.peak_gb(memory_gb)
        counts = [f"{n} {SENSORS[key].title}" for key, n in self.dates]
        parts = [f"{' + '.join(counts)} dates"] if counts else []
        parts += [f"{self.cells:,} pixels"] if self.cells else []
        parts.append(f"{self.windows} window{'s' * (self.windows != 1)}")
        parts.append(f"about {memory:.1f} GB")
        if self.tflop and tflops:
            each = self.seconds(tflops) / self.windows
            parts.append(f"{duration(self.seconds(tflops))} ({duration(each)} per window)")
        elif not self.tflop:
            parts.append(f"the time to read {max(1, self.stack_gb * 1000):,.0f} MB")
        return ", ".join(parts)

    def refusal(self, size: int, memory_gb: float, *, streamed: bool) -> str:
        """Why `size` windows at once do not fit, with the numbers and what to do; empty if they do.

        Args:
            size: Windows at once.
            memory_gb: The budget.
            streamed: Whether the features go to disk.
        """
        held = self.holds_stack(memory_gb, streamed=streamed)
        if self.fits(size, memory_gb, held=held, streamed=streamed):
            return ""
        count = min(size, self.windows)
        batch = f"{count} window{'s' * (count != 1)} at once"
        fitting = self.batch(memory_gb, streamed=streamed)
        smaller = fitting < count and self.fits(fitting, memory_gb, held=held, streamed=streamed)
        if self.gpu_gb is not None and self.batch_gb(count) > self.gpu_gb:
            advice = f"Pass batch_size={fitting}" if smaller else "Use fewer dates, or device='cpu'"
            return (
                f"{batch} would take {self.batch_gb(count):.1f} GB of the GPU's memory, of which "
                f"{self.gpu_gb:.1f} GB are free. {advice}."
            )
        need = self.need_gb(count, held=held, streamed=streamed)
        parts = {
            "features": self.output_gb * (not streamed),
            "stack": self.stack_gb * (held or not self.lazy),
            "weights": self.weights_gb * (self.gpu_gb is None),
        }
        parts[batch] = need - sum(parts.values())
        named = ", ".join(f"{k} {_amount(v)}" for k, v in parts.items() if v > 0)
        enough = math.ceil(need * 10) / 10
        if smaller:
            advice = f"Pass batch_size={fitting}."
        elif not streamed and self.fits(1, memory_gb, held=held, streamed=True):
            advice = (
                "Pass out='features.zarr' to stream the features to disk, choose a coarser "
                f"resolution or a smaller region, or pass memory_gb={enough:g}."
            )
        else:
            advice = f"Use fewer dates or a smaller encoder, or pass memory_gb={enough:g}."
        return (
            f"This would take {_amount(need)} of memory ({named}), more than "
            f"memory_gb={memory_gb:g}. {advice}"
        )


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
    values = {
        key: count * len(SENSORS[key].bands) * _pixels(key, window) for key, count in dates.items()
    }
    read = sum(values.values()) * 4 + sum(n * _pixels(k, window) for k, n in dates.items())
    places = window[0] * window[1] / step**2
    size = torch.finfo(encoder.dtype).bits / 8
    weights = tflop = 0.0
    if isinstance(encoder, SkySenseEncoder):
        weights = sum(p.numel() * p.element_size() for p in encoder.model.parameters()) / 1e9
        weights += KERNELS_GB
        made = operations(encoder.model.config, dates, window, step, encoder.schedule)
        tflop = windows * made / 1e12
        kept, steps = _network(encoder, dates, values, window, places)
    elif isinstance(encoder, SpectralBaseline):
        kept = encoder.dim * places * size * 3 + sum(values.values()) * (size if size != 4 else 0)
        steps = [_spectral(key, n, step) * size for key, n in values.items()]
        steps = [(each, math.inf) for each in steps]
    else:
        kept, steps = (sum(values.values()) + encoder.dim * places) * size * 6, []
    reading = READING * 4 * max(values.values())
    held = {key: stack[key]["data"].nbytes + stack[key]["valid"].nbytes for key in sensors}
    free = torch.cuda.mem_get_info(encoder.device)[0] if encoder.device.type == "cuda" else None
    return Cost(
        windows=windows,
        output_gb=encoder.dim * cells[0] * cells[1] * 4 / 1e9,
        stack_gb=sum(held.values()) / 1e9,
        read_gb=read / 1e9,
        window_gb=kept / 1e9,
        weights_gb=weights,
        tflop=tflop,
        load_gb=LOADING * max(held[key] / dates[key] for key in sensors) / 1e9,
        steps=tuple((each / 1e9, most / 1e9) for each, most in [*steps, (reading, reading)]),
        lazy=any(is_lazy(stack[key].to_dataset()) for key in sensors),
        dates=tuple(dates.items()),
        cells=cells[0] * cells[1],
        gpu_gb=None if free is None else free / 1e9,
    )


def _network(
    encoder: SkySenseEncoder,
    dates: Mapping[str, int],
    values: Mapping[str, float],
    window: tuple[int, int],
    places: float,
) -> tuple[float, list[tuple[float, float]]]:
    """Bytes kept per window, and of each step per window and at most."""
    config, device = encoder.model.config, encoder.device.type
    size = torch.finfo(encoder.dtype).bits / 8
    limit = MAX_TOKENS.get(device, MAX_TOKENS["cpu"])
    kept = places * encoder.dim * size * 4
    kept += sum(values.values()) * size  # normalised
    steps: list[tuple[float, float]] = []
    for key, count in dates.items():
        part = getattr(config, key)
        image = _pixels(key, window) / part.patch**2  # tokens
        kept += 2 * count * _pixels(key, window) / part.stride**2 * part.out_dim * size
        wide = widest(config, key, _pixels(key, window), encoder.schedule)
        wide *= (SHIFTED if key == "hr" else LAYER) * size
        steps.append((count * wide, max(limit / image, 1) * wide))
        steps.append((3 * 4 * values[key], math.inf))  # while it is normalised
    length = sum(dates.values()) + 1
    wide = (LAYER * config.fusion.dim + config.fusion.in_dim) * size
    steps.append((places * length * wide, limit * wide))
    return kept, steps


def _spectral(key: str, values: float, step: int) -> float:
    """Values that percentiles of one sensor hold at once."""
    return values * 5 if key == "hr" else values * (3 + QUANTILE / step**2)


def _pixels(key: str, window: tuple[int, int]) -> float:
    """Pixels of one date of a sensor in a window of 10 m cells."""
    return window[0] * window[1] * (CELL / SENSORS[key].resolution) ** 2


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
    window = (PROBE_CELLS, PROBE_CELLS)
    done = operations(encoder.model.config, dates, window, 4, encoder.schedule)
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


def _amount(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{gigabytes:.2g} GB"


def duration(seconds: float) -> str:
    """So many seconds, in words for a person who waits."""
    if seconds < 1:
        return "under a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
