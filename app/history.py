"""Undo and redo for anything that never changes in place."""

from typing import Generic, TypeVar

T = TypeVar("T")

DEPTH = 200
"""How many changes can be taken back."""


class History(Generic[T]):
    """What was, and what was taken back."""

    def __init__(self) -> None:
        self._past: list[T] = []
        self._future: list[T] = []

    def keep(self, now: T) -> None:
        """Remember what is about to change; nothing can be done again after that."""
        self._past = [*self._past[1 - DEPTH :], now]
        self._future = []

    def back(self, now: T) -> T | None:
        """What was before, or None; `now` can be done again."""
        if not self._past:
            return None
        self._future.append(now)
        return self._past.pop()

    def forth(self, now: T) -> T | None:
        """What was taken back last, or None."""
        if not self._future:
            return None
        self._past.append(now)
        return self._future.pop()

    def clear(self) -> None:
        """Forget everything."""
        self._past, self._future = [], []

    @property
    def can_back(self) -> bool:
        """Whether anything can be taken back."""
        return bool(self._past)

    @property
    def can_forth(self) -> bool:
        """Whether anything can be done again."""
        return bool(self._future)
