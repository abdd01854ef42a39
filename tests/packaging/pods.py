"""The containers of a rendered pod as processes of this machine, with what matters here of what a kubelet gives them.

That is: their command line and variables, their volumes at their paths in a mount namespace of their own, their user
and capabilities, the token of their ServiceAccount where they mount it. Only ports are others, on 127.0.0.1. As root.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import urllib3

from lab.controlplane import ControlPlane
from lab.processes import free_port
from tests.packaging.rendered import Object, arguments_of, containers, environment_of

_HIDDEN = ("/run", "/srv", "/var/lib", "/var/log")
_ENTER = """
set -e
root=$1; shift
while [ "$1" != -- ]; do mount -t tmpfs -o mode=755 none "$root$1"; shift; done; shift
while [ "$1" != -- ]; do mkdir -p "$root$2"; mount --bind "$1" "$root$2"; shift 2; done; shift
read_only=$1; shift
if [ -z "$root" ]; then exec "$@"; fi
if [ "$read_only" = yes ]; then mount -o remount,bind,ro "$root"; fi
exec chroot "$root" "$@"
"""
_IMAGE_PATH = "/opt/dsg/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""As the Containerfile sets it."""
_TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


class Pod(AbstractContextManager["Pod"]):
    """A pod of a workload on a node. Leaving it ends its processes; its volumes stay, as those of a node do."""

    def __init__(
        self,
        workload: Object,
        directory: Path,
        node: str,
        *,
        api: ControlPlane | None = None,
        image: Path | None = None,
    ) -> None:
        """`api`: whose tokens the containers get. `image`: its root directory; left out, this machine is it."""
        self.namespace: str = workload["metadata"]["namespace"]
        self.spec: Object = workload["spec"]["template"]["spec"]
        self.containers = containers(workload)
        self.directory = directory
        self.api = api
        self.image = image
        self.given = {"NODE_NAME": node, "POD_NAMESPACE": self.namespace}
        self.ports: dict[int, int] = {}
        """Ports of this machine by those of the containers."""
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    def volume(self, name: str) -> Path:
        """The directory behind a volume."""
        path = self.directory / "volumes" / name
        if not path.is_dir():
            path.mkdir(parents=True)
            # As an emptyDir comes; what is of the node comes with 0755.
            path.chmod(0o755)
        return path

    def __enter__(self) -> Self:
        if self.api is not None:
            self._tokens(self.api)
        for container in self.spec.get("initContainers", []):
            subprocess.run(self._argv(container), env=self._environment(container), check=True, timeout=60)
        for container in self.spec["containers"]:
            self.start(container["name"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.running.values():
            process.terminate()
        for name, process in self.running.items():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            if error is not None:
                print(f"--- the log of {name} ends:\n{self.log(name)[-3000:]}")

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def start(self, name: str) -> None:
        """Start a container; it must not run."""
        container = self.containers[name]
        with (self.directory / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                self._argv(container),
                env=self._environment(container),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def probe(self, name: str, probe: str) -> int:
        """The answer to a container's own probe, as its status; 0 for none."""
        container = self.containers[name]
        get = container[probe]["httpGet"]
        (port,) = [p["containerPort"] for p in container["ports"] if get["port"] in {p["name"], p["containerPort"]}]
        url = f"{get.get('scheme', 'HTTP').lower()}://127.0.0.1:{self.ports[port]}{get['path']}"
        # As the kubelet does: no certificate is verified.
        with urllib3.PoolManager(cert_reqs="CERT_NONE", retries=False, timeout=5) as pool:
            try:
                return pool.request("GET", url).status
            except urllib3.exceptions.HTTPError:
                return 0

    def _tokens(self, api: ControlPlane) -> None:
        account = self.spec["serviceAccountName"]
        made = api.kubectl("admin", "create", "token", account, "-n", self.namespace, "--duration=1h").stdout
        folder = self.volume("api-access")
        (folder / "token").write_text(made.strip())
        (folder / "ca.crt").write_bytes(api.credentials.ca.read_bytes())
        (folder / "namespace").write_text(self.namespace)

    def _argv(self, container: Object) -> list[str]:
        mounts = {m["mountPath"]: str(self.volume(m["name"])) for m in container.get("volumeMounts", [])}
        if self.spec.get("automountServiceAccountToken", True):
            mounts[_TOKEN_FOLDER] = str(self.volume("api-access"))
        pairs = [word for where, volume in mounts.items() for word in (volume, where)]
        program = container["command"][0]
        beside = Path(sys.executable).parent / program
        if self.image is None and beside.exists():
            program = str(beside)
        security = container["securityContext"]
        arguments = [self._here(argument) for argument in arguments_of(container, **self.given)]
        return [
            *("unshare", "--mount", "--propagation=private", "sh", "-c", _ENTER, "sh"),
            *(str(self.image or ""), *_HIDDEN, "--", *pairs, "--"),
            "yes" if security.get("readOnlyRootFilesystem") else "no",
            *_rights(security, file_capabilities=self.image is not None),
            *(program, *container["command"][1:], *arguments),
        ]

    def _here(self, argument: str) -> str:
        """An argument with an address of this machine for one of the pod's."""
        option, equals, value = argument.partition("=")
        host, _, port = value.rpartition(":")
        if not option.endswith("listen") or host != "0.0.0.0":
            return argument
        return f"{option}{equals}127.0.0.1:{self.ports.setdefault(int(port), free_port())}"

    def _environment(self, container: Object) -> dict[str, str]:
        path = os.environ["PATH"] if self.image is None else _IMAGE_PATH
        server = {}
        if self.api is not None:
            server = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.api.port)}
        return {"PATH": path, **server, **environment_of(container, **self.given)}


def _rights(security: Object, *, file_capabilities: bool) -> list[str]:
    """setpriv(1) as a container's securityContext says; nothing for one that is privileged.

    A runtime leaves capabilities to root, and to files that have them. `file_capabilities` false: there are no such
    files, and whoever is not root gets directly what they would give.
    """
    if security.get("privileged"):
        return []
    added = security["capabilities"].get("add", [])
    kept = ",".join(["-all", *(f"+{name.lower()}" for name in added)])
    user, group = security["runAsUser"], security.get("runAsGroup", 0)
    argv = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", f"--bounding-set={kept}"]
    if not file_capabilities:
        argv += [f"--inh-caps={kept}", f"--ambient-caps={kept}"]
    if not security["allowPrivilegeEscalation"]:
        argv.append("--no-new-privs")
    return argv
