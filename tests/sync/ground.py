"""Trees for the tests of syncing, a server and a working copy as plain dictionaries, and sides made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import strategies as st

from dsg.manifests.changes import Gone, Place, encode_change, read_changes
from dsg.manifests.compare import AUTHORED, aspects
from dsg.manifests.digest import Summary
from dsg.manifests.entries import Entry, File, FileState, Link, LinkState, State
from dsg.manifests.header import Commit, Header
from dsg.manifests.ordering import in_order
from dsg.sync.plan import Fetch, Move, Plan, Remember, Remove, SetAttributes
from dsg.sync.sides import NeverSynced, NoVersion, Sides, Version, WorkingCopy

Tree = dict[str, Entry]
NAMES = ("a", "b", "a-b", "a.b", "c")
ME, VERSION = "me", "s9"


def file(path: str, content: int, mtime: int = 0, mode: int = 0o644, author: str = "ana") -> File:
    return File(path, content, mtime, mode, f"{content:x}" * 64, author, "s1")


@st.composite
def entries(draw: st.DrawFn, path: str) -> Entry:
    author = draw(st.sampled_from(["ana", "bo"]))
    if draw(st.integers(0, 9)) == 0:
        return Link(path, draw(st.sampled_from(NAMES)), author, "s1")
    content, mtime = draw(st.integers(0, 3)), draw(st.integers(0, 2))
    return file(path, content, mtime, draw(st.sampled_from([0o644, 0o644, 0o600])), author)


@st.composite
def trees(draw: st.DrawFn, like: Tree | None = None) -> Tree:
    """A valid tree of few paths, or one that has much in common with another."""
    found: Tree = {}
    for path, entry in (like or {}).items():
        match draw(st.integers(0, 5)):
            case 0:
                pass
            case 1 | 2:
                found[path] = draw(entries(path))
            case _:
                found[path] = entry
    for _ in range(draw(st.integers(0, 3 if like else 5))):
        path = "/".join(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)))
        if not any(p.startswith(f"{path}/") or path.startswith(f"{p}/") for p in found):
            found[path] = draw(entries(path))
    return found


@st.composite
def threes(draw: st.DrawFn) -> tuple[Tree, Tree, Tree]:
    """L, C and R that have much in common."""
    cached = draw(trees())
    return draw(trees(cached)), cached, draw(trees(cached))


def line(tree: Tree) -> list[Entry]:
    return sorted(tree.values(), key=lambda entry: entry.key)


def header(version: str, tree: Tree) -> Header:
    previous = None if version == "s1" else "0" * 64
    commit = Commit(version, previous, "ana", datetime(2026, 1, 31, tzinfo=UTC), "", "t")
    return Header(commit, Summary(len(tree), 0, "1" * 64, "2" * 64))


def version(name: str, tree: Tree) -> Version:
    return Version(header(name, tree), lambda: line(tree))


def working_copy(tree: Tree) -> WorkingCopy:
    return WorkingCopy(len(tree), lambda: map(state, line(tree)))


def sides(local: Tree, cached: Tree | None, remote: Tree | None) -> Sides:
    return Sides(
        working_copy(local),
        NeverSynced() if cached is None else version("s4", cached),
        NoVersion() if remote is None else version("s6", remote),
    )


def same(one: Entry | State | None, other: Entry | State | None) -> bool:
    if one is None or other is None:
        return one is other
    return not aspects(one, other) & AUTHORED


def state(entry: Entry | State) -> State:
    """The entry without its author."""
    if isinstance(entry, File):
        return FileState(entry.path, entry.size, entry.mtime, entry.mode, entry.digest)
    return LinkState(entry.path, entry.target) if isinstance(entry, Link) else entry


def bare(tree: Mapping[str, Entry | State]) -> dict[str, State]:
    """The tree without authors."""
    return {path: state(entry) for path, entry in tree.items()}


def contents(tree: Mapping[str, Entry | State]) -> set[str]:
    return {entry.digest if isinstance(entry, File | FileState) else entry.target for entry in tree.values()}


def committed(plan: Plan, remote: Tree) -> Tree:
    """What the server makes of a plan's changes, by the rules of dsg.transactions.build."""
    lines = [encode_change(change) for change in plan.changes()]
    head = dict(remote)
    for change in read_changes(lines, "the changes"):
        before = remote.get(change.path)
        if isinstance(change, Gone):
            assert before is not None
            del head[change.path]
            continue
        assert isinstance(change, Place)
        if change.source is not None:
            source, state = remote[change.source], change.state
            assert isinstance(source, File)
            assert (source.digest, source.size) == (state.digest, state.size)  # type: ignore[union-attr]
        entry = change.signed(ME, VERSION)
        assert before is None or aspects(before, entry), "a change that changes nothing"
        if before is not None and not aspects(before, entry) & AUTHORED:
            entry = change.signed(before.author, before.version)
        head[change.path] = entry
    list(in_order(line(head)))
    return head


def carried_out(plan: Plan, local: Tree) -> dict[str, State]:
    """The working copy after a plan's operations; nothing may stand in the way of any of them."""
    now = bare(local)
    for operation in plan.operations():
        match operation:
            case Move(entry, to):
                assert to not in now
                assert now.pop(entry.path) == entry
                now[to] = replace(entry, path=to)
            case Remove(entry):
                assert now.pop(entry.path) == entry
            case Fetch(entry, replaces, _, source):
                assert now.get(entry.path) == replaces
                assert not any(p.startswith(f"{entry.path}/") or entry.path.startswith(f"{p}/") for p in now)
                if source is not None:
                    original = local[source]
                    assert isinstance(original, File)
                    assert isinstance(entry, File)
                    assert original.digest == entry.digest
                now[entry.path] = state(entry)
            case SetAttributes(entry, replaces):
                assert now[entry.path] == replaces
                assert (entry.digest, entry.size) == (replaces.digest, replaces.size)
                now[entry.path] = state(entry)
            case Remember(path, remembered):
                assert now.get(path) is None if remembered is None else same(now.get(path), remembered)
    return now


def remembered(plan: Plan, cached: Tree, head: Tree) -> Tree:
    """The cache after a plan: each entry from the change or the operation on its path."""
    now = dict(cached)
    for change in plan.changes():
        if isinstance(change, Gone):
            now.pop(change.path, None)
        else:
            now[change.path] = head[change.path]
    for operation in plan.operations():
        match operation:
            case Remove(entry):
                now.pop(entry.path, None)
            case Remember(path, None):
                del now[path]
            case Fetch(entry) | SetAttributes(entry) | Remember(_, entry) if entry is not None:
                now[entry.path] = entry
            case _:
                pass
    return now
