"""A commit on a pool whose disk dies: `python -m tests.onzfs.suspended HOME act|resume`, inside a storage-node guest.

`act` prepares a sync, says `ready` and waits for a line on stdin before the step that it is told to stop at; then it
goes on and tells how that ended. `resume` is an operator that starts after the disk is back.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from dsg.storage.errors import StorageError
from dsg.storage.zfs.command_line import Timeouts
from dsg.transactions.transactor import Done, Operation, Transaction
from tests.onzfs.load import structlog_silent
from tests.transactions.ground import Content
from tests.transactions.real import ZfsGround
from tests.transactions.rounds import step
from tests.transactions.strikes import Strikes

FIRST, SECOND = step(1), step(2)
WAIT_FOR_DISK = 120.0


def transaction(uid: str) -> Transaction:
    from tests.transactions.ground import tree_digest

    return Transaction(uid, Operation.SYNC, "ana", "", "s1", "", tree_digest(SECOND))


class At(Strikes):
    """Waits at one named moment until it is told to go on."""

    def __init__(self, name: str) -> None:
        super().__init__(0, lambda: None)
        self._name = name

    def moment(self, name: str, when: str) -> None:
        if f"{when} {name}" == self._name:
            self._name = ""
            print("ready", flush=True)
            sys.stdin.readline()


def act(ground: ZfsGround, name: str, moment: str) -> None:
    ground.init(FIRST)
    ground.keep()
    one = transaction(f"tx-{name}")
    place = ground.transactor.stage(ground.target, one)
    assert isinstance(place, str)
    ground.send(place, FIRST, SECOND)
    ground.restart(At(moment))
    began = time.monotonic()
    try:
        result: object = ground.finish(one)
    except StorageError as error:
        result = f"{type(error).__name__}: {error}"
    print(f"after {time.monotonic() - began:.0f} s: {result}", flush=True)


def resume(ground: ZfsGround, name: str) -> None:
    seen: tuple[Content, ...] = (FIRST, SECOND)
    assert ground.seen() in seen
    one = transaction(f"tx-{name}")
    done = ground.transactor.committed(ground.target, one)
    print(f"found {'committed' if done else 'not committed'}", flush=True)
    if done is None:
        result = ground.finish(one)
        assert isinstance(result, Done), result
    ground.transactor.reveal(ground.target)
    ground.transactor.discard(ground.target, one)
    ground.converge()
    kept = ground.keep()
    assert kept.cleaned.kept == kept.cleaned.waits == ()
    assert ground.seen() == SECOND
    assert ground.versions() == ["s1", "s2"]
    assert ground.old("s1") == FIRST
    ground.leftovers()
    print("whole", flush=True)


def main() -> None:
    structlog_silent()
    home, name, command = sys.argv[1:4]
    Path("/srv/suspended").mkdir(exist_ok=True)
    ground = ZfsGround(home, Path("/srv/suspended"), name, timeouts=Timeouts(read=5, change=8))
    if command == "act":
        act(ground, name, sys.argv[4])
    else:
        resume(ground, name)


if __name__ == "__main__":
    main()
