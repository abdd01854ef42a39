"""`dsg-operator verify` on a version that researchers have committed to a directory of a real file system."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dsg.operator.cli import app
from dsg.telemetry import logs
from tests.plugin.desk import Desk
from tests.transactions.ground import XfsGround
from tests.workcopy.server import Server


@pytest.fixture(autouse=True)
def _logging_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "configure", lambda level: None)


def called(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["verify", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_a_directory_of_a_version_is_proved(ana: Desk, server: Server, tmp_path: Path) -> None:
    (ana.root / "input/link").symlink_to("a.csv")
    ana("init", "justice", "-m", "first")
    assert isinstance(server.ground, XfsGround)
    root = server.ground.public()
    found = json.loads(called(root, "-o", "json"))
    (version,) = found["versions"]
    assert (found["whole"], version["version"], version["files"], version["links"]) == (True, "s1", 2, 1)
    header = server.head()
    assert header is not None
    assert version["digest"] == header.chain
    assert "all is as it should be" in called(root, "--expect", f"s1:{header.chain}")
    assert "should be s2" in called(root, "--expect", f"s2:{header.chain}", code=1)
    Path(root, "input/a.csv").write_text("two\n")
    said = called(root, code=1)
    assert "WRONG  s1" in said
    assert "'input/a.csv'" in said


def test_what_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    assert "there is no version in this tree" in called(str(tmp_path), code=1)
    assert "is no directory" in called(str(tmp_path / "none"), code=2)
    called(str(tmp_path), "--expect", "s1", code=2)
    called(str(tmp_path), "-o", "xml", code=2)
