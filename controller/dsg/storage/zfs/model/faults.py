"""Where a fault can strike: before, during and after every operation, and what a fault is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from dsg.storage.errors import StorageError
from dsg.storage.host import Host
from dsg.storage.trees import Trees
from dsg.storage.zfs.interface import Zfs


class Moment(StrEnum):
    """When the fault hook is called."""

    BEFORE = "before"
    """Nothing has happened yet."""
    DURING = "during"
    """A change is made in memory and not yet on disk; called for each transaction group or fsync of an operation."""
    AFTER = "after"
    """The change is durable; an exception here means that the caller never learns."""


FaultHook = Callable[[Moment, str, Mapping[str, object]], None]
"""Called with the moment, the operation (`zfs.create`, `host.mount`) and its arguments by name; it may raise.

What it raises reaches the caller, as if the process had died or the command had been lost. Raised at DURING without
a power cut, the change still becomes durable: killing a process does not stop the kernel.
"""


class Killed(BaseException):
    """A process was killed. Not an Exception, so that no error handling takes it for a failure it can deal with."""


class PowerCut(BaseException):
    """The node lost power in the middle of a call; raised to whoever was calling."""


class Refusal(Exception):
    """OpenZFS refuses: the error for callers of the interface, and the errno that a channel program sees."""

    def __init__(self, code: int, error: StorageError) -> None:
        super().__init__(str(error))
        self.code = code
        self.error = error


def _methods(protocol: type) -> list[str]:
    return [name for name, value in vars(protocol).items() if callable(value) and not name.startswith("_")]


OPERATIONS: tuple[str, ...] = tuple(
    f"{area}.{name}"
    for area, protocol in (("zfs", Zfs), ("host", Host), ("trees", Trees))
    for name in _methods(protocol)
)
"""Every operation of the interfaces, read from the interfaces themselves."""
