"""The stream of events: a hint that something happened, soon after it did."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dsg.storage.zfs.interface import ZfsEvent

from .bench import Bench

PATIENCE = 30.0
HISTORY = "sysevent.fs.zfs.history_event"


@contextmanager
def following(bench: Bench) -> Iterator[queue.Queue[ZfsEvent]]:
    """Gather events in a thread, and see the thread end when the stream is closed."""
    stream = bench.zfs.events()
    seen: queue.Queue[ZfsEvent] = queue.Queue()

    def follow() -> None:
        for event in stream:
            seen.put(event)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stream.close()
        stream.close()
        thread.join(timeout=PATIENCE)
    assert not thread.is_alive()


def wait_for(seen: queue.Queue[ZfsEvent], wanted: ZfsEvent) -> None:
    deadline = time.monotonic() + PATIENCE
    found = []
    while (left := deadline - time.monotonic()) > 0:
        try:
            found.append(seen.get(timeout=left))
        except queue.Empty:
            break
        if found[-1] == wanted:
            return
    raise AssertionError(f"{wanted} did not come; these did: {found}")


def test_changes_are_told(bench: Bench) -> None:
    name = f"{bench.root}/a"
    with following(bench) as seen:
        bench.zfs.create(name, {})
        wait_for(seen, ZfsEvent(HISTORY, bench.pool, name))
        bench.zfs.set_properties(bench.root, {"a:b": "1"})
        wait_for(seen, ZfsEvent(HISTORY, bench.pool, bench.root))
        bench.zfs.snapshot([f"{name}@s"])
        wait_for(seen, ZfsEvent(HISTORY, bench.pool, f"{name}@s"))
        bench.run("return zfs.sync.destroy((...).argv[1])", f"{name}@s")
        wait_for(seen, ZfsEvent(HISTORY, bench.pool, f"{name}@s"))
        bench.zfs.destroy(name)
        wait_for(seen, ZfsEvent(HISTORY, bench.pool, name))


def test_a_stream_begins_now_and_ends_when_closed(bench: Bench) -> None:
    old = bench.create("old")
    new = f"{bench.root}/new"
    with following(bench) as seen:
        bench.zfs.create(new, {})
        wait_for(seen, ZfsEvent(HISTORY, bench.pool, new))
    told = []
    while not seen.empty():
        told.append(seen.get_nowait().dataset)
    assert old not in told
