"""Older repositories become versions: every byte, who and when, and nothing of it before it was proved."""

from __future__ import annotations

import json
import os
from pathlib import Path

import lz4.frame

from dsg.migration.provenance import parse
from tests.migration.adopting import Place, tree
from tests.migration.old_dsg import MESSAGES, TREES, USERS, facts, four_versions


def test_every_version_is_there_byte_for_byte(place: Place, tmp_path: Path) -> None:
    old = four_versions(place.old)
    before = facts(place.old)
    made = place.adopt()
    assert [(one.old, one.new) for one in made.versions] == [(f"s{n}", f"s{n}") for n in range(1, 5)]
    assert made.findings == []
    assert made.gone == []
    for number, content in enumerate(TREES, 1):
        assert place.seen(f"s{number}", tmp_path) == content
    # The times are those that people's files had.
    there = tmp_path / "s2" / "input/interviews/a.csv"
    assert there.stat().st_mtime_ns == (old.place(2) / "input/interviews/a.csv").stat().st_mtime_ns
    assert there.stat().st_mode & 0o777 == 0o640
    assert facts(place.old) == before


def test_what_is_known_of_the_older_versions_is_kept(place: Place, tmp_path: Path) -> None:
    old = four_versions(place.old)
    place.adopt()
    log = place.log(tmp_path)
    for header, message, user in zip(log, MESSAGES, USERS, strict=True):
        origin = parse(header.commit.message)
        assert origin is not None
        assert header.commit.message.startswith(message)
        assert (origin.version, origin.author, header.commit.author) == (header.version, user, "carol")
    origins = [parse(header.commit.message) for header in log]
    assert origins[1] is not None
    assert origins[1].tags == ("v1.0", "v1.0-ohchr")
    # 17:30 in UTC, on the other side of the change of clocks in Los Angeles.
    assert [f"{origin.time:%Y-%m-%dT%H:%M:%SZ}" for origin in origins if origin and origin.time] == [
        "2024-11-09T17:30:00Z",
        "2024-11-29T17:30:00Z",
        "2024-12-19T17:30:00Z",
        "2025-01-08T17:30:00Z",
    ]
    kept = tmp_path / "copy" / "dsg-provenance"
    for name in ("sync-messages.json", "tag-messages.json"):
        assert (kept / name).read_bytes() == (old.dsg / name).read_bytes()
    for number in (1, 2, 3):
        name = f"s{number}-sync.json.lz4"
        assert (kept / "manifests" / name).read_bytes() == (old.dsg / "archive" / name).read_bytes()
    assert (kept / "manifests/s4-sync.json").read_bytes() == (old.dsg / "last-sync.json").read_bytes()
    said = json.loads((kept / "adopted/s1.json").read_text())
    assert (said["verified"], said["entries"], said["mismatched"], said["author"]) == (5, 5, [], USERS[0])


def test_without_snapshots_only_the_newest_has_content(place: Place, tmp_path: Path) -> None:
    four_versions(place.old, snapshots=False)
    made = place.adopt()
    assert [(one.old, one.new) for one in made.versions] == [("s4", "s1")]
    assert made.gone == ["s1", "s2", "s3"]
    assert place.seen("s1", tmp_path) == TREES[3]
    kept = tmp_path / "copy" / "dsg-provenance" / "manifests"
    assert sorted(os.listdir(kept)) == [*(f"s{n}-sync.json.lz4" for n in (1, 2, 3)), "s4-sync.json"]
    raw = lz4.frame.decompress((kept / "s2-sync.json.lz4").read_bytes())
    assert list(json.loads(raw)["entries"]) == list(TREES[1])


def test_again_changes_nothing_and_what_came_since_is_added(place: Place, tmp_path: Path) -> None:
    old = four_versions(place.old)
    place.adopt()
    head = place.server.head()
    again = place.adopt()
    assert place.server.head() == head
    assert all(one.already for one in again.versions)
    old.sync({"input/new.csv": b"new\n"}, message="later")
    more = place.adopt()
    assert [(one.old, one.new, one.already) for one in more.versions][-1] == ("s5", "s5", False)
    assert place.seen("s5", tmp_path) == {"input/new.csv": b"new\n"}
    old.tag("v2", "s5", "of later")
    assert place.adopt().versions[-1].old == ""
    assert place.adopt().versions[-1].already
    copy = tree(place.server.directory)
    assert any(b"of later" in content for content in copy.values() if isinstance(content, bytes))
