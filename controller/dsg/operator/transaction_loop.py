"""The loop that advances SyncTransactions: several at once, each by one thread at a time.

Apart from the reconciler's passes: verifying a large transaction takes long, and nothing else waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from dsg.reconcile.cluster import Key

WORKERS = 8
"""Transactions that are worked on at the same time; more wait for their turn."""
AFTER_A_FAULT = 30.0

_log = structlog.get_logger("dsg.operator")


class TransactionLoop:
    """Calls `advance` for keys when they are asked for and when it has said. Lives on one event loop."""

    def __init__(self, advance: Callable[[Key], float | None]) -> None:
        """`advance` blocks, and returns the seconds until the next look or None."""
        self._advance = advance
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="dsg-transaction")
        self._running: set[Key] = set()
        self._asked: set[Key] = set()
        """Asked for while they were worked on."""
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def ask(self, key: Key) -> None:
        """Look at a transaction now, or once more when the present look is over."""
        if self._closed:
            return
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        if key in self._running:
            self._asked.add(key)
            return
        self._running.add(key)
        task = asyncio.get_running_loop().create_task(self._look(key), name=f"advance {key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, key: Key) -> None:
        loop = asyncio.get_running_loop()
        delay: float | None
        try:
            delay = await loop.run_in_executor(self._workers, self._advance, key)
        except Exception:  # a fault in the program itself must not end the loop
            _log.exception("a transaction could not be looked at", transaction=str(key))
            delay = AFTER_A_FAULT
        self._running.discard(key)
        if key in self._asked:
            self._asked.discard(key)
            self.ask(key)
        elif delay is not None and not self._closed:
            self._timers[key] = loop.call_later(delay, self.ask, key)

    async def stop(self) -> None:
        """End it; looks that run are finished first, so that no step is cut short."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.to_thread(self._workers.shutdown)
