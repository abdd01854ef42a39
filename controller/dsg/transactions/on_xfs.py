"""Transactions on a POSIX file system: a stage is a copy that shares blocks, the commit swaps a link by rename(2).

A version is a generation's directory; `head` is a link to the current one. What makes it safe is the order: the whole
tree is made durable (syncfs), then its name as a generation, then the link, each with an fsync of the directory. A
generation that is newer than the head was never committed; an older one is a version, and only a prune removes it.

A stage costs one inode for each file of the repository; content is shared where the file system has reflinks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from dsg.api.repository import XfsStorage
from dsg.manifests import tree
from dsg.manifests.entries import File, Link
from dsg.manifests.header import Header
from dsg.storage import errors, local_clone
from dsg.storage.host import Host, PathKind
from dsg.storage.layout import Part, PartName, is_generation, number, part_name
from dsg.storage.repository_type import Target
from dsg.storage.trees import FileKind, Owning, Trees
from dsg.storage.xfs.files import Files
from dsg.storage.xfs.repository import HEAD, OPEN, RECORD, storage_of
from dsg.transactions.commit import Committed, Head, HeadMoved, Outcome, Reason, Refused
from dsg.transactions.metadata import Metadata
from dsg.transactions.repository import Cleaned, Situation, Stage, VersionFound


class Clone(Protocol):
    """Copies a whole tree, sharing blocks where the file system can; repeated, it begins anew."""

    def __call__(self, source_root: str, root: str, *, owning: Owning) -> None:
        """Copy it."""


_OPEN_MODE = 0o700
_NEW = ".new-"
"""Before a part's name: it is being made."""
_GONE = ".gone-"
"""Before a generation's name: it is being removed."""
_NAMED = 8


class XfsTransactions:
    """Transactions on POSIX file systems (`dsg.transactions.repository.TransactionType`)."""

    def __init__(self, host: Host, files: Files, trees: Trees, clone: Clone = local_clone.clone) -> None:
        """`clone` copies a whole tree; see `dsg.storage.local_clone`."""
        self._host = host
        self._clone = clone
        self._files = files
        self._trees = trees

    def look(self, target: Target) -> Situation:
        """Return where a repository stands. Starts no process."""
        storage = storage_of(target)
        generation = self._head(storage)
        root = f"{storage.directory}/{generation}"
        header = Metadata(self._trees, root).header()
        stages = {}
        for name in self._files.names(f"{storage.directory}/{OPEN}"):
            part = part_name(name)
            if part is not None and part.part is Part.STAGE:
                stages[part.uid] = Stage(name, f"{storage.directory}/{OPEN}/{name}")
        for name, newer in self._newer(storage, generation):
            if newer is not None:
                stages[newer.commit.transaction] = Stage(name, f"{storage.directory}/{name}")
        return Situation(Head(generation, header.version if header is not None else ""), root, stages)

    def _head(self, storage: XfsStorage) -> str:
        path = f"{storage.directory}/{HEAD}"
        head = self._host.stat(path)
        if head is None or head.kind is not PathKind.LINK or not is_generation(head.target):
            raise errors.NotFound(f"{path} names no generation", subject=storage.directory)
        return head.target

    def _newer(self, storage: XfsStorage, head: str) -> Iterator[tuple[str, Header | None]]:
        for name in sorted(self._files.names(storage.directory), key=lambda n: (len(n), n)):
            if is_generation(name) and number(name) > number(head):
                yield name, Metadata(self._trees, f"{storage.directory}/{name}").header()

    def _generation_of(self, storage: XfsStorage, version: str) -> str | None:
        """Return the generation that carries a version, newest first."""
        head = number(self._head(storage))
        names = [n for n in self._files.names(storage.directory) if is_generation(n) and number(n) <= head]
        for name in sorted(names, key=number, reverse=True):
            header = Metadata(self._trees, f"{storage.directory}/{name}").header()
            if header is not None and header.version == version:
                return name
        return None

    # ---- parts

    def open(self, target: Target, uid: str, part: Part, version: str) -> str:
        """Make a part by copying a version's tree; an old version is read where it lies."""
        storage = storage_of(target)
        source = self._generation_of(storage, version) if version else None
        if version and source is None:
            text = f"there is no generation in {storage.directory} that carries version {version}"
            raise errors.NotFound(text, subject=storage.directory)
        if part is Part.READ:
            return f"{storage.directory}/{source}"
        root = self._path(storage, uid, part)
        if self._host.stat(root) is not None:
            return root
        new = f"{storage.directory}/{OPEN}/{_NEW}{PartName(part, uid)}"
        owning = self._owning(target)
        self._host.make_directory(f"{storage.directory}/{OPEN}", mode=_OPEN_MODE)
        self._host.make_directory(new, mode=owning.directory_mode)
        self._host.set_owner(new, uid=owning.uid, gid=owning.gid, mode=owning.directory_mode)
        if source is not None:
            self._require_whole(f"{storage.directory}/{source}")
            self._clone(f"{storage.directory}/{source}", new, owning=owning)
        self._files.rename(new, root)
        return root

    def _require_whole(self, root: str) -> None:
        """Raise InvalidValue where a version's tree is not what its manifest says, as far as lstat(2) can tell."""
        metadata = Metadata(self._trees, root)
        header = metadata.header()
        if header is None:
            return
        wrong: list[str] = []
        count = 0
        for entry in tree.entries(metadata, header.summary):
            count += 1
            facts = self._trees.facts(root, entry.path)
            if isinstance(entry, File):
                good = facts is not None and (facts.kind, facts.size, facts.mtime, facts.mode) == (
                    FileKind.FILE,
                    entry.size,
                    entry.mtime,
                    entry.mode,
                )
            else:
                good = isinstance(entry, Link) and facts is not None and facts.kind is FileKind.LINK
                good = good and facts is not None and facts.target == entry.target
            if not good:
                wrong.append(entry.path)
                if len(wrong) > _NAMED:
                    break
        if not wrong and sum(1 for _ in self._trees.walk(root)) != count:
            wrong.append("files that no manifest names")
        if wrong:
            raise errors.InvalidValue(
                f"{root}, version {header.version}, was changed by hand: {', '.join(wrong[:_NAMED])}. Set that right "
                "(from a backup, or by moving what was added away); until then no transaction starts from it",
                subject=root,
            )

    def root(self, target: Target, uid: str, part: Part) -> str:
        """Return a part's root directory."""
        storage = storage_of(target)
        if part is Part.STAGE:
            stage = self.look(target).stages.get(uid)
            return stage.root if stage is not None else ""
        path = self._path(storage, uid, part)
        return path if self._host.stat(path) is not None else ""

    def close(self, target: Target, uid: str, *parts: Part) -> None:
        """Remove parts; an old version is read where it lies, and stays."""
        for part in parts:
            if part is not Part.READ:
                self._close(target, uid, part)

    def _close(self, target: Target, uid: str, part: Part) -> None:
        storage = storage_of(target)
        self._files.remove_tree(f"{storage.directory}/{OPEN}/{_NEW}{PartName(part, uid)}")
        root = self.root(target, uid, part)
        if root:
            self._files.remove_tree(root)
        if part is Part.STAGE:
            self._files.remove_tree(self._path(storage, uid, part))

    def _path(self, storage: XfsStorage, uid: str, part: Part) -> str:
        return f"{storage.directory}/{OPEN}/{PartName(part, uid)}"

    # ---- the commit

    def commit(self, target: Target, uid: str, part: Part, base: Head, version: str, digest: str) -> Outcome:
        """Make the tree durable, name it as a generation, and swap the head."""
        storage, now = storage_of(target), self.look(target)
        newest = Metadata(self._trees, now.root).header()
        if newest is not None and newest.commit.transaction == uid:
            return Committed(newest.version, now.head, repeated=True)
        if now.head != base:
            return HeadMoved(now.head)
        root = self.root(target, uid, part)
        if not root:
            text = f"there is no staged tree of transaction {uid} in {storage.directory}; open a new transaction"
            return Refused(Reason.STAGED_MISSING, text, storage.directory)
        self._withdraw(storage, now.head.generation, uid)
        self._trees.sync(root)
        generation = root.rpartition("/")[2]
        if not is_generation(generation):
            taken = [number(name) for name in self._files.names(storage.directory) if is_generation(name)]
            generation = f"g{1 + max(taken, default=0)}"
            self._files.rename(root, f"{storage.directory}/{generation}")
        self._host.point_link(f"{storage.directory}/{HEAD}", generation)
        return Committed(version, Head(generation, version))

    def _withdraw(self, storage: XfsStorage, head: str, uid: str) -> None:
        """Take generations' names from trees whose commit was interrupted: the head is about to get such a name."""
        for name, header in list(self._newer(storage, head)):
            if header is None or header.commit.transaction == uid:
                continue
            stage = self._path(storage, header.commit.transaction, Part.STAGE)
            if self._host.stat(stage) is not None:
                # What it was rebased from is still there.
                self._remove(storage, name)
            else:
                self._files.rename(f"{storage.directory}/{name}", stage)

    def reveal(self, target: Target) -> str:
        """Return the head's directory: the swap of the head has let readers see it already."""
        storage = storage_of(target)
        return f"{storage.directory}/{self._head(storage)}"

    # ---- what is over

    def clean(self, target: Target, live: Collection[str]) -> Cleaned:
        """Remove parts of transactions that are over, and an empty first generation."""
        storage = storage_of(target)
        head = self._head(storage)
        removed, kept = [], []
        for name in sorted(self._files.names(f"{storage.directory}/{OPEN}")):
            part = part_name(name.removeprefix(_NEW))
            if part is not None and part.uid in live:
                continue
            self._files.remove_tree(f"{storage.directory}/{OPEN}/{name}")
            removed.append(name)
        for name in sorted(self._files.names(storage.directory)):
            path = f"{storage.directory}/{name}"
            if name in {RECORD, HEAD, OPEN, head} or name.startswith((f".{RECORD}.", f".{HEAD}.")):
                continue
            if not is_generation(name):
                kept.append(f"{path} is not this repository's own")
                continue
            header = Metadata(self._trees, path).header()
            if number(name) > number(head):
                if header is None:
                    kept.append(f"generation {path} is newer than the head and no transaction made it")
                elif header.commit.transaction not in live:
                    self._remove(storage, name)
                    removed.append(name)
            elif header is None:
                state = self._host.stat(path)
                if state is not None and state.empty:
                    self._host.remove_directory(path)
                    removed.append(name)
                else:
                    kept.append(f"generation {path} holds files and was never a version")
        return Cleaned(tuple(removed), tuple(kept))

    def _remove(self, storage: XfsStorage, generation: str) -> None:
        """Remove a generation; half-removed, it has not the name of one."""
        gone = f"{storage.directory}/{OPEN}/{_GONE}{generation}"
        self._host.make_directory(f"{storage.directory}/{OPEN}", mode=_OPEN_MODE)
        self._files.remove_tree(gone)
        self._files.rename(f"{storage.directory}/{generation}", gone)
        self._files.remove_tree(gone)

    # ---- versions

    def versions(self, targets: Sequence[Target]) -> Mapping[str, Sequence[VersionFound]]:
        """Return the versions of each repository by reading one small file of each."""
        result: dict[str, list[VersionFound]] = {}
        for target in targets:
            storage = storage_of(target)
            head = number(self._head(storage))
            found = result.setdefault(target.identity, [])
            for name in self._files.names(storage.directory):
                if is_generation(name) and number(name) <= head:
                    header = Metadata(self._trees, f"{storage.directory}/{name}").header()
                    if header is not None:
                        found.append(VersionFound(header.version, header.commit.time))
        return result

    def prune(self, target: Target, versions: Sequence[str]) -> None:
        """Remove the generations of versions."""
        storage = storage_of(target)
        for version in versions:
            generation = self._generation_of(storage, version)
            if generation is not None and generation != self._head(storage):
                self._remove(storage, generation)

    def _owning(self, target: Target) -> Owning:
        owner = target.spec.owner
        return Owning(owner.uid, owner.gid, int(owner.mode, 8))
