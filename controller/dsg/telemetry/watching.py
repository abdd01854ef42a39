"""Sees the bytes of Kubernetes watch streams go by, so that `/healthz` knows how old the last ones are.

aiohttp's TraceConfig can't do it: `on_response_chunk_received` fires when a whole body has been read, and never while
somebody iterates over `response.content`, as a watch does (aiohttp 3.14). A client middleware gets the response when
its headers are in, and can put a reader in place of its content that stamps what passes through.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Generic, TypeVar, cast

import aiohttp

from dsg.telemetry.health import Heartbeats
from dsg.telemetry.redaction import redact_text

T = TypeVar("T")

_COLLECTION = re.compile(
    r"/(?:api/v[^/]+|apis/(?P<group>[^/]+)/v[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)/?"
)
_TRUE = frozenset({"1", "t", "true"})


def resource_of(path: str) -> str | None:
    """Return what a collection's URL path is about, as `plural.group`, with `namespace/` before it where it names one.

    None for other paths, such as that of one object. (Kubernetes API concepts, resource URIs.)
    """
    found = _COLLECTION.fullmatch(path)
    if found is None:
        return None
    name = f"{found['plural']}.{found['group']}" if found["group"] else found["plural"]
    return f"{found['namespace']}/{name}" if found["namespace"] else name


def watch_middleware(heartbeats: Heartbeats) -> aiohttp.ClientMiddlewareType:
    """Return a middleware for the operator's session to the API server that records its signs of life.

    A watch is heard when its stream opens with 200 and with each chunk that its reader gets; a request that fails or is
    refused is only an attempt. Listing a resource whose watch is expected is an attempt as well, since a watch begins
    with it. Any answer below 500 shows that the API is there.
    """

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        resource = resource_of(request.url.path) if request.method == "GET" else None
        watch = resource is not None and request.url.query.get("watch", "").lower() in _TRUE
        if resource is not None and (watch or heartbeats.expected(resource)):
            heartbeats.watch_attempted(resource)
        try:
            response = await handler(request)
        except (aiohttp.ClientError, OSError) as error:
            # TimeoutError is an OSError.
            heartbeats.api_failed(redact_text(f"{type(error).__name__}: {error}".removesuffix(": ")))
            raise
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            heartbeats.api_failed(f"{request.method} {request.url.path}: HTTP {response.status}")
        else:
            heartbeats.api_answered()
        if watch and resource is not None and response.status == HTTPStatus.OK:
            heard = resource

            def stamp() -> None:
                heartbeats.watch_heard(heard)
                heartbeats.api_answered()

            stamp()
            response.content = cast(aiohttp.StreamReader, _Observed(response.content, stamp))
        return response

    return middleware


class _Observed:
    """A response's reader that calls `stamp` whenever it hands out bytes; otherwise the reader it stands for."""

    def __init__(self, reader: aiohttp.StreamReader, stamp: Callable[[], None]) -> None:
        self._reader = reader
        self._stamp = stamp

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)

    async def read(self, n: int = -1) -> bytes:
        return self._passing(await self._reader.read(n))

    async def readany(self) -> bytes:
        return self._passing(await self._reader.readany())

    async def readline(self) -> bytes:
        return self._passing(await self._reader.readline())

    async def readchunk(self) -> tuple[bytes, bool]:
        data, end = await self._reader.readchunk()
        return self._passing(data), end

    def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        return _Stamped(self._reader.iter_chunked(n), self._stamp)

    def iter_any(self) -> AsyncIterator[bytes]:
        return _Stamped(self._reader.iter_any(), self._stamp)

    def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        return _Stamped(self._reader.iter_chunks(), self._stamp)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Stamped(aiter(self._reader), self._stamp)

    def _passing(self, data: bytes) -> bytes:
        if data:
            self._stamp()
        return data


class _Stamped(Generic[T]):
    """An iterator that calls `stamp` with each item."""

    def __init__(self, items: AsyncIterator[T], stamp: Callable[[], None]) -> None:
        self._items = items
        self._stamp = stamp

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        item = await anext(self._items)
        self._stamp()
        return item
