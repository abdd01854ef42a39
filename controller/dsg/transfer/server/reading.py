"""Requests that read a version."""

from __future__ import annotations

import re

from aiohttp import web

from dsg.transfer.grants import Grant
from dsg.transfer.problems import Code
from dsg.transfer.server import version
from dsg.transfer.server.errors import Refusal
from dsg.transfer.server.exchange import Exchange
from dsg.transfer.server.plane import Plane
from dsg.transfer.server.requests import Handler, formed, path_in_query
from dsg.transfer.wire import MAX_BATCH_BYTES, decode_digests, decode_path, decode_paths

_RANGE = re.compile(r"bytes=(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))", re.ASCII)


async def header(_plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    """Answer with the version's header line."""
    async with exchange.opened(version.opened(grant.root)) as tree:
        line = await exchange.run(tree.header)
    if line is None:
        raise Refusal(Code.NOT_FOUND, "No version has been made yet.")
    return web.Response(body=line, content_type="application/json")


async def segment(_plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    """Answer with a segment of the history."""
    async with exchange.opened(version.opened(grant.root)) as tree:
        raw = await exchange.run(tree.segment, exchange.request.match_info["segment"])
    return web.Response(body=raw, content_type="application/octet-stream")


async def nodes(_plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    """Answer with nodes of the manifest."""
    digests = formed(decode_digests, await exchange.body(MAX_BATCH_BYTES))
    async with exchange.opened(version.opened(grant.root)) as tree:
        return await exchange.send(tree.nodes(digests))


async def contents(_plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    """Answer with contents of files."""
    paths = formed(decode_paths, await exchange.body(MAX_BATCH_BYTES))
    async with exchange.opened(version.opened(grant.root)) as tree:
        return await exchange.send(tree.contents(paths))


async def content(_plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    """Answer with a file's content, or a part of it."""
    path = path_in_query(exchange.request, "path")
    if path is None:
        raise Refusal(Code.BAD_REQUEST, "The query does not name a path.")
    wanted = _range(exchange.request.headers.get("Range", ""))
    async with exchange.opened(version.opened(grant.root)) as tree:
        found = await exchange.run(tree.content, path, *(wanted or (None, None)))
        part = f"bytes {found.start}-{found.start + found.length - 1}/{found.size}" if wanted and found.length else ""
        return await exchange.send(found.pieces, found.length, part)


async def chunks(plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    """Answer with the list of a file's chunks."""
    path = formed(decode_path, await exchange.body(MAX_BATCH_BYTES))
    async with (
        exchange.turn(plane.heavy, grant.author),
        exchange.opened(version.opened(grant.root)) as tree,
    ):
        raw = await exchange.run(tree.chunks, path, plane.checker(grant), whole_file=True)
    return web.Response(body=raw, content_type="application/octet-stream")


def _range(said: str) -> tuple[int | None, int | None] | None:
    """Return a range's bounds as those of a slice; None where the whole file is to be sent (RFC 9110, 14.2)."""
    found = _RANGE.fullmatch(said)
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        return (-int(suffix), None) if int(suffix) else None
    if last and int(last) < int(first):
        return None
    return int(first), int(last) + 1 if last else None


HANDLERS: dict[str, Handler] = {
    "header": header,
    "segment": segment,
    "nodes": nodes,
    "readContents": contents,
    "content": content,
    "chunks": chunks,
}
