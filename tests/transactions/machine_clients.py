"""The machine's clients: they open transactions, send, commit, give up, and are told what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
)

from dsg.manifests.changes import encode_change
from dsg.storage import errors
from dsg.transactions.metadata import CHANGES, incoming
from dsg.transactions.transactor import Clashes, Done, Operation, Result, Stopped, Transaction, Waiting
from tests.transactions.machine_bench import Bench
from tests.transactions.machine_parts import (
    OWNING,
    WRITERS,
    Client,
    Edit,
    Strike,
    changes,
    digest_of,
    edited,
    edits,
    strikes,
)
from tests.transactions.oracle import (
    Clashing,
    Made,
    Nothing,
    Outcome,
    Refused,
    Tree,
    Wish,
)

T = TypeVar("T")
MOST_OPEN = 5


class Clients(Bench):
    """Everybody who changes the repository."""

    @initialize(todo=edits, strike=strikes)
    def begin(self, todo: list[Edit], strike: Strike) -> None:
        self._advance(self._client("ana", Operation.INIT, 0, edited({}, todo)), strike)

    # ---- transactions

    def _client(
        self,
        author: str,
        operation: Operation,
        base: int,
        wanted: Tree,
        *,
        share: bool = True,
        chatty: bool = False,
        restore: int = 0,
    ) -> Client:
        self.numbers += 1
        uid, message = f"tx-{self.numbers}", f"change {self.numbers}"
        before = self.oracle.versions[base].tree
        transaction = Transaction(
            uid,
            operation,
            author,
            message,
            f"s{base}" if base else "",
            f"s{restore}" if restore else "",
            None if operation is Operation.RESTORE else digest_of(wanted),
        )
        wish = Wish(uid, str(operation), author, message, base, [(before, dict(wanted))])
        client = Client(wish, transaction, before, wanted, share, chatty, restore, sent=operation is Operation.RESTORE)
        self.open[uid] = client
        return client

    def _send(self, client: Client, place: str) -> None:
        root, _, last = place.rpartition("/.dsg/")
        assert last == "incoming"
        trees = self.ground.trees
        lines, contents = changes(client.base, client.wanted, share=client.share, chatty=client.chatty)
        for digest, content in contents.items():
            trees.write(root, incoming(digest), content, mode=0o600, owning=OWNING)
        listed = b"".join(encode_change(line) for line in lines)
        trees.write(root, CHANGES, listed, mode=0o600, owning=OWNING)
        trees.sync(root)
        client.sent = True

    def _drive(self, client: Client) -> Result:
        """Take a transaction as far as it goes, as the reconciler does."""
        transactor, target, transaction = self.ground.transactor, self.ground.target, client.transaction
        result: Result | None = transactor.committed(target, transaction)
        if result is None:
            place = transactor.stage(target, transaction)
            if isinstance(place, Stopped):
                result = place
            else:
                client.staged = True
                if not client.sent and not client.hasty:
                    self._send(client, place)
                result = transactor.build(target, transaction)
                if result is None:
                    result = transactor.commit(target, transaction)
        if isinstance(result, Done) and result.header is not None:
            transactor.reveal(target)
        if not isinstance(result, Waiting):
            client.told = result
            self._clear_away(client)
        return result

    def _clear_away(self, client: Client) -> None:
        try:
            self.ground.transactor.discard(self.ground.target, client.transaction)
            self.ground.transactor.clean(self.ground.target, self.live(without=client))
        except errors.StorageError as error:
            # The reconciler leaves it to the keeper.
            self.seen[f"left to the keeper: {type(error).__name__}"] += 1

    def _allowed(self, client: Client) -> list[Outcome]:
        wish = client.wish
        there = self.oracle.there()
        allowed: list[Outcome] = list(self.oracle.outcomes(wish))
        if wish.operation == "Init":
            if self.oracle.head.number:
                allowed.append(Refused("AlreadyInitialized"))
        elif not self.oracle.head.number or (wish.base not in there and not client.staged):
            allowed = [Refused("BaseGone")]
        elif client.restore and client.restore not in there:
            allowed.append(Refused("BaseGone"))
        if client.hasty:
            allowed = [outcome for outcome in allowed if isinstance(outcome, Refused)] or [Refused("ManifestWrong")]
        return allowed

    def _advance(self, client: Client, strike: Strike) -> None:
        allowed = self._allowed(client)
        self.coming = [o.version for o in allowed if isinstance(o, Made)]
        result = self._try(client, strike, lambda: self._drive(client))
        told = client.told or result
        if told is None:
            if not client.wish.committed:
                if self.oracle.head.number != client.wish.base:
                    self.oracle.rebased(client.wish)
                self._settle(client)
        else:
            self._judge(client, allowed, told)
        self.coming = []

    def _try(self, client: Client, strike: Strike, act: Callable[[], T]) -> T | None:
        try:
            return self.attempt(strike, act)
        except (errors.HasDependents, errors.Busy) as error:
            assert self._in_trouble(client), f"{client.wish.uid} can't go on: {error}"
            self.seen["stopped by a stranger"] += 1
            return None

    def _in_trouble(self, client: Client) -> bool:
        """Whether somebody has put something into what is the transaction's own."""
        foreign = self.strangers
        for filesystem in self.filesystems():
            stored = filesystem.local.get("org.hrdag.dsg:transaction")
            if stored is not None and stored.local.value == client.wish.uid:
                if any(s.guid in foreign.snapshots for s in filesystem.snapshots.values()):
                    return True
                if any(child.guid in foreign.datasets for child in filesystem.children.values()):
                    return True
        return False

    def _settle(self, client: Client) -> None:
        """Find out what has become of a commit that nobody answers for."""
        number = int(self.parent("version")[1:] or 0)
        if number == self.oracle.head.number:
            return
        self._take(client, number)
        self.seen["committed, and nobody was told"] += 1

    def _take(self, client: Client, number: int) -> None:
        assert number == self.oracle.head.number + 1, f"s{number} came after s{self.oracle.head.number}"
        tree = self.states(self.disk_versions()[number].tree)
        found = [version for version in self.coming if version.number == number and version.tree == tree]
        assert found, f"s{number} is not what {client.wish.uid} wanted"
        self.oracle.take(found[0])
        client.wish.committed = number
        if client.staged and self.oracle.versions[number - 1].number != client.wish.base:
            self.seen["put on top"] += 1
        self.verify(number)

    def _judge(self, client: Client, allowed: list[Outcome], result: Result) -> None:
        wish = client.wish
        self.seen[f"{wish.operation}: {type(result).__name__}"] += 1
        match result:
            case Done(version, header, onto):
                number = int(version[1:] or 0)
                if wish.committed:
                    assert number == wish.committed
                elif header is None:
                    assert Nothing(number) in allowed, (number, allowed)
                else:
                    self._take(client, number)
                if header is not None:
                    said = (header.commit.transaction, header.commit.author, header.commit.message)
                    assert said == (wish.uid, wish.author, wish.message)
                    assert onto == (f"s{number - 1}" if number - 1 != wish.base else "")
            case Clashes(head, total, first):
                assert head == f"s{self.oracle.head.number}"
                found = frozenset(clash.path for clash in first)
                assert Clashing(found) in allowed, (found, allowed)
                assert total == len(found) == len(first)
            case Stopped(reason, message):
                assert Refused(reason) in allowed, (reason, message, allowed)
                self.seen[f"refused: {reason}"] += 1
            case Waiting(_, message):
                assert self.sends, message
                if self.oracle.head.number != wish.base:
                    self.oracle.rebased(wish)
                return
        wish.ended = True
        del self.open[wish.uid]

    def _drive_to_end(self, client: Client) -> None:
        self._advance(client, None)
        assert client.wish.ended, f"{client.wish.uid} can't be brought to an end"

    @precondition(lambda self: self.oracle.head.number and len(self.open) < MOST_OPEN)
    @rule(
        author=st.sampled_from(WRITERS),
        back=st.sampled_from((0, 0, 0, 1, 2, 5)),
        todo=edits,
        share=st.booleans(),
        chatty=st.booleans(),
        hasty=st.sampled_from((False, False, False, True)),
    )
    def open_sync(self, author: str, back: int, todo: list[Edit], share: bool, chatty: bool, hasty: bool) -> None:
        base = max(1, self.oracle.head.number - back)
        wanted = edited(self.oracle.versions[base].tree, todo)
        self._client(author, Operation.SYNC, base, wanted, share=share, chatty=chatty).hasty = hasty

    @precondition(lambda self: self.oracle.head.number)
    @rule(author=st.sampled_from(WRITERS), back=st.sampled_from((0, 0, 1)), todo=edits, strike=strikes)
    def sync(self, author: str, back: int, todo: list[Edit], strike: Strike) -> None:
        """A whole sync in one go."""
        base = max(1, self.oracle.head.number - back)
        wanted = edited(self.oracle.versions[base].tree, todo)
        self._advance(self._client(author, Operation.SYNC, base, wanted), strike)

    @precondition(lambda self: self.oracle.head.number and len(self.open) < MOST_OPEN)
    @rule(author=st.sampled_from(WRITERS), back=st.sampled_from((0, 0, 1)), further=st.sampled_from((1, 2, 4)))
    def open_restore(self, author: str, back: int, further: int) -> None:
        base = max(1, self.oracle.head.number - back)
        restore = max(1, base - further)
        wanted = self.oracle.versions[restore].tree
        self._client(author, Operation.RESTORE, base, wanted, restore=restore)

    @precondition(lambda self: len(self.open) < MOST_OPEN)
    @rule(author=st.sampled_from(WRITERS), todo=edits)
    def open_init(self, author: str, todo: list[Edit]) -> None:
        self._client(author, Operation.INIT, 0, edited({}, todo))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, MOST_OPEN - 1), strike=strikes)
    def advance(self, which: int, strike: Strike) -> None:
        self._advance(self.pick(which), strike)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, MOST_OPEN - 1), strike=strikes)
    def advance_too(self, which: int, strike: Strike) -> None:
        self._advance(self.pick(which), strike)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, MOST_OPEN - 1), build=st.booleans(), strike=strikes)
    def prepare(self, which: int, build: bool, strike: Strike) -> None:
        """Stage and send, perhaps build."""
        client = self.pick(which)
        if client.wish.committed:
            return
        allowed = self._allowed(client)

        def act() -> Result | None:
            place = self.ground.transactor.stage(self.ground.target, client.transaction)
            if isinstance(place, Stopped):
                return place
            client.staged = True
            if not client.sent and not client.hasty:
                self._send(client, place)
            return self.ground.transactor.build(self.ground.target, client.transaction) if build else None

        result = self._try(client, strike, act)
        if result is not None:
            self._clear_away(client)
            self._judge(client, allowed, result)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, MOST_OPEN - 1), strike=strikes)
    def abort(self, which: int, strike: Strike) -> None:
        client = self.pick(which)
        over: list[str] = []

        def act() -> None:
            client.told = self.ground.transactor.committed(self.ground.target, client.transaction)
            if client.told is not None:
                self.ground.transactor.reveal(self.ground.target)
            over.append("told")
            self._clear_away(client)

        self._try(client, strike, act)
        if client.told is not None:
            self._judge(client, [], client.told)
        elif over:
            assert not client.wish.committed
            client.wish.ended = True
            del self.open[client.wish.uid]
            self.seen["aborted"] += 1

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, MOST_OPEN - 1))
    def delete(self, which: int) -> None:
        """Delete the object: nobody is told of anything, and what it made is nobody's."""
        client = self.pick(which)
        client.wish.ended = True
        del self.open[client.wish.uid]
