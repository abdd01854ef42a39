"""A client is killed by SIGKILL, or interrupted by Ctrl-C, at every effect on the disk, as the running code shows them.

The work runs in a forked child with an audit hook (PEP 578): it tells of every file that is opened for writing,
renamed, linked, removed, and of every directory that is made or removed. What the server does in the same process is
not the client's.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from tests.workcopy.server import Server

_EFFECTS = frozenset(
    {
        "os.rename",
        "os.link",
        "os.symlink",
        "os.remove",
        "os.mkdir",
        "os.rmdir",
        "os.chmod",
        "os.utime",
        "os.truncate",
    }
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def _name(event: str, args: tuple[Any, ...]) -> str | None:
    if event == "open":
        path, _mode, flags = args
        return f"open {_shown(path)}" if isinstance(flags, int) and flags & _WRITES else None
    return f"{event} {_shown(args[0] if args else '')}" if event in _EFFECTS else None


def _shown(path: object) -> str:
    text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else str(path)
    return text.rpartition("/.dsg/")[2] or text


def effects(server: Server, work: Callable[[], object]) -> list[str]:
    """Do the work in a child, whole, and return its effects."""
    text, signalled = _forked(server, work, 0)
    assert not signalled
    return text.splitlines()


def killed(server: Server, work: Callable[[], object], moment: int) -> bool:
    """Do the work in a child that is killed just before its effect of that number, from 1; tell whether it was."""
    return _forked(server, work, moment)[1]


def interrupted(server: Server, work: Callable[[], object], moment: int) -> bool:
    """Do the work in a child to which Ctrl-C comes at its effect of that number, from 1; tell whether that ended it."""
    return _forked(server, work, moment, gently=True)[1]


def to_strike(found: list[str]) -> list[int]:
    """Return the numbers of effects to be killed at: each, but of those that follow each other alike only the first."""
    alike = [_DIGEST.sub("*", name) for name in found]
    seen: set[tuple[str, str]] = set()
    chosen = []
    for number, pair in enumerate(zip(["", *alike], alike, strict=False), 1):
        if pair not in seen:
            seen.add(pair)
            chosen.append(number)
    return chosen


_DIGEST = re.compile("[0-9a-f]{64}")


_INTERRUPTED = 130


def _forked(server: Server, work: Callable[[], object], moment: int, *, gently: bool = False) -> tuple[str, bool]:
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        count = 0
        real_write = os.write

        def strike(name: str) -> None:
            nonlocal count
            if server.busy:
                return
            count += 1
            if not moment:
                real_write(writing, f"{name}\n".encode())
            elif count == moment:
                if gently:
                    raise KeyboardInterrupt
                os.kill(os.getpid(), signal.SIGKILL)

        def hook(event: str, args: tuple[Any, ...]) -> None:
            name = _name(event, args)
            if name is not None:
                strike(name)

        def write(descriptor: int, content: Any) -> int:
            strike("write")
            return real_write(descriptor, content)

        try:
            # The threads of the parent are not here.
            server.ground.restart()
            os.write = write
            sys.addaudithook(hook)
            work()
        except BaseException as error:
            count = -1_000_000
            if gently and isinstance(error, KeyboardInterrupt):
                os._exit(_INTERRUPTED)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return text, True
    if gently and os.WEXITSTATUS(status) == _INTERRUPTED:
        return text, True
    assert os.WEXITSTATUS(status) == 0, f"the work failed; it was to be ended at {moment}"
    return text, False
