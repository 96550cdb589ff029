"""Features as a table of pixels, and results back on the map.

Every analysis begins with `table` and ends with `on_grid`: the first leaves out the places where
nothing was seen, the second puts them back as NaN and carries the provenance along.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import odc.geo.xr  # noqa: F401 -- registers the .odc accessor
import xarray as xr
from odc.geo.geobox import GeoBox

from skysense.checks import seed_of, shown
from skysense.errors import AnalysisError

PROVENANCE = (
    "region",
    "source",
    "encoder",
    "weights",
    "weights_licence",
    "data_licence",
    "sensors",
    "dates_s2",
    "dates_s1",
    "dates_hr",
    "items_s2",
    "items_s1",
    "items_hr",
    "missing_bands",
    "context",
    "synthetic",
    "untrained",
    "approximate",
    "shuffled",
    "unfinished",
    "resolution",
    "device",
    "dtype",
    "threads",
    "batch_size",
    "notes",
    "version",
)
"""What features say about themselves, and every field made from them repeats."""

Places = xr.DataArray | Sequence[xr.DataArray] | Mapping[str, xr.DataArray]
"""Features of one place, of several, or of several with names."""


@dataclass(frozen=True)
class Table:
    """The pixels of one place at which something was seen."""

    values: np.ndarray
    """(n, d) float32, one row per seen pixel, in row-major order of the map."""
    seen: np.ndarray
    """(y, x) bool."""


def table(features: xr.DataArray, at_least: int = 1) -> Table:
    """The seen pixels of a place as rows.

    Args:
        features: (feature, y, x); a pixel with any NaN counts as not seen.
        at_least: How many pixels the caller cannot do without.

    Raises:
        AnalysisError: If this is not a features array, or too little was seen.
    """
    check_features(features)
    columns = np.asarray(features.values, np.float32).reshape(features.sizes["feature"], -1)
    # One sum per pixel finds any NaN or infinity in a single pass over the data.
    with np.errstate(invalid="ignore", over="ignore"):
        seen = np.isfinite(np.ones(len(columns), np.float32) @ columns)
    count = int(seen.sum())
    if count < at_least:
        total = seen.size
        if count == 0:
            raise AnalysisError(
                f"None of the {total:,} pixels holds features: nothing valid was seen there. "
                "Choose clearer dates or another place."
            )
        raise AnalysisError(
            f"Only {count:,} of {total:,} pixels hold features, and at least {at_least:,} are "
            "needed. Choose a larger place, clearer dates, or ask for less."
        )
    values = columns if count == seen.size else columns[:, seen]
    return Table(values.T, seen.reshape(features.shape[1:]))


def tables(places: Mapping[str, xr.DataArray], at_least: int = 1) -> dict[str, Table]:
    """`table` for every named place; `at_least` counts all of them together."""
    parts = {name: table(each) for name, each in places.items()}
    count = sum(len(part.values) for part in parts.values())
    if count < at_least:
        raise AnalysisError(
            f"Only {count:,} pixels hold features, and at least {at_least:,} are needed. "
            "Choose a larger place or ask for less."
        )
    return parts


def check_features(features: xr.DataArray) -> None:
    """Raise `AnalysisError` unless this is a georeferenced (feature, y, x) array of numbers."""
    if not isinstance(features, xr.DataArray):
        raise AnalysisError(
            f"Features are an xarray.DataArray (feature, y, x), not {type(features).__name__}. "
            "skysense.embed(stack, encoder) makes them."
        )
    if features.dims != ("feature", "y", "x"):
        raise AnalysisError(
            f"Features have the axes (feature, y, x), but this array has {features.dims}. "
            "skysense.embed(stack, encoder) makes them."
        )
    if 0 in features.shape or not np.issubdtype(features.dtype, np.floating):
        raise AnalysisError(
            f"These features are {features.dtype} of shape {features.shape}; "
            "floating point numbers with no empty axis are needed."
        )


def check_categorical(field: Any, what: str = "field") -> list[str]:
    """The names of a (y, x) categorical field, whose values are their numbers or NaN.

    Raises:
        AnalysisError: If it is anything else.
    """
    made = "classes(), cluster(), assign() and label_field() make such fields."
    if not isinstance(field, xr.DataArray):
        raise AnalysisError(
            f"The {what} must be a categorical (y, x) field, not {shown(field)}; {made}"
        )
    names = field.attrs.get("categories")
    if field.attrs.get("kind") != "categorical" or field.dims != ("y", "x"):
        raise AnalysisError(
            f"The {what} must be a categorical (y, x) field; this has kind "
            f"{shown(field.attrs.get('kind'))} and axes {field.dims}. {made}"
        )
    if not isinstance(names, list | tuple | np.ndarray) or not len(names):
        raise AnalysisError(
            f"The categorical {what} has no attrs['categories'], a list of names; {made}"
        )
    numbers = field.dtype.kind in "fiu"
    seen = field.values[np.isfinite(field.values)] if numbers else np.array([-1])
    if ((seen != np.floor(seen)) | (seen < 0) | (seen >= len(names))).any():
        raise AnalysisError(
            f"The {what} holds values that are no numbers of its {len(names)} categories (0 to "
            f"{len(names) - 1}, NaN for none); {made}"
        )
    return [str(name) for name in names]


def geobox_of(array: xr.DataArray) -> GeoBox:
    """The grid of features or a field.

    Raises:
        AnalysisError: If the array lost its georeference.
    """
    geobox = array.odc.geobox
    if not isinstance(geobox, GeoBox) or geobox.crs is None:
        raise AnalysisError(
            "This array has no georeference (CRS and evenly spaced x and y). "
            "Assign one with odc.geo.xr.assign_crs(array, 'EPSG:326xx')."
        )
    return geobox


def named(places: Places) -> dict[str, xr.DataArray]:
    """Places by name, whatever way they were given; all from one encoder.

    Raises:
        AnalysisError: If there is none, or two come from different encoders.
    """
    if isinstance(places, xr.DataArray):
        found = {"place": places}
    elif isinstance(places, Mapping):
        found = {str(name): each for name, each in places.items()}
    elif isinstance(places, Sequence) and not isinstance(places, str):
        found = {f"place {i}": each for i, each in enumerate(places, start=1)}
    else:
        raise AnalysisError(
            f"Give features, a list of features or {{name: features}}, not {type(places).__name__}."
        )
    if not found:
        raise AnalysisError("There are no features to work on: the list of places is empty.")
    for each in found.values():
        check_features(each)
    (first, reference), *others = found.items()
    for name, each in others:
        check_same_space(reference.attrs, reference.sizes["feature"], each, first, name)
    return found


def check_same_space(
    attrs: Mapping[str, Any], dim: int, features: xr.DataArray, what: str, name: str = "features"
) -> None:
    """Raise `AnalysisError` unless `features` come from the encoder that `attrs` speak of.

    Args:
        attrs: Provenance of the thing fitted before.
        dim: Its number of features.
        features: (feature, y, x) about to be used with it.
        what: What that thing is called in the message.
        name: What these features are called in the message.
    """
    if features.sizes["feature"] != dim:
        raise AnalysisError(
            f"`{what}` has {dim} features and `{name}` {features.sizes['feature']}: they come from "
            "different encoders and cannot be mixed. Embed both with the same encoder."
        )
    for key in ("encoder", "weights"):
        ours, theirs = attrs.get(key), features.attrs.get(key)
        if ours and theirs and ours != theirs:
            raise AnalysisError(
                f"`{what}` was made with the {key} {ours!r} and `{name}` with {theirs!r}: their "
                "features mean different things. Embed both with the same encoder and weights."
            )


def provenance(features: xr.DataArray, **others: xr.DataArray) -> dict[str, Any]:
    """Flat attributes that say where a result comes from.

    Args:
        features: The main input; its facts keep their names.
        **others: Further inputs; their facts are prefixed, `bank=bank` gives `bank_encoder`.
    """
    facts = {key: features.attrs[key] for key in PROVENANCE if key in features.attrs}
    for prefix, other in others.items():
        for key in (*PROVENANCE, "fitted_on"):
            if key in other.attrs:
                facts[f"{prefix}_{key}"] = other.attrs[key]
    return facts


def on_grid(
    values: np.ndarray,
    seen: np.ndarray,
    features: xr.DataArray,
    attrs: Mapping[str, Any],
    axis: tuple[str, Sequence[Any]] | None = None,
) -> xr.DataArray:
    """Per-pixel results back on the map, NaN where nothing was seen.

    Args:
        values: (n,) or (n, k), in the order of `table(features).values`.
        seen: (y, x) bool.
        features: Where the grid is taken from.
        attrs: Attributes of the result.
        axis: Name and coordinates of the k axis.
    """
    if axis is None:
        grid = np.full(seen.shape, np.nan, np.float32)
        grid[seen] = values
        return field_like(features, grid, attrs)
    if seen.all():
        layers = np.ascontiguousarray(values.T, np.float32)
    else:
        layers = np.full((values.shape[1], seen.size), np.nan, np.float32)
        layers[:, seen.ravel()] = values.T
    return field_like(features, layers.reshape(-1, *seen.shape), attrs, axis)


def field_like(
    features: xr.DataArray,
    grid: np.ndarray,
    attrs: Mapping[str, Any],
    axis: tuple[str, Sequence[Any]] | None = None,
) -> xr.DataArray:
    """A field with the y, x and CRS of `features`."""
    coords = {n: c for n, c in features.coords.items() if n in ("y", "x") or c.ndim == 0}
    if axis is None:
        return xr.DataArray(grid, coords, ("y", "x"), attrs=dict(attrs))
    name, labels = axis
    return xr.DataArray(grid, {name: list(labels), **coords}, (name, "y", "x"), attrs=dict(attrs))


def sample_rows(count: int, size: int, seed: int) -> np.ndarray:
    """Sorted indices of at most `size` of `count` rows, the same for the same seed.

    Raises:
        AnalysisError: If the seed is not a whole number from 0 to 2³² − 1.
    """
    seed = seed_of(seed, AnalysisError)
    if count <= size:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, size, replace=False))
