"""What the model's Lua does beyond the contract: its limits, said aloud."""

from __future__ import annotations

import pytest

from dsg.storage.errors import ProgramFailed
from dsg.storage.zfs.model import ModelNode, ModelZfs
from dsg.storage.zfs.model.program import BeyondModel


@pytest.mark.parametrize("source", ["return 7 / 2", "return 2 ^ 10", "return 1.5", "local x = 1.0 return 1"])
def test_arithmetic_that_openzfs_does_in_integers_is_refused(zfs: ModelZfs, source: str) -> None:
    with pytest.raises(BeyondModel):
        zfs.program("tank", source, [])


@pytest.mark.parametrize(
    "source",
    [
        "return 'a/b'",
        'return "1.5"',
        "-- 7 / 2\nreturn 1",
        "--[[ 1.5 ]] return 1",
        "return [[1.5 / 2]]",
        "return [=[/]=]",
    ],
)
def test_text_and_comments_may_look_like_it(zfs: ModelZfs, source: str) -> None:
    assert zfs.program("tank", source, []) is not None


@pytest.mark.parametrize(
    "name", ["os", "io", "require", "load", "dofile", "pcall", "print", "debug", "math", "utf8", "python"]
)
def test_nothing_leads_out_of_the_sandbox(zfs: ModelZfs, name: str) -> None:
    assert zfs.program("tank", f"return {name} == nil", []) is True


def test_no_program_reaches_the_next(zfs: ModelZfs) -> None:
    zfs.program("tank", "leak = 1; string.leak = 2; table.concat = nil; zfs.leak = 3", [])
    source = "return leak == nil and string.leak == nil and table.concat ~= nil and zfs.leak == nil"
    assert zfs.program("tank", source, []) is True


def test_memory_is_limited(zfs: ModelZfs) -> None:
    with pytest.raises(ProgramFailed, match="Memory limit exhausted"):
        zfs.program("tank", "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end", [])


def test_names_of_other_pools_are_out_of_reach(node: ModelNode, zfs: ModelZfs) -> None:
    node.add_pool("other")
    assert zfs.program("tank", "return zfs.sync.snapshot('other@s')", []) == 18
    with pytest.raises(ProgramFailed, match="not in the target pool"):
        zfs.program("tank", "return zfs.exists('other')", [])


def test_lists_come_in_no_order_that_means_anything(zfs: ModelZfs) -> None:
    names = [f"tank/{number:02}" for number in range(20)]
    for name in names:
        zfs.create(name, {})
    source = "local r = {} for name in zfs.list.children('tank') do r[#r + 1] = name end return r"
    found = zfs.program("tank", source, [])
    assert isinstance(found, dict)
    assert sorted(str(name) for name in found.values()) == names
    assert list(found.values()) != names
    assert found == zfs.program("tank", source, [])


def test_deferred_destruction_waits_for_holds_and_clones(node: ModelNode, zfs: ModelZfs) -> None:
    zfs.create("tank/a", {})
    zfs.snapshot(["tank/a@s"])
    zfs.hold(["tank/a@s"], "t")
    zfs.clone("tank/a@s", "tank/c", {})
    assert zfs.program("tank", "return zfs.sync.destroy{'tank/a@s', defer = true}", []) == 0
    zfs.release(["tank/a@s"], "t")
    assert node.snapshot("tank/a@s").deferred
    zfs.destroy("tank/c")
    assert zfs.program("tank", "return zfs.exists('tank/a@s')", []) is False


def test_bookmarks_move_with_the_snapshots_of_their_time(zfs: ModelZfs) -> None:
    from dsg.storage.zfs.interface import DatasetKind

    zfs.create("tank/a", {})
    zfs.snapshot(["tank/a@s1"])
    assert zfs.program("tank", "return zfs.sync.bookmark('tank/a@s1', 'tank/a#b1')", []) == 0
    zfs.clone("tank/a@s1", "tank/c", {})
    zfs.snapshot(["tank/a@s2"])
    assert zfs.program("tank", "return zfs.sync.bookmark('tank/a@s2', 'tank/a#b2')", []) == 0
    zfs.promote("tank/c")
    found = zfs.read(["tank"], ["createtxg", "compression"], kinds=[DatasetKind.BOOKMARK])
    assert found.keys() == {"tank/c#b1", "tank/a#b2"}
    assert found["tank/c#b1"].value("compression") is None
