"""Fields that show two things at once: how sure one is, or a coarse one beneath a fine one."""

import numpy as np
import xarray as xr

from skysense.analysis.pixels import geobox_of
from skysense.checks import as_number, shown
from skysense.errors import AnalysisError
from skysense.view.paint import FAINTEST, check_field, stretch
from skysense.view.words import title


def faded(
    field: xr.DataArray, doubt: xr.DataArray, ends: tuple[float, float] | None = None
) -> xr.DataArray:
    """A field that is drawn fainter where it is less certain; legend and title say so.

    Args:
        field: Any field with colours.
        doubt: (y, x) continuous, high where little is certain: `uncertainty`, `novelty`, or
            `change_control`. A coarser one serves too: each cell takes the nearest within its
            spacing.
        ends: The doubt at which a cell is opaque, and at which it is faintest; the 2nd and 98th
            percentile of `doubt` if None.

    Returns:
        The same field with the coordinate `opacity` (y, x), from 0.15, so that what is doubtful
        never looks as if nothing was seen, to 1. Where the doubt is unknown the cell is faintest.

    Raises:
        AnalysisError: If one is no field, they lie in other places or zones, or the ends are not
            two rising numbers.
    """
    check_field(field)
    check_field(doubt)
    if doubt.attrs["kind"] != "continuous":
        raise AnalysisError(
            f"doubt is a field of kind {doubt.attrs['kind']!r}; uncertainty(stack, encoder) and "
            "novelty(features, bank) make continuous ones."
        )
    low, high = stretch(doubt) if ends is None else _rising(ends)
    values = _at(doubt, field)
    if not np.isfinite(values).any():
        raise AnalysisError("The doubt is known for no cell of the field: they show other places.")
    part = np.nan_to_num((values - low) / (high - low), nan=1.0)
    opacity = 1 - (1 - FAINTEST) * np.clip(part, 0, 1)
    found = field.assign_coords(opacity=(("y", "x"), opacity.astype(np.float32)))
    found.attrs = {**field.attrs, "faded_by": title(doubt), "faded_ends": [low, high]}
    return found


def beneath(coarse: xr.DataArray, fine: xr.DataArray) -> xr.DataArray:
    """A fine field, and where it holds nothing yet the blocks of a coarse one.

    For pictures of work in progress (`embed_steps`): a coarse value speaks of one cell, and fills
    its block for the eye only.

    Args:
        coarse: A field of the same kind, on any grid of the same zone.
        fine: The field whose grid and attributes the result has.

    Raises:
        AnalysisError: If they cannot be drawn in one picture.
    """
    check_field(coarse)
    check_field(fine)
    for name in ("kind", "categories"):
        ours, theirs = (each.attrs.get(name) for each in (coarse, fine))
        if (ours is None) != (theirs is None) or (ours is not None and list(ours) != list(theirs)):
            raise AnalysisError(
                f"The two fields differ in {name} ({shown(ours)} and {shown(theirs)}), so one "
                "picture cannot show both. Make both in the same way."
            )
    if coarse.dims != fine.dims or coarse.shape[:-2] != fine.shape[:-2]:
        raise AnalysisError(
            f"The two fields have the axes {dict(coarse.sizes)} and {dict(fine.sizes)}, so one "
            "picture cannot show both."
        )
    return fine.copy(data=np.where(np.isfinite(fine.values), fine.values, _at(coarse, fine)))


def _at(field: xr.DataArray, like: xr.DataArray) -> np.ndarray:
    """Values (..., y, x) of a field at the cells of another, the nearest ones; NaN beyond it."""
    grid, other = geobox_of(field), geobox_of(like)
    if grid.crs != other.crs:
        zones = [f"EPSG:{each.crs.to_epsg()}" for each in (grid, other)]
        raise AnalysisError(
            f"One field is in {zones[0]} and the other in {zones[1]}: other zones. Make both for "
            "the same region."
        )
    index = []
    for axis in ("y", "x"):
        ours, theirs = (np.asarray(each[axis].values, float) for each in (field, like))
        spacing = abs(ours[-1] - ours[0]) / max(len(ours) - 1, 1)
        steps = (theirs - ours[0]) / ((ours[-1] - ours[0]) / max(len(ours) - 1, 1))
        nearest = np.clip(np.rint(steps), 0, len(ours) - 1).astype(int)
        index.append(np.where(np.abs(ours[nearest] - theirs) <= spacing, nearest, -1))
    rows, columns = index
    values = np.asarray(field.values, np.float32)[..., rows[:, None], columns[None, :]]
    outside = (rows < 0)[:, None] | (columns < 0)[None, :]
    return np.where(outside, np.float32(np.nan), values)


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    pair = isinstance(ends, tuple | list) and len(ends) == 2
    low, high = map(as_number, ends) if pair else (np.nan, np.nan)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise AnalysisError(
            f"ends={shown(ends)} are not two rising numbers (certain, uncertain); give them."
        )
    return low, high
