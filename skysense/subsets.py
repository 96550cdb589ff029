"""What the features would be with other dates: which date matters, how sure they are, a control.

A fusion is cheap once every date is encoded (and kept, see `skysense.tokens`), so a place is fused
again and again with some dates left out, window by window; only distances are kept. Leaving a
date out means that none of its pixels counts. All distances are cosine distances, 0 (the same) to 2.

An encoder without two halves, such as the spectral baseline, is simply run again for each choice.
"""

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor

from skysense.batch import Batch, SensorBatch
from skysense.checks import choice, seed_of, whole
from skysense.dates import Dates
from skysense.encoders import Encoder
from skysense.errors import EncoderError, StackError
from skysense.region import Region
from skysense.sensors import SENSORS
from skysense.sources.fetch import days_of
from skysense.stack import sensors_of
from skysense.streaming import FeatureStore
from skysense.tokens import ByDate, TokenCache, check_cache
from skysense.work import Progress, Work, begin, fill

MOST_DROPS = 64
"""More dates than this are not left out one by one: each is a fusion of the whole place."""

MOST_SPLITS = 32

SPACING = 40
"""Spacing (m) where nobody names one: a sixteenth of the cells, which is enough to see."""

Kept = dict[str, np.ndarray]
"""Sensor to (time,) bool: which dates count."""


def sensitivity(
    stack: xr.DataTree,
    encoder: Encoder,
    *,
    drop: str = "date",
    resolution: int = SPACING,
    region: Region | None = None,
    dates: Dates | None = None,
    batch_size: int | None = None,
    memory_gb: float = 4.0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    cache: TokenCache | None = None,
) -> xr.DataArray:
    """How much the features of each cell hang on one date, or on one sensor.

    Args:
        stack: As for `embed`, as are the others that are not named here; it is read whole.
        encoder: Any; one that encodes date by date is quick.
        drop: `date`: leave out one date at a time; `sensor`: all dates of a sensor at a time.
        resolution: Spacing (m): 10, 20 or 40.
        region: As for `embed`.
        dates: As for `embed`; at most 64 in all if `drop` is `date`.
        batch_size: As for `embed`.
        memory_gb: As for `embed`; the stack must fit into it.
        progress: As for `embed`.
        cancel: As for `embed`.
        cache: As for `embed`.

    Returns:
        (dropped, y, x) cosine distance, 0..2, between the features with and without; 0 where what
        was dropped saw nothing, NaN where nothing else saw anything. A little of it is that there
        is one date fewer, whatever it showed: compare dates with each other, not with 0. Coordinates along `dropped`:
        its name, `sensor` (key) and `date` (ISO day, `unknown`, or empty for a sensor).
        One layer, `.isel(dropped=0)`, is a continuous field.

    Raises:
        StackError: If there is nothing to leave out, or too much, or as `embed`.
        EncoderError: As `embed`.
        SourceError: As `embed`.
        Cancelled: As `embed`.
    """
    choice("drop", drop, ("date", "sensor"), EncoderError)
    work, read = read_whole(
        stack, encoder, cache, lambda part: _check_drops(part, drop), resolution=resolution,
        region=region, dates=dates, batch_size=batch_size, memory_gb=memory_gb,
        progress=progress, cancel=cancel,
    )  # fmt: skip
    dropped = _dropped(read, drop)
    every = _every(read)
    pairs = [(every, _without(every, sensor, date)) for sensor, date, _ in dropped]
    found, attrs = _distances(work, read, pairs, progress, cancel, cache)
    attrs |= {"long_name": "sensitivity"}
    coords = {
        "dropped": [name for _, _, name in dropped],
        "sensor": ("dropped", [sensor for sensor, _, _ in dropped]),
        "date": ("dropped", ["" if i is None else days_of(read[k])[i] for k, i, _ in dropped]),
    }
    layers = found.rename(feature="dropped").drop_vars("dropped").assign_coords(coords)
    layers.attrs = attrs
    return layers.rename(None)


def uncertainty(
    stack: xr.DataTree,
    encoder: Encoder,
    *,
    splits: int = 4,
    seed: int = 0,
    resolution: int = SPACING,
    region: Region | None = None,
    dates: Dates | None = None,
    batch_size: int | None = None,
    memory_gb: float = 4.0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    cache: TokenCache | None = None,
) -> xr.DataArray:
    """How much the features of each cell depend on which half of the dates was seen.

    The two halves have equally many dates, so where all dates say the same it is 0: how many dates
    there are moves the features too, which is no doubt about the ground.

    Args:
        stack: As for `embed`, as are the others that are not named here; it is read whole.
        encoder: Any; one that encodes date by date is quick.
        splits: How often each sensor's dates are halved at random, 1 to 32. A single date is in
            both halves; of an odd number one is in neither.
        seed: Of the halves.
        resolution: Spacing (m): 10, 20 or 40.
        region: As for `embed`.
        dates: As for `embed`.
        batch_size: As for `embed`.
        memory_gb: As for `embed`; the stack must fit into it.
        progress: As for `embed`.
        cancel: As for `embed`.
        cache: As for `embed`.

    Returns:
        (y, x) continuous: mean cosine distance, 0..2, between the features of the two halves, over
        the splits of which both saw the cell; NaN where there is none.

    Raises:
        StackError: If no sensor has two dates, or as `embed`.
        EncoderError: As `embed`.
        SourceError: As `embed`.
        Cancelled: As `embed`.
    """
    splits = whole("splits", splits, 1, MOST_SPLITS, EncoderError)
    seed = seed_of(seed, EncoderError)
    work, read = read_whole(
        stack, encoder, cache, check_halves, resolution=resolution, region=region, dates=dates,
        batch_size=batch_size, memory_gb=memory_gb, progress=progress, cancel=cancel,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    pairs = [halves(read, rng) for _ in range(splits)]
    found, attrs = _distances(work, read, pairs, progress, cancel, cache)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        mean = np.nanmean(found.values, 0, dtype=np.float64).astype(np.float32)
    attrs |= {
        "long_name": f"disagreement of halves of the dates ({splits} splits)",
        "splits": splits,
        "seed": seed,
    }
    return _field(found, mean, attrs)


def change_control(
    stack: xr.DataTree,
    encoder: Encoder,
    *,
    seed: int = 0,
    resolution: int = SPACING,
    region: Region | None = None,
    dates: Dates | None = None,
    batch_size: int | None = None,
    memory_gb: float = 4.0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    cache: TokenCache | None = None,
) -> xr.DataArray:
    """What `change` gives where nothing happened: two halves of the dates of one period.

    Args:
        stack: As for `embed`, as are the others that are not named here; it is read whole.
        encoder: Any; one that encodes date by date is quick.
        seed: Which dates go to which half. A single date is in both, of an odd number one in
            neither.
        resolution: Spacing (m): 10, 20 or 40.
        region: As for `embed`.
        dates: The period, as for `embed`.
        batch_size: As for `embed`.
        memory_gb: As for `embed`; the stack must fit into it.
        progress: As for `embed`.
        cancel: As for `embed`.
        cache: As for `embed`.

    Returns:
        (y, x) cosine distance, 0..2, as `change`; NaN where a half saw nothing.

    Raises:
        StackError: If no sensor has two dates, or as `embed`.
        EncoderError: As `embed`.
        SourceError: As `embed`.
        Cancelled: As `embed`.
    """
    seed = seed_of(seed, EncoderError)
    work, read = read_whole(
        stack, encoder, cache, check_halves, resolution=resolution, region=region, dates=dates,
        batch_size=batch_size, memory_gb=memory_gb, progress=progress, cancel=cancel,
    )  # fmt: skip
    pair = halves(read, np.random.default_rng(seed))
    found, attrs = _distances(work, read, [pair], progress, cancel, cache)
    attrs |= {"long_name": "change between halves of one period (control)", "seed": seed}
    return _field(found, found.values[0], attrs)


def read_whole(
    stack: xr.DataTree,
    encoder: Encoder,
    cache: TokenCache | None,
    check: Callable[[xr.DataTree], None],
    *,
    progress: Progress | None,
    cancel: threading.Event | None,
    **options: Any,
) -> tuple[Work, xr.DataTree]:
    """What `embed` would do, and its stack in memory; `check` sees it before and after reading."""
    check_cache(cache)
    work = begin(stack, encoder, progress=progress, cancel=cancel, **options)
    check(work.job.stack)
    read = work.read(progress, cancel, hold=True)
    check(read)  # reading may have cost a date
    return work, read


def _distances(
    work: Work,
    stack: xr.DataTree,
    pairs: Sequence[tuple[Kept, Kept]],
    progress: Progress | None,
    cancel: threading.Event | None,
    cache: TokenCache | None,
) -> tuple[xr.DataArray, dict[str, Any]]:
    """Distances (pairs, y, x) between features of two choices of dates, and what to say of them."""
    grid = work.job.grid
    again = fused(work.encoder, grid.resolution, cache)

    def make(batch: Batch) -> Tensor:
        of, layers, reference, known = again(batch), [], None, None
        for one, other in pairs:
            if reference is None or one is not known:
                reference, known = _unit(of(one)), one
            layers.append((reference - _unit(of(other))).square().sum(1) / 2)
        return torch.stack(layers, dim=1)

    store = FeatureStore.create(None, len(pairs), grid.geobox, {})
    for step in fill(work, stack, store, make, cancel=cancel):
        if progress is not None:
            progress(*step)
    attrs = {**work.attrs(stack), "kind": "continuous", "units": "cosine distance"}
    found = store.finish(attrs)
    return found, dict(found.attrs)


def fused(
    encoder: Encoder, stride: int, cache: TokenCache | None
) -> Callable[[Batch], Callable[[Kept], Tensor]]:
    """From a batch to what gives the features of any choice of its dates."""
    turn = 0 if cache is None else cache.begin()

    def of(batch: Batch) -> Callable[[Kept], Tensor]:
        if not isinstance(encoder, ByDate):
            return lambda kept: encoder(_batch_of(batch, kept), stride)
        known = encoder.encode(batch) if cache is None else cache.encode(encoder, batch, turn)

        def again(kept: Kept) -> Tensor:
            parts = {
                key: each._replace(valid=each.valid & _mask(kept[key], each.valid))
                for key, each in known.items()
            }
            return encoder.fuse(parts, batch.lonlat, stride)

        return again

    return of


def _batch_of(batch: Batch, kept: Kept) -> Batch:
    """A batch in which only some dates count."""
    return Batch(
        {
            key: SensorBatch(each.pixels, each.valid & _mask(kept[key], each.valid), each.doy)
            for key, each in batch.sensors.items()
        },
        batch.lonlat,
    )


def _mask(kept: np.ndarray, valid: Tensor) -> Tensor:
    return torch.from_numpy(kept).to(valid.device)[None, :, None, None]


def _unit(features: Tensor) -> Tensor:
    """Half the squared distance of unit vectors is 1 − cosine, and exactly 0 for equal ones."""
    return F.normalize(features.double(), dim=1)


def _every(stack: xr.DataTree) -> Kept:
    return {key: np.ones(stack[key].sizes["time"], bool) for key in sensors_of(stack)}


def _without(every: Kept, sensor: str, date: int | None) -> Kept:
    """All dates but one, or but those of one sensor."""
    part = every[sensor].copy()
    part[slice(None) if date is None else date] = False
    return {**every, sensor: part}


def halves(stack: xr.DataTree, rng: np.random.Generator) -> tuple[Kept, Kept]:
    """Two random halves of each sensor's dates, equally large; a single date is in both."""
    one, other = {}, {}
    for key, count in _counts(stack).items():
        order = rng.permutation(count)
        half = count // 2
        parts = (order[:half], order[half : 2 * half]) if half else (order, order)
        one[key], other[key] = (np.isin(np.arange(count), part) for part in parts)
    return one, other


def named_dates(stack: xr.DataTree) -> list[tuple[str, int, str]]:
    """(sensor, index, name) of each date, sensor by sensor; names are unique."""
    found, seen = [], dict[str, int]()
    for key in sensors_of(stack):
        for i, day in enumerate(days_of(stack[key].to_dataset())):
            name = f"{SENSORS[key].title} {day}"
            seen[name] = count = seen.get(name, 0) + 1
            found.append((key, i, name if count == 1 else f"{name} ({count})"))
    return found


def _dropped(stack: xr.DataTree, drop: str) -> Sequence[tuple[str, int | None, str]]:
    """(sensor, date, name) of each thing to leave out."""
    if drop == "sensor":
        return [(key, None, SENSORS[key].title) for key in sensors_of(stack)]
    return named_dates(stack)


def _check_drops(stack: xr.DataTree, drop: str) -> None:
    """Raise `StackError` unless something is left when something is dropped, and not too often."""
    counts = _counts(stack)
    if drop == "sensor" and len(counts) < 2:
        raise StackError(
            f"Only {SENSORS[next(iter(counts))].title} is used, so no sensor can be left out. Load "
            "another sensor, or leave out dates with drop='date'."
        )
    total = sum(counts.values())
    if drop == "date" and total < 2:
        raise StackError(
            "Only one date is used, so none can be left out: without it there are no features. "
            "Choose more dates."
        )
    if drop == "date" and total > MOST_DROPS:
        raise StackError(
            f"{total} dates would be left out one by one, more than {MOST_DROPS}. Choose fewer "
            "with dates=, or leave out whole sensors with drop='sensor'."
        )


def check_halves(stack: xr.DataTree) -> None:
    """Raise `StackError` unless some sensor's dates can be halved."""
    if max(_counts(stack).values()) < 2:
        raise StackError(
            "No sensor has two dates, so there are no halves to compare. Choose more dates."
        )


def _counts(stack: xr.DataTree) -> Mapping[str, int]:
    return {key: int(stack[key].sizes["time"]) for key in sensors_of(stack)}


def _field(layers: xr.DataArray, values: np.ndarray, attrs: dict[str, Any]) -> xr.DataArray:
    """(y, x) values on the grid of layers."""
    field = layers.isel(feature=0, drop=True).copy(data=values).rename(None)
    field.attrs = attrs
    return field
