"""One call of `sync`: what it works with, what it has done so far, and how far it is, here and on disk."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from dsg.sync.plan import Counts
from dsg.workcopy.base import Base
from dsg.workcopy.conflicts import Decisions
from dsg.workcopy.files import Files
from dsg.workcopy.journal import Journal, Phase, as_renames, remove_journal, write_journal
from dsg.workcopy.layout import JOURNAL, METADATA, UNDO, Layout
from dsg.workcopy.origin import Origin, read_origin
from dsg.workcopy.remote import Remote
from dsg.workcopy.results import Done, Left, Sent, Watch

CACHED, REMOTE = "cached.json", "remote.json"
"""Files in `.dsg/sync`: C and the head's header, as the plan was made of them."""


@dataclass(slots=True)
class Made:
    """What a call has done, over all of its rounds."""

    committed: list[str] = field(default_factory=list)
    onto: str = ""
    sent: Sent = field(default_factory=Sent)
    fetched: int = 0
    removed: int = 0
    attributes: int = 0
    moved: list[tuple[str, str]] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)


class Again(Exception):
    """Think it through anew."""


class UnderWay:
    """A sync that is under way. The lock is held."""

    def __init__(self, layout: Layout, remote: Remote, watch: Watch, files: Files) -> None:
        self.layout = layout
        self.remote = remote
        self.watch = watch
        self.files = files
        self.base = Base(layout.base)
        self.origin: Origin = read_origin(layout)
        self.decisions = Decisions(layout)
        self.made = Made()
        self.journal: Journal | None = None
        """What is on disk of it."""
        self.renames: tuple[tuple[str, str], ...] = ()
        """Names that were made good and are given back unless it commits: from and to."""
        self.renamed: tuple[tuple[str, str], ...] = ()
        """Those of what has committed."""
        self.author = ""
        self.recovered = ""
        self.counts: Counts | None = None
        self.notes: list[str] = []

    def write(self, journal: Journal) -> None:
        """Note how far it is, durably."""
        write_journal(self.layout, journal)
        self.journal = journal

    def drop_journal(self) -> None:
        """Note that nothing is left to finish or undo but new names."""
        if self.renames:
            self.write(Journal(identity=secrets.token_hex(8), phase=Phase.RENAMING, renames=as_renames(self.renames)))
            return
        remove_journal(self.layout)
        self.journal = None

    def result(self) -> Done:
        """Return what was done."""
        state = self.base.state()
        made = self.made
        return Done(
            head=state.header.version if state is not None else "",
            committed=tuple(made.committed),
            onto=made.onto,
            counts=self.counts,
            sent=made.sent,
            fetched=made.fetched,
            removed=made.removed,
            attributes=made.attributes,
            moved=tuple(made.moved),
            renamed=self.renamed,
            kept=tuple(made.kept),
            left=tuple(made.left),
            recovered=self.recovered,
            notes=tuple(self.notes),
        )


def clear(layout: Layout, files: Files) -> None:
    """Remove what is over of syncs: all but the journal, which must not be that of a plan that is being applied."""
    for name in os.listdir(layout.sync):  # noqa: PTH208  (fast)
        if name != JOURNAL:
            os.unlink(layout.sync / name)  # noqa: PTH108  (the tests' list of effects is that of os)
    files.remove_tree(f"{METADATA}/{UNDO}".encode())
