"""Pictures the map shows, kept under names that cannot be guessed and forgotten after a while."""

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

TTL = 3600.0
"""How long a picture that nobody asks for is kept (s)."""

MAX_BYTES = 256_000_000
"""How much is kept in all; the pictures unused for longest go first."""


@dataclass
class _Entry:
    png: bytes
    used: float


class Overlays:
    """PNG pictures by unguessable token; safe to use from any thread."""

    def __init__(self, ttl: float = TTL, max_bytes: int = MAX_BYTES) -> None:
        self._ttl, self._max_bytes = ttl, max_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, png: bytes) -> str:
        """Keep a picture; returns its token."""
        token = secrets.token_urlsafe(18)
        with self._lock:
            self._entries[token] = _Entry(png, time.monotonic())
            self._bytes += len(png)
            self._forget()
        return token

    def get(self, token: str) -> bytes | None:
        """The picture, or None if it was never there or has been forgotten."""
        with self._lock:
            self._forget()
            entry = self._entries.get(token)
            if entry is None:
                return None
            entry.used = time.monotonic()
            self._entries.move_to_end(token)
            return entry.png

    def drop(self, token: str) -> None:
        """Forget a picture now."""
        with self._lock:
            entry = self._entries.pop(token, None)
            self._bytes -= len(entry.png) if entry else 0

    def __len__(self) -> int:
        return len(self._entries)

    def _forget(self) -> None:
        oldest = time.monotonic() - self._ttl
        while self._entries:
            token, entry = next(iter(self._entries.items()))
            if entry.used >= oldest and (self._bytes <= self._max_bytes or len(self._entries) == 1):
                return
            self._bytes -= len(entry.png)
            del self._entries[token]


OVERLAYS = Overlays()
"""The pictures of this process."""
