"""A repository with the real Transactor, seen as a working copy sees one.

What the server knows lies on disk, so it outlives a client that is killed. Calls of the server itself are never struck:
it is another machine. `busy` tells who counts a client's effects that the server is at work.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from blake3 import blake3

from dsg.api.repository import Ignore
from dsg.manifests.header import Header
from dsg.storage.errors import NotFound
from dsg.storage.layout import Part
from dsg.storage.trees import Owning
from dsg.transactions import transactor
from dsg.transactions.metadata import CHANGES, Metadata, incoming
from dsg.transactions.transactor import Clashes, Done, Operation, Transaction
from dsg.transfer.contents import Outgoing, SourceChanged, Wanted
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
from tests.transactions.ground import Ground

_READERS = count(1)


class Server:
    """One repository, and its transactions by uid."""

    def __init__(self, directory: Path, ground: Ground) -> None:
        self.directory = directory
        self.ground = ground
        self.data_dirs: tuple[str, ...] = ("*",)
        self.ignore = Ignore()
        self.name_rules: Any = "portable"
        self.uid = "repository-1"
        self.busy = 0
        self.forgetful = False
        """Transactions are forgotten as soon as they have ended."""
        self._one = threading.RLock()
        (directory / "transactions").mkdir()

    @contextmanager
    def working(self) -> Iterator[Ground]:
        """Be the server for a while."""
        with self._one:
            self.busy += 1
            try:
                yield self.ground
            finally:
                self.busy -= 1

    def record(self, uid: str) -> Path:
        return self.directory / "transactions" / f"{uid}.json"

    def known(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted((self.directory / "transactions").iterdir())]

    def open_transactions(self) -> list[str]:
        """Return those that nobody has ended."""
        return [one["uid"] for one in self.known() if one["intent"] == "Stage"]

    def said(self, ref: Ref) -> dict[str, Any] | None:
        """Return what is known of a transaction."""
        key = ("uid", ref.uid) if ref.uid else ("name", ref.name)
        return next((one for one in self.known() if one[key[0]] == key[1]), None)

    def head(self) -> Header | None:
        with self.working() as ground:
            return ground.header()

    def seen(self) -> dict[str, bytes | str]:
        with self.working() as ground:
            return ground.seen()

    def finish(self, uid: str) -> Outcome:
        """Take a transaction that is to be committed to its end."""
        with self.working() as ground:
            said: dict[str, Any] = json.loads(self.record(uid).read_text())
            if said["outcome"] is None:
                asked = Transaction(
                    uid,
                    Operation(said["operation"]),
                    said["author"],
                    said["message"],
                    said["base"],
                    said["restore"],
                    said["tree"],
                )
                outcome = _told(ground.transactor.committed(ground.target, asked) or ground.finish(asked))
                said["outcome"] = outcome
                if outcome[0] != "Committed":
                    ground.transactor.discard(ground.target, asked)
                self.record(uid).write_text(json.dumps(said))
        kind, one, other = said["outcome"]
        if kind == "Committed":
            return Committed(one, other)
        return Conflicted(one, tuple(other)) if kind == "Conflicted" else Stopped(one, other)


def _told(result: transactor.Result) -> list[Any]:
    match result:
        case Done(version=version, onto=onto):
            return ["Committed", version, onto]
        case Clashes(total=total, first=first):
            return ["Conflicted", total, [clash.path for clash in first]]
        case transactor.Stopped(reason=reason, message=message) | transactor.Waiting(reason=reason, message=message):
            return ["Stopped", reason, message]


class Reader:
    def __init__(self, server: Server, root: str) -> None:
        self._server = server
        self._root = Path(root)
        self._metadata = Metadata(server.ground.trees, root)
        self.fetched: list[str] = []

    def header(self) -> Header:
        with self._server.working():
            header = self._metadata.header()
        assert header is not None
        return header

    def get(self, digest: str) -> bytes:
        with self._server.working():
            return self._metadata.get(digest)

    def read(self, segment: str) -> bytes | None:
        with self._server.working():
            return self._metadata.read(segment)

    def prefetch(self, digests: Iterable[str]) -> None:
        assert len(list(digests)) <= 10_000

    def fetch(self, wanted: Iterable[Wanted], store: Path, tell: Tell) -> None:
        done = size = 0
        for one in wanted:
            target = store / one.digest
            assert one.size > 0
            if target.exists():
                continue
            self.fetched.append(one.path)
            part = store / f"{one.digest}.part"
            shutil.copyfile(self._root / one.path, part)
            assert blake3(part.read_bytes()).hexdigest() == one.digest
            part.chmod(0o600)
            part.rename(target)
            done, size = done + 1, size + one.size
            tell(done, size)


class Writer:
    def __init__(self, server: Server, root: str) -> None:
        self._server, self._root = server, root
        self._owning = Owning(server.ground.target.spec.owner.uid, server.ground.target.spec.owner.gid, 0o755)
        self.sent: list[str] = []

    def send(self, contents: Iterable[Outgoing], tell: Tell, changes: Iterable[bytes]) -> None:
        size = 0
        content = b"".join(changes)
        with self._server.working() as ground:
            ground.trees.write(self._root, CHANGES, content, mode=0o600, owning=self._owning)
        for one in contents:
            with one.open() as file:
                content = file.read()
            if blake3(content).hexdigest() != one.digest or len(content) != one.size:
                raise SourceChanged(one.path)
            with self._server.working() as ground:
                if ground.trees.facts(self._root, incoming(one.digest)) is None:
                    ground.trees.write(self._root, incoming(one.digest), content, mode=0o600, owning=self._owning)
            self.sent.append(one.path)
            size += one.size
            tell(len(self.sent), size)

    def complete(self) -> None:
        pass


class FakeRemote:
    """One person's view of a server."""

    def __init__(self, server: Server, author: str = "ana") -> None:
        self._server, self._author = server, author
        self.reads: list[str] = []
        """Versions that were opened for reading."""
        self.fetched: list[str] = []
        self.sent: list[str] = []
        self.before_commit: Callable[[], object] | None = None
        """Is called once, when everything was sent."""
        self.refused: RemoteError | None = None
        """Is raised once, instead of opening a transaction."""

    def author(self) -> str:
        return self._author

    def repository(self) -> Repository:
        server = self._server
        header = server.head()
        head = None
        if header is not None:
            head = Head(header.version, header.chain, header.commit.author, header.commit.time)
        return Repository(server.uid, head, server.data_dirs, server.ignore, server.name_rules)

    @contextmanager
    def open_read(self, version: str) -> Iterator[VersionReader]:
        self.reads.append(version)
        with self._server.working() as ground:
            try:
                name = f"reader-{next(_READERS)}"
                root = ground.kind.open(ground.target, name, Part.READ, version)
            except NotFound:
                raise VersionGone(version) from None
        reader = Reader(self._server, root)
        try:
            yield reader
        finally:
            self.fetched += reader.fetched
            with self._server.working() as ground:
                ground.kind.close(ground.target, name, Part.READ)

    def commit(
        self,
        request: Request,
        note: Callable[[Ref], None],
        send: Callable[[Sink], None],
        committing: Callable[[], None],
    ) -> Outcome:
        server = self._server
        number = len(server.known()) + 1
        uid, name = f"tx-{number}", f"sync-{number}"
        note(Ref(name, begun=1))
        if self.refused is not None:
            error, self.refused = self.refused, None
            raise error
        said: dict[str, Any] = {
            "uid": uid,
            "name": name,
            "operation": request.operation,
            "author": self._author,
            "message": request.message,
            "base": request.base or "",
            "restore": request.restore or "",
            "tree": request.tree,
            "intent": "Stage",
            "outcome": None,
        }
        with server.working() as ground:
            server.record(uid).write_text(json.dumps(said))
            asked = Transaction(
                uid, Operation(request.operation), self._author, request.message, said["base"], tree=request.tree
            )
            place = ground.transactor.stage(ground.target, asked)
        ref = Ref(name, uid)
        try:
            note(ref)
            if isinstance(place, transactor.Stopped):
                self.abort(ref)
                return Stopped(place.reason, place.message)
            writer = Writer(server, place.rpartition("/.dsg/")[0])
            send(writer)
            self.sent += writer.sent
            if self.before_commit is not None:
                before, self.before_commit = self.before_commit, None
                before()
            committing()
        except BaseException:
            self.abort(ref)
            raise
        with server.working():
            server.record(uid).write_text(json.dumps({**said, "intent": "Commit"}))
        outcome = server.finish(uid)
        if server.forgetful:
            server.record(uid).unlink()
        return outcome

    def find(self, ref: Ref) -> Outcome | StillOpen | Unknown:
        server = self._server
        with server.working():
            said = server.said(ref)
        if said is None:
            return Unknown()
        if said["intent"] == "Stage":
            return StillOpen()
        if said["intent"] == "Abort":
            return Stopped("Aborted", "it was aborted")
        return server.finish(said["uid"])

    def abort(self, ref: Ref) -> None:
        server = self._server
        with server.working() as ground:
            said = server.said(ref)
            if said is not None and said["intent"] == "Stage":
                server.record(said["uid"]).write_text(json.dumps({**said, "intent": "Abort"}))
                ground.kind.close(ground.target, said["uid"], *Part)
