"""Calls into the kernel that may not come back, such as looking into a directory of a suspended pool.

Each runs in a thread of its own while the caller waits for as long as it may. A thread that does not come back is left:
no signal reaches it, and it ends when the device answers again. While too many are left, nothing more is tried.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

from dsg.storage.errors import CommandTimeout, NotResponding

T = TypeVar("T")


class _Job(Generic[T]):
    def __init__(self, act: Callable[[], T]) -> None:
        self._act = act
        self.done = threading.Event()
        self._result: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._result.append(self._act())
        except BaseException as error:
            self._error = error
        finally:
            self.done.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result[0]


class Guard:
    """Runs calls within a time. Any number of threads may call; each idle thread is used again."""

    def __init__(self, timeout: float, *, stuck_limit: int = 4) -> None:
        """`timeout` is in seconds."""
        self._timeout = timeout
        self._stuck_limit = stuck_limit
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[_Job[object]]] = []
        self._stuck: dict[int, str] = {}

    @property
    def stuck(self) -> list[str]:
        """What the calls that have not come back in time were to do."""
        with self._lock:
            return list(self._stuck.values())

    def call(self, act: Callable[[], T], does: str, subject: str) -> T:
        """Return what `act` returns, or raise what it raises.

        `does` is what it does, as in: cannot `look at /srv/dsg`. Raises CommandTimeout when it does not come back in
        time, and NotResponding, without trying, while too many earlier ones have not.
        """
        stuck = self.stuck
        if len(stuck) >= self._stuck_limit:
            raise NotResponding(
                f"cannot {does}: {len(stuck)} earlier calls have not come back ({', '.join(sorted(set(stuck)))}). "
                "See `zpool status` and the kernel log for devices that do not answer",
                subject=subject,
            )
        job = _Job(act)
        with self._lock:
            worker = self._idle.pop() if self._idle else self._start()
        worker.put(job)  # type: ignore[arg-type]
        if not job.done.wait(self._timeout):
            with self._lock:
                # It may have come back between the two lines.
                if not job.done.is_set():
                    self._stuck[id(job)] = does
            if not job.done.is_set():
                raise CommandTimeout(
                    f"cannot {does}: the kernel did not answer within {self._timeout:g} s; it may still take effect. "
                    "See `zpool status` for pools that are suspended",
                    subject=subject,
                )
        return job.result()

    def _start(self) -> SimpleQueue[_Job[object]]:
        queue: SimpleQueue[_Job[object]] = SimpleQueue()
        threading.Thread(target=self._work, args=(queue,), name="guarded", daemon=True).start()
        return queue

    def _work(self, queue: SimpleQueue[_Job[object]]) -> None:
        while True:
            job = queue.get()
            job.run()
            with self._lock:
                self._stuck.pop(id(job), None)
                self._idle.append(queue)
            del job
