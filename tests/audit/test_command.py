"""`dsg-operator audit verify` as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dsg.audit.log import AuditLog, rotated_files
from dsg.audit.record import Entry
from dsg.operator.cli import app


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, "operator", "node-a", rotate_at=3000, sync=lambda fd: None)
    for number in range(20):
        log.append(Entry("transaction.committed", who=f"u{number}"))
    log.close()
    return path


def called(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["audit", "verify", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_a_whole_log_names_its_head_which_holds_from_then_on(log: Path) -> None:
    said = called(str(log))
    assert "can't be seen from the files alone" in said
    head = next(line.removeprefix("head: ") for line in said.splitlines() if line.startswith("head: "))
    again = AuditLog(log, "operator", "node-a", sync=lambda fd: None)
    again.append(Entry("transaction.committed"))
    again.close()
    assert "holds what was expected" in called(str(log), "--expect", head)
    document = json.loads(called(str(log), "--expect", head, "-o", "json"))
    assert document["whole"]
    assert document["records"] > 20
    # Cut back to before the head.
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
    assert "was cut off" in called(str(log), "--expect", head, code=1)


def test_the_first_broken_line_is_named(log: Path) -> None:
    oldest = rotated_files(log)[0]
    lines = oldest.read_bytes().splitlines(keepends=True)
    oldest.write_bytes(b"".join([*lines[:2], lines[2].replace(b"u1", b"u9"), *lines[3:]]))
    said = called(str(log), code=1)
    assert said.splitlines()[0].startswith(f"broken: {oldest}, line 4: record 4 does not follow")


def test_a_wrong_call_is_told(log: Path, tmp_path: Path) -> None:
    called(str(log), "--expect", "17", code=2)
    called(str(tmp_path / "none"), code=2)
    called(str(log), "-o", "xml", code=2)
