"""`kubectl dsg migrate repository` as a person gives it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dsg.plugin.cli import app
from dsg.plugin.kubectl import Kubectl
from dsg.plugin.session import Session
from tests.migration.adopting import Place
from tests.migration.old_dsg import four_versions
from tests.migration.test_findings import flipped, removed
from tests.plugin.desk import Person

RUNNER = CliRunner()


@pytest.fixture
def cluster(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    remote = Person(place.server, "carol")
    monkeypatch.setattr(Session, "remote", lambda *_args: remote)
    monkeypatch.setattr(Kubectl, "context", lambda _self: SimpleNamespace(name="lab", namespace="research"))
    return place


def run(place: Place, *words: str, code: int = 0) -> Result:
    done = RUNNER.invoke(app, ["migrate", "repository", str(place.old), *words])
    assert done.exit_code == code, done.output + done.stderr
    assert "Traceback" not in done.output + done.stderr
    return done


def test_a_check_then_the_migration_then_nothing_more(cluster: Place) -> None:
    four_versions(cluster.old)
    checked = run(cluster, "--check")
    assert "s1: 5 files, 45 B, 5 verified\n" in checked.stdout
    assert "Everything that can be verified is as the manifests say" in checked.stdout
    assert "taken from the old dsgconfig.yml" in checked.stderr
    assert cluster.server.known() == []
    done = run(cluster, "--to", "justice")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [f"s{n} is s{n}" for n in range(1, 5)]
    assert "spec.retention.named: [s2]" in done.stderr
    assert run(cluster, "--to", "justice").stdout == "All that has content was adopted before\n"


def test_findings_are_for_a_person_to_decide(cluster: Place) -> None:
    old = four_versions(cluster.old)
    flipped(old)
    removed_path = "input/interviews/b.csv"
    said = run(cluster, "--check", code=3)
    assert "s2: mismatch: 'input/interviews/b.csv' should be" in said.stdout
    assert "1 finding to decide about: mismatch" in said.stdout
    run(cluster, "--check", "--accept", "mismatch")
    stopped = run(cluster, "--to", "justice", code=3)
    assert "s1 and what comes before it was adopted; s2 was not" in stopped.stderr
    assert "--accept mismatch: what is there is taken, and both hashes are recorded" in stopped.stderr
    report: Any = json.loads(run(cluster, "--to", "justice", "--accept", "mismatch", "-o", "json").stdout)
    assert [one["already"] for one in report["versions"]] == [True, False, False, False]
    assert [(one["kind"], one["path"], one["accepted"]) for one in report["findings"]] == [
        ("mismatch", removed_path, True)
    ]
    assert report["tags"][0] == {"name": "v1.0", "version": "s2", "message": "First release"}


def test_wrong_usage(cluster: Place, tmp_path: Path) -> None:
    old = four_versions(cluster.old)
    removed(old)
    run(cluster, code=2)
    run(cluster, "--to", "justice", "--accept", "name", code=2)
    run(cluster, "--to", "justice", "--accept", "everything", code=2)
    said = run(Place(tmp_path, cluster.server), "--check", code=1)
    assert "is no repository of DSG" in said.stderr or "can't be known" in said.stderr
    run(cluster, "--check", "--snapshots", str(tmp_path / "nowhere"), code=1)


@pytest.mark.parametrize(("module", "name"), [("xxhash", "xxhash"), ("lz4.frame", "lz4")])
def test_what_is_not_installed_is_said_with_the_way_to_install_it(
    cluster: Place, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    four_versions(cluster.old)
    monkeypatch.setitem(sys.modules, module, None)
    said = run(cluster, "--check", code=1)
    assert f"{name} is not installed" in said.stderr
    assert "pip install 'dsg[migrate]'" in said.stderr


def test_what_lacks_the_zone_is_said(cluster: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoneinfo import ZoneInfoNotFoundError

    def missing(_name: str) -> Any:
        raise ZoneInfoNotFoundError("no zone")

    old = four_versions(cluster.old)
    index = old.dsg / "sync-messages.json"
    index.write_text(json.dumps({"sync_messages": [{"snapshot_id": "s1", "timestamp": "2024-01-01T00:00:00"}]}))
    monkeypatch.setattr("dsg.migration.parts.ZoneInfo", missing)
    assert "tzdata is not installed" in run(cluster, "--check", code=1).stderr
