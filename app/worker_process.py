"""The worker process: does one heavy task at a time, at low priority, for the server beside it.

Started by `app.worker.Worker`. What it is asked comes on standard input, what it answers goes to
standard output; whatever else is printed goes to the log. It ends when its input does, so it never
outlives the server, however that ended.
"""

import contextlib
import logging
import os
import queue
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from app import parcels
from skysense.errors import Cancelled, SkySenseError

log = logging.getLogger(__name__)

Load = Callable[[], Any]


@dataclass(frozen=True)
class Room:
    """What a task has to work with, beside its arguments."""

    cancel: threading.Event = field(default_factory=threading.Event)
    """Set when nobody wants the result any more."""
    progress: Callable[[int, int, str], None] = lambda done, total, sentence: None
    """Call as (done, total, sentence)."""
    partial: Callable[[Any], None] = lambda value: None
    """Call with what there is so far."""


class Desk:
    """Takes what arrives and has it done: heavy tasks one by one, small ones beside them."""

    def __init__(self, inbox: BinaryIO, outbox: BinaryIO, folder: Path) -> None:
        self._inbox, self._outbox, self._folder = inbox, outbox, folder
        self._lock = threading.Lock()
        self._cancels: dict[int, threading.Event] = {}
        self._heavy: queue.Queue[tuple[int, Load]] = queue.Queue()
        self._small: queue.Queue[tuple[int, Load]] = queue.Queue()

    def open(self) -> None:
        """Work until the server is gone; never returns."""
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._work, args=(self._small,), daemon=True).start()
        self._work(self._heavy)

    def _read(self) -> None:
        while True:
            try:
                (kind, number, beside), load = parcels.receive(self._inbox)
            except (EOFError, OSError):
                shutil.rmtree(self._folder, ignore_errors=True)
                os._exit(0)  # also in the middle of a task: nobody is there to take its result
            if kind == "do":
                self._cancels[number] = threading.Event()
                (self._small if beside else self._heavy).put((number, load))
            elif number in self._cancels:
                self._cancels[number].set()

    def _work(self, waiting: queue.Queue[tuple[int, Load]]) -> None:
        while True:
            number, load = waiting.get()
            self._do(number, load)
            del load  # the task's arguments go before the next one comes
            self._cancels.pop(number, None)

    def _do(self, number: int, load: Load) -> None:
        def tell(kind: str, value: Any = None) -> None:
            with self._lock:
                parcels.send(self._outbox, (kind, number), value, self._folder)

        room = Room(
            self._cancels[number],
            lambda done, total, sentence: tell("progress", (done, total, sentence)),
            lambda value: tell("partial", value),
        )
        if room.cancel.is_set():  # nobody waits for an answer
            return
        try:
            tell("begun")
            task, given, named = load()
            tell("done", task(room, *given, **named))
        except BaseException as error:  # noqa: BLE001 -- no task may end the process
            tell("failed", _sendable(error))


def _sendable(error: BaseException) -> BaseException:
    """The error, with its traceback as a note if it is our fault, in a form that can be sent."""
    if isinstance(error, Cancelled | SkySenseError):
        error.__cause__ = error.__context__ = error.__traceback__ = None
        return error
    told = "".join(traceback.format_exception(error))
    kind = MemoryError if isinstance(error, MemoryError) else RuntimeError
    plain = kind(f"{type(error).__name__}: {error}")
    plain.add_note(f"In the worker process:\n{told}")
    return plain


def main(folder: Path, niceness: int) -> None:
    """Be the worker process.

    Args:
        folder: Where large results are left for the server.
        niceness: How far to step back behind other processes.
    """
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the server decides
    if hasattr(os, "nice"):
        os.nice(niceness)
    with contextlib.suppress(OSError):  # where memory runs out, this process goes, not the server
        Path("/proc/self/oom_score_adj").write_text("500")
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    Desk(inbox, outbox, folder).open()
