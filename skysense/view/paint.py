"""Which colour every pixel of a field has, whoever draws it: map, figure or scatter plot."""

import numpy as np
import xarray as xr

from skysense.errors import AnalysisError
from skysense.view.hues import PALETTE, SELECTED, hex_of, of_categories, ramp, rgb_of

KINDS = ("continuous", "diverging", "categorical", "rgb", "mask")

STEPS = 255
"""Colours in a ramp as drawn; one of 256 is kept for nothing."""

LEGEND_STOPS = 5

FAINTEST = 0.15
"""Opacity of what is least certain: still seen to be there."""

CERTAIN = (("opaque = certain", "#404040"), ("faint = uncertain", "#d9d9d9"))
"""Legend of a field that is drawn fainter where it is less certain."""


def colours(field: xr.DataArray) -> np.ndarray:
    """The colour of every pixel.

    Args:
        field: (y, x), or (3, y, x) of kind `rgb`, or the (class, y, x) probabilities of `segment`,
            which are drawn in the colour of the likeliest class, fainter where it is less sure.
            With the coordinate `opacity` (y, x), 0..1, any of them is as faint as that says.

    Returns:
        (y, x, 4) uint8 red, green, blue, opacity; transparent where there is nothing.

    Raises:
        AnalysisError: If the field cannot be drawn as one picture.
    """
    check_field(field)
    if field.attrs["kind"] == "rgb":
        pixels = _rgb(field)
    elif "class" in field.dims:
        pixels = _probabilities(field)
    else:
        index, table = indexed(field)
        pixels = table[index]
    if "opacity" in field.coords:
        opacity = np.nan_to_num(field["opacity"].values, nan=FAINTEST)
        pixels[..., 3] = np.rint(pixels[..., 3] * np.clip(opacity, 0, 1))
    return pixels


def many_coloured(field: xr.DataArray) -> bool:
    """True if a field has more colours than an indexed picture holds."""
    return field.attrs["kind"] == "rgb" or "class" in field.dims or "opacity" in field.coords


def indexed(field: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """A (y, x) field as numbers of colours.

    Returns:
        (y, x) uint8 indices, 0 where there is nothing, and the (256, 4) uint8 colours.
    """
    check_field(field)
    values = np.asarray(field.values, np.float32)
    if values.ndim != 2:
        raise AnalysisError(f"A field with the axes {field.dims} is not one layer; select one.")
    seen = np.isfinite(values)
    table = np.zeros((256, 4), np.uint8)
    table[1:, 3] = 255
    kind = field.attrs["kind"]
    if kind == "categorical":
        table[1:, :3] = [rgb_of(colour) for colour in of_categories(field.attrs, 255)]
        codes = np.where(seen, values, -1).astype(np.int64)
        # beyond 255 categories the file has no room; their colours repeat every 64 anyway
        index = np.where(seen, np.where(codes < 255, codes, codes % len(PALETTE)) + 1, 0)
        return index.astype(np.uint8), table
    if kind == "mask":
        table[1:, :3] = rgb_of(SELECTED)
        return (seen & (np.nan_to_num(values) > 0)).astype(np.uint8), table
    low, high = stretch(field)
    table[1:, :3] = ramp(kind)[np.linspace(0, 255, STEPS).round().astype(int)]
    part = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
    return np.where(seen, np.rint(part * (STEPS - 1)) + 1, 0).astype(np.uint8), table


def stretch(field: xr.DataArray) -> tuple[float, float]:
    """The values at the two ends of the colours of a continuous or diverging field.

    `attrs["stretch"]` if it is there, else the 2nd and 98th percentile; symmetric about zero for
    diverging fields.
    """
    given = field.attrs.get("stretch")
    if given is not None:
        low, high = (float(v) for v in given)
    else:
        values = np.asarray(field.values)
        low, high = _percentiles(values[np.isfinite(values)])
    if field.attrs["kind"] == "diverging":
        high = max(abs(low), abs(high))
        low = -high
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def legend(field: xr.DataArray) -> list[tuple[str, str]]:
    """What the colours of a field mean.

    Returns:
        (text, `#rrggbb`) pairs: one per category that a categorical field has; five steps from low
        to high for a continuous one; the three components for a colour picture. Two more say what
        faintness means, if the field is drawn fainter where it is less certain.

    Raises:
        AnalysisError: If the field has no known kind.
    """
    check_field(field)
    return _entries(field) + (list(CERTAIN) if "opacity" in field.coords else [])


def _entries(field: xr.DataArray) -> list[tuple[str, str]]:
    kind = field.attrs["kind"]
    if kind == "categorical" or "class" in field.dims:
        names = field.attrs["categories"]
        return list(zip(map(str, names), of_categories(field.attrs, len(names)), strict=True))
    if kind == "mask":
        return [(str(field.attrs.get("long_name", "selected")), SELECTED)]
    if kind == "rgb":
        names = field.attrs.get("channels", ["first", "second", "third"])
        return list(zip([str(n) for n in names], ("#ff0000", "#00ff00", "#0000ff"), strict=True))
    low, high = stretch(field)
    stops = np.linspace(0, 1, LEGEND_STOPS)
    table = ramp(kind)
    units = field.attrs.get("units", "")
    texts = [f"{low + (high - low) * stop:.3g}" for stop in stops]
    texts[0], texts[-1] = f"{texts[0]} {units}".strip(), f"{texts[-1]} {units}".strip()
    return [
        (text, hex_of(table[round(255 * stop)])) for text, stop in zip(texts, stops, strict=True)
    ]


def check_field(field: xr.DataArray) -> None:
    """Raise `AnalysisError` unless this is a field with a kind that has colours."""
    if not isinstance(field, xr.DataArray) or field.dims[-2:] != ("y", "x"):
        found = field.dims if isinstance(field, xr.DataArray) else type(field).__name__
        raise AnalysisError(f"A field is a DataArray (y, x), not {found}.")
    kind = field.attrs.get("kind")
    if kind not in KINDS:
        raise AnalysisError(
            f"This field is of kind {kind!r}, which has no colours. Set attrs['kind'] to one of "
            f"{', '.join(KINDS)}."
        )
    if kind == "categorical" and not field.attrs.get("categories"):
        raise AnalysisError("This categorical field has no attrs['categories'], a list of names.")
    layers = field.sizes[field.dims[0]] if field.ndim == 3 else 1
    if field.ndim > 3 or (kind == "rgb") != (field.ndim == 3 and "class" not in field.dims):
        raise AnalysisError(
            f"A field of kind {kind!r} with the axes {field.dims} is not one picture. "
            f"Select one of its layers, for example .isel({field.dims[0]}=0)."
        )
    if kind == "rgb" and layers != 3:
        raise AnalysisError(f"A colour picture has 3 layers, not {layers}.")


def _rgb(field: xr.DataArray) -> np.ndarray:
    values = np.asarray(field.values, np.float32)
    seen = np.isfinite(values).all(0)
    ends = [field.attrs.get(f"stretch_{end}") for end in ("low", "high")]
    out = np.zeros((*seen.shape, 4), np.uint8)
    for i, layer in enumerate(values):
        if ends[0] is None or ends[1] is None:
            low, high = _percentiles(layer[seen])
        else:
            low, high = float(ends[0][i]), float(ends[1][i])
        span = high - low if high > low else 1.0
        part = np.clip((np.nan_to_num(layer) - low) / span, 0, 1)
        out[..., i] = np.rint(part * 255)
    out[~seen] = 0
    out[seen, 3] = 255
    return out


def _probabilities(field: xr.DataArray) -> np.ndarray:
    values = np.asarray(field.transpose("class", "y", "x").values, np.float32)
    seen = np.isfinite(values).all(0)
    values = np.nan_to_num(values)
    table = np.array([rgb_of(c) for c in of_categories(field.attrs, len(values))], np.uint8)
    out = np.zeros((*seen.shape, 4), np.uint8)
    out[..., :3] = table[values.argmax(0)]
    chance = 1 / len(values)
    sure = np.clip((values.max(0) - chance) / max(1 - chance, 1e-6), 0, 1)
    out[..., 3] = np.rint(255 * sure)
    out[~seen] = 0
    return out


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    low, high = np.percentile(values, (2, 98))
    return float(low), float(high)
