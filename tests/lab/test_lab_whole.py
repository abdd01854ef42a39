"""Control plane and nodes together, from Python and from the command line."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.library import POOL, Lab, recorded_nodes
from lab.node import PYTHON
from lab.paths import TREE

pytestmark = pytest.mark.lab

_ASK = """
import kubernetes
kubernetes.config.load_kube_config("/root/kubeconfig")
print(kubernetes.client.AuthenticationV1Api().create_self_subject_review({}).status.user_info.username)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    whole = Lab(tmp_path_factory.mktemp("whole") / "lab", ("node-a", "node-b"))
    whole.up(operators=False)
    yield whole
    whole.destroy()


def test_each_node_has_its_pool_and_speaks_to_the_api_server_as_the_operator(lab: Lab) -> None:
    for name, node in lab.nodes.items():
        assert node.run("hostname").stdout.strip() == name
        assert node.run("zpool", "list", "-H", "-o", "health", POOL).stdout.strip() == "ONLINE"
        node.copy_in(lab.api.kubeconfig("operator", for_guest=True), "/root/kubeconfig")
        who = node.run(PYTHON, "-c", _ASK).stdout.strip()
        assert who == "system:serviceaccount:dsg-system:dsg-operator"


def test_a_second_up_changes_nothing(lab: Lab) -> None:
    mark = lab.api.audit_mark()
    boots = {name: node.run("cat", "/proc/sys/kernel/random/boot_id").stdout for name, node in lab.nodes.items()}
    lab.up(operators=False)
    assert boots == {n: node.run("cat", "/proc/sys/kernel/random/boot_id").stdout for n, node in lab.nodes.items()}
    changed = [r for r in lab.api.requests("admin", mark) if r.verb in ("create", "delete") and r.code == 201]
    assert changed == []


def test_the_command_line_leaves_a_lab_running_and_takes_it_away(tmp_path: Path) -> None:
    directory = tmp_path / "standing"
    environment = os.environ | {"DSG_LAB_DIR": str(directory)}

    def run(*args: str, code: int = 0) -> str:
        argv = [sys.executable, "-m", "lab", *args]
        done = subprocess.run(argv, cwd=TREE, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    assert "python -m lab up" in run("status", code=1)
    try:
        run("up", "--no-operators")
        assert recorded_nodes(directory) == ("node-a",)
        status = run("status")
        assert "https://127.0.0.1:" in status and "ONLINE" in status and "operator stopped" in status
        script = run("env") + "\nk-alice auth whoami"
        who = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True).stdout
        assert "researchers" in who
        run("down")
        assert run("status").count("stopped") == 2
    finally:
        run("destroy")
    assert not directory.exists()
