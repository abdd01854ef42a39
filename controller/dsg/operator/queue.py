"""The queue between everything that asks for a look and the one thread that takes it.

Keys that come while a pass runs wait for the next pass, together. Objects that may heal by themselves come back after a
delay that doubles up to a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from dsg.reconcile.cluster import Key

FIRST_DELAY = 1.0
"""Seconds until the first new look at something that may heal by itself."""
LONGEST_DELAY = 30.0
GATHER = 0.1
"""Seconds for which a pass waits for more keys once it has one."""


class KeyQueue:
    """Collects keys. Used on one event loop; `add_threadsafe` from anywhere."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pending: set[Key] = set()
        self._arrived = asyncio.Event()
        self._delays: dict[Key, float] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """Return how many keys wait."""
        return len(self._pending)

    def add(self, keys: Iterable[Key]) -> None:
        """Ask for a look at objects as soon as possible."""
        self._pending.update(keys)
        if self._pending:
            self._arrived.set()

    def add_threadsafe(self, keys: Iterable[Key]) -> None:
        """As `add`, from another thread."""
        self._loop.call_soon_threadsafe(self.add, list(keys))

    def retry(self, keys: Iterable[Key]) -> None:
        """Ask for another look after a delay: 1 s at first, twice as long each time, at most 30 s."""
        for key in keys:
            delay = self._delays.get(key, FIRST_DELAY)
            self._delays[key] = min(delay * 2, LONGEST_DELAY)
            if key not in self._timers:
                self._timers[key] = self._loop.call_later(delay, self._due, key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add([key])

    def settled(self, keys: Iterable[Key]) -> None:
        """Forget the delays of objects that need no other look."""
        for key in keys:
            self._delays.pop(key, None)

    async def take(self) -> set[Key]:
        """Wait for keys, gather for a moment, and return them all."""
        await self._arrived.wait()
        await asyncio.sleep(GATHER)
        self._arrived.clear()
        keys, self._pending = self._pending, set()
        return keys

    def close(self) -> None:
        """Cancel what is still due."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
