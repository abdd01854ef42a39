"""Which reason stands for which storage error."""

from __future__ import annotations

import structlog

from dsg.storage import errors
from dsg.storage.repository_type import Problem

_log = structlog.get_logger("dsg.reconcile")

_REASONS: tuple[tuple[type[errors.StorageError], str], ...] = (
    (errors.Busy, "StorageBusy"),
    (errors.HasDependents, "StorageBusy"),
    (errors.Held, "StorageBusy"),
    (errors.InvalidValue, "PropertyRefused"),
    (errors.OutOfSpace, "OutOfSpace"),
    (errors.QuotaExceeded, "QuotaTooLow"),
    (errors.PermissionDenied, "PermissionDenied"),
    (errors.PoolNotFound, "PoolUnavailable"),
    (errors.PoolSuspended, "PoolSuspended"),
    (errors.ReadOnlyPool, "PoolFaulted"),
    (errors.KeyWrong, "KeyWrong"),
    (errors.KeyUnavailable, "KeyUnavailable"),
    (errors.CommandTimeout, "StorageTimeout"),
    (errors.NotResponding, "StorageTimeout"),
    (errors.ZfsUnavailable, "StorageUnavailable"),
)


def fault(error: Exception) -> Problem:
    """Return the problem for an error that nobody expected, and log it: call it where the error is handled."""
    _log.exception("a fault of the operator")
    return Problem("OperatorFault", f"a fault of the operator ({type(error).__name__}); its log says more")


def problem(error: errors.StorageError) -> Problem:
    """Return the reason and message under which an error is reported."""
    for kind, name in _REASONS:
        if isinstance(error, kind):
            return Problem(name, str(error))
    return Problem("StorageError", str(error))
