"""What commands return: typed, complete, for the plugin to print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from dsg.manifests.changes import Change
from dsg.manifests.compare import Aspect
from dsg.manifests.entries import Entry
from dsg.manifests.header import Header
from dsg.sync.plan import Conflict, Counts, Operation
from dsg.sync.states import Local


class Phase(StrEnum):
    """What a command is doing."""

    SCANNING = "scanning"
    COMPARING = "comparing"
    FETCHING = "fetching"
    SENDING = "sending"
    COMMITTING = "committing"
    APPLYING = "applying"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase is."""

    phase: Phase
    files: int = 0
    size: int = 0
    """Bytes."""
    total_files: int | None = None
    """None where it is not known before the end."""
    total_size: int | None = None


Watch = Callable[[Progress], None]
"""Is told how far a command is, in the thread that runs it, many times a second."""


@dataclass(frozen=True, slots=True)
class Left:
    """Something in the working copy that a sync did not touch, because it is not what the plan saw."""

    path: str
    why: str
    """What was found, and what comes of it."""
    other: str = ""
    """The name that it was to get; "" where it was to keep its own."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a transaction brought."""

    added: int = 0
    changed: int = 0
    deleted: int = 0
    files: int = 0
    """Files whose content had to be sent, as far as the server did not have it."""
    size: int = 0
    """Their bytes."""


@dataclass(frozen=True, slots=True)
class Done:
    """A sync that ended: the working copy is what the head is, but for what was left."""

    head: str
    """The version that the working copy is synced with now; "" where the repository has none."""
    committed: tuple[str, ...] = ()
    """The versions that this sync made; one of an earlier, interrupted one included."""
    onto: str = ""
    """The version of others on which the last of them was put, where somebody was first."""
    counts: Counts | None = None
    """How many paths were in which state when it began."""
    sent: Sent = field(default_factory=Sent)
    fetched: int = 0
    """Files and links that were brought here."""
    removed: int = 0
    """Files and links that were removed here."""
    attributes: int = 0
    """Files that got another mode or time here."""
    moved: tuple[tuple[str, str], ...] = ()
    """Files that were given another name beside theirs: from and to."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Files that got a name that the repository admits: from and to."""
    kept: tuple[Path, ...] = ()
    """Where copies were kept of what is in no version."""
    left: tuple[Left, ...] = ()
    """What was not touched, and why."""
    recovered: str = ""
    """What an earlier, interrupted sync had left, and what became of it; "" for nothing."""
    notes: tuple[str, ...] = ()
    """What else is worth telling."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """Conflicts: nothing was sent, fetched or deleted. The plugin's exit code is 3."""

    counts: Counts
    conflicts: tuple[Conflict, ...]
    """The first of them; `counts.conflicts` tells how many there are."""
    file: Path
    """The file in which they are to be decided."""
    outdated: str = ""
    """Why decisions that were made could not be used; "" where there were none."""
    before: Done | None = None
    """What was done before they came up."""


Synced = Done | Undecided


@dataclass(frozen=True, slots=True)
class Status:
    """What a sync would do."""

    base: str
    """The version of the last sync; "" for none."""
    head: str
    """The repository's head; "" for none."""
    counts: Counts | None
    """None where an interrupted sync has to be finished first."""
    interrupted: str = ""
    """What an interrupted sync has left to do."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """All that a sync would do, path by path."""

    status: Status
    conflicts: tuple[Conflict, ...] = ()
    """All questions; with any, there is nothing else."""
    changes: tuple[Change, ...] = ()
    """What would be sent."""
    operations: tuple[Operation, ...] = ()
    """What would be done here."""
    saves: tuple[str, ...] = ()
    """Paths of which a copy would be kept."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that `validate` found wrong."""

    path: str
    """The path it is about; "" for the whole."""
    message: str


@dataclass(frozen=True, slots=True)
class Validated:
    """What `validate` looked at and found."""

    version: str
    files: int
    """Files that were read and hashed."""
    size: int
    findings: tuple[Finding, ...]
    """What is damaged or can't be right."""
    edited: int
    """Paths that differ from the last sync, which is no fault."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What `clean` removed, or would."""

    contents: int = 0
    """Fetched contents that nothing needs."""
    nodes: int = 0
    """Manifest nodes that nothing needs."""
    kept: tuple[str, ...] = ()
    """Directories of kept copies."""
    size: int = 0
    """Bytes of contents and kept copies."""


@dataclass(frozen=True, slots=True)
class Differing:
    """A path that is another thing on one side than on the other."""

    path: str
    before: Entry | Local | None
    after: Entry | Local | None
    aspects: Aspect
    """In what they differ, where both have it."""


@dataclass(frozen=True, slots=True)
class Blamed:
    """One change of a path: content, mode or kind."""

    header: Header
    """The version that made it."""
    entry: Entry
    """What the path was from then on."""
    added: bool
    """Whether the version before did not have the path. What may have been there before that is not looked for."""
    ends: str = ""
    """Why nothing older follows, where there may be something; "" elsewhere."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Files of a version that were brought somewhere."""

    header: Header
    files: int
    """Files and links that are there now."""
    size: int
    """Their bytes."""
    left: tuple[Left, ...]
    """What was not brought, because something stands there."""


@dataclass(frozen=True, slots=True)
class Restored:
    """An old version that is the head again, as a new version."""

    version: str
    synced: Synced


@dataclass(frozen=True, slots=True)
class Cloned:
    """A new working copy."""

    root: Path
    header: Header | None
    """The version it has; None where the repository has none."""
    done: Done
