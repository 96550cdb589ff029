"""The smaller tables of a recipe: files, masks, times, facts, labels; and how keys are checked."""

import datetime as dt
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyproj import CRS
from pyproj.exceptions import CRSError

from skysense.checks import as_number, shown
from skysense.errors import RecipeError
from skysense.sensors import SENSORS

UNUSED = {"s2": ("B01", "B09", "B10"), "s1": ("HH", "HV"), "hr": ()}
"""Real bands that SkySense does not read: they may be listed, are left out and are noted."""

ALPHA = "alpha"
"""A band of an image file that is 0 where there is no picture."""

SKIP = "-"
"""Stands for a band that is to be left out."""


@dataclass(frozen=True)
class StoredBand:
    """One band of a file, in the file's order."""

    name: str
    """A name the sensor knows, `alpha`, or empty for a band that is left out."""
    variable: str = ""
    """The variable that holds it, where each band has its own (netCDF, Zarr)."""
    listed: str = ""
    """As the recipe spells it."""


@dataclass(frozen=True)
class Part:
    """One file, or one pattern of files, with some of the bands."""

    path: str
    bands: tuple[StoredBand, ...]
    variable: str = ""
    """The variable that holds all bands along one axis; empty if each has its own."""


@dataclass(frozen=True)
class MaskRule:
    """Which pixels are not usable, by a layer beside the images."""

    path: str = ""
    """Where the layer is; empty for the first file of the sensor."""
    variable: str = ""
    band: int = 1
    """Band number in an image file, from 1."""
    usable: tuple[float, ...] | None = None
    """Values that mean usable; all others do not."""
    unusable: tuple[float, ...] | None = None
    """Values that mean not usable."""
    above: float = math.inf
    """Larger values are not usable."""
    below: float = -math.inf
    """Smaller values are not usable."""
    meaning: str = "quality"
    """What it masks, in a word or two, for the notes."""

    def sentence(self) -> str:
        """Which values are not usable, in words."""
        said = []
        if self.usable is not None:
            said.append("all but " + ", ".join(f"{v:g}" for v in self.usable))
        if self.unusable is not None:
            said.append(", ".join(f"{v:g}" for v in self.unusable))
        said += [f"above {self.above:g}"] if math.isfinite(self.above) else []
        said += [f"below {self.below:g}"] if math.isfinite(self.below) else []
        return " or ".join(said)


@dataclass(frozen=True)
class Times:
    """Where the dates come from."""

    kind: str = "file"
    """`file` (its time axis), `list`, `name` (of the file) or `unknown`."""
    values: tuple[np.datetime64, ...] = ()
    pattern: str = ""
    form: str = ""
    """strptime format of what the first group of `pattern` finds."""


@dataclass(frozen=True)
class Fact:
    """A per-date fact: the same for all dates, or read from the file."""

    value: str | int | None = None
    variable: str = ""
    """Variable with one value per date."""
    pattern: str = ""
    """Regular expression whose first group is kept."""


@dataclass(frozen=True)
class LabelSource:
    """Ground truth or a map product beside the images."""

    path: str
    band: int = 1
    variable: str = ""
    column: str = ""
    """Attribute of a vector file that holds the class."""
    legend: tuple[tuple[str, str], ...] = ()
    """(stored value, class name) in the order they are shown."""
    note: str = ""


class Table:
    """One TOML table: gives each key's value if it is of the right kind, or says what is wrong."""

    def __init__(self, content: Any, where: str, known: Sequence[str]) -> None:
        if not isinstance(content, dict):
            raise RecipeError(f"{where} must be a table, not {shown(content)}.")
        strangers = sorted(set(content) - set(known))
        if strangers:
            raise RecipeError(
                f"{where} has the unknown key {strangers[0]!r}; known keys are {', '.join(known)}."
            )
        self.content, self.where = content, where

    def _wrong(self, key: str, value: Any, kind: str) -> RecipeError:
        return RecipeError(f"{self.where}: {key} = {shown(value)} must be {kind}.")

    def text(self, key: str, default: str | None = None) -> str:
        """A string; required if there is no default."""
        value = self.content.get(key, default)
        if value is None:
            raise RecipeError(f"{self.where} needs {key} = '...'.")
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self._wrong(key, value, "text")
        return value

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        """A required string from a list."""
        value = self.content.get(key)
        if not isinstance(value, str) or value not in allowed:
            said = f"{key} = {shown(value)} cannot be used" if value is not None else f"needs {key}"
            raise RecipeError(f"{self.where}: {said}; use one of {', '.join(allowed)}.")
        return value

    def number(self, key: str, default: float) -> float:
        """A finite number."""
        return _number(self.content.get(key, default), f"{self.where}: {key}")

    def numbers(self, key: str) -> tuple[float, ...]:
        """A number or a list of numbers."""
        value, where = self.content.get(key, []), f"{self.where}: {key}"
        return tuple(_number(v, where) for v in (value if isinstance(value, list) else [value]))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        values = self.content.get(key, [])
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise self._wrong(key, values, "a list of texts")
        return tuple(values)

    def flag(self, key: str) -> bool:
        """True or false, false if absent."""
        value = self.content.get(key, False)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def table(self, key: str) -> dict[str, Any]:
        """A table, empty if absent."""
        value = self.content.get(key, {})
        if not isinstance(value, dict):
            raise self._wrong(key, value, "a table")
        return value

    def tables(self, key: str) -> list[dict[str, Any]]:
        """A list of tables; a single table counts as a list of one."""
        value = self.content.get(key, [])
        value = [value] if isinstance(value, dict) else value
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            raise RecipeError(f"{self.where}: {key} must be one or several tables.")
        return value

    def bounds(self, key: str) -> tuple[float, float, float, float] | None:
        """Four numbers that enclose an area, or None if absent."""
        if key not in self.content:
            return None
        values = self.numbers(key)
        if len(values) != 4 or values[0] >= values[2] or values[1] >= values[3]:
            raise RecipeError(
                f"{self.where}: {key} = {list(values)} must be [left, bottom, right, top] with "
                "left < right and bottom < top."
            )
        return values  # type: ignore[return-value]


def read_part(content: dict[str, Any], sensor: str, where: str) -> Part:
    """One `[[sensor.file]]` table.

    Raises:
        RecipeError: For unknown keys, or bands the sensor does not have.
    """
    table = Table(content, where, ("path", "bands", "variable"))
    bands = content.get("bands")
    pairs: list[tuple[str, str]]
    if isinstance(bands, dict) and all(isinstance(v, str) for v in bands.values()):
        if content.get("variable"):
            raise RecipeError(f"{where}: give `variable`, or a variable for each band, not both.")
        pairs = list(bands.items())
    elif isinstance(bands, list) and all(isinstance(v, str) for v in bands):
        pairs = [(name, name) for name in bands]
    else:
        raise RecipeError(
            f"{where} needs bands, in the file's order, such as bands = ['B02', 'B03', '-'], or as "
            "a table from band to variable."
        )
    if not pairs:
        raise RecipeError(f"{where}: bands is empty.")
    return Part(
        path=table.text("path"),
        bands=tuple(stored_band(name, variable, sensor, where) for name, variable in pairs),
        variable=table.text("variable", ""),
    )


def stored_band(name: str, variable: str, sensor: str, where: str) -> StoredBand:
    """One entry of a band list.

    Raises:
        RecipeError: If the sensor has no such band.
    """
    spec = SENSORS[sensor]
    known = spec.name_of(name)
    if known is not None:
        return StoredBand(known, variable, name)
    if name == SKIP or name.upper() in UNUSED[sensor]:
        return StoredBand("", variable, name)
    if sensor == "hr" and name.lower() in {ALPHA, "a"}:
        return StoredBand(ALPHA, variable, name)
    codes = [b.code for b in (*spec.bands, *spec.extra)]
    raise RecipeError(
        f"{where}: {name!r} is not a band of {spec.title}; use {', '.join(codes)}, or '{SKIP}' "
        "for a band to leave out."
    )


def read_mask(content: dict[str, Any], where: str) -> MaskRule:
    """One `[[sensor.mask]]` table.

    Raises:
        RecipeError: For unknown keys, or if it does not say what is masked.
    """
    keys = ("path", "variable", "band", "usable", "unusable", "above", "below", "meaning")
    table = Table(content, where, keys)
    if not {"usable", "unusable", "above", "below"} & set(content):
        raise RecipeError(f"{where} needs usable, unusable, above or below.")
    return MaskRule(
        path=table.text("path", ""),
        variable=table.text("variable", ""),
        band=_count(content.get("band", 1), f"{where}: band"),
        usable=table.numbers("usable") if "usable" in content else None,
        unusable=table.numbers("unusable") if "unusable" in content else None,
        above=table.number("above", 0.0) if "above" in content else math.inf,
        below=table.number("below", 0.0) if "below" in content else -math.inf,
        meaning=table.text("meaning", MaskRule.meaning),
    )


def read_times(content: Any, where: str) -> Times:
    """The `time` key: absent, "unknown", a moment, a list of them, or a table for file names.

    Raises:
        RecipeError: If it is none of these.
    """
    if content is None:
        return Times()
    if isinstance(content, str) and content == "unknown":
        return Times("unknown")
    if isinstance(content, dict):
        table = Table(content, f"{where} time", ("regex", "format"))
        pattern = compiled(table.text("regex"), f"{where} time")
        return Times("name", pattern=pattern, form=table.text("format"))
    moments = content if isinstance(content, list) else [content]
    if not moments:
        raise RecipeError(f"{where}: time is an empty list; write time = 'unknown' for that.")
    return Times("list", tuple(moment(m, where) for m in moments))


def moment(value: Any, where: str) -> np.datetime64:
    """A moment from ISO text or a TOML date; NaT for `unknown`.

    Raises:
        RecipeError: If it is neither.
    """
    if isinstance(value, str) and value == "unknown":
        return np.datetime64("NaT", "ns")
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError as error:
            raise RecipeError(
                f"{where}: time = {value!r} is not a date like 2018-06-30 or 2018-06-30T10:53:28; "
                "write 'unknown' where it is not known."
            ) from error
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    if not isinstance(value, dt.date) or not 1900 <= value.year <= 2200:
        raise RecipeError(f"{where}: time = {shown(value)} is not a date.")
    return np.datetime64(value, "ns")


def read_fact(content: Any, where: str, allowed: tuple[str, ...]) -> Fact:
    """A constant, or a table that says which variable holds it.

    Raises:
        RecipeError: If it is neither, or not an allowed constant.
    """
    if isinstance(content, dict):
        table = Table(content, where, ("variable", "regex"))
        pattern = compiled(content["regex"], where) if "regex" in content else ""
        return Fact(variable=table.text("variable"), pattern=pattern)
    number = where.endswith("orbit_number")
    if isinstance(content, bool) or not isinstance(content, int if number else str):
        kind = "a whole number" if number else "text"
        raise RecipeError(f"{where} = {shown(content)} must be {kind}, or a table with a variable.")
    if allowed and content not in allowed:
        raise RecipeError(f"{where} = {content!r}; use one of {', '.join(allowed)}.")
    return Fact(value=content)


def read_labels_table(name: str, content: Any) -> LabelSource:
    """One `[labels.NAME]` table.

    Raises:
        RecipeError: For unknown keys or a legend that is not a table of texts.
    """
    where = f"[labels.{name}]"
    table = Table(content, where, ("path", "band", "variable", "column", "legend", "note"))
    legend = table.table("legend")
    if not all(isinstance(v, str) and v for v in legend.values()):
        raise RecipeError(f"{where}: every class in the legend must be a text.")
    return LabelSource(
        path=table.text("path"),
        band=_count(content.get("band", 1), f"{where}: band"),
        variable=table.text("variable", ""),
        column=table.text("column", ""),
        legend=tuple(legend.items()),
        note=table.text("note", ""),
    )


def read_crs(text: str) -> CRS:
    """A coordinate reference system.

    Raises:
        RecipeError: If it is not one.
    """
    try:
        return CRS.from_user_input(text if isinstance(text, str) else None)
    except CRSError as error:
        raise RecipeError(
            f"crs = {shown(text)} is not a coordinate reference system; write it like 'EPSG:32631'."
        ) from error


def compiled(pattern: Any, where: str) -> str:
    """A checked regular expression with one group.

    Raises:
        RecipeError: If it cannot be compiled or has no group.
    """
    try:
        groups = re.compile(pattern).groups
    except (re.error, TypeError) as error:
        raise RecipeError(f"{where}: regex = {pattern!r} cannot be read: {error}.") from error
    if groups < 1 or len(pattern) > 200:
        raise RecipeError(
            f"{where}: regex = {pattern!r} needs a group (...) around what is to be kept, and at "
            "most 200 characters."
        )
    return pattern


def _number(value: Any, where: str) -> float:
    if not math.isfinite(as_number(value)):
        raise RecipeError(f"{where} = {shown(value)} must be a finite number.")
    return float(value)


def _count(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise RecipeError(f"{where} = {shown(value)} must be a whole number from 1.")
    return value
