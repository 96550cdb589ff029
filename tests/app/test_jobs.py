import queue
import threading

import pytest

from app.jobs import Job, JobManager, Replies
from app.lanes import Lane
from skysense.errors import AnalysisError, Cancelled


class Session:
    """A session's loop, turned by hand."""

    def __init__(self):
        self.calls = queue.Queue()
        self.heard = []

    def replies(self):
        return Replies(
            done=lambda result: self.heard.append(("done", result)),
            failed=lambda why: self.heard.append(("failed", why)),
            progress=lambda done, total, text: self.heard.append(("progress", done, total, text)),
            cancelled=lambda: self.heard.append(("cancelled",)),
        )

    def turn(self, until=1):
        while len(self.heard) < until:
            self.calls.get(timeout=10)()
        while not self.calls.empty():
            self.calls.get()()


@pytest.fixture
def jobs():
    manager = JobManager()
    yield manager
    manager.stop()


@pytest.fixture
def session():
    return Session()


def ask(jobs, session, work, slot="clusters", owner="me", lane="quick"):
    return jobs.submit(
        owner, slot, work, lane=lane, post=session.calls.put, replies=session.replies()
    )


class Long:
    """Work that goes half the way and then waits until it is told to end."""

    def __init__(self):
        self.times, self.begun, self.go = 0, threading.Event(), threading.Event()
        self.ended = threading.Event()

    def __call__(self, job: Job):
        self.times += 1
        job.report(1, 4, "1 of 4")
        self.begun.set()
        while not self.go.wait(0.01):
            if job.cancel.is_set():
                self.ended.set()
                raise Cancelled
        return "features"


def follow_up(jobs):
    """What was done before has been answered once this is."""
    for number in range(4):
        after = Session()
        ask(jobs, after, lambda _: None, owner=f"after {number}")
        after.turn()


def test_a_result_arrives_on_the_sessions_own_thread(jobs, session):
    ask(jobs, session, lambda _: threading.current_thread().name)
    assert session.heard == []
    session.turn()
    ((kind, name),) = session.heard
    assert kind == "done"
    assert name.startswith("skysense-quick")


def test_asking_again_cancels_the_earlier_job_and_drops_its_result(jobs, session):
    started, go = threading.Event(), threading.Event()

    def slow(_: Job):
        started.set()
        go.wait(10)
        return "old"

    first = ask(jobs, session, slow)
    started.wait(10)
    ask(jobs, session, lambda _: "new")
    go.set()
    session.turn()
    assert first.cancel.is_set()
    assert session.heard == [("done", "new")]


def test_slots_and_sessions_do_not_disturb_each_other(jobs, session):
    other = Session()
    ask(jobs, session, lambda _: 1, slot="clusters")
    ask(jobs, session, lambda _: 2, slot="scatter")
    ask(jobs, other, lambda _: 3, owner="you")
    session.turn(until=2)
    other.turn()
    assert sorted(session.heard) == [("done", 1), ("done", 2)]
    assert other.heard == [("done", 3)]


def test_cancelling_is_answered_once_the_work_has_stopped(jobs, session):
    started = threading.Event()

    def work(job: Job):
        started.set()
        job.cancel.wait(10)
        raise Cancelled

    ask(jobs, session, work)
    started.wait(10)
    jobs.cancel("me", "clusters")
    session.turn()
    assert session.heard == [("cancelled",)]
    assert not jobs.busy("me", "clusters")


def test_progress_is_delivered_in_words_and_numbers(jobs, session):
    def work(job: Job):
        job.report(1, 4, "1 of 4 windows encoded")
        return "features"

    ask(jobs, session, work)
    session.turn(until=2)
    assert session.heard == [("progress", 1, 4, "1 of 4 windows encoded"), ("done", "features")]


def test_our_own_errors_are_passed_on_as_their_sentence(jobs, session):
    def work(_: Job):
        raise AnalysisError("There is too little to cluster.")

    ask(jobs, session, work)
    session.turn()
    assert session.heard == [("failed", "There is too little to cluster.")]


def test_an_unforeseen_error_becomes_a_sentence_and_a_log_entry(jobs, session, caplog):
    ask(jobs, session, lambda _: 1 / 0)
    session.turn()
    ((kind, sentence),) = session.heard
    assert kind == "failed"
    assert "ZeroDivisionError" in sentence
    assert "nobody foresaw" in caplog.text


def test_nothing_is_delivered_to_a_session_that_is_gone(jobs, session):
    work = Long()
    job = ask(jobs, session, work)
    assert work.begun.wait(10)
    jobs.forget("me")
    assert work.ended.wait(10)
    assert job.cancel.is_set()
    follow_up(jobs)
    while not session.calls.empty():
        session.calls.get()()
    assert session.heard == []


def test_a_dropped_job_gives_no_reply_at_all(jobs, session):
    work = Long()
    ask(jobs, session, work)
    assert work.begun.wait(10)
    jobs.drop("me", "clusters")
    assert work.ended.wait(10)
    follow_up(jobs)
    while not session.calls.empty():
        session.calls.get()()
    assert session.heard == []


def test_replies_that_come_out_of_order_do_not_lose_the_result(jobs, session):
    ask(jobs, session, lambda job: (job.report(1, 2, "half"), "whole")[1])
    calls = [session.calls.get(timeout=10) for _ in range(2)]
    for call in reversed(calls):
        call()
    assert session.heard == [("done", "whole")]


def test_too_many_waiting_jobs_are_refused_with_a_sentence(jobs, session, monkeypatch):
    monkeypatch.setattr("app.jobs.MAX_WAITING", 1)
    go = threading.Event()
    ask(jobs, session, lambda _: go.wait(10), slot="a")
    ask(jobs, session, lambda _: "never", slot="b")
    session.turn()
    assert session.heard[0][0] == "failed"
    go.set()


def want(jobs, session, work, owner):
    jobs.submit(
        owner,
        "encode",
        work,
        lane="encode",
        post=session.calls.put,
        replies=session.replies(),
        share="a place",
    )


HALF, WHOLE = ("progress", 1, 4, "1 of 4"), ("done", "features")


def test_what_two_sessions_want_is_done_once_and_both_hear_of_it(jobs, session):
    other, work = Session(), Long()
    want(jobs, session, work, "me")
    assert work.begun.wait(10)
    want(jobs, other, work, "you")
    work.go.set()
    session.turn(until=2)
    other.turn(until=2)
    assert session.heard == other.heard == [HALF, WHOLE]
    assert work.times == 1


def test_who_joins_late_hears_at_once_how_far_it_is(jobs, session):
    other, work = Session(), Long()
    want(jobs, session, work, "me")
    assert work.begun.wait(10)
    want(jobs, other, work, "you")
    other.turn()
    assert other.heard == [HALF]
    work.go.set()


def test_who_cancels_shared_work_is_answered_and_the_others_get_their_result(jobs, session):
    other, work = Session(), Long()
    want(jobs, session, work, "me")
    want(jobs, other, work, "you")
    assert work.begun.wait(10)
    jobs.cancel("me", "encode")
    session.turn(until=2)
    work.go.set()
    other.turn(until=2)
    assert session.heard[-1] == ("cancelled",)
    assert other.heard[-1] == WHOLE


def test_shared_work_that_its_only_session_cancels_stops(jobs, session):
    work = Long()
    want(jobs, session, work, "me")
    assert work.begun.wait(10)
    jobs.cancel("me", "encode")
    session.turn(until=2)
    assert session.heard[-1] == ("cancelled",)
    assert not jobs.making("a place")


def test_a_page_that_is_reloaded_finds_its_work_still_going_on(jobs, session):
    back, work = Session(), Long()
    want(jobs, session, work, "me")
    assert work.begun.wait(10)
    jobs.forget("me")
    assert jobs.making("a place")
    want(jobs, back, work, "me again")
    work.go.set()
    back.turn(until=2)
    assert back.heard == [HALF, WHOLE]
    assert work.times == 1


def test_shared_work_ends_a_little_after_its_last_session_has_gone():
    jobs, session, work = JobManager(grace=0.05), Session(), Long()
    want(jobs, session, work, "me")
    assert work.begun.wait(10)
    jobs.forget("me")
    assert work.ended.wait(10)
    assert not jobs.making("a place")
    jobs.stop()


def test_work_that_was_given_up_is_begun_anew_for_who_comes_after(jobs, session):
    other, first, second = Session(), Long(), Long()
    want(jobs, session, first, "me")
    assert first.begun.wait(10)
    jobs.drop("me", "encode")
    want(jobs, other, second, "you")
    second.go.set()
    other.turn(until=2)
    assert other.heard == [HALF, WHOLE]


def test_a_job_that_waits_behind_another_is_cancelled_at_once(jobs, session):
    other, work = Session(), Long()
    want(jobs, session, work, "me")
    assert work.begun.wait(10)
    ask(jobs, other, lambda _: "never", owner="you", lane="encode")
    jobs.cancel("you", "clusters")
    other.turn()
    assert other.heard == [("cancelled",)]
    work.go.set()


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), SystemExit(1), OSError(28, "")])
def test_a_job_that_fails_badly_fails_alone(jobs, session, error):
    other = Session()

    def bad(_):
        raise error

    for number in range(5):
        ask(jobs, session, bad, slot=str(number))
    ask(jobs, other, lambda _: "fine", owner="you")
    session.turn(until=5)
    other.turn()
    assert {kind for kind, _ in session.heard} == {"failed"}
    assert other.heard == [("done", "fine")]


def test_running_out_of_memory_is_said_in_words(jobs, session):
    def hungry(_):
        raise MemoryError

    ask(jobs, session, hungry)
    session.turn()
    assert "ran out of memory" in session.heard[0][1]


def test_a_session_that_cannot_be_told_does_not_keep_the_others_from_hearing(jobs, session, caplog):
    other, work = Session(), Long()

    def broken(_):
        raise RuntimeError("no loop")

    jobs.submit(
        "me", "encode", work, lane="encode", post=broken, replies=other.replies(), share="a place"
    )
    want(jobs, session, work, "you")
    work.go.set()
    session.turn(until=2)
    assert session.heard[-1] == WHOLE
    assert "could not be told" in caplog.text


def test_jobs_that_hang_do_not_hold_up_those_after_them():
    lane, go = Lane("hanging", 2, patience=0.05), threading.Event()
    stuck = [lane.submit(lambda: go.wait(30)) for _ in range(3)]
    assert lane.submit(lambda: "done").result(10) == "done"
    go.set()
    assert all(each.result(10) for each in stuck)
    lane.stop()


def test_a_lane_that_is_stopped_takes_no_more():
    lane = Lane("stopped", 1)
    lane.stop()
    assert lane.submit(lambda: None).cancelled()
