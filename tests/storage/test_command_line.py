"""OpenZFS by its command line, against programs that replay what real ones printed, or misbehave."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from dsg.storage import errors
from dsg.storage.keys import WrappingKey
from dsg.storage.process import Outcome
from dsg.storage.zfs import commands
from dsg.storage.zfs.command_line import CommandLineZfs, Timeouts
from dsg.storage.zfs.interface import Change, ChangeKind, DatasetKind, Diff, Hold, Source, Version, ZfsEvent
from tests.storage.fake_zfs import FakeNode
from tests.storage.recorded import Output, each_diff_version, each_json_version, each_version, outputs
from tests.storage.values import PROPERTIES

EVERYTHING = tuple(DatasetKind)
MODERN = "case $1 in version) echo zfs-2.3.9-1; echo zfs-kmod-2.3.9-1; exit;; esac\n"
OLD = "case $1 in version) echo zfs-2.1.11-1; echo zfs-kmod-2.1.11-1; exit;; esac\n"


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


# ---- reading


@each_version
def test_a_tree_is_read_with_one_process(node: FakeNode, version: str) -> None:
    node.replay(*outputs(version).values())
    assert node.started(lambda: node.zfs.read(["dsgrec"], PROPERTIES, kinds=EVERYTHING)) == 1
    found = node.zfs.read(["dsgrec"], PROPERTIES, kinds=EVERYTHING)
    assert found["dsgrec/b"].value("dsg.test:unicode") == "Été — 🗂"
    assert found["dsgrec/b/c"].properties["compression"].source is Source.INHERITED
    assert found["dsgrec/vol"].kind is DatasetKind.VOLUME
    assert all("type" not in dataset.properties for dataset in found.values())


@each_version
def test_missing_roots_cost_no_further_process(node: FakeNode, version: str) -> None:
    node.replay(*outputs(version).values())
    roots = ["dsgrec/b", "dsgrec/none", "dsgnone/x", "dsgrec/a"]
    assert node.started(lambda: node.zfs.read(roots, PROPERTIES, kinds=EVERYTHING, depth=1)) == 1
    assert {"dsgrec/a", "dsgrec/b"} <= node.zfs.read(roots, PROPERTIES, kinds=EVERYTHING, depth=1).keys()


def test_roots_that_cannot_be_names_are_absent_and_start_nothing(node: FakeNode) -> None:
    roots = ["-r", "--help", "", "tank/a%b", "tank/a,b", "/etc", "tank@a", "tank#b", "tank/é", "a b/../c;"]
    assert node.started(lambda: node.zfs.read(roots, ["used"])) == 0
    assert node.zfs.read(roots, ["used"]) == {}
    assert node.zfs.read([], ["used"]) == {}


@pytest.mark.parametrize("name", ["all", "used,name", "-o", "", "a b", "used\n", "@x"])
def test_property_names_that_would_be_read_as_something_else_are_refused(node: FakeNode, name: str) -> None:
    with pytest.raises(errors.InvalidValue):
        node.zfs.read(["tank"], ["used", name])


def test_a_thousand_roots_are_one_process_and_very_many_are_few(node: FakeNode) -> None:
    node.script("zfs", "exit 0")
    thousand = [f"tank/dsg/repository-{n:06}/and-a-name-of-some-length" for n in range(1000)]
    assert node.started(lambda: node.zfs.read(thousand, ["used"])) == 1
    many = [f"tank/dsg/{'x' * 150}/{n:08}" for n in range(20_000)]
    assert node.started(lambda: node.zfs.read(many, ["used"])) == 4
    assert {record.outcome for record in node.records} == {"success"}


def test_trouble_beside_absence_is_an_error(node: FakeNode) -> None:
    text = "cannot open 'tank/a': dataset does not exist\\ncannot open 'tank/b': I/O error\\n"
    node.script("zfs", f'printf "{text}" >&2; exit 1')
    with pytest.raises(errors.CommandFailed, match="I/O error"):
        node.zfs.read(["tank/a", "tank/b"], ["used"])


def test_absence_is_no_failure_in_telemetry(node: FakeNode) -> None:
    node.script("zfs", "echo \"cannot open 'tank/a': dataset does not exist\" >&2; exit 1")
    assert node.zfs.read(["tank/a"], ["used"]) == {}
    assert node.records[-1].outcome == "success"


IMITATION = r"""
case "$*" in
*-j*) printf '%s' '{"datasets": {"tank/a": {"type": "FILESYSTEM", "properties":
{"a:b": {"value": "x\nq\ttype\tz", "source": {"type": "LOCAL", "data": "-"}},
"type": {"value": "filesystem", "source": {"type": "NONE", "data": "-"}}}}}}' ;;
*) printf 'tank/a\ta:b\tx\nq\ttype\tz\tlocal\ntank/a\ttype\tfilesystem\t-\n' ;;
esac
"""


def test_a_value_that_imitates_lines_is_read_as_json(node: FakeNode) -> None:
    node.script("zfs", MODERN + IMITATION)
    found = node.zfs.read(["tank/a"], ["a:b"])
    assert found["tank/a"].local("a:b") == "x\nq\ttype\tz"


def test_before_2_3_a_value_that_imitates_lines_is_an_error_that_says_so(node: FakeNode) -> None:
    node.script("zfs", OLD + IMITATION)
    with pytest.raises(errors.CommandFailed, match="a user property imitates it"):
        node.zfs.read(["tank/a"], ["a:b"])


@each_version
def test_pools_take_two_processes(node: FakeNode, version: str) -> None:
    recorded = outputs(version)
    node.replay(recorded["version"], *(o for name, o in recorded.items() if name.startswith("suspended/")))
    node.zfs.version()
    assert node.started(node.zfs.pools) == 2
    assert node.zfs.pools()["dsgsus"].health == "SUSPENDED"


@each_version
def test_holds_are_read(node: FakeNode, version: str) -> None:
    node.replay(*outputs(version).values())
    assert set(node.zfs.holds([f"dsgrec/b@{tail}" for tail in "123"])) == {
        Hold("dsgrec/b@2", "t"),
        Hold("dsgrec/b@2", "second tag"),
    }
    with pytest.raises(errors.NotFound):
        node.zfs.holds(["dsgrec/b@2", "dsgrec/b@9"])
    assert node.started(lambda: node.zfs.holds([])) == 0


# ---- versions


def test_the_version_is_asked_once(node: FakeNode) -> None:
    node.script("zfs", MODERN)
    assert node.started(lambda: [node.zfs.version() for _ in range(3)]) == 1
    assert node.zfs.version() == Version(2, 3, 9)


def test_unavailable_openzfs_is_asked_again(node: FakeNode) -> None:
    with pytest.raises(errors.ZfsUnavailable, match="install it on this node"):
        node.zfs.version()
    node.script("zfs", 'echo "The ZFS modules cannot be auto-loaded." >&2; exit 1')
    with pytest.raises(errors.ZfsUnavailable, match="modprobe zfs"):
        node.zfs.version()
    node.script("zfs", MODERN)
    assert node.zfs.version().json_output


@pytest.mark.parametrize("version", ["zfs-0.8.6-1", "zfs-2.0.3-9"])
def test_versions_too_old_are_refused(node: FakeNode, version: str) -> None:
    node.script("zfs", f"echo {version}")
    with pytest.raises(errors.ZfsUnavailable, match="too old"):
        node.zfs.version()


def test_tools_replaced_by_older_ones_are_noticed(node: FakeNode) -> None:
    node.script("zfs", MODERN)
    node.script("zpool", 'case "$*" in *-j*) echo "invalid option \'j\'" >&2; exit 2;; esac')
    with pytest.raises(errors.CommandFailed):
        node.zfs.pools()
    node.script("zfs", OLD)
    assert node.zfs.pools() == {}


# ---- commands that misbehave


def test_a_hanging_command_is_a_timeout_that_says_what_was_tried(tmp_path: Path) -> None:
    node = FakeNode(tmp_path, timeouts=Timeouts(read=0.2, change=0.2))
    node.script("zfs", "sleep 60")
    for act in (
        lambda: node.zfs.read(["tank"], ["used"]),
        lambda: node.zfs.create("tank/a", {}),
        lambda: node.zfs.program("tank", "return 1", []),
        node.zfs.version,
        node.zfs.pools,
    ):
        with pytest.raises(errors.CommandTimeout):
            act()
    with pytest.raises(
        errors.CommandTimeout, match=r"cannot create dataset tank/a: `zfs create` did not end within 0\.2 s"
    ):
        node.zfs.create("tank/a", {})


@pytest.mark.parametrize(
    "text", ["tank\tused\t1", "tank\tused\t1\tlocal\n", "nonsense\n", "tank\tused\n\ttype\t-\t-\n"]
)
def test_output_that_is_cut_off_or_odd_is_an_error_and_no_answer(node: FakeNode, text: str) -> None:
    node.script("zfs", OLD + f"printf '{text}'")
    with pytest.raises(errors.CommandFailed, match="not understood"):
        node.zfs.read(["tank"], ["used"])


@pytest.mark.parametrize("text", ['{"return":"', "", "[]"])
def test_a_program_whose_result_is_cut_off_is_an_error(node: FakeNode, text: str) -> None:
    node.script("zfs", f"printf '{text}'")
    with pytest.raises(errors.CommandFailed, match="not understood"):
        node.zfs.program("tank", "return 1", [])


def test_a_command_that_dies_is_an_error(node: FakeNode) -> None:
    node.script("zfs", "kill -ABRT $$")
    with pytest.raises(errors.CommandFailed, match="signal 6"):
        node.zfs.promote("tank/a")


# ---- changing


@each_version
def test_what_is_done_already_is_no_error(node: FakeNode, version: str) -> None:
    node.replay(*outputs(version).values())
    node.zfs.load_key("dsgrec/e")
    node.zfs.destroy_snapshots("dsgrec/b", ["8", "9"])


@each_json_version
def test_programs_run_from_stdin(node: FakeNode, version: str) -> None:
    node.script("zfs", 'cat > /dev/null; printf \'{"return":{"1":"%s"}}\' "$*"')
    assert node.zfs.program("tank", "return (...).argv", ["-n", "two words"]) == {
        "1": "program -j -- tank - -n two words"
    }
    assert version in outputs(version)["version"].stdout


def test_nothing_to_do_starts_nothing(node: FakeNode) -> None:
    assert node.started(lambda: node.zfs.set_properties("tank", {})) == 0
    assert node.started(lambda: node.zfs.inherit("tank", [])) == 0
    assert node.started(lambda: node.zfs.snapshot([])) == 0
    assert node.started(lambda: node.zfs.destroy_snapshots("tank", [])) == 0


HOSTILE = [
    "-r",
    "--",
    "tank/a@b%c",
    "tank/a@b,c",
    "tank/a@%",
    "tank@a@b",
    "tank/a\n",
    "",
    "/",
    "tank/",
    "1tank",
    "tank/a\0",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_would_be_read_as_something_else_start_nothing(node: FakeNode, name: str) -> None:
    """`zfs destroy a@b%c` destroys a range of snapshots, and `a@b,c` two."""
    node.script("zfs", "exit 0")
    for act in (
        lambda: node.zfs.destroy(name),
        lambda: node.zfs.create(name, {}),
        lambda: node.zfs.set_properties(name, {"a:b": "1"}),
        lambda: node.zfs.inherit(name, ["a:b"]),
        lambda: node.zfs.snapshot([name]),
        lambda: node.zfs.clone("tank/a@b", name, {}),
        lambda: node.zfs.clone(name, "tank/c", {}),
        lambda: node.zfs.promote(name),
        lambda: node.zfs.rename(name, "tank/c"),
        lambda: node.zfs.rename("tank/c", name),
        lambda: node.zfs.hold([name], "t"),
        lambda: node.zfs.release([name], "t"),
        lambda: node.zfs.holds([name]),
        lambda: node.zfs.load_key(name),
        lambda: node.zfs.load_key(name, WrappingKey(bytes(32))),
        lambda: node.zfs.opens(name, WrappingKey(bytes(32))),
        lambda: node.zfs.change_key(name, WrappingKey(bytes(32))),
        lambda: node.zfs.unload_key(name),
        lambda: node.zfs.program(name, "return 1", []),
        lambda: node.zfs.destroy_snapshots(name, ["a"]),
    ):
        with pytest.raises(errors.InvalidValue):
            act()
    assert node.records == []


@pytest.mark.parametrize("tail", ["a%b", "a,b", "%", "", "a@b", "a/b", "-\n"])
def test_snapshot_names_are_never_lists_or_ranges(node: FakeNode, tail: str) -> None:
    node.script("zfs", "exit 0")
    with pytest.raises(errors.InvalidValue):
        node.zfs.destroy_snapshots("tank/a", ["good", tail])
    assert node.records == []


@pytest.mark.parametrize(
    "properties", [{"-r": "x"}, {"-a:b": "x"}, {"a": "x\0y"}, {"a:b": "x" * 8192}, {"a b": "x"}, {"a=b": "x"}]
)
def test_properties_that_cannot_be_passed_are_refused(node: FakeNode, properties: dict[str, str]) -> None:
    node.script("zfs", "exit 0")
    with pytest.raises(errors.InvalidValue):
        node.zfs.set_properties("tank/a", properties)
    with pytest.raises(errors.InvalidValue):
        node.zfs.create("tank/a", properties)
    assert node.records == []


def test_more_snapshots_than_one_argument_can_name_are_refused_whole(node: FakeNode) -> None:
    node.script("zfs", "exit 0")
    with pytest.raises(errors.InvalidValue, match="at once"):
        node.zfs.destroy_snapshots("tank/a", [f"s{n:09}" for n in range(20_000)])
    assert node.records == []
    node.zfs.destroy_snapshots("tank/a", [f"s{n:09}" for n in range(10_000)])


def test_a_mounted_filesystem_is_not_destroyed(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    node.script("zfs", "exit 0")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("36 29 0:31 / /mnt/a ro,nosuid,nodev - zfs tank/a ro,xattr\n")
    node.zfs = type(node.zfs)(node.runner, zfs=str(tmp_path / "zfs"), mountinfo=mountinfo)
    with pytest.raises(errors.Busy, match="mounted at /mnt/a"):
        node.zfs.destroy("tank/a")
    assert node.records == []
    node.zfs.destroy("tank/a@s1")
    node.zfs.destroy("tank/b")


def test_a_busy_snapshot_that_is_held_says_so_in_old_versions_too(node: FakeNode) -> None:
    busy = 'echo "cannot destroy snapshot tank/a@1: dataset is busy" >&2; exit 1'
    read = "printf 'tank/a@1\\tuserrefs\\t%s\\t-\\ntank/a@1\\ttype\\tsnapshot\\t-\\n'"
    node.script("zfs", f"case $1 in destroy) {busy};; get) {read} 1;; esac")
    with pytest.raises(errors.Held, match="tank/a@1 is held"):
        node.zfs.destroy("tank/a@1")
    with pytest.raises(errors.Held, match="tank/a@1 is held"):
        node.zfs.destroy_snapshots("tank/a", ["1", "2"])
    node.script("zfs", f"case $1 in destroy) {busy};; get) {read} 0;; esac")
    with pytest.raises(errors.Busy):
        node.zfs.destroy("tank/a@1")


# ---- events

EVENT = """Nov 25 2026 16:30:09.{number:09}\\tsysevent.fs.zfs.history_event
        class = "sysevent.fs.zfs.history_event"
        pool = "tank"
        history_dsname = "tank/{name}"
        eid = 0x{number:x}

"""


def events_script(past: str, new: str, *, then: str) -> str:
    """Return a zpool that prints what is past, and with -f also what is new, and then does something."""

    def lines(names: str, first: int) -> str:
        return "".join(EVENT.format(number=first + i, name=name) for i, name in enumerate(names))

    return f"""printf '{lines(past, 0x1F0)}'
case "$*" in *-f*) printf '{lines(new, 0x1F0 + len(past))}'; {then};; esac"""


def test_events_begin_after_those_that_are_past(node: FakeNode) -> None:
    node.script("zpool", events_script("ab", "cd", then="sleep 60"))
    stream = node.zfs.events()
    seen: list[ZfsEvent] = []
    thread = threading.Thread(target=lambda: seen.extend(stream))
    thread.start()
    deadline = time.monotonic() + 10
    time.sleep(0.2)
    stream.close()
    stream.close()
    thread.join(max(0.0, deadline - time.monotonic()))
    assert not thread.is_alive()
    assert [event.dataset for event in seen] == ["tank/c", "tank/d"]
    assert {event.pool for event in seen} == {"tank"}


def test_events_come_as_they_happen(node: FakeNode) -> None:
    node.script("zpool", events_script("a", "b", then="sleep 60"))
    stream = node.zfs.events()
    iterator = iter(stream)
    assert next(iterator).dataset == "tank/b"
    stream.close()
    assert list(iterator) == []


def test_streams_leave_no_descriptors_and_processes_behind(node: FakeNode) -> None:
    node.script("zpool", events_script("a", "b", then="sleep 60"))
    before = len(os.listdir("/proc/self/fd"))
    iterated, untouched = node.zfs.events(), node.zfs.events()
    iterator = iter(iterated)
    next(iterator)
    for stream in (iterated, untouched):
        stream.close()
        assert list(stream) == []
    assert list(iterator) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_source_that_dies_is_an_error(node: FakeNode) -> None:
    node.script("zpool", events_script("a", "b", then="echo 'internal error: oops'; exit 3"))
    stream = iter(node.zfs.events())
    assert next(stream).dataset == "tank/b"
    with pytest.raises(errors.CommandFailed, match=r"ended by itself \(exit code 3\): internal error: oops"):
        next(stream)


def test_events_need_openzfs(node: FakeNode) -> None:
    with pytest.raises(errors.ZfsUnavailable):
        node.zfs.events()
    node.script("zpool", 'echo "The ZFS modules cannot be auto-loaded." >&2; exit 1')
    with pytest.raises(errors.ZfsUnavailable):
        node.zfs.events()
    node.script("zpool", 'echo "cannot get event: permission denied" >&2; exit 255')
    with pytest.raises(errors.PermissionDenied):
        node.zfs.events()


# ---- commands as data


def test_commands_describe_themselves() -> None:
    command = commands.create("tank/a", {"recordsize": "1M", "org.hrdag.dsg:uid": "u 1"})
    assert command.argv == (
        "zfs", "create", "-u", "-o", "recordsize=1M", "-o", "org.hrdag.dsg:uid=u 1", "--", "tank/a"
    )  # fmt: skip
    assert command.does == "create dataset tank/a"
    assert commands.snapshot(["tank/a@1", "tank/b@1"], {}).does == "take snapshot tank/a@1 and 1 more"


def test_an_output_knows_its_command() -> None:
    assert Output(("zfs", "list"), 0, "", "").argv[0] == "zfs"


# ---- differences

MOUNTINFO = "36 22 0:31 / {directory} ro - zfs {dataset} ro\n"


def mounted(node: FakeNode, *mounts: tuple[str, str]) -> CommandLineZfs:
    """Return OpenZFS where datasets are mounted."""
    path = node.directory / "mountinfo"
    path.write_text("".join(MOUNTINFO.format(dataset=name, directory=where) for name, where in mounts))
    programs = {name: str(node.directory / name) for name in ("zfs", "zpool")}
    return CommandLineZfs(node.runner, Timeouts(read=30, change=30), mountinfo=path, **programs)


@each_diff_version
def test_differences_are_read_up_to_the_limit(node: FakeNode, version: str) -> None:
    node.replay(*outputs(version).values())
    zfs = mounted(node, ("dsgdif/a", "/var/tmp/dsgdif\\040a"), ("dsgdif/b", "/var/tmp/dsgdif-b"))
    assert zfs.diff("dsgdif/a@1", "dsgdif/b", limit=0) == Diff([], more=True)
    assert [change.path for change in zfs.diff("dsgdif/b@1", "dsgdif/a").changes] == ["", "late"]
    whole = zfs.diff("dsgdif/b@1", "dsgdif/a", limit=2)
    assert (len(whole.changes), whole.more) == (2, False)
    some = zfs.diff("dsgdif/b@1", "dsgdif/a", limit=1)
    assert (len(some.changes), some.more) == (1, True)
    with pytest.raises(errors.NotFound):
        zfs.diff("dsgdif/b@none", "dsgdif/b")


def test_a_long_comparison_is_ended_when_it_told_enough(node: FakeNode) -> None:
    """Files without a name that somebody has open are passed over, and don't count."""
    unnamed = "printf '+\\tF\\t/m(on_delete_queue)\\n'"
    node.script("zfs", f"{unnamed}; {unnamed}; while :; do printf '+\\tF\\t/m/a\\n' || exit; done")
    found = mounted(node, ("tank/a", "/m")).diff("tank/a@s", "tank/a", limit=3)
    assert (found.changes, found.more) == ([Change("a", ChangeKind.ADDED)] * 3, True)
    assert [record.outcome for record in node.records] == [Outcome.SUCCESS]


def test_a_comparison_that_fails_after_it_began_is_an_error(node: FakeNode) -> None:
    node.script("zfs", "printf '+\\tF\\t/m/a\\n'; echo 'Unable to obtain diffs: I/O error' >&2; exit 1")
    with pytest.raises(errors.CommandFailed, match="I/O error"):
        mounted(node, ("tank/a", "/m")).diff("tank/a@s", "tank/a")


def test_a_comparison_needs_a_mount_and_a_limit(node: FakeNode) -> None:
    node.script("zfs", "printf '+\\tF\\t/m/a\\n'")
    with pytest.raises(errors.NotMounted):
        mounted(node).diff("tank/a@s", "tank/a")
    with pytest.raises(errors.CommandFailed, match="mounted elsewhere"):
        mounted(node, ("tank/a", "/elsewhere")).diff("tank/a@s", "tank/a")
    for snapshot, dataset, limit in (("tank/a@s", "tank/a", -1), ("tank/a", "tank/a", 1), ("tank/a@s", "-x", 1)):
        with pytest.raises(errors.InvalidValue):
            mounted(node, ("tank/a", "/m")).diff(snapshot, dataset, limit=limit)


def test_a_key_passes_through_stdin_alone(
    node: FakeNode, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is run, and what is logged or raised about it, whether it works or fails, shows nothing of a key."""
    material = bytes(range(65, 97))
    key = WrappingKey(material)
    seen = tmp_path / "stdin"
    calls: list[Callable[[], object]] = [
        lambda: node.zfs.create("tank/e", {"keylocation": "prompt"}, key=key),
        lambda: node.zfs.load_key("tank/e", key),
        lambda: node.zfs.opens("tank/e", key),
        lambda: node.zfs.change_key("tank/e", key),
    ]
    said: list[str] = []
    for end in ("exit 0", "echo 'Key load error: no such luck' >&2; exit 1"):
        node.script("zfs", f"cat >> {seen}; env >> {seen}.env; {end}")
        for call in calls:
            try:
                call()
            except errors.StorageError as error:
                said.append("".join(traceback.format_exception(error)))
    assert seen.read_bytes() == material * 2 * len(calls)
    assert len(said) == len(calls)
    texts = [*said, *map(repr, node.records), caplog.text, *capsys.readouterr(), Path(f"{seen}.env").read_text()]
    secret = material.decode()
    assert not any(secret[n : n + 6] in text for text in texts for n in range(len(secret) - 5))
