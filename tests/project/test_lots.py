"""What `make e2e` leaves out where time is short."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.paths import TREE

INI = """[pytest]
markers =
    lot: may be left out
    soak: by name only
"""
CONFTEST = """
from tests.lots import asked_for

def pytest_configure(config):
    if (lots := asked_for()) is not None:
        config.pluginmanager.register(lots)
"""
ALWAYS = "def test_always(): pass\n"
SOME = """
import pytest
{mark}
@pytest.fixture(scope="module")
def dear():
    with open("dear", "a") as made:
        made.write("once ")

def test_of_the_file(dear): pass

@pytest.mark.lot
@pytest.mark.parametrize("number", range(6))
def test_alone(dear, number): pass

@pytest.mark.soak
def test_soak(dear): pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_a_file_of_lots.py").write_text(SOME.format(mark="pytestmark = pytest.mark.lot"))
    (tmp_path / "test_some.py").write_text(SOME.format(mark=""))
    (tmp_path / "test_then.py").write_text(ALWAYS)
    return tmp_path


def run(folder: Path, until: float | None, seed: int = 7, *more: str) -> tuple[list[str], list[str], str]:
    """Return the names of tests that passed, in their order, of those that were skipped, and all that was said."""
    environment = {**os.environ, "PYTHONPATH": str(TREE)}
    environment |= {"DSG_LOT_UNTIL": str(until), "DSG_LOT_SEED": str(seed)} if until is not None else {}
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *more]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    told = re.findall(r"^(test_\w+)\.py::(\S+) (PASSED|SKIPPED)", done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stdout + done.stderr
    named = {word: [f"{file}::{test}" for file, test, how in told if how == word] for word in ("PASSED", "SKIPPED")}
    return named["PASSED"], named["SKIPPED"], done.stdout


def test_with_time_a_share_is_drawn_and_what_must_run_comes_first(folder: Path) -> None:
    passed, skipped, said = run(folder, time.time() + 600)
    assert skipped == []
    files = list(dict.fromkeys(name.partition("::")[0] for name in passed))
    assert files == ["test_some", "test_then", "test_a_file_of_lots"]
    for file in ("test_some", "test_a_file_of_lots"):
        assert len([name for name in passed if name.startswith(f"{file}::test_alone")]) == 2, said
        assert f"{file}::test_of_the_file" in passed
    assert "::test_soak" not in "".join(passed)
    left_out = [line for line in said.splitlines() if line.startswith("left out by lot")]
    assert sum("::test_alone[" in line for line in left_out) == 8
    assert sum("::test_soak" in line for line in left_out) == 2
    assert len(left_out) == 10
    side_by_side = run(folder, time.time() + 600, 7, "-n", "2")[2]
    assert [line for line in side_by_side.splitlines() if line.startswith("left out by lot")] == left_out


def test_another_lot_draws_others(folder: Path) -> None:
    drawn = {tuple(run(folder, time.time() + 600, seed)[0]) for seed in (1, 2, 3)}
    assert len(drawn) > 1
    assert run(folder, time.time() + 600, 1)[0] == run(folder, time.time() + 600, 1)[0]


def test_when_it_is_too_late_what_must_run_still_runs_and_nothing_is_prepared_for_the_rest(folder: Path) -> None:
    passed, skipped, _ = run(folder, time.time() - 1)
    assert passed == ["test_some::test_of_the_file", "test_then::test_always"]
    assert len(skipped) == 2 + 3
    assert (folder / "dear").read_text() == "once "


def test_without_lots_nothing_is_left_out(folder: Path) -> None:
    passed, skipped, _ = run(folder, None)
    assert len(passed) == 2 * 8 + 1
    assert skipped == []
