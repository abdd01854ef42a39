"""Every message of OpenZFS that was recorded becomes the error that somebody would act on."""

from __future__ import annotations

import pytest

from dsg.storage import errors
from dsg.storage.zfs import commands, stderr
from dsg.storage.zfs.commands import Command
from tests.storage import refusals
from tests.storage.recorded import VERSIONS, Output, each_diff_version, each_version, outputs


def error_of(verb: str, arguments: str, output: Output) -> errors.StorageError:
    assert output.exit_code != 0, f"{verb} {arguments} was not refused"
    return stderr.error_of(refusals.command(verb, arguments), output.exit_code, output.stderr.strip())


@each_version
def test_refusals_are_the_errors_they_mean(version: str) -> None:
    recorded = outputs(version)
    wrong = {}
    # Of a hold, 2.1 says no more than that; CommandLineZfs looks for holds itself.
    also: dict[type[errors.StorageError], type[errors.StorageError]] = (
        {errors.Held: errors.Busy} if version.startswith("2.1.") else {}
    )
    for verb, arguments, expected in refusals.REFUSALS:
        output = recorded[f"{verb} {arguments}"]
        found = error_of(verb, arguments, output)
        if type(found) not in {expected, also.get(expected)}:
            wrong[f"{verb} {arguments}"[:100]] = (type(found).__name__, expected.__name__, output.stderr[:200])
    assert wrong == {}


@each_version
@pytest.mark.parametrize(
    ("lines", "prefix", "expected"),
    [
        (refusals.ON_READ_ONLY_POOL, "readonly", errors.ReadOnlyPool),
        (refusals.ON_SUSPENDED_POOL, "suspended", errors.PoolSuspended),
        (refusals.WITHOUT_PERMISSION, "nobody", errors.PermissionDenied),
    ],
)
def test_the_state_of_a_pool_or_process_is_told(
    version: str, lines: list[str], prefix: str, expected: type[errors.StorageError]
) -> None:
    for line in lines:
        verb, _, arguments = line.partition(" ")
        output = outputs(version)[f"{prefix}/{line}"]
        found = error_of(verb, arguments, output)
        assert type(found) is expected, (line, output.stderr)


@each_version
def test_messages_say_what_failed_and_quote_what_was_said(version: str) -> None:
    for verb, arguments, _ in refusals.REFUSALS:
        output = outputs(version)[f"{verb} {arguments}"]
        found = error_of(verb, arguments, output)
        text = str(found)
        assert text.startswith(f"cannot {verb} ")
        assert "usage:" not in text
        assert "\n" not in text
        assert len(text) < 1200
        if not isinstance(found, errors.ProgramFailed):
            assert output.stderr.strip().split("\n")[0][:100] in text


@each_version
def test_programs_that_fail_carry_what_they_said(version: str) -> None:
    reasons = {
        "error": "boom",
        "syntax": "unexpected symbol",
        "endless": "timed out",
        "two values": "Multiple return values",
        "memory": "Memory limit",
    }
    for name, reason in reasons.items():
        output = outputs(version)[f"program/{name}"]
        found = error_of("program", "-j dsgrec -", output)
        assert isinstance(found, errors.ProgramFailed)
        assert reason in str(found)
        assert reason in str(found.details)


UNAVAILABLE = [
    "The ZFS modules cannot be auto-loaded.\nTry running 'modprobe zfs' as root to manually load them.",
    "The ZFS modules are not loaded.\nTry running 'modprobe zfs' as root to load them.",
    "/dev/zfs and /proc/self/mounts are required.\nTry running 'udevadm trigger' and …",
    "Failed to initialize the libzfs library.",
    "cannot create 'tank/a': the loaded zfs module does not support this operation. A reboot may be required to enable "
    "this operation.",
]
LIST = Command("zfs", "get", (), "read tank", "tank")


@pytest.mark.parametrize("text", UNAVAILABLE)
def test_openzfs_that_is_not_there_is_unavailable(text: str) -> None:
    """Seen when /dev/zfs was taken away and when the module was not to be loaded."""
    assert type(stderr.error_of(LIST, 1, text)) is errors.ZfsUnavailable


def test_what_nobody_knows_is_quoted() -> None:
    found = stderr.error_of(LIST, 1, "internal error: cannot frobnicate 'tank': Invalid exchange\nand more")
    assert type(found) is errors.CommandFailed
    assert str(found) == (
        "cannot read tank: `zfs get` said: internal error: cannot frobnicate 'tank': Invalid exchange; and more"
    )
    assert found.subject == "tank"
    assert "signal 6" in str(stderr.error_of(LIST, -6, ""))
    assert "exit code 1" in str(stderr.error_of(LIST, 1, " \n"))


def test_long_messages_are_cut() -> None:
    assert len(str(stderr.error_of(LIST, 1, "x" * 100_000))) < 1000


def test_usage_text_decides_nothing() -> None:
    """What follows `usage:` names every property and value there is, and so every pattern."""
    text = "something odd\nusage:\n\tsnapshot … dataset does not exist, out of space, permission denied"
    assert type(stderr.error_of(LIST, 2, text)) is errors.CommandFailed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot open 'tank/a': dataset does not exist", True),
        ("cannot open 'tank/a': dataset does not exist\ncannot open 'tank/b c': dataset does not exist", True),
        ("cannot open 'tank/vol': operation not applicable to datasets of this type", True),
        ("", False),
        ("cannot open 'tank/a': dataset does not exist\ncannot open 'tank/b': I/O error", False),
        ("cannot open 'tank/a': pool I/O is currently suspended", False),
        ("cannot iterate filesystems: I/O error", False),
    ],
)
def test_absence_is_told_from_every_other_trouble(text: str, expected: bool) -> None:
    assert stderr.only_absent(text) is expected


IN_THE_SOURCE = [
    "zfs_version_kernel() failed: No such file or directory",
    "cannot set property for 'tank/a': keylocation may only be set on encryption roots",
    "cannot create 'tank/a': pool export in progress",
]
"""Messages that no recording holds, from libzfs_util.c and libzfs_dataset.c."""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("cannot create 'tank/a': encryption failure", errors.KeyUnavailable),
        ("Key change error: encryption failure", errors.KeyUnavailable),
        ("Key load error: encryption failure", errors.KeyUnavailable),
        ("Key load error: Incorrect key provided for 'tank/a'.", errors.KeyWrong),
        ("Key load error: Raw key too short (expected 32).", errors.KeyUnavailable),
        ("Key load error: Keys must be loaded for encryption root of 'tank/a/b' (tank/a).", errors.InvalidValue),
        ("Key change error: Key must be loaded.", errors.KeyUnavailable),
        ("Key change error: Key is not currently loaded.", errors.KeyUnavailable),
        ("Key change error: Dataset not encrypted.", errors.InvalidValue),
        ("Key change error: Keys cannot be changed on clones.", errors.InvalidValue),
        ("Key change error: Permission denied.", errors.PermissionDenied),
    ],
)
def test_what_is_said_of_keys(text: str, error: type[errors.StorageError]) -> None:
    """From libzfs_crypto.c; the first three were seen where no key came through stdin."""
    assert type(stderr.error_of(LIST, 255, text)) is error


def test_every_row_of_the_table_is_reached() -> None:
    """No row is shadowed by an earlier one, and none is there for a message that OpenZFS does not have."""
    recorded = [output.stderr for version in VERSIONS for output in outputs(version).values() if output.exit_code]
    reached = {stderr.rule_of(text) for text in [*recorded, *UNAVAILABLE, *IN_THE_SOURCE]}
    assert [rule.pattern for rule in stderr.RULES if rule not in reached] == []


@each_diff_version
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("unmounted", errors.NotMounted),
        ("no such snapshot", errors.NotFound),
        ("no such dataset", errors.NotFound),
        ("no such owner", errors.NotFound),
        ("later snapshot", errors.InvalidValue),
    ],
)
def test_comparisons_that_are_refused(version: str, name: str, kind: type[errors.StorageError]) -> None:
    output = outputs(version)[f"diff/{name}"]
    found = stderr.error_of(commands.diff("dsgdif/a@1", "dsgdif/b"), output.exit_code, output.stderr.strip())
    assert type(found) is kind
    assert str(found).startswith("cannot compare dsgdif/b with dsgdif/a@1: `zfs diff` said: ")
