"""The demonstration itself: the story, the shell, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import specs
from demo.place import Place
from demo.specs import REPOSITORY
from demo.state import State, until
from demo.world import OPERATOR_NAMESPACE, LocalWorld
from lab.errors import LabError
from lab.paths import TREE
from lab.processes import recorded

pytestmark = pytest.mark.xdist_group("demo")


def demo(directory: Path, *args: str, shell: str = "") -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "demo", "--directory", str(directory), *args]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"} | ({"SHELL": shell} if shell else {})
    return subprocess.Popen(
        argv, cwd=TREE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def operator_is_gone(directory: Path) -> bool:
    return recorded(directory / "demo" / "operator.pid") is None


def test_the_story_holds(tmp_path: Path) -> None:
    process = demo(tmp_path)
    text, _ = process.communicate(timeout=170)
    assert process.returncode == 0, text
    assert "✘" not in text
    assert text.count("✔") == 15
    assert "in all" in text
    assert 'strict decoding error: unknown field "spec.datadirs"' in text
    assert "Keep the repository on zfs or xfs" in text
    assert operator_is_gone(tmp_path)


def test_the_shell_has_everything_running_and_ends_it(tmp_path: Path) -> None:
    script = tmp_path / "shell"
    script.write_text(
        "#!/bin/sh\nkubectl get repositories\nkubectl patch repository justice --type=merge "
        '-p \'{"spec":{"suspend":true}}\'\nexit 3\n'
    )
    script.chmod(0o755)
    for _ in range(2):
        process = demo(tmp_path, "--shell", shell=str(script))
        text, _ = process.communicate(timeout=120)
        assert process.returncode == 3, text
        assert "Reconciled" in text
        assert operator_is_gone(tmp_path)
    assert "patched (no change)" in text, "the second shell finds what the first has left"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_story_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    process = demo(tmp_path)
    pid_file = tmp_path / "demo" / "operator.pid"
    until("the operator runs", lambda: recorded(pid_file), 60)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert operator_is_gone(tmp_path)


def test_a_killed_story_takes_its_operator_along(tmp_path: Path) -> None:
    process = demo(tmp_path)
    pid_file = tmp_path / "demo" / "operator.pid"
    operator = until("the operator runs", lambda: recorded(pid_file), 60)
    process.kill()
    process.communicate(timeout=30)
    assert operator.wait(10)


def test_only_one_at_a_time(tmp_path: Path) -> None:
    with Place(tmp_path), pytest.raises(LabError, match="another demonstration is running"), Place(tmp_path):
        pass


def test_a_fresh_place_replaces_only_its_own(tmp_path: Path) -> None:
    with Place(tmp_path) as place:
        first = place.fresh()
        (first / "file").write_text("old")
        assert place.current() == first
        assert not (place.fresh() / "file").exists()
        (first / ".mark").write_text("somebody else's")
        (first / "theirs").write_text("")
        place.fresh()
        assert (first / "theirs").exists()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LocalWorld]:
    with LocalWorld(tmp_path) as world:
        world.open()
        objects = (specs.NAMESPACE_SPEC, specs.pool(world), specs.repository(world))
        text = "---\n".join([OPERATOR_NAMESPACE.read_text(), *map(specs.text, objects)])
        world.api.kubectl("admin", "apply", "-f", "-", input=text)
        yield world


def test_the_operator_survives_the_api(world: LocalWorld) -> None:
    """The API goes away, and comes back without any memory of changes; meanwhile the node drifts."""
    world.start_operator()
    state = State(world)
    state.wait_reason(REPOSITORY, "Reconciled")
    pid = world.operator_pid()
    world.api.stop()
    tampering = world.tampering(REPOSITORY)
    world.on_node(tampering.change)
    until("the drift is set back without an API", lambda: _is(world, tampering.declared))
    time.sleep(1)
    world.api.restart() if world.api.running else world.api.start()
    mark = world.api.audit_mark()
    assert world.api.kubectl("admin", "delete", "repository", REPOSITORY, "-n", "research").returncode == 0
    until("the operator has told where the data is", lambda: state.events(REPOSITORY, "Retained"))
    assert world.operator_pid() == pid
    assert state.operator_requests(mark)["create events"] >= 1


def _is(world: LocalWorld, value: str) -> bool:
    return world.on_node(world.tampering(REPOSITORY).look).text.strip() == value
