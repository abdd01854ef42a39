"""What a sync does, decided before anything moves: a change list for the server and operations for the working copy.

`plan` looks at every path first. While one is in conflict there is no plan, only `Blocked`, which names all questions
and can be decided (`dsg.sync.resolution`). Streams are read again for each part instead of being held: memory is what
`walk` and `contents` need.

After the server has committed the changes and the operations were done, working copy, cache and head are equal. The
server makes the head from the changes; each entry of the cache comes from it or from the operation on its path.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain

from dsg.manifests.changes import Change, Gone, Place
from dsg.manifests.entries import Entry, File, FileState, LinkState, to_name
from dsg.manifests.ordering import Order, OrderError, sort
from dsg.sync.contents import Contents, Wanted
from dsg.sync.sides import Sides, SidesError, Version
from dsg.sync.states import ROWS, TABLE, Action, Local, State
from dsg.sync.walk import Below, Case, Decision, Obstacles, Survey, Times, cases, walk


class Choice(StrEnum):
    """How a person decides a conflict."""

    MINE = "mine"
    """The head gets what the working copy has, or loses what was deleted here."""
    THEIRS = "theirs"
    """The working copy gets what the head has, or loses what was deleted there."""
    BOTH = "both"
    """Theirs stays at its path, mine goes beside it under another name."""


@dataclass(frozen=True, slots=True)
class Move:
    """Give something of the working copy another name. Comes before all else.

    No path of the three sides has the name; a file that is not synced may. Never replace one (RENAME_NOREPLACE).
    """

    entry: Local
    to: str

    @property
    def path(self) -> str:
        """Where it is."""
        return self.entry.path


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete something of the working copy, and directories that become empty. Comes before anything is fetched."""

    entry: Local
    edited: bool
    """It is in no version that was synced here: keep a copy for good."""

    @property
    def path(self) -> str:
        """Where it is."""
        return self.entry.path


@dataclass(frozen=True, slots=True)
class Fetch:
    """Bring the head's file or link to its path."""

    entry: Entry
    replaces: Local | None
    """What stands there; keep a copy until the sync is done. None when nothing does, or it was moved away."""
    edited: bool
    """What stands there is in no version that was synced here: keep a copy for good."""
    source: str | None
    """A path that had the same content in the working copy before any operation; look for it in the kept copies when
    an operation has changed it meanwhile, and verify the digest as of what is sent. None: it has to come from the
    repository.
    """

    @property
    def path(self) -> str:
        """Where it goes."""
        return self.entry.path


@dataclass(frozen=True, slots=True)
class SetAttributes:
    """Set mode and time of a file that has the right content already."""

    entry: File
    replaces: FileState

    @property
    def path(self) -> str:
        """Where it is."""
        return self.entry.path


@dataclass(frozen=True, slots=True)
class Remember:
    """Change the cache alone: the working copy has what the head has."""

    path: str
    entry: Entry | None
    """What the cache is to hold; None for nothing."""


Operation = Move | Remove | Fetch | SetAttributes | Remember


@dataclass(frozen=True, slots=True)
class Counts:
    """How many paths are in which state, before anything is decided."""

    states: Mapping[State, int]
    """Every state of the table."""
    new_times_here: int
    """Files of which only the time is new, and is sent."""
    new_times_there: int
    """Files of which only the time is new, and is set here."""
    conflicts: int
    """Questions for a person. Not the number of paths in states of conflict: a file in the way of a directory is one
    question, however many files that directory has.
    """

    def rows(self) -> list[tuple[int, str]]:
        """Return count and words for everything that a sync would do something about; nothing when all is in sync."""
        found = [
            (self.states[row.state], row.words)
            for row in TABLE
            if row.action is not Action.NOTHING and self.states[row.state]
        ]
        times = (
            (self.new_times_here, "only the time is new: will be sent"),
            (self.new_times_there, "only the time is new in the repository: will be set here"),
        )
        return found + [(count, words) for count, words in times if count]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A question that a person has to decide."""

    path: str
    state: State
    """The state of this path; where something is in the way, that may be no conflict by itself."""
    mine: Local | Below | None
    """The working copy's file or link at the path, what it has below it, or None where it was deleted."""
    theirs: Entry | Below | None
    """The head's likewise."""
    cached: Entry | None
    """What was there at the last sync."""

    @property
    def key(self) -> bytes:
        """The path's bytes."""
        return next(e.key for e in (self.mine, self.theirs, self.cached) if e is not None and not isinstance(e, Below))

    @property
    def in_the_way(self) -> bool:
        """Whether one side has a file or link where the other has a directory."""
        return isinstance(self.mine, Below) or isinstance(self.theirs, Below)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """What can be chosen: both only where both sides have something."""
        if self.mine is None or self.theirs is None:
            return (Choice.MINE, Choice.THEIRS)
        return tuple(Choice)


@dataclass(frozen=True, slots=True)
class Blocked:
    """Conflicts: nothing is sent, fetched or deleted until all are decided."""

    sides: Sides
    counts: Counts
    obstacles: Obstacles

    def conflicts(self) -> Iterator[Conflict]:
        """Yield the questions, in path order; there are `counts.conflicts`."""
        for case in cases(self.sides, self.obstacles):
            decision = case.decision
            if case.question != decision.key:
                continue
            mine: Local | Below | None = decision.local
            theirs: Entry | Below | None = decision.remote
            if case.obstacle is not None:
                mine, theirs = (mine, case.obstacle) if decision.remote is None else (case.obstacle, theirs)
            yield Conflict(decision.path, decision.state, mine, theirs, decision.cached)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What people decided about questions, by the key of their paths."""

    choices: Mapping[bytes, Choice]
    names: Mapping[bytes, str]
    """For each `both`: what the path is called by which mine goes on; nothing may have that name."""


NO_RULING = Ruling({}, {})


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What is done about a path after all is decided."""

    decision: Decision
    action: Action
    moved: str | None
    """Where mine goes."""


class Plan:
    """A sync without open questions. Iterating what it consists of reads the sides again."""

    def __init__(self, sides: Sides, counts: Counts, obstacles: Obstacles, ruling: Ruling = NO_RULING) -> None:
        """Use `plan` or `resolution.apply`. `counts` are those before the ruling."""
        self.sides = sides
        self.counts = counts
        self._obstacles = obstacles
        self._ruling = ruling
        self._there: Contents | None = None
        self._here: Contents | None = None

    @property
    def ruling(self) -> Ruling:
        """What people decided; with the same sides, it makes the same plan again."""
        return self._ruling

    def changes(self) -> Iterator[Change]:
        """Yield what the head is to become, in path order, as the server takes it with the head as its base.

        Nothing when there is nothing to commit; then no transaction is opened.
        """
        if not self._ruling.names:
            return self._changes_in_place()
        return heapq.merge(self._changes_in_place(), self._changes_beside(), key=lambda change: change.key)

    def operations(self) -> Iterator[Operation]:
        """Yield what is done in the working copy: all moves, then all removals, then the rest, each in path order."""
        for wanted in self._early():
            for outcome in self._outcomes():
                operation = self._early_operation(outcome)
                if isinstance(operation, wanted):
                    yield operation
        for outcome in self._outcomes():
            found = self._late_operation(outcome)
            if found is not None:
                yield found

    def saves(self) -> Iterator[Local]:
        """Yield what the working copy has, no synced version has, and the operations replace or delete.

        Keep it for good, under whatever name, before they begin. Only a person's choice brings anything here. A mode
        that is set back is not listed, for no content goes.
        """
        for outcome in self._outcomes():
            operation = self._early_operation(outcome) or self._late_operation(outcome)
            if isinstance(operation, Remove) and operation.edited:
                yield operation.entry
            elif isinstance(operation, Fetch) and operation.edited and operation.replaces is not None:
                yield operation.replaces

    def require_room(self) -> None:
        """Raise SidesError where something that is not synced stands in the head where this plan puts something."""
        stays = self.sides.left_out()
        first = next(stays, None)
        if first is None:
            return
        comes = (change.state for change in self.changes() if isinstance(change, Place))
        order = Order()
        for entry in heapq.merge(chain([first], stays), comes, key=lambda one: one.key):
            try:
                order.check(entry)
            except OrderError as error:
                raise SidesError(
                    f"this can't be sent: {error}. The repository has one of the two already, and what it has is not "
                    "synced here: it is hidden, ignored, or in no data directory (spec.ignore and spec.dataDirs of the "
                    "Repository). Nothing was changed. Rename yours, or have the other one synced and removed first"
                ) from error

    def _outcomes(self) -> Iterator[_Outcome]:
        for case in cases(self.sides, self._obstacles):
            decision = case.decision
            if case.question is None:
                yield _Outcome(decision, decision.action, None)
            else:
                yield self._ruled(case, case.question)

    def _ruled(self, case: Case, question: bytes) -> _Outcome:
        decision = case.decision
        choice = self._ruling.choices[question]
        mine, theirs = decision.local is not None, decision.remote is not None
        if choice is Choice.MINE:
            return _Outcome(decision, Action.UPLOAD if mine else Action.DELETE_REMOTE, None)
        moved = None
        if choice is Choice.BOTH and mine:
            moved = self._ruling.names[question] + to_name(decision.key[len(question) :])
        return _Outcome(decision, Action.DOWNLOAD if theirs else Action.DELETE_LOCAL, moved)

    def _changes_in_place(self) -> Iterator[Change]:
        for outcome in self._outcomes():
            decision = outcome.decision
            if outcome.action is Action.DELETE_REMOTE:
                yield Gone(decision.path)
            elif outcome.action is Action.UPLOAD or decision.times is Times.MINE:
                yield self._place(_mine(outcome), decision.remote)

    def _changes_beside(self) -> Iterator[Change]:
        """Yield what goes to other names, sorted through a temporary file when it is much: directories can be large."""
        moved = ((_mine(o), o.moved) for o in self._outcomes() if o.moved is not None)
        for entry in sort(replace(mine, path=to).signed(_NOBODY, "s1") for mine, to in moved):
            yield self._place(unsigned(entry), None)

    def _place(self, mine: Local, remote: Entry | None) -> Place:
        if not isinstance(mine, FileState):
            return Place(mine)
        return Place(mine, mine.path if _same_content(mine, remote) else self._contents()[0].find(mine))

    @staticmethod
    def _early_operation(outcome: _Outcome) -> Move | Remove | None:
        if outcome.moved is not None:
            return Move(_mine(outcome), outcome.moved)
        if outcome.action is Action.DELETE_LOCAL:
            return Remove(_mine(outcome), outcome.decision.edited)
        return None

    def _early(self) -> Iterator[type[Move] | type[Remove]]:
        """Yield the kinds of early operations that there may be, so that no walk is made in vain."""
        if self._ruling.names:
            yield Move
        if self.counts.states[State.DELETED_THERE] or self._ruling.choices:
            yield Remove

    def _late_operation(self, outcome: _Outcome) -> Fetch | SetAttributes | Remember | None:
        decision = outcome.decision
        local, cached, remote = decision.local, decision.cached, decision.remote
        if outcome.action is Action.DOWNLOAD and remote is not None:
            if outcome.moved is not None:
                return Fetch(remote, None, False, self._source(remote))
            if isinstance(local, FileState) and isinstance(remote, File) and _same_content(local, remote):
                return SetAttributes(remote, local)
            return Fetch(remote, local, local is not None and decision.edited, self._source(remote))
        if outcome.moved is not None:
            return Remember(decision.path, None) if cached is not None else None
        if outcome.action not in {Action.NOTHING, Action.UPDATE_CACHE} or decision.times is Times.MINE:
            return None
        if decision.times is Times.THEIRS and isinstance(local, FileState) and isinstance(remote, File):
            return SetAttributes(remote, local)
        return Remember(decision.path, remote) if cached != remote else None

    def _source(self, entry: Entry) -> str | None:
        return self._contents()[1].find(entry) if isinstance(entry, File) else None

    def _contents(self) -> tuple[Contents, Contents]:
        """Return where contents lie: those to be sent, in the head; those to be fetched, in the working copy."""
        if self._there is None or self._here is None:
            send, fetch = Wanted(), Wanted()
            for outcome in self._outcomes():
                local, remote = outcome.decision.local, outcome.decision.remote
                if isinstance(local, FileState) and (outcome.moved is not None or outcome.action is Action.UPLOAD):
                    send.add(local.digest)
                if isinstance(remote, File) and outcome.action is Action.DOWNLOAD:
                    fetch.add(remote.digest)
            self._there = Contents(send, self.sides.entries_remote())
            self._here = Contents(fetch, self.sides.entries_local())
        return self._there, self._here


class Idle(Plan):
    """The plan where all that is synced is known to be the same on all sides: nothing to do, and no side is read."""

    def __init__(self, sides: Sides, count: int) -> None:
        """`count`: files and links that are synced."""
        super().__init__(sides, Counts({**dict.fromkeys(ROWS, 0), State.ALL_EQUAL: count}, 0, 0, 0), {})

    def changes(self) -> Iterator[Change]:
        """Yield nothing."""
        return iter(())

    def operations(self) -> Iterator[Operation]:
        """Yield nothing."""
        return iter(())

    def saves(self) -> Iterator[Local]:
        """Yield nothing."""
        return iter(())


def plan(sides: Sides) -> Plan | Blocked:
    """Look at every path and return what a sync does, or what keeps it from doing anything.

    Raises what reading the sides raises; a plan whose sides were all read once can still fail when it reads them
    again, so the sides must be files that nobody changes, not a scan that is made anew.
    """
    survey, states, there = Survey(), dict.fromkeys(ROWS, 0), 0
    times = {Times.MINE: 0, Times.THEIRS: 0, Times.EQUAL: 0}
    for decision in walk(sides):
        states[decision.state] += 1
        times[decision.times] += 1
        there += decision.remote is not None
        survey.add(decision)
    survey.finish()
    counts = Counts(states, times[Times.MINE], times[Times.THEIRS], survey.conflicts)
    if survey.conflicts:
        return Blocked(sides, counts, survey.obstacles)
    found = Plan(sides, counts, survey.obstacles)
    if isinstance(sides.remote, Version) and there != sides.remote.header.summary.entries:
        found.require_room()
    return found


_NOBODY = "nobody"


def unsigned(entry: Entry) -> Local:
    """Return an entry as a working copy has it."""
    if isinstance(entry, File):
        return FileState(entry.path, entry.size, entry.mtime, entry.mode, entry.digest)
    return LinkState(entry.path, entry.target)


def _mine(outcome: _Outcome) -> Local:
    entry = outcome.decision.local
    if entry is None:
        raise AssertionError(f"{outcome.decision.path!r}: an action on what is not here")
    return entry


def _same_content(mine: FileState, theirs: Entry | None) -> bool:
    return isinstance(theirs, File) and theirs.digest == mine.digest and theirs.size == mine.size
