"""Features while they are made: a coarse lattice first, then window by window from a centre.

    for features in embed_steps(stack, encoder, centre=(lon, lat)):
        ...  # draw them; NaN where nothing was made yet

The coarse pass encodes every date and fuses few cells; what it encoded is kept, so the fine pass
only fuses.
"""

import math
import threading
from collections.abc import Iterator
from typing import Any

import xarray as xr
from pyproj import Transformer

from skysense.checks import as_number, shown
from skysense.dates import Dates
from skysense.encoders import STRIDES, Encoder
from skysense.errors import Cancelled, EncoderError
from skysense.plan import Grid
from skysense.region import Region
from skysense.sources.fetch import without
from skysense.streaming import FeatureStore, Lost
from skysense.tokens import TokenCache, check_cache, features_of
from skysense.work import Progress, Work, begin, fill

COARSE = STRIDES[-1]
"""Spacing of what is shown first (m)."""

KEPT = 4
"""One part in so many of the memory budget comes on top, for dates kept between the passes."""


def embed_steps(
    stack: xr.DataTree,
    encoder: Encoder,
    *,
    centre: tuple[float, float] | None = None,
    resolution: int | None = None,
    region: Region | None = None,
    dates: Dates | None = None,
    batch_size: int | None = None,
    memory_gb: float = 4.0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    cache: TokenCache | None = None,
) -> Iterator[xr.DataArray]:
    """Features of a place as they come: first one cell in every 40 m, then at `resolution`.

    The last array is what `embed` gives, to the bit: the windows of a batch are the same, only
    the batches come in another order. Smaller batches (`batch_size=1`) give more steps, in stricter
    order.

    Args:
        stack: As for `embed`, as are the others that are not named here.
        encoder: Any.
        centre: (lon, lat) from which windows go outwards, such as the middle of the screen; the
            middle of the region if None. It may lie outside.
        resolution: Spacing of the last features: 10, 20 or 40 m; the encoder's finest if None.
            At 40 m, or for a region too small for a coarse map, there is one pass.
        region: As for `embed`.
        dates: As for `embed`.
        batch_size: As for `embed`.
        memory_gb: As for `embed`; without a `cache` a quarter more keeps encoded dates from the
            coarse pass for the fine one.
        progress: Called after each date that is read and after each batch, counting both passes.
        cancel: Set it to stop; what was given last is what there is.
        cache: As for `embed`.

    Returns:
        An iterator of (feature, y, x), one after each batch of windows. While windows are missing
        `attrs["unfinished"]` is their share, 0..1, which every picture made of them mentions.
        Arrays of one pass share memory and fill up: `.copy()` one to keep it as it is. The last
        one of the coarse pass is whole and stays so, to be drawn beneath the fine ones
        (`skysense.view.beneath`).

    Raises:
        StackError: As `embed`, at once, as is the next.
        EncoderError: As `embed`; or if `centre` is no place.
        SourceError: As `embed`, while iterating.
        Cancelled: If `cancel` was set before anything was made.
    """
    check_cache(cache)
    _check_centre(centre)
    work = begin(
        stack,
        encoder,
        resolution=resolution,
        region=region,
        dates=dates,
        batch_size=batch_size,
        memory_gb=memory_gb,
        progress=progress,
        cancel=cancel,
    )
    kept = TokenCache(memory_gb / KEPT) if cache is None else cache
    return _steps(work, _middle(work.job.grid, centre), progress, cancel, kept)


def _steps(
    work: Work,
    centre: tuple[float, float],
    progress: Progress | None,
    cancel: threading.Event | None,
    cache: TokenCache,
) -> Iterator[xr.DataArray]:
    fine = work.job.grid
    coarse = fine.coarser(COARSE) if fine.resolution < COARSE else None
    grids = [fine] if coarse is None else [coarse, fine]
    chosen = work.read(progress, cancel)
    turn, lost, begun = cache.begin(), Lost(), False
    for number, grid in enumerate(grids):
        store = FeatureStore.create(None, work.encoder.dim, grid.geobox, {})
        store.lost = lost
        make = features_of(work.encoder, grid.resolution, cache, turn)
        try:
            for done, total, said in fill(
                work, chosen, store, make, grid=grid, centre=centre, cancel=cancel
            ):
                if progress is not None:
                    sentence = f"{said} at {grid.resolution} m" if done else said
                    progress(number * total + done, len(grids) * total, sentence)
                attrs = work.attrs(without(chosen, store.lost), grid.resolution)
                begun = True
                yield store.so_far(attrs, 1 - done / total)
        except Cancelled:
            if not begun:
                raise
            return
        lost = store.lost


def _check_centre(centre: Any) -> None:
    """Raise `EncoderError` unless this is (lon, lat) on Earth, or None."""
    if centre is None:
        return
    pair = isinstance(centre, tuple | list) and len(centre) == 2
    lon, lat = map(as_number, centre) if pair else (math.nan, math.nan)
    if not (abs(lon) <= 180 and abs(lat) <= 90):
        raise EncoderError(
            f"centre={shown(centre)} is not a place (lon, lat) in degrees; give one or leave it out."
        )


def _middle(grid: Grid, centre: tuple[float, float] | None) -> tuple[float, float]:
    """Where to begin, in metres of the grid's CRS."""
    left, bottom, right, top = grid.bounds
    if centre is not None:
        to_utm = Transformer.from_crs("EPSG:4326", grid.lattice.crs, always_xy=True)
        x, y = to_utm.transform(*centre)
        if math.isfinite(x) and math.isfinite(y):
            return x, y
    return (left + right) / 2, (bottom + top) / 2
