"""Pixels of one set of files on the stack's grid, lazily, with what is usable.

An `ImageSet` is what one `[[sensor]]` table (or one match of its pattern) describes: parts whose
bands belong together, for the same dates, and masks. It answers for any window of the target grid
without reading more of the files than that window needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from odc.geo.geobox import GeoBox

from skysense.sensors import SENSORS
from skysense.sources.decode import decode, usable
from skysense.sources.files_grid import source_pixels
from skysense.sources.files_open import ImageFile, Layer
from skysense.sources.recipe import Images
from skysense.sources.recipe_fields import ALPHA, MaskRule

BLOCK = 1024
"""Side of a lazy block (pixels)."""

BLOCK_BYTES = 16_000_000
"""Dates are grouped into blocks of about this size."""

SAMPLE = 20_000_000
"""Values read when a file is opened, to count usable pixels; more than that are sampled."""


@dataclass(frozen=True)
class PlacedFile:
    """A file, where it is, and which of its layers are wanted."""

    file: ImageFile
    geobox: GeoBox
    layers: tuple[Layer, ...]
    bands: tuple[str, ...]
    """One name per layer, of the sensor or `alpha`."""


@dataclass(frozen=True)
class PlacedMask:
    """A mask layer and which of its dates belongs to each image date."""

    file: ImageFile
    geobox: GeoBox
    layer: Layer
    rule: MaskRule
    dates: tuple[int, ...]
    """Index into the mask's dates per image date; -1 where it has none."""


@dataclass(frozen=True)
class ImageSet:
    """Images of one sensor with common dates."""

    images: Images
    parts: tuple[PlacedFile, ...]
    masks: tuple[PlacedMask, ...]
    times: np.ndarray
    """(time,) datetime64[ns], NaT where unknown."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names in the model's order."""
        found = {b for part in self.parts for b in part.bands}
        return tuple(b for b in SENSORS[self.images.sensor].known if b in found)

    def read(
        self, target: GeoBox, dates: Sequence[int], rows: slice, columns: slice
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A window of the target grid.

        Args:
            target: The whole grid of the stack.
            dates: Indices along `times`.
            rows: Of the target, start and stop given.
            columns: Of the target, start and stop given.

        Returns:
            data (time, band, y, x) float32, valid (time, y, x) bool, and inside (y, x) bool:
            where the files reach.
        """
        blocks: dict[str, np.ndarray] = {}
        inside = np.ones((rows.stop - rows.start, columns.stop - columns.start), bool)
        for part in self.parts:
            values, within = fetch(
                part.file, part.geobox, part.layers, target, dates, rows, columns
            )
            inside &= within
            blocks.update({name: values[:, i] for i, name in enumerate(part.bands) if name})
        data, valid = decode(np.stack([blocks[b] for b in self.bands], axis=1), self.images)
        if ALPHA in blocks:
            valid &= blocks[ALPHA] > 0
        for mask in self.masks:
            known = [i for i, d in enumerate(dates) if mask.dates[d] >= 0]
            if known:
                wanted = [mask.dates[dates[i]] for i in known]
                layer, _ = fetch(
                    mask.file, mask.geobox, (mask.layer,), target, wanted, rows, columns
                )
                valid[known] &= usable(layer[:, 0], mask.rule)
        return data, valid & inside, inside


def lazy(
    images: ImageSet, target: GeoBox, rows: slice, columns: slice
) -> tuple[da.Array, da.Array]:
    """Data (time, band, y, x) float32 and valid (time, y, x) bool of a window, read when computed."""
    reader = _Reader(images, target, rows, columns)
    times, layers, height, width = reader.shape
    side = (min(BLOCK, height), min(BLOCK, width))
    together = max(1, min(times, BLOCK_BYTES // (layers * side[0] * side[1] * 4)))
    chunks: Any = (together, layers, *side)  # dask's own annotation knows only text
    empty = np.empty((0, 0, 0, 0), "f4")
    both = da.from_array(reader, chunks=chunks, name=False, asarray=False, meta=empty)
    return both[:, :-1], both[:, -1] > 0.5


def survey(images: ImageSet, target: GeoBox) -> tuple[np.ndarray, np.ndarray, str]:
    """How much is usable, and typical values, over the whole of the files.

    Small sources are read in full, large ones in evenly spread blocks.

    Returns:
        Usable share per date (NaN if nothing was read), median per band, and a note if only a
        part was read.
    """
    times, bands = len(images.times), len(images.bands)
    height, width = target.shape
    windows, note = _sample_windows(times * bands, height, width)
    together = max(1, SAMPLE // 4 // max(1, bands * max(_area(w) for w in windows)))
    share = np.full(times, np.nan)
    kept: list[np.ndarray] = []
    for first in range(0, times, together):
        dates = list(range(first, min(times, first + together)))
        good, seen = np.zeros(len(dates)), 0
        for rows, columns in windows:
            data, valid, inside = images.read(target, dates, rows, columns)
            good += valid.sum((1, 2))
            seen += int(inside.sum())
            values = np.moveaxis(data, 1, -1)[valid]
            kept.append(values[:: max(1, len(values) * times // 500_000)])
        if seen:
            share[dates] = good / seen
    values = np.concatenate(kept)
    median = np.median(values, axis=0) if len(values) else np.full(bands, np.nan)
    return share, median, note


class _Reader:
    """What dask slices: data and, as one band more, valid."""

    def __init__(self, images: ImageSet, target: GeoBox, rows: slice, columns: slice) -> None:
        self.images, self.target, self.top, self.left = images, target, rows.start, columns.start
        self.shape = (
            len(images.times),
            len(images.bands) + 1,
            rows.stop - rows.start,
            columns.stop - columns.start,
        )
        self.dtype, self.ndim = np.dtype("f4"), 4

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        time, band, y, x = (range(n)[k] for k, n in zip(key, self.shape, strict=True))
        rows = slice(self.top + y.start, self.top + y.stop)
        columns = slice(self.left + x.start, self.left + x.stop)
        data, valid, _ = self.images.read(self.target, list(time), rows, columns)
        return np.concatenate([data, valid[:, None].astype("f4")], axis=1)[:, band]


def fetch(
    file: ImageFile,
    geobox: GeoBox,
    layers: Sequence[Layer],
    target: GeoBox,
    dates: Sequence[int],
    rows: slice,
    columns: slice,
) -> tuple[np.ndarray, np.ndarray]:
    """(time, layer, y, x) float64 by the nearest pixel, NaN outside; and where the file reaches."""
    down, across = source_pixels(geobox, target, rows, columns)
    inside = (down >= 0) & (across >= 0)
    if not inside.any():
        return np.full((len(dates), len(layers), *inside.shape), np.nan), inside
    lines, places = down[down >= 0], across[across >= 0]
    top, left = int(lines.min()), int(places.min())
    window = file.read(
        layers, dates, slice(top, int(lines.max()) + 1), slice(left, int(places.max()) + 1)
    )
    values = window[:, :, np.maximum(down - top, 0), np.maximum(across - left, 0)]
    if not inside.all():
        values = np.where(inside, values, np.nan)
    return values, inside


def _sample_windows(layers: int, height: int, width: int) -> tuple[list[tuple[slice, slice]], str]:
    """The whole image, or blocks spread over it."""
    if layers * height * width <= SAMPLE:
        return [
            (slice(top, min(height, top + BLOCK)), slice(left, min(width, left + BLOCK)))
            for top in range(0, height, BLOCK)
            for left in range(0, width, BLOCK)
        ], ""
    side = 128
    count = int(np.clip(np.sqrt(SAMPLE / (layers * side * side)), 2, 16))
    windows = []
    for i in range(count):
        for j in range(count):
            top = int((height - min(side, height)) * (i + 0.5) / count)
            left = int((width - min(side, width)) * (j + 0.5) / count)
            windows.append(
                (slice(top, min(height, top + side)), slice(left, min(width, left + side)))
            )
    return windows, (
        f"the usable share is estimated from {len(windows)} blocks of {side} pixels of an image "
        f"of {height:,} by {width:,}."
    )


def _area(window: tuple[slice, slice]) -> int:
    rows, columns = window
    return (rows.stop - rows.start) * (columns.stop - columns.start)
