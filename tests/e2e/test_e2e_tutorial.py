"""A platform engineer follows the tutorial to the letter: helm, a real API server, a real storage node."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import tools
from lab.binaries import kubectl
from lab.library import POOL, Lab
from lab.node import DATA_PLANE_PORT
from lab.paths import TREE
from tests.docs.page import Command
from tests.docs.reader import Reader
from tests.e2e.kubelet import Kubelet

pytestmark = pytest.mark.lab

NODE = "node-a"
ENDPOINT = "https://{node}.storage.example.org:8443"


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Lab]:
    """An API server that knows nothing of this project, and a storage node with a pool."""
    lab = Lab(tmp_path / "lab", (NODE,), forwards=(DATA_PLANE_PORT,))
    try:
        lab.directory.mkdir(mode=0o700)
        lab.api.start()
        node = lab.node(NODE)
        node.boot()
        node.create_pool(POOL)
        yield lab
    finally:
        print(f"--- the operator's log ends:\n{lab.node(NODE).operator_log()[-4000:]}")
        lab.destroy()


def test_an_hour_to_a_running_storage_node(bare: Lab, tmp_path: Path) -> None:
    node = bare.node(NODE)
    here = {ENDPOINT: f"https://127.0.0.1:{node.forwarded(DATA_PLANE_PORT)}"}

    def on_node(_name: str, command: str) -> tuple[int, str]:
        done = node.run(*shlex.split(command), check=False)
        return done.returncode, done.stdout + done.stderr

    desk = tmp_path / "desk"
    desk.mkdir()
    (desk / "charts").symlink_to(TREE / "charts")
    path = [str(Path(sys.executable).parent), str(kubectl().parent), str(tools.helm().parent)]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([*path, os.environ.get("PATH", os.defpath)]),
        "KUBECONFIG": str(bare.api.kubeconfig("admin")),
        "ALICE": str(bare.api.kubeconfig("alice")),
        "BOB": str(bare.api.kubeconfig("bob")),
        "HELM_CACHE_HOME": str(tmp_path / "helm"),
        "HELM_CONFIG_HOME": str(tmp_path / "helm"),
        "HELM_DATA_HOME": str(tmp_path / "helm"),
    }
    reader = Reader(desk, environment, on_node=on_node)
    with Kubelet(bare, NODE, here) as kubelet:
        try:
            assert reader.follow(TREE / "docs" / "tutorials" / "platform.md") > 35
            the_readme_is_true(reader, desk, environment)
        finally:
            reader.close()
            assert kubelet.failure is None


def the_readme_is_true(admin: Reader, desk: Path, environment: dict[str, str]) -> None:
    """Have the administrator and a researcher do what the README shows, in the cluster that the tutorial has made."""

    def research(command: Command) -> bool:
        return "kubectl dsg" in command.text

    readme = TREE / "README.md"
    done = admin.follow(readme, lambda command: not research(command))
    alice = Reader(desk, {**environment, "KUBECONFIG": environment["ALICE"], "HOME": str(desk)})
    try:
        assert done + alice.follow(readme, research) == 6
    finally:
        alice.close()
