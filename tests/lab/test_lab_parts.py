"""The small parts of the lab that need no guest."""

import io
import json
import socket
import tarfile
import threading
from pathlib import Path

import pytest

from lab import image, machine, node, system, wheel
from lab.errors import LabError
from lab.image import Image
from lab.library import Lab
from lab.qmp import monitor


def names(archive: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as content:
        return set(content.getnames())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for file in (
        "pyproject.toml",
        "tests/conftest.py",
        "tests/a/conftest.py",
        "tests/a/test_x.py",
        "tests/b/test_y.py",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("")
    (tmp_path / "tests/a/__pycache__").mkdir()
    (tmp_path / "tests/a/__pycache__/test_x.pyc").write_text("")
    return tmp_path


def test_tests_travel_with_the_conftests_on_their_way_and_nothing_else(tree: Path) -> None:
    expected = {"pyproject.toml", "tests/conftest.py", "tests/a/conftest.py", "tests/a/test_x.py"}
    assert names(node.pack_tests(["tests/a/test_x.py::test_one"], tree)) == expected
    assert names(node.pack_tests(["tests/a"], tree)) == expected


@pytest.mark.parametrize("path", ["tests/nothing", "../outside"])
def test_tests_that_are_not_in_the_tree_are_refused(tree: Path, path: str) -> None:
    with pytest.raises(LabError, match="there is no"):
        node.pack_tests([path], tree / "tests")


def test_the_guest_gets_the_wheels_dependencies_and_what_runs_tests(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\ndependencies = ["b>=1"]\n[project.optional-dependencies]\noperator = ["kopf"]\nmodel = ["lupa"]\n'
        'test = ["pytest>=8", "pytest-xdist>=3", "hypothesis>=6", "mypy"]\nother = ["x"]\n'
    )
    assert image.requirements(project) == ["b>=1", "hypothesis>=6", "kopf", "lupa", "pytest>=8"]


def test_the_machine_of_a_saved_state_differs_from_a_nodes_in_ports_alone() -> None:
    built, hardware = Image(Path("/image"), "key"), machine.Hardware()
    one = machine.arguments(built, hardware, {22: 2222})
    two = machine.arguments(built, hardware, {22: 2223, 9090: 2224})
    differing = [pair for pair in zip(one, two, strict=True) if pair[0] != pair[1]]
    assert len(differing) == 1 and differing[0][0].startswith("user,")


def test_every_forward_is_bound_to_loopback() -> None:
    argv = machine.arguments(Image(Path("/image"), "key"), machine.Hardware(), {22: 2222, 80: 2223})
    forwards = [part for part in argv[argv.index("-netdev") + 1].split(",") if part.startswith("hostfwd=")]
    assert forwards == ["hostfwd=tcp:127.0.0.1:2222-:22", "hostfwd=tcp:127.0.0.1:2223-:80"]


def test_the_wheel_is_made_of_the_package_and_the_projects_description(tmp_path: Path) -> None:
    for file in ("pyproject.toml", "README.md", "controller/dsg/x.py", "controller/dsg/__pycache__/x.pyc", "lab/y.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("")
    assert {str(f.relative_to(tmp_path)) for f in wheel.tree_files(tmp_path)} == {
        "pyproject.toml",
        "README.md",
        "controller/dsg/x.py",
    }


def test_a_missing_program_is_named_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LabError, match="apt-get install --no-install-recommends some-package"):
        system.ensure_tools({"no-such-program-anywhere": "some-package", "sh": "dash"})


@pytest.mark.parametrize("nodes", [(), ("a", "a")])
def test_a_lab_needs_nodes_with_different_names(tmp_path: Path, nodes: tuple[str, ...]) -> None:
    with pytest.raises(LabError, match="different names"):
        Lab(tmp_path, nodes)


def test_an_unknown_node_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no node 'node-z'; it has node-a"):
        Lab(tmp_path).node("node-z")


def test_a_node_that_was_never_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="there is no node in"):
        node.StorageNode(tmp_path / "n").run("true")


class FakeQemu:
    """Listens like QEMU and gives prepared answers, each a list of lines, to the requests after the greeting."""

    def __init__(self, path: Path, answers: list[list[dict[str, object]]]) -> None:
        self.requests: list[object] = []
        # The first request is the negotiation of capabilities.
        accepted: list[dict[str, object]] = [{"return": {}}]
        self._answers = [accepted, *answers]
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        channel, _ = self._server.accept()
        with channel, channel.makefile("rb") as lines:
            channel.sendall(b'{"QMP": {}}\n')
            for answer in self._answers:
                self.requests.append(json.loads(lines.readline()))
                for message in answer:
                    channel.sendall(json.dumps(message).encode() + b"\n")
            lines.read()
        self._server.close()


def test_qmp_answers_events_and_refusals_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    qemu = FakeQemu(
        path,
        [
            [{"event": "STOP"}, {"return": {"status": "running"}}],
            [{"error": {"class": "GenericError", "desc": "no such disk"}}],
        ],
    )
    with monitor(path) as channel:
        assert channel.execute("query-status", some_name=1) == {"status": "running"}
        assert channel.wait_event("STOP", timeout=5)["event"] == "STOP"
        with pytest.raises(LabError, match="QEMU refused device_del: no such disk"):
            channel.execute("device_del")
        with pytest.raises(LabError, match="did not report RESET"):
            channel.wait_event("RESET", timeout=0.05)
    assert qemu.requests[1] == {"execute": "query-status", "arguments": {"some-name": 1}}


@pytest.mark.parametrize("unread", [False, True])
def test_a_qemu_that_ends_is_told_as_that(tmp_path: Path, unread: bool) -> None:
    path = tmp_path / "qmp.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def end() -> None:
        channel, _ = server.accept()
        with channel:
            channel.sendall(b'{"QMP": {}}\n')
            if not unread:
                # Closed with a request that nobody has read, the connection is reset.
                channel.recv(1 << 16)

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(LabError, match="it has ended, or ends now"), monitor(path) as channel:
        channel.execute("anything")
    thread.join()
    server.close()


def test_qmp_works_in_a_folder_with_a_long_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.chdir(folder)
    FakeQemu(Path("qmp.sock"), [[{"return": 1}]])
    with monitor(folder / "qmp.sock") as channel:
        assert channel.execute("anything") == 1


def test_no_qemu_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no QEMU listens"), monitor(tmp_path / "qmp.sock", timeout=0.05):
        pass
