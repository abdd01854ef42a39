"""The three-way walk: one decision for each path, and the places where one side's file stands in the other's directory.

Everything is streamed in the order of manifests. Memory is bounded by the length of a path, and by the number of such
places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from blake3 import blake3

from dsg.manifests.entries import Entry, File, FileState
from dsg.manifests.lines import stem
from dsg.sync.sides import Sides
from dsg.sync.states import ROWS, Action, Local, State, classify

_SLASH = ord("/")


class Times(Enum):
    """Whose time of modification counts where all else is equal. The rule is that of `dsg.transactions.merge`."""

    EQUAL = auto()
    """L and R have the same."""
    MINE = auto()
    """L's: only this side has set it since the last sync. It is recorded in the repository."""
    THEIRS = auto()
    """R's: others have set it, or both have. It is set here."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One path, what stands there on each side, and its state."""

    path: str
    state: State
    local: Local | None
    """L."""
    cached: Entry | None
    """C."""
    remote: Entry | None
    """R."""

    @property
    def key(self) -> bytes:
        """The path's bytes."""
        return _one_of(self.local, self.cached, self.remote).key

    @property
    def action(self) -> Action:
        """What the table of states says is to be done."""
        return ROWS[self.state].action

    @property
    def times(self) -> Times:
        """Whose time counts; EQUAL where the action moves or removes the whole entry."""
        local, remote = self.local, self.remote
        if not isinstance(local, FileState) or not isinstance(remote, File) or local.mtime == remote.mtime:
            return Times.EQUAL
        if self.action not in {Action.NOTHING, Action.UPDATE_CACHE}:
            return Times.EQUAL
        cached = self.cached
        unset = self.state is State.ALL_EQUAL and isinstance(cached, File) and cached.mtime == remote.mtime
        return Times.MINE if unset else Times.THEIRS

    @property
    def edited(self) -> bool:
        """Whether L stands in no version that this working copy has synced: its content may exist nowhere else."""
        return self.state in _EDITED

    @property
    def placed(self) -> Side | None:
        """Which side has, and may keep, an entry where the other has none: what can stand in the other's way."""
        if self.action not in {Action.UPLOAD, Action.DOWNLOAD, Action.CONFLICT}:
            return None
        if self.remote is None:
            return Side.MINE
        return Side.THEIRS if self.local is None else None


class Side(Enum):
    """The working copy's side, or the head's."""

    MINE = auto()
    THEIRS = auto()


_EDITED = frozenset(
    {
        State.CHANGED_HERE,
        State.ALL_DIFFER,
        State.BOTH_ADDED,
        State.CHANGED_HERE_DELETED_THERE,
        State.ADDED_HERE,
    }
)


def walk(sides: Sides) -> Iterator[Decision]:
    """Yield a decision for each path that any side has, in order. Raises what the sides raise."""
    one_version = sides.head_is_base
    locals_, cacheds = sides.entries_local(), sides.entries_cached()
    remotes = iter(()) if one_version else sides.entries_remote()
    local, cached, remote = next(locals_, None), next(cacheds, None), next(remotes, None)
    while True:
        ahead = [entry for entry in (local, cached, remote) if entry is not None]
        if not ahead:
            return
        key = min(entry.key for entry in ahead)
        one = local if local is not None and local.key == key else None
        two = cached if cached is not None and cached.key == key else None
        three = two if one_version else remote if remote is not None and remote.key == key else None
        yield Decision(_one_of(one, two, three).path, classify(one, two, three), one, two, three)
        if one is not None:
            local = next(locals_, None)
        if two is not None:
            cached = next(cacheds, None)
        if three is not None and not one_version:
            remote = next(remotes, None)


def _one_of(*entries: Entry | Local | None) -> Entry | Local:
    return next(entry for entry in entries if entry is not None)


@dataclass(frozen=True, slots=True)
class Below:
    """What one side has below a path at which the other has a file or link."""

    count: int
    """Files and links."""
    size: int
    """Bytes of the files."""
    digest: str
    """BLAKE3 of their lines, authors and versions left out."""


Obstacles = dict[bytes, Below]
"""By the key of a file or link that is in the way of the other side's directory: what that side has below it."""


@dataclass(slots=True)
class _Placed:
    key: bytes
    side: Side
    conflict: bool
    count: int = 0
    size: int = 0
    hasher: blake3 | None = None


@dataclass(slots=True)
class Survey:
    """What a first walk finds; feed it every decision in order, then `finish`."""

    obstacles: Obstacles = field(default_factory=dict)
    conflicts: int = 0
    """Questions for a person: paths in conflict, and each path in the way of a directory with all that it concerns."""
    _stack: list[_Placed] = field(default_factory=list)

    def add(self, decision: Decision) -> None:
        """Take the next decision."""
        side = decision.placed
        conflict = decision.action is Action.CONFLICT
        if side is None and not self._stack:
            self.conflicts += conflict
            return
        key = decision.key
        while self._stack and not key.startswith(self._stack[-1].key):
            self._pop()
        if side is None:
            self.conflicts += conflict
            return
        above = next((p for p in self._stack if p.side is not side and key[len(p.key)] == _SLASH), None)
        if above is None:
            self.conflicts += conflict
        else:
            self._below(above, decision)
        self._stack.append(_Placed(key, side, conflict))

    def finish(self) -> None:
        """Take note that no more decisions come."""
        while self._stack:
            self._pop()

    def _below(self, above: _Placed, decision: Decision) -> None:
        entry = _one_of(decision.local, decision.remote)
        if above.hasher is None:
            above.hasher = blake3()
            self.conflicts += not above.conflict
        above.hasher.update(f"{stem(entry)}}}\n".encode())
        above.count += 1
        above.size += entry.size if isinstance(entry, File | FileState) else 0

    def _pop(self) -> None:
        placed = self._stack.pop()
        if placed.hasher is not None:
            self.obstacles[placed.key] = Below(placed.count, placed.size, placed.hasher.hexdigest())


@dataclass(frozen=True, slots=True)
class Case:
    """A decision, and the question that it is part of."""

    decision: Decision
    question: bytes | None
    """Key of the path by whose choice it goes: its own, or that of what is in the way. None where nothing is asked."""
    obstacle: Below | None
    """What the other side has below this path."""


def cases(sides: Sides, obstacles: Obstacles) -> Iterator[Case]:
    """Yield every decision with its question; `obstacles` are those that `Survey` found of the same sides."""
    standing: list[bytes] = []
    for decision in walk(sides):
        if not standing and not obstacles:
            asked = decision.key if decision.action is Action.CONFLICT else None
            yield Case(decision, asked, None)
            continue
        key = decision.key
        while standing and not key.startswith(standing[-1]):
            standing.pop()
        below = standing[-1] if standing and key[len(standing[-1])] == _SLASH else None
        obstacle = obstacles.get(key)
        if obstacle is not None:
            standing.append(key)
        if below is not None and decision.placed is not None:
            yield Case(decision, below, None)
        else:
            asked = key if obstacle is not None or decision.action is Action.CONFLICT else None
            yield Case(decision, asked, obstacle)
