"""What OpenZFS prints, as it was recorded on real nodes, becomes typed values; text and JSON say the same."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.storage.zfs import commands, event_stream, parse_json, parse_text
from dsg.storage.zfs.interface import (
    Change,
    ChangeKind,
    Dataset,
    DatasetKind,
    Hold,
    Pool,
    Property,
    Scan,
    Source,
    Version,
    ZfsEvent,
)
from dsg.storage.zfs.parse_json import Unparsable
from tests.storage.recorded import VERSIONS, each_diff_version, each_json_version, each_version, outputs
from tests.storage.values import BYTES, PROPERTIES, USER_VALUES

WANTED = commands.properties_to_read(PROPERTIES)
STATES = ["healthy", "degraded", "resilvered", "paused", "canceled", "scrubbing", "corrupt", "suspended", "readonly"]


def text_tree(version: str, name: str = "tree") -> dict[str, Dataset]:
    return parse_text.datasets(outputs(version)[f"get/{name}.text"].stdout, WANTED)


# ---- versions


@each_version
def test_the_version_is_the_one_recorded(version: str) -> None:
    found = parse_text.version(outputs(version)["version"].stdout)
    assert f"{found.major}.{found.minor}.{found.patch}" == version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("zfs-2.2.2-0ubuntu9\nzfs-kmod-2.2.2-0ubuntu9\n", Version(2, 2, 2)),
        ("zfs-2.3.0-rc4\n", Version(2, 3, 0)),
        ("zfs-2.4.99-105_gabcdef\nzfs-kmod-2.4.99-105_gabcdef\n", Version(2, 4, 99)),
        ("zfs-2.4\n", Version(2, 4, 0)),
    ],
)
def test_versions_of_other_builds(text: str, version: Version) -> None:
    assert parse_text.version(text) == version


def test_what_is_no_version_is_refused() -> None:
    with pytest.raises(Unparsable):
        parse_text.version("zfs: unrecognized command 'version'")


# ---- datasets


@each_version
def test_kinds_and_names_of_a_tree(version: str) -> None:
    found = {name: dataset.kind for name, dataset in text_tree(version).items()}
    filesystem, snapshot = DatasetKind.FILESYSTEM, DatasetKind.SNAPSHOT
    assert found == {
        **{f"dsgrec/{name}": filesystem for name in ("a", "b", "b/c", "clone", "collision", "e", "locked", "m")},
        **{f"dsgrec/b@{tail}": snapshot for tail in "123"},
        "dsgrec": filesystem,
        "dsgrec/vol": DatasetKind.VOLUME,
        "dsgrec/a#mark": DatasetKind.BOOKMARK,
        "dsgrec/a@1": snapshot,
        "dsgrec/collision@1": snapshot,
    }


@each_version
def test_every_source_is_told_apart(version: str) -> None:
    found = text_tree(version)
    b, child, snapshot = (found[name].properties for name in ("dsgrec/b", "dsgrec/b/c", "dsgrec/b@1"))
    assert b["compression"] == Property("lz4", Source.LOCAL)
    assert child["compression"] == Property("lz4", Source.INHERITED, "dsgrec/b")
    assert b["mountpoint"] == Property("legacy", Source.INHERITED, "dsgrec")
    assert child["quota"] == Property("0", Source.DEFAULT)
    assert b["readonly"] == Property("on", Source.TEMPORARY)
    assert b["mounted"] == Property("yes", Source.NONE)
    assert b["quota"] == Property(str(64 << 20), Source.LOCAL)
    assert snapshot["quota"] == Property("-", Source.NONE)
    assert snapshot["dsg.test:tail"] == Property("1", Source.LOCAL)
    assert snapshot["dsg.test:plain"] == Property("justice", Source.INHERITED, "dsgrec/b")
    assert found["dsgrec/clone"].value("origin") == "dsgrec/a@1"
    assert found["dsgrec/e"].value("keystatus") == "available"
    assert found["dsgrec/locked"].value("keystatus") == "unavailable"


@each_version
def test_values_of_user_properties_come_out_whole_or_not_at_all(version: str) -> None:
    found = text_tree(version)
    for name, value in USER_VALUES.items():
        shown = value.decode("utf-8", "backslashreplace")
        assert found["dsgrec/b"].properties[f"dsg.test:{name}"] == Property(shown, Source.LOCAL)
        assert f"dsg.test:{name}" not in found["dsgrec/a"].properties
    assert all("dsg.test:nobody-sets-this" not in dataset.properties for dataset in found.values())


@each_version
def test_missing_roots_leave_the_others(version: str) -> None:
    output = outputs(version)["get/missing.text"]
    assert output.exit_code == 1
    found = text_tree(version, "missing")
    assert found.keys() == {
        "dsgrec/a", "dsgrec/a@1", "dsgrec/a#mark", "dsgrec/b", "dsgrec/b@1", "dsgrec/b@2", "dsgrec/b@3", "dsgrec/b/c"
    }  # fmt: skip
    assert text_tree(version, "nothing") == {}


@each_json_version
def test_json_says_the_same_as_text_but_for_what_it_drops(version: str) -> None:
    """OpenZFS prints no character beyond U+FFFF in JSON: why datasets are read as text."""
    json = parse_json.datasets(outputs(version)["get/tree.json"].stdout)
    text = text_tree(version)
    assert json.keys() == text.keys()
    for name, dataset in text.items():
        expected = {
            key: replace(value, value="".join(c for c in value.value if ord(c) <= 0xFFFF))
            for key, value in dataset.properties.items()
            if key != BYTES
        }
        assert json[name].kind == dataset.kind
        assert json[name].properties == expected
    assert "🗂" not in json["dsgrec/b"].properties["dsg.test:unicode"].value


@each_json_version
def test_json_prints_nothing_when_a_root_is_missing_and_breaks_off_at_odd_bytes(version: str) -> None:
    missing, odd = outputs(version)["get/missing.json"], outputs(version)["get/bytes.json"]
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert odd.exit_code == 0
    with pytest.raises(Unparsable):
        parse_json.datasets(odd.stdout)
    assert parse_json.datasets(outputs(version)["get/nothing.json"].stdout) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"datasets": []}',
        '{"datasets": {"a": 1}}',
        '{"datasets": {"a": {"type": "POND", "properties": {}}}}',
        '{"datasets": {"a": {"type": "VOLUME", "properties": {"x": {"value": "1", "source": {"type": "HEARSAY"}}}}}}',
    ],
)
def test_json_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(Unparsable):
        parse_json.datasets(text)


# ---- the text form against values that imitate it

ASKED = ("used", "dsg.test:a", "dsg.test:b", "type")
PIECES = st.sampled_from(
    ["\n", "\t", "tank/x", "tank/y", "tank/z", "used", "dsg.test:a", "dsg.test:b", "type", "1", "-", "local", "default"]
) | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3)
VALUES = st.lists(PIECES, max_size=14).map("".join)


def printed(tree: dict[str, tuple[str, str]]) -> str:
    """Print datasets as zfs-get(8) does, without escaping anything."""
    lines = []
    for name, (a, b) in tree.items():
        rows = (("used", "1", "-"), ("dsg.test:a", a, "local"), ("dsg.test:b", b, "local"), ("type", "filesystem", "-"))
        lines += ["\t".join((name, *row)) for row in rows]
    return "".join(f"{line}\n" for line in lines)


def forge(name: str, a: str, b: str, *, to: str) -> str:
    """Return the lines from a value of property `to` on that would make up another dataset."""
    whole = printed({name: (a, b)})
    return whole if to == "used" else whole[whole.index(f"{name}\t{to}") :]


@given(st.dictionaries(st.sampled_from(["tank/x", "tank/y", "tank/z"]), st.tuples(VALUES, VALUES)))
def test_no_value_can_pass_for_another(tree: dict[str, tuple[str, str]]) -> None:
    """Whatever people put into user properties, what is read is the truth, or reading is refused."""
    try:
        found = parse_text.datasets(printed(tree), ASKED)
    except Unparsable:
        return
    assert found.keys() == tree.keys()
    for name, (a, b) in tree.items():
        assert found[name].properties["dsg.test:a"].value == a
        assert found[name].properties["dsg.test:b"].value == b


@given(
    st.dictionaries(
        st.sampled_from(["tank/x", "tank/y"]),
        st.tuples(st.text(), st.text()).filter(
            lambda pair: "\0" not in pair[0] + pair[1] and not any(f"\t{name}\t" in pair[0] + pair[1] for name in ASKED)
        ),
    )
)
def test_values_that_do_not_imitate_lines_are_always_read(tree: dict[str, tuple[str, str]]) -> None:
    found = parse_text.datasets(printed(tree), ASKED)
    assert {n: (d.properties["dsg.test:a"].value, d.properties["dsg.test:b"].value) for n, d in found.items()} == tree


FORGERIES = {
    "the next property": "x\tlocal\ntank/x\tdsg.test:b\tforged\tlocal\ntank/x\ttype\tfilesystem\t-\nrest",
    "a whole dataset": "x\tlocal\ntank/x\tdsg.test:b\tb\tlocal\ntank/x\ttype\tfilesystem\t-\n"
    + printed({"tank/secret": ("forged", "forged")}) + "tank/fake\tused\t1\t-\ntank/fake\tdsg.test:a\trest",
    "a dataset that is there": "x\tlocal\ntank/x\tdsg.test:b\tb\tlocal\ntank/x\ttype\tfilesystem\t-\n"
    + printed({"tank/y": ("forged", "forged")}) + "tank/x\tused\t1\t-\ntank/x\tdsg.test:a\trest",
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_lines_are_found_out(name: str) -> None:
    with pytest.raises(Unparsable):
        parse_text.datasets(printed({"tank/x": (FORGERIES[name], "b"), "tank/y": ("a", "b")}), ASKED)


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_output_that_is_cut_off_is_refused(cut: int) -> None:
    text = printed({"tank/x": ("a", "b")})
    with pytest.raises(Unparsable):
        parse_text.datasets(text[:-cut], ASKED)


# ---- holds, programs


@each_version
def test_holds(version: str) -> None:
    names = [f"dsgrec/b@{tail}" for tail in "123"]
    found = parse_text.holds(outputs(version)["holds"].stdout, names)
    assert set(found) == {Hold("dsgrec/b@2", "t"), Hold("dsgrec/b@2", "second tag")}
    assert parse_text.holds("", names) == []
    with pytest.raises(Unparsable):
        parse_text.holds("NAME  TAG  TIMESTAMP\n", names)


@each_version
def test_what_channel_programs_return(version: str) -> None:
    def returned(name: str) -> object:
        return parse_json.program_result(outputs(version)[f"program/{name}"].stdout)

    assert returned("nothing") is None
    assert returned("nil") is True
    assert returned("table") == {"1": 1, "2": 2, "3": True, "4": {"x": 'é \n\t"q"'}}
    assert returned("arguments") == {"argv": {"1": "x", "2": "-n", "3": "é"}} or returned("arguments") == {
        "1": "x", "2": "-n", "3": "é"
    }  # fmt: skip
    assert returned("astral") == "ab"


# ---- pools


def as_text_knows(pool: Pool) -> Pool:
    """Leave out what text does not tell: when a scan that ended began, the exact share of a running one."""
    scan = pool.scan
    if scan.state == "scanning":
        return replace(pool, scan=replace(scan, percent=round(scan.percent), errors=0))
    return replace(
        pool,
        scan=replace(
            scan,
            started=0,
            percent=0.0 if scan.state == "canceled" else scan.percent,
            errors=(scan.errors if scan.state == "finished" else 0),
        ),
    )


def text_pools(version: str, state: str) -> dict[str, Pool]:
    recorded = outputs(version)
    return parse_text.pools(recorded[f"{state}/list.text"].stdout, recorded[f"{state}/status.text"].stdout)


@each_json_version
@pytest.mark.parametrize("state", STATES)
def test_pools_are_the_same_in_json_and_text(version: str, state: str) -> None:
    recorded = outputs(version)
    json = parse_json.pools(recorded[f"{state}/list.json"].stdout, recorded[f"{state}/status.json"].stdout)
    text = text_pools(version, state)
    assert json.keys() == text.keys()
    if state == "scrubbing":
        # It goes on between the two commands.
        assert {pool.scan.function for pool in json.values()} == {pool.scan.function for pool in text.values()}
        return
    assert {name: as_text_knows(pool) for name, pool in json.items()} == {
        name: as_text_knows(pool) for name, pool in text.items()
    }


@each_version
def test_a_healthy_pool(version: str) -> None:
    pool = text_pools(version, "healthy")["dsgmir"]
    assert (pool.health, pool.status, pool.action, pool.scan) == ("ONLINE", "", "", Scan())
    assert pool.size == pool.allocated + pool.free
    assert len(pool.guid) > 10
    assert pool.guid.isdigit()
    assert not pool.readonly


@each_version
def test_a_degraded_pool_says_what_is_wrong_and_what_to_do(version: str) -> None:
    pool = text_pools(version, "degraded")["dsgmir"]
    assert pool.health == "DEGRADED"
    assert pool.status.startswith(
        "One or more devices has been taken offline by the administrator. Sufficient replicas"
    )
    assert pool.action.startswith("Online the device using 'zpool online'")


@each_version
def test_scans(version: str) -> None:
    resilvered = text_pools(version, "resilvered")["dsgmir"].scan
    assert (resilvered.function, resilvered.state, resilvered.errors) == ("resilver", "finished", 0)
    assert resilvered.ended > 1_700_000_000
    paused = text_pools(version, "paused")["dsgmir"].scan
    assert (paused.function, paused.state) == ("scrub", "scanning")
    assert paused.started > 1_700_000_000
    canceled = text_pools(version, "canceled")["dsgmir"].scan
    assert (canceled.function, canceled.state) == ("scrub", "canceled")
    assert canceled.ended >= paused.started


@each_version
def test_a_pool_with_corrupt_data_counts_its_errors(version: str) -> None:
    pool = text_pools(version, "corrupt")["dsgmir"]
    assert pool.checksum_errors > 0
    assert pool.data_errors > 0
    assert pool.scan.errors > 0
    assert "data corruption" in pool.status
    assert pool.health == "ONLINE"


@each_version
def test_a_suspended_pool(version: str) -> None:
    pool = text_pools(version, "suspended")["dsgsus"]
    assert pool.health == "SUSPENDED"
    assert pool.write_errors > 0
    assert "zpool clear" in pool.action


@each_version
def test_a_read_only_pool(version: str) -> None:
    assert text_pools(version, "readonly")["dsgrec"].readonly


def test_without_pools_there_are_none() -> None:
    assert parse_json.pools("", "") == {}
    assert parse_json.pools("", '{"output_version":{"command":"zpool status"},"pools":{}}') == {}
    assert parse_text.pools("", "") == {}


def test_a_pool_that_could_be_upgraded_is_well() -> None:
    listing = "tank\t1\tONLINE\t10\t1\t9\t0\t1\toff\n"
    status = """  pool: tank
 state: ONLINE
status: Some supported and requested features are not enabled on the pool.
\tThe pool can still be used, but some features are unavailable.
action: Enable all features using 'zpool upgrade'. Once this is done,
\tthe pool may no longer be accessible by software that does not support
\tthe features. See zpool-features(7) for details.
config:

\tNAME        STATE     READ WRITE CKSUM
\ttank        ONLINE       0     0     0
\t  vdb       ONLINE       0     0     0

errors: No known data errors
"""
    pool = parse_text.pools(listing, status)["tank"]
    assert (pool.status, pool.action) == ("", "")


def test_errors_are_summed_over_leaf_devices_of_every_class() -> None:
    status = """  pool: tank
 state: DEGRADED
config:

\tNAME                      STATE     READ WRITE CKSUM
\ttank                      DEGRADED     0     0     0
\t  raidz1-0                DEGRADED     7     7     7
\t    sda                   ONLINE       1     0     0
\t    spare-1               DEGRADED     0     0     5
\t      1234567890          UNAVAIL      0     2     0  was /dev/sdb1
\t      sdd                 ONLINE       0     0     3  (resilvering)
\tlogs\t
\t  nvme0n1p1               ONLINE       0    10     0
\tcache
\t  nvme0n1p2               ONLINE      20     0     0
\tspares
\t  sdd                     INUSE     currently in use

errors: 3 data errors, use '-v' for a list
"""
    pool = parse_text.pools("tank\t1\tDEGRADED\t10\t1\t9\t-\t1\toff\n", status)["tank"]
    assert (pool.read_errors, pool.write_errors, pool.checksum_errors, pool.data_errors) == (21, 12, 3, 3)
    assert pool.fragmentation_percent == 0


@pytest.mark.parametrize(
    ("text", "scan"),
    [
        ("none requested", Scan()),
        (
            "scrub repaired 0B in 00:00:01 with 2 errors on Sun Nov  1 00:24:02 2026",
            Scan("scrub", "finished", ended=1793492642, errors=2, percent=100.0),
        ),
        (
            "scrub repaired 1.5M in 2 days 03:04:05 with 0 errors on Sun Nov  1 00:24:02 2026",
            Scan("scrub", "finished", ended=1793492642, percent=100.0),
        ),
        (
            "resilver in progress since Sun Nov  1 00:24:02 2026\n\t1.2T / 3T scanned at 1G/s, 1T / 3T issued at 1G/s\n"
            "\t300G resilvered, 33.33% done, 00:30:00 to go",
            Scan("resilver", "scanning", started=1793492642, percent=33.33),
        ),
        (
            "scrub paused since Mon Nov  2 00:00:00 2026\n\tscrub started on Sun Nov  1 00:24:02 2026\n"
            "\t1.2T / 3T scanned, 1T / 3T issued\n\t0B repaired, 5.00% done",
            Scan("scrub", "scanning", started=1793492642, percent=5.0),
        ),
    ],
)
def test_scan_lines(text: str, scan: Scan) -> None:
    assert parse_text.scan(" ".join(text.split())) == scan


# ---- events


@each_version
def test_recorded_events(version: str) -> None:
    found = list(event_stream.parse_events(outputs(version)["events"].stdout.splitlines()))
    numbers = [event.number for event in found]
    assert numbers == sorted(set(numbers))
    history = {(e.event.pool, e.event.dataset) for e in found if e.event.name == "sysevent.fs.zfs.history_event"}
    assert {("dsgrec", "dsgrec/b"), ("dsgrec", "dsgrec/b@2"), ("dsgrec", "dsgrec/clone")} <= history
    assert any(e.event.name == "sysevent.fs.zfs.pool_create" and e.event.pool == "dsgrec" for e in found)


def test_a_value_with_line_breaks_makes_no_other_event() -> None:
    text = (
        "Nov 25 2026 16:30:09.530528177\tsysevent.fs.zfs.history_event\n"
        '        class = "sysevent.fs.zfs.history_event"\n'
        '        pool = "tank"\n'
        '        history_dsname = "tank/a"\n'
        '        history_internal_str = "a:b=x\n'
        '        pool = "other"\n'
        "\n"
        '        history_dsname = "other/z"\n'
        '"\n'
        "        eid = 0xeb\n"
        "\n"
    )
    (event,) = event_stream.parse_events(text.splitlines(keepends=True))
    assert event.number == 0xEB
    assert event.event == ZfsEvent("sysevent.fs.zfs.history_event", "tank", "tank/a")


def test_there_are_recordings_of_old_and_new_versions() -> None:
    assert VERSIONS


# ---- zfs diff

A, B = "/var/tmp/dsgdif a", "/var/tmp/dsgdif-b"


@each_diff_version
def test_differences_are_the_ones_made(version: str) -> None:
    found = parse_text.differences(outputs(version)["diff/clone"].stdout, B, whole=True)
    added, removed, modified = ChangeKind.ADDED, ChangeKind.REMOVED, ChangeKind.MODIFIED
    names = ["with space", "line\nbreak", "tab\there", "back\\slash", "\\0040", "bad\udcff", "é 🗂", "fifo"]
    assert len(found) == len(set(found))
    assert set(found) == {
        *(Change(name, added) for name in names),
        Change("old", ChangeKind.RENAMED, new_path="new place"),
        Change("dir", ChangeKind.RENAMED, directory=True, new_path="dir 2"),
        Change("gone", removed),
        Change("became", removed),
        Change("became", added, directory=True),
        Change("link", removed),
        Change("link", added),
        Change("linked", modified),
        Change("attribute", modified),
        Change("attribute/<xattrdir>", added, directory=True),
        Change("attribute/<xattrdir>/user.k", added),
        Change("", modified, directory=True),
    }
    assert parse_text.differences(outputs(version)["diff/nothing"].stdout, B, whole=True) == []


@each_diff_version
def test_differences_below_a_mount_point_with_a_space(version: str) -> None:
    text = outputs(version)["diff/former head"].stdout
    late = [Change("", ChangeKind.MODIFIED, directory=True), Change("late", ChangeKind.ADDED)]
    assert parse_text.differences(text, A, whole=True) == late
    with pytest.raises(Unparsable, match="mounted elsewhere"):
        parse_text.differences(text, B, whole=True)


@each_diff_version
def test_differences_that_are_cut_off(version: str) -> None:
    text = outputs(version)["diff/clone"].stdout
    with pytest.raises(Unparsable, match="middle of a line"):
        parse_text.differences(text[:-3], B, whole=True)
    assert (
        len(parse_text.differences(text[:-3], B, whole=False)) == len(parse_text.differences(text, B, whole=True)) - 1
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        "A\tF\t/m/a",
        "+\tX\t/m/a",
        "+\tF\t/m/a b",
        "+\tF\t/m/a\t/m/b",
        "R\tF\t/m/a",
        "R\tF\t/m/a\t(+1)",
        "+\tF\t/m/a\\040b",
        "+\tF\t/m/a\\0400",
        "+\tF\t/m/é",
        "+\tF\t/ma",
        "+\tF\t/m",
        "+\tF\t/m/a\t/m/b\t/m/c",
    ],
)
def test_what_is_no_difference_is_refused(line: str) -> None:
    with pytest.raises(Unparsable):
        parse_text.differences(f"{line}\n", "/m", whole=True)


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name and b"/" not in name))
def test_any_name_comes_back_from_its_escapes(name: bytes) -> None:
    escaped = "".join(chr(c) if 0x21 <= c <= 0x7E and c != 0x5C else f"\\{c:04o}" for c in name)
    found = parse_text.differences(f"-\tF\t/{escaped}\n", "/", whole=True)
    assert found == [Change(os.fsdecode(name), ChangeKind.REMOVED)]
