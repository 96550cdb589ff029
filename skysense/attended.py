"""Where the fusion looks. A secondary view: what a date does to the features is `sensitivity`."""

import threading

import torch
import xarray as xr

from skysense.batch import Batch
from skysense.dates import Dates
from skysense.encoders import Encoder, SkySenseEncoder
from skysense.errors import EncoderError
from skysense.plan import check_encoder
from skysense.region import Region
from skysense.sources.fetch import days_of
from skysense.streaming import FeatureStore
from skysense.subsets import SPACING, named_dates, read_whole
from skysense.tokens import TokenCache
from skysense.work import Progress, fill


def attention(
    stack: xr.DataTree,
    encoder: Encoder,
    *,
    resolution: int = SPACING,
    region: Region | None = None,
    dates: Dates | None = None,
    batch_size: int | None = None,
    memory_gb: float = 4.0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    cache: TokenCache | None = None,
) -> xr.DataArray:
    """How much SkySense's extra token attends to each date in the last layer of fusion.

    It is no explanation: earlier layers have mixed the dates before, and a date that is looked at
    may say what all others say. Show it beside `sensitivity`, never instead.

    Args:
        stack: As for `sensitivity`, as are the others.
        encoder: A SkySense model.
        resolution: Spacing (m): 10, 20 or 40.
        region: As for `embed`.
        dates: As for `embed`.
        batch_size: As for `embed`.
        memory_gb: As for `embed`; the stack must fit into it.
        progress: As for `embed`.
        cancel: As for `embed`.
        cache: As for `embed`.

    Returns:
        (attended, y, x) share of the attention, 0..1, mean over the heads; 0 for a date that saw
        nothing there, NaN where none did. What is missing from 1 the token gives itself.
        Coordinates along `attended`: the name of the date,
        `sensor` (key) and `date` (ISO day or `unknown`). One layer is a field.

    Raises:
        EncoderError: For an encoder without attention; else as `embed`.
        StackError: As `embed`.
        SourceError: As `embed`.
        Cancelled: As `embed`.
    """
    check_encoder(encoder)
    if not isinstance(encoder, SkySenseEncoder):
        raise EncoderError(
            f"{encoder.name} has no attention to show. Use sensitivity(stack, encoder), which "
            "every encoder can answer, or a SkySense encoder."
        )
    work, read = read_whole(
        stack, encoder, cache, lambda _: None, resolution=resolution, region=region, dates=dates,
        batch_size=batch_size, memory_gb=memory_gb, progress=progress, cancel=cancel,
    )  # fmt: skip
    names, grid = named_dates(read), work.job.grid
    turn = 0 if cache is None else cache.begin()

    def make(batch: Batch) -> torch.Tensor:
        known = encoder.encode(batch) if cache is None else cache.encode(encoder, batch, turn)
        return encoder.attention(known, grid.resolution)

    store = FeatureStore.create(None, len(names), grid.geobox, {})
    for step in fill(work, read, store, make, cancel=cancel):
        if progress is not None:
            progress(*step)
    found = store.finish(work.attrs(read))
    found.attrs |= {"kind": "continuous", "long_name": "attention", "units": "share"}
    found = found.rename(feature="attended").drop_vars("attended")
    return found.rename(None).assign_coords(
        attended=[name for _, _, name in names],
        sensor=("attended", [sensor for sensor, _, _ in names]),
        date=("attended", [days_of(read[sensor].to_dataset())[i] for sensor, i, _ in names]),
    )
