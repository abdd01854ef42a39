"""`kubectl dsg migrate config` as a person gives it."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from typer.testing import CliRunner, Result

from dsg.api.load import parse_object
from dsg.plugin.cli import COMMANDS, GROUPS, app
from dsg.plugin.commands.completion import answer
from tests.migration.shapes import FLAT, REPOSITORY, ZFS_POLICY

RUNNER = CliRunner()


def run(*words: str) -> Result:
    return RUNNER.invoke(app, ["migrate", "config", *words])


def test_what_is_missing_is_listed_and_the_exit_code_says_so(tmp_path: Path) -> None:
    old = tmp_path / "config.yml"
    old.write_text(FLAT)
    done = run(str(old))
    assert done.exit_code == 3
    assert "to be filled in: spec.storage.node" in done.stderr
    assert done.stdout.count("# TODO: ") == done.stderr.count("to be filled in: ") > 5
    assert old.read_text() == FLAT


def test_answers_come_from_a_file_and_from_options(tmp_path: Path) -> None:
    old, spec = tmp_path / ".dsgconfig.yml", tmp_path / "policy.yaml"
    old.write_text(REPOSITORY)
    spec.write_text(ZFS_POLICY)
    words = (str(old), "--spec", str(spec), "-n", "research", "--set", "storage.properties.quota=1Ti", "--node", "b")
    done = run(*words)
    assert done.exit_code == 0, done.stderr
    found = yaml.safe_load(done.stdout)
    parse_object(found)
    assert found["metadata"] == {"name": "justice", "namespace": "research"}
    assert found["spec"]["storage"]["node"] == "b"
    assert found["spec"]["storage"]["properties"]["quota"] == "1Ti"
    document = json.loads(run(*words, "-o", "json").stdout)
    assert document["complete"]
    assert document["repository"] == found
    assert document["asked"] == []


def test_wrong_usage_and_files(tmp_path: Path) -> None:
    old = tmp_path / "x.yml"
    old.write_text(REPOSITORY)
    assert run(str(old), "--set", "storage").exit_code == 2
    assert run(str(old), "--set", "a.b=1", "--set", "a.b.c=1").exit_code == 2
    assert run(str(old), "--set", "a=[").exit_code == 2
    assert run(str(tmp_path / "missing")).exit_code == 1
    old.write_bytes(b"\xff\xfe")
    done = run(str(old))
    assert done.exit_code == 1
    assert "is no text in UTF-8" in done.stderr


def test_a_users_config_is_answered_with_what_takes_its_place(tmp_path: Path) -> None:
    old = tmp_path / "dsg.yml"
    old.write_text('user_name: "Alice"\nuser_id: alice@example.com\ndefault_host: scott\n')
    done = run(str(old))
    assert done.exit_code == 0
    assert yaml.safe_load(done.stdout) is None
    assert "kubectl auth whoami" in done.stdout


def test_commands_of_the_group_are_completed() -> None:
    assert next(iter(answer(COMMANDS, ["mig"], GROUPS))).startswith("migrate\tBring older DSG projects here")
    assert next(iter(answer(COMMANDS, ["migrate", "conf"], GROUPS))).startswith("config\tTurn a DSG config")
    assert "--spec" in next(iter(answer(COMMANDS, ["migrate", "config", "--sp"], GROUPS)))
