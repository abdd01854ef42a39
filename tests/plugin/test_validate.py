"""`kubectl dsg validate`: what a person sees, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from dsg.plugin.cli import app

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNNER = CliRunner()


def test_every_example_is_valid() -> None:
    # Values for helm are no objects.
    files = [path for path in EXAMPLES.iterdir() if path.name != "helm"]
    result = RUNNER.invoke(app, ["validate", *(word for path in files for word in ("-f", str(path)))])
    assert result.exit_code == 0, result.output
    assert "Repository" in result.output
    ours = [line for line in result.output.splitlines() if not line.endswith(": not of dsg.hrdag.org, not looked at")]
    assert len(ours) >= len(list(EXAMPLES.glob("*.yaml")))
    assert all(line.endswith(": valid") for line in ours)


def test_a_problem_names_file_line_field_and_what_to_do(tmp_path: Path) -> None:
    text = (EXAMPLES / "repository-minimal.yaml").read_text().replace("dataset:", "datset:")
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    result = RUNNER.invoke(app, ["validate", "-f", str(file)])
    assert result.exit_code == 1
    line = next(number for number, words in enumerate(text.splitlines(), 1) if "datset:" in words)
    assert f"{file}:{line}: spec.storage.datset" in result.output
    assert "dataset" in result.output
    assert "Traceback" not in result.output


def test_json_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    minimal = (EXAMPLES / "repository-minimal.yaml").read_text()
    file.write_text(minimal + "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
    result = RUNNER.invoke(app, ["validate", "-f", str(file), "-o", "json"])
    assert result.exit_code == 0
    found = json.loads(result.output)
    assert [one["valid"] for one in found] == [True, None]


def test_a_file_that_is_not_there_is_a_sentence() -> None:
    result = RUNNER.invoke(app, ["validate", "-f", "/no/such.yaml"])
    assert result.exit_code == 2
    assert "No such file" in result.output


def test_standard_input() -> None:
    text = (EXAMPLES / "pool-zfs.yaml").read_text()
    result = RUNNER.invoke(app, ["validate", "-f", "-"], input=text)
    assert result.exit_code == 0, result.output
