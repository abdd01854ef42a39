"""Two researchers and `kubectl dsg` on the real parts: real API server, data plane without rights, OpenZFS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dsg.api.access import CERTAIN_AFTER
from lab.binaries import kubectl
from tests.e2e.cluster import NAMESPACE, Cluster, Objects, repository, wait
from tests.e2e.conftest import SLOW, environment
from tests.telemetry.collector import Collector

pytestmark = pytest.mark.lab

CONFLICT = 3
PATIENCE = 180


@pytest.fixture(scope="module")
def plane(cluster: Cluster, researchers: str, traces: Collector) -> Iterator[Cluster]:
    """Have node-a's data plane run, and the operator know of it."""
    node = cluster.node()

    def start() -> None:
        node.stop_operator()
        node.start_data_plane()
        cluster.lab.start_operator("node-a", (*SLOW, *node.data_plane_arguments()), environment(traces))

    start()
    try:
        yield cluster
    finally:
        print(f"--- the data plane's log ends:\n{node.data_plane_log()[-3000:]}")
        node.stop_operator()
        node.stop_data_plane()
        cluster.lab.start_operator("node-a", SLOW, environment(traces))


class Researcher:
    """Somebody with a kubeconfig and a directory."""

    def __init__(self, cluster: Objects, user: str, directory: Path) -> None:
        self.user = user
        self.copy = directory
        beside = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([beside, str(kubectl().parent), os.environ.get("PATH", os.defpath)]),
            "KUBECONFIG": str(cluster.api.kubeconfig(user)),
            "KUBECACHEDIR": str(directory.parent / f"{user}-cache"),
        }

    def start(self, *args: str) -> subprocess.Popen[str]:
        where = self.copy if self.copy.is_dir() else self.copy.parent
        return subprocess.Popen(
            ["kubectl", "dsg", *args],
            cwd=where,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def dsg(self, *args: str, code: int = 0) -> str:
        process = self.start(*args)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, f"kubectl dsg {' '.join(args)} as {self.user}: {process.returncode}\n{said}"
        assert "Traceback" not in said
        return said

    def write(self, path: str, content: str) -> Path:
        file = self.copy / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    def read(self, path: str) -> str:
        return (self.copy / path).read_text()


@pytest.fixture
def people(plane: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Researcher, Researcher, str]:
    """Return alice, with an empty directory, bob, with none, and the name of a new Repository."""
    name = f"rs-{abs(hash(request.node.name)) % 10**6}"
    access = {"writers": {"groups": ["researchers"]}, "admins": {"users": ["bob"]}}
    plane.apply(repository(name, access=access))
    plane.wait_ready(name)
    # Groups count for transactions that are certainly younger than their Repository.
    time.sleep(CERTAIN_AFTER.seconds)
    alice, bob = (Researcher(plane, user, tmp_path / user) for user in ("alice", "bob"))
    alice.copy.mkdir()
    return alice, bob, name


def begun(people: tuple[Researcher, Researcher, str], files: dict[str, str]) -> tuple[Researcher, Researcher, str]:
    """Make a first version of files and have bob clone it."""
    alice, bob, name = people
    for path, content in files.items():
        alice.write(path, content)
    alice.dsg("init", name, "-n", NAMESPACE, "-m", "first")
    bob.dsg("clone", name, str(bob.copy), "-n", NAMESPACE)
    return alice, bob, name


def head(cluster: Cluster, name: str) -> str:
    return str((cluster.get(name).get("status", {}).get("head") or {}).get("version", ""))


def well(researcher: Researcher, name: str) -> None:
    found = json.loads(researcher.dsg("doctor", name, "-n", NAMESPACE, "-o", "json"))
    assert {one["name"]: one["verdict"] for one in found["checks"] if one["verdict"] != "ok"} == {}
    assert {"clock", "data plane"} <= {one["name"] for one in found["checks"]}


def test_a_day_of_two_researchers(plane: Cluster, people: tuple[Researcher, Researcher, str]) -> None:
    well(people[0], people[2])
    alice, bob, name = begun(people, {"input/a.csv": "one\n", "input/b.csv": "two\n"})
    well(alice, name)
    assert bob.read("input/a.csv") == "one\n"
    # Apart: the server puts the later one on top.
    alice.write("input/a.csv", "one, corrected\n")
    bob.write("output/count.txt", "2\n")
    alice.dsg("sync", "-m", "corrected")
    bob.dsg("sync", "-m", "counted")
    assert (bob.read("input/a.csv"), bob.read("output/count.txt")) == ("one, corrected\n", "2\n")
    alice.dsg("sync")
    assert alice.read("output/count.txt") == "2\n"
    # The same file.
    alice.write("input/b.csv", "alice's\n")
    bob.write("input/b.csv", "bob's\n")
    bob.dsg("sync", "-m", "bob's")
    said = alice.dsg("sync", "-m", "alice's", code=CONFLICT)
    assert "input/b.csv" in said
    assert alice.read("input/b.csv") == "alice's\n"
    decisions = alice.copy / ".dsg" / "conflicts.txt"
    decisions.write_text(decisions.read_text().replace("): ?", "): both"))
    alice.dsg("sync", "--continue", "-m", "both")
    bob.dsg("sync")
    kept = {path.read_text() for path in (bob.copy / "input").iterdir()}
    assert {"alice's\n", "bob's\n"} <= kept
    # The past.
    log = json.loads(bob.dsg("log", "-o", "json"))
    assert "corrected" in json.dumps(log)
    bob.dsg("fetch", "input/a.csv", "--version", "s1", "-O", "old.csv")
    assert bob.read("old.csv") == "one\n"
    alice.dsg("restore", "s1", "-m", "back", code=1)
    bob.dsg("restore", "s1", "-m", "back")
    bob.dsg("sync")
    assert bob.read("input/a.csv") == "one\n"
    wait("no transaction is open", lambda: plane.get(name)["status"].get("openTransactions", 0) == 0, 90)
    assert len(plane.sh("zfs", "list", "-H", "-o", "name", "-r", f"tank/dsg/{name}").splitlines()) <= 3


def _facts(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root).as_posix()
        if relative.split("/")[0] == ".dsg" or (path.is_dir() and not path.is_symlink()):
            continue
        status = path.lstat()
        if path.is_symlink():
            found[relative] = str(path.readlink())
        else:
            found[relative] = (path.read_bytes(), status.st_mode & 0o777, status.st_mtime_ns)
    return found


def test_everything_arrives_as_it_was(people: tuple[Researcher, Researcher, str]) -> None:
    alice, bob, name = people
    alice.write("input/plain", "text").chmod(0o640)
    alice.write("input/run.sh", "#!/bin/sh\n").chmod(0o755)
    alice.write("input/empty", "")
    alice.write("input/Übersicht 概要.txt", "é")
    os.utime(alice.copy / "input/plain", ns=(1, 1_234_567_890_123_456_789))
    (alice.copy / "input/link").symlink_to("plain")
    with (alice.copy / "input/sparse").open("wb") as file:
        file.truncate(3 << 20)
        file.seek(1 << 20)
        file.write(b"x")
    (alice.copy / "input/large").write_bytes(os.urandom(9 << 20))
    alice.dsg("init", name, "-n", NAMESPACE, "-m", "first")
    bob.dsg("clone", name, str(bob.copy), "-n", NAMESPACE)
    assert _facts(bob.copy) == _facts(alice.copy)
    with (alice.copy / "input/large").open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"changed")
    (alice.copy / "input/run.sh").chmod(0o700)
    (alice.copy / "input/plain").rename(alice.copy / "input/moved")
    (alice.copy / "input/link").unlink()
    alice.dsg("sync", "-m", "second")
    bob.dsg("sync")
    assert _facts(bob.copy) == _facts(alice.copy)


def test_nobody_else_gets_in(plane: Cluster, people: tuple[Researcher, Researcher, str], tmp_path: Path) -> None:
    _, _, name = begun(people, {"input/a": "secret"})
    outsider = Researcher(plane, "outsider", tmp_path / "outsider")
    said = outsider.dsg("clone", name, str(outsider.copy), "-n", NAMESPACE, code=1)
    assert "forbidden" in said.lower()
    assert not outsider.copy.exists() or not any(
        p.is_file() and p.read_text() == "secret" for p in outsider.copy.rglob("a")
    )


def test_the_data_plane_has_no_rights(plane: Cluster) -> None:
    node = plane.node()
    pid = node.daemon_pid("dsg-data-plane")
    status = dict(line.split(":", 1) for line in plane.sh("cat", f"/proc/{pid}/status").splitlines() if ":" in line)
    assert status["Uid"].split() == ["2100"] * 4
    dac_read_search = 1 << 2
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {dac_read_search}
    assert status["NoNewPrivs"].strip() == "1"
    assert "KUBECONFIG" not in plane.sh("cat", f"/proc/{pid}/environ")
    # What it sees as /dev/zfs is the null device.
    assert plane.sh("stat", "-c", "%t:%T", f"/proc/{pid}/root/dev/zfs") == "1:3"
    assert plane.sh("stat", "-c", "%t:%T", "/dev/zfs") != "1:3"


def _strike(process: subprocess.Popen[str], seconds: float) -> None:
    """Kill a command and all that it has started, unless it ends before."""
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_client_that_is_killed_loses_nothing(people: tuple[Researcher, Researcher, str]) -> None:
    alice, bob, _ = begun(people, {f"input/{n}": str(n) for n in range(20)})
    for number, seconds in enumerate((0.5, 1.5, 2.5, 4.0, 6.0)):
        alice.write(f"input/{number}", f"edited {number}")
        alice.write(f"output/{number}", f"new {number}")
        _strike(alice.start("sync", "-m", f"killed after {seconds} s"), seconds)
        assert alice.read(f"input/{number}") == f"edited {number}"
    alice.dsg("sync", "-m", "at last")
    bob.dsg("sync")
    assert _facts(bob.copy) == _facts(alice.copy)
    assert {bob.read(f"output/{n}") for n in range(5)} == {f"new {n}" for n in range(5)}


@pytest.mark.parametrize("victim", ["operator", "data plane"])
def test_a_server_that_is_killed_is_waited_for(
    plane: Cluster, traces: Collector, people: tuple[Researcher, Researcher, str], victim: str
) -> None:
    alice, bob, name = begun(people, {"input/a": "one"})
    node = plane.node()
    (alice.copy / "input/large").write_bytes(os.urandom(24 << 20))
    sync = alice.start("sync", "-m", "large")
    phases: dict[str, tuple[str, ...]] = {"operator": ("Verifying", "Committing"), "data plane": ("Staging",)}
    wait("the transaction", lambda: _any_phase(plane, name, phases[victim]), 60)
    stop: Callable[[str], None] = node.stop_operator if victim == "operator" else node.stop_data_plane
    stop("KILL")
    if victim == "operator":
        plane.lab.start_operator("node-a", (*SLOW, *node.data_plane_arguments()), environment(traces))
    else:
        node.start_data_plane()
    said, _ = sync.communicate(timeout=PATIENCE)
    if sync.returncode:
        # It may give up; then it says so, and the next one ends it.
        assert "Traceback" not in said
        alice.dsg("sync", "-m", "again")
    bob.dsg("sync")
    assert _facts(bob.copy) == _facts(alice.copy)


def _any_phase(cluster: Cluster, name: str, phases: tuple[str, ...]) -> bool:
    listed = cluster.api.kubectl("admin", "get", "synctransactions", "-n", NAMESPACE, "-o", "json").stdout
    return any(
        item["spec"]["repositoryRef"]["name"] == name and (item.get("status") or {}).get("phase") in phases
        for item in json.loads(listed)["items"]
    )
