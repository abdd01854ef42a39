"""What can be interrupted: each kind of work on a repository, with what must be seen before and after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from dsg.transactions.transactor import Clashes, Done, Operation, Stopped, Transaction
from tests.transactions.ground import Content, Ground, later

FIRST: Content = {"input/a": b"one", "input/b": b"two", "latest": "input/a", "empty": b""}
SECOND: Content = {
    "input/a": b"one, corrected",
    "moved/b": b"two",
    "input/c": b"one",
    "latest": "moved/b",
    "x/y/z": b"z",
}
OURS: Content = {**FIRST, "ours/new": b"ours", "input/b": b"two, by us"}
THEIRS: Content = {**FIRST, "theirs": b"theirs", "input/a": b"one, by them"}
BOTH: Content = {**THEIRS, "ours/new": b"ours", "input/b": b"two, by us"}


class Scenario(ABC):
    """One piece of work. `prepare` is done in peace, `act` is interrupted, `resume` finishes it after a restart."""

    spec: ClassVar[dict[str, object]] = {}

    @abstractmethod
    def prepare(self, ground: Ground) -> None:
        """Bring the repository to where the work begins."""

    @abstractmethod
    def act(self, ground: Ground) -> None:
        """Do the work, as the operator does it."""

    def resume(self, ground: Ground) -> None:
        """Finish the work after a restart, knowing nothing but what the cluster knows."""
        ground.converge()
        self.act(ground)

    def abandon(self, ground: Ground) -> None:
        """Restart to find that nobody wants it any more."""
        ground.converge()
        ground.keep(prune=False)

    @abstractmethod
    def seen(self) -> Sequence[Content]:
        """What a reader may see at any moment: the state before and the one after."""

    @abstractmethod
    def versions(self, *, finished: bool) -> Sequence[list[str]]:
        """The versions that there may be afterwards."""


class Committing(Scenario):
    """A transaction whose content was sent, up to its version and the cleaning after it."""

    operation = Operation.SYNC
    before: ClassVar[Content] = {}
    after: ClassVar[Content] = {}
    base = ""
    restore = ""

    transaction: Transaction

    def prepare(self, ground: Ground) -> None:
        tree = None if self.operation is Operation.RESTORE else self.wanted()
        self.transaction = ground.transaction(self.operation, tree, base=self.base, restore=self.restore)
        place = ground.transactor.stage(ground.target, self.transaction)
        assert isinstance(place, str), place
        if tree is not None:
            ground.send(place, self.sent_from(), tree)

    def wanted(self) -> Content:
        return self.after

    def sent_from(self) -> Content:
        return self.before

    def act(self, ground: Ground) -> None:
        done = ground.transactor.committed(ground.target, self.transaction)
        if done is None:
            place = ground.transactor.stage(ground.target, self.transaction)
            assert not isinstance(place, Stopped), place
            result = ground.finish(self.transaction)
            assert isinstance(result, Done), result
            done = result
        else:
            ground.transactor.reveal(ground.target)
        assert done.version == self.versions(finished=True)[0][-1]
        ground.transactor.discard(ground.target, self.transaction)
        ground.keep(prune=False)

    def seen(self) -> Sequence[Content]:
        return (self.before, self.after)

    def versions(self, *, finished: bool) -> Sequence[list[str]]:
        count = int(self.base[1:] or 0) if self.base else 0
        old, new = [f"s{n}" for n in range(1, count + 1)], [f"s{n}" for n in range(1, count + 2)]
        return [new] if finished else [old, new]


class Init(Committing):
    operation = Operation.INIT
    after = FIRST


class Sync(Committing):
    base, before, after = "s1", FIRST, SECOND

    def prepare(self, ground: Ground) -> None:
        ground.init(FIRST)
        ground.keep()
        super().prepare(ground)


class Restore(Committing):
    operation = Operation.RESTORE
    base, restore, before, after = "s2", "s1", SECOND, FIRST

    def prepare(self, ground: Ground) -> None:
        ground.init(FIRST)
        ground.sync("s1", FIRST, SECOND)
        ground.keep()
        super().prepare(ground)


class Rebase(Committing):
    """Somebody else has committed after the content was sent."""

    base, before, after = "s1", THEIRS, BOTH

    def wanted(self) -> Content:
        return OURS

    def sent_from(self) -> Content:
        return FIRST

    def prepare(self, ground: Ground) -> None:
        ground.init(FIRST)
        super().prepare(ground)
        ground.sync("s1", FIRST, THEIRS, author="bob")
        ground.keep(live={self.transaction.uid})

    def versions(self, *, finished: bool) -> Sequence[list[str]]:
        return [["s1", "s2", "s3"]] if finished else [["s1", "s2"], ["s1", "s2", "s3"]]


class Conflict(Rebase):
    """Somebody else has committed other changes of the same paths: nothing is committed, and nothing is left."""

    before: ClassVar[Content] = {**THEIRS, "input/b": b"theirs too"}
    after = before

    def prepare(self, ground: Ground) -> None:
        ground.init(FIRST)
        Committing.prepare(self, ground)
        ground.sync("s1", FIRST, self.before, author="bob")
        ground.keep(live={self.transaction.uid})

    def act(self, ground: Ground) -> None:
        result = ground.finish(self.transaction)
        assert isinstance(result, Clashes | Stopped), result
        ground.transactor.discard(ground.target, self.transaction)
        ground.keep(prune=False)

    def versions(self, *, finished: bool) -> Sequence[list[str]]:
        return [["s1", "s2"]]


class Staging(Sync):
    """The stage itself is made."""

    after = FIRST

    def prepare(self, ground: Ground) -> None:
        ground.init(FIRST)
        ground.keep()

    def act(self, ground: Ground) -> None:
        self.transaction = Transaction("tx-staging", Operation.SYNC, "ana", "", "s1", tree="0" * 64)
        place = ground.transactor.stage(ground.target, self.transaction)
        assert isinstance(place, str), place
        ground.transactor.discard(ground.target, self.transaction)
        ground.keep(prune=False)

    def versions(self, *, finished: bool) -> Sequence[list[str]]:
        return [["s1"]]


class Prune(Scenario):
    """Old versions are destroyed by retention."""

    spec: ClassVar[dict[str, object]] = {"retention": {"keepLast": 2}}

    def prepare(self, ground: Ground) -> None:
        trees: list[Content] = [FIRST, SECOND, FIRST, SECOND, FIRST]
        ground.init(trees[0])
        for number, (before, after) in enumerate(pairwise(trees), 1):
            later(ground, hours=1)
            ground.sync(f"s{number}", before, after)
            ground.keep(prune=False)

    def act(self, ground: Ground) -> None:
        ground.keep()

    def seen(self) -> Sequence[Content]:
        return (FIRST,)

    def versions(self, *, finished: bool) -> Sequence[list[str]]:
        every = [f"s{n}" for n in range(1, 6)]
        return [every[3:]] if finished else [every[n:] for n in range(4)]


ALL: tuple[type[Scenario], ...] = (Init, Sync, Restore, Rebase, Conflict, Staging, Prune)
