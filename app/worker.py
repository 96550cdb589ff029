"""One child process for heavy work, so that the server's own threads only ever wait for it.

The child (`app.worker_process`) runs at low priority, holds the encoders and is the only one to
import torch. It is started when it is first needed and lives as long as the server. If it is killed
or crashes, what it was doing fails with a sentence, and the next task finds a new child.
"""

import json
import logging
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from app import parcels
from skysense.errors import Cancelled, EncoderError

log = logging.getLogger(__name__)

T = TypeVar("T")

NICENESS = 10
"""How far the child steps back behind the server."""

PATIENCE = 10.0
"""How long a cancelled task may take to stop before its process is ended (s)."""

SILENCE = 1800.0
"""How long a task may say nothing before it counts as hanging (s)."""

_LOOK = 0.1
"""How often a wish to cancel is looked for (s)."""

_START = (
    "import sys, json; from pathlib import Path; folder, niceness, *path = json.loads(sys.argv[1]); "
    "sys.path[:] = path; from app.worker_process import main; main(Path(folder), niceness)"
)


class Worker:
    """The child process, whichever it is at the moment; safe to use from any thread."""

    def __init__(self, patience: float = PATIENCE, silence: float = SILENCE) -> None:
        self._patience, self._silence = patience, silence
        self._lock = threading.Lock()
        self._child: _Child | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the child; None if there is none now."""
        child = self._child
        return child.process.pid if child is not None and child.alive else None

    def start(self) -> None:
        """Start the child now, ahead of the first task."""
        self._living()

    def call(
        self,
        task: Callable[..., T],
        *given: Any,
        progress: Callable[[int, int, str], None] = lambda done, total, sentence: None,
        partial: Callable[[Any], None] = lambda value: None,
        cancel: threading.Event | None = None,
        beside: bool = False,
        **named: Any,
    ) -> T:
        """Have a task done by the child and wait for its result.

        Args:
            task: Called there as `task(room, *given, **named)` with an `app.worker_process.Room`;
                a function of a module, which the child imports.
            given: Its arguments.
            progress: Takes what the task tells through `room.progress`.
            partial: Takes what the task tells through `room.partial`.
            cancel: Set it to stop.
            beside: For small tasks, which need not wait for a heavy one that is running.
            named: Its named arguments.

        Returns:
            What the task returns. Large arrays are mapped from a file without a name. If the process is
            ended by force for another task, this one begins again in the next.

        Raises:
            SkySenseError: What the task raised, or an `EncoderError` if its process ended.
            Cancelled: If `cancel` was set; a task that does not stop in time is ended by force.
            RuntimeError: For any other error of the task, with its traceback as a note.
        """
        while True:
            child = self._living()
            try:
                return self._asked(child, (task, given, named), beside, progress, partial, cancel)
            except _PutDownError:
                log.debug("The worker process was ended for another task; this one begins again.")

    def _asked(
        self,
        child: "_Child",
        what: tuple,
        beside: bool,
        progress: Callable[[int, int, str], None],
        partial: Callable[[Any], None],
        cancel: threading.Event | None,
    ) -> Any:
        number, replies = child.ask(what, beside)
        over = False
        try:
            for kind, load in self._heard(child, number, replies, cancel):
                if kind == "progress":
                    progress(*load())
                elif kind == "partial":
                    partial(load())
                elif kind == "done":
                    over = True
                    return load()
                elif kind == "failed":
                    over = True
                    raise load()
            raise AssertionError  # replies end with one of these, or with an error
        finally:
            child.forget(number, unfinished=not over)

    def _heard(
        self,
        child: "_Child",
        number: int,
        replies: queue.Queue,
        cancel: threading.Event | None,
    ) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Replies to one task as they come; raises once none can be hoped for."""
        heard, wished, begun = time.monotonic(), None, False
        while True:
            if wished is None and cancel is not None and cancel.is_set():
                wished = time.monotonic()
                child.cancel(number)
                if not begun:  # it waits for others and will not begin
                    raise Cancelled
            if wished is not None and time.monotonic() - wished > self._patience:
                child.kill()
                raise Cancelled
            try:
                kind, load = replies.get(timeout=_LOOK)
            except queue.Empty:
                if begun and time.monotonic() - heard > self._silence:
                    child.kill()
                    raise EncoderError(_hanging(self._silence)) from None
                continue
            heard, begun = time.monotonic(), True
            if kind == "ended" and wished is None and child.put_down:
                raise _PutDownError
            if kind == "ended":
                raise Cancelled if wished is not None else EncoderError(_ended(child.code))
            yield kind, load

    def close(self) -> None:
        """End the child and whatever it is doing."""
        with self._lock:
            if self._child is not None:
                self._child.close()
                self._child = None

    def _living(self) -> "_Child":
        with self._lock:
            if self._child is None or not self._child.alive:
                if self._child is not None:
                    self._child.close()
                self._child = _Child()
            return self._child


class _PutDownError(Exception):
    """The process was ended by force because of another task."""


class _Child:
    """One life of the child process."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="skysense-worker-"))
        words = json.dumps([str(self._folder), NICENESS, *sys.path])
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._lock = threading.Lock()
        self._last = 0
        self._replies: dict[int, queue.Queue] = {}
        self._over = False
        self.put_down = False
        """Whether it was ended by force, for a task that did not stop."""
        self._tidy = weakref.finalize(self, _end, self.process, self._folder)
        # the thread must not keep this object alive: without it nobody would ever close the child
        reader = threading.Thread(
            target=_read, args=(self.process, weakref.ref(self)), daemon=True, name="skysense-child"
        )
        reader.start()

    @property
    def alive(self) -> bool:
        """Whether it can still take a task."""
        return not self._over and self.process.poll() is None

    @property
    def code(self) -> int:
        """How it ended; waits for that."""
        return self.process.wait()

    def ask(self, what: tuple, beside: bool) -> tuple[int, queue.Queue]:
        """Hand over a task; returns its number and where its replies arrive."""
        replies: queue.Queue = queue.Queue()
        with self._lock:
            self._last += 1
            number = self._last
            self._replies[number] = replies
            try:
                parcels.send(self.process.stdin, ("do", number, beside), what)
            except (BrokenPipeError, ValueError):  # it has just ended, or been closed
                replies.put(("ended", None))
            if self._over:
                replies.put(("ended", None))
        return number, replies

    def cancel(self, number: int) -> None:
        """Ask a task to stop."""
        with self._lock:
            try:
                parcels.send(self.process.stdin, ("cancel", number, False))
            except (BrokenPipeError, ValueError):
                log.debug("The worker process ended before it could be asked to stop.")

    def forget(self, number: int, *, unfinished: bool) -> None:
        """Nobody waits for this task any more."""
        self._replies.pop(number, None)
        if unfinished and self.alive:
            self.cancel(number)

    def take(self, kind: str, number: int, load: Callable[[], Any]) -> None:
        """Pass a reply on to whoever waits for it."""
        waiting = self._replies.get(number)
        if waiting is not None:
            waiting.put((kind, load))

    def ended(self) -> None:
        """The process is gone: tell everybody who waits."""
        self._over = True
        with self._lock:
            for waiting in self._replies.values():
                waiting.put(("ended", None))

    def kill(self) -> None:
        """End the process by force."""
        self._over = self.put_down = True
        self.process.kill()

    def close(self) -> None:
        """End the process and remove its folder."""
        self._over = True
        self._tidy()


def _read(process: subprocess.Popen, child: "weakref.ref[_Child]") -> None:
    """Carry replies until the process ends."""
    while True:
        try:
            (kind, number), load = parcels.receive(process.stdout)
        except (EOFError, OSError, ValueError):
            break
        there = child()
        if there is not None:
            there.take(kind, number, load)
        del there, load
    process.wait()
    process.stdout.close()
    there = child()
    if there is not None:
        there.ended()


def _end(process: subprocess.Popen, folder: Path) -> None:
    process.kill()
    process.wait()
    try:
        process.stdin.close()
    except BrokenPipeError:
        log.debug("The worker process left something unread.")
    shutil.rmtree(folder, ignore_errors=True)


def _ended(code: int) -> str:
    why = f"by signal {-code}" if code < 0 else f"with code {code}"
    hint = ", as happens when memory runs out" if code == -9 else ""
    return (
        f"The process that encodes ended before its work was done ({why}{hint}). Nothing else was "
        "harmed and a new one is ready: try again, with a smaller region or a coarser resolution "
        "if it happens twice."
    )


def _hanging(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return (
        f"Encoding made no progress for {minutes} minute{'s' * (minutes > 1)} and was stopped. "
        "Nothing else was harmed: try again, with a smaller encoder or region if it happens twice."
    )
