"""Bytes on a real watch stream keep the operator alive, and nothing else passes for them."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from dsg.telemetry.health import Heartbeats, Limits, liveness, readiness
from dsg.telemetry.watching import resource_of, watch_middleware
from tests.telemetry.kube import COLLECTION, RESOURCE, ApiServer, api_server
from tests.telemetry.support import Clock

WATCH = f"{COLLECTION}?watch=true&allowWatchBookmarks=true"


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/apis/dsg.hrdag.org/v1alpha1/repositories", "repositories.dsg.hrdag.org"),
        ("/apis/dsg.hrdag.org/v1alpha1/namespaces/research/repositories", "research/repositories.dsg.hrdag.org"),
        ("/api/v1/namespaces", "namespaces"),
        ("/api/v1/namespaces/research/events", "research/events"),
        ("/api/v1/namespaces/research", None),
        ("/apis/dsg.hrdag.org/v1alpha1/namespaces/research/repositories/justice", None),
        ("/apis/dsg.hrdag.org/v1alpha1/storagepools/tank", None),
        ("/apis/dsg.hrdag.org/v1alpha1/storagepools/tank/status", None),
        ("/apis", None),
        ("/version", None),
        ("/healthz", None),
    ],
)
def test_what_a_path_is_about(path: str, resource: str | None) -> None:
    assert resource_of(path) == resource


Script = Callable[[ApiServer, aiohttp.ClientSession, Heartbeats, Clock], Awaitable[None]]


def play(script: Script) -> None:
    """Run a script against a server, with a session that is observed and a clock that stands still."""

    async def main() -> None:
        clock = Clock()
        hearts = Heartbeats(clock)
        async with (
            api_server() as server,
            aiohttp.ClientSession(server.url, middlewares=[watch_middleware(hearts)]) as session,
        ):
            await asyncio.wait_for(script(server, session, hearts, clock), 20)

    asyncio.run(main())


def age(hearts: Heartbeats) -> float:
    return hearts.beats().watch_age(RESOURCE)


Read = Callable[[aiohttp.StreamReader], Awaitable[object]]

READS: dict[str, Read] = {
    # As kopf 1.45 does it.
    "iter_chunked": lambda content: anext(aiter(content.iter_chunked(1024 * 1024))),
    "iter_any": lambda content: anext(aiter(content.iter_any())),
    "iter_chunks": lambda content: anext(aiter(content.iter_chunks())),
    "lines": lambda content: anext(aiter(content)),
    "readline": lambda content: content.readline(),
    "readany": lambda content: content.readany(),
    "readchunk": lambda content: content.readchunk(),
    "read": lambda content: content.read(1024),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_each_bookmark_on_an_open_stream_is_heard_when_it_comes(read: Read) -> None:
    async def script(server: ApiServer, session: aiohttp.ClientSession, hearts: Heartbeats, clock: Clock) -> None:
        async with session.get(WATCH) as response:
            assert age(hearts) == 0
            for _ in range(3):
                clock.wait(60)
                assert age(hearts) == 60
                server.bookmark()
                assert b"BOOKMARK" in str(await read(response.content)).encode()
                assert age(hearts) == 0
            clock.wait(60)
            server.bookmarks.put_nowait(None)
            assert await response.content.read() == b""
            assert age(hearts) == 60, "the end of a stream is no sign of life"

    play(script)


def test_a_stream_that_hangs_makes_the_operator_dead() -> None:
    async def script(server: ApiServer, session: aiohttp.ClientSession, hearts: Heartbeats, clock: Clock) -> None:
        async with session.get(WATCH) as response:
            reading = asyncio.create_task(response.content.readany())
            await asyncio.sleep(0)
            clock.wait(181)
            verdict = liveness(hearts.beats(), Limits(watch=180))
            assert verdict.problems == (f"the watch of {RESOURCE} has been silent for 181 s (limit 180 s)",)
            server.bookmark()
            await reading
            assert liveness(hearts.beats(), Limits(watch=180)).ok

    play(script)


@pytest.mark.parametrize("status", [401, 403, 410, 429, 500, 503])
def test_a_refused_watch_is_only_an_attempt(status: int) -> None:
    async def script(server: ApiServer, session: aiohttp.ClientSession, hearts: Heartbeats, clock: Clock) -> None:
        server.status = status
        hearts.expect(RESOURCE)
        clock.wait(100)
        async with session.get(WATCH) as response:
            assert response.status == status
        beats = hearts.beats()
        assert beats.watches[RESOURCE].heard is None and beats.watches[RESOURCE].attempted == clock.now
        assert (beats.api_failing_since is not None) == (status >= 500)

    play(script)


def test_a_list_is_an_attempt_for_a_watch_that_is_expected_and_nothing_for_others() -> None:
    async def script(server: ApiServer, session: aiohttp.ClientSession, hearts: Heartbeats, clock: Clock) -> None:
        async with session.get(COLLECTION) as response:
            await response.json()
        assert RESOURCE not in hearts.beats().watches
        hearts.expect(RESOURCE)
        clock.wait(5)
        async with session.get(COLLECTION) as response:
            assert (await response.json())["items"] == []
        assert hearts.beats().watches[RESOURCE].attempted == clock.now
        assert hearts.beats().watches[RESOURCE].heard is None

    play(script)


def test_an_api_server_that_goes_away_is_noticed_and_its_return_too() -> None:
    async def script(server: ApiServer, session: aiohttp.ClientSession, hearts: Heartbeats, clock: Clock) -> None:
        hearts.resync_finished()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://127.0.0.1:1{WATCH}")
        clock.wait(31)
        (problem,) = readiness(hearts.beats(), Limits(api=30)).problems
        assert problem.startswith("the Kubernetes API has been unreachable for 31 s (limit 30 s): ClientConnectorError")
        async with session.get("/apis"):
            pass
        assert readiness(hearts.beats(), Limits(api=30)).ok

    play(script)


def test_the_rest_of_a_response_works_as_ever() -> None:
    async def script(server: ApiServer, session: aiohttp.ClientSession, hearts: Heartbeats, clock: Clock) -> None:
        server.bookmark()
        server.bookmarks.put_nowait(None)
        async with session.get(WATCH) as response:
            assert (await response.json(content_type=None))["type"] == "BOOKMARK"
            assert response.content.at_eof() and response.content.is_eof()
        async with session.get(WATCH) as response:
            reading = asyncio.create_task(response.content.readany())
            await asyncio.sleep(0)
            # As kopf does to stop a watch.
            response.close()
            with pytest.raises(aiohttp.ClientConnectionError):
                await reading

    play(script)
