"""Plain requests to either API server, as one of its users: what the suite sees is what is on the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import urllib3

from demo.embedded.api import EmbeddedApi
from lab.controlplane import ControlPlane

Api = EmbeddedApi | ControlPlane
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
GROUP = "/apis/dsg.hrdag.org/v1alpha1"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    code: int
    body: Any
    warnings: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        return str(self.body["metadata"]["resourceVersion"])

    @property
    def causes(self) -> set[tuple[str, str]]:
        """What is said to be wrong: field and message."""
        return {(cause["field"], cause["message"]) for cause in self.body["details"]["causes"]}


class Client:
    """One user of one API server."""

    def __init__(self, api: Api, user: str = "admin") -> None:
        self.api = api
        self._url = api.url
        self._token = api.credentials.token(user)
        self._pool = urllib3.PoolManager(ca_certs=str(api.credentials.ca), retries=False)

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}", "Accept": "application/json", **more}

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Answer:
        response = self._pool.request(
            method,
            self._url + path,
            fields=dict(query or {}) if body is None and method in {"GET", "DELETE"} else None,
            body=body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode(),
            headers=self._headers({"Content-Type": content_type, "Accept": accept}),
            timeout=20,
        )
        warnings = tuple(re.findall(r'299 - "((?:[^"\\]|\\.)*)"', response.headers.get("Warning", "")))
        return Answer(response.status, json.loads(response.data or b"null"), warnings)

    def get(self, path: str, accept: str = "application/json", **query: str) -> Answer:
        return self.send("GET", path, query=query, accept=accept)

    def post(self, path: str, body: Any, query: str = "") -> Answer:
        return self.send("POST", path + query, body)

    def put(self, path: str, body: Any, query: str = "") -> Answer:
        return self.send("PUT", path + query, body)

    def patch(self, path: str, body: Any, content_type: str = MERGE, query: str = "") -> Answer:
        return self.send("PATCH", path + query, body, content_type=content_type)

    def delete(self, path: str, body: Any = None) -> Answer:
        return self.send("DELETE", path, body)

    @contextmanager
    def watch(self, path: str, **query: str) -> Iterator[Iterator[tuple[str, Any]]]:
        """Yield the events of a watch, as type and object; it ends by itself after five seconds."""
        fields = {"watch": "true", "timeoutSeconds": "5", **query}
        response = self._pool.request(
            "GET", self._url + path, fields=fields, headers=self._headers({}), timeout=20, preload_content=False
        )
        assert response.status == 200, response.data
        try:
            yield _events(response)
        finally:
            response.close()


def _events(response: urllib3.BaseHTTPResponse) -> Iterator[tuple[str, Any]]:
    rest = b""
    for chunk in response.stream(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                event = json.loads(line)
                yield event["type"], event["object"]
