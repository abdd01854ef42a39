"""The Kubernetes API server as JSON requests, through the official client's configuration, TLS and connection pool."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import kubernetes.client
import kubernetes.config
import urllib3
from kubernetes.client.exceptions import ApiException

from dsg.reconcile.cluster import ClusterError, Conflict, Forbidden, Gone
from dsg.telemetry.health import Heartbeats

_PROMPT = 2.0
"""Seconds within which an answer says enough about the server's clock."""
_HALF_A_SECOND = 0.5
"""Date has whole seconds (RFC 9110), the fraction cut off: so much is cut off on average."""
TIMEOUT = 30
"""Seconds that one request may take."""
MERGE_PATCH = "application/merge-patch+json"

_CONFLICT, _NOT_FOUND, _FORBIDDEN, _SERVER_ERRORS = 409, 404, 403, 500


def load_client(kubeconfig: str | None) -> kubernetes.client.ApiClient:
    """Return a client from a kubeconfig file, else from the pod's service account, else from the default kubeconfig.

    Raises kubernetes.config.ConfigException when there is none.
    """
    configuration = kubernetes.client.Configuration()
    if kubeconfig is not None:
        kubernetes.config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        try:
            kubernetes.config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except kubernetes.config.ConfigException:
            kubernetes.config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    # The client's own retries would hide an unreachable server for minutes; the queue tries again by itself.
    configuration.retries = False
    return kubernetes.client.ApiClient(configuration)


def path(*parts: str) -> str:
    """Return a URL path of the given parts, each quoted."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


class ApiServer:
    """Sends requests and translates failures. Safe for threads."""

    def __init__(
        self,
        client: kubernetes.client.ApiClient,
        heartbeats: Heartbeats | None = None,
        on_request: Callable[[str, str, str], None] = lambda resource, verb, outcome: None,
    ) -> None:
        """`on_request` is told of every request: resource, verb, and `ok` or the class of the failure."""
        self._client = client
        self._heartbeats = heartbeats
        self._on_request = on_request

    def request(
        self,
        verb: str,
        url: str,
        *,
        resource: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """Send one request and return the answer. `verb` is an HTTP method; `resource` names it for metrics and errors.

        Raises Conflict (409), Gone (404), Forbidden (403), ClusterError for every other failure.
        """
        try:
            answer = self._send(verb, url, body, query, content_type)
        except ClusterError as error:
            self._on_request(resource, verb, type(error).__name__)
            raise type(error)(f"{verb} {resource}: {error}") from error
        self._on_request(resource, verb, "ok")
        return answer

    def _send(
        self, verb: str, url: str, body: Mapping[str, Any] | None, query: Mapping[str, str] | None, content_type: str
    ) -> dict[str, Any]:
        serialized = self._client.param_serialize(
            method=verb,
            resource_path=url,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=dict(body) if body is not None else None,
            auth_settings=["BearerToken"],
        )
        try:
            began = time.time()
            response = self._client.call_api(*serialized, _request_timeout=TIMEOUT)
            data = response.read()  # type: ignore[no-untyped-call]
            self._compare_clocks(response.headers.get("Date"), began, time.time())
        except ApiException as error:
            # The generated client raises this for failures of the connection, with status 0.
            self._failed(str(error.reason))
            raise ClusterError(f"the API server can't be reached ({error.reason})") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self._failed(type(error).__name__)
            raise ClusterError(f"the API server can't be reached ({type(error).__name__})") from error
        if response.status >= _SERVER_ERRORS:
            self._failed(f"HTTP {response.status}")
        elif self._heartbeats is not None:
            self._heartbeats.api_answered()
        return _checked(response.status, data)

    def _compare_clocks(self, date: str | None, began: float, ended: float) -> None:
        """Note how far our clock is from the server's; a slow answer says too little about it."""
        if date is None or self._heartbeats is None or not 0 <= ended - began <= _PROMPT:
            return
        try:
            theirs = parsedate_to_datetime(date).timestamp() + _HALF_A_SECOND
        except ValueError:
            return
        self._heartbeats.clock_compared((began + ended) / 2 - theirs)

    def _failed(self, why: str) -> None:
        if self._heartbeats is not None:
            self._heartbeats.api_failed(why)


def _checked(status: int, data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data or b"{}")
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    if status < 300:  # noqa: PLR2004  (RFC 9110: 2xx is success)
        return answer
    text = f"HTTP {status}: {answer.get('message') or 'no message'}"
    if status == _CONFLICT:
        raise Conflict(text)
    if status == _NOT_FOUND:
        raise Gone(text)
    if status == _FORBIDDEN:
        raise Forbidden(text)
    raise ClusterError(text)
