"""What is different between two periods of one place, and how different is more than usual."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from skysense.analysis.comparison import mismatches
from skysense.analysis.pixels import (
    check_features,
    check_same_space,
    field_like,
    geobox_of,
    provenance,
)
from skysense.analysis.prototypes import unit
from skysense.checks import number, shown, whole
from skysense.errors import AnalysisError
from skysense.sensors import SENSORS

CHUNK = 16_384
"""Cells whose distance is computed at once."""

FURTHEST = 2.0
"""Cosine distance of opposite features."""


def change(before: xr.DataArray, after: xr.DataArray) -> xr.DataArray:
    """How far the features of each cell moved between two periods.

    Args:
        before: (feature, y, x) of one period.
        after: The same place and encoder in another period.

    Returns:
        (y, x) cosine distance, 0 (the same direction) through 1 (at right angles) to 2 (opposite);
        NaN where either saw nothing. `attrs["notes"]` warn of what is no change of the ground: other
        seasons, sensors, bands, or many fewer dates.

    Raises:
        AnalysisError: If they come from different encoders or weights, or lie on different grids.
    """
    check_features(before)
    check_features(after)
    check_same_space(before.attrs, before.sizes["feature"], after, "before", "after")
    grid, other = geobox_of(before), geobox_of(after)
    if grid != other:
        raise AnalysisError(
            f"`before` has {grid.shape.y} × {grid.shape.x} cells of {grid.resolution.x:g} m and "
            f"`after` {other.shape.y} × {other.shape.x} of {other.resolution.x:g} m, not the same "
            "cells. Embed both with the same region and resolution."
        )
    attrs = provenance(after, before=before)
    notes = [str(note) for note in attrs.get("notes", [])]
    notes += mismatches("before", before, "after", after) + _fewer(before, after)
    attrs |= {
        "kind": "continuous",
        "long_name": "change",
        "units": "cosine distance",
        "notes": notes,
    }
    return field_like(after, cosine_distance(before.values, after.values), attrs)


def cosine_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(y, x) float32 1 − cosine of features (feature, y, x); NaN where either is.

    As half the squared distance of the unit vectors: exactly 0 for equal features, and small
    distances keep their digits.
    """
    a, b = (np.asarray(each, np.float32).reshape(len(each), -1) for each in (one, other))
    found = np.empty(a.shape[1], np.float32)
    for start in range(0, len(found), CHUNK):
        part = slice(start, start + CHUNK)
        apart = unit(a[:, part].T) - unit(b[:, part].T)
        found[part] = np.einsum("nd,nd->n", apart, apart) / 2
    return np.minimum(found, FURTHEST).reshape(one.shape[1:])


def change_threshold(control: xr.DataArray, percentile: float = 95) -> float:
    """A distance that few cells pass although nothing happened.

    Args:
        control: Distances without a change, such as `change_control(stack, encoder)` between two
            halves of the dates of one period. These have fewer dates than whole periods and so
            differ a little more: the threshold is a careful one.
        percentile: How many in a hundred cells of the control stay below it, 0..100.

    Raises:
        AnalysisError: If it is no field of distances, or nothing was seen in it.
    """
    percentile = number("percentile", percentile, 0, 100, AnalysisError)
    return float(np.percentile(_distances(control, "control"), percentile))


def changed(field: xr.DataArray, threshold: float) -> xr.DataArray:
    """Where the change is larger than a threshold.

    Args:
        field: (y, x) of `change`.
        threshold: Cosine distance, 0..2; `change_threshold` gives a sensible one.

    Returns:
        (y, x) selection (kind `mask`): 1 above the threshold, 0 not, NaN where nothing is known;
        `attrs["share"]` is the share of the cells above it, 0..1.

    Raises:
        AnalysisError: If it is no field of distances, or no such number.
    """
    values = _distances(field, "field")
    threshold = number("threshold", threshold, 0, FURTHEST, AnalysisError)
    attrs = {
        **{key: value for key, value in field.attrs.items() if key != "stretch"},
        "kind": "mask",
        "long_name": f"changed by more than {threshold:.3g}",
        "units": "",
        "threshold": threshold,
        "share": float((values > threshold).mean()),
    }
    above = np.where(np.isfinite(field.values), field.values > threshold, np.nan)
    return field_like(field, above.astype(np.float32), attrs)


@dataclass(frozen=True)
class Distribution:
    """How often each value of a field occurs."""

    name: str
    """What the field shows."""
    units: str
    edges: np.ndarray
    """(bins + 1,) ends of the bins."""
    shares: dict[str, np.ndarray]
    """`field`, and `control` if there is one: (bins,) shares of its cells; they sum to 1."""
    threshold: float
    """NaN if none was given."""
    above: dict[str, float]
    """Share of the cells above the threshold, 0..1, of the same; empty without one."""

    def __str__(self) -> str:
        if not self.above:
            return f"{self.name}, {self.edges[0]:.3g} to {self.edges[-1]:.3g} {self.units}".strip()
        text = f"{self.above['field']:.1%} of the cells lie above {self.threshold:.3g}"
        return text + (
            f", of the control {self.above['control']:.1%}" if "control" in self.above else ""
        )


def distribution(
    field: xr.DataArray,
    threshold: float | None = None,
    control: xr.DataArray | None = None,
    bins: int = 60,
) -> Distribution:
    """Count the values of a continuous field, beside those of a control.

    Args:
        field: (y, x) of kind continuous or diverging.
        threshold: A value to be drawn among them.
        control: Another field of the same units, counted in the same bins.
        bins: How many, 2 to 1,000.

    Raises:
        AnalysisError: If a field is not continuous or empty, the two have other units, or the
            threshold is no number.
    """
    bins = whole("bins", bins, 2, 1000, AnalysisError)
    parts = {"field": _numbers(field, "field")}
    if control is not None:
        parts["control"] = _numbers(control, "control")
        if field.attrs.get("units") != control.attrs.get("units"):
            raise AnalysisError(
                f"The field is in {shown(field.attrs.get('units'))} and the control in "
                f"{shown(control.attrs.get('units'))}; they cannot share an axis."
            )
    limit = np.nan
    if threshold is not None:
        limit = number("threshold", threshold, -1e30, 1e30, AnalysisError)
    low = min(float(part.min()) for part in parts.values())
    high = max(float(part.max()) for part in parts.values())
    low = 0.0 if 0 <= low < (high - low) / 4 else low  # distances begin at 0
    edges = np.linspace(low, high if high > low else low + 1e-6, bins + 1)
    return Distribution(
        name=str(field.attrs.get("long_name", "field")),
        units=str(field.attrs.get("units", "")),
        edges=edges,
        shares={name: np.histogram(part, edges)[0] / len(part) for name, part in parts.items()},
        threshold=limit,
        above={name: float((part > limit).mean()) for name, part in parts.items()}
        if np.isfinite(limit)
        else {},
    )


def _fewer(before: xr.DataArray, after: xr.DataArray) -> list[str]:
    """A sentence for each sensor with at least twice as many dates in one period."""
    notes = []
    for key, sensor in SENSORS.items():
        counts = [len(each.attrs.get(f"dates_{key}", [])) for each in (before, after)]
        if min(counts) and max(counts) >= 2 * min(counts):
            notes.append(
                f"before has {counts[0]} {sensor.title} dates and after {counts[1]}; part of the "
                "change may be that."
            )
    return notes


def _distances(field: xr.DataArray, what: str) -> np.ndarray:
    """The seen values of a field of distances."""
    values = _numbers(field, what)
    if values.min() < -1e-6 or values.max() > FURTHEST + 1e-6:
        raise AnalysisError(
            f"The {what} holds {values.min():.3g} to {values.max():.3g}; cosine distances are 0 to "
            "2. change(before, after) makes them."
        )
    return values


def _numbers(field: xr.DataArray, what: str) -> np.ndarray:
    """The seen values of a continuous (y, x) field."""
    good = isinstance(field, xr.DataArray) and field.dims == ("y", "x")
    if not good or field.attrs.get("kind") not in ("continuous", "diverging"):
        found = (
            f"{shown(field.attrs.get('kind'))} over {field.dims}"
            if isinstance(field, xr.DataArray)
            else shown(field)
        )
        raise AnalysisError(
            f"The {what} must be a continuous (y, x) field, such as change(before, after), not "
            f"{found}."
        )
    values = np.asarray(field.values)
    values = values[np.isfinite(values)]
    if not len(values):
        raise AnalysisError(f"Nothing was seen in any cell of the {what}.")
    return values
