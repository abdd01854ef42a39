"""A transaction's stage, filled over the data plane: the list of changes, and the contents that it does not have."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial

from dsg.transfer.client.asks import Completed, Progress, Report
from dsg.transfer.client.connection import PIECE, Body, Connection
from dsg.transfer.client.crew import Crew
from dsg.transfer.client.errors import Refused
from dsg.transfer.client.sending import Sending
from dsg.transfer.contents import Outgoing
from dsg.transfer.problems import Problem

_IN_MEMORY = 4 << 20
"""Bytes of a list of changes that are not written to a temporary file."""


class Writer:
    """The stage of a transaction that writes. See `asks.StageWriter`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send_changes(self, lines: Iterable[bytes]) -> None:
        """Send the list of changes, in place of one sent before (`dsg.manifests.changes`)."""
        # Lines come once; a request may have to be made again.
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
            for line in lines:
                file.write(line)
            size = file.tell()

            def pieces() -> Iterator[bytes]:
                file.seek(0)
                while piece := file.read(PIECE):
                    yield piece

            self._connection.ask("PUT", "changes", Body(size, pieces), long=True)

    def send(
        self, contents: Iterable[Outgoing], report: Report | None = None, changes: Iterable[bytes] | None = None
    ) -> None:
        """Send contents, those only that the stage does not have, and beside them a list of changes.

        Raises SourceChanged.
        """
        sending = Sending(self._connection)

        def tick() -> None:
            if report is not None:
                traffic = self._connection.traffic
                report(Progress(sending.files, sending.content, traffic.sent, traffic.received))

        with Crew(self._connection, tick) as crew:
            if changes is not None:
                crew.do(partial(self.send_changes, changes))
            for work in sending.shared_out(contents):
                crew.do(work)
        tick()

    def complete(self) -> Completed:
        """Have all that was sent made durable. Only after this may the transaction be committed."""
        raw = self._connection.ask("POST", "complete", long=True)
        try:
            said = json.loads(raw)
            contents, changes = said["contents"], said["changes"]
        except (ValueError, KeyError, TypeError):
            contents = changes = None
        if type(contents) is not int or type(changes) is not bool:
            raise Refused(Problem("", "what it says of the completed transaction is not in a form that this dsg knows"))
        return Completed(contents, changes)
