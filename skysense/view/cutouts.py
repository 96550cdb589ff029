"""Small true-colour pictures of chosen cells: what a prototype looks like on the ground."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from skysense.checks import number, shown
from skysense.errors import AnalysisError
from skysense.view.imagery import true_colour_field
from skysense.view.paint import colours
from skysense.view.png import encode_rgba

MOST_PIXELS = 64
"""Side of one chip (pixels), where the image is fine enough."""

CRISP = 20
"""Chips of fewer pixels than this should keep their edges when enlarged."""


@dataclass(frozen=True)
class Chips:
    """One picture with a row of chips for each prototype that has examples."""

    png: bytes
    prototypes: tuple[int, ...]
    """Number of the prototype of each row, from 0."""
    counts: tuple[int, ...]
    """How many chips each row holds; the rest of the row is empty."""
    columns: int
    pixels: int
    """Side of one chip in the picture."""
    side: float
    """The same on the ground (m)."""

    @property
    def crisp(self) -> bool:
        """Whether pixels should keep their edges when enlarged."""
        return self.pixels < CRISP

    def _repr_png_(self) -> bytes:
        return self.png


def chips(images: Any, examples: pd.DataFrame, side: float = 160.0) -> Chips:
    """Cut the surroundings of example cells out of the clearest date.

    Args:
        images: A sensor's part of a stack, `stack["s2"]`, or {name of the place: such a part}.
        examples: From `analysis.examples(features, bank)`; those of places without images are
            left out.
        side: Of the ground around each cell (m), 20 to 10,000.

    Returns:
        Rows in the order of the prototypes, the strongest example first. Beyond the edge of an
        image a chip is transparent.

    Raises:
        AnalysisError: If these are no examples or no images, or none of the examples has one.
    """
    side = number("side", side, 20, 10_000, AnalysisError)
    needed = {"prototype", "rank", "region", "x", "y"}
    if not isinstance(examples, pd.DataFrame) or not needed <= set(examples.columns):
        raise AnalysisError(
            f"{shown(examples)} are no examples; analysis.examples(features, bank) finds some."
        )
    if not isinstance(images, Mapping) or isinstance(images, xr.Dataset | xr.DataTree):
        images = dict.fromkeys(examples["region"].unique(), images)
    drawn = {str(name): true_colour_field(each) for name, each in images.items()}
    mine = examples[examples["region"].isin(list(drawn))]
    if mine.empty:
        raise AnalysisError(
            f"None of the {len(examples)} examples lies in {', '.join(drawn) or 'any image'}. Give "
            "the images by the names of the places."
        )
    finest = min(float(abs(field.odc.geobox.resolution.x)) for field in drawn.values())
    pixels = int(np.clip(round(side / finest), 2, MOST_PIXELS))
    painted = {name: colours(field) for name, field in drawn.items()}
    numbers = tuple(int(n) for n in sorted(mine["prototype"].unique()))
    counts = tuple(int((mine["prototype"] == n).sum()) for n in numbers)
    sheet = np.zeros((len(numbers) * pixels, max(counts) * pixels, 4), np.uint8)
    for row, n in enumerate(numbers):
        cells = mine[mine["prototype"] == n].sort_values("rank").to_dict("records")
        for column, cell in enumerate(cells):
            name = cell["region"]
            part = _cut(painted[name], drawn[name], cell["x"], cell["y"], side, pixels)
            at = (
                slice(row * pixels, (row + 1) * pixels),
                slice(column * pixels, (column + 1) * pixels),
            )
            sheet[at] = part
    return Chips(encode_rgba(sheet), numbers, counts, max(counts), pixels, side)


def _cut(
    painted: np.ndarray, field: xr.DataArray, x: float, y: float, side: float, pixels: int
) -> np.ndarray:
    """(pixels, pixels, 4) around a place, nearest pixels, transparent outside."""
    offsets = (np.arange(pixels) - (pixels - 1) / 2) * side / pixels
    affine = ~field.odc.geobox.affine
    columns = np.floor((x + offsets) * affine.a + affine.c).astype(int)
    rows = np.floor((y - offsets) * affine.e + affine.f).astype(int)
    inside = ((rows >= 0) & (rows < painted.shape[0]))[:, None] & (
        (columns >= 0) & (columns < painted.shape[1])
    )
    part = painted[np.clip(rows, 0, painted.shape[0] - 1)][
        :, np.clip(columns, 0, painted.shape[1] - 1)
    ]
    return np.where(inside[..., None], part, 0).astype(np.uint8)
