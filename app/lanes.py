"""Threads that do what they are given, in order; one that hangs does not hold up the others."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Work that takes longer (s) counts as late: another thread steps in beside it."""

MOST_LATE = 8
"""Late pieces of work that are stood in for; more must wait."""


class Lane:
    """A fixed number of daemon threads, and a stand-in for each whose work is late."""

    def __init__(self, name: str, count: int, patience: float | None = PATIENCE) -> None:
        """Make a lane; its threads start when they are needed.

        Args:
            name: Of its threads.
            count: How many pieces of work it does at a time.
            patience: When work counts as late (s); None for never.
        """
        self._name, self._count, self._patience = name, count, patience
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Future, Callable[[], Any]]] = deque()
        self._threads: set[threading.Thread] = set()
        self._since: dict[threading.Thread, float] = {}
        self._stopped = False
        self._watched = False

    def submit(self, call: Callable[[], Any]) -> Future:
        """Have something done; returns its future, cancelled if the lane was stopped."""
        future: Future = Future()
        with self._changed:
            if self._stopped:
                future.cancel()
                return future
            self._waiting.append((future, call))
            self._step_in()
            self._changed.notify()
        return future

    def stop(self) -> None:
        """Begin nothing any more; what runs ends with the process at the latest."""
        with self._changed:
            self._stopped = True
            for future, _ in self._waiting:
                future.cancel()
            self._waiting.clear()
            self._changed.notify_all()

    def _in_time(self) -> int:
        """Threads that are free, or will be soon."""
        if self._patience is None:
            return len(self._threads)
        latest = time.monotonic() - self._patience
        late = sum(since < latest for since in self._since.values())
        return len(self._threads) - min(late, MOST_LATE)

    def _step_in(self) -> None:
        """Start a thread if there are too few, and look again later if work is left waiting."""
        free = len(self._threads) - len(self._since)
        if len(self._waiting) > free and self._in_time() < self._count:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._threads.add(thread)
            thread.start()
            free += 1
        if self._patience is not None and len(self._waiting) > free and not self._watched:
            self._watched = True
            timer = threading.Timer(self._patience / 2, self._look)
            timer.daemon = True
            timer.start()

    def _look(self) -> None:
        with self._changed:
            self._watched = False
            if not self._stopped:
                self._step_in()

    def _work(self) -> None:
        me = threading.current_thread()
        while True:
            with self._changed:
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                if self._stopped or self._in_time() > self._count:
                    self._threads.discard(me)
                    self._changed.notify()
                    return
                future, call = self._waiting.popleft()
                self._since[me] = time.monotonic()
            try:
                if future.set_running_or_notify_cancel():
                    _do(future, call)
            finally:
                del future, call  # whatever they hold goes before the next work comes
                with self._changed:
                    del self._since[me]


def _do(future: Future, call: Callable[[], Any]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 -- whoever asked hears of it; the thread goes on
        future.set_exception(error)
    else:
        future.set_result(result)
