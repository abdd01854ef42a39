"""What is not as the manifests say is told before it is committed, and only what somebody accepts is taken."""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.frame
import pytest

from dsg.api.repository import Ignore
from dsg.migration.adopt import verify
from dsg.migration.findings import Kind, NotAdopted
from dsg.migration.source import SourceError, read_source
from dsg.workcopy.sync import nobody
from tests.migration.adopting import Place, tree
from tests.migration.old_dsg import TREES, OldRepository, facts, four_versions

A, B = "input/interviews/a.csv", "input/interviews/b.csv"


def flipped(old: OldRepository) -> None:
    """One bit of a file of s2, its size and times as they were."""
    path = old.place(2) / B
    status, content = path.stat(), bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def removed(old: OldRepository) -> None:
    (old.place(2) / B).unlink()


def added(old: OldRepository) -> None:
    (old.place(2) / "input/orphan.csv").write_bytes(b"its manifest was never written")


def link_for_file(old: OldRepository) -> None:
    (old.place(2) / B).unlink()
    (old.place(2) / B).symlink_to("a.csv")


def other_target(old: OldRepository) -> None:
    (old.place(2) / "output/latest").unlink()
    (old.place(2) / "output/latest").symlink_to("report.txt")


def out_of_the_tree(old: OldRepository) -> None:
    (old.place(2) / "output/latest").unlink()
    (old.place(2) / "output/latest").symlink_to("../../outside")


def a_socket(old: OldRepository) -> None:
    os.mkfifo(old.place(2) / "output/pipe")


def altered(change: Callable[[Any], None]) -> Callable[[OldRepository], None]:
    """Change what all copies of the manifest of s2 say."""

    def alter(old: OldRepository) -> None:
        name = "s2-sync.json.lz4"
        for place in (old.root, *(old.place(n) for n in range(1, 5))):
            for path in (place / ".dsg/archive" / name, place / ".dsg/last-sync.json"):
                if not path.exists():
                    continue
                raw = path.read_bytes()
                data = json.loads(lz4.frame.decompress(raw) if path.suffix == ".lz4" else raw)
                if data.get("metadata", {}).get("snapshot_id") == "s2":
                    change(data)
                    text = json.dumps(data).encode()
                    path.write_bytes(lz4.frame.compress(text) if path.suffix == ".lz4" else text)

    return alter


def other_manifest(old: OldRepository) -> None:
    path = old.root / ".dsg/archive/s2-sync.json.lz4"
    data = json.loads(lz4.frame.decompress(path.read_bytes()))
    data["metadata"]["created_by"] = "somebody else's fork"
    path.write_bytes(lz4.frame.compress(json.dumps(data).encode()))


CASES: dict[str, tuple[Callable[[OldRepository], None], Kind, bool]] = {
    "a bit flipped": (flipped, Kind.MISMATCH, False),
    "removed": (removed, Kind.MISSING, True),
    "added": (added, Kind.UNLISTED, True),
    "a link for a file": (link_for_file, Kind.MISMATCH, True),
    "another target": (other_target, Kind.MISMATCH, True),
    "a link out": (out_of_the_tree, Kind.REFUSED, True),
    "a pipe": (a_socket, Kind.REFUSED, True),
    "a hash altered": (altered(lambda m: m["entries"][A].update(hash="0" * 16)), Kind.MANIFEST, True),
    "a message altered": (altered(lambda m: m["metadata"].update(snapshot_message="other")), Kind.CHAIN, True),
    "another one before": (altered(lambda m: m["metadata"].update(snapshot_previous=None)), Kind.CHAIN, True),
    "an entry unreadable": (altered(lambda m: m["entries"][A].update(type="device")), Kind.MANIFEST, True),
    "a fork": (other_manifest, Kind.MANIFEST, True),
}
"""What is done to s2, what is found, and whether it shows without reading contents."""


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_stops_that_version(place: Place, name: str) -> None:
    damage, kind, soon = CASES[name]
    damage(four_versions(place.old))
    with pytest.raises(NotAdopted) as caught:
        place.adopt()
    assert kind in {one.kind for one in caught.value.found}
    assert {one.version for one in caught.value.found} <= {"s2", "s3"}
    head = place.server.head()
    if soon:
        assert place.server.known() == []
        assert "Nothing was sent" in str(caught.value)
    else:
        assert head is not None
        assert head.version == "s1"
        assert "s1 and what comes before it was adopted; s2 was not" in str(caught.value)
    # A check finds the same, and more: it reads all of it.
    _, found = verify(read_source(place.old), place.rules(), nobody)
    assert kind in {one.kind for one in found.findings}


@pytest.mark.parametrize(
    ("name", "accept", "changed"),
    [
        ("a bit flipped", [Kind.MISMATCH], {B: b"ie,place\n2,Kosovo\n"}),
        ("removed", [Kind.MISSING], {B: None}),
        ("added", [Kind.UNLISTED], {"input/orphan.csv": b"its manifest was never written"}),
        ("a link for a file", [Kind.MISMATCH], {B: "a.csv"}),
        ("a link out", [Kind.REFUSED], {"output/latest": None}),
        ("a hash altered", [Kind.MANIFEST, Kind.MISMATCH], {}),
        ("a fork", [Kind.MANIFEST], {}),
    ],
)
def test_what_is_accepted_is_taken_and_recorded(
    place: Place, tmp_path: Path, name: str, accept: list[Kind], changed: dict[str, Any]
) -> None:
    CASES[name][0](four_versions(place.old))
    if name == "a bit flipped":
        content = (place.old / ".zfs/snapshot/s2" / B).read_bytes()
        changed = {B: content}
    before = facts(place.old)
    made = place.adopt(*accept)
    assert {one.kind for one in made.findings} >= set(accept)
    wanted: dict[str, Any] = dict(TREES[1])
    wanted.update(changed)
    assert place.seen("s2", tmp_path) == {path: content for path, content in wanted.items() if content is not None}
    assert place.seen("s3", tmp_path) == TREES[2]
    said = json.loads((tmp_path / "copy/dsg-provenance/adopted/s2.json").read_text())
    whole = json.dumps(said)
    assert all(path in whole for path in changed)
    if Kind.MANIFEST in accept:
        assert said["manifestProblems"]
    assert facts(place.old) == before


def test_what_only_the_tree_has_is_told(place: Place, tmp_path: Path) -> None:
    """DSG sent files, and then failed to write the manifest: the tree alone has them."""
    four_versions(place.old)
    (place.old / "input/sent.csv").write_bytes(b"the only copy")
    (place.old / "output/report.txt").write_bytes(b"changed")
    with pytest.raises(NotAdopted, match="beside s4") as caught:
        place.adopt()
    assert [(one.kind, one.path) for one in caught.value.found] == [
        (Kind.LIVE, "input/sent.csv"),
        (Kind.LIVE, "output/report.txt"),
    ]
    assert place.server.known() == []
    made = place.adopt(Kind.LIVE)
    assert len([one for one in made.findings if one.kind is Kind.LIVE]) == 2
    assert place.seen("s4", tmp_path) == TREES[3]


def test_accepting_one_kind_accepts_no_other(place: Place) -> None:
    old = four_versions(place.old)
    removed(old)
    added(old)
    with pytest.raises(NotAdopted, match="1 unlisted"):
        place.adopt(Kind.MISSING)
    assert place.server.known() == []


def test_what_the_new_repository_does_not_sync_is_told(place: Place, tmp_path: Path) -> None:
    four_versions(place.old)
    place.server.data_dirs = ("input", "dsg-provenance")
    place.server.ignore = Ignore(suffixes=[".txt"])
    with pytest.raises(NotAdopted, match="outside"):
        place.adopt()
    place.adopt(Kind.OUTSIDE)
    assert place.seen("s2", tmp_path) == {A: TREES[1][A], B: TREES[1][B]}
    said = json.loads((tmp_path / "copy/dsg-provenance/adopted/s2.json").read_text())
    assert set(said["outside"]) == set(TREES[1]) - {A, B}


def test_what_changed_while_it_was_read_or_can_not_be_read_is_never_accepted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = four_versions(place.old)
    real = os.open

    def refuse(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == b"b.csv":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NotAdopted, match="can't be read: Permission denied"):
        place.adopt(*Kind)
    assert old.place(1).exists()


NFD = unicodedata.normalize("NFD", "input/Übersicht.txt")


def test_names_are_told_before_anything_is_sent_and_made_good_on_demand(place: Place, tmp_path: Path) -> None:
    old = OldRepository(place.old)
    contents: dict[str, bytes | str] = {
        "input/con.txt": b"1",
        NFD: b"2",
        "input/ends with dot.": b"3",
        "output/to": "../input/con.txt",
    }
    old.sync({"input/fine": b"0"})
    old.sync({"input/fine": b"0", **contents})
    with pytest.raises(NotAdopted, match="3 name") as caught:
        place.adopt(*Kind)
    assert "--normalize" in caught.value.advice
    assert place.server.known() == []
    place.adopt(normalize=True)
    assert place.seen("s2", tmp_path) == {
        "input/fine": b"0",
        "input/con_.txt": b"1",
        "input/Übersicht.txt": b"2",
        "input/ends with dot": b"3",
        "output/to": "../input/con_.txt",
    }
    said = json.loads((tmp_path / "copy/dsg-provenance/adopted/s2.json").read_text())
    assert said["renamed"]["input/con.txt"] == "input/con_.txt"
    assert said["verified"] == 5


def test_names_that_would_become_one_are_refused(place: Place) -> None:
    OldRepository(place.old).sync({"input/a": b"1", "input/a.": b"2", "input/B": b"3", "input/b": b"4"})
    with pytest.raises(NotAdopted, match="which another file is already"):
        place.adopt(normalize=True)
    assert place.server.known() == []


def test_a_manifest_and_a_disk_that_spell_a_name_differently(place: Place, tmp_path: Path) -> None:
    """macOS spelled names decomposed; DSG's manifests have them composed, and its rsync lost sight of such files."""

    def composed(listed: Any) -> Any:
        return [{**one, "path": unicodedata.normalize("NFC", one["path"])} for one in listed]

    OldRepository(place.old).sync({NFD: b"2", "input/plain": b"1"}, entries=composed)
    made = place.adopt()
    assert made.findings == []
    assert place.seen("s1", tmp_path) == {"input/Übersicht.txt": b"2", "input/plain": b"1"}


def test_btrsnap(place: Place, tmp_path: Path) -> None:
    for number, content in enumerate(TREES, 1):
        for path, what in content.items():
            where = place.old / f"s{number}" / path
            where.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(what, str):
                where.symlink_to(what)
            else:
                where.write_bytes(what)
        log = place.old / f"s{number}" / ".snap" / "push.log"
        log.parent.mkdir()
        lines = [f"SV/s{n} | pball | 2014-05-0{n} 17:27:26 UTC (Wed) | push {n}\n" for n in range(1, number + 1)]
        log.write_text("".join(lines))
    (place.old / "HEAD").symlink_to("s4")
    (place.old / "v1.0").symlink_to("s2/")
    with pytest.raises(NotAdopted, match="4 unverified"):
        place.adopt()
    assert place.server.known() == []
    made = place.adopt(Kind.UNVERIFIED)
    assert [one.new for one in made.versions] == ["s1", "s2", "s3", "s4"]
    for number, content in enumerate(TREES, 1):
        assert place.seen(f"s{number}", tmp_path) == content
    second = place.log(tmp_path)[1].commit.message
    assert second == (
        "push 2\n\nDsg-Origin-Version: s2\nDsg-Origin-Author: pball\nDsg-Origin-Time: 2014-05-02T17:27:26Z\n"
        "Dsg-Origin-Tags: v1.0"
    )
    kept = tmp_path / "copy/dsg-provenance"
    assert (kept / "push.log").read_bytes() == (place.old / "s4/.snap/push.log").read_bytes()
    assert place.adopt(Kind.UNVERIFIED).versions[-1].already


def test_manifests_may_lie_in_a_working_copy(place: Place, tmp_path: Path) -> None:
    """DSG 0.4 kept its archive in the working copies alone."""
    old = four_versions(place.old, archive=True)
    elsewhere = tmp_path / "laptop"
    (old.dsg / "archive").rename(elsewhere)
    for number in range(1, 5):
        shutil.rmtree(old.place(number) / ".dsg")
    with pytest.raises(NotAdopted, match="3 unverified"):
        place.adopt()
    made = place.adopt(manifests=[elsewhere])
    assert [one.verified for one in made.versions] == [len(one) for one in TREES]


def test_a_manifest_that_is_found_later_changes_nothing(place: Place, tmp_path: Path) -> None:
    old = four_versions(place.old)
    elsewhere = tmp_path / "laptop"
    (old.dsg / "archive").rename(elsewhere)
    for number in range(1, 5):
        shutil.rmtree(old.place(number) / ".dsg")
    place.adopt(Kind.UNVERIFIED)
    made = place.adopt(manifests=[elsewhere])
    assert [one.already for one in made.versions] == [True, True, True, True, False]
    assert made.versions[-1].old == ""
    assert place.seen("s5", tmp_path) == TREES[3]
    kept = tmp_path / "copy/dsg-provenance/manifests"
    assert sorted(os.listdir(kept)) == [*(f"s{n}-sync.json.lz4" for n in (1, 2, 3)), "s4-sync.json"]


def test_snapshots_may_lie_elsewhere(place: Place, tmp_path: Path) -> None:
    old = four_versions(place.old)
    (old.root / ".zfs").rename(tmp_path / "moved")
    assert [one.old for one in place.adopt(snapshots=tmp_path / "moved/snapshot").versions] == ["s1", "s2", "s3", "s4"]


def test_a_tree_whose_manifest_is_lost_is_never_guessed_to_be_a_version(place: Place, tmp_path: Path) -> None:
    four_versions(place.old, snapshots=False)
    (place.old / ".dsg/last-sync.json").write_text("{")
    with pytest.raises(SourceError, match="--live-as"):
        place.adopt()
    made = place.adopt(Kind.UNVERIFIED, live_as="s4")
    assert [(one.old, one.new) for one in made.versions] == [("s4", "s1")]
    assert place.seen("s1", tmp_path) == TREES[3]
    # The damaged file is evidence, too.
    assert (tmp_path / "copy/dsg-provenance/unread/last-sync.json").read_text() == "{"


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_what_is_no_older_repository(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError):
        read_source(tmp_path / name)


_WRITES = {"os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink", "os.chmod", "os.chown"} | {
    "os.utime",
    "os.truncate",
    "os.setxattr",
    "shutil.rmtree",
}
_watched: list[str] = []
_seen: list[tuple[str, Any]] = []


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _watched:
        return
    if event == "open":
        path, _, flags = args
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if writes and isinstance(path, str | bytes) and os.fsdecode(path).startswith(_watched[0]):
            _seen.append((event, args))
    elif event in _WRITES and any(
        isinstance(one, str | bytes) and os.fsdecode(one).startswith(_watched[0]) for one in args
    ):
        _seen.append((event, args))


def test_the_source_is_never_opened_to_write(place: Place) -> None:
    four_versions(place.old)
    sys.addaudithook(_audit)
    _watched.append(str(place.old))
    try:
        place.adopt()
        assert _seen == []
        # That the hook sees what it should.
        (place.old / "x").touch()
        assert _seen
    finally:
        _watched.clear()


def test_a_check_reads_all_and_needs_no_repository(place: Place) -> None:
    four_versions(place.old)
    before = facts(place.old)
    examined, found = verify(read_source(place.old), place.rules(), nobody)
    assert [one.verified for one in examined] == [len(one) for one in TREES]
    assert found.findings == []
    assert place.server.known() == []
    assert tree(place.old) != {}
    assert facts(place.old) == before
