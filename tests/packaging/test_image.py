"""The container image, built by buildah: what is in it, and that the chart's containers start in it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from lab import container
from tests.e2e.cluster import wait
from tests.packaging.pods import Pod
from tests.packaging.rendered import find, overlay

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="building an image here takes root")]

PYTHON = "/opt/dsg/bin/dsg-data-plane-python"


@pytest.fixture(scope="module")
def builder() -> tuple[container.Builder, str]:
    return container.built()


@pytest.fixture(scope="module")
def root(builder: tuple[container.Builder, str]) -> Iterator[Path]:
    made, image = builder
    with made.mounted(image) as directory:
        yield directory


def run(root: Path, *argv: str, user: int = 0) -> subprocess.CompletedProcess[str]:
    command = ["chroot", f"--userspec={user}:{user}", str(root), *argv]
    environment = {"PATH": "/opt/dsg/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_who_starts_it_without_saying_as_whom_is_not_root(builder: tuple[container.Builder, str]) -> None:
    made, image = builder
    said = json.loads(made.run("inspect", "--type", "image", image))["OCIv1"]["config"]
    assert said["User"] == "2100:2100"
    assert said["Cmd"] == ["dsg-operator", "--help"]


@pytest.mark.parametrize("program", ["dsg-operator", "kubectl-dsg"])
def test_the_programs_run_as_anybody(root: Path, program: str) -> None:
    done = run(root, program, "version", user=65532)
    assert done.returncode == 0, done.stderr


def test_openzfs_userland_is_there(root: Path) -> None:
    done = run(root, "dpkg-query", "--show", "--showformat=${Version}", "zfsutils-linux")
    assert tuple(int(part) for part in done.stdout.split("-")[0].split(".")[:2]) >= (2, 1)
    for program in ("zfs", "zpool", "mount", "umount", "install"):
        assert run(root, "sh", "-c", f"command -v {program}").returncode == 0, program


def test_only_the_data_planes_group_runs_its_python(root: Path) -> None:
    assert run(root, PYTHON, "-c", "1", user=65532).returncode != 0
    assert run(root, PYTHON, "-c", "1", user=2100).returncode == 0


@pytest.mark.parametrize(("kept", "reads"), [("-all,+dac_read_search", True), ("-all", False)])
def test_the_data_planes_python_reads_by_its_capability_alone(root: Path, kept: str, reads: bool) -> None:
    hidden = root / "root" / "hidden"
    hidden.write_text("said")
    hidden.chmod(0o600)
    who = ("setpriv", "--reuid=2100", "--regid=2100", "--clear-groups", f"--bounding-set={kept}")
    done = run(root, *who, PYTHON, "-I", "-c", "print(open('/root/hidden').read())")
    assert (done.returncode == 0, done.stdout.strip()) == (reads, "said" if reads else "")


def test_nothing_of_the_build_is_left(root: Path) -> None:
    for path in ("source", "build", "wheel", "etc/pip.conf", "var/lib/apt/lists/lock"):
        assert not (root / path).exists() or (root / path).stat().st_size == 0, path


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_the_charts_data_plane_starts_in_it(root: Path, tmp_path: Path) -> None:
    workload = find(overlay("production"), "DaemonSet", "dsg-operator")
    spec = workload["spec"]["template"]["spec"]
    spec = {**spec, "containers": [c for c in spec["containers"] if c["name"] == "data-plane"]}
    alone = {**workload, "spec": {**workload["spec"], "template": {**workload["spec"]["template"], "spec": spec}}}
    with Pod(alone, tmp_path, "node-a", image=root) as pod:
        wait("the data plane's probe", lambda: pod.probe("data-plane", "startupProbe") == HTTPStatus.OK, 60)
        said = Path(f"/proc/{pod.running['data-plane'].pid}/status").read_text()
        assert int(said.partition("CapEff:")[2].split()[0], 16) == 1 << 2  # CAP_DAC_READ_SEARCH
        assert (pod.volume("grants") / "server.json").exists()
    assert (pod.volume("audit-data-plane") / "data-plane.jsonl").stat().st_uid == 2100
