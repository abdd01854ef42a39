"""A new working copy of a repository, in a new or empty directory; interrupted, the same command goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dsg.workcopy.base import Base
from dsg.workcopy.errors import AlreadyAWorkingCopy, NotEmpty
from dsg.workcopy.layout import METADATA, Layout
from dsg.workcopy.origin import Origin, Synced, read_origin, write_origin
from dsg.workcopy.remote import Remote, Repository
from dsg.workcopy.results import Cloned, Undecided, Watch
from dsg.workcopy.sync import Options, nobody, sync


def origin_of(repository: Repository, *, context: str, namespace: str, name: str) -> Origin:
    """Return the origin of a working copy of a repository."""
    return Origin(
        context=context,
        namespace=namespace,
        repository=name,
        repository_uid=repository.uid,
        synced=Synced.of(repository),
        name_rules=repository.name_rules,
    )


def clone(root: Path, remote: Remote, origin: Callable[[Repository], Origin], watch: Watch = nobody) -> Cloned:
    """Bring the head to a directory, which is made where it is missing.

    Raises NotEmpty, AlreadyAWorkingCopy, and what `sync` raises; `origin` says of which repository it is. A working
    copy whose repository has no version is empty; `init` makes the first one of what is put there.
    """
    layout = Layout(root)
    if layout.origin.exists():
        _require_same(layout, origin(remote.repository()))
    else:
        _require_empty(root)
        require_outside(root)
        said = origin(remote.repository())
        root.mkdir(parents=True, exist_ok=True)
        write_origin(layout, said)
    done = sync(layout, remote, Options(send=False), watch)
    if isinstance(done, Undecided):
        raise NotEmpty(
            f"{root} has other files than the repository at the same paths. Nothing was changed; choose another "
            "directory, or sync this one"
        )
    state = Base(layout.base).state()
    return Cloned(root, state.header if state is not None else None, done)


def _require_same(layout: Layout, wanted: Origin) -> None:
    here = read_origin(layout)
    same = (here.namespace, here.repository) == (wanted.namespace, wanted.repository)
    if not same or Base(layout.base).state() is not None:
        raise AlreadyAWorkingCopy(
            f"{layout.root} is a working copy of {here.namespace}/{here.repository} already. Nothing was changed; sync "
            "it, or clone into another directory"
        )


def _require_empty(root: Path) -> None:
    if root.is_symlink() and not root.exists():
        raise NotEmpty(f"{root} is a link that leads nowhere. Nothing was changed; choose another directory")
    if not root.exists():
        return
    if not root.is_dir():
        raise NotEmpty(f"{root} is no directory. Nothing was changed; choose another name")
    # What an interrupted call left is a .dsg without an origin.
    first = next((path.name for path in root.iterdir() if path.name != METADATA), None)
    if first is not None:
        raise NotEmpty(
            f"{root} is not empty (it has {first!r}). Nothing was changed; clone into a new directory and move your "
            "files there, or make this one a working copy with `kubectl dsg init`, if the repository has no version"
        )


def require_outside(root: Path) -> None:
    """Raise AlreadyAWorkingCopy where a directory lies in a working copy."""
    for above in root.absolute().parents:
        if Layout(above).origin.is_file():
            raise AlreadyAWorkingCopy(
                f"{root} would lie in the working copy {above}, which would sync it too. Nothing was changed; choose a "
                "directory elsewhere"
            )
