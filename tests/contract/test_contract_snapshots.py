"""Snapshots, clones, promote, holds, and the space they take."""

from __future__ import annotations

import os

import pytest

from dsg.storage.errors import AlreadyExists, HasDependents, Held, InvalidValue, NotFound, OutOfSpace, QuotaExceeded
from dsg.storage.zfs.interface import Hold, Property, Source

from .bench import FILESYSTEM, SNAPSHOT, Bench

MESSAGE = "org.hrdag.dsg:message"


# ---- snapshot


def test_snapshots_of_several_filesystems_are_one_moment(bench: Bench) -> None:
    a, b = bench.create("a"), bench.create("b")
    bench.zfs.snapshot([f"{a}@s", f"{b}@s"], {MESSAGE: "Première version\nde tous"})
    found = bench.zfs.read([bench.root], ["createtxg", MESSAGE], kinds=[SNAPSHOT])
    assert found.keys() == {f"{a}@s", f"{b}@s"}
    assert len({snapshot.value("createtxg") for snapshot in found.values()}) == 1
    for snapshot in found.values():
        assert snapshot.properties[MESSAGE] == Property("Première version\nde tous", Source.LOCAL)


def test_when_one_snapshot_is_refused_none_is_taken(bench: Bench) -> None:
    a, b = bench.create("a"), bench.create("b")
    bench.zfs.snapshot([f"{a}@s"])
    with pytest.raises(AlreadyExists):
        bench.zfs.snapshot([f"{b}@s", f"{a}@s"])
    with pytest.raises(NotFound):
        bench.zfs.snapshot([f"{b}@s", f"{bench.root}/none@s"])
    with pytest.raises(InvalidValue):
        bench.zfs.snapshot([f"{b}@s", f"{b}@t"])
    with pytest.raises(InvalidValue):
        bench.zfs.snapshot([f"{b}@s"], {"compression": "off"})
    assert bench.snapshots(bench.root).keys() | bench.snapshots(b).keys() == set()


def test_snapshot_refuses_names_that_openzfs_does_not_allow(bench: Bench) -> None:
    for tail in ("@", "@a!", "@a/b", "@a@b", "@" + "x" * 256, ""):
        with pytest.raises(InvalidValue):
            bench.zfs.snapshot([f"{bench.root}{tail}"])
    assert bench.snapshots(bench.root) == {}


def test_user_properties_of_a_snapshot_change_and_native_ones_do_not(bench: Bench) -> None:
    name = f"{bench.root}@s"
    bench.zfs.snapshot([name])
    bench.zfs.set_properties(name, {MESSAGE: "added"})
    assert bench.properties(name, MESSAGE)[MESSAGE] == Property("added", Source.LOCAL)
    with pytest.raises(InvalidValue):
        bench.zfs.set_properties(name, {"compression": "lz4"})
    bench.zfs.inherit(name, [MESSAGE])
    assert MESSAGE not in bench.properties(name, MESSAGE)


# ---- destroying snapshots


def test_destroy_snapshots_takes_those_that_exist(bench: Bench) -> None:
    for name in ("s1", "s2", "s3"):
        bench.zfs.snapshot([f"{bench.root}@{name}"])
    bench.zfs.destroy_snapshots(bench.root, ["s1", "absent", "s3"])
    assert bench.snapshots(bench.root).keys() == {f"{bench.root}@s2"}
    bench.zfs.destroy_snapshots(bench.root, ["absent", "s1"])
    bench.zfs.destroy_snapshots(bench.root, [])
    assert bench.snapshots(bench.root).keys() == {f"{bench.root}@s2"}
    with pytest.raises(NotFound):
        bench.zfs.destroy_snapshots(f"{bench.root}/none", ["s1"])


def test_destroy_snapshots_takes_none_when_one_is_not_free(bench: Bench) -> None:
    for name in ("s1", "s2", "s3"):
        bench.zfs.snapshot([f"{bench.root}@{name}"])
    bench.zfs.hold([f"{bench.root}@s2"], "keep")
    with pytest.raises(Held):
        bench.zfs.destroy_snapshots(bench.root, ["s1", "s2", "s3"])
    bench.zfs.release([f"{bench.root}@s2"], "keep")
    bench.zfs.clone(f"{bench.root}@s3", f"{bench.root}/c", {})
    with pytest.raises(HasDependents):
        bench.zfs.destroy_snapshots(bench.root, ["s1", "s2", "s3"])
    assert len(bench.snapshots(bench.root)) == 3


# ---- holds


def test_holds_keep_a_snapshot(bench: Bench) -> None:
    name = f"{bench.root}@s"
    bench.zfs.snapshot([name])
    assert list(bench.zfs.holds([name])) == []
    bench.zfs.hold([name], "dsg:one")
    bench.zfs.hold([name], "dsg:two")
    assert set(bench.zfs.holds([name])) == {Hold(name, "dsg:one"), Hold(name, "dsg:two")}
    assert bench.value(name, "userrefs") == "2"
    with pytest.raises(AlreadyExists):
        bench.zfs.hold([name], "dsg:one")
    bench.zfs.release([name], "dsg:one")
    with pytest.raises(Held):
        bench.zfs.destroy(name)
    bench.zfs.release([name], "dsg:two")
    bench.zfs.destroy(name)


def test_holds_and_releases_need_the_snapshot_and_the_tag(bench: Bench) -> None:
    name, missing = f"{bench.root}@s", f"{bench.root}@none"
    bench.zfs.snapshot([name])
    with pytest.raises(NotFound):
        bench.zfs.hold([missing], "t")
    with pytest.raises(NotFound):
        bench.zfs.release([missing], "t")
    with pytest.raises(NotFound):
        bench.zfs.release([name], "t")
    with pytest.raises(NotFound):
        bench.zfs.holds([missing])
    assert list(bench.zfs.holds([name])) == []


def test_holds_take_several_snapshots_at_once(bench: Bench) -> None:
    names = [f"{bench.root}@s1", f"{bench.create('a')}@s1"]
    bench.zfs.snapshot(names)
    bench.zfs.hold(names, "t")
    assert set(bench.zfs.holds(names)) == {Hold(name, "t") for name in names}
    bench.zfs.release(names, "t")
    assert list(bench.zfs.holds(names)) == []


# ---- clone


def test_a_clone_has_the_content_of_its_snapshot_and_the_properties_of_its_place(bench: Bench) -> None:
    a = bench.create("a", compression="lz4", snapdir="visible")
    directory = bench.mounted(a, "a")
    bench.write_file(f"{directory}/f", b"before")
    bench.zfs.snapshot([f"{a}@s"])
    bench.write_file(f"{directory}/f", b"after, and longer")
    clone = f"{bench.root}/c"
    bench.zfs.clone(f"{a}@s", clone, {"refquota": "64M", MESSAGE: "staged"})
    assert bench.read_file(f"{bench.mounted(clone, 'c')}/f") == b"before"
    found = bench.properties(clone, "origin", "compression", "snapdir", "refquota", MESSAGE)
    assert found["origin"] == Property(f"{a}@s", Source.NONE)
    assert found["compression"] == Property("off", Source.INHERITED, bench.root)
    assert found["snapdir"] == Property("hidden", Source.DEFAULT)
    assert found["refquota"] == Property(str(64 << 20), Source.LOCAL)
    assert found[MESSAGE] == Property("staged", Source.LOCAL)
    assert bench.value(f"{a}@s", "clones") == clone


def test_clone_is_refused_without_snapshot_parent_or_room_for_the_name(bench: Bench) -> None:
    name = f"{bench.root}@s"
    bench.zfs.snapshot([name])
    with pytest.raises(NotFound):
        bench.zfs.clone(f"{bench.root}@none", f"{bench.root}/c", {})
    with pytest.raises(NotFound):
        bench.zfs.clone(name, f"{bench.root}/none/c", {})
    with pytest.raises(AlreadyExists):
        bench.zfs.clone(name, bench.root, {})
    with pytest.raises(InvalidValue):
        bench.zfs.clone(name, f"{bench.root}/a!", {})
    with pytest.raises(InvalidValue):
        bench.zfs.clone(name, f"{bench.root}/c", {"recordsize": "3"})
    assert not bench.exists(f"{bench.root}/c")


# ---- promote


def test_promote_moves_the_origin_and_older_snapshots_and_nothing_else(bench: Bench) -> None:
    a = bench.create("a", snapdir="visible", quota="1G")
    for name in ("s1", "s2", "s3"):
        bench.zfs.snapshot([f"{a}@{name}"], {MESSAGE: name})
    bench.zfs.hold([f"{a}@s1"], "keep")
    c, other, child = f"{bench.root}/c", f"{bench.root}/other", f"{a}/child"
    bench.zfs.clone(f"{a}@s2", c, {"copies": "2"})
    bench.zfs.clone(f"{a}@s1", other, {})
    bench.zfs.create(child, {})
    wanted = ("guid", "origin", "snapdir", "quota", "copies")
    before = bench.zfs.read([bench.root], wanted, kinds=[FILESYSTEM, SNAPSHOT])
    bench.zfs.promote(c)
    after = bench.zfs.read([bench.root], (*wanted, MESSAGE), kinds=[FILESYSTEM, SNAPSHOT])
    assert after.keys() == {bench.root, a, child, c, other, f"{c}@s1", f"{c}@s2", f"{a}@s3"}
    assert after[a].value("origin") == f"{c}@s2"
    assert after[c].value("origin") is None
    assert after[other].value("origin") == f"{c}@s1"
    for name in (a, c, other, child):
        assert after[name].value("guid") == before[name].value("guid")
        for kept in ("snapdir", "quota", "copies"):
            assert after[name].properties[kept] == before[name].properties[kept]
    for name in ("s1", "s2"):
        assert after[f"{c}@{name}"].value("guid") == before[f"{a}@{name}"].value("guid")
        assert after[f"{c}@{name}"].properties[MESSAGE] == Property(name, Source.LOCAL)
    assert list(bench.zfs.holds([f"{c}@s1"])) == [Hold(f"{c}@s1", "keep")]
    bench.zfs.promote(a)
    back = bench.zfs.read([bench.root], wanted, kinds=[FILESYSTEM, SNAPSHOT])
    assert back == before


def test_promote_of_a_clones_clone_goes_one_step_at_a_time(bench: Bench) -> None:
    a, b, c = bench.create("a"), f"{bench.root}/b", f"{bench.root}/c"
    bench.zfs.snapshot([f"{a}@s1"])
    bench.zfs.clone(f"{a}@s1", b, {})
    bench.zfs.snapshot([f"{b}@s2"])
    bench.zfs.clone(f"{b}@s2", c, {})

    def origins() -> list[str | None]:
        found = bench.zfs.read([a, b, c], ["origin"])
        return [found[name].value("origin") for name in (a, b, c)]

    assert origins() == [None, f"{a}@s1", f"{b}@s2"]
    bench.zfs.promote(c)
    assert origins() == [None, f"{c}@s2", f"{a}@s1"]
    bench.zfs.promote(c)
    assert origins() == [f"{c}@s1", f"{c}@s2", None]
    bench.zfs.destroy(b)
    bench.zfs.destroy(a)
    assert bench.snapshots(c).keys() == {f"{c}@s1", f"{c}@s2"}


def test_after_promote_the_former_owner_can_be_destroyed(bench: Bench) -> None:
    a, c = bench.create("a"), f"{bench.root}/c"
    bench.zfs.snapshot([f"{a}@s"])
    bench.zfs.clone(f"{a}@s", c, {})
    bench.zfs.promote(c)
    bench.zfs.destroy(a)
    assert bench.snapshots(c).keys() == {f"{c}@s"}


def test_promote_is_refused_when_snapshot_names_collide(bench: Bench) -> None:
    a, c = bench.create("a"), f"{bench.root}/c"
    bench.zfs.snapshot([f"{a}@s1"])
    bench.zfs.snapshot([f"{a}@s2"])
    bench.zfs.clone(f"{a}@s2", c, {})
    bench.zfs.snapshot([f"{c}@s1"])
    before = bench.zfs.read([bench.root], ["guid", "origin"], kinds=[FILESYSTEM, SNAPSHOT])
    with pytest.raises(AlreadyExists):
        bench.zfs.promote(c)
    assert bench.zfs.read([bench.root], ["guid", "origin"], kinds=[FILESYSTEM, SNAPSHOT]) == before


def test_promote_needs_a_clone(bench: Bench) -> None:
    with pytest.raises(InvalidValue):
        bench.zfs.promote(bench.root)
    with pytest.raises(NotFound):
        bench.zfs.promote(f"{bench.root}/none")


def test_promote_needs_room_below_the_clones_quota(bench: Bench) -> None:
    a, c = bench.create("a"), f"{bench.root}/c"
    bench.write_file(f"{bench.mounted(a)}/big", os.urandom(4 << 20), sync=True)
    bench.zfs.snapshot([f"{a}@s"])
    bench.zfs.clone(f"{a}@s", c, {"quota": "1M"})
    with pytest.raises(OutOfSpace):
        bench.zfs.promote(c)
    assert bench.value(c, "origin") == f"{a}@s"


# ---- space


def test_written_and_used_follow_the_files(bench: Bench) -> None:
    a = bench.create("a")
    directory = bench.mounted(a)
    empty = int(bench.value(a, "referenced"))
    bench.write_file(f"{directory}/f", os.urandom(2 << 20))
    bench.sync()
    found = {name: int(p.value) for name, p in bench.properties(a, "referenced", "written", "used").items()}
    assert found["referenced"] == pytest.approx(empty + (2 << 20), abs=256 << 10)
    assert found["written"] == found["referenced"]
    bench.zfs.snapshot([f"{a}@s"])
    assert bench.value(a, "written") == "0"
    bench.write_file(f"{directory}/f", os.urandom(1 << 20))
    bench.sync()
    found = {
        name: int(p.value) for name, p in bench.properties(a, "written", "written@s", "usedbysnapshots", "used").items()
    }
    assert found["written"] == pytest.approx(1 << 20, abs=256 << 10)
    assert found["written@s"] == found["written"]
    assert found["usedbysnapshots"] == pytest.approx(2 << 20, abs=256 << 10)
    assert found["used"] == pytest.approx(3 << 20, abs=512 << 10)
    assert int(bench.value(f"{a}@s", "used")) == pytest.approx(2 << 20, abs=256 << 10)


def test_a_clone_is_charged_for_what_it_writes_itself(bench: Bench) -> None:
    a, c = bench.create("a"), f"{bench.root}/c"
    bench.write_file(f"{bench.mounted(a, 'a')}/f", os.urandom(2 << 20))
    bench.zfs.snapshot([f"{a}@s"])
    bench.zfs.clone(f"{a}@s", c, {})
    bench.write_file(f"{bench.mounted(c, 'c')}/g", os.urandom(1 << 20))
    bench.sync()
    found = {name: int(p.value) for name, p in bench.properties(c, "used", "written", "referenced").items()}
    assert found["used"] == pytest.approx(1 << 20, abs=256 << 10)
    assert found["written"] == pytest.approx(1 << 20, abs=256 << 10)
    assert found["referenced"] == pytest.approx(3 << 20, abs=256 << 10)
    bench.zfs.promote(c)
    assert int(bench.value(c, "used")) == pytest.approx(3 << 20, abs=256 << 10)
    assert int(bench.value(a, "used")) == pytest.approx(0, abs=256 << 10)


@pytest.mark.parametrize("limit", ["quota", "refquota"])
def test_writers_stop_at_the_quota(bench: Bench, limit: str) -> None:
    a = bench.create("a", **{limit: "2M"})
    directory = bench.mounted(a)
    bench.write_file(f"{directory}/small", os.urandom(64 << 10), sync=True)
    with pytest.raises(QuotaExceeded):
        for number in range(8):
            bench.write_file(f"{directory}/{number}", os.urandom(1 << 20), sync=True)
    assert int(bench.value(a, "used")) < 4 << 20
