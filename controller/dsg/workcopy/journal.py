"""How far a sync is, on disk, so that whoever comes after an interruption knows what to finish or undo."""

from __future__ import annotations

import os
from contextlib import suppress
from enum import StrEnum
from typing import Literal

from pydantic import Field, ValidationError

from dsg.api.base import Model
from dsg.manifests.entries import to_bytes, to_name
from dsg.sync.plan import Choice, Ruling
from dsg.workcopy.base import TreeModel
from dsg.workcopy.errors import Damaged
from dsg.workcopy.layout import Layout
from dsg.workcopy.origin import Synced
from dsg.workcopy.remote import Committed, Ref
from dsg.workcopy.writing import write_whole


class Phase(StrEnum):
    """What may have happened outside."""

    RENAMING = "renaming"
    """Files get names that the repository admits. To be undone."""
    SENDING = "sending"
    """There may be a transaction; it was not asked to commit. To be aborted."""
    COMMITTING = "committing"
    """It may have been asked to commit. What became of it decides."""
    APPLYING = "applying"
    """The head has what was to be sent. To be finished."""


class Transaction(Model):
    """`Ref`."""

    name: str
    """Name of the object."""
    uid: str = ""
    """Its identity; "" where its creation was not answered."""
    begun: float = 0
    """When that was asked for, in seconds since 1970; 0 where it was answered."""


class Rename(Model):
    """A file that got a name that the repository admits. Paths in hexadecimal, as not all bytes are text."""

    old: str
    """As it was."""
    new: str
    """As it is to be sent."""


class Said(Model):
    """What a person decided about one question (`Ruling`)."""

    path: str
    """In hexadecimal."""
    choice: Literal["mine", "theirs", "both"]
    """The decision."""
    name: str = ""
    """For both: how mine goes on, in hexadecimal."""


class Journal(Model):
    """`journal.json`."""

    format: Literal["dsg-sync/1"] = "dsg-sync/1"
    """Name and version of the format."""
    identity: str
    """Of this attempt."""
    phase: Phase
    """How far it is."""
    author: str = ""
    """Who commits."""
    message: str = ""
    """Why."""
    transaction: Transaction | None = None
    """What commits it; None where there is nothing to commit."""
    base: str = ""
    """The head it was planned with; "" for none."""
    target: TreeModel | None = None
    """The tree that the head becomes."""
    synced: Synced | None = None
    """What is synced."""
    settled_before: int = 0
    """Nanoseconds since 1970: what was not touched since then is as it was scanned."""
    local: int = 0
    """Entries that the scan found."""
    kept: str = ""
    """Directory below `.dsg/kept` for copies of this sync."""
    said: list[Said] = Field(default_factory=list)
    """Decisions about conflicts."""
    renames: list[Rename] = Field(default_factory=list)
    """Names that were made good."""
    committed: str = ""
    """The version that came of it."""
    onto: str = ""
    """What it was put on top of, where that is not `base`."""

    def ruling(self) -> Ruling:
        """Return the decisions."""
        choices = {bytes.fromhex(one.path): Choice(one.choice) for one in self.said}
        names = {bytes.fromhex(one.path): to_name(bytes.fromhex(one.name)) for one in self.said if one.name}
        return Ruling(choices, names)

    def ref(self) -> Ref | None:
        """Return the transaction."""
        return (
            None
            if self.transaction is None
            else Ref(self.transaction.name, self.transaction.uid, self.transaction.begun)
        )

    def names(self) -> tuple[tuple[str, str], ...]:
        """Return the names that were made good: from and to."""
        return tuple((to_name(bytes.fromhex(one.old)), to_name(bytes.fromhex(one.new))) for one in self.renames)

    def moved(self, phase: Phase) -> Journal:
        """Return it in another phase."""
        return self.model_copy(update={"phase": phase})

    def opened(self, ref: Ref) -> Journal:
        """Return it with its transaction."""
        transaction = Transaction(name=ref.name, uid=ref.uid, begun=ref.begun)
        return self.model_copy(update={"phase": Phase.SENDING, "transaction": transaction})

    def done(self, outcome: Committed) -> Journal:
        """Return it with the version that came of it."""
        update = {"phase": Phase.APPLYING, "committed": outcome.version, "onto": outcome.onto}
        return self.model_copy(update=update)


def as_renames(renames: tuple[tuple[str, str], ...]) -> list[Rename]:
    """Return renames as a journal keeps them."""
    return [Rename(old=to_bytes(old).hex(), new=to_bytes(new).hex()) for old, new in renames]


def said(ruling: Ruling) -> list[Said]:
    """Return decisions as a journal keeps them."""
    return [
        Said(path=key.hex(), choice=choice.value, name=to_bytes(ruling.names[key]).hex() if key in ruling.names else "")
        for key, choice in ruling.choices.items()
    ]


def write_journal(layout: Layout, journal: Journal) -> None:
    """Write it durably."""
    write_whole(layout.journal, journal.model_dump_json(by_alias=True, indent=1).encode())


def read_journal(layout: Layout) -> Journal | None:
    """Return the journal of a sync that did not end, None where there is none. Raises Damaged."""
    try:
        raw = layout.journal.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return Journal.model_validate_json(raw)
    except ValidationError as error:
        raise Damaged(
            f"{layout.journal}, which says how far an interrupted sync came, is damaged: {error}. Nothing was changed. "
            "Copy what you have changed elsewhere, clone anew and bring it there"
        ) from error


def remove_journal(layout: Layout) -> None:
    """Say that nothing is left to finish or undo."""
    with suppress(FileNotFoundError):
        os.unlink(layout.journal)  # noqa: PTH108  (the tests' list of effects is that of os)
