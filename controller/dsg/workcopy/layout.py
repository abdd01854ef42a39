"""What lies in `.dsg` of a working copy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

METADATA = ".dsg"
ORIGIN = "origin.yaml"
LOCK = "lock"
SCAN = "scan.db"
UNCHANGED = "unchanged"
CONFLICTS = "conflicts.txt"
BASE = "base"
"""C: `state.json`, and the nodes and history segments that it needs."""
STATE = "state.json"
NODES = "nodes"
HISTORY = "history"
STORE = "store"
"""Contents by digest, fetched before anything is applied."""
SYNC = "sync"
"""A sync that is under way: its journal, and what its plan is made of."""
JOURNAL = "journal.json"
LOCAL = "local"
CHANGES = "changes"
UNDO = "undo"
"""What operations replaced or removed, until the sync is done."""
KEPT = "kept"
"""Copies that are kept for good, a directory for each sync that made any."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one working copy."""

    root: Path

    @property
    def metadata(self) -> Path:
        """The directory `.dsg`."""
        return self.root / METADATA

    @property
    def origin(self) -> Path:
        """Which repository this is of."""
        return self.metadata / ORIGIN

    @property
    def lock(self) -> Path:
        """The file that whoever works with the working copy locks."""
        return self.metadata / LOCK

    @property
    def scan(self) -> Path:
        """The stat cache (`dsg.scan.cache`)."""
        return self.metadata / SCAN

    @property
    def unchanged(self) -> Path:
        """What a glance sees while nothing changes (`dsg.workcopy.unchanged`)."""
        return self.metadata / UNCHANGED

    @property
    def conflicts(self) -> Path:
        """The resolution file (`dsg.sync.resolution`)."""
        return self.metadata / CONFLICTS

    @property
    def base(self) -> Path:
        """C."""
        return self.metadata / BASE

    @property
    def store(self) -> Path:
        """Fetched contents."""
        return self.metadata / STORE

    @property
    def sync(self) -> Path:
        """The sync that is under way."""
        return self.metadata / SYNC

    @property
    def journal(self) -> Path:
        """How far that sync is."""
        return self.sync / JOURNAL

    @property
    def local(self) -> Path:
        """L as that sync found it, written down."""
        return self.sync / LOCAL

    @property
    def changes(self) -> Path:
        """What that sync sends, written down."""
        return self.sync / CHANGES

    @property
    def kept(self) -> Path:
        """Copies that are kept for good."""
        return self.metadata / KEPT
