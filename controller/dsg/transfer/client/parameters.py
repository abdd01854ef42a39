"""Whether the data plane cuts large files as this client does. If not, chunks of old files are of no use."""

from __future__ import annotations

import json
import threading

from dsg.transfer.chunks import PARAMETERS
from dsg.transfer.client.connection import Connection
from dsg.transfer.client.errors import Refused


class Parameters:
    """What the data plane says of itself; it is asked once, when that is needed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._guard = threading.Lock()
        self._same: bool | None = None

    def same_chunks(self) -> bool:
        """Return whether both sides cut files alike. Raises TransferError."""
        with self._guard:
            if self._same is None:
                self._same = self._ask()
            return self._same

    def _ask(self) -> bool:
        try:
            said = json.loads(self._connection.ask_anybody("parameters", limit=1 << 16))
        except (Refused, ValueError):
            return False
        return isinstance(said, dict) and said.get("chunking") == PARAMETERS
