"""Work outside the event loop: a few process-wide worker threads, and only the latest wish counts.

A session asks for work in a *slot* ("encode", "clusters", ...). Asking again in the same slot
cancels what was asked before, and a result that arrives late is dropped. What happens in a worker
comes back through the session's own `post`, which runs a function on its event loop, so nothing
here knows of Panel.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from skysense.errors import Cancelled, SkySenseError

log = logging.getLogger(__name__)

Post = Callable[[Callable[[], None]], None]
"""Runs a function soon, on the thread that owns the session."""

LANES = {"encode": 1, "quick": 2, "draw": 1}
"""Worker threads: one encodes (torch already uses every core), one draws what a hand waits for in
milliseconds, two do everything else."""

MAX_WAITING = 64
"""Jobs that may wait in all; more are refused."""


@dataclass(eq=False)
class Job:
    """One piece of work that was asked for."""

    owner: str
    slot: str
    cancel: threading.Event = field(default_factory=threading.Event)
    report: Callable[[int, int, str], None] = lambda done, total, sentence: None
    """Call as (done, total, sentence) while working."""


@dataclass(frozen=True)
class Replies:
    """What to call, on the session's thread, when something happens to a job."""

    done: Callable[[Any], None]
    failed: Callable[[str], None]
    """Takes a sentence for the user."""
    progress: Callable[[int, int, str], None] = lambda done, total, sentence: None
    cancelled: Callable[[], None] = lambda: None


class JobManager:
    """Worker threads for the whole process."""

    def __init__(self, lanes: dict[str, int] | None = None) -> None:
        self._pools = {
            name: ThreadPoolExecutor(count, thread_name_prefix=f"skysense-{name}")
            for name, count in (lanes or LANES).items()
        }
        self._latest: dict[tuple[str, str], Job] = {}
        self._lock = threading.Lock()

    def submit(
        self,
        owner: str,
        slot: str,
        work: Callable[[Job], Any],
        *,
        lane: str,
        post: Post,
        replies: Replies,
    ) -> Job:
        """Ask for work; whatever the owner asked for in the same slot before is cancelled.

        Args:
            owner: The session.
            slot: What the work is for; one job per owner and slot.
            work: Called in a worker thread with its `Job`, whose `cancel` it should watch.
            lane: Which workers do it, of `LANES`.
            post: Brings the replies back to the session's thread.
            replies: What to call then; only for the latest job of a slot.
        """
        job = Job(owner, slot)

        def deliver(call: Callable[..., None], *values: Any, last: bool = True) -> None:
            def on_session() -> None:
                if self._latest.get((owner, slot)) is job:
                    if last:  # before the call, which may ask for the next job of this slot
                        self._clear(job)
                    call(*values)

            post(on_session)

        def report(done: int, total: int, sentence: str) -> None:
            deliver(replies.progress, done, total, sentence, last=False)

        job.report = report
        with self._lock:
            previous = self._latest.pop((owner, slot), None)
            if previous is not None:
                previous.cancel.set()
            self._latest[(owner, slot)] = job
            full = len(self._latest) > MAX_WAITING
        if full:
            deliver(replies.failed, "Too much is waiting to be computed. Try again in a minute.")
            return job

        def run() -> Any:
            if job.cancel.is_set():
                raise Cancelled
            return work(job)

        def finish(future: Future) -> None:
            error = future.exception()
            if isinstance(error, Cancelled):
                deliver(replies.cancelled)
            elif error is not None:
                deliver(replies.failed, sentence_for(error))
            elif job.cancel.is_set():
                deliver(replies.cancelled)
            else:
                deliver(replies.done, future.result())

        self._pools[lane].submit(run).add_done_callback(finish)
        return job

    def ahead(self, work: Callable[[], Any]) -> Future:
        """Do something on the encoder's worker for nobody in particular, before visitors come."""
        return self._pools["encode"].submit(work)

    def cancel(self, owner: str, slot: str) -> None:
        """Ask a job to stop; its `cancelled` reply comes once it has."""
        job = self._latest.get((owner, slot))
        if job is not None:
            job.cancel.set()

    def drop(self, owner: str, slot: str) -> None:
        """Stop a job whose result nobody wants any more; none of its replies is delivered."""
        with self._lock:
            job = self._latest.pop((owner, slot), None)
        if job is not None:
            job.cancel.set()

    def forget(self, owner: str) -> None:
        """Stop everything of a session that is gone; no reply of its jobs is delivered."""
        with self._lock:
            for key in [key for key in self._latest if key[0] == owner]:
                self._latest.pop(key).cancel.set()

    def busy(self, owner: str, slot: str) -> bool:
        """Whether a job of this slot is waiting or running."""
        return (owner, slot) in self._latest

    def stop(self) -> None:
        """Cancel everything and let the threads end."""
        with self._lock:
            for job in self._latest.values():
                job.cancel.set()
            self._latest.clear()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def _clear(self, job: Job) -> None:
        with self._lock:
            if self._latest.get((job.owner, job.slot)) is job:
                del self._latest[(job.owner, job.slot)]


def sentence_for(error: BaseException) -> str:
    """An error as a sentence for the user; one that is our fault goes to the log in full."""
    if isinstance(error, SkySenseError):
        return str(error)
    if isinstance(error, MemoryError):
        return "The computer ran out of memory. Choose a smaller region or a coarser resolution."
    log.error("A step failed in a way nobody foresaw.", exc_info=error)
    return (
        f"Something went wrong that nobody foresaw ({type(error).__name__}: {error}). "
        "The details are in the server's log; everything else still works."
    )
