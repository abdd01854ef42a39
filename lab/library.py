"""The whole lab: a control plane, storage nodes, and the operator of this tree on each of them."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from lab import binaries, machine, wheel
from lab.controlplane import ControlPlane
from lab.errors import LabError
from lab.image import base, image
from lab.machine import Hardware
from lab.node import StorageNode
from lab.paths import TREE
from lab.state import saved_state

POOL = "tank"
"""The pool that every node of the lab has."""

_OPERATOR_SETTLE = 3.0


class Lab(AbstractContextManager["Lab"]):
    """Control plane in `directory/api`, each node in `directory/<name>`.

    `with Lab(tmp_path, nodes=("node-a", "node-b")) as lab: lab.api.kubectl("alice", "get", "pods")`. A `tied` lab dies
    with this process, others go on until `down`; leaving a `with` block stops either at once.
    """

    def __init__(
        self,
        directory: Path,
        nodes: Sequence[str] = ("node-a",),
        *,
        tied: bool = True,
        forwards: Sequence[int] = (),
        pool_options: Sequence[str] = (),
    ) -> None:
        if len(set(nodes)) != len(nodes) or not nodes:
            raise LabError(
                f"a lab needs one or more nodes with different names; these are {', '.join(nodes) or 'none'}"
            )
        self.directory = directory
        self.api = ControlPlane(directory / "api", tied=tied)
        self.nodes = {name: StorageNode(directory / name, name, tied=tied, forwards=forwards) for name in nodes}
        self._tied = tied
        self._pool_options = tuple(pool_options)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _all(node.kill for node in self.nodes.values())
        self.api.stop()

    def node(self, name: str) -> StorageNode:
        """A node by name. Raises `LabError` for an unknown one."""
        try:
            return self.nodes[name]
        except KeyError as error:
            raise LabError(f"the lab has no node {name!r}; it has {', '.join(self.nodes)}") from error

    def up(self, *, operators: bool = True) -> None:
        """Start what does not run: control plane, nodes, pool `POOL` on each, CRDs and access rules, operators.

        Safe to repeat; a second call changes only what is missing. Raises `LabError`.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._record()
        prefetch()
        _all([self._up_api, *(partial(self._up_node, node) for node in self.nodes.values())])
        if operators:
            _all(partial(self.start_operator, name) for name in self.nodes)

    def _up_api(self) -> None:
        self.api.start()
        self.apply_manifests()

    def _up_node(self, node: StorageNode) -> None:
        node.boot()
        node.create_pool(POOL, *self._pool_options)

    def apply_manifests(self) -> None:
        """Apply the CRDs in `crds/` and wait for them, then the kustomize base `manifests/base`; what the tree has."""
        crds, rights = TREE / "crds", TREE / "manifests" / "base"
        if crds.is_dir():
            how = "-k" if (crds / "kustomization.yaml").exists() else "-f"
            self.api.kubectl("admin", "apply", "--server-side", how, str(crds))
            self.api.kubectl("admin", "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        if rights.is_dir():
            self.api.kubectl("admin", "apply", "--server-side", "-k", str(rights))

    def install(self, name: str) -> None:
        """Install the wheel of this tree on a node where another is, or none; what runs from another is stopped."""
        node, file = self.node(name), wheel.wheel()
        if node.installed() != wheel.digest(file):
            node.stop_operator()
            node.stop_data_plane()
            node.install(file)

    def start_operator(self, name: str, args: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        """Have the operator of this tree run on a node: installs the wheel, and restarts one that runs from another.

        Raises `LabError` with the end of the operator's log when it ends within its first seconds.
        """
        node = self.node(name)
        self.install(name)
        if node.operator_running():
            return
        node.start_operator(name, self.api.kubeconfig("operator", for_guest=True), args, environment)
        deadline = time.monotonic() + _OPERATOR_SETTLE
        while time.monotonic() < deadline:
            if not node.operator_running():
                log = "\n".join(node.operator_log().splitlines()[-20:])
                raise LabError(f"the operator on {name} ended at once. Its log ends:\n{log}")
            time.sleep(0.5)

    def down(self) -> None:
        """Shut everything down in order; the data stays for the next `up`."""
        _all(node.stop for node in self.nodes.values())
        self.api.stop()

    def destroy(self) -> None:
        """Stop at once, and remove the lab's directory with all its data."""
        _all(node.kill for node in self.nodes.values())
        self.api.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _record(self) -> None:
        (self.directory / "lab.json").write_text(json.dumps({"nodes": list(self.nodes)}) + "\n")


def recorded_nodes(directory: Path) -> tuple[str, ...]:
    """The names of the nodes of the lab in a directory; none when there is no lab."""
    try:
        content = json.loads((directory / "lab.json").read_text())
    except FileNotFoundError:
        return ()
    return tuple(content["nodes"])


def prefetch() -> None:
    """Build or find everything slow, so that `up` takes seconds. Raises `LabError`.

    One after the other: each build uses all cores by itself, and two at once would only take each other's memory.
    """
    binaries.etcd()
    binaries.kubectl()
    machine.ensure_tools()
    binaries.kube_apiserver()
    base()
    saved_state(image(), Hardware())


def _all(jobs: Iterable[Callable[[], None]]) -> None:
    work = list(jobs)
    with ThreadPoolExecutor(max_workers=max(1, len(work))) as pool:
        done = [pool.submit(job) for job in work]
    failed = [error for future in done if (error := future.exception())]
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise LabError("several parts failed:\n" + "\n".join(f"- {error}" for error in failed)) from failed[0]
