"""The application: who may do what a request asks for, and the answer when it is not done."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from importlib.metadata import version as installed_version
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from dsg.transfer import chunks
from dsg.transfer.grants import Grant
from dsg.transfer.problems import Code
from dsg.transfer.server import reading, writing
from dsg.transfer.server.errors import Refusal
from dsg.transfer.server.exchange import Exchange
from dsg.transfer.server.openapi import description
from dsg.transfer.server.plane import Plane
from dsg.transfer.server.requests import Handler, said
from dsg.transfer.server.routes import ROUTES, Mode, Route
from dsg.transfer.tls import MAX_CERTIFICATE, CertificateError, fingerprint, read_client_certificate
from dsg.transfer.wire import LARGE, MAX_BATCH, MAX_BATCH_BYTES, MAX_CHUNKS

_log = logging.getLogger(__name__)
_Entry = Callable[[web.Request], Awaitable[web.StreamResponse]]
_ROUTE, _EXCHANGE = web.RequestKey("route", str), web.RequestKey("exchange", Exchange)
"""What a request is for, and what carries it out; for what is measured."""
_CLOSING = frozenset({Code.TOO_SLOW, Code.GRANT_OVER, Code.BAD_REQUEST})
"""After these the rest of the body is not waited for."""
_RETRY_AFTER = "2"
"""Seconds."""


def application(plane: Plane) -> web.Application:
    """Return the application that serves a plane."""
    app = web.Application(middlewares=[_recording(plane), _refusing(plane)])
    by_address: dict[tuple[str, str], list[Route]] = defaultdict(list)
    for route in ROUTES:
        by_address[route.method, route.pattern].append(route)
    for (method, pattern), routes in by_address.items():
        app.router.add_route(method, pattern, _entry(plane, routes))
    return app


def _recording(plane: Plane) -> Middleware:
    """Return what measures each request."""

    @web.middleware
    async def record(request: web.Request, handler: _Entry) -> web.StreamResponse:
        began, status = time.monotonic(), 0
        try:
            answer = await handler(request)
            exchange = request.get(_EXCHANGE)
            status = 0 if exchange is not None and exchange.is_cut else answer.status
            return answer
        finally:
            route, took = request.get(_ROUTE, "other"), time.monotonic() - began
            plane.recorder.answered(route, status, took)
            _log.debug("answered", extra={"route": route, "status": status, "seconds": round(took, 3)})

    return record


def _refusing(plane: Plane) -> Middleware:
    """Return what answers with a problem wherever a request is not carried out."""

    @web.middleware
    async def refuse(request: web.Request, handler: _Entry) -> web.StreamResponse:
        headers = None
        try:
            return await handler(request)
        except Refusal as refusal:
            found = refusal
        except web.HTTPMethodNotAllowed as error:
            found = Refusal(Code.WRONG_METHOD)
            headers = {"Allow": ", ".join(sorted(error.allowed_methods))}
        except web.HTTPNotFound:
            found = Refusal(Code.NO_ROUTE)
        except web.HTTPException as error:
            found = Refusal(Code.BAD_REQUEST, f"{error.reason}.")
        except Exception as error:
            _log.exception("a request failed", extra={"path": request.path}, exc_info=error)
            found = Refusal(Code.INTERNAL)
        plane.recorder.refused(found.code)
        plane.trail.refused(request, found.code)
        return _answer(request, found, headers)

    return refuse


def _answer(request: web.Request, refusal: Refusal, headers: dict[str, str] | None = None) -> web.Response:
    level = logging.WARNING if refusal.status >= _SERVER_ERROR else logging.INFO
    cause = str(refusal.__cause__) if refusal.__cause__ is not None else ""
    _log.log(level, "refused", extra={"code": refusal.code, "path": request.path, "cause": cause})
    answer = web.Response(
        status=refusal.status, body=refusal.problem.encode() + b"\n", content_type="application/json", headers=headers
    )
    if refusal.code is Code.BUSY:
        answer.headers["Retry-After"] = _RETRY_AFTER
    if refusal.code in _CLOSING:
        answer.force_close()
    return answer


_SERVER_ERROR = 500


def _entry(plane: Plane, routes: list[Route]) -> _Entry:
    by_mode = {route.mode: route for route in routes}
    handlers = {**_HANDLERS, **reading.HANDLERS, **writing.HANDLERS}
    called = {route.mode: handlers[route.name] for route in routes}

    async def enter(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Refusal(Code.BAD_REQUEST, "Bodies are taken as they are, without Content-Encoding.")
        exchange = request[_EXCHANGE] = Exchange(request, plane.limits, plane.threads, plane.recorder)
        # Of several at one address, the grant decides below; until then it is the first.
        request[_ROUTE] = routes[0].name
        if Mode.NOBODY in by_mode:
            return await called[Mode.NOBODY](plane, exchange, _NO_GRANT)
        uid = request.match_info["uid"]
        if Mode.INTRODUCTION in by_mode:
            return await called[Mode.INTRODUCTION](plane, exchange, plane.find(uid))
        grant = plane.authorised(request, uid)
        if plane.ending:
            raise Refusal(Code.BUSY, "The server is about to end.")
        mode = Mode.ANY if Mode.ANY in by_mode else Mode(grant.mode)
        if mode not in by_mode:
            raise Refusal(Code.WRONG_MODE)
        request[_ROUTE] = by_mode[mode].name
        plane.hanging.require(grant.root)
        exchange.works_in(grant.root, plane.hanging)
        async with plane.trail.follow(request, exchange, grant):
            with plane.carrying_out(exchange, grant):
                if not by_mode[mode].moves:
                    return await called[mode](plane, exchange, grant)
                async with exchange.turn(plane.admission, grant.author):
                    # Its storage may hang since.
                    plane.hanging.require(grant.root)
                    return await called[mode](plane, exchange, grant)

    return enter


# ---- what moves no data


async def _alive(_plane: Plane, _exchange: Exchange, _grant: Grant) -> web.StreamResponse:
    return said({"status": "ok", "version": installed_version("dsg")})


async def _description(_plane: Plane, _exchange: Exchange, _grant: Grant) -> web.StreamResponse:
    return said(description())


async def _parameters(plane: Plane, _exchange: Exchange, _grant: Grant) -> web.StreamResponse:
    return said(
        {
            "chunking": chunks.PARAMETERS,
            "largeFrom": LARGE,
            "maxBatch": MAX_BATCH,
            "maxBatchBytes": MAX_BATCH_BYTES,
            "maxChunks": MAX_CHUNKS,
            "idleSeconds": plane.limits.idle,
            "requestsPerAuthor": plane.limits.per_author,
        }
    )


async def _certificate(plane: Plane, exchange: Exchange, grant: Grant) -> web.StreamResponse:
    raw = await exchange.body(MAX_CERTIFICATE)
    try:
        der = read_client_certificate(raw)
        if fingerprint(der) != grant.client_key:
            raise Refusal(Code.WRONG_CERTIFICATE)
        await plane.trail.shown(exchange.request, grant)
        plane.certificates[grant.client_key] = grant.uid
        plane.trust.add(der, lambda mark: mark in plane.certificates and plane.is_open(plane.certificates[mark]))
    except CertificateError as error:
        raise Refusal(Code.BAD_REQUEST, f"{error}.") from error
    return web.Response(status=204)


async def _grant(_plane: Plane, _exchange: Exchange, grant: Grant) -> web.StreamResponse:
    told: dict[str, Any] = {
        "mode": grant.mode,
        "namespace": grant.namespace,
        "repository": grant.repository,
        "expires": grant.expires,
    }
    if grant.version is not None:
        told["version"] = grant.version
    if grant.size_limit is not None:
        told["sizeLimit"] = grant.size_limit
    return said(told)


_HANDLERS: dict[str, Handler] = {
    "live": _alive,
    "healthy": _alive,
    "description": _description,
    "parameters": _parameters,
    "certificate": _certificate,
    "grant": _grant,
}
_NO_GRANT = Grant(
    uid="none",
    namespace="-",
    repository="-",
    author="-",
    client_key="0" * 64,
    mode="read",
    root="/nonexistent",
    expires=0.0,
)
"""Given to handlers that need none."""
