"""Looks into SkySense V2 as maps: which expert a token went to, how much it attends to its prompts.

Both speak of tokens before fusion, one sensor at a time: 10 m of high resolution, 40 m of Sentinel. They
come window by window as features do, so a place has the same value whatever rectangle was drawn.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from skysense.analysis.pixels import field_like
from skysense.batch import Batch
from skysense.checks import choice, shown
from skysense.dates import ALL, Dates, choose_dates
from skysense.encoders import Encoder, SkySenseEncoder
from skysense.errors import EncoderError, StackError
from skysense.model import SkySenseV2
from skysense.plan import check_encoder
from skysense.region import Region
from skysense.sensors import SENSORS
from skysense.sources.fetch import days_of
from skysense.stack import sensors_of
from skysense.streaming import FeatureStore
from skysense.work import Progress, Work, begin, fill

TOKENS = {"hr": 10, "s2": 40, "s1": 40}
"""Side of a token (m) on these maps; finer tokens of another merge schedule are counted together."""


def experts(
    stack: xr.DataTree,
    encoder: Encoder,
    *,
    sensor: str = "s2",
    block: int = -1,
    date: str | None = None,
    region: Region | None = None,
    dates: Dates | None = None,
    batch_size: int | None = None,
    memory_gb: float = 4.0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> xr.DataArray:
    """Which expert each token of a sensor went to, in SkySense V2.

    It is no class of the ground: experts of random weights divide a place too, and trained ones
    divide it to please the loss. Show it beside features, never instead.

    Args:
        stack: As for `embed`.
        encoder: A SkySense V2 encoder with experts.
        sensor: `hr`, `s2` or `s1`, of those in the stack.
        block: Which of the blocks with experts, from 0; -1 = the last.
        date: ISO day: the one of the sensor's dates nearest to it. The expert that most dates went to
            if None; of equals the first.
        region: As for `embed`.
        dates: As for `embed`.
        batch_size: As for `embed`.
        memory_gb: As for `embed`.
        progress: As for `embed`.
        cancel: As for `embed`.

    Returns:
        (y, x) categorical, numbers of experts from 0 (`expert 1`, ...), NaN where no date was usable;
        spacing 10 m for hr and 40 m for s2 and s1, on the cells of features of that spacing. The
        coordinate `strength` is the share of the dates that went there, 0..1. `attrs` say `sensor`,
        `block` (from 0), `experts` (how many) and `shares`: of all tokens of all dates, that of each.

    Raises:
        EncoderError: For another encoder, a dense one, no such block or sensor; else as `embed`.
        StackError: The stack lacks the sensor or its dates no day; else as `embed`.
        SourceError: As `embed`.
        Cancelled: As `embed`.
    """
    model = _model(encoder, "experts")
    count, blocks = model.config.backbone.experts, model.config.backbone.moe_blocks
    if not blocks:
        raise EncoderError(
            f"{encoder.name} is dense: each of its tokens passes the same layers, so there is no map "
            "of experts. Load a SkySense V2 encoder with experts, such as skysense-v2-tiny-untrained."
        )
    number = _number(block, blocks, "blocks with experts")

    def make(batch: Batch, rows: int, columns: int) -> Tensor:
        found = encoder.experts(batch, number)[sensor]  # type: ignore[attr-defined]
        return votes(found, count, rows, columns)

    counted, attrs, seen = _map(
        stack, encoder, sensor, date, count, make, region=region, dates=dates,
        batch_size=batch_size, memory_gb=memory_gb, progress=progress, cancel=cancel,
    )  # fmt: skip
    values = counted.values
    total = values.sum(0)
    most = np.where(total > 0, values.argmax(0), np.nan).astype(np.float32)
    with np.errstate(invalid="ignore"):
        strength = (values.max(0) / total).astype(np.float32)
    every = np.nansum(values, axis=(1, 2), dtype=np.float64)
    attrs |= {
        "kind": "categorical",
        "family": "expert",
        "long_name": f"experts of {SENSORS[sensor].title}, {_which(number, blocks)}{seen}",
        "units": "",
        "categories": [f"expert {i + 1}" for i in range(count)],
        "sensor": sensor,
        "block": number,
        "experts": count,
        "shares": [round(float(each), 6) for each in every / max(every.sum(), 1)],
    }
    return field_like(counted, most, attrs).assign_coords(strength=(("y", "x"), strength))


def prompt_attention(
    stack: xr.DataTree,
    encoder: Encoder,
    *,
    sensor: str = "s2",
    block: int = -1,
    date: str | None = None,
    region: Region | None = None,
    dates: Dates | None = None,
    batch_size: int | None = None,
    memory_gb: float = 4.0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> xr.DataArray:
    """How much the tokens of a sensor attend to the prompts that tell it apart, in SkySense V2.

    Args:
        stack: As for `experts`, as are the others.
        encoder: A SkySense V2 encoder with prompts.
        sensor: As for `experts`.
        block: Which block of plain attention, from 0; -1 = the last.
        date: As for `experts`; the mean over the usable dates if None.
        region: As for `embed`.
        dates: As for `embed`.
        batch_size: As for `embed`.
        memory_gb: As for `embed`.
        progress: As for `embed`.
        cancel: As for `embed`.

    Returns:
        (y, x) continuous: share of a token's attention, 0..1, that goes to all prompts together, mean
        over the heads; NaN where no date was usable. Grid as of `experts`. `attrs["even"]` is what
        it would be if a token looked at all tokens of its window alike.

    Raises:
        EncoderError: For another encoder, one without prompts, no such block or sensor; else as
            `embed`.
        StackError: As `experts`.
        SourceError: As `embed`.
        Cancelled: As `embed`.
    """
    model = _model(encoder, "prompt tokens")
    config = model.config.backbone
    if not config.prompts:
        raise EncoderError(
            f"{encoder.name} has no prompt tokens, so nothing attends to them. Load another SkySense V2 "
            "encoder."
        )
    blocks = sum(config.depths[2:])
    number, evenly = _number(block, blocks, "blocks of plain attention"), []

    def make(batch: Batch, rows: int, columns: int) -> Tensor:
        found = encoder.prompt_attention(batch, number)[sensor]  # type: ignore[attr-defined]
        evenly.append(config.prompts / (config.prompts + found.shape[-2] * found.shape[-1]))
        return mean_seen(found.sum(2), rows, columns)

    mapped, attrs, seen = _map(
        stack, encoder, sensor, date, 1, make, region=region, dates=dates, batch_size=batch_size,
        memory_gb=memory_gb, progress=progress, cancel=cancel,
    )  # fmt: skip
    attrs |= {
        "kind": "continuous",
        "long_name": f"attention to prompts of {SENSORS[sensor].title}, {_which(number, blocks)}{seen}",
        "units": "share",
        "sensor": sensor,
        "block": number,
        "even": round(float(np.mean(evenly)), 6),
    }
    return field_like(mapped, mapped.values[0], attrs)


def votes(
    found: Int[Tensor, "b t h w"], count: int, rows: int, columns: int
) -> Float[Tensor, "b count rows columns"]:
    """How often each expert was chosen at each cell, over dates and finer tokens; NaN for never."""
    chosen = F.one_hot(found.clamp(min=0), count) * (found >= 0)[..., None]
    chosen = chosen.sum(1).permute(0, 3, 1, 2).float()  # b count h w
    summed = _summed(chosen, rows, columns)
    return torch.where(summed.sum(1, keepdim=True) > 0, summed, torch.nan)


def mean_seen(
    found: Float[Tensor, "b t h w"], rows: int, columns: int
) -> Float[Tensor, "b 1 rows columns"]:
    """The mean over dates and finer tokens of what is no NaN."""
    seen = found.isfinite()
    total = _summed(torch.where(seen, found, 0).float().sum(1, keepdim=True), rows, columns)
    return total / _summed(seen.float().sum(1, keepdim=True), rows, columns)  # 0 / 0 is NaN


def _summed(x: Tensor, rows: int, columns: int) -> Tensor:
    """Finer tokens of a cell added up, coarser ones repeated."""
    if x.shape[2] > rows:
        side = x.shape[2] // rows
        return F.avg_pool2d(x, side) * side**2
    if x.shape[2] < rows or x.shape[3] < columns:
        down, right = -(-rows // x.shape[2]), -(-columns // x.shape[3])
        x = x.repeat_interleave(down, 2).repeat_interleave(right, 3)[:, :, :rows, :columns]
    return x


def _map(
    stack: xr.DataTree,
    encoder: Encoder,
    sensor: str,
    date: str | None,
    layers: int,
    make: Callable[[Batch, int, int], Tensor],
    *,
    dates: Dates | None,
    progress: Progress | None,
    cancel: threading.Event | None,
    **options: Any,
) -> tuple[xr.DataArray, dict[str, Any], str]:
    """(layers, y, x) of one sensor's tokens, what to say of them, and which date they are of."""
    part, day = _chosen(stack, encoder, sensor, date, dates)
    spacing = TOKENS[sensor]
    work: Work = begin(
        part, encoder, resolution=spacing, dates=ALL, progress=progress,
        cancel=cancel, **options,
    )  # fmt: skip
    read, grid = work.read(progress, cancel), work.job.grid
    store = FeatureStore.create(None, layers, grid.geobox, {})

    def made(batch: Batch) -> Tensor:
        cells = 32 if sensor == "hr" else 1  # pixels of a sensor along one 10 m cell
        rows, columns = (n // cells * 10 // spacing for n in batch.sensors[sensor].valid.shape[-2:])
        return make(batch, rows, columns)

    for step in fill(work, read, store, made, cancel=cancel):
        if progress is not None:
            progress(*step)
    found = store.finish(work.attrs(read))
    return found, dict(found.attrs), f", {day}" if day else ""


def _chosen(
    stack: xr.DataTree, encoder: Encoder, sensor: str, date: str | None, dates: Dates | None
) -> tuple[xr.DataTree, str]:
    """The stack with the dates of one sensor that count, and the day if it is a single one."""
    choice("sensor", sensor, SENSORS, EncoderError)
    held = sensors_of(stack)
    if sensor not in held or sensor not in encoder.sensors:
        there = [key for key in held if key in encoder.sensors]
        raise StackError(
            f"There is no {SENSORS[sensor].title} here that {encoder.name} reads; the stack has "
            f"{', '.join(there) or 'nothing for it'}. Choose another sensor or load it."
        )
    part = choose_dates(stack, dates)
    if sensor not in sensors_of(part):
        raise StackError(
            f"The rule for dates keeps none of {SENSORS[sensor].title}. Widen the period, or choose "
            "another sensor."
        )
    group, day = part[sensor].to_dataset(), ""
    if date is not None:
        at = _nearest(group, sensor, date)
        group, day = group.isel(time=[at]), days_of(group)[at]
    return xr.DataTree.from_dict({"/": part.to_dataset(), f"/{sensor}": group}), day


def _nearest(group: xr.Dataset, sensor: str, date: Any) -> int:
    """Number of the date nearest to a day."""
    times = group["time"].values.astype("datetime64[D]")
    try:
        wanted = np.datetime64(date, "D") if isinstance(date, str) else np.datetime64("NaT")
    except ValueError:
        wanted = np.datetime64("NaT")
    if np.isnat(wanted):
        raise StackError(
            f"date={shown(date)} is no day; give one such as '2024-06-30', or leave it out."
        )
    if np.isnat(times).all():
        raise StackError(
            f"The dates of {SENSORS[sensor].title} are unknown, so none is nearest to {date}. Leave "
            "date out."
        )
    away = np.abs((times - wanted).astype(float))
    return int(np.nanargmin(np.where(np.isnat(times), np.nan, away)))


def _model(encoder: Encoder, what: str) -> SkySenseV2:
    """The model of an encoder that can be looked into."""
    check_encoder(encoder)
    if not isinstance(encoder, SkySenseEncoder):
        raise EncoderError(
            f"{encoder.name} has no {what}; only SkySense V2 has. Load skysense-v2-tiny-untrained or a "
            "trained one."
        )
    if not isinstance(encoder.model, SkySenseV2):
        raise EncoderError(
            f"{encoder.name} is SkySense V1, which has no {what}; load a SkySense V2 encoder."
        )
    return encoder.model


def _number(block: Any, count: int, what: str) -> int:
    """A block counted from 0."""
    if type(block) is not int or not -count <= block < count:
        raise EncoderError(
            f"block={shown(block)}: this model has {count} {what}; give 0 to {count - 1}, or -1 for "
            "the last."
        )
    return block % count


def _which(number: int, count: int) -> str:
    return f"block {number + 1} of {count}"
