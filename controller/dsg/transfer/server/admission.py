"""Whose request goes next: a bounded number at a time, and authors take turns however many requests each has.

One author's thousand requests wait behind each other, not before another's first. What is not admitted is not read, so
its client waits in TCP. All of it runs in one event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque


class Admission:
    """A number of places, shared out between authors in rotation."""

    def __init__(self, places: int, each: int) -> None:
        """`each` is how many places one author may have at a time."""
        self._free = places
        self._each = each
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """In rotation: the first is the author who has waited longest for a turn."""

    def contended(self, author: str) -> bool:
        """Return whether somebody else could use this author's place."""
        return any(other != author and self._held[other] < self._each for other in self._waiting)

    async def acquire(self, author: str) -> None:
        """Wait for a place and take it."""
        if self._free and self._held[author] < self._each and not self._waiting.get(author):
            self._take(author)
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(author, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.release(author)
            else:
                self._forget(author, place)
            raise

    def _take(self, author: str) -> None:
        self._free -= 1
        self._held[author] += 1

    def release(self, author: str) -> None:
        """Give a place back."""
        self._free += 1
        self._held[author] -= 1
        if not self._held[author]:
            del self._held[author]
        self._serve()

    def _serve(self) -> None:
        while self._free:
            author = next((one for one in self._waiting if self._held[one] < self._each), None)
            if author is None:
                return
            queue = self._waiting.pop(author)
            place = queue.popleft()
            if queue:
                self._waiting[author] = queue
            if not place.done():
                self._take(author)
                place.set_result(None)

    def _forget(self, author: str, place: asyncio.Future[None]) -> None:
        queue = self._waiting.get(author)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._waiting[author]


class Turn:
    """One request's place."""

    def __init__(self, admission: Admission, author: str) -> None:
        self._admission = admission
        self._author = author
        self._held = False

    async def begin(self) -> None:
        """Wait for a place and take it."""
        await self._admission.acquire(self._author)
        self._held = True

    async def pass_on(self) -> None:
        """Let others who wait go first, then wait for a place again."""
        if self._held and self._admission.contended(self._author):
            self.end()
            await self.begin()

    def end(self) -> None:
        """Give the place back, if it is held."""
        if self._held:
            self._held = False
            self._admission.release(self._author)
