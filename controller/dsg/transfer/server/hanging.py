"""Which storage hangs: calls to it do not return, as when a pool is suspended.

Such a call can't be ended; its thread is lost until the storage comes back. So it gives its places to others, and new
requests for the same storage are refused at once, or they would take one thread after the other.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dsg.transfer.problems import Code
from dsg.transfer.server.errors import Refusal

_log = logging.getLogger("dsg.transfer.server")
_POINT, _DEVICE = 4, 2
"""Fields of a line of mountinfo before the dash (proc_pid_mountinfo(5))."""


def storage_in(mounts: str, root: str) -> str:
    """Return what a directory's content lies on, by the text of mountinfo: a ZFS pool, or a device."""
    best, found = -1, root
    for line in mounts.splitlines():
        before, dash, after = line.partition(" - ")
        fields, (kind, source, *_) = before.split(), [*after.split(), "", ""]
        if not dash or len(fields) <= _POINT:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[_POINT])
        # Of several at one place, the last one hides the others.
        if len(point) >= best and (root == point or root.startswith(point.rstrip("/") + "/")):
            best = len(point)
            found = f"the pool {source.partition('/')[0]}" if kind == "zfs" else f"the device {fields[_DEVICE]}"
    return found


def _of(root: str) -> str:
    try:
        # Reads nothing of any of them.
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return root
    return storage_in(mounts, root)


class Hanging:
    """The storages that calls hang in, with how many do."""

    def __init__(self, storage: Callable[[str], str] = _of) -> None:
        self._storage = storage
        self._calls: Counter[str] = Counter()

    @property
    def calls(self) -> int:
        """How many calls hang now."""
        return sum(self._calls.values())

    def require(self, root: str) -> None:
        """Raise Refusal where a directory's storage hangs."""
        if not self._calls:
            return
        storage = self._storage(root)
        if self._calls[storage]:
            raise Refusal(Code.STORAGE, f"The node's storage does not answer: calls to {storage} do not return.")

    @contextmanager
    def noted(self, root: str) -> Iterator[None]:
        """Know of a call that hangs, until it has returned."""
        storage = self._storage(root)
        self._calls[storage] += 1
        if self._calls[storage] == 1:
            _log.error("storage hangs", extra={"storage": storage})
        try:
            yield
        finally:
            self._calls[storage] -= 1
            if not self._calls[storage]:
                del self._calls[storage]
                _log.warning("storage answers again", extra={"storage": storage})
