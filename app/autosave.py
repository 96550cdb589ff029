"""Sessions that outlive their page and the server: one small file each, under a name in the address."""

import contextlib
import logging
import re
import secrets
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from app.jobs import Job, Replies
from skysense.errors import SessionError
from skysense.session import Session
from skysense.session_file import open_session, save_session

if TYPE_CHECKING:
    from app.flow import Flow

log = logging.getLogger(__name__)

TOKEN = re.compile(r"[A-Za-z0-9_-]{16}")
"""What `secrets.token_urlsafe(12)` gives."""

PAUSE = 3.0
"""How long after a change the session is written (s), with whatever changed meanwhile."""

MOST_DAYS = 30.0
MOST_FILES = 200

KEPT = (
    "opened", "place", "encoder", "dates", "resolution", "merge", "made_with", "axes", "bank", "groups",
    "prototypes", "basis_of", "top", "opacity", "classes", "tab", "examples",
    "threshold", "selection",
)  # fmt: skip
"""Parameters of the state that a session holds something of."""


def default_folder() -> Path:
    """Where sessions of this user are kept."""
    return platformdirs.user_state_path("skysense") / "sessions"


class Shelf:
    """The folder with the sessions of a server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new(self) -> str:
        """A name that nobody can guess."""
        return secrets.token_urlsafe(12)

    def path(self, token: str) -> Path:
        """The file of a session.

        Raises:
            SessionError: If this is no name of one.
        """
        if not TOKEN.fullmatch(token):
            raise SessionError("The address names no session that was kept here.")
        return self.folder / f"{token}.json"

    def save(self, token: str, session: Session) -> None:
        """Write a session, whole or not at all.

        Raises:
            SessionError: If it cannot be written.
        """
        path = self.path(token)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SessionError(
                f"{self.folder} cannot be made ({error.strerror}), so sessions are not kept."
            ) from error
        save_session(session, path, overwrite=True)

    def open(self, token: str, folders: list[Path]) -> Session:
        """A session that was kept.

        Args:
            token: Its name.
            folders: Where recipes and weights may lie.

        Raises:
            SkySenseError: If there is none of this name, or it cannot be read.
        """
        path = self.path(token)
        if path.is_symlink() or not path.is_file():
            raise SessionError(
                "The session of this address is not kept here any more; this is a fresh one."
            )
        return open_session(path, folders)

    def sweep(self) -> None:
        """Take away what nobody came back to: the oldest, and those beyond a number."""
        oldest = time.time() - MOST_DAYS * 86_400
        found: list[tuple[float, Path]] = []
        with contextlib.suppress(FileNotFoundError):
            for path in self.folder.iterdir():
                if TOKEN.fullmatch(path.stem) and path.suffix == ".json":
                    with contextlib.suppress(OSError):
                        found.append((path.lstat().st_mtime, path))
        found.sort(reverse=True)
        for number, (changed, path) in enumerate(found):
            if number >= MOST_FILES or changed < oldest:
                with contextlib.suppress(OSError):
                    path.unlink()


class Autosave:
    """Writes one session soon after it changes."""

    def __init__(self, flow: "Flow", shelf: Shelf, token: str, pause: float = PAUSE) -> None:
        self._flow, self._shelf, self._token, self._pause = flow, shelf, token, pause
        self._timer: threading.Timer | None = None
        self._closed = self._complained = False
        flow.state.param.watch(self.soon, list(KEPT))
        flow.keep.on_look = self.soon

    def soon(self, *_: object) -> None:
        """Something changed: write in a moment, unless that is coming anyway."""
        if self._closed or self._timer is not None:
            return
        self._timer = threading.Timer(self._pause, self._flow.later, [self.now])
        self._timer.daemon = True
        self._timer.start()

    def now(self) -> None:
        """Write what there is; on the session's thread, which is not kept waiting."""
        self._timer = None
        if self._closed or not self._flow.state.opened:
            return
        gather = self._flow.keep.gather()

        def work(_: Job) -> None:
            self._shelf.save(self._token, gather())

        self._flow.quietly("autosave", work, Replies(lambda _: None, self._failed))

    def _failed(self, why: str) -> None:
        if not self._complained:
            self._complained = True
            log.warning("A session cannot be kept: %s", why)

    def close(self) -> None:
        """The session is gone; what it did last is written by whoever is still there to."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
