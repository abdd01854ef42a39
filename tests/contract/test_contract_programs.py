"""Channel programs: what they get, what they return, and that their changes land together."""

from __future__ import annotations

import pytest

from dsg.storage.errors import PoolNotFound, ProgramFailed
from dsg.storage.zfs.interface import Property, Source

from .bench import FILESYSTEM, SNAPSHOT, Bench

HEAD = "org.hrdag.dsg:head"

COMMIT = """
local arg = (...).argv
local parent, staged, version, base = arg[1], arg[2], arg[3], arg[4]
local head = zfs.get_prop(parent, "org.hrdag.dsg:head")
if head ~= base then return { done = false, head = head } end
for _, check in ipairs({
  { zfs.check.snapshot, staged .. "@" .. version },
  { zfs.check.promote, staged },
  { zfs.check.set_prop, parent, "org.hrdag.dsg:head", staged },
}) do
  local code, details = check[1](table.unpack(check, 2))
  if code ~= 0 then return { done = false, errno = code, details = details } end
end
zfs.sync.snapshot(staged .. "@" .. version)
zfs.sync.promote(staged)
zfs.sync.set_prop(parent, "org.hrdag.dsg:head", staged)
return { done = true, head = staged }
"""


def staged(bench: Bench) -> tuple[str, str]:
    """Make a first generation with a snapshot, name it head, and clone a second from it."""
    first, second = bench.create("g1"), f"{bench.root}/g2"
    bench.zfs.snapshot([f"{first}@s1"])
    bench.zfs.clone(f"{first}@s1", second, {})
    bench.zfs.set_properties(bench.root, {HEAD: first})
    return first, second


def test_arguments_arrive_as_they_were_given(bench: Bench) -> None:
    given = ["plain", "two words", "", "é—Г", 'it\'s "quoted"', "line\nbreak", "-n", "--x=1"]
    found = bench.run("return (...).argv", *given)
    assert found == {str(number): value for number, value in enumerate(given, 1)}
    assert bench.run("return #(...).argv") == 0


RETURNED = {
    "": None,
    "return nil": True,
    "return true": True,
    "return false": False,
    "return 42": 42,
    "return -1": -1,
    "return 9223372036854775807": 9223372036854775807,
    "return 'text'": "text",
    "return 'one 🗂 two'": "one  two",
    "return {}": {},
    "return {10, 20, x = {y = false}, [true] = 'b'}": {"1": 10, "2": 20, "x": {"y": False}, "true": "b"},
    "return {a = nil}": {},
    "return '10' + 5": 15,
    "return tostring(9007199254740993)": "9007199254740993",
}


def test_values_come_back_in_json(bench: Bench) -> None:
    """OpenZFS prints lists as tables with text keys, `return nil` as true, and loses characters beyond U+FFFF."""
    for source, value in RETURNED.items():
        assert bench.run(source, sync=False) == value, source


def test_guids_are_signed_numbers_in_a_program(bench: Bench) -> None:
    names = [bench.create(letter) for letter in "abcd"]
    for name in names:
        found = bench.run("local guid = zfs.get_prop((...).argv[1], 'guid'); return guid", name)
        assert isinstance(found, int)
        assert found % 2**64 == int(bench.value(name, "guid"))


def test_get_prop_gives_value_and_source(bench: Bench) -> None:
    child = bench.create("a", quota="1G")
    bench.zfs.set_properties(bench.root, {HEAD: "g1"})
    source = """
      local dataset, result = (...).argv[1], {}
      for _, name in ipairs({ "compression", "quota", "refquota", "org.hrdag.dsg:head", "used", "origin", "x:y" }) do
        local value, source = zfs.get_prop(dataset, name)
        result[name] = { value = value, source = source }
      end
      return result
    """
    assert bench.run(source, child) == {
        "compression": {"value": "off", "source": bench.root},
        "quota": {"value": 1 << 30, "source": child},
        "refquota": {"value": 0, "source": "default"},
        HEAD: {"value": "g1", "source": bench.root},
        "used": {"value": int(bench.value(child, "used"))},
        "origin": {},
        "x:y": {},
    }


FAILING = {
    "error('boom')": "boom",
    "assert(1 == 2, 'no such luck')": "no such luck",
    "local x = ; return": "unexpected symbol",
    "return 7 // 2": "unexpected symbol",
    "return nothing.at.all": "nothing",
    "return zfs.get_prop('@ROOT@/none', 'used')": "no such dataset",
    "return zfs.get_prop('@ROOT@', 'bogus')": "not a valid property",
    "return zfs.sync.snapshot()": "too few arguments",
    "return zfs.sync.snapshot(5)": "wrong type",
    "return 1, 2": "Multiple return values",
    "return os.time()": "os",
    "return pcall(error, 'x')": "pcall",
    "return function() end": "Invalid value type",
}


def test_programs_that_fail_say_why(bench: Bench) -> None:
    for source, reason in FAILING.items():
        with pytest.raises(ProgramFailed) as caught:
            bench.run(source.replace("@ROOT@", bench.root), sync=False)
        assert reason in f"{caught.value} {caught.value.details}", source


def test_endless_programs_are_stopped(bench: Bench) -> None:
    with pytest.raises(ProgramFailed):
        bench.run("while true do end", sync=False)


def test_a_program_needs_its_pool(bench: Bench) -> None:
    with pytest.raises(PoolNotFound):
        bench.zfs.program("no-such-pool-here", "return 1", [])


def test_without_sync_a_program_looks_and_does_not_touch(bench: Bench) -> None:
    source = "return zfs.check.set_prop((...).argv[1], 'a:b', '1')"
    assert bench.run(source, bench.root, sync=False) == 0
    with pytest.raises(ProgramFailed):
        bench.run(source.replace("check", "sync"), bench.root, sync=False)
    assert "a:b" not in bench.properties(bench.root, "a:b", "guid")


def test_what_was_done_before_an_error_stays_done(bench: Bench) -> None:
    source = """
      zfs.sync.set_prop((...).argv[1], "a:b", "done")
      error("half way")
    """
    with pytest.raises(ProgramFailed):
        bench.run(source, bench.root)
    assert bench.properties(bench.root, "a:b")["a:b"] == Property("done", Source.LOCAL)


# ---- the commit


def test_commit_moves_the_head_in_one_transaction_group(bench: Bench) -> None:
    first, second = staged(bench)
    assert bench.run(COMMIT, bench.root, second, "s2", first) == {"done": True, "head": second}
    found = bench.zfs.read([bench.root], ["origin", HEAD, "createtxg"], kinds=[FILESYSTEM, SNAPSHOT])
    assert found.keys() == {bench.root, first, second, f"{second}@s1", f"{second}@s2"}
    assert found[bench.root].local(HEAD) == second
    assert found[first].value("origin") == f"{second}@s1"
    assert found[second].value("origin") is None


def test_a_stale_head_changes_nothing(bench: Bench) -> None:
    first, second = staged(bench)
    bench.zfs.set_properties(bench.root, {HEAD: f"{bench.root}/g9"})
    before = bench.zfs.read([bench.root], ["origin", HEAD, "guid"], kinds=[FILESYSTEM, SNAPSHOT])
    assert bench.run(COMMIT, bench.root, second, "s2", first) == {"done": False, "head": f"{bench.root}/g9"}
    assert bench.zfs.read([bench.root], ["origin", HEAD, "guid"], kinds=[FILESYSTEM, SNAPSHOT]) == before


def test_a_version_name_that_is_taken_changes_nothing(bench: Bench) -> None:
    first, second = staged(bench)
    bench.zfs.snapshot([f"{second}@s1"])
    before = bench.zfs.read([bench.root], ["origin", HEAD, "guid"], kinds=[FILESYSTEM, SNAPSHOT])
    answer = bench.run(COMMIT, bench.root, second, "s2", first)
    assert answer == {"done": False, "errno": 17, "details": {"1": "s1"}}
    assert bench.zfs.read([bench.root], ["origin", HEAD, "guid"], kinds=[FILESYSTEM, SNAPSHOT]) == before


# ---- zfs.sync and zfs.list


def test_calls_answer_with_errnos(bench: Bench) -> None:
    a = bench.create("a")
    bench.create("a/child")
    bench.zfs.snapshot([f"{a}@s"])
    bench.zfs.clone(f"{a}@s", f"{bench.root}/c", {})
    bench.zfs.snapshot([f"{bench.root}/c@held"])
    bench.zfs.hold([f"{bench.root}/c@held"], "t")
    source = """
      local root, a = (...).argv[1], (...).argv[1] .. "/a"
      return {
        snapshot_again = zfs.sync.snapshot(a .. "@s"),
        snapshot_nowhere = zfs.sync.snapshot(root .. "/none@s"),
        destroy_with_snapshots = zfs.sync.destroy(a),
        destroy_with_children = zfs.sync.destroy(root),
        destroy_cloned = zfs.sync.destroy(a .. "@s"),
        destroy_held = zfs.sync.destroy(root .. "/c@held"),
        destroy_absent = zfs.sync.destroy(a .. "@absent"),
        destroy_nowhere = zfs.sync.destroy(root .. "/none"),
        promote_no_clone = zfs.sync.promote(a),
        native = zfs.sync.set_prop(a, "compression", "lz4"),
        bad_name = zfs.sync.set_prop(a, "X:Y", "lz4"),
        set_nowhere = zfs.sync.set_prop(root .. "/none", "a:b", "1"),
        inherit_quota = zfs.sync.inherit(a, "quota"),
        names = { ENOENT, EEXIST, EBUSY, EINVAL },
      }
    """
    assert bench.run(source, bench.root) == {
        "snapshot_again": 17,
        "snapshot_nowhere": 2,
        "destroy_with_snapshots": 16,
        "destroy_with_children": 17,
        "destroy_cloned": 17,
        "destroy_held": 16,
        "destroy_absent": 0,
        "destroy_nowhere": 2,
        "promote_no_clone": 22,
        "native": 22,
        "bad_name": 22,
        "set_nowhere": 2,
        "inherit_quota": 22,
        "names": {"1": 2, "2": 17, "3": 16, "4": 22},
    }


def test_one_program_snapshots_several_filesystems_once(bench: Bench) -> None:
    a, b = bench.create("a"), bench.create("b")
    source = """
      local a, b = (...).argv[1], (...).argv[2]
      return { zfs.sync.snapshot(a .. "@s"), zfs.sync.snapshot(b .. "@s"), zfs.sync.snapshot(a .. "@t") }
    """
    assert bench.run(source, a, b) == {"1": 0, "2": 0, "3": 11}
    found = bench.zfs.read([a, b], ["createtxg"], kinds=[SNAPSHOT])
    assert found.keys() == {f"{a}@s", f"{b}@s"}
    assert len({snapshot.value("createtxg") for snapshot in found.values()}) == 1


def test_lists_show_what_there_is(bench: Bench) -> None:
    a = bench.create("a")
    bench.zfs.snapshot([f"{a}@s1"])
    bench.zfs.snapshot([f"{a}@s2"])
    bench.zfs.hold([f"{a}@s1"], "t")
    bench.zfs.clone(f"{a}@s1", f"{bench.root}/c", {})
    bench.zfs.set_properties(bench.root, {HEAD: "g1"})
    source = """
      local root, a, result = (...).argv[1], (...).argv[1] .. "/a", {}
      local function gather(name, ...)
        result[name] = {}
        for one, two, three in ... do result[name][one] = { two, three } end
      end
      gather("children", zfs.list.children(root))
      gather("snapshots", zfs.list.snapshots(a))
      gather("clones", zfs.list.clones(a .. "@s1"))
      gather("properties", zfs.list.user_properties(a))
      result.held = 0
      for tag in zfs.list.holds(a .. "@s1") do result.held = result.held + 1; result.tag = tag end
      return result
    """
    found = bench.run(source, bench.root)
    assert isinstance(found, dict)
    properties = found.pop("properties")
    assert isinstance(properties, dict)
    assert properties[HEAD] == {"1": "g1", "2": bench.root}
    assert found == {
        "children": {a: {}, f"{bench.root}/c": {}},
        "snapshots": {f"{a}@s1": {}, f"{a}@s2": {}},
        "clones": {f"{bench.root}/c": {}},
        "held": 1,
        "tag": "t",
    }


def test_programs_rename_inherit_roll_back_and_destroy(bench: Bench) -> None:
    version = bench.zfs.version()
    if (version.major, version.minor) < (2, 2):
        pytest.skip("zfs.sync.rename_snapshot came with OpenZFS 2.2")
    a = bench.create("a")
    directory = bench.mounted(a)
    bench.write_file(f"{directory}/f", b"first")
    bench.zfs.snapshot([f"{a}@s1"])
    bench.write_file(f"{directory}/f", b"second")
    bench.zfs.set_properties(a, {HEAD: "x"})
    roll_back = "return zfs.sync.rollback((...).argv[1]) == 0"
    assert bench.run(roll_back, a) is False
    bench.host.unmount(directory)
    source = """
      local a = (...).argv[1]
      local rolled, details = zfs.sync.rollback(a)
      return {
        rolled, details.target,
        zfs.sync.rename_snapshot(a, "s1", "kept"),
        zfs.sync.inherit(a, "org.hrdag.dsg:head"),
        zfs.exists(a .. "@s1"), zfs.exists(a .. "@kept"),
      }
    """
    found = bench.run(source, a)
    assert found == {"1": 0, "2": f"{a}@s1", "3": 0, "4": 0, "5": False, "6": True}
    bench.host.mount(a, directory, read_only=False)
    assert bench.read_file(f"{directory}/f") == b"first"
    assert HEAD not in bench.properties(a, HEAD)
    destroy = "return zfs.sync.destroy((...).argv[1])"
    assert bench.run(destroy, f"{a}@kept") == 0
    assert bench.run(destroy, a) == 16
    bench.host.unmount(directory)
    assert bench.run(destroy, a) == 0
    assert not bench.exists(a)


def test_user_property_values_survive_a_program(bench: Bench) -> None:
    value = 'é—Г "quoted"\nsecond line\ttab'
    source = """
      local dataset, value = (...).argv[1], (...).argv[2]
      zfs.sync.set_prop(dataset, "a:b", value)
      local found = zfs.get_prop(dataset, "a:b")
      return found
    """
    assert bench.run(source, bench.root, value) == value
    assert bench.properties(bench.root, "a:b")["a:b"] == Property(value, Source.LOCAL)
