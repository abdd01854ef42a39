"""Threads that share out work: as many pieces at a time as there are threads, and few that wait."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from dsg.transfer.client.connection import Connection

TICK = 0.1
"""Seconds between two looks at how far it is."""
_WAITING = 2
"""Pieces of work that wait for a thread: enough that none is idle."""


class Crew:
    """Threads that each use one connection. A context manager; at its end all work is done, or none goes on.

    The first error of a piece of work ends the others and is raised from `do` or at the end; so does one of who waits,
    KeyboardInterrupt included.
    """

    def __init__(self, connection: Connection, tick: Callable[[], None]) -> None:
        """`tick` is called every TICK seconds at least, in the thread that waits."""
        self._connection = connection
        self._tick = tick
        self._most = connection.connections + _WAITING
        self._executor = ThreadPoolExecutor(connection.connections, thread_name_prefix="dsg-transfer")
        self._running: set[Future[None]] = set()

    def do(self, work: Callable[[], None]) -> None:
        """Have a piece of work done; wait while too many are."""
        while len(self._running) >= self._most:
            self._collect()
        self._running.add(self._executor.submit(work))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while value is None and self._running:
                self._collect()
        except BaseException:
            self._give_up()
            raise
        if value is not None:
            self._give_up()
        self._executor.shutdown()

    def _collect(self) -> None:
        done, self._running = wait(self._running, TICK, FIRST_COMPLETED)
        self._tick()
        for future in done:
            future.result()

    def _give_up(self) -> None:
        with self._connection.giving_up():
            self._executor.shutdown(cancel_futures=True)
