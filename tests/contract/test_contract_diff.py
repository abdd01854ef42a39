"""What differs between a snapshot and what descends from it."""

from __future__ import annotations

import pytest

from dsg.storage.errors import InvalidValue, NotFound, NotMounted
from dsg.storage.zfs.interface import Change, ChangeKind, Diff

from .bench import Bench

ADDED, REMOVED, MODIFIED = ChangeKind.ADDED, ChangeKind.REMOVED, ChangeKind.MODIFIED
ROOT = Change("", MODIFIED, directory=True)
NOTHING = Diff([], more=False)


def differences(bench: Bench, snapshot: str, dataset: str, limit: int = 50) -> set[Change]:
    found = bench.zfs.diff(snapshot, dataset, limit=limit)
    assert not found.more
    assert len(set(found.changes)) == len(found.changes)
    return set(found.changes)


def version(bench: Bench, name: str = "a") -> str:
    """Make a filesystem with some files, mounted, and a snapshot s of it."""
    a = bench.create(name)
    directory = bench.mounted(a, name)
    for file in ("one", "two"):
        bench.write_file(f"{directory}/{file}", file.encode())
    bench.host.make_directory(f"{directory}/d", mode=0o755)
    bench.write_file(f"{directory}/d/three", b"three")
    bench.zfs.snapshot([f"{a}@s"])
    return a


def test_nothing_differs_where_nothing_was_written(bench: Bench) -> None:
    """Neither in the filesystem nor in a clone, mounted read-only, then writable, then read-only again."""
    a, b = version(bench), f"{bench.root}/b"
    assert bench.zfs.diff(f"{a}@s", a) == NOTHING
    bench.zfs.clone(f"{a}@s", b, {})
    untouched = int(bench.value(b, "written"))
    assert untouched <= 4096
    for read_only in (True, False, True):
        directory = bench.mounted(b, "b", read_only=read_only)
        assert bench.zfs.diff(f"{a}@s", b) == NOTHING
        bench.sync()
        assert int(bench.value(b, "written")) == untouched
        bench.host.unmount(directory)
        bench.sync()
        assert int(bench.value(b, "written")) == untouched


def test_what_was_added_and_changed_differs(bench: Bench) -> None:
    a, b = version(bench), f"{bench.root}/b"
    bench.zfs.clone(f"{a}@s", b, {})
    directory = bench.mounted(b, "b")
    bench.write_file(f"{directory}/one", b"other")
    assert differences(bench, f"{a}@s", b) == {Change("one", MODIFIED)}
    bench.write_file(f"{directory}/d/new", b"new")
    bench.host.make_directory(f"{directory}/e", mode=0o755)
    expected = {
        ROOT,
        Change("one", MODIFIED),
        Change("d", MODIFIED, directory=True),
        Change("d/new", ADDED),
        Change("e", ADDED, directory=True),
    }
    assert differences(bench, f"{a}@s", b) == expected
    bench.host.remount(directory, read_only=True)
    assert differences(bench, f"{a}@s", b) == expected
    assert bench.zfs.diff(f"{a}@s", a) == NOTHING
    bench.sync()
    assert int(bench.value(b, "written")) > 4096


def test_the_same_bytes_written_anew_differ(bench: Bench) -> None:
    a = version(bench)
    bench.write_file(f"{bench.scratch}/a/one", b"one")
    assert differences(bench, f"{a}@s", a) == {Change("one", MODIFIED)}


def test_the_roots_owner_is_a_difference_of_the_root(bench: Bench) -> None:
    a = version(bench)
    bench.host.set_owner(f"{bench.scratch}/a", uid=7, gid=8, mode=0o750)
    assert differences(bench, f"{a}@s", a) == {ROOT}


def test_a_directory_that_went_away_and_a_link_that_came(bench: Bench) -> None:
    a = bench.create("a")
    directory = bench.mounted(a)
    bench.host.make_directory(f"{directory}/d", mode=0o755)
    bench.host.point_link(f"{directory}/l", "one")
    bench.zfs.snapshot([f"{a}@s"])
    bench.host.remove_directory(f"{directory}/d")
    bench.host.point_link(f"{directory}/l", "two")
    bench.host.point_link(f"{directory}/m", "one")
    assert differences(bench, f"{a}@s", a) == {
        ROOT,
        Change("d", REMOVED, directory=True),
        Change("l", REMOVED),
        Change("l", ADDED),
        Change("m", ADDED),
    }


def test_odd_names_come_as_they_are(bench: Bench) -> None:
    a = bench.create("with space")
    directory = bench.mounted(a, "mount point\twith \\ odd é\nname")
    bench.zfs.snapshot([f"{a}@s"])
    names = ["with space", "line\nbreak", "tab\there", "back\\slash", "\\0040", "(+1)", "é 🗂", "raw \udcff\udc80", "-"]
    for name in names:
        bench.write_file(f"{directory}/{name}", b"x")
    assert differences(bench, f"{a}@s", a) == {ROOT, *(Change(name, ADDED) for name in names)}


def test_no_more_is_told_than_was_asked_for(bench: Bench) -> None:
    a = version(bench)
    assert bench.zfs.diff(f"{a}@s", a, limit=0) == NOTHING
    for number in range(300):
        bench.write_file(f"{bench.scratch}/a/{'x' * 60}{number}", b"")
    for limit in (0, 1, 7):
        found = bench.zfs.diff(f"{a}@s", a, limit=limit)
        assert (len(found.changes), found.more) == (limit, True)
    assert not bench.zfs.diff(f"{a}@s", a, limit=301).more
    assert len(bench.zfs.diff(f"{a}@s", a, limit=301).changes) == 301
    assert bench.zfs.diff(f"{a}@s", a, limit=300).more
    assert list(bench.snapshots(a)) == [f"{a}@s"]
    with pytest.raises(InvalidValue):
        bench.zfs.diff(f"{a}@s", a, limit=-1)


def test_both_must_be_mounted(bench: Bench) -> None:
    """The dataset, and whoever has the snapshot; a mounted snapshot is not enough."""
    a, b = version(bench), f"{bench.root}/b"
    bench.zfs.clone(f"{a}@s", b, {})
    with pytest.raises(NotMounted):
        bench.zfs.diff(f"{a}@s", b)
    bench.mounted(b, "b")
    assert bench.zfs.diff(f"{a}@s", b) == NOTHING
    bench.host.unmount(f"{bench.scratch}/a")
    bench.mounted(f"{a}@s", "s")
    with pytest.raises(NotMounted):
        bench.zfs.diff(f"{a}@s", b)
    with pytest.raises(NotMounted):
        bench.zfs.diff(f"{a}@s", a)


def test_a_former_head_is_compared_with_what_the_new_one_took(bench: Bench) -> None:
    a, b = version(bench), f"{bench.root}/b"
    bench.zfs.clone(f"{a}@s", b, {})
    bench.write_file(f"{bench.mounted(b, 'b')}/one", b"new version")
    bench.zfs.snapshot([f"{b}@t"])
    bench.zfs.promote(b)
    assert bench.zfs.diff(f"{b}@s", a) == NOTHING
    bench.write_file(f"{bench.scratch}/a/late", b"late")
    assert differences(bench, f"{b}@s", a) == {ROOT, Change("late", ADDED)}
    assert differences(bench, f"{b}@s", b) == {Change("one", MODIFIED)}
    assert bench.zfs.diff(f"{b}@t", b) == NOTHING
    with pytest.raises(InvalidValue):
        bench.zfs.diff(f"{b}@t", a)


def test_a_clone_of_a_clone_is_compared_with_the_first(bench: Bench) -> None:
    a, b, c = version(bench), f"{bench.root}/b", f"{bench.root}/c"
    bench.zfs.clone(f"{a}@s", b, {})
    bench.write_file(f"{bench.mounted(b, 'b')}/new", b"new")
    bench.zfs.snapshot([f"{b}@t", f"{a}@later"])
    bench.zfs.clone(f"{b}@t", c, {})
    bench.mounted(c, "c")
    assert differences(bench, f"{a}@s", c) == {ROOT, Change("new", ADDED)}
    for other in (f"{a}@later", f"{c}@none"):
        with pytest.raises((InvalidValue, NotFound)):
            bench.zfs.diff(other, c)


def test_what_is_not_there_is_told(bench: Bench) -> None:
    a = version(bench)
    for snapshot, dataset in (
        (f"{a}@none", a),
        (f"{bench.root}/none@s", a),
        (f"{a}@s", f"{bench.root}/none"),
    ):
        with pytest.raises(NotFound):
            bench.zfs.diff(snapshot, dataset)
    with pytest.raises(InvalidValue):
        bench.zfs.diff(a, a)
