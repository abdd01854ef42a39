"""The log on disk: what is acknowledged stays, whatever dies or fails, and the chain goes on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsg.audit.auditor import MOST_OWED, Auditor
from dsg.audit.errors import AuditError
from dsg.audit.log import AuditLog, rotated_files
from dsg.audit.record import Entry, Head, decode
from dsg.audit.verify import Verified, read_sources, verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def begin(path: Path, **options: object) -> AuditLog:
    return AuditLog(path, "operator", "node-a", patience=0.0, **options)  # type: ignore[arg-type]


def checked(path: Path, expect: Head | None = None) -> Verified:
    return verify(read_sources([path, *rotated_files(path)]), expect)


def names(path: Path) -> list[str]:
    files = [*rotated_files(path), path]
    return [decode(line).who for file in files for line in file.read_bytes().splitlines() if decode(line).who]


def test_a_log_goes_on_where_it_ended(path: Path) -> None:
    for number in range(3):
        log = begin(path)
        log.append(Entry("x", who=f"u{number}"))
        head = log.head
        log.close()
    found = checked(path, head)
    assert found.whole
    assert not found.notes
    assert names(path) == ["u0", "u1", "u2"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_only_one_process_writes(path: Path) -> None:
    log = begin(path)
    with pytest.raises(AuditError, match="another process writes"):
        begin(path)
    log.close()
    begin(path).close()


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditError):
        begin(path)
    assert not (tmp_path / "elsewhere").exists()


def test_rotated_files_make_one_chain_in_whatever_order_they_are_named(path: Path) -> None:
    log = begin(path, rotate_at=2000)
    for number in range(60):
        log.append(Entry("x", who=f"u{number}"), durable=number % 3 == 0)
    log.flush()
    head = log.head
    log.close()
    older = rotated_files(path)
    assert len(older) > 3
    assert names(path) == [f"u{number}" for number in range(60)]
    assert checked(path, head).whole
    found = verify(read_sources([older[2], path, *older[3:], older[0], older[1]]), head)
    assert found.whole
    # A file in the middle that is not there.
    assert not verify(read_sources([*older[:2], *older[3:], path]), head).whole
    # A file that is named twice.
    assert not verify(read_sources([older[1], *older, path]), head).whole


@pytest.mark.parametrize("garbage", [b"", b"\n", b"\x00" * 100, b"half\nof\nit", b'{"format":1}\n'])
@pytest.mark.parametrize("keep", [0, 1, 200, 10**6])
def test_what_a_crash_left_stays_and_is_closed_off(path: Path, garbage: bytes, keep: int) -> None:
    log = begin(path)
    log.append(Entry("x", who="first"))
    acknowledged = path.read_bytes()
    head = log.head
    log.append(Entry("x", who="second"), durable=False)
    log.close()
    torn = path.read_bytes()[len(acknowledged) :][:keep] + garbage
    path.write_bytes(acknowledged + torn)
    log = begin(path)
    log.append(Entry("x", who="third"))
    end = log.head
    log.close()
    assert path.read_bytes().startswith(acknowledged + torn)
    found = checked(path, head)
    whole_record = keep == 10**6
    assert found.whole, found.findings
    assert checked(path, end).whole
    assert bool(found.notes) == bool(torn and not (whole_record and not garbage)), found.notes


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 4000), st.binary(max_size=20))
def test_a_log_cut_anywhere_opens_again_and_loses_no_whole_line(
    tmp_path_factory: pytest.TempPathFactory, length: int, garbage: bytes
) -> None:
    path = tmp_path_factory.mktemp("cut") / "audit.jsonl"
    log = begin(path, rotate_at=1500, sync=lambda fd: None)
    for number in range(9):
        log.append(Entry("x", who=f"u{number}"))
    log.close()
    data = path.read_bytes()[:length] + garbage
    path.write_bytes(data)
    log = begin(path, sync=lambda fd: None)
    log.append(Entry("x", who="after"))
    end = log.head
    log.close()
    assert path.read_bytes().startswith(data)
    assert checked(path, end).whole


def test_a_rotation_that_was_cut_short_is_finished_or_undone(path: Path) -> None:
    log = begin(path, rotate_at=10**9)
    for number in range(5):
        log.append(Entry("x", who=f"u{number}"))
    log.close()
    # Linked, and not yet replaced.
    os.link(path, path.with_name("audit.jsonl.000000000001"))
    path.with_name(".audit.jsonl.new").write_bytes(b"begun")
    log = begin(path)
    log.append(Entry("x", who="after"))
    log.close()
    assert rotated_files(path) == []
    assert checked(path).whole
    # Renamed, and nothing in its place.
    path.rename(path.with_name("audit.jsonl.000000000001"))
    log = begin(path)
    log.append(Entry("x", who="last"))
    log.close()
    assert checked(path).whole
    assert names(path) == [*[f"u{number}" for number in range(5)], "after", "last"]


WRITER = """
import sys
from pathlib import Path
from dsg.audit.log import AuditLog
from dsg.audit.record import Entry
log = AuditLog(Path(sys.argv[1]), "operator", "node-a", rotate_at=20000)
print(log.head, flush=True)
number = 0
while True:
    log.append(Entry("x", details={"text": "y" * (number * 37 % 1500)}))
    number += 1
    print(log.head, flush=True)
"""


def test_a_writer_that_is_killed_again_and_again_keeps_what_it_acknowledged(path: Path) -> None:
    for round_ in range(2):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(25 + 31 * round_)]
        process.kill()
        rest, _ = process.communicate()
        acknowledged = [line.strip() for line in (*said, *rest.splitlines(keepends=True)) if line.endswith("\n")]
        begin(path).close()
        for head in (acknowledged[-1], acknowledged[0]):
            assert checked(path, Head.parse(head)).whole
    assert len(rotated_files(path)) >= 1


class Disk:
    """What `fdatasync` does."""

    def __init__(self) -> None:
        self.full = False

    def __call__(self, fd: int) -> None:
        if self.full:
            raise OSError(errno.EIO, "Input/output error")
        os.fdatasync(fd)


def test_a_record_that_is_not_durable_is_none_and_what_came_before_it_is_written_again(path: Path) -> None:
    disk = Disk()
    log = begin(path, sync=disk)
    log.append(Entry("x", who="kept"), durable=False)
    disk.full = True
    with pytest.raises(AuditError, match="can't be written"):
        log.append(Entry("x", who="refused"))
    assert "refused" not in names(path)
    with pytest.raises(AuditError):
        log.flush()
    disk.full = False
    log.append(Entry("x", who="later"))
    head = log.head
    log.close()
    assert names(path) == ["kept", "later"]
    assert checked(path, head).whole


def test_a_full_disk_takes_half_a_line_and_none_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(path)
    real, room = os.write, 40

    def write(fd: int, data: memoryview) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        took = real(fd, data[:room])
        room -= took
        return took

    with monkeypatch.context() as patched:
        patched.setattr("dsg.audit.log.os.write", write)
        with pytest.raises(AuditError, match="No space left"):
            log.append(Entry("x", who="refused"), durable=False)
    log.append(Entry("x", who="next"))
    log.close()
    assert names(path) == ["next"]
    found = checked(path)
    assert found.whole
    assert not found.notes


def test_a_log_that_was_replaced_or_removed_takes_nothing_more(path: Path) -> None:
    log = begin(path)
    log.append(Entry("x", who="first"))
    aside = path.with_name("aside")
    path.rename(aside)
    with pytest.raises(AuditError, match="was removed"):
        log.append(Entry("x", who="lost"))
    path.write_bytes(aside.read_bytes())
    with pytest.raises(AuditError, match="was replaced"):
        log.append(Entry("x", who="lost"))
    aside.rename(path)
    log.append(Entry("x", who="second"))
    log.close()
    assert names(path) == ["first", "second"]


def test_the_head_that_is_told_is_durable(path: Path) -> None:
    log = begin(path)
    before = log.head
    log.append(Entry("x"), durable=False)
    assert log.head == before
    log.flush()
    assert log.head.sequence == before.sequence + 1
    log.close()


def test_threads_write_whole_lines(path: Path) -> None:
    log = begin(path, rotate_at=5000)

    def write(thread: int) -> None:
        for number in range(50):
            log.append(Entry("x", who=f"{thread}-{number}"), durable=False)

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert checked(path).whole
    assert len(names(path)) == 200


def test_what_happened_while_nothing_could_be_written_is_told_late_and_counted(path: Path) -> None:
    disk, said = Disk(), list[str]()
    auditor = Auditor(begin(path, sync=disk), said.append)
    disk.full = True
    for number in range(MOST_OWED + 7):
        auditor.tell(Entry("fact", who=f"u{number}"))
    with pytest.raises(AuditError):
        auditor.require(Entry("commit", who="refused"))
    assert len(said) == 1
    disk.full = False
    auditor.require(Entry("commit", who="done"))
    auditor.close()
    assert names(path) == [*[f"u{number}" for number in range(MOST_OWED)], "done"]
    records = [decode(line) for line in path.read_bytes().splitlines()]
    assert records[1].action == "log.late"
    assert records[1].details == {"owed": MOST_OWED, "lost": 7}
    assert "late" in records[2].details
    assert len(said) == 2
    assert checked(path).whole
