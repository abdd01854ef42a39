"""Logs kopf in to the Kubernetes API with a session of our own, whose watch streams are observed.

Credentials are those of the official client that the operator writes with, so both are always the same party. The
session is what kopf would build from them (no connection limit, headers, TLS, proxy), with two differences:
`watching.watch_middleware` sees its streams, and the Authorization header is asked of the client's configuration for
each request. That one reads a pod's token again every minute, so when the kubelet replaces it, as it does about every
48 minutes, the session goes on with the new one instead of running into a 401. Nothing is written to disk here.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import kopf
from yarl import URL

from dsg.telemetry.health import Heartbeats
from dsg.telemetry.setup import SERVICE, version
from dsg.telemetry.watching import watch_middleware

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, Configuration

_SAME_AGAIN_SECONDS = 120.0
"""A login with the same credentials within this time of the last means that they were refused, or the API is unwell."""
_WAIT_SECONDS = 60.0
"""The longest pause between two logins with the same credentials."""
_RETRY_SECONDS = 10.0
"""The pause before credentials are read again that could not be used."""


class CredentialsError(Exception):
    """Raised when what the client is configured with can't be used to reach the API server."""


@dataclass(frozen=True, slots=True)
class _Offer:
    """Everything that a login depends on; equal ones would fare alike."""

    info: kopf.ConnectionInfo
    authorization: str
    server_name: str | None


def _authorization(configuration: Configuration) -> str:
    # Calls the hook that reads a pod's token again. The second name is that of clients before 36.
    header = configuration.get_api_key_with_prefix("BearerToken", "authorization")
    return " ".join(str(header or "").split())


def _offer(configuration: Configuration) -> _Offer:
    try:
        authorization = _authorization(configuration)
    except Exception as error:  # whatever an authentication plugin may raise
        raise CredentialsError(f"the credentials can't be read: {error}") from error
    if bool(configuration.cert_file) != bool(configuration.key_file):
        raise CredentialsError("a client certificate and its key come together; one is missing")
    info = kopf.ConnectionInfo(
        server=configuration.host.rstrip("/"),
        ca_path=configuration.ssl_ca_cert or None,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file or None,
        private_key_path=configuration.key_file or None,
        proxy_url=configuration.proxy or None,
    )
    return _Offer(info, authorization, configuration.tls_server_name or None)


def _ssl_context(info: kopf.ConnectionInfo) -> ssl.SSLContext:
    try:
        return info.as_ssl_context()
    except (ssl.SSLError, OSError, ValueError) as error:
        raise CredentialsError(f"the TLS certificates or key for {info.server} can't be used: {error}") from error


def _identify(configuration: Configuration, offer: _Offer) -> aiohttp.ClientMiddlewareType:
    server = URL(offer.info.server).origin()

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        # Called for each hop of a redirect as well; credentials are for nobody but the API server.
        if request.url.origin() == server:
            # In a thread: the configuration may read a file or run a credential plugin.
            if header := await asyncio.to_thread(_authorization, configuration):
                request.headers["Authorization"] = header
            if offer.server_name is not None:
                request.server_hostname = offer.server_name
        return await handler(request)

    return middleware


async def _session(configuration: Configuration, offer: _Offer, heartbeats: Heartbeats) -> kopf.AiohttpSession:
    context = await asyncio.to_thread(_ssl_context, offer.info)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=context),
        headers={"User-Agent": f"{SERVICE}/{version()}"},
        proxy=offer.info.proxy_url,
        middlewares=[watch_middleware(heartbeats), _identify(configuration, offer)],
    )
    return kopf.AiohttpSession(server=offer.info.server, aiohttp_session=session)


async def session_for(client: ApiClient, heartbeats: Heartbeats) -> kopf.AiohttpSession:
    """Return a session on the running loop for the API server that a client is configured for; who asks closes it.

    Raises CredentialsError.
    """
    offer = await asyncio.to_thread(_offer, client.configuration)
    return await _session(client.configuration, offer, heartbeats)


def login_function(
    client: ApiClient, heartbeats: Heartbeats, *, clock: Callable[[], float] = time.monotonic
) -> Callable[..., Coroutine[Any, Any, kopf.AiohttpSession]]:
    """Return a handler for `kopf.on.login`. kopf calls it at the start and whenever the API server answers 401.

    When the credentials are still those that were just refused, it offers them once more at once and then waits, longer
    each time up to a minute, so that a revoked token makes no storm of requests; an API server that refused them by
    mistake, as one that is just starting may, is found well again without a restart. Credentials that can't be used
    end the operator at the first login, and are tried again later.
    """
    last: _Offer | None = None
    last_time = again_at = clock()
    pause = 0.0

    async def login(**_: object) -> kopf.AiohttpSession:
        nonlocal last, last_time, again_at, pause
        try:
            offer = await asyncio.to_thread(_offer, client.configuration)
            now = clock()
            same = offer == last
            if same and now < again_at:
                raise kopf.TemporaryError(
                    f"the API server at {offer.info.server} refused these credentials; they will be tried again",
                    delay=again_at - now,
                )
            session = await _session(client.configuration, offer, heartbeats)
        except CredentialsError as error:
            if last is None:
                raise kopf.PermanentError(str(error)) from error
            raise kopf.TemporaryError(str(error), delay=_RETRY_SECONDS) from error
        pause = min(max(1.0, pause * 2), _WAIT_SECONDS) if same and now - last_time < _SAME_AGAIN_SECONDS else 0.0
        last, last_time, again_at = offer, now, now + pause
        return session

    return login
