"""Results shared by all sessions: made once, kept while they are used, within a budget."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import xarray as xr

MAX_BYTES = 2_000_000_000


class Store:
    """Values by key, least recently used first to go; safe to use from any thread.

    Values are shared between sessions: nobody may change one in place.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
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
            making = self._making.setdefault(key, threading.Lock())
        with making:
            found = self.peek(key)
            if found is not None:
                return found
            try:
                value = make()
            finally:
                with self._lock:
                    self._making.pop(key, None)
            self._keep(key, value)
            return value

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
    if isinstance(value, xr.DataArray | np.ndarray):
        return int(value.nbytes)
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, tuple | list):
        return sum(nbytes(each) for each in value)
    return 1000
