"""Whatever was done to `.dsg` by hand, every command ends with a sentence, and never with a fault."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugin.desk import Desk


def spoil(*parts: str) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        for path in root.glob("/".join(parts)):
            path.write_bytes(b"\x00 spoilt {")

    return do


def remove(*parts: str) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        for path in root.glob("/".join(parts)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return do


def a_file_for(name: str) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        shutil.rmtree(root / ".dsg" / name, ignore_errors=True)
        (root / ".dsg" / name).write_text("in the way")

    return do


def interrupted(root: Path) -> None:
    (root / ".dsg" / "sync").mkdir(exist_ok=True)
    (root / ".dsg" / "sync" / "journal.json").write_text('{"phase": "flying"}')


def a_pipe(root: Path) -> None:
    os.mkfifo(root / "input" / "pipe")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "state": spoil(".dsg", "base", "state.json"),
    "nodes": spoil(".dsg", "base", "nodes", "*"),
    "no nodes": remove(".dsg", "base", "nodes"),
    "history": spoil(".dsg", "base", "history", "*"),
    "no history": remove(".dsg", "base", "history"),
    "no base": remove(".dsg", "base"),
    "scan": spoil(".dsg", "scan.db"),
    "origin": spoil(".dsg", "origin.yaml"),
    "conflicts": spoil(".dsg", "conflicts.txt"),
    "journal": interrupted,
    "a file for base": a_file_for("base"),
    "a file for sync": a_file_for("sync"),
    "a file for store": a_file_for("store"),
    "a pipe": a_pipe,
    "no data": remove("input"),
}
COMMANDS = (
    ["status"],
    ["sync", "--dry-run"],
    ["log"],
    ["ls"],
    ["diff"],
    ["blame", "input/a.csv"],
    ["validate"],
    ["conflicts"],
    ["clean"],
    ["sync", "--abort"],
    ["sync", "--continue"],
    ["sync"],
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_is_a_fault(ana: Desk, bob: Desk, damage: str) -> None:
    DAMAGES[damage](bob.root)
    for words in COMMANDS:
        said = bob(*words, code=None)
        assert "a fault of kubectl-dsg" not in said.err, f"{words}: {said.err}"
        assert said.code in {0, 1, 3}
        if said.code == 1 and words[0] != "validate":
            assert said.err.startswith("kubectl dsg: ")
