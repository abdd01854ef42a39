"""One real API server for the tests of this directory, spoken to without a process for each request."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsg.api.crd import KINDS
from dsg.api.names import GROUP, VERSION
from lab.controlplane import ControlPlane
from tests.api.objects import TREE

NAMESPACES = ("research",)
DEFINITIONS = [argument for kind in KINDS for argument in ("-f", str(TREE / "crds" / kind.file))]
"""The CRDs for kubectl, without the admission policies: those are about people, and have tests of their own."""


class Refused(Exception):
    """The API server's refusal."""

    def __init__(self, code: int, answer: dict[str, Any]) -> None:
        self.code = code
        self.message: str = answer["message"]
        causes = answer.get("details", {}).get("causes", [])
        self.fields: list[str] = [cause.get("field", "") for cause in causes]
        super().__init__(self.message)


class Server:
    """The API as an administrator sees it; every write asks for strict field validation, as kubectl does."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self._context = ssl.create_default_context(cafile=str(plane.credentials.ca))
        self._plurals = {kind.name: kind for kind in KINDS}

    def install(self) -> None:
        """Install the CRDs of the tree, without the admission policies, and wait until they are served."""
        for name in NAMESPACES:
            self.plane.kubectl("admin", "create", "namespace", name)
        self.plane.kubectl("admin", "apply", "--server-side", *DEFINITIONS)
        self.plane.kubectl("admin", "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")

    def call(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        """Return the answer to one request. Raises `Refused`."""
        request = urllib.request.Request(
            f"{self.plane.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.plane.credentials.token('admin')}", "Content-Type": content},
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._context) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            # A path that is not served is answered in plain text.
            raise Refused(error.code, json.loads(text) if text.startswith("{") else {"message": text}) from None

    def path(self, kind: str, name: str = "", subresource: str = "") -> str:
        """Return the path of a collection, an object or its subresource."""
        found = self._plurals[kind]
        scope = f"/namespaces/{NAMESPACES[0]}" if found.namespaced else ""
        tail = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"/apis/{GROUP}/{VERSION}{scope}/{found.plural}{tail}"

    @staticmethod
    def _query(dry_run: bool) -> str:
        return "?fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")

    def create(self, raw: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create an object and return it as stored."""
        found: dict[str, Any] = self.call("POST", self.path(raw["kind"]) + self._query(dry_run), raw)
        return found

    def replace(self, raw: dict[str, Any], *, dry_run: bool = False, subresource: str = "") -> dict[str, Any]:
        """Replace an object (or its status) and return it as stored."""
        path = self.path(raw["kind"], raw["metadata"]["name"], subresource)
        found: dict[str, Any] = self.call("PUT", path + self._query(dry_run), raw)
        return found

    def delete(self, raw: dict[str, Any]) -> None:
        """Delete an object."""
        self.call("DELETE", self.path(raw["kind"], raw["metadata"]["name"]))

    def get(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Return an object as it is now."""
        found: dict[str, Any] = self.call("GET", self.path(raw["kind"], raw["metadata"]["name"]))
        return found

    @contextmanager
    def existing(self, raw: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Create an object for the length of a `with` block."""
        created = self.create(raw)
        try:
            yield created
        finally:
            self.delete(raw)


@contextmanager
def serving(directory: Path) -> Iterator[Server]:
    """Run a control plane with the CRDs."""
    with ControlPlane(directory) as plane:
        server = Server(plane)
        server.install()
        yield server
