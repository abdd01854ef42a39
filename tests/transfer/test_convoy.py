"""Threads that work on many small files do so in turns, and wait for nobody who is slow."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dsg.transfer import convoy
from dsg.transfer.convoy import Convoy


def test_quick_work_is_done_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convoy, "PATIENCE", 60.0)
    turns, at_once, most = Convoy(), 0, 0

    def work(_number: int) -> None:
        nonlocal at_once, most
        with turns.in_turn():
            at_once += 1
            most = max(most, at_once)
            time.sleep(0.001)
            at_once -= 1

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(40)))
    assert most == 1


def test_who_hangs_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convoy, "PATIENCE", 0.2)
    turns, hanging, returned = Convoy(), threading.Event(), threading.Event()

    def hang() -> None:
        with turns.in_turn():
            hanging.set()
            assert returned.wait(60)

    thread = threading.Thread(target=hang)
    thread.start()
    assert hanging.wait(60)
    with turns.in_turn():
        pass
    began = time.monotonic()
    for _ in range(100):
        with turns.in_turn():
            pass
    # Each would have waited for 0.2 s.
    assert time.monotonic() - began < 10
    returned.set()
    thread.join()


def test_an_error_passes_the_turn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convoy, "PATIENCE", 60.0)
    turns = Convoy()
    with pytest.raises(ZeroDivisionError), turns.in_turn():
        raise ZeroDivisionError
    done = threading.Event()

    def after() -> None:
        with turns.in_turn():
            done.set()

    thread = threading.Thread(target=after)
    thread.start()
    assert done.wait(30)
    thread.join()
