"""Files below a root: on the model, on this machine's directories, on OpenZFS and on XFS."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from dsg.storage.errors import (
    AlreadyExists,
    HasDependents,
    InvalidValue,
    NotFound,
    QuotaExceeded,
    ReadOnlyPool,
    StorageError,
)
from dsg.storage.trees import Facts, FileKind, Trees

from .bench import OWNING, Bench, Ground

NOT_UTF8 = os.fsdecode(b"caf\xe9 \xff")
TIMES = [0, 1, -1, 1_234_567_890_123_456_789, -987_654_321_012_345_678, 4_000_000_000_000_000_001]
WRONG = ["/etc", "..", "a/..", "a/../b", ".", "a//b", "a/", "/", "a\0b", "\ud800", "../one/a"]
AWKWARD = [NOT_UTF8, "new\nline", "-rf", "caf\u00e9", "cafe\u0301", " ", "...", "a" * 255]


def put(ground: Ground, path: str, content: bytes = b"content", *, root: str = "") -> None:
    ground.trees.write(root or ground.root, path, content, mode=0o640, owning=OWNING)


def found(trees: Trees, root: str, path: str) -> Facts:
    facts = trees.facts(root, path)
    assert facts is not None
    return facts


def paths(ground: Ground, root: str = "") -> set[str]:
    return {path for path, _ in ground.trees.walk(root or ground.root)}


# ---- looking


def test_a_file_is_there_with_mode_owner_and_content(ground: Ground) -> None:
    put(ground, "a/b/file", b"one\ntwo\n\nlast")
    facts = found(ground.trees, ground.root, "a/b/file")
    assert (facts.kind, facts.size, facts.mode, facts.target) == (FileKind.FILE, 13, 0o640, "")
    assert (facts.uid, facts.gid) == (OWNING.uid, OWNING.gid)
    assert facts.mtime > 1_600_000_000 * 10**9
    assert ground.trees.read(ground.root, "a/b/file") == b"one\ntwo\n\nlast"
    assert list(ground.trees.read_lines(ground.root, "a/b/file")) == [b"one\n", b"two\n", b"\n", b"last"]
    assert ground.trees.digest(ground.root, "a/b/file") == blake3(b"one\ntwo\n\nlast").hexdigest()
    for above in ("a", "a/b"):
        directory = found(ground.trees, ground.root, above)
        assert (directory.kind, directory.size, directory.mode) == (FileKind.DIRECTORY, 0, OWNING.directory_mode)
        assert (directory.uid, directory.gid) == (OWNING.uid, OWNING.gid)


def test_what_is_not_there_is_none_and_empty(ground: Ground) -> None:
    put(ground, "file")
    ground.trees.link(ground.root, "link", ".", owning=OWNING)
    for absent in ("none", "none/deeper", "file/deeper", "link/file"):
        assert ground.trees.facts(ground.root, absent) is None
        assert ground.trees.read(ground.root, absent) is None
        with pytest.raises(NotFound):
            ground.trees.digest(ground.root, absent)
        with pytest.raises(NotFound):
            list(ground.trees.read_lines(ground.root, absent))
        with pytest.raises(NotFound):
            ground.trees.written_by_nobody(ground.root, absent)
        ground.trees.remove(ground.root, absent)
        ground.trees.remove_tree(ground.root, absent)
    for absent in ("none", "file", "link", "link/file"):
        assert ground.trees.names(ground.root, absent) == frozenset()
    assert paths(ground) == {"file", "link"}


def test_a_missing_root_is_no_empty_tree(ground: Ground) -> None:
    gone = f"{ground.root}/gone"
    assert ground.trees.facts(gone, "") is None
    assert ground.trees.names(gone, "") == frozenset()
    changes: list[Callable[[], object]] = [
        lambda: list(ground.trees.walk(gone)),
        lambda: ground.trees.digest(gone, "file"),
        lambda: put(ground, "file", root=gone),
        lambda: ground.trees.make_directory(gone, "", owning=OWNING),
        lambda: ground.trees.remove(gone, "file"),
        lambda: ground.trees.remove_tree(gone, "file"),
        lambda: ground.trees.sync(gone),
    ]
    for change in changes:
        with pytest.raises(NotFound):
            change()


def test_only_small_files_are_read_whole(ground: Ground) -> None:
    put(ground, "file", b"12345")
    assert ground.trees.read(ground.root, "file", limit=5) == b"12345"
    with pytest.raises(InvalidValue):
        ground.trees.read(ground.root, "file", limit=4)


def test_only_regular_files_are_read(ground: Ground) -> None:
    put(ground, "dir/file")
    ground.trees.link(ground.root, "link", "dir/file", owning=OWNING)

    def reads(path: str) -> list[Callable[[], object]]:
        return [
            lambda: ground.trees.read(ground.root, path),
            lambda: ground.trees.digest(ground.root, path),
            lambda: list(ground.trees.read_lines(ground.root, path)),
            lambda: ground.trees.written_by_nobody(ground.root, path),
            lambda: ground.trees.copy(ground.root, path, ground.root, "copy", owning=OWNING),
            lambda: ground.trees.set_attributes(ground.root, path, mode=0o777, mtime=0, owning=OWNING),
        ]

    for read in [*reads("dir"), *reads("link")]:
        with pytest.raises(InvalidValue):
            read()
    assert found(ground.trees, ground.root, "dir").mode == OWNING.directory_mode
    assert paths(ground) == {"dir/file", "link"}


def test_a_walk_leaves_out_what_is_not_the_versions_own(ground: Ground) -> None:
    for path in (".dsg/manifest", ".dsg/deep/er", "deep/.dsg/kept", "deep/.zfs/kept", "a/file"):
        put(ground, path)
    ground.trees.make_directory(ground.root, "empty/er", owning=OWNING)
    assert paths(ground) == {"deep/.dsg/kept", "deep/.zfs/kept", "a/file"}
    walked = dict(ground.trees.walk(ground.root))
    assert walked["a/file"] == ground.trees.facts(ground.root, "a/file")
    assert ground.trees.names(ground.root, "") - {".dsg"} == {"deep", "a", "empty"}
    assert ground.trees.names(ground.root, "empty") == {"er"}
    assert ground.trees.read(ground.root, ".dsg/manifest") == b"content"


def test_any_name_and_any_link_text_is_kept_as_it_is(ground: Ground) -> None:
    for name in AWKWARD:
        root = ground.fresh()
        put(ground, f"{name}/{name}", b"awkward", root=root)
        ground.trees.link(root, f"link/{name}", name, owning=OWNING)
        assert paths(ground, root) == {f"{name}/{name}", f"link/{name}"}
        assert ground.trees.names(root, name) == {name}
        assert ground.trees.read(root, f"{name}/{name}") == b"awkward"
        assert found(ground.trees, root, f"link/{name}").target == name


def test_a_path_can_only_lead_down(ground: Ground) -> None:
    def calls(path: str) -> list[Callable[[], object]]:
        return [
            lambda: ground.trees.facts(ground.root, path),
            lambda: ground.trees.names(ground.root, path),
            lambda: ground.trees.read(ground.root, path),
            lambda: put(ground, path),
            lambda: ground.trees.make_directory(ground.root, path, owning=OWNING),
            lambda: ground.trees.move(ground.root, path, "c", owning=OWNING),
            lambda: ground.trees.move(ground.root, "a/b", path, owning=OWNING),
            lambda: ground.trees.copy(ground.root, path, ground.root, "c", owning=OWNING),
            lambda: ground.trees.copy(ground.root, "a/b", ground.root, path, owning=OWNING),
            lambda: ground.trees.link(ground.root, path, "x", owning=OWNING),
            lambda: ground.trees.remove(ground.root, path),
            lambda: ground.trees.remove_tree(ground.root, path),
        ]

    put(ground, "a/b")
    for path in WRONG:
        for call in calls(path):
            with pytest.raises(InvalidValue):
                call()
    assert paths(ground) == {"a/b"}


def test_the_root_itself_is_neither_replaced_nor_removed(ground: Ground) -> None:
    put(ground, "a")
    calls: list[Callable[[], object]] = [
        lambda: put(ground, ""),
        lambda: ground.trees.link(ground.root, "", "x", owning=OWNING),
        lambda: ground.trees.move(ground.root, "a", "", owning=OWNING),
        lambda: ground.trees.remove(ground.root, ""),
        lambda: ground.trees.remove_tree(ground.root, ""),
    ]
    for call in calls:
        with pytest.raises(InvalidValue):
            call()
    assert paths(ground) == {"a"}
    assert found(ground.trees, ground.root, "").kind is FileKind.DIRECTORY


# ---- links on the way


def test_no_component_may_be_a_link(ground: Ground) -> None:
    """Neither to the outside nor to the inside, absolute or not."""
    put(ground, "real/inner/file", b"inside")
    put(ground, "inner/file", b"outside", root=ground.other)
    ground.trees.link(ground.root, "out", ground.other, owning=OWNING)
    ground.trees.link(ground.root, "in", "real", owning=OWNING)
    ground.trees.link(ground.root, "real/deep", "inner", owning=OWNING)

    def changes(path: str) -> list[Callable[[], object]]:
        return [
            lambda: put(ground, path, b"changed"),
            lambda: ground.trees.make_directory(ground.root, f"{path}.d", owning=OWNING),
            lambda: ground.trees.link(ground.root, path, "x", owning=OWNING),
            lambda: ground.trees.move(ground.root, path, "moved", owning=OWNING),
            lambda: ground.trees.move(ground.root, "real/inner/file", path, owning=OWNING),
            lambda: ground.trees.copy(ground.root, path, ground.root, "copied", owning=OWNING),
            lambda: ground.trees.copy(ground.root, "real/inner/file", ground.root, path, owning=OWNING),
            lambda: ground.trees.set_attributes(ground.root, path, mode=0, mtime=0, owning=OWNING),
            lambda: ground.trees.digest(ground.root, path),
        ]

    for path in ("out/inner/file", "in/inner/file", "real/deep/file"):
        assert ground.trees.facts(ground.root, path) is None
        assert ground.trees.read(ground.root, path) is None
        for change in changes(path):
            with pytest.raises(NotFound):
                change()
        ground.trees.remove(ground.root, path)
        ground.trees.remove_tree(ground.root, path)
    assert paths(ground) == {"real/inner/file", "real/deep", "in", "out"}
    assert ground.trees.read(ground.other, "inner/file") == b"outside"
    assert ground.trees.read(ground.root, "real/inner/file") == b"inside"


def test_a_root_that_is_a_link_is_no_root(ground: Ground) -> None:
    put(ground, "real/file")
    ground.trees.link(ground.root, "link", "real", owning=OWNING)
    root = f"{ground.root}/link"
    assert ground.trees.facts(root, "file") is None
    for call in (lambda: list(ground.trees.walk(root)), lambda: put(ground, "new", root=root)):
        with pytest.raises(NotFound):
            call()
    assert paths(ground) == {"real/file", "link"}


def test_removing_a_tree_removes_links_and_not_what_they_lead_to(ground: Ground) -> None:
    put(ground, "kept", root=ground.other)
    put(ground, "dir/a/b")
    ground.trees.link(ground.root, "dir/out", ground.other, owning=OWNING)
    ground.trees.link(ground.root, "out", ground.other, owning=OWNING)
    ground.trees.remove_tree(ground.root, "out")
    ground.trees.remove_tree(ground.root, "dir")
    assert paths(ground) == set()
    assert paths(ground, ground.other) == {"kept"}


# ---- placing


def test_a_links_text_is_kept_verbatim(ground: Ground) -> None:
    for target in ("elsewhere", "../../..", "/etc/passwd", "a//b/./..", NOT_UTF8, "x" * 1000):
        ground.trees.link(ground.root, "a/link", target, owning=OWNING)
        facts = found(ground.trees, ground.root, "a/link")
        assert (facts.kind, facts.target, facts.size) == (FileKind.LINK, target, len(os.fsencode(target)))
        assert (facts.uid, facts.gid) == (OWNING.uid, OWNING.gid)


def test_a_link_needs_a_text(ground: Ground) -> None:
    for target in ("", "a\0b"):
        with pytest.raises(InvalidValue):
            ground.trees.link(ground.root, "link", target, owning=OWNING)


def test_files_and_links_take_each_others_place(ground: Ground) -> None:
    put(ground, "thing", b"one")
    ground.trees.link(ground.root, "thing", "two", owning=OWNING)
    assert found(ground.trees, ground.root, "thing").target == "two"
    put(ground, "thing", b"three")
    assert ground.trees.read(ground.root, "thing") == b"three"
    put(ground, "source", b"four")
    ground.trees.link(ground.root, "thing", "five", owning=OWNING)
    ground.trees.copy(ground.root, "source", ground.root, "thing", owning=OWNING)
    assert ground.trees.read(ground.root, "thing") == b"four"
    ground.trees.link(ground.root, "thing", "six", owning=OWNING)
    ground.trees.move(ground.root, "source", "thing", owning=OWNING)
    assert ground.trees.read(ground.root, "thing") == b"four"
    assert paths(ground) == {"thing"}


def test_a_directory_in_the_way_is_left_as_it_is(ground: Ground) -> None:
    put(ground, "dir/file")
    put(ground, "source")
    ground.trees.make_directory(ground.root, "empty", owning=OWNING)

    def calls(path: str) -> list[Callable[[], object]]:
        return [
            lambda: put(ground, path),
            lambda: ground.trees.link(ground.root, path, "x", owning=OWNING),
            lambda: ground.trees.move(ground.root, "source", path, owning=OWNING),
            lambda: ground.trees.copy(ground.root, "source", ground.root, path, owning=OWNING),
        ]

    for path in ("dir", "empty"):
        for call in calls(path):
            with pytest.raises(AlreadyExists):
                call()
        with pytest.raises(HasDependents):
            ground.trees.remove(ground.root, path)
    assert paths(ground) == {"dir/file", "source"}
    assert found(ground.trees, ground.root, "empty").kind is FileKind.DIRECTORY


def test_make_directory_keeps_what_is_there(ground: Ground) -> None:
    ground.trees.make_directory(ground.root, "a/b", owning=OWNING)
    put(ground, "a/b/file")
    ground.trees.link(ground.root, "link", "a", owning=OWNING)
    ground.trees.make_directory(ground.root, "a/b", owning=OWNING)
    ground.trees.make_directory(ground.root, "", owning=OWNING)
    for path in ("a/b/file", "link"):
        with pytest.raises(AlreadyExists):
            ground.trees.make_directory(ground.root, path, owning=OWNING)
    with pytest.raises(NotFound):
        ground.trees.make_directory(ground.root, "a/b/file/below", owning=OWNING)
    assert paths(ground) == {"a/b/file", "link"}


def test_move_takes_the_file_and_makes_directories(ground: Ground) -> None:
    put(ground, "a/file", b"moved")
    ground.trees.set_attributes(ground.root, "a/file", mode=0o600, mtime=1_234_567_890_123_456_789, owning=OWNING)
    before = found(ground.trees, ground.root, "a/file")
    ground.trees.move(ground.root, "a/file", "b/c/file", owning=OWNING)
    assert found(ground.trees, ground.root, "b/c/file") == before
    assert ground.trees.facts(ground.root, "a/file") is None
    assert found(ground.trees, ground.root, "b/c").mode == OWNING.directory_mode
    ground.trees.move(ground.root, "b/c/file", "b/c/file", owning=OWNING)
    assert ground.trees.read(ground.root, "b/c/file") == b"moved"
    with pytest.raises(NotFound):
        ground.trees.move(ground.root, "none", "new/file", owning=OWNING)
    with pytest.raises(InvalidValue):
        ground.trees.move(ground.root, "b", "new/dir", owning=OWNING)
    assert ground.trees.facts(ground.root, "new") is None


def test_copies_go_across_roots_and_are_independent(ground: Ground) -> None:
    content = os.urandom(300_000) + bytes(2_000_000) + b"end"
    put(ground, "a/file", content)
    for root in (ground.root, ground.other):
        ground.trees.copy(ground.root, "a/file", root, "b/copy", owning=OWNING)
        facts = found(ground.trees, root, "b/copy")
        assert (facts.kind, facts.size, facts.uid, facts.gid) == (FileKind.FILE, len(content), OWNING.uid, OWNING.gid)
        assert ground.trees.digest(root, "b/copy") == blake3(content).hexdigest()
    put(ground, "a/file", b"changed")
    assert ground.trees.read(ground.other, "b/copy") == content
    ground.trees.copy(ground.root, "a/file", ground.other, "b/copy", owning=OWNING)
    assert ground.trees.read(ground.other, "b/copy") == b"changed"
    with pytest.raises(NotFound):
        ground.trees.copy(ground.root, "none", ground.other, "new/copy", owning=OWNING)
    assert paths(ground, ground.other) == {"b/copy"}


def test_copies_of_any_length_are_whole(ground: Ground) -> None:
    for length in (0, 1, 511, 4096, 131_072, 131_073, 1 << 20, (1 << 20) + 1):
        content = (b"0123456789abcdef" * (length // 16 + 1))[:length]
        put(ground, "file", content)
        ground.trees.copy(ground.root, "file", ground.other, "copy", owning=OWNING)
        assert ground.trees.read(ground.other, "copy") == content


def test_holes_stay_holes(ground: Ground) -> None:
    size = 64 << 20
    if not ground.real:
        pytest.skip("the model knows no holes")
    with Path(f"{ground.root}/sparse").open("wb") as file:
        for position in (0, size // 2):
            file.seek(position)
            file.write(b"data" * 1024)
        file.truncate(size)
        file.flush()
        os.fsync(file.fileno())
    ground.trees.copy(ground.root, "sparse", ground.other, "copy", owning=OWNING)
    ground.trees.sync(ground.other)
    descriptor = os.open(f"{ground.other}/copy", os.O_RDONLY)
    try:
        assert os.lseek(descriptor, 1 << 20, os.SEEK_DATA) == size // 2
        with pytest.raises(OSError):
            os.lseek(descriptor, size // 2 + (1 << 20), os.SEEK_DATA)
    finally:
        os.close(descriptor)
    assert found(ground.trees, ground.other, "copy").size == size
    assert ground.trees.digest(ground.other, "copy") == ground.trees.digest(ground.root, "sparse")


def test_attributes_are_set_to_the_nanosecond(ground: Ground) -> None:
    for mtime in TIMES:
        put(ground, "file")
        ground.trees.set_attributes(ground.root, "file", mode=0o751, mtime=mtime, owning=OWNING)
        facts = found(ground.trees, ground.root, "file")
        assert (facts.mtime, facts.mode, facts.uid, facts.gid) == (mtime, 0o751, OWNING.uid, OWNING.gid)
        ground.trees.set_attributes(ground.root, "file", mode=0o751, mtime=mtime, owning=OWNING)
        assert found(ground.trees, ground.root, "file") == facts
        with pytest.raises(NotFound):
            ground.trees.set_attributes(ground.root, "none", mode=0o751, mtime=mtime, owning=OWNING)


def test_who_writes_a_file_is_seen(ground: Ground) -> None:
    put(ground, "file")
    assert ground.trees.written_by_nobody(ground.root, "file")
    with ground.in_use(f"{ground.root}/file"):
        assert ground.trees.written_by_nobody(ground.root, "file")
    with ground.in_use(f"{ground.root}/file", writing=True):
        assert not ground.trees.written_by_nobody(ground.root, "file")
        ground.trees.move(ground.root, "file", "moved", owning=OWNING)
        assert not ground.trees.written_by_nobody(ground.root, "moved")
    assert ground.trees.written_by_nobody(ground.root, "moved")


# ---- removing


def test_remove_takes_the_directories_it_leaves_empty(ground: Ground) -> None:
    put(ground, "a/b/c/file")
    put(ground, "a/other")
    ground.trees.remove(ground.root, "a/b/c/file")
    assert ground.trees.names(ground.root, "a") == {"other"}
    ground.trees.remove(ground.root, "a/other")
    assert ground.trees.names(ground.root, "") <= {".dsg"}
    assert found(ground.trees, ground.root, "").kind is FileKind.DIRECTORY


def test_remove_goes_not_beyond_the_root(ground: Ground) -> None:
    root = ground.fresh()
    put(ground, "file", root=root)
    ground.trees.remove_tree(root, ".dsg")
    ground.trees.remove(root, "file")
    assert found(ground.trees, root, "").kind is FileKind.DIRECTORY


def test_remove_tree_takes_everything_below(ground: Ground) -> None:
    for path in ("a/b/c", "a/b/d/e", "a/f", "ab"):
        put(ground, path)
    ground.trees.make_directory(ground.root, "a/empty/er", owning=OWNING)
    ground.trees.remove_tree(ground.root, "a/b/c")
    assert paths(ground) == {"a/b/d/e", "a/f", "ab"}
    ground.trees.remove_tree(ground.root, "a")
    assert paths(ground) == {"ab"}
    assert ground.trees.facts(ground.root, "a") is None


# ---- limits


def test_a_full_quota_leaves_the_old_file_whole(bench: Bench) -> None:
    root = bench.mounted(bench.create("full", quota="3M"))
    other = bench.mounted(bench.create("source"), "source")
    trees, large = bench.trees, os.urandom(8 << 20)
    trees.write(other, "large", large, mode=0o640, owning=OWNING)
    trees.write(root, "old", b"old", mode=0o640, owning=OWNING)
    bench.sync()
    for _ in range(2):
        with pytest.raises(QuotaExceeded):
            trees.write(root, "old", large, mode=0o640, owning=OWNING)
        with pytest.raises(QuotaExceeded):
            trees.copy(other, "large", root, "old", owning=OWNING)
        assert trees.read(root, "old") == b"old"
        assert {path for path, _ in trees.walk(root)} == {"old"}
    bench.sync()
    trees.remove(root, "old")
    assert {path for path, _ in trees.walk(root)} == set()


def test_a_read_only_mount_is_read_and_not_changed(bench: Bench) -> None:
    root = bench.mounted(bench.create("one"))
    trees = bench.trees
    trees.write(root, "a/file", b"content", mode=0o640, owning=OWNING)
    trees.link(root, "link", "x", owning=OWNING)
    trees.set_attributes(root, "a/file", mode=0o640, mtime=5, owning=OWNING)
    bench.host.remount(root, read_only=True)
    assert trees.read(root, "a/file") == b"content"
    assert {path for path, _ in trees.walk(root)} == {"a/file", "link"}
    calls: list[Callable[[], object]] = [
        lambda: trees.write(root, "a/file", b"new", mode=0o640, owning=OWNING),
        lambda: trees.make_directory(root, "new", owning=OWNING),
        lambda: trees.link(root, "link", "y", owning=OWNING),
        lambda: trees.move(root, "a/file", "b/file", owning=OWNING),
        lambda: trees.copy(root, "a/file", root, "b/file", owning=OWNING),
        lambda: trees.set_attributes(root, "a/file", mode=0o600, mtime=5, owning=OWNING),
        lambda: trees.set_attributes(root, "a/file", mode=0o640, mtime=6, owning=OWNING),
        lambda: trees.remove(root, "a/file"),
        lambda: trees.remove_tree(root, "a"),
    ]
    for call in calls:
        with pytest.raises(ReadOnlyPool):
            call()
    trees.set_attributes(root, "a/file", mode=0o640, mtime=5, owning=OWNING)
    trees.make_directory(root, "a", owning=OWNING)
    trees.remove(root, "none")
    trees.remove_tree(root, "none/at/all")
    trees.sync(root)
    assert trees.written_by_nobody(root, "a/file")
    assert {path for path, _ in trees.walk(root)} == {"a/file", "link"}


# ---- against a dictionary


class Thing(NamedTuple):
    """What stands at a path; `mtime` is None where it is the time of the test."""

    kind: FileKind
    content: bytes = b""
    mode: int = 0
    mtime: int | None = None
    target: str = ""


DIRECTORY = Thing(FileKind.DIRECTORY)


class Oracle:
    """What the calls do, on a dictionary of everything below the root."""

    def __init__(self) -> None:
        self.things: dict[str, Thing] = {}

    def _prefixes(self, path: str) -> Iterator[str]:
        names = path.split("/")
        return ("/".join(names[:count]) for count in range(1, len(names)))

    def _free(self, path: str) -> None:
        if any(self.things.get(above, DIRECTORY) != DIRECTORY for above in self._prefixes(path)):
            raise NotFound(path)
        if self.things.get(path) == DIRECTORY:
            raise AlreadyExists(path)

    def _put(self, path: str, thing: Thing) -> None:
        for above in self._prefixes(path):
            self.things[above] = DIRECTORY
        self.things[path] = thing

    def _file(self, path: str) -> Thing:
        thing = self.things.get(path)
        if thing is None:
            raise NotFound(path)
        if thing.kind is not FileKind.FILE:
            raise InvalidValue(path)
        return thing

    def write(self, path: str, content: bytes, mode: int) -> None:
        self._free(path)
        self._put(path, Thing(FileKind.FILE, content, mode))

    def link(self, path: str, target: str) -> None:
        self._free(path)
        self._put(path, Thing(FileKind.LINK, target=target))

    def make_directory(self, path: str) -> None:
        if self.things.get(path) != DIRECTORY:
            self._free(path)
            if path in self.things:
                raise AlreadyExists(path)
            self._put(path, DIRECTORY)

    def move(self, source: str, path: str) -> None:
        thing = self.things.get(source)
        if thing is None:
            raise NotFound(source)
        if thing == DIRECTORY:
            raise InvalidValue(source)
        self._free(path)
        del self.things[source]
        self._put(path, thing)

    def copy(self, source: str, path: str) -> None:
        original = self._file(source)
        self._free(path)
        self._put(path, Thing(FileKind.FILE, original.content, 0o600))

    def set_attributes(self, path: str, mode: int, mtime: int) -> None:
        self.things[path] = self._file(path)._replace(mode=mode, mtime=mtime)

    def remove(self, path: str) -> None:
        if self.things.get(path) == DIRECTORY:
            raise HasDependents(path)
        if self.things.pop(path, None) is not None:
            for above in reversed(list(self._prefixes(path))):
                if any(other.startswith(f"{above}/") for other in self.things):
                    break
                del self.things[above]

    def remove_tree(self, path: str) -> None:
        for other in list(self.things):
            if other == path or other.startswith(f"{path}/"):
                del self.things[other]


class Real:
    """The same calls on a root."""

    def __init__(self, trees: Trees, root: str) -> None:
        self.trees = trees
        self.root = root

    def write(self, path: str, content: bytes, mode: int) -> None:
        self.trees.write(self.root, path, content, mode=mode, owning=OWNING)

    def link(self, path: str, target: str) -> None:
        self.trees.link(self.root, path, target, owning=OWNING)

    def make_directory(self, path: str) -> None:
        self.trees.make_directory(self.root, path, owning=OWNING)

    def move(self, source: str, path: str) -> None:
        self.trees.move(self.root, source, path, owning=OWNING)

    def copy(self, source: str, path: str) -> None:
        self.trees.copy(self.root, source, self.root, path, owning=OWNING)

    def set_attributes(self, path: str, mode: int, mtime: int) -> None:
        self.trees.set_attributes(self.root, path, mode=mode, mtime=mtime, owning=OWNING)

    def remove(self, path: str) -> None:
        self.trees.remove(self.root, path)

    def remove_tree(self, path: str) -> None:
        self.trees.remove_tree(self.root, path)

    def matches(self, path: str, thing: Thing | None) -> bool:
        facts = self.trees.facts(self.root, path)
        if facts is None or thing is None:
            return facts is None and thing is None
        if thing.kind is not FileKind.FILE:
            return (facts.kind, facts.target) == (thing.kind, thing.target)
        same = (facts.kind, facts.mode, facts.size) == (FileKind.FILE, thing.mode, len(thing.content))
        return same and thing.mtime in {None, facts.mtime} and self.trees.read(self.root, path) == thing.content


NAMES = ["a", "b", NOT_UTF8]
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
MODES = st.sampled_from([0o600, 0o640, 0o755])
STEP = st.one_of(
    st.tuples(st.just("write"), PATHS, st.binary(max_size=20), MODES),
    st.tuples(st.just("link"), PATHS, st.sampled_from(["a", "../b", "/", NOT_UTF8])),
    st.tuples(st.just("make_directory"), PATHS),
    st.tuples(st.just("move"), PATHS, PATHS),
    st.tuples(st.just("copy"), PATHS, PATHS),
    st.tuples(st.just("set_attributes"), PATHS, MODES, st.integers(0, 2**60)),
    st.tuples(st.just("remove"), PATHS),
    st.tuples(st.just("remove_tree"), PATHS),
)
EVERY_PATH = ["/".join(p) for p in [*((a,) for a in NAMES), *((a, b) for a in NAMES for b in NAMES)]]


def outcome(side: object, step: tuple[object, ...]) -> type[StorageError] | None:
    name, *arguments = step
    try:
        getattr(side, str(name))(*arguments)
    except StorageError as error:
        return type(error)
    return None


@settings(settings.get_profile("contract"))
@given(st.lists(STEP, max_size=30))
def test_any_calls_do_what_they_do_to_a_dictionary(ground: Ground, steps: list[tuple[object, ...]]) -> None:
    oracle, real = Oracle(), Real(ground.trees, ground.fresh())
    for step in steps:
        assert outcome(real, step) is outcome(oracle, step), step
        path = str(step[1])
        assert real.matches(path, oracle.things.get(path)), step
    data = {path for path, thing in oracle.things.items() if thing != DIRECTORY}
    assert {path for path, _ in ground.trees.walk(real.root)} == data
    for path in {*EVERY_PATH, *oracle.things}:
        assert real.matches(path, oracle.things.get(path)), path
    for path in ["", *oracle.things]:
        names = {p.rpartition("/")[2] for p in oracle.things if p.rpartition("/")[0] == path}
        assert ground.trees.names(real.root, path) - {".dsg"} == names
