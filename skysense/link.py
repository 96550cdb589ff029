"""A link: the small state of a session as the query of an address, and back.

Only bounded words and numbers travel: a place by name or by coordinates, encoder, dates, layer. No
path, no label and no address is ever read from a link.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import parse_qsl, urlencode

from skysense.checks import choice, shown, text
from skysense.dates import Dates
from skysense.errors import EncoderError, SessionError
from skysense.merging import USUAL, schedule_of
from skysense.merging import said as merge_said
from skysense.region import Region
from skysense.session import NAME, RESOLUTIONS, WORD, Session, SessionPlace
from skysense.sources import CATALOGUES

MOST = 2_000
"""Longest link (characters)."""

SOURCES = ("synthetic", *CATALOGUES)
"""Where a place of a link may come from; places of files are shared by name."""

KEYS = ("place", "source", "bounds", "lon", "lat", "size", "time", "encoder", "resolution", "s2",
        "s1", "hr", "first", "last", "clear", "merge", "layer")  # fmt: skip
"""Everything that a link may hold."""


@dataclass(frozen=True)
class SharedState:
    """What a link says."""

    place: str = ""
    """Name of a place; without a region one that the receiver knows already."""
    region: Region | None = None
    source: str = ""
    """Where its images come from, one of `SOURCES`; empty for a place known by name."""
    encoder: str = ""
    """Empty for the receiver's own choice, as for the others below."""
    resolution: int | None = None
    dates: Dates = field(default_factory=Dates)
    layer: str = ""
    merge: str = ""
    """Merge schedule of SkySense V2, see `skysense.merging`; empty for the usual one."""


def share_text(session: Session, place: str = "") -> str:
    """The query of a link to a place of a session, without the question mark.

    A polygon becomes its bounds, which is all that features depend on. A place of a file travels by
    its name alone.

    Args:
        session: Whose choices and layer are shared.
        place: Name of the place; the one on the screen if empty.

    Raises:
        SessionError: If there is no such place.
    """
    if not isinstance(session, Session):
        raise SessionError(f"{shown(session)} is not a session; make one with Session(places=...).")
    name = place or session.view.place
    here: SessionPlace | None = session.place(name) if name else next(iter(session.places), None)
    if here is None:
        raise SessionError("The session has no place, so there is nothing to link to. Add one.")
    said: dict[str, Any] = {"place": here.name}
    if here.region is not None and here.source in SOURCES:
        said["source"] = here.source
        said["bounds"] = ",".join(repr(v) for v in here.region.bounds)
        said["time"] = "/".join(here.region.time)
    choices = session.choices
    said |= {"encoder": choices.encoder, "resolution": choices.resolution}
    plain = Dates()
    for each in fields(Dates):
        if (value := getattr(choices.dates, each.name)) != getattr(plain, each.name):
            said[each.name] = value
    if choices.merge not in ("", USUAL):
        said["merge"] = choices.merge
    said["layer"] = session.view.top
    return urlencode(said)


def shared(query: str) -> SharedState:
    """What a link says.

    Args:
        query: From `share_text`, or typed: `lon=3.02&lat=50.82&size=640&time=2023&encoder=spectral`.

    Raises:
        SkySenseError: A `SessionError`, `RegionError` or `StackError` for whatever is unknown, twice
            there, too long or out of its range.
    """
    if not isinstance(query, str) or len(query) > MOST:
        raise SessionError(f"{shown(query)} is not the query of a link of up to {MOST:,} letters.")
    query = query.removeprefix("?")
    try:
        pairs = parse_qsl(query, True, True, max_num_fields=32, errors="strict") if query else []
    except ValueError as error:
        raise SessionError(f"The link {shown(query)} cannot be read: {error}.") from error
    said = dict(pairs)
    if len(said) < len(pairs):
        raise SessionError("The link says something twice; keep one of them.")
    if strange := [key for key in said if key not in KEYS]:
        raise SessionError(
            f"The link holds the unknown {shown(strange[0])}; known are {', '.join(KEYS)}."
        )
    name = text("place", said.get("place", ""), NAME, SessionError)
    region = _region(said, name)
    source = said.get("source", "")
    if source:
        choice("source", source, SOURCES, SessionError)
    return SharedState(
        place=name,
        region=region,
        source=source or ("synthetic" if region is not None else ""),
        encoder=_word(said, "encoder"),
        resolution=_resolution(said),
        dates=_dates(said),
        merge=_merge(said),
        layer=_word(said, "layer"),
    )


def _region(said: Mapping[str, str], name: str) -> Region | None:
    square = [key for key in ("lon", "lat", "size") if key in said]
    if not square and "bounds" not in said:
        return None
    if "time" not in said:
        raise SessionError("The link has a place but no time; add time=2024 or time=FIRST/LAST.")
    if "bounds" in said:
        if square:
            raise SessionError("The link has bounds and lon, lat, size; one of them is enough.")
        parts = said["bounds"].split(",")
        return Region(tuple(_number("bounds", p) for p in parts), said["time"], name)  # type: ignore[arg-type]
    if len(square) < 3:
        raise SessionError(f"The link has {', '.join(square)}; a place needs lon, lat and size.")
    lon, lat, size = (_number(key, said[key]) for key in ("lon", "lat", "size"))
    return Region.around(lon, lat, size, said["time"], name)


def _number(name: str, value: str) -> float:
    if not re.fullmatch(r"-?\d{1,12}(\.\d{0,24})?(e-?\d{1,3})?", value, re.ASCII):
        raise SessionError(f"{name}={shown(value)} is not a number; give one such as 3.02.")
    return float(value)


def _word(said: Mapping[str, str], name: str) -> str:
    value = said.get(name, "")
    if value and not WORD.fullmatch(value):
        raise SessionError(f"{name}={shown(value)} is not a name of letters, digits and dashes.")
    return value


def _resolution(said: Mapping[str, str]) -> int | None:
    value = said.get("resolution", "")
    if value and value not in map(str, RESOLUTIONS):
        raise SessionError(f"resolution={shown(value)} m is not one of {RESOLUTIONS}.")
    return int(value) if value else None


def _merge(said: Mapping[str, str]) -> str:
    value = said.get("merge", "")
    try:
        return merge_said(schedule_of(value)) if value else ""
    except EncoderError as error:
        raise SessionError(str(error)) from error


def _dates(said: Mapping[str, str]) -> Dates:
    rule: dict[str, Any] = {name: said[name] for name in ("first", "last") if name in said}
    for name in ("s2", "s1", "hr"):
        if name in said:
            if not re.fullmatch(r"\d{1,6}", said[name], re.ASCII):
                raise SessionError(f"{name}={shown(said[name])} is not a number of dates.")
            rule[name] = int(said[name])
    if "clear" in said:
        rule["clear"] = _number("clear", said["clear"])
    return Dates(**rule)
