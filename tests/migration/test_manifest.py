"""Old manifests: their hashes by DSG's own vectors, their times, and all that can be wrong with them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from dsg.migration.manifest import ManifestUnreadable, OldFile, OldLink, read_manifest, snapshot_hash
from dsg.migration.parts import Unpackable, moment, unpacked, xxh3

FILE = {
    "type": "file",
    "path": "input/a.txt",
    "user": "alice@example.org",
    "filesize": 3,
    "mtime": "2025-01-02T03:04:05-08:00",
    "hash": "911faba7321fe1a0",
}
LINK = {"type": "link", "path": "input/l", "user": "alice@example.org", "reference": "a.txt"}


def written(*entries: dict[str, Any], **metadata: Any) -> bytes:
    said = {
        "snapshot_id": "s1",
        "created_at": "2025-01-02T03:04:05-08:00",
        "entry_count": len(entries),
        "created_by": "alice@example.org",
        "snapshot_message": "Initial snapshot",
        **metadata,
    }
    return json.dumps({"entries": {one["path"]: one for one in entries}, "metadata": said}, indent=2).encode()


def test_the_vectors_of_dsg() -> None:
    empty, one = xxh3(), xxh3()
    one.update(b"one")
    assert empty.hexdigest() == "2d06800538d394c2"
    assert one.hexdigest() == "911faba7321fe1a0"
    assert read_manifest(written(), "m").computed == "2d06800538d394c2"
    assert read_manifest(written(FILE, LINK), "m").computed == "09a93a115532616b"
    assert read_manifest(written(LINK, FILE), "m").computed == "9cf5bd592057b13d"
    entries = "09a93a115532616b"
    first = snapshot_hash(entries, "Initial snapshot", None, "")
    assert first == "47f32efdec8f172b"
    assert snapshot_hash(entries, "Sync operation", None, first) == "51fe2dbd198144fb"
    assert snapshot_hash(entries, "Initial snapshot", {"b": 1, "a": 2}, "") == "9474763532ba7ec4"


def test_the_order_of_fields_in_the_file_does_not_matter() -> None:
    turned = dict(reversed(FILE.items()))
    assert read_manifest(written(turned, LINK), "m").computed == "09a93a115532616b"


def test_what_a_manifest_says() -> None:
    made = read_manifest(written(FILE, LINK, entries_hash="09a93a115532616b"), "m")
    assert made.problems == ()
    assert made.entries["input/a.txt"] == OldFile("input/a.txt", "alice@example.org", 3, 1735815845, "911faba7321fe1a0")
    assert made.entries["input/l"] == OldLink("input/l", "alice@example.org", "a.txt")
    assert made.created_at == datetime(2025, 1, 2, 11, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (written(FILE, entries_hash="0" * 16), "it states entries_hash 0000000000000000, its entries give"),
        (written(FILE, entry_count=2), "it states 2 entries and has 1"),
        (written({**FILE, "filesize": "3"}), "the entry of 'input/a.txt' can't be read: filesize or hash"),
        (written({**FILE, "type": "socket"}), "its type is 'socket'"),
        (written({**LINK, "reference": None}), "reference is no text"),
        (written({**FILE, "mtime": "yesterday"}), "the time of 'input/a.txt' can't be read"),
        (written(FILE, created_at=7), "its time 7 can't be read"),
        (json.dumps({"entries": {"x": FILE}}).encode(), "says that it is of 'input/a.txt'"),
        (json.dumps({"entries": {}}).encode(), "it has no metadata"),
        (b'{"entries": {"a": 1, "a": 2}}', "'a' is given twice"),
    ],
)
def test_nothing_that_is_wrong_is_dropped(raw: bytes, words: str) -> None:
    assert any(words in problem for problem in read_manifest(raw, "m").problems)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"entries": []}', b"\xff", b"[" * 100_000])
def test_what_is_no_manifest(raw: bytes) -> None:
    with pytest.raises(ManifestUnreadable):
        read_manifest(raw, "m")


def test_times_of_los_angeles() -> None:
    assert moment("2025-07-01T00:00:00-07:00") == datetime(2025, 7, 1, 7, tzinfo=UTC)
    assert moment("2025-07-01T00:00:00") == datetime(2025, 7, 1, 7, tzinfo=UTC)
    assert moment("2025-01-01T00:00:00") == datetime(2025, 1, 1, 8, tzinfo=UTC)
    assert moment("2025-01-01T00:00:00Z") == datetime(2025, 1, 1, tzinfo=UTC)
    # The hour that comes twice: the first.
    assert moment("2025-11-02T01:30:00") == datetime(2025, 11, 2, 8, 30, tzinfo=UTC)
    assert moment("0001-01-01T00:00:00+14:00") is None
    assert moment("tomorrow") is None
    assert moment(None) is None


def test_packed_files() -> None:
    lz4 = pytest.importorskip("lz4.frame")
    assert unpacked(lz4.compress(b"x" * 5_000_000), "s1-sync.json.lz4") == b"x" * 5_000_000
    assert unpacked(b"plain", "last-sync.json") == b"plain"
    for raw in (b"nonsense", lz4.compress(b"x" * 1000)[:-9]):
        with pytest.raises(Unpackable):
            unpacked(raw, "s1-sync.json.lz4")
    with pytest.raises(Unpackable):
        unpacked(b"nonsense", "s1-sync.json.gz")
