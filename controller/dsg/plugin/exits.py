"""How a command ends: the exit codes, and the one place where an error becomes a sentence and a code."""

from __future__ import annotations

import errno
import functools
import os
import signal
import sqlite3
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from types import FrameType
from typing import ParamSpec

import typer

from dsg.manifests.changes import ChangeError
from dsg.manifests.codec import ManifestError
from dsg.manifests.entries import EntryError
from dsg.manifests.history import HistoryError
from dsg.manifests.nodes import NodeError, NodeMissing
from dsg.plugin.cluster_remote import TransferFailed
from dsg.plugin.kubectl import KubectlError
from dsg.plugin.output import Format, Output, OutputClosed, abandon_stdout
from dsg.plugin.text import safe
from dsg.plugin.transaction import TransactionError
from dsg.scan.problems import ScanFailed
from dsg.sync.resolution import ResolutionError
from dsg.sync.sides import SidesError
from dsg.transfer.client.errors import TransferError
from dsg.transfer.contents import SourceChanged
from dsg.workcopy.errors import CommitStopped, WorkcopyError
from dsg.workcopy.remote import RemoteError, VersionGone

DEBUG = "DSG_DEBUG"
"""Set to 1, errors come with the place in the code that they come from."""


class Exit(IntEnum):
    """Exit codes."""

    DONE = 0
    FAILED = 1
    """The message says what happened and what to do."""
    USAGE = 2
    """The command itself was wrong; nothing was looked at."""
    CONFLICT = 3
    """A person has to decide."""
    INTERRUPTED = 130
    """By Ctrl-C or another signal; the next command goes on from there."""


class CommandError(Exception):
    """What a command itself finds wrong. `reason` is one stable word, `advice` what to do."""

    def __init__(self, reason: str, message: str, advice: str = "", code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.advice = advice
        self.code = code


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ends."""

    code: Exit
    reason: str
    message: str
    advice: str = ""


_GO_ON = "Nothing is lost: the same command again goes on from here."
_DAMAGED = "Run `kubectl dsg validate` to see what else is; tell the platform team, and keep this working copy."
_KNOWN: tuple[tuple[type[Exception], str, Exit, str], ...] = (
    (ResolutionError, "DecisionsWrong", Exit.CONFLICT, ""),
    (VersionGone, "VersionGone", Exit.FAILED, ""),
    (SourceChanged, "SourceChanged", Exit.FAILED, "Let the program that writes it finish, then run the command again."),
    (RemoteError, "RepositoryRefused", Exit.FAILED, ""),
    (ScanFailed, "ScanFailed", Exit.FAILED, ""),
    (SidesError, "SidesRefused", Exit.FAILED, ""),
    (NodeError, "Damaged", Exit.FAILED, _DAMAGED),
    (NodeMissing, "Damaged", Exit.FAILED, _DAMAGED),
    (HistoryError, "Damaged", Exit.FAILED, _DAMAGED),
    (ManifestError, "Damaged", Exit.FAILED, _DAMAGED),
    (ChangeError, "Damaged", Exit.FAILED, _DAMAGED),
    (EntryError, "PathWrong", Exit.FAILED, ""),
    (
        sqlite3.Error,
        "CacheFailed",
        Exit.FAILED,
        "Look whether the disk is full; then delete .dsg/scan.db, which is only a cache, and run the command again.",
    ),
)
"""Errors whose own message is for people: their reason, code and further advice. The first that fits counts."""

_ERRNO = {
    errno.ENOSPC: "Free some space on this disk, then run the command again: it goes on from here.",
    errno.EDQUOT: "Your quota on this disk is reached. Free some space, then run the command again.",
    errno.EACCES: "Look who owns it, and what you may do there (`ls -ld`).",
    errno.EPERM: "Look who owns it, and what you may do there (`ls -ld`).",
    errno.EROFS: "The file system is mounted read-only.",
    errno.EIO: "The disk has a fault. Copy what you need from it first.",
    errno.EMFILE: "Raise the limit of open files (`ulimit -n`).",
}


def ending(error: BaseException) -> Ending:
    """Return how a command ends that raised this."""
    if isinstance(error, KeyboardInterrupt):
        return Ending(Exit.INTERRUPTED, "Interrupted", "interrupted", _GO_ON)
    if isinstance(error, CommandError):
        return Ending(error.code, error.reason, error.message, error.advice)
    if isinstance(error, KubectlError | TransactionError):
        return Ending(Exit.FAILED, error.reason, error.message, error.advice)
    if isinstance(error, CommitStopped | TransferFailed):
        return Ending(Exit.FAILED, error.reason, str(error))
    if isinstance(error, WorkcopyError | TransferError):
        return Ending(Exit.FAILED, type(error).__name__, str(error))
    for kind, reason, code, advice in _KNOWN:
        if isinstance(error, kind):
            return Ending(code, reason, str(error) or reason, advice)
    if isinstance(error, OSError):
        return _system(error)
    if isinstance(error, MemoryError):
        return Ending(Exit.FAILED, "NoMemory", "there is not enough memory", "End other programs. " + _GO_ON)
    return Ending(
        Exit.FAILED,
        "Fault",
        f"a fault of kubectl-dsg itself: {type(error).__name__}: {error}",
        f"Nothing that was there is lost. Please report it, with what {DEBUG}=1 shows.",
    )


def _system(error: OSError) -> Ending:
    said = error.strerror or str(error) or type(error).__name__
    name = error.filename
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    about = f"{name}: {said}" if name is not None and not isinstance(name, int) else said
    return Ending(Exit.FAILED, "FileSystem", about, _ERRNO.get(error.errno or 0, ""))


_P = ParamSpec("_P")


def guarded(command: Callable[_P, None]) -> Callable[_P, None]:
    """Return a command that ends with a sentence and an exit code, whatever happens in it.

    The command's `output`, `quiet` and `verbose` say in which form.
    """

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            Output().flush()
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except OutputClosed:
            abandon_stdout()
        except BaseException as error:
            found = ending(error)
            form = kwargs.get("output")
            _tell(Output(form if isinstance(form, Format) else Format.TEXT), found, error)
            raise typer.Exit(int(found.code)) from None

    return run


def _tell(output: Output, found: Ending, error: BaseException) -> None:
    if os.environ.get(DEBUG) == "1":
        output.note(safe("".join(traceback.format_exception(error)), lines=True))
    try:
        output.failure(found.reason, found.message, found.advice, int(found.code))
        output.flush()
    except OutputClosed:
        abandon_stdout()


def handle_signals() -> None:
    """Make the signals that ask to end do what Ctrl-C does: what is open is closed first."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
