"""Completion, by the shells themselves, as people use it. zsh and fish come from Debian in the lab tier."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from dsg.plugin.cli import COMMANDS, app
from dsg.plugin.commands.completion import answer
from tests.plugin.test_process import SCRIPT
from tests.plugin.world import World, repository

RUNNER = CliRunner()
SHELLS = [
    "bash",
    pytest.param("zsh", marks=pytest.mark.lab),
    pytest.param("fish", marks=pytest.mark.lab),
]
START = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i"),
}
SET_UP = {
    "bash": "bind 'set enable-bracketed-paste off'; source ./script; PS1='ready''> '",
    "zsh": "autoload -Uz compinit; compinit -D -u; source ./script; PS1='ready''> '",
    "fish": "source ./script; function fish_prompt; echo 'ready''> '; end",
}
TIMEOUT = 30.0
_CONTROL = re.compile(r"\x07|\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def shell(request: pytest.FixtureRequest, world: World) -> str:
    """A shell that is here, and its script beside the cluster."""
    name: str = request.param
    if name != "bash":
        from lab.system import ensure_tools

        ensure_tools({name: name})
    (world.home / "script").write_text(RUNNER.invoke(app, ["completion", name]).stdout)
    world.put(repository("justice"))
    return name


def environment(world: World) -> dict[str, str]:
    path = os.pathsep.join([str(SCRIPT.parent), os.environ["PATH"]])
    home = {"HOME": str(world.home), "XDG_CONFIG_HOME": str(world.home), "XDG_DATA_HOME": str(world.home)}
    return {**world.environment(), **home, "PATH": path, "TERM": "xterm", "COLUMNS": "150", "LC_ALL": "C.UTF-8"}


class Typing:
    """Somebody at a shell."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def type(self, text: str, wanted: str) -> None:
        """Type, and wait until the terminal shows something."""
        os.write(self._descriptor, text.encode())
        end, seen = time.monotonic() + TIMEOUT, ""
        while wanted not in seen:
            left = end - time.monotonic()
            assert left > 0, f"{wanted!r} did not come after {text!r}: {seen!r}"
            if select.select([self._descriptor], [], [], left)[0]:
                seen += _CONTROL.sub("", os.read(self._descriptor, 65536).decode(errors="replace"))


@contextmanager
def at(shell: str, world: World) -> Iterator[Typing]:
    main, side = pty.openpty()
    process = subprocess.Popen(
        START[shell],
        env=environment(world),
        cwd=world.home,
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    try:
        typing = Typing(main)
        typing.type(f"{SET_UP[shell]}\n", "ready> ")
        yield typing
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        os.close(main)


@pytest.mark.parametrize("shell", SHELLS, indirect=True)
def test_the_script_parses(shell: str, world: World) -> None:
    done = subprocess.run(
        [shell, "-n", "script"], env=environment(world), cwd=world.home, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", pytest.param("zsh", marks=pytest.mark.lab)], indirect=True)
def test_what_somebody_types_is_completed(shell: str, world: World) -> None:
    with at(shell, world) as typing:
        typing.type("kubectl-dsg sync --conti\t", "--continue")
        typing.type("\x15kubectl-dsg clone ju\t", "justice")


@pytest.mark.lab
@pytest.mark.parametrize("shell", ["fish"], indirect=True)
def test_what_fish_completes(shell: str, world: World) -> None:
    (world.home / "some-directory").mkdir()

    def complete(line: str) -> list[str]:
        argv = [shell, "--no-config", "-c", 'source script; complete -C "$argv[1]"', line]
        done = subprocess.run(argv, env=environment(world), cwd=world.home, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.splitlines()

    assert complete("kubectl-dsg sync --conti") == [
        "--continue\tUse the decisions about conflicts in .dsg/conflicts.txt"
    ]
    assert complete("kubectl-dsg conflicts --keep th") == ["theirs"]
    assert complete("kubectl-dsg clone ju") == ["justice"]
    assert complete("kubectl-dsg log -C some-d") == ["some-directory/"]
    assert [line.partition("\t")[0] for line in complete("kubectl-dsg s")] == ["status", "support", "sync"]
    assert complete("kubectl-dsg sync ") == []


def test_what_completes_a_command(world: World) -> None:
    world.put(repository("justice"))

    def complete(*words: str) -> list[str]:
        return list(answer(COMMANDS, words))

    assert complete("sy") == ["sync\tSend what you changed, and bring what others changed: all of it, or nothing", ":4"]
    assert complete("sync", "--con")[0].startswith("--continue\t")
    assert complete("ls", "-o", "") == ["text", "json", "yaml", ":4"]
    assert complete("conflicts", "--keep", "") == ["mine", "theirs", "both", ":4"]
    assert complete("clone", "ju") == ["justice", ":0"]
    assert complete("clone", "-n", "other", "ju") == [":0"]
    assert complete("clone", "justice", "x") == [":0"]
    assert complete("log", "-C", "") == [":0"]


def test_the_hook_of_kubectl_is_a_script() -> None:
    script = RUNNER.invoke(app, ["completion", "kubectl"]).stdout
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    assert script.endswith('exec kubectl-dsg __complete "$@"\n')
