"""Repositories of any size and history, made directly: what a transaction would have left, without sending it.

The files and the manifest are put into the stage of an Init, which is then complete and is committed as any other.
Further versions have the same files and histories that follow each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from blake3 import blake3

from dsg.api.repository import ZfsStorage
from dsg.manifests import history, tree
from dsg.manifests.changes import Change, Place, encode_change
from dsg.manifests.entries import Entry, File, FileState
from dsg.manifests.header import Commit, Header
from dsg.storage.host import PathKind
from dsg.storage.layout import next_version
from dsg.storage.trees import Owning
from dsg.storage.zfs import layout
from dsg.storage.zfs.model.tree import Entry as ModelEntry
from dsg.transactions.metadata import CHANGES, HISTORY, NODES, Metadata, incoming
from dsg.transactions.transactor import Done, Operation, Stopped, Transaction
from tests.transactions.ground import MTIME, Ground, ModelGround

PER_DIRECTORY = 1000
MODE = 0o640
Put = Callable[[str, str, bytes], None]
"""Puts a file below a root, with `MODE` and `MTIME`."""


def path(number: int) -> str:
    """Return where a file lies; paths sort as their numbers do."""
    return f"d{number // PER_DIRECTORY:04}/interview-{number % PER_DIRECTORY:03}.txt"


def content(number: int, edit: str = "") -> bytes:
    """Return what a file holds; different for each."""
    return f"interview {number} {edit}\n".encode()


def entry(number: int) -> Entry:
    """Return a file's entry in the first version."""
    data = content(number)
    return File(path(number), len(data), MTIME, MODE, blake3(data).hexdigest(), "ana", "s1")


def owning(ground: Ground) -> Owning:
    """Return whose the files are."""
    owner = ground.target.spec.owner
    return Owning(owner.uid, owner.gid, int(owner.mode, 8))


def weightless(ground: ModelGround) -> Put:
    """Return what puts files into a model quickly. They take no space in it."""
    whose = owning(ground)
    made: set[tuple[str, str]] = set()

    def put(root: str, where: str, data: bytes) -> None:
        mounted = ground.node.files.resolve(root)
        assert mounted is not None
        filesystem = ground.node.files.mounts[mounted.mount].filesystem
        files = ground.node.pool(filesystem.name).writable_tree(filesystem)
        directory = where.rpartition("/")[0]
        if (root, directory) not in made:
            files.replace(directory, ModelEntry(PathKind.DIRECTORY, whose.uid, whose.gid, whose.directory_mode))
            made.add((root, directory))
        files.replace(where, ModelEntry(PathKind.OTHER, whose.uid, whose.gid, MODE, data=data, mtime=MTIME))

    return put


def directly(ground: Ground) -> Put:
    """Return what puts files into directories of this machine, quickly."""
    whose = owning(ground)
    made: set[str] = set()

    def put(root: str, where: str, data: bytes) -> None:
        file = Path(root, where)
        if str(file.parent) not in made:
            ground.trees.make_directory(root, where.rpartition("/")[0], owning=whose)
            made.add(str(file.parent))
        file.write_bytes(data)
        file.chmod(MODE)
        os.chown(file, whose.uid, whose.gid)
        os.utime(file, ns=(MTIME, MTIME))

    return put


def furnish(ground: Ground, files: int, put: Put) -> Header:
    """Make the first version of a repository; return its header."""
    transaction = Transaction("first", Operation.INIT, "ana", "all of it", "")
    place = ground.transactor.stage(ground.target, transaction)
    if isinstance(place, Stopped):
        raise RuntimeError(f"could not stage: {place.message}")  # noqa: TRY004  # no wrong argument
    root = place.rpartition("/.dsg/")[0]
    whose = owning(ground)
    for number in range(files):
        put(root, path(number), content(number))

    def node(digest: str, raw: bytes) -> None:
        ground.trees.write(root, f"{NODES}/{digest}", raw, mode=0o644, owning=whose)

    summary = tree.build((entry(number) for number in range(files)), node)
    header = Header(Commit("s1", None, "ana", ground.now, "all of it", transaction.uid), summary)
    _append(ground, root, header)
    done = ground.transactor.commit(ground.target, transaction)
    if not isinstance(done, Done) or done.header != header:
        raise RuntimeError(f"could not commit: {done}")
    ground.transactor.reveal(ground.target)
    # The empty generation that the repository began with.
    ground.transactor.clean(ground.target, ())
    return header


def _append(ground: Ground, root: str, header: Header) -> None:
    name, raw = history.append(Metadata(ground.trees, root), header)
    ground.trees.write(root, f"{HISTORY}/{name}", raw, mode=0o644, owning=owning(ground))


def lengthen(ground: Ground, newest: Header, versions: int) -> Header:
    """Give a repository on OpenZFS, or on its model, so many versions in all; return the header of the newest."""
    storage = ground.target.spec.storage
    zfs, host = ground.zfs, ground.host  # type: ignore[attr-defined]  # grounds on OpenZFS have both
    assert isinstance(storage, ZfsStorage)
    root = ground.public()
    dataset = f"{storage.dataset}/{root.rpartition('/')[2]}"
    host.remount(root, read_only=False)
    while int(newest.version[1:]) < versions:
        version = next_version(newest.version)
        said = Commit(version, newest.chain, "ana", ground.now, f"made {version}", f"made-{version}")
        newest = Header(said, newest.summary)
        _append(ground, root, newest)
        marks = {layout.TRANSACTION: said.transaction, layout.MANIFEST: newest.chain}
        zfs.snapshot([f"{dataset}@{version}"], marks)
    record = {layout.VERSION: newest.version, layout.TRANSACTION: newest.commit.transaction}
    zfs.set_properties(storage.dataset, record)
    host.remount(root, read_only=True)
    return newest


def edits(files: int, changes: int, edit: str) -> Iterator[tuple[Change, bytes]]:
    """Yield changes of that many files, spread evenly over all there are, and their contents."""
    for step in range(changes):
        number = (2 * step + 1) * files // (2 * changes)
        data = content(number, edit)
        yield Place(FileState(path(number), len(data), MTIME, MODE, blake3(data).hexdigest())), data


def send(ground: Ground, place: str, files: int, changes: int, edit: str) -> None:
    """Send an edit of files to a stage, as the data plane would."""
    root, whose = place.rpartition("/.dsg/")[0], owning(ground)
    lines = []
    for change, data in edits(files, changes, edit):
        assert isinstance(change, Place)
        assert isinstance(change.state, FileState)
        ground.trees.write(root, incoming(change.state.digest), data, mode=0o600, owning=whose)
        lines.append(encode_change(change))
    ground.trees.write(root, CHANGES, b"".join(lines), mode=0o600, owning=whose)
