"""One SyncTransaction, from the side of who opens it: create, wait, commit or abort, and what came of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from dsg.api.load import InvalidObject, parse_object
from dsg.api.names import API_VERSION
from dsg.api.reasons import BY_NAME
from dsg.api.repository import Repository
from dsg.api.synctransaction import Changes, SyncTransaction, SyncTransactionStatus
from dsg.plugin.kubectl import Invalid, Kubectl, KubectlError, NotFound, Unreachable
from dsg.workcopy.remote import RemoteError

KIND = "synctransactions.dsg.hrdag.org"
Operation = Literal["Init", "Sync", "Restore", "Read"]
ENDS = frozenset({"Committed", "Closed", "Conflict", "Aborted", "Expired", "Failed"})
_OPEN = frozenset({"Staging", "Serving"})
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0
"""Seconds between two looks at a status: the first, and where doubling ends."""
_SUFFIX = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long somebody waits, in seconds."""

    tell: float = 3.0
    """After which a person is told why."""
    unanswered: float = 60.0
    """Within which an operator must have looked at the transaction at all."""
    pending: float = 300.0
    """After which a transaction that does not open is given up."""
    unreachable: float = 60.0
    """For which an API server may be away."""


class TransactionError(RemoteError):
    """A transaction that did not do what it was opened for.

    `reason` is the operator's word (docs/reference/conditions.md), `message` its sentence, `advice` what to do.
    """

    def __init__(self, reason: str, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        known = BY_NAME.get(reason)
        self.advice = advice or (known.action if known is not None and known.action != "Nothing." else "")


class OutcomeUnknown(TransactionError):
    """A transaction that was asked to commit, and nobody could say in time whether it did."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a transaction is opened with."""

    repository: str
    node: str
    operation: Operation
    author: str
    client_key: str
    timeout: str
    ttl: str
    message: str = ""
    base: str | None = None
    restore: str | None = None
    changes: Changes | None = None

    def body(self, name: str) -> dict[str, Any]:
        """Return the object to create."""
        spec: dict[str, Any] = {
            "repositoryRef": {"name": self.repository},
            "node": self.node,
            "operation": self.operation,
            "author": self.author,
            "message": self.message,
            "clientKey": self.client_key,
            "intent": "Stage",
            "timeout": self.timeout,
            "ttlAfterFinished": self.ttl,
        }
        if self.base is not None:
            spec["base"] = self.base
        if self.restore is not None:
            spec["restore"] = self.restore
        if self.changes is not None:
            spec["changes"] = self.changes.model_dump(mode="json", by_alias=True)
        return {"apiVersion": API_VERSION, "kind": "SyncTransaction", "metadata": {"name": name}, "spec": spec}


@dataclass(frozen=True, slots=True)
class State:
    """What an operator has said of a transaction."""

    phase: str
    """Empty while no operator has looked."""
    reason: str
    message: str
    status: SyncTransactionStatus

    @property
    def over(self) -> bool:
        """Return whether nothing will change any more."""
        return self.phase in ENDS


def state_of(obj: SyncTransaction) -> State:
    """Return what an operator has said of a transaction."""
    status = obj.status or SyncTransactionStatus()
    ready = next((one for one in status.conditions if one.type == "Ready"), None)
    return State(status.phase or "", ready.reason if ready else "", ready.message if ready else "", status)


_Kind = TypeVar("_Kind", SyncTransaction, Repository)


def parse_transaction(raw: dict[str, Any]) -> SyncTransaction:
    """Return an object of the API server as a SyncTransaction. KubectlError when it is none."""
    return _parsed(raw, SyncTransaction)


def parse_repository(raw: dict[str, Any]) -> Repository:
    """Return an object of the API server as a Repository. KubectlError when it is none."""
    return _parsed(raw, Repository)


def _parsed(raw: dict[str, Any], kind: type[_Kind]) -> _Kind:
    try:
        found = parse_object(raw)
    except InvalidObject as error:
        raise KubectlError(
            f"The cluster has a {kind.__name__} that this kubectl-dsg does not understand: {error}",
            "Install the version of kubectl-dsg that belongs to the cluster's (`kubectl dsg version`).",
        ) from None
    if not isinstance(found, kind):
        raise KubectlError(f"The API server answered with another kind than {kind.__name__}")
    return found


class Transaction:
    """A transaction that this process has opened. Leaving the `with` block aborts it, unless it is over or committing.

    Also when Ctrl-C ends the block, and when it came while the transaction was being created: its name is chosen here.
    """

    def __init__(
        self, kubectl: Kubectl, request: Request, tell: Callable[[str], None], patience: Patience | None = None
    ) -> None:
        self.name = f"{request.repository}-{''.join(secrets.choice(_SUFFIX) for _ in range(8))}"
        self.uid = ""
        self._kubectl = kubectl
        self._request = request
        self._tell = tell
        self._patience = patience or Patience()
        self._over = False

    def __enter__(self) -> Self:
        try:
            made = parse_transaction(self._kubectl.create(self._request.body(self.name)))
        except (KeyboardInterrupt, Unreachable):
            self.abort()
            raise
        self.uid = made.metadata.uid
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def opened_or_over(self) -> State:
        """Wait until the transaction takes or gives content, or has ended. Raises TransactionError, KubectlError."""
        return self._watch(_OPEN | ENDS, opening=True)

    def opened(self) -> State:
        """Wait until the transaction takes or gives content. Raises TransactionError, KubectlError."""
        state = self.opened_or_over()
        if state.over:
            raise stopped(state)
        return state

    def commit(self) -> State:
        """Ask for the commit and return the end, whichever it is. Raises KubectlError, OutcomeUnknown."""
        try:
            self._intend("Commit")
            # From here on nothing can be taken back.
            self._over = True
            return self._watch(ENDS, opening=False)
        except Unreachable as error:
            raise OutcomeUnknown(
                error.reason,
                f"The transaction {self.name} was asked to commit, and then the cluster could not be reached: "
                f"{error.message}. Whether it committed is not known here",
                "Nothing is lost. Run the same command again when the cluster answers; it finds out and goes on.",
            ) from None

    def abort(self) -> None:
        """End the transaction, if it is neither over nor committing. Never raises: its timeout ends it too."""
        if self._over:
            return
        self._over = True
        try:
            self._intend("Abort", shielded=True)
        except (NotFound, Invalid):
            # Never made; or asked to commit, by a request of which only the answer was lost.
            pass
        except KubectlError as error:
            self._tell(
                f"The transaction {self.name} could not be closed ({error.message}); it ends by itself within "
                f"{self._request.timeout}."
            )

    def _intend(self, intent: Literal["Commit", "Abort"], *, shielded: bool = False) -> None:
        self._kubectl.patch(KIND, self.name, {"spec": {"intent": intent}}, shielded=shielded)

    def _watch(self, phases: frozenset[str], *, opening: bool) -> State:
        def check(state: State, waited: float) -> None:
            self._over = self._over or state.over
            if opening and state.phase not in phases:
                self._check_patience(state, waited)

        return watch(self._kubectl, self.name, phases, self._tell, self._patience, check)

    def _check_patience(self, state: State, waited: float) -> None:
        if not state.phase and waited > self._patience.unanswered:
            raise TransactionError(
                "OperatorSilent",
                f"The operator of node {self._request.node} has not looked at the transaction for "
                f"{round(waited)} seconds; it does not run, or not for this node",
                "Tell the platform team. Nothing was changed; run the command again when it runs.",
            )
        if waited > self._patience.pending:
            raise TransactionError(
                state.reason or "Pending",
                f"The transaction did not open within {round(waited)} seconds: {state.message}",
            )


def watch(
    kubectl: Kubectl,
    name: str,
    phases: frozenset[str],
    tell: Callable[[str], None],
    patience: Patience,
    check: Callable[[State, float], None] = lambda _state, _waited: None,
) -> State:
    """Return the state of a transaction when its phase is one of these.

    `check` is told each state and how long it has been waited for. Raises what it raises, TransactionError when the
    object is gone, and KubectlError.
    """
    started = answered = time.monotonic()
    pause, told = _FIRST_PAUSE, ""
    while True:
        now = time.monotonic()
        try:
            state = state_of(parse_transaction(kubectl.get(KIND, name)))
        except NotFound:
            raise TransactionError(
                "Deleted", f"The transaction {name} was deleted by somebody", "Run the command again."
            ) from None
        except Unreachable as error:
            if now - answered > patience.unreachable:
                raise
            why = error.message
        else:
            answered = now
            check(state, now - started)
            if state.phase in phases:
                return state
            why = state.message or "no operator has looked at it yet"
        if now - started > patience.tell and why != told:
            tell(f"Waiting for {name}: {why}")
            told = why
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def stopped(state: State) -> TransactionError:
    """Return the error that stands for a transaction's end without what was wanted."""
    return TransactionError(state.reason or state.phase, state.message or f"The transaction ended as {state.phase}")
