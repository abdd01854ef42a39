"""Working copies for tests: written to, looked at, synced, and checked."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsg.manifests import tree
from dsg.manifests.entries import File, Link
from dsg.workcopy.base import Base
from dsg.workcopy.clone import clone, origin_of
from dsg.workcopy.init import init
from dsg.workcopy.layout import Layout
from dsg.workcopy.origin import Origin
from dsg.workcopy.remote import Repository
from dsg.workcopy.results import Cloned, Done, Synced, Undecided
from dsg.workcopy.sync import Options, sync
from tests.workcopy.server import FakeRemote, Server

MOMENT = 1_750_000_000_123_456_789


@dataclass(frozen=True)
class Thing:
    """A file or link."""

    content: bytes | str
    """Text of a link as str."""
    mode: int = 0o644
    mtime: int = MOMENT


Things = dict[str, Thing]


def origin(repository: Repository) -> Origin:
    return origin_of(repository, context="", namespace="research", name="justice")


def write(root: Path, path: str, thing: Thing) -> None:
    """Put a thing in place as editors do: made beside, then renamed."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.tmp")
    if isinstance(thing.content, str):
        beside.symlink_to(thing.content)
    else:
        beside.write_bytes(thing.content)
        beside.chmod(thing.mode)
        os.utime(beside, ns=(thing.mtime, thing.mtime))
    beside.rename(target)


def things(root: Path) -> Things:
    """Return all that is not hidden."""
    found: Things = {}
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if not name.startswith(".")]
        here = Path(directory)
        for name in [*files, *(n for n in names if (here / n).is_symlink())]:
            path = here / name
            if name.startswith("."):
                continue
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = Thing(os.readlink(path))
            else:
                status = path.stat()
                found[key] = Thing(path.read_bytes(), status.st_mode & 0o777, status.st_mtime_ns)
    return found


@dataclass
class Copy:
    """A working copy and who has it."""

    server: Server
    root: Path
    author: str = "ana"
    remote: FakeRemote = field(init=False)

    def __post_init__(self) -> None:
        self.remote = FakeRemote(self.server, self.author)

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    def put(self, wanted: dict[str, Thing | None]) -> None:
        """Write and delete."""
        for path, thing in wanted.items():
            if thing is None:
                target = self.root / path
                target.unlink()
                while not any((target := target.parent).iterdir()):
                    target.rmdir()
            else:
                write(self.root, path, thing)

    def init(self, **options: Any) -> Synced:
        self.root.mkdir(exist_ok=True)
        return init(self.root, self.remote, origin, Options(**options))

    def clone(self) -> Cloned:
        return clone(self.root, self.remote, origin)

    def sync(self, **options: Any) -> Synced:
        return sync(self.layout, self.remote, Options(**options))

    def done(self, **options: Any) -> Done:
        result = self.sync(**options)
        assert isinstance(result, Done), result
        return result

    def blocked(self, **options: Any) -> Undecided:
        result = self.sync(**options)
        assert isinstance(result, Undecided), result
        return result

    def decide(self, word: str) -> None:
        """Decide all conflicts alike; `mine` where the word is not offered."""
        text = self.layout.conflicts.read_text()
        lines = []
        for line in text.splitlines():
            offered = re.match(r"  keep \((.*)\): ", line)
            if offered:
                lines.append(f"{offered[0]}{word if word in offered[1] else 'mine'}")
            else:
                lines.append(line)
        self.layout.conflicts.write_text("\n".join(lines) + "\n")

    def kept(self) -> set[bytes | str]:
        """Return all contents that are kept for good."""
        found: set[bytes | str] = set()
        for path in self.layout.kept.rglob("*"):
            if path.is_symlink():
                found.add(os.readlink(path))
            elif path.is_file():
                found.add(path.read_bytes())
        return found

    def settled(self) -> None:
        """Check that L, C and R are one, and that nothing is left over."""
        seen = self.server.head()
        state = Base(self.layout.base).state()
        assert seen is not None
        assert state is not None
        assert state.header == seen
        assert state.plain
        here = things(self.root)
        for entry in tree.entries(Base(self.layout.base), state.tree):
            found = here.pop(entry.path)
            if isinstance(entry, File):
                assert (found.mode, found.mtime) == (entry.mode, entry.mtime), entry.path
            else:
                assert isinstance(entry, Link)
                assert found.content == entry.target
        assert here == {}
        assert {path: thing.content for path, thing in things(self.root).items()} == self.server.seen()
        self.tidy()

    def tidy(self) -> None:
        """Check that nothing of a sync is left over."""
        names = {path.name for path in self.layout.metadata.iterdir()}
        assert names <= {"origin.yaml", "lock", "scan.db", "unchanged", "base", "kept", "sync", "store"}, names
        assert list(self.layout.sync.iterdir()) == []
        assert not self.layout.store.exists() or list(self.layout.store.iterdir()) == []
        directories = [path for path in self.root.rglob("*") if path.is_dir() and ".dsg" not in path.parts]
        assert all(any(path.iterdir()) for path in directories)
        assert self.server.open_transactions() == []
