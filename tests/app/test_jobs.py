import queue
import threading

import pytest

from app.jobs import Job, JobManager, Replies
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
    job = ask(jobs, session, lambda job: job.cancel.wait(10))
    jobs.forget("me")
    session.calls.get(timeout=10)()
    assert job.cancel.is_set()
    assert session.heard == []


def test_a_dropped_job_gives_no_reply_at_all(jobs, session):
    ask(jobs, session, lambda job: job.cancel.wait(10))
    jobs.drop("me", "clusters")
    session.calls.get(timeout=10)()
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
