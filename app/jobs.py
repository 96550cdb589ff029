"""Work outside the event loop: a few process-wide worker threads, and only the latest wish counts.

A session asks for work in a *slot* ("encode", "clusters", ...). Asking again in the same slot
cancels what was asked before, and a result that arrives late is dropped. What happens in a worker
comes back through the session's own `post`, which runs a function on its event loop, so nothing
here knows of Panel.

Work that is *shared* under a key is done once for all sessions that want it meanwhile: whoever
comes later hears at once how far it is. It stops when nobody wants it any more; if the last one
went without a word, as in a reload of the page, a little later.
"""

import logging
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from app.lanes import Lane
from skysense.errors import Cancelled, SkySenseError

log = logging.getLogger(__name__)

Post = Callable[[Callable[[], None]], None]
"""Runs a function soon, on the thread that owns the session."""

LANES = {"encode": 1, "quick": 2, "draw": 1}
"""Worker threads: one waits for the encoder, which has a process of its own, one draws what a hand
waits for in milliseconds, two do the rest."""

MAX_WAITING = 1000
"""Jobs that may wait in all; more are refused."""

GRACE = 10.0
"""How long shared work goes on after the last session that wanted it has gone (s)."""


@dataclass(eq=False)
class Job:
    """One piece of work that was asked for."""

    owner: str
    slot: str
    cancel: threading.Event = field(default_factory=threading.Event)
    report: Callable[[int, int, str], None] = lambda done, total, sentence: None
    """Call as (done, total, sentence) while working."""

    def check(self) -> None:
        """Raise `Cancelled` if nobody wants the result any more."""
        if self.cancel.is_set():
            raise Cancelled


@dataclass(frozen=True)
class Replies:
    """What to call, on the session's thread, when something happens to a job."""

    done: Callable[[Any], None]
    failed: Callable[[str], None]
    """Takes a sentence for the user."""
    progress: Callable[[int, int, str], None] = lambda done, total, sentence: None
    cancelled: Callable[[], None] = lambda: None
    kept: Callable[[Any], None] | None = None
    """Takes what a cancelled job gave all the same; None if that is of no use."""


@dataclass(eq=False)
class _Run:
    """One piece of work and everybody who wants it."""

    job: Job
    share: Hashable | None
    wishes: list["_Wish"] = field(default_factory=list)
    begun: bool = False
    told: tuple[int, int, str] | None = None
    """What it reported last."""
    leaving: threading.Timer | None = None


@dataclass(eq=False)
class _Wish:
    """What one session wants."""

    owner: str
    slot: str
    post: Post
    replies: Replies
    run: _Run


class JobManager:
    """Worker threads for the whole process."""

    def __init__(self, lanes: dict[str, int] | None = None, grace: float = GRACE) -> None:
        self._lanes = {
            name: Lane(f"skysense-{name}", count, *([None] if name == "encode" else []))
            for name, count in (lanes or LANES).items()
        }
        self._grace = grace
        self._latest: dict[tuple[str, str], _Wish] = {}
        self._shared: dict[Hashable, _Run] = {}
        self._lock = threading.RLock()

    def submit(
        self,
        owner: str,
        slot: str,
        work: Callable[[Job], Any],
        *,
        lane: str,
        post: Post,
        replies: Replies,
        share: Hashable | None = None,
    ) -> Job:
        """Ask for work; whatever the owner asked for in the same slot before is cancelled.

        Args:
            owner: The session.
            slot: What the work is for; one job per owner and slot.
            work: Called in a worker thread with its `Job`, whose `cancel` it should watch.
            lane: Which workers do it, of `LANES`.
            post: Brings the replies back to the session's thread.
            replies: What to call then; only for the latest job of a slot.
            share: Names what the work makes: if it is being made for somebody else, this session
                waits for that with them. None for work of this session alone.

        Returns:
            The job, which may be one that began before.
        """
        with self._lock:
            self.drop(owner, slot)
            run = self._shared.get(share) if share is not None else None
            new = run is None
            if run is None:
                run = _Run(Job(owner, slot), share)
                run.job.report = lambda *told: self._report(run, told)
            wish = _Wish(owner, slot, post, replies, run)
            self._latest[(owner, slot)] = wish
            if new and len(self._latest) > MAX_WAITING:
                busy = "Too much is waiting to be computed. Try again in a minute."
                self._deliver(wish, replies.failed, busy)
                return run.job
            self._join(wish)
        if new:
            done = self._lanes[lane].submit(lambda: self._begin(run, work))
            done.add_done_callback(lambda future: self._finish(run, future))
        return run.job

    def _join(self, wish: _Wish) -> None:
        run = wish.run
        run.wishes.append(wish)
        if run.share is not None:
            self._shared[run.share] = run
        if run.leaving is not None:
            run.leaving.cancel()
            run.leaving = None
        if run.told is not None:
            self._deliver(wish, wish.replies.progress, *run.told, last=False)

    def _begin(self, run: _Run, work: Callable[[Job], Any]) -> Any:
        with self._lock:
            run.begun = True
        if run.job.cancel.is_set():
            raise Cancelled
        return work(run.job)

    def _report(self, run: _Run, told: tuple[int, int, str]) -> None:
        with self._lock:
            run.told = told
            wishes = list(run.wishes)
        for wish in wishes:
            self._deliver(wish, wish.replies.progress, *told, last=False)

    def _finish(self, run: _Run, future: Future) -> None:
        with self._lock:
            self._close(run)
            wishes = list(run.wishes)
            run.wishes.clear()
        error = Cancelled() if future.cancelled() else future.exception()
        stopped = error is None and run.job.cancel.is_set()
        why = "" if error is None or isinstance(error, Cancelled) else sentence_for(error)
        for wish in wishes:
            if stopped and wish.replies.kept is not None:
                self._deliver(wish, wish.replies.kept, future.result())
            elif error is None and not stopped:
                self._deliver(wish, wish.replies.done, future.result())
            elif stopped or isinstance(error, Cancelled):
                self._deliver(wish, wish.replies.cancelled)
            else:
                self._deliver(wish, wish.replies.failed, why)

    def _deliver(
        self, wish: _Wish, call: Callable[..., None], *values: Any, last: bool = True
    ) -> None:
        def on_session() -> None:
            if self._latest.get((wish.owner, wish.slot)) is wish:
                if last:  # before the call, which may ask for the next job of this slot
                    with self._lock:
                        del self._latest[(wish.owner, wish.slot)]
                call(*values)

        try:
            wish.post(on_session)
        except Exception:
            log.exception("A session could not be told how its work went.")  # the others will be

    def ahead(self, work: Callable[[], Any]) -> Future:
        """Do something on the encoder's worker for nobody in particular, before visitors come."""
        return self._lanes["encode"].submit(work)

    def cancel(self, owner: str, slot: str) -> None:
        """Ask a job to stop; its `cancelled` reply comes once it has.

        At once if it has not begun, or goes on for other sessions.
        """
        with self._lock:
            wish = self._latest.get((owner, slot))
            if wish is None:
                return
            run = wish.run
            if run.begun and len(run.wishes) == 1:
                self._end(run)  # it is told once the work has stopped
                return
            self._leave(wish)
            self._deliver(wish, wish.replies.cancelled)

    def drop(self, owner: str, slot: str) -> None:
        """Stop a job whose result nobody wants any more; none of its replies is delivered."""
        with self._lock:
            wish = self._latest.pop((owner, slot), None)
            if wish is not None:
                self._leave(wish)

    def forget(self, owner: str) -> None:
        """Stop everything of a session that is gone; no reply of its jobs is delivered.

        Shared work goes on for `grace` seconds: the visitor may be on the way back.
        """
        with self._lock:
            for key in [key for key in self._latest if key[0] == owner]:
                wish = self._latest.pop(key)
                self._leave(wish, 0.0 if wish.run.share is None else self._grace)

    def busy(self, owner: str, slot: str) -> bool:
        """Whether a job of this slot is waiting or running."""
        return (owner, slot) in self._latest

    def making(self, share: Hashable) -> bool:
        """Whether shared work of this name is waiting or running, and can be joined."""
        return share in self._shared

    def stop(self) -> None:
        """Cancel everything and begin nothing any more."""
        with self._lock:
            for run in [wish.run for wish in self._latest.values()] + list(self._shared.values()):
                self._close(run)
                run.job.cancel.set()
            self._latest.clear()
        for lane in self._lanes.values():
            lane.stop()

    def _leave(self, wish: _Wish, after: float = 0.0) -> None:
        """This session does not want it any more; stop it if nobody else does."""
        run = wish.run
        if wish in run.wishes:
            run.wishes.remove(wish)
        if run.wishes:
            return
        if after:
            run.leaving = threading.Timer(after, self._gone, [run])
            run.leaving.daemon = True
            run.leaving.start()
        else:
            self._end(run)

    def _gone(self, run: _Run) -> None:
        with self._lock:
            if not run.wishes:
                self._end(run)

    def _end(self, run: _Run) -> None:
        self._close(run)
        run.job.cancel.set()

    def _close(self, run: _Run) -> None:
        """Nobody can join any more."""
        if run.leaving is not None:
            run.leaving.cancel()
            run.leaving = None
        if run.share is not None and self._shared.get(run.share) is run:
            del self._shared[run.share]


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
