"""What a process does with its audit log: what must be recorded first, and what is told once it has happened."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from dsg.audit.actions import Action
from dsg.audit.errors import AuditError
from dsg.audit.log import AuditLog
from dsg.audit.record import Entry, Head

MOST_OWED = 1000
"""Facts that are remembered while they can't be written; of others only the number."""


class Audit(Protocol):
    """Takes records."""

    def require(self, entry: Entry, *, durable: bool = True) -> None:
        """Record what is about to be done or said. Raises AuditError; then it must not be done."""

    def tell(self, entry: Entry) -> None:
        """Record what has happened: now, or as soon as that can be. Never fails."""


class NoAudit:
    """Records nothing: for a process that was given no audit log."""

    def require(self, entry: Entry, *, durable: bool = True) -> None:
        """Do nothing."""

    def tell(self, entry: Entry) -> None:
        """Do nothing."""


class Auditor:
    """Records in one log. Safe for threads."""

    def __init__(
        self,
        log: AuditLog,
        warn: Callable[[str], None] = lambda text: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`warn` is told when writing begins to fail, and when it succeeds again."""
        self._log = log
        self._warn = warn
        self._clock = clock
        self._lock = threading.Lock()
        self._owed: deque[Entry] = deque()
        self._lost = 0
        self._failing = False

    def require(self, entry: Entry, *, durable: bool = True) -> None:
        """Record what is about to be done or said. Raises AuditError; then it must not be done."""
        with self._lock:
            self._watched(lambda: self._append(entry, durable=durable))

    def tell(self, entry: Entry) -> None:
        """Record what has happened: now, or as soon as that can be. Never fails."""
        with self._lock:
            try:
                self._watched(lambda: self._append(entry, durable=True))
            except AuditError:
                if len(self._owed) >= MOST_OWED:
                    self._lost += 1
                    return
                late = {"late": self._clock().astimezone(UTC).isoformat(timespec="milliseconds"), **entry.details}
                self._owed.append(replace(entry, details=late))

    def flush(self) -> Head:
        """Write what is owed, make all durable, and return the log's end. Raises AuditError."""
        with self._lock:
            self._watched(self._settle)
            return self._log.head

    def close(self) -> None:
        """Write what is owed, as far as that goes, and let go of the log."""
        with suppress(AuditError):
            self.flush()
        self._log.close()

    def _settle(self) -> None:
        if self._owed or self._lost:
            # Durable: while that fails nothing more is written, and nothing is told twice.
            self._log.append(Entry(Action.LOG_LATE, details={"owed": len(self._owed), "lost": self._lost}))
            self._lost = 0
        while self._owed:
            self._log.append(self._owed[0], durable=False)
            self._owed.popleft()
        self._log.flush()

    def _append(self, entry: Entry, *, durable: bool) -> None:
        if self._owed or self._lost:
            self._settle()
        self._log.append(entry, durable=durable)

    def _watched(self, act: Callable[[], None]) -> None:
        try:
            act()
        except AuditError as error:
            if not self._failing:
                self._failing = True
                self._warn(f"{error}; what must be recorded first is not done until it can be")
            raise
        if self._failing:
            self._failing = False
            self._warn("the audit log is written again")
