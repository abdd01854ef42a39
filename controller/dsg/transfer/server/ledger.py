"""How many bytes each transaction has sent, so that none sends more than it may."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dsg.transfer.problems import Code
from dsg.transfer.server.errors import Refusal


class Ledger:
    """The bytes of one transaction: what is stored, and what is on its way. Any number of threads may call."""

    def __init__(self, used: int) -> None:
        self._used = used
        self.guard = threading.RLock()
        """Held while a file takes its place, so that what it replaces is counted once."""
        self._claims: dict[str, int] = {}
        self._contested: set[str] = set()

    @property
    def used(self) -> int:
        """Return the bytes that are stored or on their way."""
        return self._used

    def reserve(self, size: int, limit: int | None) -> None:
        """Count bytes before they are stored. Raises Refusal where they would be more than the limit."""
        with self.guard:
            if limit is not None and self._used + size > limit:
                left = max(limit - self._used, 0)
                text = f"{size} bytes more are too much: the transaction may send {limit} in all, {left} are left."
                raise Refusal(Code.TOO_LARGE, text)
            self._used += size

    def release(self, size: int) -> None:
        """Count bytes no more: they were not stored, or were replaced."""
        with self.guard:
            self._used -= size

    @contextmanager
    def claimed(self, names: Sequence[str]) -> Iterator[set[str]]:
        """Say which files a thread is about to store; yield those that others are storing too, as it becomes known.

        A file that is not among them, and was looked for after this began, is as it was until this ends.
        """
        with self.guard:
            for name in names:
                before = self._claims.get(name, 0)
                self._claims[name] = before + 1
                if before:
                    self._contested.add(name)
        try:
            yield self._contested
        finally:
            with self.guard:
                for name in names:
                    self._claims[name] -= 1
                    if not self._claims[name]:
                        del self._claims[name]
                        self._contested.discard(name)


class Ledgers:
    """The ledgers of all transactions that have sent something to this process."""

    def __init__(self) -> None:
        self._known: dict[str, Ledger] = {}
        self._guard = threading.Lock()

    def of(self, uid: str, count: Callable[[], int]) -> Ledger:
        """Return a transaction's ledger; what is there already is counted when it is asked for first."""
        with self._guard:
            known = self._known.get(uid)
        if known is not None:
            return known
        found = Ledger(count())
        with self._guard:
            # Another thread may have counted at the same time, and have reserved since.
            return self._known.setdefault(uid, found)

    def keep(self, is_open: Callable[[str], bool]) -> None:
        """Forget the transactions that are over."""
        with self._guard:
            uids = list(self._known)
        over = [uid for uid in uids if not is_open(uid)]
        with self._guard:
            for uid in over:
                self._known.pop(uid, None)
