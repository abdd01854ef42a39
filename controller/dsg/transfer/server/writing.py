"""Requests that send what a transaction changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from dsg.transfer.convoy import in_turn
from dsg.transfer.grants import Grant
from dsg.transfer.server import incoming, large
from dsg.transfer.server.changes import ChangesReceiver
from dsg.transfer.server.errors import Refusal, file_work
from dsg.transfer.server.exchange import Exchange
from dsg.transfer.server.incoming import CHANGES, ContentReceiver, Incoming
from dsg.transfer.server.plane import Plane
from dsg.transfer.server.requests import Handler, formed, number_in_query, path_in_query, said
from dsg.transfer.wire import (
    CHUNK_SIZE,
    MAX_BATCH_BYTES,
    MAX_CHUNKS,
    ChunkList,
    decode_digests,
    encode_digests,
    encode_indexes,
)


@asynccontextmanager
async def _stage(plane: Plane, exchange: Exchange, grant: Grant) -> AsyncIterator[Incoming]:
    async with exchange.opened(incoming.opened(grant, plane.ledgers, plane.checker(grant))) as found:
        yield found


async def changes(plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    """Store the list of changes."""
    async with _stage(plane, exchange, grant) as stage:
        receiver = await exchange.run(ChangesReceiver, stage)
        await exchange.receive(receiver)
    return said({"changes": receiver.count})


async def missing(plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    """Answer which contents are not there yet."""
    digests = formed(decode_digests, await exchange.body(MAX_BATCH_BYTES))
    async with _stage(plane, exchange, grant) as stage:
        lacking = await exchange.run(_lacking, stage, digests)
    return web.Response(body=encode_digests(lacking), content_type="text/plain")


def _lacking(stage: Incoming, digests: list[str]) -> list[str]:
    with in_turn(), file_work("look for contents"):
        stage.remove_left_over()
        return [digest for digest in digests if stage.size_of(digest) is None]


async def contents(plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    """Store contents."""
    async with _stage(plane, exchange, grant) as stage:
        receiver = ContentReceiver(stage)
        await exchange.receive(receiver)
    return said({"stored": receiver.stored})


async def begin_large(plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    """Make a large file ready, and answer which chunks are missing."""
    basis = path_in_query(exchange.request, "basis")
    wanted = formed(ChunkList, await exchange.body(MAX_CHUNKS * CHUNK_SIZE))
    digest = exchange.request.match_info["digest"]
    async with (
        exchange.turn(plane.heavy, grant.author),
        _stage(plane, exchange, grant) as stage,
    ):
        lacking = await exchange.run(large.begin, stage, plane.large_files, digest, wanted, basis, whole_file=True)
    return web.Response(body=encode_indexes(lacking), content_type="application/octet-stream")


async def write_large(plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    """Store bytes of a large file."""
    offset = number_in_query(exchange.request, "offset")
    digest = exchange.request.match_info["digest"]
    async with _stage(plane, exchange, grant) as stage:
        writer = await exchange.run(large.LargeWriter, stage, plane.large_files, digest, offset)
        try:
            writer.require_room(exchange.request.content_length or 0)
        except Refusal:
            writer.abandon()
            raise
        await exchange.receive(writer)
    return said({"stored": writer.written})


async def complete_large(plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    """Give a large file its name, if it is whole."""
    async with (
        exchange.turn(plane.heavy, grant.author),
        _stage(plane, exchange, grant) as stage,
    ):
        digest = exchange.request.match_info["digest"]
        await exchange.run(large.complete, stage, plane.large_files, digest, whole_file=True)
    return said({"stored": 1})


async def complete(plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    """Make everything durable that was sent so far."""
    async with _stage(plane, exchange, grant) as stage:
        found = await exchange.run(_complete, stage, grant, whole_file=True)
    return said(found)


def _complete(stage: Incoming, grant: Grant) -> dict[str, object]:
    incoming.make_durable(grant)
    with file_work("count what was sent"):
        found: dict[str, object] = {"contents": stage.contents(), "changes": stage.size_of(CHANGES) is not None}
    stage.check()
    return found


HANDLERS: dict[str, Handler] = {
    "changes": changes,
    "missing": missing,
    "writeContents": contents,
    "beginLarge": begin_large,
    "writeLarge": write_large,
    "completeLarge": complete_large,
    "complete": complete,
}
