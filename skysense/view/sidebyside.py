"""Places side by side: the same layer, the same colours, the same scale."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from skysense.analysis.pixels import geobox_of
from skysense.checks import shown, whole
from skysense.errors import AnalysisError
from skysense.view.hues import palette
from skysense.view.paint import check_field, colours
from skysense.view.png import encode_rgba
from skysense.view.words import warnings

MOST_PIXELS = 1024
"""Longest side of one picture; larger fields show every so many cells."""

_GAP = 14
_WORDS = 24


@dataclass(frozen=True)
class Multiple:
    """The picture of one place, north up in its own UTM zone."""

    name: str
    png: bytes
    size: tuple[float, float]
    """(width, height) on the ground (m)."""
    colour: str
    """Of its name, `#rrggbb`."""
    warnings: tuple[str, ...]
    """What must be written beside it."""

    @property
    def url(self) -> str:
        """The picture as a data URL."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Multiples:
    """Pictures of several places that share one scale; a notebook shows them as they are."""

    pictures: tuple[Multiple, ...]

    def columns(self) -> int:
        """How many stand in a row: four as two by two."""
        count = len(self.pictures)
        return count if count <= 3 else -(-count // 2) if count <= 8 else 4

    def scale(self, width: int, height: int) -> float:
        """Screen pixels per metre at which all of them fit into a frame of screen pixels."""
        columns = self.columns()
        rows = -(-len(self.pictures) // columns)
        wide, tall = (max(each.size[i] for each in self.pictures) for i in (0, 1))
        return min((width / columns - _GAP) / wide, (height / rows - _GAP - _WORDS) / tall)

    def html(self, width: int = 900, height: int = 520, urls: Sequence[str] | None = None) -> str:
        """The pictures with their names and one scale bar, as markup; names are escaped.

        Args:
            width: Of the frame (pixels on the screen).
            height: The same, scale bar not counted.
            urls: Where the pictures are, in order; otherwise they are inside the markup.
        """
        if not self.pictures:
            return ""
        scale = self.scale(width, height)
        where = list(urls) if urls is not None else [each.url for each in self.pictures]
        if len(where) != len(self.pictures):
            raise AnalysisError(f"{len(where)} addresses were given for {len(self.pictures)} maps.")
        cells = "".join(
            _figure(each, url, scale) for each, url in zip(self.pictures, where, strict=True)
        )
        wide = max(each.size[0] for each in self.pictures)
        metres = bar_length(wide * 0.6)
        text = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
        return (
            '<div style="display:grid;justify-content:start;align-items:end;'
            f"gap:{_GAP}px;"
            f'grid-template-columns:repeat({self.columns()},max-content)">{cells}</div>'
            '<div style="margin-top:10px;font-size:12px">'
            f'<div style="width:{metres * scale:.0f}px;height:5px;border:1.5px solid currentColor;'
            f'border-top:0"></div>{text}, the same for all</div>'
        )

    def _repr_html_(self) -> str:
        return self.html()


def _figure(each: Multiple, url: str, scale: float) -> str:
    width, height = (max(1, round(side * scale)) for side in each.size)
    flags = "".join(
        '<span style="margin-left:8px;color:#8a5300;background:#fff3dc;border-radius:8px;'
        f'padding:0 6px;font-size:11px">{html.escape(words)}</span>'
        for words in each.warnings
    )
    name = html.escape(each.name)
    return (
        f'<figure style="margin:0"><figcaption style="height:{_WORDS}px;white-space:nowrap">'
        '<span style="display:inline-block;width:10px;height:10px;border-radius:5px;'
        f'margin-right:6px;background:{each.colour}"></span><b>{name}</b>{flags}</figcaption>'
        f'<img src="{html.escape(url, quote=True)}" alt="{name}" width="{width}" height="{height}" '
        f'style="image-rendering:pixelated;border:2px solid {each.colour};display:block">'
        "</figure>"
    )


def multiples(
    fields: Mapping[str, xr.DataArray], colours_of: Mapping[str, str] | None = None
) -> Multiples:
    """The same kind of field of several places as small maps of one scale.

    The fields must share their colours to be compared: `basis(features)` of one basis, or
    `assign(features, bank)` of one bank. Clusters found place by place do not.

    Args:
        fields: {name of the place: field}.
        colours_of: {name: `#rrggbb`}, the identity colours of the places.

    Raises:
        AnalysisError: If there is none, one cannot be drawn, or their categories differ.
    """
    if not isinstance(fields, Mapping) or not fields:
        raise AnalysisError(f"{shown(fields)} are no maps; give {{name: field}} of places.")
    given = dict(colours_of or {})
    hues = palette(whole("the number of places", len(fields), 1, 64, AnalysisError))
    kinds = set()
    for each in fields.values():
        check_field(each)
        kinds.add((each.attrs["kind"], tuple(map(str, each.attrs.get("categories", ())))))
    if len(kinds) > 1:
        raise AnalysisError(
            "These fields do not mean the same: they differ in kind or in their categories. Assign "
            "all places to one bank, or show them by one basis."
        )
    return Multiples(
        tuple(
            _multiple(str(name), each, given.get(str(name), hue))
            for (name, each), hue in zip(fields.items(), hues, strict=True)
        )
    )


def _multiple(name: str, field: xr.DataArray, colour: str) -> Multiple:
    box = geobox_of(field).boundingbox
    step = max(1, -(-max(field.shape[-2:]) // MOST_PIXELS))
    part = field.isel(y=slice(None, None, step), x=slice(None, None, step))
    pixels = np.ascontiguousarray(colours(part))
    size = (box.right - box.left, box.top - box.bottom)
    return Multiple(name, encode_rgba(pixels), size, colour, tuple(warnings(field)))


def bar_length(most: float) -> float:
    """The longest of 1, 2, 5, 10, ... metres that is no longer than `most`."""
    power = 10.0 ** np.floor(np.log10(max(most, 1)))
    return float(max(step for step in (1, 2, 5) if step * power <= max(most, 1)) * power)
