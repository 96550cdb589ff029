"""Files made for one page, under names that nobody can guess, until the page is gone."""

import secrets
import threading
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Download:
    """One file to take home."""

    path: Path
    name: str
    """What the browser calls it; letters, digits, dashes and dots."""


class Downloads:
    """Token to file."""

    def __init__(self) -> None:
        self._files: dict[str, Download] = {}
        self._lock = threading.Lock()

    def put(self, path: Path, name: str) -> str:
        """Offer a file; returns its token."""
        token = secrets.token_urlsafe(18)
        with self._lock:
            self._files[token] = Download(path, name)
        return token

    def get(self, token: str) -> Download | None:
        """The file, or None if it was never there or is offered no more."""
        with self._lock:
            return self._files.get(token)

    def drop(self, token: str) -> None:
        """Offer it no more; the file itself is its owner's."""
        with self._lock:
            self._files.pop(token, None)

    def __len__(self) -> int:
        return len(self._files)


DOWNLOADS = Downloads()
"""The files of this process."""
