"""A real kube-apiserver, the operator in this process on its model of ZFS, and what people and tools do to both."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from blake3 import blake3

from benchmarks.reconcile import Bench
from dsg.manifests.changes import encode_change
from dsg.storage.trees import Owning
from dsg.storage.zfs.model import ModelHost, ModelTrees, ModelZfs
from dsg.transactions.metadata import CHANGES, incoming
from lab import binaries
from lab.controlplane import ControlPlane
from tests.gitops.judged import condition, observed
from tests.transactions.ground import Content, change_list

T = TypeVar("T")

KINDS = {"Repository": "repositories", "StoragePool": "storagepools", "SyncTransaction": "synctransactions"}
ARGOCD = ("--field-manager=argocd-controller", "--force-conflicts")
"""How Argo CD applies under ServerSideApply=true."""
FLUX = ("--field-manager=kustomize-controller", "--force-conflicts")
"""How Flux applies (fluxcd/pkg/ssa)."""


def wait(what: str, look: Callable[[], T | None], timeout: float = 60) -> T:
    """Return what `look` returns once that is true; fails with the last answer after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout:.0f} s; last: {answer!r}")
        time.sleep(0.2)
    return answer


class Site(AbstractContextManager["Site"]):
    """One cluster with one storage node."""

    def __init__(self, directory: Path) -> None:
        self.api = ControlPlane(directory)
        self._bench: Bench | None = None

    def __enter__(self) -> Site:
        self.api.start()
        self._bench = Bench(self.api, 0)
        self._bench.prepare()
        self.zfs, self.trees = ModelZfs(self._bench.node), ModelTrees(self._bench.node)
        self.node = self._bench.node
        self.host = ModelHost(self.node)
        self.api.kubectl("admin", "label", "namespace", "research", "team=data")
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self.api.stop()

    def start(self) -> None:
        """Start the operator; it looks at everything each second."""
        assert self._bench is not None
        self._bench.start(resync=1)

    def stop(self) -> None:
        """Stop the operator, if it runs."""
        if self._bench is not None:
            self._bench.stop()

    def apply(self, *objects: Mapping[str, Any], how: tuple[str, ...] = ARGOCD) -> None:
        """Apply objects by server-side apply."""
        manifest = {"apiVersion": "v1", "kind": "List", "items": [dict(obj) for obj in objects]}
        self.api.kubectl("admin", "apply", "--server-side", *how, "-f", "-", input=json.dumps(manifest))

    def differs(self, *objects: Mapping[str, Any], how: tuple[str, ...] = ARGOCD) -> str:
        """Return what `kubectl diff --server-side` shows; empty when nothing differs."""
        manifest = {"apiVersion": "v1", "kind": "List", "items": [dict(obj) for obj in objects]}
        words = ("diff", "--server-side", *how, "-f", "-")
        done = self.api.kubectl("admin", *words, input=json.dumps(manifest), check=False)
        assert done.returncode in {0, 1}, done.stderr
        return done.stdout

    @staticmethod
    def _where(obj: Mapping[str, Any]) -> tuple[str, ...]:
        namespace = obj["metadata"].get("namespace")
        return (KINDS[obj["kind"]], obj["metadata"]["name"], *(("-n", namespace) if namespace else ()))

    def find(self, obj: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return an object as it is now; None when it is gone."""
        words = ("get", *self._where(obj), "-o", "json", "--ignore-not-found", "--show-managed-fields")
        text = self.api.kubectl("admin", *words).stdout
        found: dict[str, Any] | None = json.loads(text) if text.strip() else None
        return found

    def get(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Return an object as it is now."""
        found = self.find(obj)
        assert found is not None, f"{self._where(obj)} is gone"
        return found

    def wait_reason(
        self, obj: Mapping[str, Any], reason: str, type_: str = "Ready", timeout: float = 60
    ) -> dict[str, Any]:
        """Wait until a condition has a reason for the object's present generation; return the object."""

        def look() -> dict[str, Any] | None:
            now = self.get(obj)
            return now if observed(now) and condition(now, type_).get("reason") == reason else None

        try:
            return wait(f"{obj['metadata']['name']}: {type_} with reason {reason}", look, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.get(obj).get('status'), indent=1)}") from None

    def delete(self, *objects: Mapping[str, Any], cascade: str = "foreground") -> None:
        """Ask for deletions as Argo CD's prune does, without waiting."""
        for obj in objects:
            self.api.kubectl("admin", "delete", *self._where(obj), f"--cascade={cascade}", "--wait=false")

    def collect_garbage(self, obj: Mapping[str, Any]) -> bool:
        """Do what the garbage collector does for foreground deletion; return whether the object is gone.

        It belongs to kube-controller-manager, which a mere kube-apiserver lacks. Our objects have no dependents.
        """
        now = self.find(obj)
        if now is None:
            return True
        if now["metadata"].get("finalizers") == ["foregroundDeletion"]:
            body = json.dumps({"metadata": {"finalizers": None, "resourceVersion": now["metadata"]["resourceVersion"]}})
            self.api.kubectl("admin", "patch", *self._where(obj), "--type=merge", "-p", body, check=False)
        return False

    def patch(self, obj: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        """Merge-patch an object."""
        self.api.kubectl("admin", "patch", *self._where(obj), "--type=merge", "-p", json.dumps(body))

    def send(self, transaction: Mapping[str, Any], repository: str, base: Content, wanted: Content) -> None:
        """Put a transaction's content into its stage, as the data plane does."""
        uid = self.get(transaction)["metadata"]["uid"]
        root = f"/srv/dsg/.{repository}/.open/stage-{uid}"
        owning = Owning(0, 0, 0o755)
        for what in wanted.values():
            assert isinstance(what, bytes)
            self.trees.write(root, incoming(blake3(what).hexdigest()), what, mode=0o600, owning=owning)
        lines = b"".join(encode_change(change) for change in change_list(base, wanted))
        self.trees.write(root, CHANGES, lines, mode=0o600, owning=owning)
        self.trees.sync(root)

    def watch(self, obj: Mapping[str, Any]) -> Watching:
        """Note every state of Ready that an object goes through."""
        return Watching(self, obj)


class Watching:
    """A `kubectl get --watch` of one kind, read in a thread."""

    def __init__(self, site: Site, obj: Mapping[str, Any]) -> None:
        argv = [
            *(str(binaries.kubectl()), f"--kubeconfig={site.api.kubeconfig('admin')}"),
            *("get", KINDS[obj["kind"]], "-A", "--watch", "-o", "json", "--output-watch-events"),
        ]
        self._name = obj["metadata"]["name"]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.seen: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        decoder, text = json.JSONDecoder(), ""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text += line
            try:
                event, _ = decoder.raw_decode(text)
            except json.JSONDecodeError:
                continue
            text = ""
            if event["object"]["metadata"]["name"] == self._name:
                ready = condition(event["object"], "Ready")
                self.seen.append(f"{ready.get('status', '-')} {ready.get('reason', '-')}")

    def end(self) -> list[str]:
        """Stop, and return the states in order."""
        self._process.terminate()
        self._thread.join()
        self._process.wait()
        return self.seen
