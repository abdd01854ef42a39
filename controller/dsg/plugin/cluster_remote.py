"""A repository of a cluster as a working copy sees it: kubectl for the objects, the data plane for the content."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dsg.api import repository as api
from dsg.api.access import seconds_until_certain
from dsg.api.sizes import to_bytes
from dsg.api.synctransaction import Changes, SyncTransaction
from dsg.manifests.entries import version_number
from dsg.manifests.header import Header
from dsg.plugin import limits
from dsg.plugin.kubectl import REQUEST_TIMEOUT, Kubectl, NotFound, User
from dsg.plugin.transaction import (
    ENDS,
    KIND,
    Operation,
    Patience,
    State,
    Transaction,
    TransactionError,
    parse_repository,
    parse_transaction,
    state_of,
    stopped,
    watch,
)
from dsg.plugin.transaction import Request as Opening
from dsg.transfer import client
from dsg.transfer.client import asks, errors
from dsg.transfer.contents import Outgoing, Wanted
from dsg.workcopy.remote import (
    Committed,
    Conflicted,
    Head,
    Outcome,
    Ref,
    RemoteError,
    Repository,
    Request,
    Sink,
    StillOpen,
    Stopped,
    Tell,
    Unknown,
    VersionGone,
    VersionReader,
)

if TYPE_CHECKING:
    from dsg.transfer.client.identity import Endpoint, Identity

REPOSITORY = "repositories.dsg.hrdag.org"
_SETTLING = 15.0
"""Seconds within which a Repository's status follows a commit."""
_PAUSE = 0.1
_BESIDE = 1.0
"""Seconds that clocks may differ by."""
_LATE = 1.0
"""Seconds between two looks for a transaction that may still come about."""


class DataPlane(Protocol):
    """How to connect to a node's data plane for one transaction."""

    def reader(self, endpoint: Endpoint, uid: str, identity: Identity) -> AbstractContextManager[asks.VersionReader]:
        """Return what reads the transaction's version."""
        ...

    def writer(self, endpoint: Endpoint, uid: str, identity: Identity) -> AbstractContextManager[asks.StageWriter]:
        """Return what fills the transaction's stage."""
        ...


class TransferFailed(RemoteError):
    """The data plane could not be used; `reason` says in one word how."""

    def __init__(self, error: errors.TransferError) -> None:
        super().__init__(str(error))
        self.reason = type(error).__name__


@dataclass(slots=True)
class Traffic:
    """Bytes that went over the wire so far."""

    sent: int = 0
    received: int = 0
    _before: tuple[int, int] = field(default=(0, 0), repr=False)

    def begin(self) -> None:
        """A connection begins to count anew."""
        self._before = (self.sent, self.received)

    def count(self, progress: asks.Progress) -> None:
        """Take a connection's count."""
        self.sent = self._before[0] + progress.sent
        self.received = self._before[1] + progress.received


class ClusterRemote:
    """`dsg.workcopy.remote.Remote` of one Repository. `tell` takes sentences for a waiting person."""

    def __init__(
        self,
        kubectl: Kubectl,
        name: str,
        data_plane: DataPlane,
        *,
        tell: Callable[[str], None],
        timeout: str = "",
        patience: Patience | None = None,
    ) -> None:
        self.kubectl = kubectl
        self.name = name
        self.traffic = Traffic()
        self._data_plane = data_plane
        self._tell = tell
        self._timeout = timeout
        self._patience = patience or Patience()
        self._user: User | None = None
        self._object: api.Repository | None = None

    def author(self) -> str:
        """Return the name that the API server knows the caller by."""
        if self._user is None:
            self._user = self.kubectl.whoami()
        return self._user.name

    def repository(self) -> Repository:
        """Look at the Repository."""
        found = self._look()
        spec, status = found.spec, found.status
        head = status.head if status is not None else None
        if head is None:
            self._check_that_empty(found)
        return Repository(
            uid=found.metadata.uid,
            head=None if head is None else Head(head.version, head.digest, head.author, _moment(head.time)),
            data_dirs=tuple(spec.data_dirs),
            ignore=spec.ignore or api.Ignore(),
            name_rules=spec.name_rules,
        )

    def _look(self) -> api.Repository:
        try:
            self._object = parse_repository(self.kubectl.get(REPOSITORY, self.name))
        except NotFound as error:
            raise NotFound(
                f"There is no Repository {self.name!r} in this namespace: {error.message}",
                "`kubectl dsg repos --all-namespaces` lists those that you may see.",
            ) from None
        return self._object

    def _check_that_empty(self, found: api.Repository) -> None:
        """Refuse to take a Repository for one without a version before its operator says so."""
        status = found.status
        ready = next((one for one in status.conditions if one.type == "Ready"), None) if status else None
        if ready is None:
            raise TransactionError(
                "OperatorSilent",
                f"The operator of node {found.spec.storage.node} has not looked at Repository {self.name} yet",
                "Wait a moment; if it stays so, tell the platform team: the operator does not run.",
            )
        if ready.status != "True":
            raise TransactionError(ready.reason, f"Repository {self.name} is not ready: {ready.message}")

    @contextmanager
    def open_read(self, version: str) -> Iterator[VersionReader]:
        """Open a version for reading."""
        identity = client.Identity.make()
        used = _used(self._object or self._look())
        opening = self._opening("Read", identity, limits.timeout(used, self._timeout), limits.TTL_READ, base=version)
        with Transaction(self.kubectl, opening, self._tell, self._patience) as transaction:
            try:
                state = transaction.opened()
            except TransactionError as error:
                if error.reason == "BaseGone":
                    raise VersionGone(version) from None
                raise
            with _translated(), self._data_plane.reader(_endpoint(state, opening), transaction.uid, identity) as reader:
                self.traffic.begin()
                yield _Reader(reader, version, self.traffic)

    def commit(
        self,
        request: Request,
        note: Callable[[Ref], None],
        send: Callable[[Sink], None],
        committing: Callable[[], None],
    ) -> Outcome:
        """Open a transaction, have it filled, commit it, and wait until it has ended."""
        identity = client.Identity.make()
        opening = self._opening(
            request.operation,
            identity,
            limits.timeout(request.size, self._timeout),
            limits.TTL_WRITE,
            base=request.base,
            message=request.message,
            restore=request.restore,
            changes=_changes(request),
        )
        transaction = Transaction(self.kubectl, opening, self._tell, self._patience)
        note(Ref(transaction.name, begun=time.time()))
        with transaction:
            note(Ref(transaction.name, transaction.uid))
            state = transaction.opened_or_over()
            if state.over:
                return self._outcome(state)
            if request.operation != "Restore":
                endpoint = _endpoint(state, opening)
                with _translated(), self._data_plane.writer(endpoint, transaction.uid, identity) as writer:
                    self.traffic.begin()
                    send(_Sink(writer, self.traffic))
            committing()
            return self._outcome(transaction.commit())

    def find(self, ref: Ref) -> Outcome | StillOpen | Unknown:
        """Return what became of a transaction, waiting while it is being committed."""
        found = self._find(ref)
        if found is None:
            return Unknown()
        state = state_of(found)
        if not state.over and found.spec.intent == "Stage":
            return StillOpen()
        if not state.over:
            state = watch(self.kubectl, ref.name, ENDS, self._tell, self._patience)
        return self._outcome(state)

    def abort(self, ref: Ref) -> None:
        """Have an open transaction ended, and wait until it is."""
        found = self._find(ref)
        if found is None or state_of(found).over:
            return
        if found.spec.intent == "Stage":
            self.kubectl.patch(KIND, ref.name, {"spec": {"intent": "Abort"}})
        watch(self.kubectl, ref.name, ENDS, self._tell, self._patience)

    def _find(self, ref: Ref) -> SyncTransaction | None:
        # A kubectl outlives who was killed; what it asked for may come about as long as its request lasts.
        late = time.monotonic() + min(ref.begun + REQUEST_TIMEOUT - time.time(), REQUEST_TIMEOUT)
        while True:
            try:
                found = parse_transaction(self.kubectl.get(KIND, ref.name))
            except NotFound:
                if ref.uid or time.monotonic() > late:
                    return None
                time.sleep(_LATE)
            else:
                return found if self._is(found, ref) else None

    def _is(self, found: SyncTransaction, ref: Ref) -> bool:
        if ref.uid:
            return found.metadata.uid == ref.uid
        # The name was chosen at random for this; it is nobody else's.
        return (found.spec.repository_ref.name, found.spec.author) == (self.name, self.author())

    def _opening(
        self,
        operation: Operation,
        identity: Identity,
        timeout: str,
        ttl: str,
        *,
        base: str | None,
        message: str = "",
        restore: str | None = None,
        changes: Changes | None = None,
    ) -> Opening:
        found = self._object or self._look()
        self._wait_until_certain(found, operation)
        return Opening(
            repository=self.name,
            node=found.spec.storage.node,
            operation=operation,
            author=self.author(),
            client_key=identity.fingerprint,
            timeout=timeout,
            ttl=ttl,
            message=message,
            base=base,
            restore=restore,
            changes=changes,
        )

    def _wait_until_certain(self, found: api.Repository, operation: Operation) -> None:
        """Wait while the Repository is so young that the groups of who asks would not count (`dsg.api.access`)."""
        try:
            since = _moment(found.metadata.creation_timestamp)
        except ValueError:
            return
        left = seconds_until_certain(found.spec, since, self.author(), operation, datetime.now(UTC))
        if left > 0:
            self._tell(f"Repository {self.name} was just made; waiting {left:.0f} s until groups of users count")
            # The API server's clock need not be ours to the second.
            time.sleep(left + _BESIDE)

    def _outcome(self, state: State) -> Outcome:
        if state.phase == "Committed" and state.status.version is not None:
            self._settle(state.status.version)
            return Committed(state.status.version, state.status.rebased_onto or "")
        if state.phase == "Conflict" and state.status.conflicts is not None:
            conflicts = state.status.conflicts
            return Conflicted(conflicts.total, tuple(one.path for one in conflicts.items))
        error = stopped(state)
        advice = f". {error.advice}" if error.advice else ""
        return Stopped(error.reason, f"{error.message}{advice}")

    def _settle(self, version: str) -> None:
        """Wait a little until the Repository's status knows the version: it is written after the transaction's.

        Else the next look would find an older head than the one that was just committed, as after a loss of data.
        """
        until = time.monotonic() + _SETTLING
        while time.monotonic() < until:
            status = self._look().status
            head = status.head if status is not None else None
            if head is not None and version_number(head.version) >= version_number(version):
                return
            time.sleep(_PAUSE)


def _changes(request: Request) -> Changes | None:
    if request.tree is None:
        return None
    return Changes(
        manifest_digest=request.tree,
        files=request.files,
        added=request.added,
        changed=request.changed,
        deleted=request.deleted,
        size=request.size,
    )


def _endpoint(state: State, opening: Opening) -> Endpoint:
    """Return where the node's data plane is. TransactionError when it has none, or one that can't be."""
    found = state.status.endpoint
    if found is None:
        raise TransactionError(
            "DataPlaneMissing",
            f"Node {opening.node} has no data plane, so no content can be sent to it or read from it",
        )
    try:
        return client.Endpoint(found.url, found.certificate_fingerprint)
    except ValueError as error:
        raise TransactionError(
            "EndpointWrong",
            f"The operator of node {opening.node} names a data plane that can't be reached: {error}",
            "Tell the platform team: the operator's --endpoint is wrong.",
        ) from None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _used(found: api.Repository) -> int:
    """Return about how many bytes all versions take, 0 when that is not known."""
    storage = found.status.storage if found.status is not None else None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGTPE]i)?", storage.used) if storage is not None else None
    return int(float(match[1]) * to_bytes(f"1{match[2] or ''}")) if match is not None else 0


@contextmanager
def _translated() -> Iterator[None]:
    """Raise the data plane's errors as a working copy knows them."""
    try:
        yield
    except errors.SourceChanged:
        # A working copy knows it by itself.
        raise
    except errors.TransferError as error:
        raise TransferFailed(error) from None


class _Reader:
    """A version that is open, for the working copy."""

    def __init__(self, inner: asks.VersionReader, version: str, traffic: Traffic) -> None:
        self._inner = inner
        self._version = version
        self._traffic = traffic

    def header(self) -> Header:
        with _translated():
            found = self._inner.header()
        if found is None:
            raise RemoteError(
                f"version {self._version} lies on the node without its manifest. Tell the platform team; older "
                "versions may be whole"
            )
        return found

    def get(self, digest: str) -> bytes:
        with _translated():
            return self._inner.get(digest)

    def read(self, segment: str) -> bytes | None:
        with _translated():
            return self._inner.read(segment)

    def prefetch(self, digests: Iterable[str]) -> None:
        with _translated():
            self._inner.prefetch(digests)

    def fetch(self, wanted: Iterable[Wanted], store: Path, tell: Tell) -> None:
        with _translated():
            self._inner.fetch(wanted, store, _report(tell, self._traffic))


class _Sink:
    """A stage that is open, for the working copy."""

    def __init__(self, inner: asks.StageWriter, traffic: Traffic) -> None:
        self._inner = inner
        self._traffic = traffic

    def send(self, contents: Iterable[Outgoing], tell: Tell, changes: Iterable[bytes]) -> None:
        with _translated():
            self._inner.send(contents, _report(tell, self._traffic), changes)

    def complete(self) -> None:
        with _translated():
            self._inner.complete()


def _report(tell: Tell, traffic: Traffic) -> asks.Report:
    def report(progress: asks.Progress) -> None:
        traffic.count(progress)
        tell(progress.files, progress.content)

    return report
