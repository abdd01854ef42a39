"""Counting what a transaction asks of the outside: calls, what was looked at, and bytes by what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sized
from typing import Any

from dsg.transactions.metadata import HISTORY, INCOMING, NODES, WORK

AREAS = {NODES: "manifest nodes", HISTORY: "history", INCOMING: "in between", WORK: "in between"}
MOUNTING = frozenset({"host.mount", "host.remount", "host.unmount"})
"""Calls that are one process each on a real node, beside all of `zfs`."""


def area(path: str) -> str:
    """Return what a path of a version's tree holds."""
    return next((what for where, what in AREAS.items() if path.startswith(f"{where}/")), "content")


class Tally:
    """Counts since the last `reset`."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """By name, such as `trees.write`."""
        self.looked_at: Counter[str] = Counter()
        """Names listed, datasets and mounts returned, lines of lists read: by the call that returned them."""
        self.written: Counter[str] = Counter()
        """Bytes by area; content that is moved is written by nobody here."""
        self.read: Counter[str] = Counter()
        """Bytes by area."""

    def reset(self) -> None:
        """Begin anew."""
        for counter in (self.calls, self.looked_at, self.written, self.read):
            counter.clear()

    @property
    def processes(self) -> int:
        """Processes that a real node starts for these calls."""
        return sum(n for name, n in self.calls.items() if name.startswith("zfs.") or name in MOUNTING)

    def of(self, interface: str) -> int:
        """Return the calls of one interface: zfs, host or trees."""
        return sum(n for name, n in self.calls.items() if name.startswith(f"{interface}."))


class Counted:
    """Passes calls on and counts them."""

    def __init__(self, inner: object, interface: str, tally: Tally) -> None:
        self._inner, self._interface, self._tally = inner, interface, tally

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name.startswith("_") or not callable(found):
            return found
        called, tally = f"{self._interface}.{name}", self._tally

        def call(*args: Any, **kwargs: Any) -> Any:
            tally.calls[called] += 1
            if called == "trees.write":
                tally.written[area(args[1])] += len(args[2])
            result = found(*args, **kwargs)
            if called == "trees.read":
                tally.read[area(args[1])] += len(result or b"")
            elif isinstance(result, Iterator):
                return _each(result, called, tally)
            elif isinstance(result, Sized) and not isinstance(result, str | bytes):
                tally.looked_at[called] += len(result)
            return result

        return call


def _each(result: Iterator[Any], called: str, tally: Tally) -> Iterator[Any]:
    for one in result:
        tally.looked_at[called] += 1
        yield one
