"""The checker by itself, and then many threads on one repository whose history it must explain."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count, permutations
from typing import TypeVar

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from dsg.manifests.digest import summarize
from dsg.manifests.entries import Entry, File
from dsg.reconcile.locks import Locks
from dsg.storage import errors
from dsg.storage.trees import FileKind
from dsg.storage.zfs.model import Killed, Moment
from dsg.transactions.metadata import Metadata
from dsg.transactions.transactor import Clashes, Done, Operation, Result, Stopped, Transaction, Waiting
from tests.transactions.ground import ModelGround
from tests.transactions.linearizable import (
    FOREVER,
    Call,
    Committed,
    Head,
    HeadCall,
    Read,
    Unanswered,
    Unchanged,
    head_order,
    head_step,
)

T = TypeVar("T")


# ---- the checker


def head(version: int) -> Head:
    return Head(version, f"content {version}" if version else "")


def read(version: int, began: float, ended: float) -> Call[HeadCall]:
    return Call(Read(head(version)), began, ended)


def made(version: int, began: float, ended: float) -> Call[HeadCall]:
    return Call(Committed(version - 1, head(version)), began, ended)


GOOD: dict[str, list[Call[HeadCall]]] = {
    "nothing": [],
    "one after the other": [made(1, 0, 1), read(1, 2, 3), made(2, 4, 5), read(2, 6, 7)],
    "a read during a commit may see either": [made(1, 0, 1), made(2, 2, 9), read(1, 3, 4), read(2, 5, 6)],
    "commits overlap": [made(2, 0, 10), made(1, 1, 9), read(2, 11, 12)],
    "a refusal of what moved meanwhile": [made(1, 0, 1), made(2, 2, 5), Call(Unchanged(2), 3, 6)],
    "nobody was told, and it happened": [made(1, 0, 1), Call(Unanswered(frozenset({head(2)})), 2), read(2, 8, 9)],
    "nobody was told, and it did not": [made(1, 0, 1), Call(Unanswered(frozenset({head(2)})), 2), read(1, 8, 9)],
    "touching calls are at the same time": [made(1, 0, 1), read(0, 1, 2)],
}
BAD: dict[str, list[Call[HeadCall]]] = {
    "a stale read": [made(1, 0, 1), read(0, 2, 3)],
    "back in time": [made(1, 0, 9), read(1, 1, 2), read(0, 3, 4)],
    "a lost update": [made(1, 0, 1), Call(Committed(1, Head(2, "a")), 2, 3), Call(Committed(1, Head(2, "b")), 4, 5)],
    "a version that nobody made": [made(1, 0, 1), read(2, 2, 3)],
    "other content": [made(1, 0, 1), Call(Read(Head(1, "else")), 2, 3)],
    "seen before it began": [read(1, 0, 1), made(1, 2, 3)],
    "refused because of what came later": [made(1, 0, 1), Call(Unchanged(2), 2, 3), made(2, 4, 5)],
    "told, and it did not happen": [made(1, 0, 1), made(2, 2, 3), read(1, 4, 5)],
    "happened before it was asked for": [
        made(1, 0, 1),
        read(2, 2, 3),
        Call(Unanswered(frozenset({head(2)})), 4),
        read(2, 5, 6),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_what_can_have_happened(name: str) -> None:
    assert head_order(GOOD[name]) is not None


@pytest.mark.parametrize("name", BAD)
def test_what_can_not_have_happened(name: str) -> None:
    assert head_order(BAD[name]) is None


def test_a_call_does_not_end_before_it_begins() -> None:
    with pytest.raises(ValueError, match="before it began"):
        read(1, 2, 1)


calls = st.lists(
    st.builds(
        lambda what, began, length: Call(what, began, FOREVER if isinstance(what, Unanswered) else began + length),
        st.one_of(
            st.builds(lambda n: Read(head(n)), st.integers(0, 3)),
            st.builds(lambda n: Committed(n - 1, head(n)), st.integers(1, 3)),
            st.builds(Unchanged, st.integers(0, 3)),
            st.builds(lambda n: Unanswered(frozenset({head(n)})), st.integers(1, 3)),
        ),
        st.integers(0, 8),
        st.integers(0, 6),
    ),
    max_size=5,
)


def explained(history: list[Call[HeadCall]]) -> bool:
    """Try every order of every choice of calls."""
    must = [call for call in history if call.ended != FOREVER]
    loose = [call for call in history if call.ended == FOREVER]
    for choice in range(1 << len(loose)):
        chosen = must + [call for number, call in enumerate(loose) if choice >> number & 1]
        for line in permutations(chosen):
            if any(a.began > b.ended for n, a in enumerate(line) for b in line[n + 1 :]):
                continue
            states = {Head()}
            for call in line:
                states = {after for state in states for after in head_step(state, call.what)}
            if states:
                return True
    return False


@given(calls)
def test_the_search_finds_what_trying_everything_finds(history: list[Call[HeadCall]]) -> None:
    assert (head_order(history) is not None) == explained(history)


def test_long_histories_are_quick() -> None:
    history = [made(n, n, n + 1.5) for n in range(1, 1001)] + [read(n, n + 0.2, n + 2.2) for n in range(1, 1001)]
    assert head_order(history) is not None
    history[1500] = read(502, 500.2, 500.9)
    assert head_order(history) is None


# ---- threads on a repository


PATHS = ("a", "b", "b2/c", "d")


def tree_of(found: Mapping[str, tuple[bytes, int, int]]) -> str:
    entries: list[Entry] = [
        File(path, len(data), mtime, mode, blake3(data).hexdigest(), "nobody", "s1")
        for path, (data, mtime, mode) in found.items()
    ]
    return summarize(sorted(entries, key=lambda entry: entry.key)).tree


@dataclass
class Crowd:
    """Clients and operator threads on one repository, and what they were told."""

    seed: int
    kills: bool
    ground: ModelGround = field(init=False)
    history: list[Call[HeadCall]] = field(default_factory=list)
    live: dict[str, str] = field(default_factory=dict)
    """Bases of the transactions that are not over, by uid."""
    versions: int = 0
    conflicts: int = 0
    killed: int = 0
    failures: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ground = ModelGround(retention={"keepLast": 4})
        self.locks = Locks()
        self.numbers = count(1)
        self.over = threading.Event()
        self.chance = threading.local()
        if self.kills:
            self.ground.node.faults = self.strike

    def strike(self, moment: Moment, operation: str, arguments: Mapping[str, object]) -> None:
        """Kill the operator in the middle of what this thread does, now and then."""
        source: random.Random | None = getattr(self.chance, "source", None)
        if source is not None and source.random() < 1 / 400:
            self.killed += 1
            raise Killed

    @contextmanager
    def mortal(self, chance: random.Random) -> Iterator[None]:
        self.chance.source = chance
        try:
            yield
        finally:
            self.chance.source = None

    def operator(self, chance: random.Random, act: Callable[[], T], *, locked: bool = True) -> T:
        """Do what the operator does, from the start whenever it is killed; it starts with putting things right."""
        while True:
            if not locked:
                try:
                    with self.mortal(chance):
                        return act()
                except Killed:
                    continue
            with self.locks.held(self.ground.target.identity):
                try:
                    with self.mortal(chance):
                        return act()
                except Killed:
                    self.ground.converge()

    # ---- what clients do

    def look(self) -> tuple[int, dict[str, tuple[bytes, int, int]]]:
        """Read the head as a reader of the mountpoint does, who stays in one directory; note what was seen."""
        trees = self.ground.trees
        while True:
            began = time.monotonic()
            root = self.ground.public()
            try:
                with self.ground.node.use(root):
                    header = Metadata(trees, root).header()
                    found = {}
                    for path, facts in trees.walk(root):
                        assert facts.kind is FileKind.FILE
                        data = trees.read(root, path)
                        assert data is not None
                        found[path] = (data, facts.mtime, facts.mode)
            except errors.NotFound:
                # It was replaced before the reader was in it.
                continue
            number = int(header.version[1:]) if header is not None else 0
            seen = Head(number, tree_of(found) if header is not None else "")
            self.history.append(Call(Read(seen), began, time.monotonic()))
            return number, found

    def client(self, name: str, chance: random.Random, rounds: int) -> None:
        ground, target = self.ground, self.ground.target
        for turn in range(rounds):
            number, found = self.look()
            base = {path: data for path, (data, *_) in found.items()}
            said = {"author": name, "uid": f"tx-{next(self.numbers)}", "base": f"s{number}" if number else ""}
            wanted: dict[str, bytes] | None = {**base, chance.choice(PATHS): f"{name} {turn}".encode()}
            if number > 1 and chance.random() < 0.15:
                wanted = None
                transaction = ground.transaction(Operation.RESTORE, None, restore=f"s{number - 1}", **said)
            else:
                transaction = ground.transaction(Operation.SYNC if number else Operation.INIT, wanted, **said)
            self.live[transaction.uid] = transaction.base
            place = self.operator(chance, partial(ground.transactor.stage, target, transaction))
            if isinstance(place, Stopped):
                assert place.reason in {"BaseGone", "AlreadyInitialized"}, place
                del self.live[transaction.uid]
                continue
            if wanted is not None:
                ground.send(place, base, wanted)
            if chance.random() < 0.5:
                time.sleep(chance.random() / 200)
            began = time.monotonic()

            finish = partial(self.finish, transaction)
            result: Result | None = self.operator(
                chance, partial(ground.transactor.build, target, transaction), locked=False
            )
            if result is None:
                result = self.operator(chance, finish)
                while isinstance(result, Waiting):
                    result = self.operator(chance, finish)
                self.note(result, began)
            else:
                assert isinstance(result, Done | Stopped), result
                assert not isinstance(result, Stopped) or result.reason == "BaseGone", result

            self.operator(chance, partial(self.clear, transaction))

    def finish(self, transaction: Transaction) -> Result:
        transactor, target = self.ground.transactor, self.ground.target
        done: Result | None = transactor.committed(target, transaction)
        if done is None:
            done = transactor.commit(target, transaction)
        if isinstance(done, Done) and done.header is not None:
            transactor.reveal(target)
        return done

    def clear(self, transaction: Transaction) -> None:
        self.live.pop(transaction.uid, None)
        self.ground.transactor.discard(self.ground.target, transaction)
        self.ground.transactor.clean(self.ground.target, set(self.live))

    def note(self, result: Result, began: float) -> None:
        ended = time.monotonic()
        match result:
            case Done(version, header):
                number = int(version[1:])
                if header is None:
                    self.history.append(Call(Unchanged(number), began, ended))
                else:
                    self.versions += 1
                    new = Head(number, header.summary.tree)
                    self.history.append(Call(Committed(number - 1, new), began, ended))
            case Clashes(version):
                self.conflicts += 1
                self.history.append(Call(Unchanged(int(version[1:])), began, ended))
            case Stopped(reason):
                assert reason == "AlreadyInitialized", result

    def reader(self, chance: random.Random) -> None:
        while not self.over.is_set():
            self.look()
            time.sleep(chance.random() / 500)

    def keeper(self, chance: random.Random) -> None:
        while not self.over.is_set():

            def keep() -> None:
                kept = self.ground.keep(set(self.live), set(self.live.values()))
                assert kept.cleaned.kept == ()

            self.operator(chance, keep)
            time.sleep(chance.random() / 200)

    def run(self, clients: int, rounds: int) -> None:
        def guarded(act: Callable[[], None]) -> None:
            try:
                act()
            except BaseException as error:
                self.failures.append(error)
                raise

        def random_of(n: int) -> random.Random:
            return random.Random(1000 * self.seed + n)

        working = [
            threading.Thread(target=guarded, args=(lambda n=n: self.client(f"client-{n}", random_of(n), rounds),))
            for n in range(clients)
        ]
        around = [
            threading.Thread(target=guarded, args=(lambda: self.reader(random_of(100)),)),
            threading.Thread(target=guarded, args=(lambda: self.keeper(random_of(101)),)),
        ]
        before = sys.getswitchinterval()
        # Threads take turns in the middle of everything.
        sys.setswitchinterval(1e-5)
        try:
            for thread in [*working, *around]:
                thread.start()
            for thread in working:
                thread.join()
            self.over.set()
            for thread in around:
                thread.join()
        finally:
            sys.setswitchinterval(before)


@pytest.mark.parametrize("kills", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_what_a_crowd_is_told_can_have_happened_in_some_order(seed: int, kills: bool) -> None:
    crowd = Crowd(seed, kills)
    crowd.run(clients=4, rounds=8)
    assert crowd.failures == []
    assert crowd.versions > 5
    assert crowd.killed > 0 or not kills
    order = head_order(crowd.history)
    assert order is not None, sorted(crowd.history, key=lambda call: call.began)
    crowd.ground.node.faults = None
    crowd.ground.keep()
    crowd.ground.leftovers()
    assert crowd.ground.check(crowd.ground.public()).version == f"s{crowd.versions}"
    assert crowd.conflicts > 0
