"""Progress is for people at a terminal: files, bytes, rate and time left; nothing anywhere else."""

from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from dsg.plugin import progress
from dsg.plugin.output import Output
from dsg.plugin.progress import Bar
from dsg.workcopy.results import Phase, Progress
from tests.plugin.test_process import on_terminal
from tests.plugin.world import World

MIB = 1024**2


def shown(*told: Progress, terminal: bool = True, quiet: bool = False) -> str:
    said = io.StringIO()
    output = Output(quiet=quiet)
    output.err = Console(file=said, force_terminal=terminal, width=150, color_system=None)
    with Bar(output) as bar:
        for one in told:
            bar(one)
            time.sleep(0.02)
        output.note("Waiting for something")
    return said.getvalue()


def test_what_a_person_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    sending = [Progress(Phase.SENDING, n, n * MIB, 10, 10 * MIB) for n in range(1, 6)]
    said = shown(Progress(Phase.SCANNING, 12345), *sending)
    assert "Sending" in said
    assert "5 of 10 files, 5.00 MiB of 10.0 MiB" in said
    assert "iB/s" in said
    assert "Looking at files" not in said.rpartition("Sending")[2]
    assert "Waiting for something" in said


def test_a_total_that_is_not_known_is_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    said = shown(*(Progress(Phase.SCANNING, n * 1000) for n in range(1, 4)))
    assert "3,000 files" in said
    assert " of " not in said


@pytest.mark.parametrize(("terminal", "quiet"), [(False, False), (True, True)])
def test_nothing_elsewhere(terminal: bool, quiet: bool) -> None:
    said = shown(Progress(Phase.SENDING, 1, 1, 1, 1), terminal=terminal, quiet=quiet)
    assert "Sending" not in said


def test_many_tellings_cost_little() -> None:
    started = time.process_time()
    output = Output()
    output.err = Console(file=io.StringIO(), force_terminal=True)
    with Bar(output) as bar:
        for number in range(20_000):
            bar(Progress(Phase.SCANNING, number))
    assert time.process_time() - started < 2


def test_what_is_left_to_send_on_a_terminal(world: World, tmp_path: Path) -> None:
    server, data = tmp_path / "slow", tmp_path / "data"
    server.mkdir()
    data.mkdir()
    for number in range(12):
        (data / f"{number}.csv").write_bytes(bytes([number]) * MIB)
    said = on_terminal(
        world,
        *("init", "justice", "-C", str(data)),
        command=(sys.executable, "-m", "tests.plugin.slowly", str(server)),
        PYTHONPATH=str(Path(__file__).parents[2]),
        COLUMNS="150",
    )
    assert "s1" in said, said
    sending = [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)) if "Sending" in line]
    # The total is known from the beginning; the rate, and with it the time that is left, after a moment.
    assert all(re.search(r"of 12 files, .* of 12\.0 MiB", line) for line in sending)
    assert any(re.search(r"[0-9.]+ MiB/s +00:0[0-9]", line) for line in sending), sending
