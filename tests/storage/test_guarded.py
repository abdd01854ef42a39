"""Calls that do not come back."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dsg.storage.errors import CommandTimeout, NotResponding
from dsg.storage.guarded import Guard


def test_results_and_errors_come_back() -> None:
    guard = Guard(10)
    assert guard.call(lambda: 42, "think", "") == 42
    assert guard.call(lambda: None, "think", "") is None
    with pytest.raises(ZeroDivisionError):
        guard.call(lambda: 1 // 0, "divide", "")
    with pytest.raises(KeyboardInterrupt):
        guard.call(lambda: (_ for _ in ()).throw(KeyboardInterrupt), "be interrupted", "")
    assert guard.stuck == []


def test_threads_are_used_again() -> None:
    guard = Guard(10)
    assert len({guard.call(threading.get_ident, "look", "") for _ in range(50)}) == 1
    assert guard.call(threading.get_ident, "look", "") != threading.get_ident()


def test_many_callers_at_once() -> None:
    guard = Guard(10)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: guard.call(lambda: n * n, "square", ""), range(500))) == [
            n * n for n in range(500)
        ]


def test_a_call_that_does_not_come_back_is_left_and_counted_and_recovered_from() -> None:
    guard = Guard(0.05, stuck_limit=2)
    answer = threading.Event()
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(
            CommandTimeout, match=r"cannot look at /srv: the kernel did not answer within 0\.05 s"
        ) as caught:
            guard.call(answer.wait, "look at /srv", "/srv")
        assert caught.value.subject == "/srv"
        assert time.monotonic() - started < 2
    assert guard.stuck == ["look at /srv", "look at /srv"]
    tried = threading.Event()
    with pytest.raises(NotResponding, match="2 earlier calls have not come back"):
        guard.call(tried.set, "look at /tmp", "/tmp")
    assert not tried.is_set()

    answer.set()
    deadline = time.monotonic() + 10
    while guard.stuck:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert guard.call(lambda: "on", "look at /srv", "/srv") == "on"


def test_below_the_limit_other_calls_go_on() -> None:
    guard = Guard(0.05, stuck_limit=2)
    answer = threading.Event()
    with pytest.raises(CommandTimeout):
        guard.call(answer.wait, "look", "")
    assert guard.call(lambda: 1, "look", "") == 1
    answer.set()
