"""One commit, counted: what the operator does from opening a transaction to the former head's removal."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from benchmarks.commit.repositories import send
from dsg.transactions.on_zfs import ZfsTransactions
from dsg.transactions.transactor import Done, Operation, Stopped, Transaction, Transactor
from tests.transactions.counting import Counted, Tally
from tests.transactions.ground import Ground

STEPS = ("stage", "build", "commit", "reveal", "clean")


@dataclass(slots=True)
class Costs:
    """What one commit came to."""

    files: int
    changes: int
    versions: int
    """How many there were before."""
    processes: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    """By interface."""
    looked_at: int = 0
    """Names, datasets and lines that calls returned."""
    read: dict[str, int] = field(default_factory=dict)
    """Bytes by area."""
    written: dict[str, int] = field(default_factory=dict)
    """Bytes by area."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By step."""
    noted: dict[str, int] = field(default_factory=dict)
    """What only a real node can tell."""
    by_call: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Return the seconds of all steps."""
        return sum(self.seconds.values())


def counted(ground: Ground, tally: Tally) -> Transactor:
    """Return a transactor of a ground on OpenZFS or its model that counts."""
    zfs, host = (Counted(getattr(ground, name), name, tally) for name in ("zfs", "host"))
    kind = ZfsTransactions(zfs, host)
    trees = Counted(ground.trees, "trees", tally)
    return Transactor(kind, trees, ordered=True, clock=lambda: ground.now)


def commit(ground: Ground, base: str, files: int, changes: int) -> Costs:
    """Commit an edit of some files on top of a version."""
    tally = Tally()
    transactor = counted(ground, tally)
    uid = f"edit-{base}"
    transaction = Transaction(uid, Operation.SYNC, "bo", "edit", base)
    costs = Costs(files, changes, int(base[1:]))

    began = time.perf_counter()
    place = transactor.stage(ground.target, transaction)
    costs.seconds["stage"] = time.perf_counter() - began
    if isinstance(place, Stopped):
        raise RuntimeError(f"could not stage: {place.message}")  # noqa: TRY004  # no wrong argument
    # What a client sends is not counted: all of it is content that somebody wants to keep.
    send(ground, place, files, changes, uid)

    began = time.perf_counter()
    built = transactor.build(ground.target, transaction)
    costs.seconds["build"] = time.perf_counter() - began
    if built is not None:
        raise RuntimeError(f"could not build: {built}")
    began = time.perf_counter()
    done = transactor.commit(ground.target, transaction)
    costs.seconds["commit"] = time.perf_counter() - began
    if not isinstance(done, Done) or done.version != f"s{int(base[1:]) + 1}":
        raise RuntimeError(f"could not commit: {done}")
    began = time.perf_counter()
    transactor.reveal(ground.target)
    costs.seconds["reveal"] = time.perf_counter() - began
    began = time.perf_counter()
    cleaned = transactor.clean(ground.target, ())
    costs.seconds["clean"] = time.perf_counter() - began
    if cleaned.kept or cleaned.waits or len(cleaned.removed) != 1:
        raise RuntimeError(f"the former head was not removed: {cleaned}")

    costs.processes = tally.processes
    costs.calls = {name: tally.of(name) for name in ("zfs", "host", "trees")}
    costs.looked_at = sum(tally.looked_at.values())
    costs.read, costs.written = dict(tally.read), dict(tally.written)
    costs.by_call = dict(tally.calls)
    return costs
