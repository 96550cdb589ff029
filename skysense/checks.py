"""The checks that many borders share: whole numbers, seeds, numbers, choices.

Each gives back the plain value, or raises the border's own error: what was given, and what to give.
"""

import math
import numbers
from collections.abc import Iterable
from typing import Any

from skysense.errors import SkySenseError

LARGEST_SEED = 2**32 - 1
"""What NumPy, scikit-learn and PyTorch all take."""

Kind = type[SkySenseError]


def whole(name: str, value: Any, low: int, high: int | None, error: Kind) -> int:
    """A whole number from `low` to `high` (None: no end), of Python or NumPy; a bool is none."""
    good = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not good or value < low or (high is not None and value > high):
        room = f"of at least {low:,}" if high is None else f"from {low:,} to {high:,}"
        raise error(f"{name}={shown(value)} is not a whole number {room}; give one.")
    return int(value)


def seed_of(value: Any, error: Kind) -> int:
    """A seed, 0 to 2³² − 1; without one nothing could be repeated, so None is refused."""
    return whole("seed", value, 0, LARGEST_SEED, error)


def number(name: str, value: Any, low: float, high: float, error: Kind) -> float:
    """A finite number from `low` to `high`."""
    given = as_number(value)
    if not (math.isfinite(given) and low <= given <= high):
        raise error(f"{name}={shown(value)} is not a number from {low:g} to {high:g}; give one.")
    return given


def choice(name: str, value: Any, known: Iterable[str], error: Kind) -> str:
    """One of the known words."""
    known = tuple(known)
    if not isinstance(value, str) or value not in known:
        raise error(f"{name}={shown(value)} is not one of {', '.join(known)}.")
    return value


def is_number(value: Any) -> bool:
    """Python's and NumPy's real numbers; a bool is none, nor is text that looks like one."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def as_number(value: Any) -> float:
    """A float, NaN for what is no number or is beyond what a float can hold."""
    try:
        return float(value) if is_number(value) else math.nan
    except OverflowError:
        return math.nan


def shown(value: Any) -> str:
    """A value as Python writes it, on one short line."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an integer of more digits than Python prints
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def text(name: str, value: Any, most: int, error: Kind, least: int = 0) -> str:
    """A text of at most so many characters, on one line, that can be written and shown."""
    if not isinstance(value, str):
        raise error(f"{name}={shown(value)} is not text; give some in quotes.")
    if not least <= len(value) <= most:
        raise error(f"{name} has {len(value):,} characters; give {least} to {most:,} of them.")
    if any(_unwritable(letter) for letter in value):
        raise error(
            f"{name}={shown(value)} holds a control character; leave line breaks and the like out."
        )
    return value


def _unwritable(letter: str) -> bool:
    """Control characters, half a letter, and marks that turn the reading direction."""
    code = ord(letter)
    return (
        code < 0x20
        or 0x7F <= code < 0xA0
        or 0xD800 <= code < 0xE000
        or code in (0x2028, 0x2029, 0xFEFF)
        or 0x202A <= code <= 0x202E
        or 0x2066 <= code <= 0x2069
    )
