"""What docs/migration.md says is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dsg.api.load import parse_object
from dsg.migration.findings import MEANING, Kind
from dsg.migration.provenance import parse
from dsg.migration.shapes import Shape
from dsg.plugin.cli import app
from tests.migration.shapes import REPOSITORY

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()


def rows(after: str) -> dict[str, list[str]]:
    """Return the rows of the first table after a heading, by their first cell."""
    lines = PAGE.partition(after)[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    found = {}
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        first, *rest = (cell.strip() for cell in line.strip("|").split("|"))
        found[first.strip("`")] = rest
    return found


def test_all_findings_are_told_and_which_can_be_accepted() -> None:
    table = rows("### Findings")
    assert set(table) == set(Kind)
    assert {kind for kind, cells in table.items() if cells[-1].startswith("never")} == set(Kind) - set(MEANING)


def test_all_shapes_are_told() -> None:
    assert set(rows("## The config")) == set(Shape) - {Shape.USER}


def test_the_policy_and_the_command_make_a_whole_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = dict(re.findall(r"```(yaml|console)\n(.*?)```", PAGE, re.DOTALL))
    Path("policy.yaml").write_text(blocks["yaml"])
    Path(".dsgconfig.yml").write_text(REPOSITORY)
    words = shlex.split(blocks["console"].replace("\\\n", "").removeprefix("$ kubectl dsg "))
    done = CliRunner().invoke(app, words[: words.index(">")])
    assert done.exit_code == 0, done.stderr
    parse_object(yaml.safe_load(done.stdout))


def test_the_message_that_is_shown_is_one() -> None:
    found = parse(re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)[0])
    assert found is not None
    assert (found.version, found.author, found.tags) == ("s2", "bob@example.org", ("v1.0",))
