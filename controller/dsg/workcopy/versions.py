"""Looking at versions: log, blame, differences, listings, and old files brought back beside the working copy."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dsg.manifests import history, tree
from dsg.manifests.compare import NOTHING, aspects
from dsg.manifests.entries import Entry, File, to_bytes, version_number
from dsg.manifests.header import Header
from dsg.manifests.history import HistorySource
from dsg.scan.scan import Scan
from dsg.sync.states import Local
from dsg.transfer.contents import Wanted
from dsg.workcopy.apply import repeated
from dsg.workcopy.base import KeptHistory
from dsg.workcopy.beside import Beside
from dsg.workcopy.errors import NoSuchVersion, NoVersionYet
from dsg.workcopy.files import Files, set_attributes
from dsg.workcopy.layout import Layout
from dsg.workcopy.origin import read_origin
from dsg.workcopy.prepare import Reading
from dsg.workcopy.remote import Remote, VersionGone
from dsg.workcopy.results import Blamed, Differing, Fetched, Left, Phase, Progress, Watch
from dsg.workcopy.sync import nobody


@dataclass(frozen=True, slots=True)
class Here:
    """L: the working copy as it is."""


@dataclass(frozen=True, slots=True)
class Last:
    """C: the working copy as it was at the last sync."""


@dataclass(frozen=True, slots=True)
class At:
    """A version; None for the head."""

    version: str | None = None


Point = Here | Last | At


class Versions:
    """The versions of one repository, seen from a working copy. Use it as a context manager.

    It may be used beside a sync, disturbs none, and writes nothing to the working copy but the stat cache. Nodes and
    history that the working copy has are not fetched again; what is fetched is gone at the end. Methods raise
    RemoteError (VersionGone), NoVersionYet, NoSuchVersion, MovedOn, NodeError, HistoryError.
    """

    def __init__(self, layout: Layout, remote: Remote) -> None:
        self._layout = layout
        self._remote = remote
        self._base = Beside(layout)
        self._reading = Reading(remote)
        self._known: dict[str, Header] = {}

    def __enter__(self) -> Versions:
        return self

    def __exit__(self, *_error: object) -> None:
        self._reading.close()
        self._base.__exit__(None, None, None)

    @property
    def scratch(self) -> Path:
        """Where this command keeps what it has fetched."""
        return self._base.directory

    # ---- headers

    def head(self) -> Header:
        """Return the head's header; its history is proved. Raises NoVersionYet."""
        said = self._remote.repository().head
        if said is None:
            raise NoVersionYet("the repository has no version yet; make the first one with `kubectl dsg init`")
        if said.version in self._known:
            return self._known[said.version]
        state = self._base.state()
        if state is not None and (state.header.version, state.header.chain) == (said.version, said.digest):
            header = state.header
        else:
            reader = self._reading.of(said.version)
            header = reader.header()
            history.verify(KeptHistory(self._base, reader, said.version), said.version, said.digest)
        self._known[said.version] = header
        return header

    def header(self, version: str | None) -> Header:
        """Return the header of a version, None for the head. Raises NoSuchVersion."""
        head = self.head()
        if version is None or version == head.version:
            return head
        first = history_begins(self._base, head)
        if not version_number(first) <= version_number(version) <= version_number(head.version):
            raise NoSuchVersion(f"there is no version {version}; the repository has {first} to {head.version}")
        if version not in self._known:
            self._known[version] = next(history.headers(self._base, version, version))
        return self._known[version]

    def log(
        self, *, since: datetime | None = None, author: str | None = None, limit: int | None = None
    ) -> Iterator[Header]:
        """Yield headers, newest first: of versions from a time on, by an author, at most so many.

        Times need not rise from version to version, so all are looked at.
        """
        head = self.head()
        given = 0
        for header in history.headers(self._base, history_begins(self._base, head), head.version, newest_first=True):
            if limit is not None and given >= limit:
                return
            commit = header.commit
            if (since is None or commit.time >= since) and (author is None or commit.author == author):
                given += 1
                yield header

    # ---- what versions hold

    def ls(self, version: str | None = None, below: str = "") -> Iterator[Entry]:
        """Yield the entries of a version: a path's, or those below it; all with ""."""
        header = self._whole(version)
        yield from _chosen(self._all(header), [below] if below else [])

    def entry(self, path: str, version: str | None = None) -> Entry | None:
        """Return the entry of a path, None where the version does not have it. Reads a node for each level."""
        header = self.header(version)
        return tree.lookup(self._base.source(self._reading, header.version), header.summary, path)

    def blame(self, path: str, version: str | None = None) -> Iterator[Blamed]:
        """Yield the changes of a path, newest first, by following who last changed it from version to version.

        Raises NoSuchVersion where the version does not have the path.
        """
        entry = self.entry(path, version)
        at = self.header(version)
        if entry is None:
            raise NoSuchVersion(f"{at.version} has no {path!r}; `kubectl dsg ls` tells what it has")
        first = version_number(history_begins(self._base, self.head()))
        while entry is not None:
            header = self.header(entry.version)
            number = version_number(entry.version) - 1
            if number < first:
                yield Blamed(header, entry, added=True)
                return
            try:
                before = self.entry(path, f"s{number}")
            except VersionGone as gone:
                yield Blamed(header, entry, added=False, ends=str(gone))
                return
            yield Blamed(header, entry, added=before is None)
            entry = before

    def diff(self, before: Point, after: Point, watch: Watch = nobody) -> Iterator[Differing]:
        """Yield what differs from one point to the other, in path order; times count.

        With `Here`, an error of the scan (ScanFailed) comes at the end: what was not seen is among the differences.
        """
        if isinstance(before, At) and isinstance(after, At):
            one, other = self.header(before.version), self.header(after.version)
            with Reading(self._remote) as second:
                nodes = (
                    self._base.source(self._reading, one.version),
                    self._base.source(second, other.version),
                )
                for found in tree.differences(nodes[0], one.summary, nodes[1], other.summary):
                    old, new = getattr(found, "before", None), getattr(found, "after", None)
                    yield _differing(old, new)
            return
        covers = read_origin(self._layout).synced.scope().covers
        sides = [(entry for entry in self._entries(point, watch) if covers(entry.path)) for point in (before, after)]
        yield from _beside(*sides)

    def _entries(self, point: Point, watch: Watch) -> Iterator[Entry | Local]:
        if isinstance(point, At):
            header = self._whole(point.version)
            yield from self._all(header)
        elif isinstance(point, Last):
            yield from self._base.last(self._remote)
        else:
            scope = read_origin(self._layout).synced.scope()
            yield from Scan(
                self._layout.root,
                scope,
                cache=self._layout.scan,
                progress=lambda p: watch(Progress(Phase.SCANNING, p.files + p.links, p.size)),
            )

    def _whole(self, version: str | None) -> Header:
        header = self.header(version)
        self._base.complete(header.summary, lambda: self._reading.of(header.version))
        return header

    def _all(self, header: Header) -> Iterator[Entry]:
        return tree.entries(self._base.source(self._reading, header.version), header.summary)

    # ---- contents

    def fetch(self, version: str | None, paths: Sequence[str], into: Path, watch: Watch = nobody) -> Fetched:
        """Bring files and links of a version, and what lies below directories, to a directory; all with no paths.

        They get the paths they have in the version. What stands there already is left. Raises NoSuchVersion where the
        version has none of a path. Interrupted, nothing but a hidden directory is left over.
        """
        header = self._whole(version)
        into.mkdir(parents=True, exist_ok=True)
        aside = f".dsg-fetch-{secrets.token_hex(4)}"
        with Files(into) as files:
            store = into / aside
            store.mkdir(mode=0o700)
            try:
                return self._fetch(header, paths, files, store, watch)
            finally:
                files.remove_tree(aside.encode())

    def _fetch(self, header: Header, paths: Sequence[str], files: Files, store: Path, watch: Watch) -> Fetched:
        def chosen() -> Iterator[Entry]:
            return _chosen(self._all(header), paths)

        for path in paths:
            if next(_chosen(self._all(header), [path]), None) is None:
                raise NoSuchVersion(f"{header.version} has no {path!r}; `kubectl dsg ls` tells what it has")
        total = size = 0
        for entry in chosen():
            if isinstance(entry, File) and entry.size:
                total, size = total + 1, size + entry.size
        if total:
            wanted = (Wanted(e.path, e.size, e.digest) for e in chosen() if isinstance(e, File) and e.size)
            self._reading.of(header.version).fetch(
                wanted, store, lambda done, got: watch(Progress(Phase.FETCHING, done, got, total, size))
            )
        several = repeated(chosen())
        count = size = 0
        left: list[Left] = []
        for entry in chosen():
            try:
                _place(files, store.name.encode(), entry, several)
            except (FileExistsError, NotADirectoryError):
                left.append(Left(entry.path, "something stands there; it is left as it is"))
                continue
            count += 1
            size += entry.size if isinstance(entry, File) else 0
        return Fetched(header, count, size, tuple(left))


def history_begins(source: HistorySource, head: Header) -> str:
    """Return the version that a proved history begins with."""
    return history.verify(source, head.version, head.chain)


def _chosen(entries: Iterable[Entry], paths: Sequence[str]) -> Iterator[Entry]:
    """Yield the entries at or below paths; all with none."""
    whole = [to_bytes(path.rstrip("/")) for path in paths]
    for entry in entries:
        if not whole or any(entry.key == one or entry.key.startswith(one + b"/") for one in whole):
            yield entry


def _place(files: Files, store: bytes, entry: Entry, several: frozenset[int]) -> None:
    path = to_bytes(entry.path)
    if not isinstance(entry, File):
        files.link(path, to_bytes(entry.target))
        return
    content, place = store + b"/" + entry.digest.encode(), store + b"/place"
    if not entry.size:
        files.make_empty(place)
        content = place
    elif int(entry.digest[:16], 16) in several:
        files.copy(content, place)
        content = place
    with files.open(content) as file:
        set_attributes(file.fileno(), entry.mode, entry.mtime)
    files.move(content, path)


def _differing(old: Entry | Local | None, new: Entry | Local | None) -> Differing:
    one = old if old is not None else new
    if one is None:
        raise AssertionError("a difference of nothing")
    return Differing(one.path, old, new, NOTHING if old is None or new is None else aspects(old, new))


def _beside(before: Iterable[Entry | Local], after: Iterable[Entry | Local]) -> Iterator[Differing]:
    olds, news = iter(before), iter(after)
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old.key < new.key):
            yield _differing(old, None)
            old = next(olds, None)
        elif old is None or new.key < old.key:
            yield _differing(None, new)
            new = next(news, None)
        else:
            if aspects(old, new):
                yield _differing(old, new)
            old, new = next(olds, None), next(news, None)
