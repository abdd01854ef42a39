"""Serves /healthz, /readyz and /metrics over HTTP, on the operator's own event loop.

On the same loop on purpose: when a handler blocks it, the probes get no answer, which is the right one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from dsg.telemetry.health import Heartbeats, Limits, Verdict, liveness, readiness
from dsg.telemetry.setup import exposition as process_exposition

_SHUTDOWN_SECONDS = 1.0
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Endpoints:
    """The HTTP server for probes and Prometheus. Plain HTTP without credentials: it names no repositories."""

    def __init__(
        self,
        heartbeats: Heartbeats,
        limits: Limits | None = None,
        exposition: Callable[[], bytes] = process_exposition,
    ) -> None:
        """Judge heartbeats by limits (None: those of `Limits`). `exposition` returns the metrics' text."""
        chosen = Limits() if limits is None else limits
        self._exposition = exposition
        self._app = web.Application()
        self._app.router.add_get("/healthz", _probe(lambda: liveness(heartbeats.beats(), chosen)))
        self._app.router.add_get("/readyz", _probe(lambda: readiness(heartbeats.beats(), chosen)))
        self._app.router.add_get("/metrics", self._metrics)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Begin to serve at an address and return the port; 0 takes a free one. Raises OSError when it can't be had."""
        runner = web.AppRunner(self._app, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        served: int = runner.addresses[0][1]
        return served

    async def stop(self) -> None:
        """Stop serving; does nothing when nothing is served."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        text = await asyncio.to_thread(self._exposition)
        response = web.Response(body=text, headers={"Content-Type": _METRICS_TYPE})
        response.enable_compression()
        return response


def _probe(judge: Callable[[], Verdict]) -> _Handler:
    async def answer(_request: web.Request) -> web.StreamResponse:
        verdict = judge()
        return web.Response(
            status=HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE,
            text=json.dumps(verdict.body) + "\n",
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    return answer
