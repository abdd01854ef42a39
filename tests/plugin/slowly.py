"""`python -m tests.plugin.slowly REPOSITORY WORD…`: kubectl-dsg with a repository that is in no hurry."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dsg.plugin.cli import app
from dsg.plugin.session import Session
from dsg.transfer.contents import Outgoing
from tests.plugin.desk import Person
from tests.transactions.ground import XfsGround
from tests.workcopy import server
from tests.workcopy.server import Server, Writer

PAUSE = 0.15
"""Seconds for each content."""


class Slow(Writer):
    def send(self, contents: Iterable[Outgoing], tell: Any, changes: Iterable[bytes]) -> None:
        def slowly() -> Iterator[Outgoing]:
            for one in contents:
                time.sleep(PAUSE)
                yield one

        super().send(slowly(), tell, changes)


def main() -> None:
    directory = Path(sys.argv[1])
    person = Person(Server(directory, XfsGround(directory / "disk")), "ana")
    server.Writer = Slow  # type: ignore[misc]
    Session.remote = lambda *_: person  # type: ignore[method-assign, assignment]
    app(sys.argv[2:])


if __name__ == "__main__":
    main()
