"""Features of two halves of the dates: the same place and encoder, with nothing but chance between."""

import threading

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from skysense.batch import Batch
from skysense.checks import seed_of
from skysense.dates import Dates
from skysense.encoders import Encoder
from skysense.errors import EncoderError
from skysense.region import Region
from skysense.streaming import FeatureStore
from skysense.subsets import SPACING, check_halves, fused, halves, read_whole
from skysense.tokens import TokenCache
from skysense.work import Progress, fill


def half_features(
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
) -> tuple[xr.DataArray, xr.DataArray]:
    """Features of a place from either half of its dates, a control for whatever compares features.

    Args:
        stack: As for `embed`, as are the others that are not named here; it is read whole.
        encoder: Any; one that encodes date by date is quick.
        seed: Which dates go to which half. A single date is in both, of an odd number one in neither.
        resolution: Spacing (m): 10, 20 or 40.
        region: As for `embed`.
        dates: As for `embed`.
        batch_size: As for `embed`.
        memory_gb: As for `embed`; the stack must fit into it, and the features twice.
        progress: As for `embed`.
        cancel: As for `embed`.
        cache: As for `embed`.

    Returns:
        Two of (feature, y, x) on the cells of `embed`; NaN where a half saw nothing.

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
    pair, grid = halves(read, np.random.default_rng(seed)), work.job.grid
    of_batch = fused(encoder, grid.resolution, cache)

    def make(batch: Batch) -> Tensor:
        of = of_batch(batch)
        return torch.cat([of(half) for half in pair], dim=1)

    store = FeatureStore.create(None, 2 * encoder.dim, grid.geobox, {})
    for step in fill(work, read, store, make, cancel=cancel):
        if progress is not None:
            progress(*step)
    both = store.finish(work.attrs(read))
    found = []
    for number in range(2):
        part = both.isel(feature=slice(number * encoder.dim, (number + 1) * encoder.dim))
        part = part.assign_coords(feature=np.arange(encoder.dim))
        part.attrs = {**both.attrs, "long_name": f"features of half {number + 1} of the dates"}
        found.append(part)
    return found[0], found[1]
