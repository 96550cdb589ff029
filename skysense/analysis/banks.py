"""Banks of prototypes as things to keep: named, told apart, written to a file and read back.

A bank file is JSON that a person can read: where the bank comes from, and for each prototype its
name and its vector. Numbers are the shortest decimals that give the same float32 again, so a bank
that was kept assigns every pixel exactly as before.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from skysense.analysis.prototypes import MOST_PROTOTYPES, centre_of, check_bank, names_of
from skysense.checks import shown, whole
from skysense.disk import path_of, written
from skysense.errors import AnalysisError

FORMAT = "skysense-bank"
VERSION = 1

LONGEST_NAME = 40
"""Characters of a name; more does not fit beside a picture."""

MAX_FILE = 200_000_000
"""Largest bank file that is read (bytes); 4,096 prototypes of 2,816 features take 130 MB."""

MOST_FEATURES = 65_536


def rename(bank: xr.DataArray, number: int, name: str) -> xr.DataArray:
    """The bank with another name for one prototype; nothing else changes.

    Args:
        bank: (prototype, feature).
        number: Of the prototype, from 0.
        name: 1 to 40 characters, unlike the others' names.

    Raises:
        AnalysisError: If there is no such prototype, or the name is empty or taken.
    """
    names = names_of(bank)
    number = whole("number", number, 0, len(names) - 1, AnalysisError)
    if not isinstance(name, str) or not name.strip():
        raise AnalysisError(f"A prototype cannot be called {shown(name)}; give it a short name.")
    name = " ".join(name.split())[:LONGEST_NAME]
    if name in names[:number] + names[number + 1 :]:
        raise AnalysisError(f"Another prototype is called “{name}” already. Choose another name.")
    names[number] = name
    return bank.assign_attrs(names=names)


def bank_digest(bank: xr.DataArray) -> str:
    """16 hexadecimal digits that two banks share exactly if they assign alike; names do not count."""
    check_bank(bank)
    parts = (np.ascontiguousarray(bank.values, "<f4"), np.ascontiguousarray(centre_of(bank), "<f4"))
    facts = f"{bank.shape} {bank.attrs.get('encoder', '')} {bank.attrs.get('weights', '')}"
    found = hashlib.sha256(facts.encode())
    for part in parts:
        found.update(part.tobytes())
    return found.hexdigest()[:16]


def bank_text(bank: xr.DataArray) -> str:
    """A bank as JSON text; `read_bank` gives it back, bit by bit.

    Raises:
        AnalysisError: If it is no bank, or one of its attributes is not plain data.
    """
    names = names_of(bank)
    attrs = {key: value for key, value in bank.attrs.items() if key != "names"}
    features = bank["feature"].values.tolist() if "feature" in bank.coords else None
    rows = [
        {"name": name, "vector": _decimals(row)}
        for name, row in zip(names, bank.values, strict=True)
    ]
    try:
        head = json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "attrs": attrs,
                "feature": features,
                "centre": _decimals(centre_of(bank)) if "centre" in bank.coords else None,
            },
            default=_plain,
            ensure_ascii=False,
            allow_nan=False,
        )
    except (TypeError, ValueError) as error:
        raise AnalysisError(f"What the bank says about itself cannot be kept: {error}.") from error
    # one prototype per line, so that a person can find one and compare two files
    lines = ",\n ".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f'{head[:-1]},\n "prototypes": [\n {lines}\n ]}}\n'


def read_bank(text: str | bytes) -> xr.DataArray:
    """A bank from the text of its file.

    Returns:
        (prototype, feature) float32 as `fit_prototypes` gives it, with its names in `attrs`.

    Raises:
        AnalysisError: For anything that is not a whole bank.
    """
    if not isinstance(text, str | bytes):
        raise AnalysisError(f"{shown(text)} is not the text of a bank file.")
    if len(text) > MAX_FILE:
        raise AnalysisError(f"The bank file is over {MAX_FILE / 1e6:.0f} MB; none is that large.")
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise AnalysisError(f"This is not a bank file: it is not JSON ({error}).") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise AnalysisError(
            "This is not a bank file: it does not say so. save_bank(bank, path) writes one."
        )
    if found.get("version") != VERSION:
        raise AnalysisError(
            f"The bank file is of version {shown(found.get('version'))}; this program reads "
            f"version {VERSION}. Write it again, or use the program that wrote it."
        )
    rows = found.get("prototypes")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_PROTOTYPES:
        raise AnalysisError(
            f"The bank file holds no list of 1 to {MOST_PROTOTYPES:,} prototypes; it is damaged."
        )
    if not all(isinstance(row, dict) for row in rows):
        raise AnalysisError("A prototype in the bank file is not an object; it is damaged.")
    names = [_name(row.get("name"), i) for i, row in enumerate(rows, 1)]
    if len(set(names)) < len(names):
        raise AnalysisError("Two prototypes of the bank file have the same name; change one.")
    first = _vector(rows[0].get("vector"), f"Prototype {names[0]!r}")
    if not 1 <= len(first) <= MOST_FEATURES:
        raise AnalysisError(f"Prototype {names[0]!r} of the bank file has {len(first)} features.")
    vectors = [_vector(row.get("vector"), f"Prototype {n!r}", len(first))
               for row, n in zip(rows, names, strict=True)]  # fmt: skip
    attrs = _facts(found.get("attrs"))
    coords: dict[str, Any] = {
        "prototype": np.arange(len(rows)),
        "feature": _labels(found.get("feature"), len(first)),
    }
    if found.get("centre") is not None:
        coords["centre"] = ("feature", _vector(found["centre"], "The centre", len(first)))
    bank = xr.DataArray(
        np.stack(vectors), coords, ("prototype", "feature"), attrs={**attrs, "names": names}
    )
    check_bank(bank)
    return bank


def save_bank(bank: xr.DataArray, path: str | Path) -> Path:
    """Write a bank to one `.json` file; `open_bank` gives it back, bit by bit.

    Args:
        bank: (prototype, feature) from `fit_prototypes`, with or without names of its own.
        path: Where, ending in `.json`; what is there is replaced.

    Raises:
        AnalysisError: If it is no bank, or the place cannot be written.
    """
    path = path_of(path, AnalysisError)
    if path.suffix != ".json":
        raise AnalysisError(f"{path} does not end in .json, which is how banks are kept.")
    text = bank_text(bank)
    with written(path, AnalysisError) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def open_bank(path: str | Path) -> xr.DataArray:
    """Read a bank written by `save_bank`.

    Raises:
        AnalysisError: If there is no bank in the file, or it is damaged.
    """
    path = path_of(path, AnalysisError)
    try:
        size = path.stat().st_size
        text = path.read_bytes() if size <= MAX_FILE else b""
    except OSError as error:
        raise AnalysisError(f"{path} cannot be read: {error.strerror}.") from error
    if size > MAX_FILE:
        raise AnalysisError(f"{path} is over {MAX_FILE / 1e6:.0f} MB; no bank is that large.")
    try:
        return read_bank(text)
    except AnalysisError as error:
        raise AnalysisError(f"{path}: {error}") from error


def _decimals(row: np.ndarray) -> list[float]:
    """The shortest decimals that are the same float32 again."""
    return [float(str(value)) for value in np.asarray(row, np.float32)]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{shown(value)} is not plain data")


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def _name(value: Any, number: int) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_NAME:
        raise AnalysisError(
            f"Prototype {number} of the bank file is called {shown(value)}; a name is a text of "
            f"1 to {LONGEST_NAME} characters."
        )
    return value


def _vector(value: Any, what: str, length: int | None = None) -> np.ndarray:
    plain = isinstance(value, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in value
    )
    with np.errstate(over="ignore"):
        try:
            found = np.array([float(v) for v in value] if plain else [math.nan]).astype(np.float32)
        except OverflowError:
            found = np.array([np.nan], np.float32)
    if not np.isfinite(found).all():
        raise AnalysisError(f"{what} of the bank file is not a list of finite numbers.")
    if length is not None and len(found) != length:
        raise AnalysisError(
            f"{what} of the bank file has {len(found)} features and the first prototype {length}: "
            "the file is damaged, or two banks were mixed."
        )
    return found


def _labels(value: Any, length: int) -> np.ndarray:
    if value is None:
        return np.arange(length)
    fits = isinstance(value, list) and len(value) == length
    kind = (
        (all(type(v) is int for v in value) or all(isinstance(v, str) for v in value))
        if fits
        else 0
    )
    if not kind:
        raise AnalysisError(
            f"The names of the features in the bank file are not a list of {length}; leave it out."
        )
    try:
        return np.array(value)
    except OverflowError as error:
        raise AnalysisError(
            "The numbers of the features in the bank file are too large."
        ) from error


def _facts(value: Any) -> dict[str, Any]:
    """What the bank says about itself: texts, numbers, and lists of them."""
    plain = (str, int, float, bool)
    if not isinstance(value, dict) or not all(
        isinstance(each, plain)
        or (isinstance(each, list) and all(isinstance(item, plain) for item in each))
        for each in value.values()
    ):
        raise AnalysisError(
            "What the bank file says about itself (`attrs`) is not an object of texts, numbers and "
            "lists of them."
        )
    return dict(value)


__all__ = ["bank_digest", "bank_text", "open_bank", "read_bank", "rename", "save_bank"]
