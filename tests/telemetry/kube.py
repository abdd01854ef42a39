"""A Kubernetes API server as far as a watch can see: discovery, an empty list, and a stream of bookmarks."""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

GROUP = "dsg.hrdag.org"
PLURAL = "repositories"
RESOURCE = f"{PLURAL}.{GROUP}"
COLLECTION = f"/apis/{GROUP}/v1alpha1/{PLURAL}"


@dataclass
class ApiServer:
    """What it does, which tests change as it runs, and what it saw."""

    url: str = ""
    token: str | None = None
    """The bearer token it takes; None: any or none."""
    status: int = 200
    """What it answers to a watch; a stream only with 200."""
    bookmarks: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    """What it sends on the watch stream; None ends the stream."""
    interval: float | None = None
    """Seconds between bookmarks sent by itself; None: none are."""
    answers: "Counter[int]" = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Headers of each request."""
    watches: int = 0

    def bookmark(self) -> None:
        line = {"type": "BOOKMARK", "object": {"kind": "Repository", "metadata": {"resourceVersion": "2"}}}
        self.bookmarks.put_nowait(json.dumps(line).encode() + b"\n")

    async def collection(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") != "true":
            return web.json_response({"kind": "RepositoryList", "metadata": {"resourceVersion": "1"}, "items": []})
        if self.status != 200:
            return web.json_response({"kind": "Status", "code": self.status}, status=self.status)
        self.watches += 1
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            try:
                line = await asyncio.wait_for(self.bookmarks.get(), self.interval)
            except TimeoutError:
                self.bookmark()
                continue
            if line is None:
                return response
            try:
                await response.write(line)
            except ConnectionError:
                return response

    @web.middleware
    async def authenticate(self, request: web.Request, handler: "web.Handler") -> web.StreamResponse:  # type: ignore[name-defined]
        self.headers.append(dict(request.headers))
        # The scheme is case-insensitive (RFC 9110, 11.1).
        if self.token is not None and request.headers.get("Authorization", "").split()[1:] != [self.token]:
            self.answers[401] += 1
            return web.json_response({"kind": "Status", "code": 401, "message": "Unauthorized"}, status=401)
        response: web.StreamResponse = await handler(request)
        self.answers[response.status] += 1
        return response


def _discovery(app: web.Application) -> None:
    version = {"groupVersion": f"{GROUP}/v1alpha1", "version": "v1alpha1"}
    resource = {
        "name": PLURAL,
        "singularName": "repository",
        "kind": "Repository",
        "namespaced": True,
        "verbs": ["get", "list", "watch", "patch"],
    }
    cluster = {"namespaced": False, "verbs": ["get", "list", "watch"]}
    answers: dict[str, object] = {
        "/api": {"versions": ["v1"]},
        # kopf starts no watch before it has found this one.
        "/api/v1": {"resources": [{"name": "namespaces", "singularName": "namespace", "kind": "Namespace", **cluster}]},
        "/apis": {"groups": [{"name": GROUP, "versions": [version], "preferredVersion": version}]},
        f"/apis/{GROUP}/v1alpha1": {"resources": [resource]},
    }

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(answers[request.path])

    for path in answers:
        app.router.add_get(path, answer)


@asynccontextmanager
async def api_server(context: ssl.SSLContext | None = None) -> AsyncIterator[ApiServer]:
    """Run one on a free port of the loopback interface."""
    server = ApiServer()
    app = web.Application(middlewares=[server.authenticate])
    _discovery(app)
    app.router.add_get(COLLECTION, server.collection)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    scheme = "http" if context is None else "https"
    server.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
