"""Where the story takes place: an API server, a storage node with its operator, and a kind of storage."""

from __future__ import annotations

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from demo.embedded.api import EmbeddedApi
from lab.controlplane import ControlPlane
from lab.errors import LabError
from lab.library import POOL, Lab
from lab.node import DATA_PLANE_PORT, PYTHON
from lab.paths import TREE
from lab.processes import free_port, recorded, spawn

NODE = "node-a"
OPERATOR_NAMESPACE = TREE / "manifests" / "base" / "namespace.yaml"
_COMMAND_TIMEOUT = 60
_LAB_OPERATOR = ("--resync", "5")


@dataclass(frozen=True, slots=True)
class Tampering:
    """A change that somebody makes on the node by hand, and how it shows there."""

    sentence: str
    change: tuple[str, ...]
    look: tuple[str, ...]
    declared: str
    """What `look` prints while the node is as declared."""
    changed: str
    """What it prints after the change."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has run; output and errors in one text, as a terminal shows them."""

    code: int
    text: str


class World(AbstractContextManager["World"], ABC):
    """One place for the story: `open` starts it, leaving the `with` block ends it. Raises `LabError`."""

    introduction: str
    api: EmbeddedApi | ControlPlane
    directory: Path
    """Where kubectl is run, beside the specs."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def open(self) -> None:
        """Start everything but the operator."""

    @abstractmethod
    def close(self) -> None:
        """End every process that was started."""

    def __enter__(self) -> Self:
        return self

    # --- the people's side

    def environment(self, user: str = "admin") -> dict[str, str]:
        """Return the environment in which kubectl finds this world, as one of the lab's users."""
        beside_python = str(Path(sys.executable).parent)
        return {
            **os.environ,
            "PATH": os.pathsep.join([beside_python, os.environ.get("PATH", os.defpath)]),
            "KUBECONFIG": str(self.api.kubeconfig(user)),
            "KUBECACHEDIR": str(self.directory / ".kubectl-cache"),
        }

    def run(self, argv: Sequence[str]) -> Done:
        """Run a command of a person at their desk."""
        done = subprocess.run(
            list(argv),
            cwd=self.directory,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_TIMEOUT,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def desk(self, user: str) -> Path:
        """Return the directory in which a researcher works."""
        return self.directory / user

    def start_as(self, user: str, argv: Sequence[str], where: Path) -> subprocess.Popen[str]:
        """Start a command of a researcher."""
        return subprocess.Popen(
            list(argv),
            cwd=where,
            env=self.environment(user),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @abstractmethod
    def admit_researchers(self, namespace: str) -> Sequence[tuple[str, ...]]:
        """Return the commands that let researchers work in a namespace; none where nobody is kept out."""

    # --- the node's side

    prompt: str
    """Who works on the node: `node-a#` is root."""

    @abstractmethod
    def on_node(self, argv: Sequence[str]) -> Done:
        """Run a command on the storage node."""

    @abstractmethod
    def start_operator(self) -> None:
        """Start the node's operator, or start it again."""

    @abstractmethod
    def operator_command(self) -> tuple[str, ...]:
        """Return the command that `start_operator` runs on the node."""

    @abstractmethod
    def operator_pid(self) -> int:
        """Return the number of the operator's process on the node. Raises `LabError` when it does not run."""

    @abstractmethod
    def operator_log(self) -> str:
        """Return what the operator has written."""

    @abstractmethod
    def start_data_plane(self) -> None:
        """Start the node's data plane."""

    @abstractmethod
    def data_plane_log(self) -> str:
        """Return what the data plane has written."""

    # --- storage

    @abstractmethod
    def pool_storage(self) -> dict[str, Any]:
        """Return `spec.storage` of the StoragePool."""

    @abstractmethod
    def repository_storage(self, name: str) -> dict[str, Any]:
        """Return `spec.storage` of a Repository."""

    @abstractmethod
    def owner(self) -> dict[str, Any]:
        """Return `spec.owner` of a Repository."""

    @abstractmethod
    def place(self, name: str) -> str:
        """Return the directory or dataset of a Repository."""

    def mountpoint(self, name: str) -> str:
        """Return the path at which a Repository is read."""
        return str(self.repository_storage(name)["mountpoint"])

    @property
    @abstractmethod
    def python(self) -> str:
        """Return the Python on the node that has dsg."""

    @abstractmethod
    def look(self, name: str) -> Sequence[tuple[str, ...]]:
        """Return the commands that show a Repository on the node."""

    @abstractmethod
    def look_behind(self, name: str) -> tuple[str, ...]:
        """Return the command that shows whether a Repository's data is on the node; it fails where there is none."""

    @abstractmethod
    def tampering(self, name: str) -> Tampering:
        """Return a change to make by hand."""


class LocalWorld(World):
    """The embedded API, and this machine as the storage node, with everything in one directory."""

    introduction = (
        "Everything runs on this machine, below one temporary directory: a small embedded Kubernetes API (a model of "
        "the real one, in Python), the real operator and the real data plane as processes of their own, the real "
        "kubectl, and storage of type xfs, which is a directory on any POSIX file system. `make lab` tells the same "
        "story on a real kube-apiserver and real OpenZFS."
    )

    def __init__(self, directory: Path) -> None:
        """`directory` is an absolute path, none of whose names begins with a dot."""
        self.directory = directory
        self.api = EmbeddedApi(directory / "api")
        self.prompt = f"{NODE}{'#' if os.geteuid() == 0 else '$'}"
        self._node = directory / NODE
        self._log, self._pid = directory / "operator.log", directory / "operator.pid"
        self._plane_log, self._plane_pid = directory / "data-plane.log", directory / "data-plane.pid"
        self._probe_port, self._plane_port = free_port(), free_port()

    def open(self) -> None:
        """Start the API."""
        for name in ("data", "srv", "grants", "data-plane"):
            (self._node / name).mkdir(parents=True, exist_ok=True)
        self.api.start()

    def close(self) -> None:
        """End the operator, the data plane and the API; the state stays in the directory."""
        for pid in (self._pid, self._plane_pid):
            if process := recorded(pid):
                process.end()
        self.api.stop()

    def admit_researchers(self, namespace: str) -> Sequence[tuple[str, ...]]:
        """Return nothing: the embedded API has no rules of access."""
        return ()

    def on_node(self, argv: Sequence[str]) -> Done:
        """Run a command here."""
        return self.run(argv)

    def operator_command(self) -> tuple[str, ...]:
        """Return the command with a look every second: a plain directory tells of no changes, as ZFS does."""
        kubeconfig = str(self.api.kubeconfig("operator"))
        listen = f"127.0.0.1:{self._probe_port}"
        plane = ("--grants", str(self._node / "grants"), "--endpoint", f"https://127.0.0.1:{self._plane_port}")
        return (
            *("dsg-operator", "run", "--node", NODE, "--kubeconfig", kubeconfig, "--listen", listen, "--resync", "1"),
            *plane,
        )

    def start_operator(self) -> None:
        """Start `dsg-operator` as this user."""
        self._start(self.operator_command(), self._log, self._pid)

    def start_data_plane(self) -> None:
        """Start `dsg-data-plane` as this user."""
        node, listen = self._node, f"127.0.0.1:{self._plane_port}"
        command = ("dsg-data-plane", "--grants", str(node / "grants"), "--state", str(node / "data-plane"))
        self._start((*command, "--listen", listen), self._plane_log, self._plane_pid)

    @staticmethod
    def _start(command: Sequence[str], log: Path, pid: Path) -> None:
        name, *args = command
        program = Path(sys.executable).parent / name
        if not program.exists():
            raise LabError(f"{program} is missing; `make venv` installs it")
        if (old := recorded(pid)) is not None:
            old.end()
        spawn([str(program), *args], log, pid, tied=True)

    def data_plane_log(self) -> str:
        """Return the log file's content."""
        return self._plane_log.read_text() if self._plane_log.exists() else ""

    def operator_pid(self) -> int:
        """Return the process id."""
        if (found := recorded(self._pid)) is None:
            raise LabError(f"the operator does not run; its log is {self._log}")
        return found.pid

    def operator_log(self) -> str:
        """Return the log file's content."""
        return self._log.read_text() if self._log.exists() else ""

    def pool_storage(self) -> dict[str, Any]:
        """Return a directory on this machine."""
        return {
            "type": "xfs",
            "node": NODE,
            "directory": str(self._node / "data"),
            "mountRoot": str(self._node / "srv"),
        }

    def repository_storage(self, name: str) -> dict[str, Any]:
        """Return a directory below the pool's."""
        return {
            "type": "xfs",
            "node": NODE,
            "directory": self.place(name),
            "mountpoint": str(self._node / "srv" / name),
        }

    def owner(self) -> dict[str, Any]:
        """Return this user, who may own files without being root."""
        return {"uid": os.getuid(), "gid": os.getgid(), "mode": "2770"}

    def place(self, name: str) -> str:
        """Return the repository's directory."""
        return str(self._node / "data" / name)

    @property
    def python(self) -> str:
        """Return the Python that runs this."""
        return sys.executable

    def look(self, name: str) -> Sequence[tuple[str, ...]]:
        """Return commands that show the link, the directories and the owner."""
        return (
            ("ls", "-ln", str(self._node / "srv"), self.place(name)),
            ("stat", "-L", "-c", "%A %u:%g %n", self.mountpoint(name)),
        )

    def look_behind(self, name: str) -> tuple[str, ...]:
        """Return the command that lists the repository's directory with its content."""
        return ("find", self.place(name), "-type", "f")

    def tampering(self, name: str) -> Tampering:
        """Return a chmod of the tree's root."""
        root = self.mountpoint(name)
        return Tampering(
            "Somebody on the node opens the tree to everybody, with the best of intentions.",
            ("chmod", "a+rwx", root),
            ("stat", "-L", "-c", "%a", root),
            "2770",
            "2777",
        )


class LabWorld(World):
    """A real kube-apiserver, and a guest with real OpenZFS as the storage node."""

    introduction = (
        "Everything is real: etcd and kube-apiserver, kubectl, and a storage node, which is a virtual machine with "
        "OpenZFS, a pool named tank, and the operator and data plane from a wheel of this tree, each with its own "
        "limited rights. "
        "Under software emulation each zfs command takes half a second."
    )

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.prompt = f"{NODE}#"
        self._lab = Lab(directory / "lab", (NODE,), tied=True, forwards=(DATA_PLANE_PORT,))
        self.api = self._lab.api
        self._guest = self._lab.node(NODE)

    def open(self) -> None:
        """Start the API server and the node."""
        self._lab.up(operators=False)

    def close(self) -> None:
        """End them, and remove their disks."""
        self._lab.destroy()

    def admit_researchers(self, namespace: str) -> Sequence[tuple[str, ...]]:
        """Return the command that binds the researchers' role."""
        role = ("--clusterrole=dsg-researcher", "--group=researchers")
        return (("kubectl", "create", "rolebinding", "researchers", "-n", namespace, *role),)

    def on_node(self, argv: Sequence[str]) -> Done:
        """Run a command as root in the guest."""
        done = self._guest.run(*argv, check=False)
        return Done(done.returncode, done.stdout + done.stderr)

    def operator_command(self) -> tuple[str, ...]:
        """Return the command; its kubeconfig is in its environment."""
        return ("dsg-operator", "run", "--node", NODE, *self._arguments())

    def _arguments(self) -> tuple[str, ...]:
        return (*_LAB_OPERATOR, *self._guest.data_plane_arguments())

    def start_data_plane(self) -> None:
        """Start the data plane in the guest, as a user of its own; the program must be installed."""
        self._lab.install(NODE)
        self._guest.start_data_plane()

    def data_plane_log(self) -> str:
        """Return its log from the guest."""
        return self._guest.data_plane_log()

    def start_operator(self) -> None:
        """Start the operator in the guest; the first time, it is installed from this tree."""
        if self._guest.installed():
            kubeconfig = self._lab.api.kubeconfig("operator", for_guest=True)
            self._guest.start_operator(NODE, kubeconfig, self._arguments())
        else:
            self._lab.start_operator(NODE, self._arguments())

    def operator_pid(self) -> int:
        """Return the process id in the guest."""
        found = self._guest.daemon_pid("dsg-operator")
        if found is None:
            raise LabError("the operator does not run in the guest")
        return found

    def operator_log(self) -> str:
        """Return its log from the guest."""
        return self._guest.operator_log()

    def pool_storage(self) -> dict[str, Any]:
        """Return part of the guest's pool."""
        return {"type": "zfs", "node": NODE, "pool": POOL, "root": f"{POOL}/dsg", "mountRoot": "/srv/dsg"}

    def repository_storage(self, name: str) -> dict[str, Any]:
        """Return a dataset below the pool's root, with its whole policy."""
        properties: Mapping[str, Any] = {
            "compression": "lz4",
            "recordsize": "128Ki",
            "atime": False,
            "xattr": "sa",
            "quota": "1Gi",
            "refquota": "512Mi",
            "reservation": "none",
        }
        return {
            "type": "zfs",
            "node": NODE,
            "pool": POOL,
            "dataset": self.place(name),
            "mountpoint": f"/srv/dsg/{name}",
            "properties": dict(properties),
        }

    def owner(self) -> dict[str, Any]:
        """Return a numeric user and group."""
        return {"uid": 2000, "gid": 2000, "mode": "2770"}

    def place(self, name: str) -> str:
        """Return the repository's parent dataset."""
        return f"{POOL}/dsg/{name}"

    @property
    def python(self) -> str:
        """Return the guest's."""
        return PYTHON

    def look(self, name: str) -> Sequence[tuple[str, ...]]:
        """Return commands that show datasets, policy, the link and the owner."""
        return (
            ("zfs", "list", "-r", "-o", "name,used,avail,quota,compression,recordsize", self.place(name)),
            ("ls", "-ln", "/srv/dsg"),
            ("stat", "-L", "-c", "%A %u:%g %n", self.mountpoint(name)),
        )

    def look_behind(self, name: str) -> tuple[str, ...]:
        """Return the command that lists the repository's datasets."""
        return ("zfs", "list", "-r", "-o", "name,used,refer,org.hrdag.dsg:repository", self.place(name))

    def tampering(self, name: str) -> Tampering:
        """Return a change of a ZFS property."""
        dataset = self.place(name)
        return Tampering(
            "Somebody on the node turns compression off, to see whether it makes a difference.",
            ("zfs", "set", "compression=off", dataset),
            ("zfs", "get", "-H", "-o", "value", "compression", dataset),
            "lz4",
            "off",
        )
