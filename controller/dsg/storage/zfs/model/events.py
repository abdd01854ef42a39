"""The stream of a node's pool events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue

from dsg.storage.errors import CommandFailed
from dsg.storage.zfs.interface import ZfsEvent


class ModelEventStream:
    """Events from the moment it was opened. One thread iterates, any thread may close."""

    def __init__(self, forget: Callable[[ModelEventStream], None]) -> None:
        self._events: SimpleQueue[ZfsEvent | CommandFailed | None] = SimpleQueue()
        self._forget = forget
        self._closed = False

    def deliver(self, event: ZfsEvent) -> None:
        """Add an event."""
        self._events.put(event)

    def fail(self, message: str) -> None:
        """End the stream as when its source dies by itself."""
        self._events.put(CommandFailed(message))

    def close(self) -> None:
        """End the stream; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._forget(self)
            self._events.put(None)

    def __iter__(self) -> Iterator[ZfsEvent]:
        while not self._closed:
            event = self._events.get()
            if event is None:
                return
            if isinstance(event, CommandFailed):
                self.close()
                raise event
            yield event
