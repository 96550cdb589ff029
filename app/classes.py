"""Classes as the label panel needs them: with colours, areas, and as files."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from app.state import LabelClass
from skysense.analysis.places import cell_at
from skysense.export import save_classes
from skysense.view import PALETTE


def coloured(classes: Sequence[LabelClass]) -> list[LabelClass]:
    """Classes each with a colour that it keeps: the palette's first that no other has."""
    made, used = [], {each.colour for each in classes}
    for each in classes:
        free = next((c for c in PALETTE if c not in used), PALETTE[0])
        made.append(each if each.colour else replace(each, colour=free))
        used.add(made[-1].colour)
    return made


def areas_km2(field: xr.DataArray | None, classes: Sequence[LabelClass]) -> dict[str, float]:
    """{class: area on the map (km²)}; empty without a map."""
    if field is None:
        return {}
    step = abs(float(field.odc.geobox.resolution.x))
    values = field.values[np.isfinite(field.values)].astype(int)
    counts = np.bincount(values, minlength=len(field.attrs["categories"]))
    found = dict(zip(field.attrs["categories"], counts * step**2 / 1e6, strict=True))
    return {each.name: float(found[each.name]) for each in classes if each.name in found}


def without(truth: xr.DataArray, points: list[tuple[float, float]]) -> xr.DataArray:
    """Labels less the cells that were trained on."""
    kept = truth.copy(deep=True)
    for lon, lat in points:
        cell = cell_at(truth, lon, lat)
        if cell is not None:
            kept.values[cell] = np.nan
    return kept


def file_of(field: xr.DataArray | None, suffix: str) -> bytes:
    """A map of classes as the content of a file; see `skysense.save_classes`."""
    with tempfile.TemporaryDirectory() as folder:
        return save_classes(field, Path(folder) / f"classes{suffix}").read_bytes()
