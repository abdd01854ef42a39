"""The socket of the server, and what looks after its connections."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Self

from aiohttp import web

from dsg.transfer.server.limits import PIECE
from dsg.transfer.server.plane import Plane

_log = logging.getLogger(__name__)
_BACKLOG = 128
_CLEANUP = 1.0
"""Seconds for what has not ended within the grace."""


class Listening:
    """Accepts connections while it is entered; on leaving it, what is under way has some seconds to end."""

    def __init__(self, plane: Plane, app: web.Application, host: str, port: int) -> None:
        self._plane = plane
        self._address = (host, port)
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=plane.limits.keep_alive,
            lingering_time=plane.limits.linger,
            read_bufsize=PIECE // 2,
            shutdown_timeout=_CLEANUP,
        )
        self.port = port
        """The port that was taken."""

    @property
    def connections(self) -> int:
        """How many connections are open."""
        server = self._runner.server
        return len(server.connections) if server is not None else 0

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        host, port = self._address
        self._server = await loop.create_server(
            self._connection,
            host,
            port,
            ssl=self._plane.trust.listening,
            ssl_handshake_timeout=self._plane.limits.handshake,
            ssl_shutdown_timeout=1.0,
            backlog=_BACKLOG,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._plane.ending = True
        # aiohttp's own way reads no bodies any more, so nothing that is being sent would end.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._plane.limits.grace):
                await self._plane.quiet.wait()
        self._looking.cancel()
        await self._runner.cleanup()

    def _connection(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        if server is None or len(server.connections) >= self._plane.limits.connections:
            self._plane.recorder.turned_away()
            return _TooMany()
        return server()

    async def _look(self) -> None:
        """End what is under way for grants that are over."""
        while True:
            await asyncio.sleep(self._plane.limits.look)
            try:
                self._plane.look()
            except Exception as error:
                _log.exception("looking at the grants failed", exc_info=error)


class _TooMany(asyncio.Protocol):
    """A connection too many: it is closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
