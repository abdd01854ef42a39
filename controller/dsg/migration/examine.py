"""One older version, its content beside its manifest: what it is to be in the new repository, and what is wrong.

First without reading contents, so that names and missing files are told before anything is sent; then with every file
read and hashed by both XXH3, which the manifest names, and BLAKE3, by which it is known from then on.
"""

from __future__ import annotations

import os
import stat
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from dsg.manifests.entries import MAX_MODE, EntryError, FileState, LinkState, to_bytes
from dsg.migration.findings import Findings, Kind
from dsg.migration.manifest import OldEntry, OldFile, OldLink, OldManifest
from dsg.migration.parts import xxh3
from dsg.migration.source import OldVersion
from dsg.scan.listing import open_below, open_file
from dsg.scan.problems import Kind as ScanKind
from dsg.scan.problems import Problems
from dsg.scan.scope import Scope
from dsg.scan.walk import Found, Walk
from dsg.sync.names import NameRules, check, collisions, normalized

_CHUNK = 1 << 20
YOUNG = 2_000_000_000
"""Nanoseconds within which a change of a directory may not show in its times."""
_SECOND = 10**9
_ZERO = "0" * 64
Identity = tuple[int, int, int, int]
"""Inode, size, and both times: what is equal in two snapshots of one file system is one content."""
Known = dict[str, tuple[Identity, str, str]]
"""By path: identity, XXH3 and BLAKE3 of what was read last."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the new Repository takes."""

    scope: Scope
    names: NameRules
    normalize: bool = False
    """Whether names that it does not admit are made good."""


@dataclass(frozen=True, slots=True)
class Item:
    """A file or link of a version that is to be."""

    state: FileState | LinkState
    open: Callable[[], BinaryIO] | None = None
    """Opens the content of a file, to be read from the beginning."""


@dataclass(slots=True)
class Examined:
    """What was found of a version."""

    version: OldVersion
    findings: Findings
    items: dict[str, Item] = field(default_factory=dict)
    """By the path in the new repository. Without reading contents, digests are zeros."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Paths of the older repository that have another name in the new one."""
    verified: int = 0
    """Files whose content is what the manifest says."""
    mismatched: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By path: what the manifest says, and what was found."""
    unlisted: list[str] = field(default_factory=list)
    size: int = 0
    """Bytes of content."""


def examine(
    version: OldVersion, rules: Rules, *, read: bool, known: Known | None = None, tell: Callable[[int, int], None]
) -> Examined:
    """Look at a version whose content is there. `known` is used for what did not change, and kept up to date.

    Raises PartMissing, OSError where the root can't be opened.
    """
    if version.content is None:
        raise ValueError(f"{version.name} has no content")
    made = Examined(version, Findings(version.name))
    _Examining(made, version.content, rules, known if known is not None else {}, read=read, tell=tell).run()
    return made


class _Examining:
    def __init__(
        self,
        made: Examined,
        root: Path,
        rules: Rules,
        known: Known,
        *,
        read: bool,
        tell: Callable[[int, int], None],
    ) -> None:
        self._made, self._root, self._rules = made, root, rules
        self._known, self._read, self._tell = known, read, tell
        self._found = made.findings
        manifest = made.version.manifest
        self._manifest: OldManifest | None = manifest
        self._listed: dict[str, OldEntry] = {}
        for path, entry in made.version.entries().items():
            if _covered(rules.scope, path):
                self._listed[path] = entry
            else:
                self._found.add(Kind.OUTSIDE, path, f"{path!r} is in the manifest, and the new Repository syncs it not")

    def run(self) -> None:
        problems = Problems()
        before = time.time_ns() - YOUNG
        spelled = self._spellings()
        seen: set[str] = set()
        for found in Walk(self._root, self._rules.scope, problems, settled_before=before):
            path = found.path
            listed = path if path in self._listed else spelled.get(path, path)
            seen.add(listed)
            self._one(found, listed, self._listed.get(listed))
        for problem in problems.all:
            seen.add(problem.path)
            refused = problem.kind in {ScanKind.REFUSED, ScanKind.SPECIAL}
            kind = Kind.REFUSED if refused else Kind.UNREADABLE
            self._found.add(kind, problem.path, problem.message.partition(";")[0])
        for path in sorted(self._listed.keys() - seen):
            self._found.add(Kind.MISSING, path, f"{path!r} is in the manifest, and is not there")
        if self._manifest is None:
            self._found.add(Kind.UNVERIFIED, "", "there is no manifest, so nothing says what its files should be")
        self._collisions()

    def _spellings(self) -> dict[str, str]:
        """Return for paths on disk the path in the manifest, where they differ in Unicode's normal form alone.

        macOS and Linux write one name in different forms; DSG's own migration lost sight of thousands of files so.
        """
        if all(map(str.isascii, self._listed)):
            return {}
        walk = Walk(self._root, self._rules.scope, Problems(), settled_before=time.time_ns() - YOUNG)
        there = {one.path for one in walk}
        wanted: dict[str, list[str]] = {}
        for path in self._listed.keys() - there:
            wanted.setdefault(_composed(path), []).append(path)
        found: dict[str, list[str]] = {}
        for path in there - self._listed.keys():
            if _composed(path) in wanted:
                found.setdefault(_composed(path), []).append(path)
        # Two that differ in form alone are left to be told as unlisted and missing.
        return {
            paths[0]: wanted[form][0] for form, paths in found.items() if len(paths) == 1 and len(wanted[form]) == 1
        }

    def _one(self, found: Found | LinkState, path: str, listed: OldEntry | None) -> None:
        name = self._name(path)
        if path != found.path:
            self._made.renamed[found.path] = name
        if self._manifest is not None and listed is None:
            self._made.unlisted.append(path)
            self._found.add(Kind.UNLISTED, path, f"{path!r} is there, and the manifest does not list it")
        if isinstance(found, LinkState):
            self._link(found, path, name, listed)
        else:
            self._file(found, path, name, listed)

    # ---- files

    def _file(self, found: Found, path: str, name: str, listed: OldEntry | None) -> None:
        if isinstance(listed, OldLink):
            self._mismatch(path, f"a link to {listed.target!r}", "a file")
        old = listed if isinstance(listed, OldFile) else None
        digest = _ZERO
        status = found.status
        right = False
        if self._read:
            hashed = self._hashed(found, path)
            if hashed is None:
                return
            status, xxh3_digest, digest = hashed
            right = old is not None and old.hash == xxh3_digest and old.size == status.st_size
            if right:
                self._made.verified += 1
            elif old is not None and old.hash:
                self._mismatch(path, old.hash, xxh3_digest)
        elif old is not None and old.size != status.st_size:
            self._mismatch(path, f"{old.size} bytes", f"{status.st_size} bytes")
        if old is not None and not old.hash:
            self._found.add(Kind.UNVERIFIED, path, f"{path!r} has no hash in the manifest")
        mtime = status.st_mtime_ns
        # DSG did not carry times to the repository; the manifest has the time of the file that was synced.
        if right and old is not None and old.mtime is not None and mtime // _SECOND != old.mtime:
            mtime = old.mtime * _SECOND
        mode = stat.S_IMODE(status.st_mode) & MAX_MODE
        try:
            state = FileState(name, status.st_size, mtime, mode, digest)
        except EntryError as error:
            self._found.add(Kind.REFUSED, path, str(error))
            return
        self._made.size += status.st_size
        self._place(path, name, Item(state, _opener(self._root, found.path)))

    def _hashed(self, found: Found, path: str) -> tuple[os.stat_result, str, str] | None:
        """Return a file's status, XXH3 and BLAKE3; None where it could not be read, which is then told."""
        try:
            identity = _identity(found.status)
            kept = self._known.get(found.path)
            if kept is not None and kept[0] == identity:
                return found.status, kept[1], kept[2]
            descriptor = open_file(found.name, found.directory.descriptor)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    self._found.add(Kind.UNREADABLE, path, f"{path!r} is no file any more")
                    return None
                one, two, size = xxh3(), blake3(), 0
                buffer = memoryview(bytearray(_CHUNK))
                while count := file.readinto(buffer):
                    one.update(buffer[:count])
                    two.update(buffer[:count])
                    size += count
                after = os.fstat(descriptor)
        except OSError as error:
            self._found.add(Kind.UNREADABLE, path, f"{path!r} can't be read: {error.strerror or error}")
            return None
        if _identity(before) != _identity(after) or size != after.st_size:
            self._found.add(Kind.UNREADABLE, path, f"{path!r} changed while it was read; nobody may write there")
            return None
        self._known[found.path] = (_identity(after), one.hexdigest(), two.hexdigest())
        self._tell(1, size)
        return after, one.hexdigest(), two.hexdigest()

    # ---- links

    def _link(self, found: LinkState, path: str, name: str, listed: OldEntry | None) -> None:
        if isinstance(listed, OldFile):
            self._mismatch(path, f"a file of {listed.size} bytes", "a link")
        elif isinstance(listed, OldLink):
            if listed.target == found.target or _composed(listed.target) == _composed(found.target):
                self._made.verified += self._read
            else:
                self._mismatch(path, listed.target, found.target)
        target = found.target
        if self._rules.normalize:
            target = "/".join(map(self._fixed, target.split("/")))
        elif isinstance(listed, OldLink) and _composed(listed.target) == _composed(target):
            target = listed.target
        try:
            state = LinkState(name, target)
        except EntryError as error:
            self._found.add(Kind.REFUSED, path, str(error))
            return
        self._place(path, name, Item(state))

    # ---- names

    def _name(self, path: str) -> str:
        """Return a path as the new repository is to have it."""
        problems = check(path, self._rules.names)
        if not problems:
            return path
        good = normalized(path) if self._rules.normalize else problems
        if isinstance(good, str):
            self._made.renamed[path] = good
            return good
        for problem in good:
            self._found.add(Kind.NAME, path, str(problem))
        return path

    def _fixed(self, name: str) -> str:
        if name in {"", ".", ".."} or not check(name, self._rules.names):
            return name
        good = normalized(name)
        return good if isinstance(good, str) else name

    def _place(self, path: str, name: str, item: Item) -> None:
        if name in self._made.items:
            self._found.add(Kind.NAME, path, f"{path!r} would be {name!r}, which another file is already")
            return
        self._made.items[name] = item

    def _collisions(self) -> None:
        paths = sorted(self._made.items, key=to_bytes)
        above = {path[:at] for path in paths for at in range(len(path)) if path[at] == "/"}
        for path in sorted(above & self._made.items.keys()):
            self._found.add(Kind.NAME, path, f"{path!r} would be both a file and a directory")
        if self._rules.names is NameRules.PORTABLE:
            for one in collisions(lambda: paths):
                self._found.add(Kind.NAME, one.other, f"{one.one!r} and {one.other!r} are one file on some systems")

    def _mismatch(self, path: str, stated: str, found: str) -> None:
        self._made.mismatched[path] = (stated, found)
        self._found.add(Kind.MISMATCH, path, f"{path!r} should be {stated} by the manifest, and is {found}")


def _covered(scope: Scope, path: str) -> bool:
    try:
        return scope.covers(path)
    except (EntryError, UnicodeEncodeError, IndexError):
        # No path that any file could have.
        return False


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _identity(status: os.stat_result) -> Identity:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _opener(root: Path, path: str) -> Callable[[], BinaryIO]:
    def opened() -> BinaryIO:
        above, _, name = to_bytes(path).rpartition(b"/")
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            directory = open_below(top, above)
        finally:
            os.close(top)
        try:
            descriptor = open_file(name, directory)
        finally:
            os.close(directory)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(path)
        return os.fdopen(descriptor, "rb")

    return opened
