"""What all requests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from aiohttp import web

from dsg.transfer.grants import Grant, GrantError, Grants
from dsg.transfer.problems import Code
from dsg.transfer.server.admission import Admission
from dsg.transfer.server.errors import Refusal
from dsg.transfer.server.exchange import Exchange
from dsg.transfer.server.hanging import Hanging
from dsg.transfer.server.large import LargeFiles
from dsg.transfer.server.ledger import Ledgers
from dsg.transfer.server.limits import Limits
from dsg.transfer.server.metrics import Recorder, Unrecorded
from dsg.transfer.server.trail import Trail
from dsg.transfer.tls import Trust, fingerprint


class Plane:
    """The state of one server. Nothing in it must outlive the process: all of it is found again on disk."""

    def __init__(
        self,
        grants: Grants,
        trust: Trust,
        limits: Limits,
        threads: Executor,
        recorder: Recorder | None = None,
        trail: Trail | None = None,
    ) -> None:
        self.recorder = recorder if recorder is not None else Unrecorded()
        self.trail = trail if trail is not None else Trail()
        self.trust = trust
        self.limits = limits
        self.threads = threads
        self.ledgers = Ledgers()
        self.large_files = LargeFiles()
        self.admission = Admission(limits.in_flight, limits.per_author)
        self.hanging = Hanging()
        self.heavy = Admission(limits.heavy, limits.heavy_per_author)
        self.quiet = asyncio.Event()
        """Set while no request of a grant is under way."""
        self.quiet.set()
        self._under_way: dict[Exchange, Grant] = {}
        self.certificates: dict[str, str] = {}
        """Uid of the transaction of each certificate that was added."""
        self.ending = False
        """Whether the server takes no new requests, because it is about to end."""
        self._grants = grants

    @property
    def under_way(self) -> int:
        """How many requests of grants are under way."""
        return len(self._under_way)

    def find(self, uid: str) -> Grant:
        """Return an open grant. Raises Refusal."""
        try:
            grant = self._grants.find(uid)
        except GrantError as error:
            raise Refusal(Code.STORAGE, "The transaction's grant can't be read on the node.") from error
        if grant is None:
            raise Refusal(Code.GRANT_OVER)
        return grant

    def checker(self, grant: Grant) -> Callable[[], None]:
        """Return what raises Refusal as soon as the grant is over, or is one for something else."""

        def check() -> None:
            found = self.find(grant.uid)
            if found is not grant and _what(found) != _what(grant):
                raise Refusal(Code.GRANT_OVER)

        return check

    def is_open(self, uid: str) -> bool:
        """Return whether a grant is open, or can't be looked at just now."""
        try:
            return self._grants.find(uid) is not None
        except GrantError:
            return True

    def authorised(self, request: web.Request, uid: str) -> Grant:
        """Return the grant that a request may use. Raises Refusal.

        The certificate is looked at first: who has none is not told which transactions there are.
        """
        connection = request.get_extra_info("ssl_object")
        der = connection.getpeercert(binary_form=True) if connection is not None else None
        if not der:
            raise Refusal(Code.NO_CERTIFICATE)
        grant = self.find(uid)
        if fingerprint(der) != grant.client_key:
            raise Refusal(Code.WRONG_CERTIFICATE)
        return grant

    @contextmanager
    def carrying_out(self, exchange: Exchange, grant: Grant) -> Iterator[None]:
        """Know of a request while it is under way, so that it ends with its grant."""
        self._under_way[exchange] = grant
        self.quiet.clear()
        try:
            yield
        finally:
            del self._under_way[exchange]
            if not self._under_way:
                self.quiet.set()

    def look(self) -> None:
        """End what is under way for grants that are over, and forget these."""
        for exchange, grant in list(self._under_way.items()):
            if not self.is_open(grant.uid):
                exchange.end()
        self.ledgers.keep(self.is_open)
        self.trail.look(self.is_open)
        for mark, uid in list(self.certificates.items()):
            if not self.is_open(uid):
                del self.certificates[mark]


def _what(grant: Grant) -> tuple[str, str, str]:
    """Return what a grant is for. How long and how much may change while it is used."""
    return grant.mode, grant.root, grant.client_key
