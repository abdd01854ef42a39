"""People with a working copy each, of a real repository of directories."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dsg.plugin.cli import app
from dsg.plugin.cluster_remote import Traffic
from dsg.plugin.session import Session
from tests.workcopy.server import FakeRemote, Server

RUNNER = CliRunner()


class Person(FakeRemote):
    def __init__(self, server: Server, author: str) -> None:
        super().__init__(server, author)
        self.traffic = Traffic()


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Desk:
    """A person with a directory, giving commands there."""

    def __init__(self, server: Server, author: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.remote = Person(server, author)
        self.root = root
        self.patch = monkeypatch

    def __call__(self, *words: str, code: int | None = 0, where: Path | None = None) -> Said:
        self.patch.chdir(where or self.root)
        self.patch.setattr(Session, "remote", lambda *_args: self.remote)
        result = RUNNER.invoke(app, list(words))
        said = Said(result.exit_code, result.stdout, result.stderr)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert code in {said.code, None}, f"{words}: {said.code}\n{said.out}{said.err}"
        assert "Traceback" not in said.out + said.err
        return said

    def document(self, *words: str, code: int = 0) -> Any:
        return self(*words, "-o", "json", code=code).document

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)


def conflict(ana: Desk, bob: Desk) -> None:
    ana.write("input/a.csv", "ana's\n")
    ana("sync", "-m", "mine")
    bob.write("input/a.csv", "bob's\n")
