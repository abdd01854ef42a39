"""Those who act in the state machine: clients with what they send, strikes, and strangers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from blake3 import blake3
from hypothesis import strategies as st

from dsg.manifests.changes import Change, Gone, Place
from dsg.manifests.digest import summarize
from dsg.manifests.entries import Entry, File, FileState, Link, LinkState
from dsg.storage import errors
from dsg.storage.trees import Owning
from dsg.storage.zfs.model import Killed, ModelNode, Moment, PowerCut
from dsg.transactions.transactor import Result, Transaction
from tests.transactions.oracle import (
    AFile,
    ALink,
    State,
    Tree,
    Wish,
    placed,
)

PATHS = ("a", "a/x", "a/y", "a-b", "b/x", "b/x/z", "c")
CONTENTS = (b"", b"1", b"22", b"23")
MODES = (0o640, 0o600)
TIMES = (1_700_000_000_000_000_000, 1_700_000_001_000_000_000)
TARGETS = ("c", "a-b")
WRITERS = ("ana", "bob", "eva")
OWNING = Owning(0, 0, 0o755)


# ---- the client's part


def entry(path: str, state: State) -> Entry:
    """Return the manifest's entry of a path; whom it names is not the client's to say."""
    if isinstance(state, ALink):
        return Link(path, state.target, "nobody", "s1")
    return File(path, len(state.content), state.mtime, state.mode, blake3(state.content).hexdigest(), "nobody", "s1")


def digest_of(tree: Tree) -> str:
    """Return the digest that a client declares."""
    return summarize(entry(path, tree[path]) for path in sorted(tree)).tree


def changes(base: Tree, wanted: Tree, *, share: bool, chatty: bool) -> tuple[list[Change], dict[str, bytes]]:
    """Return a change list and the content that is to be sent by its digest.

    With `share`, what the base has is taken from there; `chatty` lists what stays the same, too.
    """
    lines: list[Change] = []
    sent: dict[str, bytes] = {}
    having = {s.content: p for p, s in base.items() if isinstance(s, AFile) and s.content}
    for path in sorted(set(base) | set(wanted)):
        state = wanted.get(path)
        if state is None:
            lines.append(Gone(path))
        elif state == base.get(path) and not chatty:
            continue
        elif isinstance(state, ALink):
            lines.append(Place(LinkState(path, state.target)))
        else:
            digest = blake3(state.content).hexdigest()
            before = base.get(path)
            source = having.get(state.content)
            if isinstance(before, AFile) and before.content == state.content and state.content:
                source = path
            if not share:
                source = None
            if source is None and state.content:
                sent[digest] = state.content
            lines.append(Place(FileState(path, len(state.content), state.mtime, state.mode, digest), source))
    return lines, sent


Edit = tuple[str, str, int, int, int]
"""What is done, to which path, and with which content, mode and time (or target, or where to), by number."""

edits = st.lists(
    st.tuples(
        st.sampled_from(("put", "put", "put", "link", "remove", "touch", "mode", "move")),
        st.sampled_from(PATHS),
        st.integers(0, 6),
        st.integers(0, 1),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=4,
)


def edited(tree: Tree, todo: list[Edit]) -> dict[str, State]:
    """Return a tree with edits made where they make sense."""
    result = dict(tree)
    for what, path, number, mode, time in todo:
        there = result.get(path)
        if what == "put":
            result = placed(result, path, AFile(CONTENTS[number % len(CONTENTS)], MODES[mode], TIMES[time]))
        elif what == "link":
            result = placed(result, path, ALink(TARGETS[number % len(TARGETS)]))
        elif there is None:
            continue
        elif what == "remove":
            del result[path]
        elif what == "move":
            del result[path]
            result = placed(result, PATHS[number], there)
        elif isinstance(there, AFile):
            new = there._replace(mtime=TIMES[time]) if what == "touch" else there._replace(mode=MODES[mode])
            result[path] = new
    return result


@dataclass
class Client:
    """A SyncTransaction object, and what its client knows."""

    wish: Wish
    transaction: Transaction
    base: Tree
    wanted: Tree
    share: bool
    chatty: bool
    restore: int = 0
    hasty: bool = False
    """Asks for a commit and never sends anything."""
    sent: bool = False
    staged: bool = False
    told: Result | None = None
    """What the object's status says: nobody may take it back."""

    @property
    def bases(self) -> set[str]:
        return {name for name in (self.transaction.base, self.transaction.restore) if name}


# ---- what strikes


Strike = tuple[str, int] | None
"""How, and at which moment of an operation."""

strikes: st.SearchStrategy[Strike] = st.one_of(
    st.none(),
    st.none(),
    st.tuples(
        st.sampled_from(("kill", "cut", "flushed", "lost")),
        st.one_of(st.integers(1, 40), st.integers(1, 160)),
    ),
)


class Watch:
    """The fault hook: lets somebody look at every moment, and strikes at one of them."""

    def __init__(self, node: ModelNode, strike: Strike, look: Callable[[], None]) -> None:
        self._node, self._look = node, look
        self._how, self._stop = strike if strike is not None else ("", 0)
        self.struck = False
        self.count = 0

    def __call__(self, moment: Moment, operation: str, arguments: Mapping[str, object]) -> None:
        self._look()
        self.count += 1
        if self.count != self._stop:
            return
        self.struck = True
        if self._how == "lost":
            raise errors.CommandTimeout(f"{operation} did not answer")
        self._node.faults = None
        if self._how == "kill":
            raise Killed
        self._node.power_cut(flushed=self._how == "flushed")
        raise PowerCut


@dataclass
class Strangers:
    """What others have put into the repository: never destroyed."""

    snapshots: dict[int, str] = field(default_factory=dict)
    """Name by guid."""
    datasets: dict[int, str] = field(default_factory=dict)
    """Last component of the name, by guid."""
    writes: dict[int, dict[str, bytes]] = field(default_factory=dict)
    """Written into datasets, by guid."""
    holds: dict[int, str] = field(default_factory=dict)
    """Tag by the snapshot's guid."""
