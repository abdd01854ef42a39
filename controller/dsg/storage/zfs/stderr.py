"""What OpenZFS writes to stderr, as typed errors: one table, each row with the message it stands for.

The messages are those of libzfs_util.c, libzfs_dataset.c, libzfs_crypto.c, libzfs_util_os.c, zfs_main.c and
zpool_main.c of OpenZFS 2.1 to 2.4, in the untranslated locale. Rows are tried from the top; a text that no row knows is
a CommandFailed that quotes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dsg.storage.errors import (
    AlreadyExists,
    Busy,
    CommandFailed,
    HasDependents,
    Held,
    InvalidValue,
    KeyUnavailable,
    KeyWrong,
    NotFound,
    NotMounted,
    OutOfSpace,
    PermissionDenied,
    PoolNotFound,
    PoolSuspended,
    ProgramFailed,
    QuotaExceeded,
    ReadOnlyPool,
    StorageError,
    ZfsUnavailable,
)
from dsg.storage.zfs.commands import Command


@dataclass(frozen=True, slots=True)
class Rule:
    """A message of OpenZFS, the error it means, and what a person does about it."""

    pattern: str
    error: type[StorageError]
    advice: str = ""


_LOAD_MODULE = "load the kernel module on the node (modprobe zfs)"
_DEVICES = "see `zpool status`; when the devices answer again, run `zpool clear`"
_KEY = "put the right key where keylocation points to, then load it (zfs-load-key(8))"

RULES: tuple[Rule, ...] = (
    # OpenZFS as a whole
    Rule(r"The ZFS modules (are not loaded|cannot be auto-loaded)", ZfsUnavailable, _LOAD_MODULE),
    Rule(r"/dev/zfs and /proc/self/mounts are required", ZfsUnavailable, _LOAD_MODULE),
    Rule(r"Failed to initialize the libzfs library", ZfsUnavailable, _LOAD_MODULE),
    Rule(r"zfs_version_kernel\(\) failed", ZfsUnavailable, _LOAD_MODULE),
    Rule(
        r"the loaded zfs module does not support|operation not supported by zfs kernel module",
        ZfsUnavailable,
        "the tools and the kernel module are of different versions; reboot the node",
    ),
    Rule(r"must be run as root", PermissionDenied, "run the operator as root"),
    # the pool
    Rule(r"pool I/O is currently suspended|pool is unavailable", PoolSuspended, _DEVICES),
    Rule(r"pool is read-only|dataset is read-only", ReadOnlyPool, "import the pool writable"),
    Rule(r"no such pool or dataset", NotFound),
    Rule(r"no such pool", PoolNotFound, "import the pool on this node (zpool-import(8))"),
    # keys, before the permission errors that they look like
    Rule(r"encryption root's key is not loaded|encryption key not loaded", KeyUnavailable, _KEY),
    Rule(r"Incorrect key provided", KeyWrong, _KEY),
    Rule(r"Failed to open key material file|: encryption failure", KeyUnavailable, _KEY),
    Rule(r"(Raw|Hex) key too (short|long)|Passphrase too (short|long)|Invalid hex digit", KeyUnavailable, _KEY),
    Rule(r"Key already unloaded|[Kk]ey must be loaded|Key is not currently loaded", KeyUnavailable, _KEY),
    Rule(r"keylocation may only be set on encryption roots", InvalidValue),
    Rule(
        r"Key (un)?load error: '.*' is not encrypted|not an encryption root|encryption feature not enabled"
        r"|Keys must be (un)?loaded for encryption root of|Dataset not encrypted|Keys cannot be changed on clones"
        r"|Keyformat required|Encryption must be turned on|must be loaded for its encryption root",
        InvalidValue,
    ),
    Rule(r"Key unload error: '.*' is busy", Busy, "unmount the datasets below first"),
    Rule(r"Key (un)?load error: Failed to|Key load error: ", KeyUnavailable, _KEY),
    # comparing
    Rule(r"Cannot diff an unmounted snapshot", NotMounted, "mount it, and the filesystem that the snapshot belongs to"),
    Rule(r"Unable to obtain diffs: No such file or directory", NotFound),
    Rule(r"Unable to obtain diffs: \n   Not an earlier snapshot from the same fs", InvalidValue),
    # what stands in the way
    Rule(r"it's being held", Held, "see `zfs holds`; the hold is released by whoever put it there"),
    Rule(r"(filesystem|volume|snapshot) has (children|dependent clones)", HasDependents),
    Rule(r"tag already exists on this dataset", AlreadyExists),
    Rule(r"conflicting snapshot", AlreadyExists, "rename or destroy one of the two snapshots"),
    Rule(r"dataset already exists|pool or dataset exists|bookmark exists", AlreadyExists),
    Rule(r"no such tag on this dataset", NotFound),
    Rule(r"parent does not exist", NotFound, "create the dataset above it first"),
    Rule(r"dataset does not exist|could not find any snapshots to destroy", NotFound),
    Rule(
        r"(dataset|pool) is busy|pool or dataset is busy|target is busy|unmount failed",
        Busy,
        "something uses it; close that",
    ),
    Rule(r"pool export in progress", Busy),
    # space
    Rule(
        r"size is less than current used or reserved space", QuotaExceeded, "choose a larger size, or free space first"
    ),
    Rule(r"size is greater than available space", OutOfSpace, "free space in the pool, or reserve less"),
    Rule(r"out of space|No space left on device", OutOfSpace, "free space in the pool, or raise the quota above it"),
    # the caller
    Rule(r"[Pp]ermission denied|Operation not permitted|delegated administration is disabled", PermissionDenied),
    # names and values
    Rule(r"invalid property|bad property list|property value too long|invalid quota or reservation", InvalidValue),
    Rule(r"read-?only property|property is read-only|' is readonly|cannot be inherited", InvalidValue),
    Rule(r"does(n't| not) apply to datasets of this type|not applicable to datasets of this type", InvalidValue),
    Rule(r"can not be modified for snapshots|pool and or dataset must be upgraded|Can not downgrade", InvalidValue),
    Rule(
        r"' must be |must be one of|bad numeric value|numeric value is too large|is not a (number|multiple)",
        InvalidValue,
    ),
    Rule(r"invalid character|is not expected here|empty component|leading slash|trailing slash", InvalidValue),
    Rule(r"missing '.' delimiter|name is too long|name '.*' is too long|reserved name|is found in name", InvalidValue),
    Rule(r"maximum name nesting|invalid name|must begin with a letter|is not a snapshot|tag too long", InvalidValue),
    Rule(r"not a cloned filesystem|source and target pools differ|parent is not a filesystem", InvalidValue),
    Rule(r"multiple snapshots of same fs|operation does not apply to pools|argument list too long", InvalidValue),
    Rule(r"cannot be a descendant|use 'none' to disable|datasets must be within same pool", InvalidValue),
    Rule(r"invalid parent dataset|unsupported version or feature|keylocation must (not )?be", InvalidValue),
)

_COMPILED = tuple((re.compile(rule.pattern), rule) for rule in RULES)
_SHOWN = 600

PROGRAM_FAILED = "Channel program execution failed:\n"
"""How the message about a program's own failure begins; one that could not be run is told in the same line."""
_ABSENT = re.compile(
    r"cannot open '(?P<name>.*)': (dataset does not exist|no such pool or dataset|no such pool '.*'"
    r"|operation not applicable to datasets of this type)"
)


def says_key_loaded(stderr: str) -> bool:
    """Return whether zfs-load-key(8) says that there is nothing to do."""
    return re.fullmatch(r"Key load error: Key already loaded for '.*'\.", stderr) is not None


def says_no_such_snapshots(stderr: str) -> bool:
    """Return whether zfs-destroy(8) says that none of the snapshots exists."""
    return stderr == "could not find any snapshots to destroy; check snapshot names."


def only_absent(stderr: str) -> bool:
    """Return whether stderr says nothing but that some of the datasets asked for are not there (or of another kind)."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    return bool(lines) and all(_ABSENT.fullmatch(line) for line in lines)


def absent(stderr: str) -> list[str]:
    """Return the names that `only_absent` is about."""
    return [found["name"] for line in stderr.splitlines() if (found := _ABSENT.fullmatch(line)) is not None]


def _beside_absence(stderr: str) -> str:
    """Return what a read met beside datasets that are not there; all of it when there is nothing else."""
    return "\n".join(line for line in stderr.splitlines() if not _ABSENT.fullmatch(line)) or stderr


def quote(stderr: str) -> str:
    """Return what a command said in one line, without the usage text that may follow."""
    lines = []
    for line in stderr.splitlines():
        if line.startswith("usage:"):
            break
        if line.strip():
            lines.append(line.strip())
    text = "; ".join(lines)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def rule_of(stderr: str) -> Rule | None:
    """Return the row of the table that a text falls under."""
    said = stderr.partition("\nusage:")[0]
    return next((rule for pattern, rule in _COMPILED if pattern.search(said)), None)


def error_of(command: Command, exit_code: int, stderr: str) -> StorageError:
    """Return the typed error of a command that failed."""
    what = f"cannot {command.does}"
    name = f"{command.program} {command.verb}"
    if PROGRAM_FAILED in stderr and "must be run as root" not in stderr:
        said = stderr.partition(PROGRAM_FAILED)[2].strip()
        first = said.partition("\n")[0]
        return ProgramFailed(f"{what}: it failed with: {first}", subject=command.subject, details=said)
    if not stderr.strip():
        how = (
            f"was ended by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code} and no message"
        )
        return CommandFailed(f"{what}: `{name}` {how}", subject=command.subject)
    rule = rule_of(_beside_absence(stderr) if command.verb == "get" else stderr)
    said = f"{what}: `{name}` said: {quote(stderr)}"
    if rule is None:
        return CommandFailed(said, subject=command.subject)
    return rule.error(f"{said}. To do: {rule.advice}" if rule.advice else said, subject=command.subject)
