"""Small words: sizes, names, times, paths, time limits, exits."""

from __future__ import annotations

import errno
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.plugin import limits, paths
from dsg.plugin.exits import CommandError, Exit, ending
from dsg.plugin.text import count, duration, nanoseconds, plain, safe, size
from dsg.sync.resolution import Problem, ResolutionError
from dsg.transfer.client.errors import Unreachable
from dsg.workcopy.errors import CommitStopped, NotAWorkingCopy

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_invisible_is_left(text: str) -> None:
    shown = safe(text)
    assert not {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} & {unicodedata.category(c) for c in shown}
    plain(text).encode()


def test_words() -> None:
    assert [size(n) for n in (0, 999, 1024, 5 * 1024**3)] == ["0 B", "999 B", "1.00 KiB", "5.00 GiB"]
    assert (count(1, "file"), count(1234, "file")) == ("1 file", "1,234 files")
    assert [duration(n) for n in (0.2, 61, 3600, 90000)] == ["less than a second", "1 min 1 s", "1 h", "1 d 1 h"]
    assert nanoseconds(1) == "1970-01-01T00:00:00.000000001Z"
    assert nanoseconds(-1) == "1969-12-31T23:59:59.999999999Z"


def test_times_that_people_name() -> None:
    assert paths.moment("2h", NOW) == NOW - timedelta(hours=2)
    assert paths.moment("2026-01-31T13:00:00+01:00") == NOW
    assert paths.moment("2026-01-31").astimezone().hour == 0
    for wrong in ("", "soon", "99999999999d", "2026-13-01"):
        with pytest.raises(CommandError):
            paths.moment(wrong)


def test_paths_that_people_name(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    (root / "input").mkdir(parents=True)
    (tmp_path / "link").symlink_to(root)
    assert paths.repository_path(root, root, "input/a") == "input/a"
    assert paths.repository_path(root, root / "input", "../b") == "b"
    assert paths.repository_path(root, root / "input", "..") == ""
    assert paths.repository_path(root, tmp_path, "link/input/a") == "input/a"
    for wrong in ("../x", "/etc/passwd", ".dsg/base", "x" * 300):
        with pytest.raises(CommandError) as caught:
            paths.repository_path(root, root, wrong)
        assert caught.value.code is Exit.USAGE


@given(st.integers(0, 2**50))
def test_a_time_limit_grows_with_the_size(bytes_: int) -> None:
    hours = int(limits.timeout(bytes_)[:-1])
    assert 1 <= hours <= 168
    assert hours >= min(168, bytes_ / (10 * 1024**3))
    assert limits.timeout(bytes_, "5m") == "5m"


def test_a_time_limit_that_is_none() -> None:
    for wrong in ("0s", "long", "5"):
        with pytest.raises(ValueError, match="write"):
            limits.timeout(0, wrong)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (KeyboardInterrupt(), 130, "Interrupted"),
        (CommandError("Usage", "x", code=Exit.USAGE), 2, "Usage"),
        (ResolutionError([Problem("x")], "y"), 3, "DecisionsWrong"),
        (CommitStopped("TransactionQuota", "x"), 1, "TransactionQuota"),
        (NotAWorkingCopy(Path("/x")), 1, "NotAWorkingCopy"),
        (Unreachable("https://x", "y", 5), 1, "Unreachable"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 1, "FileSystem"),
        (MemoryError(), 1, "NoMemory"),
        (KeyError("x"), 1, "Fault"),
    ],
)
def test_how_errors_end(error: BaseException, code: int, reason: str) -> None:
    found = ending(error)
    assert (found.code, found.reason) == (code, reason)
    assert found.message


def test_a_full_disk_says_which_and_what_to_do() -> None:
    found = ending(OSError(errno.ENOSPC, "No space left on device", b"/x/caf\xe9"))
    assert found.message.startswith("/x/caf")
    assert "Free some space" in found.advice
