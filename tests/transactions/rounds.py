"""Work on one repository that can be done again and again: each round begins where the last one ended.

So a repository serves for many interruptions in a row. Every round of a kind makes the same calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from dsg.storage.layout import next_version, number
from dsg.transactions.transactor import Clashes, Done, Operation, Stopped, Transaction
from tests.transactions.ground import Content, Ground, later


@dataclass(frozen=True)
class At:
    """Where a repository stands: its newest version and what a reader sees."""

    version: str
    content: Content


NOWHERE = At("", {})


def step(n: int) -> Content:
    """Return the n-th tree: a file of the one before it was changed, one moved, one copied, one removed, a link set."""
    return {
        "same": b"same",
        "empty": b"",
        "input/a": b"one %d" % n,
        "input/c": b"one %d" % (n - 1),
        f"moved/{n}/b": b"two",
        "latest": f"moved/{n}/b",
        f"x/{n}/z": b"z %d" % n,
    }


class Round(ABC):
    """One piece of work. `prepare` is done in peace, `act` is interrupted; it is repeated to finish after a restart."""

    commits: ClassVar[bool] = False
    """Whether it moves the head."""
    old: At
    """Where the repository stands when `act` begins."""
    new: At
    """Where it stands when it is done; `old` where nothing is to come of it."""

    def __init__(self, now: At, n: int, contents: dict[str, Content]) -> None:
        """`n` rises from round to round; `contents` are those of all versions so far."""
        self.begin, self.n, self.contents = now, n, contents

    @abstractmethod
    def prepare(self, ground: Ground) -> None:
        """Bring the repository to where the work begins."""

    @abstractmethod
    def act(self, ground: Ground) -> None:
        """Do the work, as the operator does it."""


class _Committing(Round):
    commits = True
    transaction: Transaction

    def stage(self, ground: Ground, transaction: Transaction, wanted: Content | None) -> None:
        self.transaction = transaction
        place = ground.transactor.stage(ground.target, transaction)
        assert isinstance(place, str), place
        if wanted is not None:
            ground.send(place, self.begin.content, wanted)

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
        assert done.version == self.new.version
        ground.transactor.discard(ground.target, self.transaction)
        ground.keep(prune=False)


class Init(_Committing):
    """The first version, in a repository that has none."""

    def prepare(self, ground: Ground) -> None:
        self.old, self.new = NOWHERE, At("s1", step(0))
        self.stage(ground, ground.transaction(Operation.INIT, self.new.content), self.new.content)


class Sync(_Committing):
    """The next version."""

    def prepare(self, ground: Ground) -> None:
        self.old, self.new = self.begin, At(next_version(self.begin.version), step(self.n))
        self.stage(
            ground, ground.transaction(Operation.SYNC, self.new.content, base=self.old.version), self.new.content
        )


class Restore(_Committing):
    """A version before the newest one is restored."""

    def prepare(self, ground: Ground) -> None:
        before = f"s{number(self.begin.version) - 1}"
        self.old, self.new = self.begin, At(next_version(self.begin.version), self.contents[before])
        transaction = ground.transaction(Operation.RESTORE, None, base=self.old.version, restore=before)
        self.stage(ground, transaction, None)


class Rebase(_Committing):
    """Somebody else has committed after the content was sent."""

    def changes(self) -> tuple[Content, Content]:
        """Return what we change, and what they do."""
        return {"ours": b"ours %d" % self.n}, {"theirs": b"theirs %d" % self.n, "input/a": b"one %d" % self.n}

    def prepare(self, ground: Ground) -> None:
        base, (ours, theirs) = self.begin, self.changes()
        mine = {**base.content, **ours}
        self.stage(ground, ground.transaction(Operation.SYNC, mine, base=base.version), mine)
        self.old = At(next_version(base.version), {**base.content, **theirs})
        done = ground.sync(base.version, base.content, self.old.content, author="bob")
        assert isinstance(done, Done), done
        ground.keep(live={self.transaction.uid}, prune=False)
        self.new = At(next_version(self.old.version), {**self.old.content, **ours})


class Conflict(Rebase):
    """Somebody else has committed other changes of the same paths: nothing is committed, and nothing is left."""

    commits = False

    def changes(self) -> tuple[Content, Content]:
        return {"input/a": b"ours %d" % self.n}, {"input/a": b"theirs %d" % self.n}

    def prepare(self, ground: Ground) -> None:
        super().prepare(ground)
        self.new = self.old

    def act(self, ground: Ground) -> None:
        result = ground.finish(self.transaction)
        assert isinstance(result, Clashes | Stopped), result
        ground.transactor.discard(ground.target, self.transaction)
        ground.keep(prune=False)


class Staging(Round):
    """A stage is made, and given up."""

    def prepare(self, ground: Ground) -> None:
        self.old = self.new = self.begin
        self.transaction = ground.transaction(Operation.SYNC, {}, base=self.begin.version)

    def act(self, ground: Ground) -> None:
        place = ground.transactor.stage(ground.target, self.transaction)
        assert isinstance(place, str), place
        ground.transactor.discard(ground.target, self.transaction)
        ground.keep(prune=False)


class Prune(Round):
    """Old versions are destroyed by retention, which keeps two."""

    def prepare(self, ground: Ground) -> None:
        now = self.begin
        for n in (3 * self.n, 3 * self.n + 1, 3 * self.n + 2):
            later(ground, hours=1)
            new = At(next_version(now.version), step(n))
            done = ground.sync(now.version, now.content, new.content)
            assert isinstance(done, Done), done
            ground.keep(prune=False)
            self.contents[new.version] = new.content
            now = new
        self.old = self.new = now

    def act(self, ground: Ground) -> None:
        ground.keep()


ALL: tuple[type[Round], ...] = (Init, Sync, Restore, Rebase, Conflict, Staging, Prune)
