"""The probes and the metrics page, asked over real HTTP."""

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from dsg.telemetry.endpoints import Endpoints
from dsg.telemetry.health import Heartbeats, Limits
from dsg.telemetry.setup import exposition
from tests.telemetry.support import Clock

Script = Callable[[aiohttp.ClientSession, Heartbeats, Clock], Awaitable[None]]


def play(script: Script, metrics: Callable[[], bytes] = lambda: b"") -> None:
    async def main() -> None:
        clock = Clock()
        hearts = Heartbeats(clock)
        endpoints = Endpoints(hearts, Limits(watch=180, resync=600), metrics)
        port = await endpoints.start("127.0.0.1", 0)
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                await asyncio.wait_for(script(session, hearts, clock), 10)
        finally:
            await endpoints.stop()
            await endpoints.stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(main())


async def probe(session: aiohttp.ClientSession, path: str) -> tuple[int, dict[str, object]]:
    async with session.get(path) as response:
        assert response.content_type == "application/json" and response.headers["Cache-Control"] == "no-store"
        return response.status, json.loads(await response.text())


def test_probes_follow_the_heartbeats() -> None:
    async def script(session: aiohttp.ClientSession, hearts: Heartbeats, clock: Clock) -> None:
        status, body = await probe(session, "/healthz")
        assert status == 200 and body["alive"] is True
        status, body = await probe(session, "/readyz")
        assert status == 503 and body["ready"] is False
        assert body["problems"] == ["the first pass over all objects has not ended yet"]
        hearts.resync_finished()
        hearts.watch_heard("repositories.dsg.hrdag.org")
        assert (await probe(session, "/readyz"))[0] == 200
        clock.wait(200)
        for path in ("/healthz", "/readyz"):
            status, body = await probe(session, path)
            assert status == 503
            assert body["problems"] == [
                "the watch of repositories.dsg.hrdag.org has been silent for 200 s (limit 180 s)"
            ]
        hearts.watch_heard("repositories.dsg.hrdag.org")
        assert (await probe(session, "/healthz"))[0] == 200

    play(script)


@pytest.mark.parametrize("compressed", [True, False])
def test_metrics_are_prometheus_text(compressed: bool) -> None:
    registry = CollectorRegistry()
    Gauge("dsg_test", "A test.", registry=registry).set(7)

    async def script(session: aiohttp.ClientSession, _hearts: Heartbeats, _clock: Clock) -> None:
        # What Prometheus 3 asks for.
        headers = {
            "Accept": "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "Accept-Encoding": "gzip" if compressed else "identity",
        }
        async with session.get("/metrics", headers=headers) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert response.headers.get("Content-Encoding") == ("gzip" if compressed else None)
            (family,) = text_string_to_metric_families(await response.text())
            assert family.name == "dsg_test" and family.samples[0].value == 7

    play(script, lambda: exposition(registry))


def test_other_paths_and_methods_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def script(session: aiohttp.ClientSession, _hearts: Heartbeats, _clock: Clock) -> None:
        for path in ("/", "/healthz/", "/healthz/x", "/metrics/..", "/debug", "/%2e%2e/etc/passwd"):
            async with session.get(path, allow_redirects=False) as response:
                assert response.status == 404, path
        async with session.post("/healthz") as response:
            assert response.status == 405
        async with session.head("/healthz") as response:
            assert response.status == 200

    play(script)
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


def test_an_address_that_is_taken_is_an_error_and_can_be_tried_again() -> None:
    async def main() -> None:
        endpoints = Endpoints(Heartbeats())
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(OSError, match="in use"):
                await endpoints.start("127.0.0.1", port)
        assert await endpoints.start("127.0.0.1", port) == port
        await endpoints.stop()

    asyncio.run(main())
