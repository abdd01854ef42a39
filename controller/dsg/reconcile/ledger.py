"""What the node's operator knows of each repository beyond its policy: head, versions, what is kept, what is open.

Filled by what keeps repositories in order and by transactions; read where a Repository's status is written.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime

from dsg.storage.repository_type import Outline
from dsg.transactions.keeper import Kept


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one repository."""

    outline: Outline | None = None
    """What was there when it was last put in order; None before."""
    kept: Kept | None = None
    """What came of it."""
    counted: Kept | None = None
    """The same of the last time when versions were counted."""
    due: datetime | None = None
    """When it is to be put in order again although nothing has changed; None for never."""
    generation: int = -1
    """metadata.generation of the spec by which that was."""
    pruned: tuple[str, ...] = ()
    """Versions that were destroyed last."""
    pruned_at: str = ""
    """When that was (RFC 3339)."""


class Ledger:
    """Entries by repository uid. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}

    def get(self, uid: str) -> Entry:
        """Return what is known; an empty entry where nothing is."""
        with self._lock:
            return self._entries.get(uid, Entry())

    def put(self, uid: str, entry: Entry) -> None:
        """Keep what is known now."""
        with self._lock:
            self._entries[uid] = entry

    def stale(self, uid: str) -> None:
        """Have a repository put in order at the next look, whatever its outline says."""
        with self._lock:
            if uid in self._entries:
                self._entries[uid] = replace(self._entries[uid], outline=None)

    def forget(self, present: set[str]) -> None:
        """Drop what is known of repositories that are no longer there."""
        with self._lock:
            self._entries = {uid: entry for uid, entry in self._entries.items() if uid in present}
