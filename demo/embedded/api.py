"""The embedded API as a thing to start and stop: its thread, its users, its kubeconfigs, its log of requests.

It has the face of `lab.controlplane.ControlPlane`, so that tests and the demonstration run on either.
"""

from __future__ import annotations

import asyncio
import csv
import json
import ssl
import subprocess
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from aiohttp import web

from demo.embedded import dsg_rules
from demo.embedded.failures import ApiFailure
from demo.embedded.kinds import Kind, builtin, custom, read_definitions
from demo.embedded.registry import Body, Registry, Write
from demo.embedded.requests import Target
from demo.embedded.server import Person, Refuse, Server
from demo.embedded.store import Store, Where
from lab import audit, binaries
from lab.credentials import USERS, Credentials, write_private
from lab.errors import LabError
from lab.paths import TREE
from lab.processes import free_port

_START_TIMEOUT = 20
_KUBECTL_TIMEOUT = 60


class EmbeddedApi(AbstractContextManager["EmbeddedApi"]):
    """An API server in a thread of this process, on 127.0.0.1, with what it keeps in `directory`.

    `with EmbeddedApi(tmp_path) as api: api.kubectl("admin", "get", "ns")`. Its state is written when it stops and read
    when it starts again in the same directory, at the same address. `remembered` is how many changes of each resource a
    watch can go back. Raises `LabError`.
    """

    def __init__(self, directory: Path, *, definitions: Path = TREE / "crds", remembered: int = 1000) -> None:
        """`definitions` is a folder of CustomResourceDefinitions in YAML."""
        self.directory = directory
        self.credentials = Credentials(directory / "credentials")
        self.audit_log = directory / "audit.jsonl"
        self.refuse: Refuse = lambda person, target: None
        """Says which requests are refused without being looked at."""
        self._state, self._address = directory / "state.json", directory / "port"
        self._definitions = read_definitions(definitions.glob("*.yaml"))
        if not self._definitions:
            raise LabError(f"{definitions} holds no CustomResourceDefinition; `make generate` writes them")
        self._remembered = remembered
        self._registry: Registry | None = None
        self._serving: tuple[threading.Thread, asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._audit_file: IO[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- life

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, the same over restarts."""
        if not self._address.exists():
            self._address.write_text(f"{free_port()}\n")
        return int(self._address.read_text())

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether it answers."""
        return self._serving is not None

    def start(self) -> None:
        """Begin to answer; nothing happens when it does already. Raises `LabError` when the port is taken."""
        if self._serving is not None:
            return
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.credentials.ensure()
        self._audit_file = self.audit_log.open("a", buffering=1)
        registry = self._registry = self._registry or self._loaded()
        server = Server(registry, self._people(), self._note, self._refused)
        ready = threading.Event()
        failed: list[BaseException] = []
        thread = threading.Thread(target=self._run, args=(server, ready, failed), name="embedded-api", daemon=True)
        thread.start()
        if not ready.wait(_START_TIMEOUT) or failed:
            why = failed[0] if failed else f"not ready after {_START_TIMEOUT} s"
            raise LabError(f"the embedded API could not start at {self.url}: {why}")

    def _run(self, server: Server, ready: threading.Event, failed: list[BaseException]) -> None:
        async def serve() -> None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.credentials.serving_certificate, self.credentials.serving_key)
            runner = web.AppRunner(
                server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
            )
            await runner.setup()
            stop = asyncio.Event()
            try:
                await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=context).start()
                self._serving = (threading.current_thread(), asyncio.get_running_loop(), stop)
                ready.set()
                await stop.wait()
            finally:
                await runner.cleanup()

        try:
            asyncio.run(serve())
        except OSError as error:
            failed.append(error)
            ready.set()

    def stop(self) -> None:
        """End all connections and answer no more; the state is written down. Nothing happens when it does not run."""
        if self._serving is None or self._registry is None:
            return
        thread, loop, stop = self._serving
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=_START_TIMEOUT)
        self._serving = None
        write_private(self._state, json.dumps(self._registry.store.snapshot()).encode())
        if self._audit_file is not None:
            self._audit_file.close()

    def restart(self) -> None:
        """Stop and start: clients lose their connections, and watches can't go back beyond this moment."""
        self.stop()
        self._registry = None
        self.start()

    def _loaded(self) -> Registry:
        kinds = [*builtin(), *(custom(definition) for definition in self._definitions)]
        registry = Registry(kinds, Store(self._remembered), dsg_rules.all_laws(kinds))
        if self._state.exists():
            registry.store.restore(json.loads(self._state.read_text()))
        for name in ("default", "kube-system"):
            if registry.store.get("namespaces", Where("", name)) is None:
                obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                registry.create(_kind(kinds, "namespaces"), "", Body(obj), Write())
        self._publish(registry)
        return registry

    def _publish(self, registry: Registry) -> None:
        """Show the definitions that are served as objects."""
        resource = "customresourcedefinitions.apiextensions.k8s.io"
        now = registry.clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        for definition in self._definitions:
            where = Where("", definition["metadata"]["name"])
            known = registry.store.get(resource, where)
            if known is not None and known["spec"] == definition["spec"]:
                continue
            kept = {key: known["metadata"][key] for key in ("uid", "creationTimestamp")} if known else {}
            metadata = {"uid": f"embedded-{where.name}", "creationTimestamp": now, "generation": 1, **kept}
            established = {"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": ""}
            status = {"conditions": [{**established, "lastTransitionTime": now}]}
            obj = {**definition, "metadata": {**definition["metadata"], **metadata}, "status": status}
            registry.store.put(resource, where, obj)

    # --- users

    def _people(self) -> Mapping[str, Person]:
        with self.credentials.token_file.open(newline="") as rows:
            return {token: Person(name, tuple(groups.split(","))) for token, name, _, groups in csv.reader(rows)}

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig file (mode 0600) of one of the lab's `USERS`. Raises `LabError` for an unknown one."""
        if user not in USERS:
            raise LabError(f"there is no user {user!r}; there are {', '.join(USERS)}")
        path = self.directory / f"{user}.kubeconfig.yaml"
        if not path.exists():
            write_private(path, self.credentials.kubeconfig(user, self.url))
        return path

    def kubectl(
        self,
        user: str,
        *args: str,
        input: str | None = None,  # the name subprocess.run uses
        check: bool = True,
        timeout: float = _KUBECTL_TIMEOUT,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as a user, with output as text. Raises `LabError` with its words when it fails and is checked."""
        argv = [str(binaries.kubectl()), f"--kubeconfig={self.kubeconfig(user)}"]
        argv += [f"--cache-dir={self.directory / 'kubectl-cache'}", *args]
        result = subprocess.run(argv, input=input, capture_output=True, text=True, timeout=timeout, check=False)
        if check and result.returncode != 0:
            raise LabError(
                f"kubectl {' '.join(args)} as {user} failed with exit code {result.returncode}:\n"
                f"{result.stderr.strip() or result.stdout.strip()}"
            )
        return result

    # --- requests

    def _refused(self, person: Person, target: Target) -> ApiFailure | None:
        return self.refuse(person, target)

    def _note(self, entry: dict[str, Any]) -> None:
        if self._audit_file is not None:
            self._audit_file.write(json.dumps(entry, separators=(",", ":")) + "\n")

    def audit_mark(self) -> int:
        """A place in the log of requests: `requests(since=mark)` are the requests from now on."""
        return self.audit_log.stat().st_size if self.audit_log.exists() else 0

    def requests(self, user: str | None = None, since: int = 0) -> list[audit.Request]:
        """The requests after a mark, in order; of one user, by the lab's short name, or of all."""
        name = USERS[user].name if user is not None else None
        return [request for request in audit.requests(self.audit_log, since) if name in {None, request.user}]


def _kind(kinds: list[Kind], plural: str) -> Kind:
    return next(kind for kind in kinds if kind.plural == plural)
