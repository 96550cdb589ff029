"""Sessions on disk: one JSON file, sorted and indented, read as if it came from a stranger.

A file says which images and weights to open, so it is believed only in what it may say: catalogues
by their built-in names, and paths that stay inside the session's own folder or folders that the
caller names. Unknown keys, other versions, and files too large are refused with a sentence.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from skysense.checks import number, shown, text
from skysense.dates import Dates
from skysense.disk import path_of, written
from skysense.errors import SessionError, SkySenseError
from skysense.export import plain
from skysense.region import Region
from skysense.session import (
    MOST_NUMBERS,
    MOST_PROTOTYPES,
    Session,
    SessionChoices,
    SessionClass,
    SessionPlace,
    SessionView,
    check_count,
    mark_json,
)
from skysense.sources import CATALOGUES
from skysense.sources.profiles import PROFILES

VERSION = 1
"""Of the file's form."""

MOST_BYTES = 20_000_000
MOST_FEATURES = 16_384
"""Longest row of a bank."""

FLOAT32 = 3.4028235e38
"""Largest number as the shortest decimal of a float32 writes it."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_TOP = ("skysense_session", "version", "places", "choices", "labels", "prototypes", "bank", "view")


def save_session(session: Session, path: str | Path, overwrite: bool = False) -> Path:
    """Write a session to one readable file; `open_session` gives it back bit for bit.

    Args:
        session: What to keep. Files of its own folder are named relative to it, so that the folder
            can be moved.
        path: A file ending in `.json`.
        overwrite: Replace what is there, at once: a killed program leaves the old file or the new.

    Returns:
        The path.

    Raises:
        SessionError: If it is no session, too large, or the path has another ending, is taken or
            cannot be written.
    """
    if not isinstance(session, Session):
        raise SessionError(f"{shown(session)} is not a session; make one with Session(places=...).")
    path = path_of(path, SessionError)
    if path.suffix.lower() != ".json":
        raise SessionError(f"{path.name!r} does not end in .json, which is how sessions are kept.")
    if path.exists() and not (overwrite and path.is_file()):
        raise SessionError(f"{path} is already there. Choose another name, or pass overwrite=True.")
    content = session_text(session, path.parent)
    if len(content.encode()) > MOST_BYTES:
        raise SessionError(
            f"The session would be {len(content) / 1e6:,.0f} MB, more than {MOST_BYTES / 1e6:.0f}. "
            "Leave out some of the drawn polygons."
        )
    with written(path, SessionError) as partial:
        partial.write_text(content, "utf-8")
    return path


def open_session(
    path: str | Path,
    folders: Sequence[str | Path] = (),
    catalogues: Sequence[str] = (),
) -> Session:
    """Read a session.

    Args:
        path: A file that `save_session` wrote.
        folders: Where images and weights may lie besides the session's own folder; a file anywhere
            else is refused, by whatever path or symbolic link it is named.
        catalogues: Addresses of STAC catalogues that may be used besides the built-in ones.

    Returns:
        The session, its files as absolute paths.

    Raises:
        SkySenseError: A `SessionError`, or for a part of it a `RegionError`, `StackError` or
            `AnalysisError`, naming what is wrong.
    """
    path = path_of(path, SessionError)
    if not path.is_file():
        raise SessionError(
            f"There is no session at {path}. save_session(session, path) writes one."
        )
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SessionError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > MOST_BYTES:
        raise SessionError(
            f"{path.name} is over {MOST_BYTES / 1e6:.0f} MB, too large for a session."
        )
    try:
        session = read_session(parsed(content))
        return _placed(session, path.parent.resolve(), folders, catalogues)
    except SkySenseError as error:
        raise type(error)(f"{path.name}: {error}") from error


def parsed(content: bytes) -> Any:
    """JSON of which nothing is known yet: no NaN, no key twice, no endless nesting."""
    try:
        return json.loads(content, parse_constant=_no_number, object_pairs_hook=_once)
    except SessionError:
        raise
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, integers without end
        said = " ".join(str(error).split())[:200].rstrip(".")
        raise SessionError(f"this is not the JSON of a session: {said}.") from error


def _no_number(word: str) -> Any:
    raise SessionError(f"it holds {word}, which is not a number; write null or a number.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise SessionError("it has an object in which one key stands twice; remove one of them.")
    return found


def session_text(session: Session, home: Path | None = None) -> str:
    """The file's content; paths inside `home` are written relative to it."""
    content = json.dumps(_content(session, home), indent=2, sort_keys=True, allow_nan=False,
                         ensure_ascii=False)  # fmt: skip
    # a row of numbers stands on one line; a text cannot hold the line breaks looked for here
    rows = r"\[\n\s+(-?[\d.eE+-]+(?:,\n\s+-?[\d.eE+-]+)*)\n\s+\]"
    return re.sub(rows, lambda found: f"[{' '.join(found[1].split())}]", content) + "\n"


def _content(session: Session, home: Path | None) -> dict[str, Any]:
    def place(each: SessionPlace) -> dict[str, Any]:
        facts = {f.name: getattr(each, f.name) for f in dataclasses.fields(each)}
        region = each.region.to_geojson() if each.region is not None else None
        return facts | {"source": beside(each.source, home), "region": region}

    choices = dataclasses.asdict(session.choices)
    view = dataclasses.asdict(session.view)
    for part, new in ((choices, "merge"), (view, "selected")):
        if not part[new]:
            del part[new]  # so that files without one are read by versions that know of none
    return {
        "skysense_session": VERSION,
        "version": session.version,
        "places": [place(each) for each in session.places],
        "choices": choices | {"checkpoint": beside(session.choices.checkpoint, home)},
        "labels": [
            {"name": c.name, "colour": c.colour, "places": [mark_json(m) for m in c.places]}
            for c in session.labels
        ],
        "prototypes": list(session.prototypes),
        "bank": None if session.bank is None else _bank_content(session.bank),
        "view": view,
    }


def beside(source: str, home: Path | None) -> str:
    """A path inside `home` relative to it, any other path absolute, what is no path as it is."""
    if home is None or not source or not is_path(source):
        return source
    path = Path(source).absolute()
    home = home.resolve()
    return path.relative_to(home).as_posix() if path.is_relative_to(home) else str(path)


def is_path(source: str) -> bool:
    """Whether a source is a file or folder, not a catalogue and not the synthetic world."""
    return source not in ("auto", "synthetic", *CATALOGUES) and not _ADDRESS.match(source)


def _bank_content(bank: xr.DataArray) -> dict[str, Any]:
    """A bank as rows of the shortest decimals that are the same float32 again."""
    rows = np.asarray(bank.values, np.float32)
    centre = np.asarray(bank["centre"].values, np.float32) if "centre" in bank.coords else None
    return {
        "values": [[float(str(v)) for v in row] for row in rows],
        "centre": None if centre is None else [float(str(v)) for v in centre],
        "attrs": plain(bank.attrs),
    }


def read_session(content: Any) -> Session:
    """A session from parsed JSON; its sources are not looked at yet.

    Raises:
        SkySenseError: Naming the part that is wrong.
    """
    top = _record(content, "the file", _TOP, ("skysense_session",))
    if top["skysense_session"] != VERSION or isinstance(top["skysense_session"], bool):
        raise SessionError(
            f"skysense_session is {shown(top['skysense_session'])}; this version of the package "
            f"reads {VERSION}. Open it with the version that wrote it."
        )
    check_count(_numbers([top.get("places"), top.get("labels")]))  # before anything slow is done
    bank = top.get("bank")
    return Session(
        places=tuple(_place(each, i) for i, each in _numbered(top, "places")),
        choices=_choices(top.get("choices", {})),
        labels=tuple(_class(each, i) for i, each in _numbered(top, "labels")),
        prototypes=tuple(each for _, each in _numbered(top, "prototypes")),
        bank=None if bank is None else _bank(bank),
        view=SessionView(**_fields(top.get("view", {}), "view", SessionView)),
        version=top.get("version", ""),
    )


def _numbers(value: Any) -> int:
    """How many numbers there are anywhere in a JSON value, counted until they are too many."""
    count, left = 0, [value]
    while left and count <= MOST_NUMBERS:
        each = left.pop()
        if isinstance(each, list | dict):
            left.extend(each.values() if isinstance(each, dict) else each)
        elif isinstance(each, int | float):
            count += 1
    return count


def _record(
    value: Any, where: str, known: Sequence[str], needed: Sequence[str] = ()
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SessionError(f"{where} is {shown(value)}, not an object with keys.")
    if strange := [key for key in value if key not in known]:
        raise SessionError(
            f"{where} has the unknown key {shown(strange[0])}; known are {', '.join(known)}."
        )
    if absent := [key for key in needed if key not in value]:
        raise SessionError(f"{where} has no {absent[0]!r}, which it needs.")
    return value


def _fields(value: Any, where: str, kind: Any, needed: Sequence[str] = ()) -> dict[str, Any]:
    return dict(_record(value, where, [f.name for f in dataclasses.fields(kind)], needed))


def _numbered(top: Mapping[str, Any], name: str) -> list[tuple[int, Any]]:
    value = top.get(name, [])
    if not isinstance(value, list):
        raise SessionError(f"{name} is {shown(value)}, not a list.")
    return list(enumerate(value, start=1))


def _place(value: Any, i: int) -> SessionPlace:
    facts = _fields(value, f"place {i}", SessionPlace, ("name",))
    region = facts.get("region")
    if region is not None:
        if not isinstance(region, dict):
            raise SessionError(f"place {i}: region is {shown(region)}, not GeoJSON.")
        facts["region"] = Region.from_geojson(region)
    return SessionPlace(**facts)


def _choices(value: Any) -> SessionChoices:
    facts = _fields(value, "choices", SessionChoices)
    if "dates" in facts:
        facts["dates"] = Dates(**_fields(facts["dates"], "choices: dates", Dates))
    return SessionChoices(**facts)


def _class(value: Any, i: int) -> SessionClass:
    return SessionClass(**_fields(value, f"class {i}", SessionClass, ("name",)))


def _bank(value: Any) -> xr.DataArray:
    facts = _record(value, "bank", ("values", "centre", "attrs"), ("values",))
    rows = facts["values"]
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_PROTOTYPES:
        raise SessionError(f"bank: values are not a list of 1 to {MOST_PROTOTYPES:,} rows.")
    values = np.stack([_row(row, f"bank: row {i}", rows[0]) for i, row in enumerate(rows, 1)])
    coords: dict[str, Any] = {
        "prototype": np.arange(len(values)),
        "feature": np.arange(values.shape[1]),
    }
    if facts.get("centre") is not None:
        coords["centre"] = ("feature", _row(facts["centre"], "bank: centre", rows[0]))
    attrs = facts.get("attrs", {})
    if not isinstance(attrs, dict) or len(attrs) > 200:
        raise SessionError(f"bank: attrs are {shown(attrs)}, not an object of facts.")
    kept = {
        text("bank: attrs", key, 200, SessionError): _fact(each, key) for key, each in attrs.items()
    }
    return xr.DataArray(values, coords, ("prototype", "feature"), attrs=kept)


def _row(row: Any, where: str, first: Any) -> np.ndarray:
    if not isinstance(row, list) or not 1 <= len(row) <= MOST_FEATURES or len(row) != len(first):
        raise SessionError(f"{where} is not a list of numbers as long as the first row.")
    for each in row:
        if type(each) not in (int, float):  # nothing slower: a bank has many numbers
            number(where, each, -FLOAT32, FLOAT32, SessionError)
    try:
        values = np.array(row, np.float64)
    except OverflowError:
        values = np.array([np.inf])
    if not (np.abs(values) <= FLOAT32).all():
        raise SessionError(f"{where} holds a number that float32 cannot hold; leave the row out.")
    return values.astype(np.float32)


def _fact(value: Any, key: str) -> Any:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str):
            _encodable(each, key)
        elif isinstance(each, bool) or not isinstance(each, int | float):
            raise SessionError(
                f"bank: the fact {key!r} is {shown(value)}, neither text nor number."
            )
        else:
            number(f"bank: {key}", each, -1e300, 1e300, SessionError)
    return value


def _encodable(value: str, key: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SessionError(f"bank: the fact {key!r} holds half a letter; leave it out.") from error


def _placed(
    session: Session, home: Path, folders: Sequence[str | Path], catalogues: Sequence[str]
) -> Session:
    """The session with every source looked at, and files as absolute paths."""
    if isinstance(folders, str | Path) or isinstance(catalogues, str):
        raise SessionError("folders and catalogues are lists; give ['...'] even for one of them.")
    allowed = [home, *(path_of(f, SessionError, "folders").resolve() for f in folders)]

    def source(place: SessionPlace) -> str:
        name = place.source
        if is_path(name):
            return inside(name, home, allowed)
        if _ADDRESS.match(name):
            if name.rstrip("/") in {*(p.address for p in PROFILES.values()), *catalogues}:
                return name
            raise SessionError(
                f"the place {place.name!r} wants the catalogue {shown(name)}, which is not one of "
                f"{', '.join(CATALOGUES)}. If you trust it, pass catalogues=[{shown(name)}]."
            )
        return name

    places = tuple(dataclasses.replace(p, source=source(p)) for p in session.places)
    choices = session.choices
    if choices.checkpoint:
        where = inside(choices.checkpoint, home, allowed)
        choices = dataclasses.replace(choices, checkpoint=where)
    return dataclasses.replace(session, places=places, choices=choices)


def inside(name: str, home: Path, allowed: Sequence[Path]) -> str:
    """The absolute path of a file or folder, if it lies in one of the allowed folders.

    Raises:
        SessionError: If it lies elsewhere, steps out by `..`, or goes round in links.
    """
    odd = ".." in Path(name).parts or "\\" in name or name.startswith("~")
    try:
        found = (home / name).resolve()
    except (OSError, RuntimeError, ValueError):  # a circle of links, a name too long
        odd, found = True, home
    if odd or not any(found.is_relative_to(folder) for folder in allowed):
        raise SessionError(
            f"{shown(name)} does not lie in the session's folder or in one that may be read. If you "
            "trust it, pass folders=[...] with the folder it is in."
        )
    return str(found)
