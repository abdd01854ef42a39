"""What can go wrong between a working copy and a node. Each message stands by itself: what happened, and what to do."""

from __future__ import annotations

from dsg.transfer import contents
from dsg.transfer.problems import Code, Problem


class TransferError(Exception):
    """Contents did not travel. What had arrived before stays, and doing the same again goes on from there."""


class Unreachable(TransferError):
    """No connection, or it was lost again and again; tried several times already."""

    def __init__(self, url: str, problem: str, tries: int) -> None:
        times = "once" if tries == 1 else f"{tries} times"
        super().__init__(
            f"the data plane at {url} could not be reached, tried {times}: {problem}. Nothing is lost. Check the "
            "network (VPN, firewall) and that the node is up, then give the same command again; "
            "it goes on where it stopped"
        )
        self.url = url
        self.problem = problem


class WrongServer(TransferError):
    """Something answers that does not have the certificate that the transaction names. Nothing was told to it."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(
            f"what answers at {url} is not the data plane that the cluster names: {problem}. Nothing was sent. "
            "If a proxy stands between, go round it; else tell the cluster's administrator before you try again"
        )
        self.url = url


class Refused(TransferError):
    """The data plane said no. `code` is for programs (`dsg.transfer.problems.Code`), `path` what it is about."""

    def __init__(self, problem: Problem) -> None:
        about = f"{problem.path!r}: " if problem.path is not None else ""
        super().__init__(f"the data plane refused: {about}{problem.message}")
        self.code = problem.code
        self.message = problem.message
        self.path = problem.path


class GrantOver(Refused):
    """The transaction ended, expired, or never was: nothing can be sent or read with it any more."""


class NoSpace(TransferError):
    """There, or here, is no room for what should be stored."""


class Damaged(TransferError):
    """What came is not what the version's manifest says. It was thrown away. `digest` is what should have come."""

    def __init__(self, digest: str, problem: str, path: str | None = None) -> None:
        what = f"{path!r}" if path is not None else f"the content {digest}"
        super().__init__(
            f"{what} arrived damaged and was thrown away: {problem}. Give the command again; if it stays so, the "
            "node's copy is damaged: have its administrator run a scrub, and fetch the file from another version"
        )
        self.digest = digest
        self.path = path


class SourceChanged(contents.SourceChanged, TransferError):
    """A file is not any more what it was when it was scanned."""


class LocalProblem(TransferError):
    """A file of this machine can't be read or written."""

    def __init__(self, does: str, path: str, error: OSError) -> None:
        super().__init__(f"cannot {does} {path}: {error.strerror or error}")
        self.path = path


class Stopped(TransferError):
    """The transfer was given up by who asked for it, or because another part of it failed."""

    def __init__(self) -> None:
        super().__init__("the transfer was stopped. Give the same command again; it goes on where it stopped")


def refusal(problem: Problem) -> TransferError:
    """Return the error that a problem of the data plane is to this client."""
    if problem.code == Code.GRANT_OVER:
        return GrantOver(problem)
    if problem.code == Code.NO_SPACE:
        return NoSpace(problem.message)
    return Refused(problem)
