"""Errors of the storage layer: one class per cause that somebody would act on differently.

Each carries a sentence for the person who reads the condition, and says whether waiting can mend it. The class name
is what conditions, metrics and logs show.
"""

from __future__ import annotations

from typing import ClassVar


class StorageError(Exception):
    """Raised when the storage node could not do what it was asked; nothing is known to have changed."""

    transient: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing the spec or the data."""

    def __init__(self, message: str, *, subject: str = "") -> None:
        super().__init__(message)
        self.subject = subject
        """The dataset, snapshot, pool or path the error is about; empty where there is none."""


class NotFound(StorageError):
    """Raised when the dataset, snapshot or path does not exist."""


class NotMounted(StorageError):
    """Raised when what is asked can be told of a mounted filesystem only, and it is mounted nowhere."""


class AlreadyExists(StorageError):
    """Raised when what should be created is there already."""


class Busy(StorageError):
    """Raised when something in use cannot be unmounted, destroyed or promoted."""

    transient = True


class HasDependents(StorageError):
    """Raised when a dataset or snapshot has children, snapshots or clones and is therefore not destroyed."""


class Held(StorageError):
    """Raised when a hold keeps a snapshot from being destroyed."""


class InvalidValue(StorageError):
    """Raised when OpenZFS refuses a name or a property value."""


class OutOfSpace(StorageError):
    """Raised when the pool is full or a reservation cannot be satisfied."""

    transient = True


class QuotaExceeded(StorageError):
    """Raised when a quota is lower than what is used, or is reached."""


class PermissionDenied(StorageError):
    """Raised when the process may not do this on the node."""


class PoolNotFound(StorageError):
    """Raised when the pool is not imported on this node."""

    transient = True


class PoolSuspended(StorageError):
    """Raised when the pool's I/O is suspended after device failures (zpool(8), failmode)."""

    transient = True


class ReadOnlyPool(StorageError):
    """Raised when the pool was imported read-only."""


class KeyUnavailable(StorageError):
    """Raised when an encrypted dataset's key is not loaded, or the key given is not the right one."""


class KeyWrong(KeyUnavailable):
    """Raised when a key that was given does not open the dataset."""


class ProgramFailed(StorageError):
    """Raised when a channel program stopped with an error of its own; `details` is what it returned."""

    def __init__(self, message: str, *, subject: str = "", details: object = None) -> None:
        super().__init__(message, subject=subject)
        self.details = details


class CommandTimeout(StorageError):
    """Raised when a command did not end in time. It may still be running, and may still take effect."""

    transient = True


class NotResponding(StorageError):
    """Raised without starting anything, while earlier commands that ran out of time are still stuck in the kernel."""

    transient = True


class ZfsUnavailable(StorageError):
    """Raised when OpenZFS cannot be used at all: no command, no kernel module, or a version too old."""

    transient = True


class CommandFailed(StorageError):
    """Raised for a failure that no other class names; the message holds what the command said."""

    transient = True
