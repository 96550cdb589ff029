import threading
import time

import numpy as np
import pytest

from app.overlays import Overlays
from app.store import Store


def test_a_value_is_made_once_however_many_want_it():
    store, made, begin = Store(), [], threading.Barrier(4)

    def make():
        made.append(1)
        return np.zeros(3)

    def want():
        begin.wait()
        store.get("key", make)

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_who_comes_while_a_value_is_being_kept_gets_that_value(monkeypatch):
    store, made = Store(), []
    late = threading.Thread(target=lambda: store.get("key", lambda: made.append("late")))

    def weigh(_):
        late.start()
        late.join(0.2)  # long enough to do harm, if it could
        return 1

    monkeypatch.setattr("app.store.nbytes", weigh)
    store.get("key", lambda: made.append("first") or "value")
    late.join()
    assert made == ["first"]


def test_after_a_failure_those_who_waited_try_one_at_a_time():
    store, begin, busy, most = Store(), threading.Barrier(4), [], []

    def fail():
        busy.append(1)
        most.append(len(busy))
        time.sleep(0.01)
        busy.pop()
        raise ZeroDivisionError

    def want():
        begin.wait()
        with pytest.raises(ZeroDivisionError):
            store.get("key", fail)

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_what_was_unused_for_longest_goes_first_when_the_budget_is_full():
    store = Store(max_bytes=250)
    for name in "ab":
        store.get(name, lambda: np.zeros(100, np.uint8))
    store.get("a", lambda: None)
    store.get("c", lambda: np.zeros(100, np.uint8))
    assert store.peek("b") is None
    assert store.peek("a") is not None


def test_a_failure_is_raised_and_not_kept():
    store = Store()
    with pytest.raises(ZeroDivisionError):
        store.get("key", lambda: 1 / 0)
    assert store.get("key", lambda: 7) == 7


def test_a_picture_is_found_by_its_token_until_it_is_dropped():
    overlays = Overlays()
    token = overlays.put(b"png")
    assert overlays.get(token) == b"png"
    overlays.drop(token)
    assert overlays.get(token) is None


def test_tokens_cannot_be_guessed():
    overlays = Overlays()
    tokens = {overlays.put(b"x") for _ in range(50)}
    assert len(tokens) == 50
    assert min(map(len, tokens)) >= 20


def test_pictures_nobody_asks_for_are_forgotten():
    overlays = Overlays(ttl=-1.0)
    assert overlays.get(overlays.put(b"png")) is None


def test_pictures_stay_within_their_budget():
    overlays = Overlays(max_bytes=25)
    first, second = overlays.put(b"x" * 10), overlays.put(b"y" * 10)
    third = overlays.put(b"z" * 10)
    assert overlays.get(first) is None
    assert overlays.get(second)
    assert overlays.get(third)
