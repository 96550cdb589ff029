"""Results shared by all sessions: made once, kept while they are used, within a budget."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from skysense.analysis import Segmenter

MAX_BYTES = 2_000_000_000


@dataclass
class _Making:
    """One value that is being made."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    wanted: int = 0
    """How many threads make it or wait for it."""


class Store:
    """Values by key, least recently used first to go; safe to use from any thread.

    Values are shared between sessions: nobody may change one in place.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._making: dict[Hashable, _Making] = {}
        self._lock = threading.Lock()

    def peek(self, key: Hashable) -> Any | None:
        """The value if it is there, without making it."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value, made by `make` if it is not there; others who want it wait for it.

        What `make` raises is raised, and nothing is kept.
        """
        with self._lock:
            making = self._making.setdefault(key, _Making())
            making.wanted += 1
        try:
            with making.lock:
                value = self.peek(key)
                if value is None:
                    value = make()
                    self._keep(key, value)
                return value
        finally:
            with self._lock:
                making.wanted -= 1
                if making.wanted == 0:
                    del self._making[key]

    def _keep(self, key: Hashable, value: Any) -> None:
        size = nbytes(value)
        with self._lock:
            self._values[key] = (value, size)
            total = sum(each for _, each in self._values.values())
            while total > self._max_bytes and len(self._values) > 1:
                _, (_, freed) = self._values.popitem(last=False)
                total -= freed


def nbytes(value: Any) -> int:
    """Roughly how much memory a value holds (bytes); lazy arrays count as nothing."""
    if isinstance(value, xr.DataTree):
        return sum(
            variable.nbytes
            for node in value.subtree
            for variable in node.variables.values()
            if isinstance(variable._data, np.ndarray)
        )
    if isinstance(value, xr.DataArray | np.ndarray | Segmenter):
        return int(value.nbytes)
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, tuple | list):
        return sum(nbytes(each) for each in value)
    return 1000
