"""What the handlers of requests have in common."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from dsg.manifests.entries import EntryError, check_path
from dsg.transfer.grants import Grant
from dsg.transfer.problems import Code
from dsg.transfer.server.errors import Refusal
from dsg.transfer.server.exchange import Exchange
from dsg.transfer.server.plane import Plane
from dsg.transfer.wire import WireError, query_to_path

Handler = Callable[[Plane, Exchange, Grant], Awaitable[web.StreamResponse]]
"""Carries out a request that a grant allows. Raises Refusal."""

_T = TypeVar("_T")


def formed(decode: Callable[[bytes], _T], raw: bytes) -> _T:
    """Return what a body holds. Raises Refusal where it is not formed as documented."""
    try:
        return decode(raw)
    except WireError as error:
        raise Refusal(Code.BAD_REQUEST, f"The body: {error}.") from error


def path_in_query(request: web.Request, name: str) -> str | None:
    """Return the path that a query's parameter names; None where it is not there. Raises Refusal.

    From the query as it came: a path's bytes need not be UTF-8.
    """
    found: str | None = None
    for part in filter(None, request.rel_url.raw_query_string.split("&")):
        key, _, value = part.partition("=")
        if key != name or found is not None:
            raise Refusal(Code.BAD_REQUEST, f"The query may hold {name}=PATH, once, and nothing else.")
        found = query_to_path(value)
    if found is not None:
        try:
            check_path(found)
        except EntryError as error:
            raise Refusal(Code.BAD_PATH, f"{error}.") from error
    return found


def number_in_query(request: web.Request, name: str) -> int:
    """Return the number that a query names, and nothing else. Raises Refusal."""
    key, _, value = request.rel_url.raw_query_string.partition("=")
    if key != name or not value.isascii() or not value.isdigit() or len(value) > _DIGITS:
        raise Refusal(Code.BAD_REQUEST, f"The query must be {name}=NUMBER.")
    return int(value)


_DIGITS = 19
"""Of the largest offset, 2**63 - 1."""


def said(answer: dict[str, object]) -> web.Response:
    """Return an answer in JSON."""
    return web.Response(body=json.dumps(answer).encode() + b"\n", content_type="application/json")
