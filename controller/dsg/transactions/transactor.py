"""One transaction, step by step: stage, build, put on top of the head, commit, reveal. Every step can be repeated.

Knows neither Kubernetes nor the kind of storage. What is true lies on disk: the head, its history (which names the
transaction of every version), and the stages; so whoever was killed anywhere asks again and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from dsg.api.sizes import to_bytes
from dsg.manifests import tree
from dsg.manifests.changes import ChangeError, Gone, Place, read_changes
from dsg.manifests.compare import Deleted
from dsg.manifests.entries import Entry, File, FileState, LinkState
from dsg.manifests.header import Commit, Header
from dsg.manifests.nodes import NodeSource
from dsg.storage import errors
from dsg.storage.layout import Part, next_version, number
from dsg.storage.repository_type import Target
from dsg.storage.trees import Owning, Trees
from dsg.transactions import build
from dsg.transactions.build import Content, FromTree, Job, Refusal, Sent, Wanted, base_summary
from dsg.transactions.commit import Committed, HeadMoved, Refused
from dsg.transactions.merge import Change, Clash, merge
from dsg.transactions.metadata import CHANGES, INCOMING, NOTHING, Layered, Metadata
from dsg.transactions.repository import Cleaned, Situation, TransactionType

MOST_CLASHES = 50
"""How many clashes are named; all are counted."""
_INCOMING_MODE = 0o700
ATTEMPTS = 3
"""How often a commit is tried on a head that moves although nobody else may move it."""


class Operation(StrEnum):
    """What a transaction does."""

    INIT = "Init"
    SYNC = "Sync"
    RESTORE = "Restore"
    READ = "Read"


@dataclass(frozen=True, slots=True)
class Transaction:
    """What a client asks for."""

    uid: str
    operation: Operation
    author: str
    message: str
    base: str
    """The version that it starts from, or reads; "" for Init."""
    restore: str = ""
    """For Restore: the version to return to."""
    tree: str | None = None
    """For Init and Sync: the digest of the tree that it leads to."""


@dataclass(frozen=True, slots=True)
class Done:
    """The transaction has its version."""

    version: str
    header: Header | None
    """None when the head was already what the transaction wanted, so that no version was made."""
    onto: str = ""
    """The version that it was put on top of, where that is not its base."""


@dataclass(frozen=True, slots=True)
class Clashes:
    """The transaction ends: the head has other changes of the same paths."""

    head: str
    total: int
    first: tuple[Clash, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The transaction can't be committed as it is; `reason` stands in `dsg.api.reasons`."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not now: the same call may succeed later."""

    reason: str
    message: str


Result = Done | Clashes | Stopped | Waiting

Timer = Callable[[str], AbstractContextManager[None]]
"""Measures a step of that name."""


def _placed(entry: Entry) -> Place:
    """Return the change that brings a path to an entry's state."""
    if isinstance(entry, File):
        return Place(FileState(entry.path, entry.size, entry.mtime, entry.mode, entry.digest))
    return Place(LinkState(entry.path, entry.target))


def _latest(situation: Situation, transaction: Transaction) -> str:
    """Return the last version that a stage can hold: the one after the head, or after a base that came since."""
    if not situation.head.version:
        return ""
    return next_version(max(situation.head.version, transaction.base, key=number))


def _made_by(transaction: Transaction, header: Header | None) -> bool:
    return header is not None and header.commit.transaction == transaction.uid


@contextmanager
def _untimed(_: str) -> Iterator[None]:
    yield


class Transactor:
    """Takes the steps of transactions on one kind of storage."""

    def __init__(
        self,
        kind: TransactionType,
        trees: Trees,
        *,
        ordered: bool,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        receiver: tuple[int, int] | None = None,
    ) -> None:
        """`ordered`: see `build.prepare`. `receiver`: uid and gid of the process that takes content from clients; None
        where that is who owns the repository.
        """
        self._kind = kind
        self._trees = trees
        self._ordered = ordered
        self._receiver = receiver
        self._clock = clock

    # ---- steps

    def committed(self, target: Target, transaction: Transaction) -> Done | None:
        """Return what a transaction has become, if it was committed. Needs the repository's lock."""
        situation = self._kind.look(target)
        if not situation.head.version:
            return None
        return self._found(self._head_root(target, situation), situation, transaction)

    def stage(self, target: Target, transaction: Transaction) -> str | Stopped:
        """Make the stage and return the directory that content is sent to."""
        situation = self._kind.look(target)
        head = situation.head.version
        if transaction.uid not in situation.stages:
            if transaction.operation is Operation.INIT and head:
                return self._initialized(situation)
            if transaction.operation is not Operation.INIT and not head:
                return Stopped("BaseGone", "the repository has no version yet; begin with Init")
        try:
            if transaction.uid in situation.stages:
                root = self._stage_root(target, transaction, situation)
            else:
                root = self._kind.open(target, transaction.uid, Part.STAGE, transaction.base)
        except errors.NotFound as error:
            text = f"version {transaction.base} is not there (any more): {error}. Start from the head, {head}"
            return Stopped("BaseGone", text)
        if self._prepared(root, situation, transaction) is None:
            uid, gid = self._receiver or (target.spec.owner.uid, target.spec.owner.gid)
            self._trees.make_directory(root, INCOMING, owning=Owning(uid, gid, _INCOMING_MODE))
        return f"{root}/{INCOMING}"

    def read(self, target: Target, transaction: Transaction) -> str | Stopped:
        """Make a version readable and return the directory of its tree. Needs the repository's lock."""
        try:
            return self._kind.open(target, transaction.uid, Part.READ, transaction.base)
        except errors.NotFound as error:
            head = self._kind.look(target).head.version
            there = f"the head is {head}" if head else "there is no version yet"
            return Stopped("BaseGone", f"version {transaction.base} is not there (any more): {error}; {there}")

    def build(self, target: Target, transaction: Transaction) -> Result | None:
        """Verify what was sent and build the version in the stage; None when it is complete."""
        situation = self._kind.look(target)
        root = self._stage_root(target, transaction, situation)
        if not root:
            return Stopped("ContentMissing", "what was staged is gone; open a new transaction")
        metadata = Metadata(self._trees, root)
        base = metadata.header(_latest(situation, transaction))
        if _made_by(transaction, base):
            return None
        if (base.version if base is not None else "") != transaction.base:
            return Stopped("BaseGone", f"the stage was not made from {transaction.base or 'nothing'}; open a new one")
        try:
            with self._changes(target, transaction, root, base) as (changes, content):
                if transaction.operation is not Operation.RESTORE:
                    self._require_room(target, changes())
                commit = Commit(
                    version=next_version(transaction.base),
                    previous=base.chain if base is not None else None,
                    author=transaction.author,
                    time=self._now(),
                    message=transaction.message,
                    transaction=transaction.uid,
                )
                job = Job(commit, base, metadata, changes, content, transaction.tree)
                made = build.prepare(self._trees, root, job, self._owning(target), ordered=self._ordered)
        except Refusal as refusal:
            return Stopped(refusal.reason, refusal.message)
        except build.WriterActive as active:
            return Waiting("WriterActive", str(active))
        return None if made is not None else Done(transaction.base, None)

    def commit(self, target: Target, transaction: Transaction, timer: Timer = _untimed) -> Result:
        """Move the head to what was built, on top of what was committed meanwhile. Needs the repository's lock."""
        for _ in range(ATTEMPTS):
            situation = self._kind.look(target)
            head_root = self._head_root(target, situation)
            if (done := self._found(head_root, situation, transaction)) is not None:
                return done
            result = self._commit_onto(target, transaction, situation, head_root, timer)
            if not isinstance(result, HeadMoved):
                return result
        return Waiting("Committing", "the head keeps moving; it is tried again")

    def reveal(self, target: Target) -> None:
        """Let readers see the head. Needs the repository's lock."""
        self._kind.reveal(target)

    def discard(self, target: Target, transaction: Transaction) -> None:
        """Remove all that a transaction made and that is not the head."""
        self._kind.close(target, transaction.uid, *Part)

    def clean(self, target: Target, live: Collection[str]) -> Cleaned:
        """Remove what is over in the repository: former heads above all. Needs the repository's lock."""
        return self._kind.clean(target, live)

    # ---- how

    def _commit_onto(
        self, target: Target, transaction: Transaction, situation: Situation, head_root: str, timer: Timer
    ) -> Result | HeadMoved:
        uid, part = transaction.uid, Part.STAGE
        root = self._stage_root(target, transaction, situation)
        header = self._prepared(root, situation, transaction) if root else None
        if header is None:
            return Stopped("ContentMissing", "what was staged is gone; open a new transaction")
        # A tree that was rebased before an interruption has another base than the transaction began with.
        if number(situation.head.version) != number(header.version) - 1:
            if transaction.operation is Operation.INIT:
                return self._initialized(situation)
            with timer("rebase"):
                rebased = self._rebase(target, transaction, root, header, head_root, situation.head.version)
            if not isinstance(rebased, tuple):
                return rebased
            part = Part.REBASE
            root, header = rebased
        with timer("commit"):
            build.finish(self._trees, root)
            outcome = self._kind.commit(target, uid, part, situation.head, header.version, header.chain)
        match outcome:
            case Committed():
                onto = situation.head.version
                return Done(header.version, header, onto if onto != transaction.base else "")
            case HeadMoved():
                return outcome
            case Refused(message=message, transient=True):
                return Waiting("Committing", message)
            case Refused(message=message):
                return Stopped("CommitRefused", message)

    def _rebase(
        self,
        target: Target,
        transaction: Transaction,
        root: str,
        header: Header,
        head_root: str,
        head_version: str,
    ) -> tuple[str, Header] | Result:
        """Build the same changes on top of the head."""
        uid = transaction.uid
        stage, head = Metadata(self._trees, root), Metadata(self._trees, head_root)
        head_header = head.header(head_version)
        base = self._before(stage, header)
        base_nodes = Layered(self._base_nodes(target, transaction, stage, base))

        def merged() -> Iterator[Change | Clash]:
            mine = tree.differences(base_nodes, base_summary(base), stage, header.summary)
            theirs = tree.differences(base_nodes, base_summary(base), head, base_summary(head_header))
            return merge(mine, theirs)

        total, first = 0, []
        for one in merged():
            if isinstance(one, Clash):
                total += 1
                if total <= MOST_CLASHES:
                    first.append(one)
        if total:
            return Clashes(head_header.version if head_header is not None else "", total, tuple(first))

        def changes() -> Iterator[Wanted]:
            for one in merged():
                if isinstance(one, Deleted):
                    yield Gone(one.before.path)
                elif not isinstance(one, Clash):
                    yield _placed(one.after)

        self._kind.close(target, uid, Part.REBASE)
        new_root = self._kind.open(target, uid, Part.REBASE, head_header.version if head_header is not None else "")
        owning = self._owning(target)
        again = replace(
            header.commit,
            version=next_version(head_header.version if head_header is not None else ""),
            previous=head_header.chain if head_header is not None else None,
            time=self._now(),
        )
        new = Metadata(self._trees, new_root)
        job = Job(again, head_header, new, changes, FromTree(self._trees, new_root, root, owning))
        made = build.prepare(self._trees, new_root, job, owning, ordered=self._ordered)
        self._kind.close(target, uid, Part.READ)
        if made is None:
            # Others have committed the very same changes.
            return Done(head_header.version if head_header is not None else "", None)
        return new_root, made

    def _initialized(self, situation: Situation) -> Stopped:
        text = f"the repository has version {situation.head.version} already; clone it and sync"
        return Stopped("AlreadyInitialized", text)

    def _before(self, stage: Metadata, header: Header) -> Header | None:
        """Return the header of the version that a stage was made from."""
        if header.commit.previous is None:
            return None
        return next(h for h in stage.since("", header.version) if number(h.version) == number(header.version) - 1)

    def _base_nodes(
        self, target: Target, transaction: Transaction, stage: Metadata, base: Header | None
    ) -> Iterator[NodeSource]:
        yield stage
        yield NOTHING
        # The stage was finished for a commit that did not come: only the base itself has all of its nodes.
        if base is not None:
            yield Metadata(self._trees, self._kind.open(target, transaction.uid, Part.READ, base.version))

    @contextmanager
    def _changes(
        self, target: Target, transaction: Transaction, root: str, base: Header | None
    ) -> Iterator[tuple[Callable[[], Iterator[Wanted]], Content]]:
        owning = self._owning(target)
        if transaction.operation is not Operation.RESTORE:

            def sent() -> Iterator[Wanted]:
                try:
                    yield from read_changes(self._trees.read_lines(root, CHANGES), "the list of changes")
                except errors.NotFound as error:
                    text = "no list of changes was sent; open a new transaction"
                    raise Refusal("ManifestWrong", text) from error
                except ChangeError as error:
                    raise Refusal("ManifestWrong", str(error)) from error

            yield sent, Sent(self._trees, root, owning)
            return
        try:
            old = self._kind.open(target, transaction.uid, Part.READ, transaction.restore)
        except errors.NotFound as error:
            text = f"version {transaction.restore} is not there (any more): {error}"
            raise Refusal("BaseGone", text) from error
        there = Metadata(self._trees, old)
        restored = there.header()
        if restored is None or restored.version != transaction.restore:
            raise Refusal(
                "BaseGone", f"version {transaction.restore} holds no manifest of its own; it can't be restored"
            )

        def differences() -> Iterator[Wanted]:
            here = Layered([Metadata(self._trees, root), NOTHING])
            for one in tree.differences(here, base_summary(base), there, restored.summary):
                yield Gone(one.before.path) if isinstance(one, Deleted) else _placed(one.after)

        try:
            yield differences, FromTree(self._trees, root, old, owning)
        finally:
            self._kind.close(target, transaction.uid, Part.READ)

    def _require_room(self, target: Target, changes: Iterable[Wanted]) -> None:
        """Refuse more content than one transaction may bring, where the storage itself sets no such limit."""
        limits = target.spec.transactions
        if self._ordered or limits is None or limits.size_limit == "none":
            return
        limit = to_bytes(limits.size_limit)
        size = sum(
            one.state.size
            for one in changes
            if isinstance(one, Place) and one.source is None and isinstance(one.state, FileState)
        )
        if size > limit:
            text = (
                f"the transaction brings {size} bytes, and one may bring {limits.size_limit} "
                "(spec.transactions.sizeLimit of the Repository). Send less at once, or ask for a higher limit"
            )
            raise Refusal("TransactionQuota", text)

    def _prepared(self, root: str, situation: Situation, transaction: Transaction) -> Header | None:
        """Return the header of a complete stage."""
        header = Metadata(self._trees, root).header(_latest(situation, transaction))
        return header if _made_by(transaction, header) else None

    def _found(self, head_root: str, situation: Situation, transaction: Transaction) -> Done | None:
        for header in Metadata(self._trees, head_root).since(transaction.base, situation.head.version):
            if header.commit.transaction == transaction.uid:
                onto = f"s{number(header.version) - 1}" if number(header.version) > 1 else ""
                return Done(header.version, header, onto if onto != transaction.base else "")
        return None

    def _stage_root(self, target: Target, transaction: Transaction, situation: Situation) -> str:
        stage = situation.stages.get(transaction.uid)
        if stage is None:
            return ""
        return stage.root or self._kind.root(target, transaction.uid, Part.STAGE)

    def _head_root(self, target: Target, situation: Situation) -> str:
        return situation.root or self._kind.reveal(target)

    def _now(self) -> datetime:
        return self._clock().astimezone(UTC).replace(microsecond=0)

    def _owning(self, target: Target) -> Owning:
        owner = target.spec.owner
        return Owning(owner.uid, owner.gid, int(owner.mode, 8))
