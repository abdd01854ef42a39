"""What a kubelet does with the chart's DaemonSet, done for a storage node of the lab, which has none.

The containers' own commands, arguments and variables are run, with a token of the pod's ServiceAccount; so what the
chart says is what is tried. The image is the node's own Python with the wheel of this tree.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lab.credentials import write_private
from lab.errors import LabError
from lab.library import Lab
from lab.node import StorageNode

_NAMESPACE = "dsg-system"
_VARIABLE = re.compile(r"\$\(([A-Z_]+)\)")
_FIELDS = ("spec.nodeName", "metadata.namespace")
_BIN = "/opt/dsg/bin"


def _variables(container: Mapping[str, Any], node: str, here: Mapping[str, str]) -> dict[str, str]:
    known = dict(zip(_FIELDS, (node, _NAMESPACE), strict=True))
    found = {}
    for one in container.get("env", []):
        value = one.get("value")
        found[one["name"]] = known[one["valueFrom"]["fieldRef"]["fieldPath"]] if value is None else value
    return {name: here.get(value, value) for name, value in found.items()}


def _arguments(container: Mapping[str, Any], variables: Mapping[str, str]) -> list[str]:
    return [_VARIABLE.sub(lambda name: variables[name[1]], text) for text in container.get("args", [])]


class Kubelet:
    """Starts a node's pod once the DaemonSet is there."""

    def __init__(self, lab: Lab, node: str, here: Mapping[str, str]) -> None:
        """`here` says what stands in this place for values of variables, such as an example's address."""
        self._lab, self._node, self._here = lab, node, here
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kubelet-{node}")
        self.failure: Exception | None = None

    def __enter__(self) -> Kubelet:
        spec = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._node}}
        self._lab.api.kubectl("admin", "create", "-f", "-", input=json.dumps(spec))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._end.wait(1.0):
                if pod := self._pod():
                    self._start(pod)
                    return
        except (LabError, KeyError) as error:
            self.failure = error

    def _pod(self) -> dict[str, Any] | None:
        """Return the pod's spec, where the DaemonSet is there and the node has the labels that it selects."""
        found = self._lab.api.kubectl(
            *("admin", "get", "daemonset", "dsg-operator", "-n", _NAMESPACE, "-o", "json"), check=False
        )
        if found.returncode != 0:
            return None
        pod: dict[str, Any] = json.loads(found.stdout)["spec"]["template"]["spec"]
        node = json.loads(self._lab.api.kubectl("admin", "get", "node", self._node, "-o", "json").stdout)
        labels = node["metadata"].get("labels", {})
        return pod if all(labels.get(key) == value for key, value in pod["nodeSelector"].items()) else None

    def _start(self, pod: Mapping[str, Any]) -> None:
        containers = {one["name"]: one for one in pod["containers"]}
        node: StorageNode = self._lab.node(self._node)
        self._lab.install(self._node)
        plane = containers["data-plane"]
        for made in pod["initContainers"]:
            node.run("sh", "-c", 'mkdir -p "${0%/*}"', made["command"][-1])
            node.run(*made["command"])
        node.start_data_plane(_arguments(plane, _variables(plane, self._node, self._here)))
        operator = containers["operator"]
        program = [f"{_BIN}/{operator['command'][0]}", *operator["command"][1:]]
        token = self._lab.api.kubectl("admin", "create", "token", pod["serviceAccountName"], "-n", _NAMESPACE).stdout
        variables = _variables(operator, self._node, self._here)
        content = self._kubeconfig(token.strip()).read_text()
        node.run("sh", "-c", "umask 077; mkdir -p /etc/dsg; cat > /etc/dsg/kubeconfig", input=content)
        # A pod finds its token by itself; a process beside no pod is told where.
        arguments = [*_arguments(operator, variables), "--kubeconfig=/etc/dsg/kubeconfig"]
        node.start_daemon("dsg-operator", [*program, *arguments], variables)

    def _kubeconfig(self, token: str) -> Path:
        made = yaml.safe_load(self._lab.api.kubeconfig("operator", for_guest=True).read_text())
        made["users"][0]["user"] = {"token": token}
        path = self._lab.directory / "pod.kubeconfig.yaml"
        write_private(path, yaml.safe_dump(made).encode())
        return path
