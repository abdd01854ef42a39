"""What the data plane records in the audit log: who came with which certificate from where, and what was moved.

Records are written by one thread of their own, so that a slow disk holds up nobody but who must be recorded first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from dsg.audit.actions import Action
from dsg.audit.auditor import Auditor
from dsg.audit.errors import AuditError
from dsg.audit.record import Entry, Value
from dsg.transfer.grants import Grant
from dsg.transfer.problems import Code
from dsg.transfer.server.errors import Refusal
from dsg.transfer.server.exchange import Exchange

WINDOW = 60.0
"""Seconds in which refusals of one kind make one record, and then one more with their number."""
MOST_KINDS = 200
"""Kinds of refusals that are told apart in that time; all others are counted as one."""
_TRANSACTION = "SyncTransaction"
_ROUTINE = frozenset(
    {
        Code.TOO_SLOW,
        Code.BUSY,
        Code.NO_SPACE,
        Code.STORAGE,
        Code.RANGE,
        Code.CHANGED,
        Code.NOT_FOUND,
        Code.NOT_BEGUN,
    }
)
"""Refusals that come up between those who may do what they do; they are counted with the transfer only."""


@dataclass(slots=True)
class _Transfer:
    """What one transaction has moved to and from one address."""

    grant: Grant
    host: str
    began: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    recorded: bool = False
    requests: int = 0
    refused: int = 0
    received: int = 0
    sent: int = 0
    running: int = 0
    """Requests that have not ended."""


@dataclass(slots=True)
class _Refused:
    """Refusals of one kind."""

    entry: Entry
    until: float
    more: int = 0


def peer(request: web.Request) -> tuple[str, str]:
    """Return the address that a connection comes from, and that with its port."""
    name = request.transport.get_extra_info("peername") if request.transport is not None else None
    if not isinstance(name, tuple) or len(name) < 2:  # noqa: PLR2004  (address and port)
        return request.remote or "", request.remote or ""
    host = str(name[0])
    return host, f"[{host}]:{name[1]}" if ":" in host else f"{host}:{name[1]}"


class Trail:
    """Records for one server; lives on its event loop. Without an auditor it does nothing."""

    def __init__(self, auditor: Auditor | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._auditor = auditor
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit") if auditor is not None else None
        self._transfers: dict[tuple[str, str], _Transfer] = {}
        self._refused: dict[tuple[str, str, str], _Refused] = {}

    async def shown(self, request: web.Request, grant: Grant) -> None:
        """Record that a client has the certificate that its transaction names. Raises Refusal where that can't be."""
        entry = _about(Action.CLIENT_SHOWN, grant, peer(request)[1], {"clientKey": grant.client_key})
        await self._require(entry)

    @asynccontextmanager
    async def follow(self, request: web.Request, exchange: Exchange, grant: Grant) -> AsyncIterator[None]:
        """Count one request of a transaction. Raises Refusal where its first can't be recorded."""
        if self._auditor is None:
            yield
            return
        host, _ = peer(request)
        transfer = self._transfers.setdefault((grant.uid, host), _Transfer(grant, host, self._clock()))
        transfer.running += 1
        try:
            async with transfer.lock:
                if not transfer.recorded:
                    await self._require(_about(Action.TRANSFER_BEGUN, grant, host, _what(grant)))
                    transfer.recorded = True
            transfer.requests += 1
            try:
                yield
            except Refusal:
                transfer.refused += 1
                raise
            finally:
                transfer.received += exchange.received
                transfer.sent += exchange.sent
        finally:
            transfer.running -= 1

    def refused(self, request: web.Request, code: Code) -> None:
        """Record that a request was refused: the first of its kind, and how many came after it."""
        if self._auditor is None or code in _ROUTINE:
            return
        host, address = peer(request)
        uid = request.match_info.get("uid", "")
        key = (code.value, host, uid)
        known = self._refused.get(key)
        if known is not None:
            known.more += 1
            return
        if len(self._refused) >= MOST_KINDS:
            key, address, uid = (code.value, "", ""), "", ""
            if key in self._refused:
                self._refused[key].more += 1
                return
        entry = Entry(
            Action.CLIENT_REFUSED,
            kind=_TRANSACTION if uid else "",
            uid=uid,
            origin=address,
            details={"code": code.value, "times": 1},
        )
        self._refused[key] = _Refused(entry, self._clock() + WINDOW)
        self._tell(entry)

    def look(self, is_open: Callable[[str], bool]) -> None:
        """Record what is over."""
        for key, transfer in list(self._transfers.items()):
            # A request that ends after its grant counts, too.
            if not is_open(key[0]) and not transfer.running:
                del self._transfers[key]
                self._ended(transfer)
        now = self._clock()
        for kind, refused in list(self._refused.items()):
            if now >= refused.until:
                del self._refused[kind]
                self._count(refused)

    async def close(self) -> None:
        """Record what is under way to be over for this process, and wait until all is written."""
        for transfer in self._transfers.values():
            self._ended(transfer)
        for refused in self._refused.values():
            self._count(refused)
        self._transfers.clear()
        self._refused.clear()
        if self._thread is not None and self._auditor is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._auditor.tell, Entry(Action.STOPPED))
            await loop.run_in_executor(self._thread, self._auditor.close)
            self._thread.shutdown(wait=False)

    # ---- writing

    def _ended(self, transfer: _Transfer) -> None:
        if not transfer.recorded:
            return
        counts: dict[str, Value] = {
            "requests": transfer.requests,
            "refused": transfer.refused,
            "received": transfer.received,
            "sent": transfer.sent,
            "milliseconds": round(1000 * (self._clock() - transfer.began)),
        }
        self._tell(_about(Action.TRANSFER_ENDED, transfer.grant, transfer.host, {**_what(transfer.grant), **counts}))

    def _count(self, refused: _Refused) -> None:
        if refused.more:
            entry = refused.entry
            self._tell(
                Entry(
                    entry.action,
                    kind=entry.kind,
                    uid=entry.uid,
                    origin=entry.origin,
                    details={**entry.details, "times": refused.more},
                )
            )

    def _tell(self, entry: Entry) -> None:
        if self._thread is not None and self._auditor is not None:
            self._thread.submit(self._auditor.tell, entry)

    async def _require(self, entry: Entry) -> None:
        if self._thread is None or self._auditor is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._auditor.require, entry)
        except AuditError as error:
            raise Refusal(Code.STORAGE, "The node can't record who comes, so it lets nobody in.") from error


def _what(grant: Grant) -> dict[str, Value]:
    said: dict[str, Value] = {"repository": grant.repository, "mode": grant.mode}
    if grant.version:
        said["version"] = grant.version
    return said


def _about(action: Action, grant: Grant, origin: str, details: dict[str, Value]) -> Entry:
    return Entry(
        action,
        kind=_TRANSACTION,
        namespace=grant.namespace,
        uid=grant.uid,
        who=grant.author,
        origin=origin,
        details=details,
    )
