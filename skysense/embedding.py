"""Stack in, features out: where the array half and the tensor half meet.

    stack ── choose_dates ──▶ windows ── to_batch ──▶ encoder ──▶ cores ──▶ features

Every window is encoded on its own and only its core is kept, so a place has the same value
whatever rectangle was drawn around it. Coarse features (20 m, 40 m) are the 10 m features at some
of the cells, not means: they cost less and never move.
"""

import threading
from pathlib import Path

import xarray as xr

from skysense.cost import Cost
from skysense.dates import Dates
from skysense.encoders import Encoder
from skysense.plan import check_encoder, plan, usable_sensors
from skysense.region import Region
from skysense.sources.fetch import without
from skysense.streaming import FeatureStore
from skysense.tokens import TokenCache, check_cache, features_of
from skysense.work import Progress, begin, fill

__all__ = ["Progress", "embed", "forecast", "usable_sensors"]


def embed(
    stack: xr.DataTree,
    encoder: Encoder,
    *,
    resolution: int | None = None,
    region: Region | None = None,
    dates: Dates | None = None,
    batch_size: int | None = None,
    out: str | Path | None = None,
    memory_gb: float = 4.0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    cache: TokenCache | None = None,
) -> xr.DataArray:
    """Features of a place.

    Args:
        stack: From `load_stack`.
        encoder: From `load_encoder`, or anything with the same few attributes.
        resolution: Spacing of the features: 10, 20 or 40 m; the encoder's finest if None.
        region: Part of the stack; the region it was loaded for if None. Its bounds count: a
            polygon in it masks nothing, as NaN means unseen and nothing else.
        dates: Which dates to use; by default up to 20 clear Sentinel-2 dates spread over the
            period, 10 Sentinel-1 dates of one orbit direction, one high-resolution image.
        batch_size: Windows at once; chosen from the memory budget if None.
        out: A `.zarr` path to stream to; work that was interrupted goes on where it stopped.
        memory_gb: What the work may hold at once: weights, features unless streamed, the stack or
            the windows being read, and what the encoder makes of them (the program itself, about
            0.6 GB, comes on top; on a GPU, weights and the encoder's part are held against its own
            memory). Beyond it the work is refused with the estimate.
        progress: Called after each date that is read and after each batch of windows.
        cancel: Set it to stop; what was streamed to `out` stays.
        cache: Where SkySense finds dates that it encoded before, and keeps those it encodes now;
            its size comes on top of `memory_gb`. Other encoders pay no attention to it.

    Returns:
        DataArray (feature, y, x), float32, on the UTM grid, NaN where nothing usable was seen.
        Its `attrs` say how it was made. A date with an image that cannot be read is not used in
        any window, and `notes` name it; if windows were made with it, they are made again.

    Raises:
        StackError: If the stack or the region cannot be used.
        EncoderError: If the encoder cannot read this stack, or memory would not do.
        SourceError: If no image can be read, or the server has stopped answering.
        Cancelled: If `cancel` was set.
    """
    check_cache(cache)
    work = begin(
        stack,
        encoder,
        resolution=resolution,
        region=region,
        dates=dates,
        batch_size=batch_size,
        memory_gb=memory_gb,
        out=out,
        progress=progress,
        cancel=cancel,
    )
    grid = work.job.grid
    chosen = work.read(progress, cancel)
    store = FeatureStore.create(out, encoder.dim, grid.geobox, work.attrs(chosen))
    make = features_of(encoder, grid.resolution, cache)
    for step in fill(work, chosen, store, make, cancel=cancel):
        if progress is not None:
            progress(*step)
    return store.finish(work.attrs(without(chosen, store.lost)))


def forecast(
    stack: xr.DataTree,
    encoder: Encoder,
    *,
    resolution: int | None = None,
    region: Region | None = None,
    dates: Dates | None = None,
) -> Cost:
    """What `embed` with the same arguments will take; raises what it would raise."""
    check_encoder(encoder)
    return plan(stack, encoder, resolution, region, dates).cost
