"""Entries, trees and commits for hypothesis; trees are small and their names alike, so that paths meet."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from datetime import UTC, datetime

from hypothesis import strategies as st

from dsg.manifests.codec import Reader, write
from dsg.manifests.entries import Entry, EntryError, File, Link, check_path, check_target
from dsg.manifests.header import Commit, Header

DIGESTS = [f"{n:064x}" for n in (0, 1, 2**256 - 1)]
AUTHORS = ["ana", "bo@example.org", 'o"neil, "author":', "Jörg 🦉"]
VERSION = "s40"

raw_names = st.one_of(
    st.sampled_from([b"a", b"b", b"a-b", b"a.b", b"c", b"a\n", b'"', b"\\", b"\xff", b"\xed\xb2\x80", "é".encode()]),
    st.binary(min_size=1, max_size=6).filter(lambda raw: not {0, 0x2F} & set(raw) and raw not in {b".", b".."}),
)


def _valid_path(path: str) -> bool:
    try:
        check_path(path)
    except EntryError:
        return False
    return True


paths = st.lists(raw_names, min_size=1, max_size=3).map(b"/".join).map(os.fsdecode).filter(_valid_path)

targets = st.builds(
    lambda up, down: os.fsdecode(b"/".join([b".."] * up + down)),
    st.integers(0, 3),
    st.lists(st.one_of(raw_names, st.just(b"."), st.just(b"")), max_size=3),
)

authors = st.sampled_from(AUTHORS)
versions = st.integers(1, 40).map(lambda n: f"s{n}")


@st.composite
def files(draw: st.DrawFn, path: str) -> File:
    return File(
        path,
        draw(st.sampled_from([0, 1, 2**63 - 1])),
        draw(st.sampled_from([0, -1, 1_764_000_000_123_456_789])),
        draw(st.sampled_from([0, 0o7, 0o644, 0o777])),
        draw(st.sampled_from(DIGESTS)),
        draw(authors),
        draw(versions),
    )


@st.composite
def links(draw: st.DrawFn, path: str) -> Entry:
    target = draw(targets)
    try:
        check_target(path, target)
    except EntryError:
        target = "a"
    return Link(path, target, draw(authors), draw(versions))


@st.composite
def trees(draw: st.DrawFn) -> list[Entry]:
    """A tree that can exist, in no particular order."""
    found: dict[str, Entry] = {}
    for path in draw(st.lists(paths, unique=True, max_size=8)):
        parts = path.split("/")
        above = {"/".join(parts[:n]) for n in range(1, len(parts))}
        if above & found.keys() or any(other.startswith(path + "/") for other in found):
            continue
        found[path] = draw(files(path) if draw(st.integers(0, 3)) else links(path))
    return list(found.values())


def ordered(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: os.fsencode(entry.path))


@st.composite
def variants(draw: st.DrawFn, tree: list[Entry]) -> list[Entry]:
    """A tree that has much in common with another."""
    kept = {entry.path: entry for entry in tree if draw(st.integers(0, 4))}
    for path in list(kept):
        if not draw(st.integers(0, 2)):
            kept[path] = draw(files(path) if draw(st.integers(0, 3)) else links(path))
    for entry in draw(trees()):
        parts = entry.path.split("/")
        above = {"/".join(parts[:n]) for n in range(1, len(parts))}
        if not above & kept.keys() and not any(other.startswith(entry.path + "/") for other in kept):
            kept.setdefault(entry.path, entry)
    return list(kept.values())


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[Entry], list[Entry]]:
    """Two trees in order that have much in common."""
    one = draw(trees())
    return ordered(one), ordered(draw(variants(one)))


times = st.datetimes(max_value=datetime(9999, 12, 31)).map(lambda t: t.replace(microsecond=0, tzinfo=UTC))
messages = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
commits = st.builds(
    Commit,
    st.just(VERSION),
    st.none() | st.sampled_from(DIGESTS),
    authors,
    times,
    messages,
    st.sampled_from(["t", "3f2b-9A", "x" * 64]),
)

A_COMMIT = Commit(VERSION, DIGESTS[1], "ana", datetime(2026, 11, 25, 12, 0, 5, tzinfo=UTC), "as received", "7f-1")


def written(entries: Iterable[Entry], commit: Commit = A_COMMIT) -> bytes:
    target = io.BytesIO()
    write(target, commit, entries)
    return target.getvalue()


def read(raw: bytes, name: str = "the manifest") -> tuple[Header, list[Entry]]:
    reader = Reader(io.BytesIO(raw), name)
    return reader.header, list(reader)


def file(path: str, **values: object) -> File:
    given: dict[str, object] = {
        "size": 3,
        "mtime": 1_764_000_000_123_456_789,
        "mode": 0o644,
        "digest": DIGESTS[1],
        "author": "ana",
        "version": "s1",
    }
    return File(path, **(given | values))  # type: ignore[arg-type]
