"""An old version made the head again, as a new version; then the working copy is synced with it."""

from __future__ import annotations

from dataclasses import replace

from dsg.workcopy.errors import CommitStopped, KeepsChanging, NothingToSend, NoVersionYet
from dsg.workcopy.layout import Layout
from dsg.workcopy.origin import read_origin
from dsg.workcopy.prepare import look_at
from dsg.workcopy.remote import Committed, Conflicted, Ref, Remote, Request, Sink
from dsg.workcopy.results import Restored, Watch
from dsg.workcopy.sync import Options, nobody, sync


def restore(layout: Layout, remote: Remote, version: str, message: str, watch: Watch = nobody) -> Restored:
    """Have the server make a version what an old one was, and bring that here.

    What was edited here stays, and may be in conflict with it. Raises what `sync` raises. Interrupted before its commit
    it has changed nothing; after it, a sync brings what was restored.
    """
    repository, _ = look_at(remote, layout, read_origin(layout))
    if repository.head is None:
        raise NoVersionYet("the repository has no version yet; there is nothing to restore")
    if repository.head.version == version:
        raise NothingToSend(f"{version} is the head; there is nothing to restore")
    request = Request("Restore", repository.head.version, message, None, restore=version)
    outcome = remote.commit(request, _ignore, _send_nothing, lambda: None)
    if isinstance(outcome, Conflicted):
        raise KeepsChanging("others committed while the version was restored. Nothing was changed; try again")
    if not isinstance(outcome, Committed):
        raise CommitStopped(outcome.reason, outcome.message)
    return Restored(outcome.version, sync(layout, remote, replace(Options(), message=message), watch))


def _ignore(_ref: Ref) -> None:
    """Do nothing: a transaction that was never asked to commit ends by its timeout."""


def _send_nothing(_sink: Sink) -> None:
    """Do nothing: the server has the content."""
