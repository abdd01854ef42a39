"""The first version of a repository, of what is in a directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dsg.workcopy.base import Base
from dsg.workcopy.clone import require_outside
from dsg.workcopy.errors import AlreadyAWorkingCopy, HasVersions
from dsg.workcopy.layout import Layout
from dsg.workcopy.origin import Origin, read_origin, write_origin
from dsg.workcopy.remote import Remote, Repository
from dsg.workcopy.results import Synced, Watch
from dsg.workcopy.sync import Options, nobody, sync


def init(
    root: Path,
    remote: Remote,
    origin: Callable[[Repository], Origin],
    options: Options,
    watch: Watch = nobody,
) -> Synced:
    """Make a directory a working copy, and what is in it the repository's first version.

    Raises HasVersions, AlreadyAWorkingCopy, NothingToSend, and what `sync` raises. Interrupted, the same command goes
    on. With what it has written, `sync` works as well: a repository that has a version is brought together with what is
    here.
    """
    layout = Layout(root)
    repository = remote.repository()
    wanted = origin(repository)
    if layout.origin.exists():
        here = read_origin(layout)
        if (here.namespace, here.repository) != (wanted.namespace, wanted.repository):
            raise AlreadyAWorkingCopy(
                f"{root} is a working copy of {here.namespace}/{here.repository}. Nothing was changed; go to another "
                "directory"
            )
        if Base(layout.base).state() is not None:
            raise AlreadyAWorkingCopy(f"{root} has a version already. Nothing was changed; sync it")
    else:
        require_outside(root)
        if repository.head is not None:
            raise HasVersions(
                f"the repository has version {repository.head.version} already. Nothing was changed; clone it into a "
                "new directory and bring your files there"
            )
        write_origin(layout, wanted)
    return sync(layout, remote, replace(options, initial=True), watch)
