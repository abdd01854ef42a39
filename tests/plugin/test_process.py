"""The script as a process: signals, pipes, terminals, faults."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dsg.plugin.cli import app
from tests.plugin.world import World, repository

RUNNER = CliRunner()
SCRIPT = Path(sys.executable).with_name("kubectl-dsg")


def start(world: World, *words: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(SCRIPT), *words],
        env={**world.environment(), **more},
        cwd=world.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_what_is_open_and_ends_with_130(world: World, number: signal.Signals) -> None:
    world.put(repository(head=1))
    world.operator("Read/Stage", {"phase": "Pending", "reason": "RepositoryNotReady", "message": "the pool is away"})
    process = start(world, "clone", "justice")
    until(lambda: any(one.get("looks") for one in world.transactions()))
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in out + err
    assert [one["spec"]["intent"] for one in world.transactions()] == ["Abort"]


def test_a_reader_that_goes_away_is_no_fault(world: World) -> None:
    for number in range(40):
        world.put(repository(f"r{number}", head=1))
    process = start(world, "repos", "-o", "yaml")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(30) == 0


def on_terminal(world: World, *words: str, command: Sequence[str] = (str(SCRIPT),), **more: str) -> str:
    """Return what a command writes to a terminal."""
    main, side = pty.openpty()
    environment = {**world.environment(), "TERM": "xterm-256color", "COLUMNS": "100", **more}
    process = subprocess.Popen(
        [*command, *words], env=environment, cwd=world.home, stdin=side, stdout=side, stderr=side
    )
    os.close(side)
    said = b""
    while select.select([main], [], [], 30)[0]:
        try:
            more_ = os.read(main, 65536)
        except OSError:
            break
        said += more_
    process.wait(30)
    os.close(main)
    return said.decode()


def test_colour_on_a_terminal_alone(world: World) -> None:
    world.put(repository(head=1))
    assert "\x1b[32m" in on_terminal(world, "repos")
    assert "\x1b[3" not in on_terminal(world, "repos", NO_COLOR="1")


def test_a_long_line_is_neither_wrapped_nor_cut_in_a_pipe(world: World) -> None:
    name = "a" * 63
    world.put(repository(name, head=1))
    out, _ = start(world, "repos", "-v", COLUMNS="40").communicate(timeout=30)
    assert all(len(line.split()) > 5 for line in out.splitlines())
    assert name in out
    assert "\x1b" not in out


def test_a_fault_is_a_sentence(world: World, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import dsg.plugin.kubectl as k\ndef f(*a, **b): raise ZeroDivisionError('boom')\nk.Kubectl.list = f\n"
    )
    out, err = (process := start(world, "repos", PYTHONPATH=str(tmp_path))).communicate(timeout=30)
    assert process.returncode == 1
    assert "a fault of kubectl-dsg itself: ZeroDivisionError: boom" in err
    assert "DSG_DEBUG=1" in err
    assert "Traceback" not in out + err


def test_debug_shows_where(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fails("get", "error: the moon is full")
    monkeypatch.setenv("DSG_DEBUG", "1")
    assert "Traceback" in RUNNER.invoke(app, ["repos"]).stderr
