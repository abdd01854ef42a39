"""`repos`, `doctor`, and what every command says when the cluster is not as it should be."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dsg.plugin import checks
from dsg.plugin.checks import Verdict
from dsg.plugin.cli import app
from dsg.transfer.client.identity import Endpoint, Identity
from tests.plugin.world import ENDPOINT, World, repository

RUNNER = CliRunner()


def dsg(*words: str, code: int = 0) -> Any:
    result = RUNNER.invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def diagnosis(*words: str, code: int = 0) -> dict[str, dict[str, str]]:
    found = json.loads(dsg("doctor", *words, "-o", "json", code=code).stdout)
    assert found["well"] is (code == 0)
    return {one["name"]: one for one in found["checks"]}


# --- repos


def test_repositories_are_listed(world: World) -> None:
    world.put(repository("justice", head=3))
    world.put(repository("archive", ready="False"))
    said = dsg("repos").stdout.splitlines()
    assert said[0].split() == ["NAME", "STATE", "VERSION", "BY", "COMMITTED", "USED", "NODE"]
    assert said[1].split()[:3] == ["archive", "PoolUnavailable", "none"]
    assert said[2].split()[:4] == ["justice", "Ready", "s3", "ana"]
    assert "the pool is away" in dsg("repos", "-v").stdout
    assert dsg("repos", "-A").stdout.startswith("NAMESPACE")


def test_the_document_of_repositories(world: World) -> None:
    world.put(repository("justice", head=3))
    assert json.loads(dsg("repos", "-o", "json").stdout) == {
        "apiVersion": "cli.dsg.hrdag.org/v1",
        "kind": "RepositoryList",
        "repositories": [
            {
                "namespace": "research",
                "name": "justice",
                "uid": "uid-justice",
                "node": "node-a",
                "type": "xfs",
                "ready": {"status": "True", "reason": "Reconciled", "message": "the pool is away"},
                "head": {"version": "s3", "digest": "c" * 64, "author": "ana", "time": "2026-01-31T12:00:00Z"},
                "used": "56.0Ki",
                "openTransactions": 0,
                "suspended": False,
                "dataDirs": ["input", "output"],
                "nameRules": "portable",
            }
        ],
    }


def test_no_repositories(world: World) -> None:
    result = dsg("repos")
    assert result.stdout == ""
    assert "no Repository in namespace research" in result.stderr


# --- doctor


@pytest.fixture
def data_plane() -> Iterator[dict[str, str]]:
    """Something that speaks TLS; its endpoint as a status has it."""
    identity = Identity.make()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity.show_in(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                with plain:
                    try:
                        context.wrap_socket(plain, server_side=True).close()
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        port = listening.getsockname()[1]
        yield {"url": f"https://127.0.0.1:{port}", "certificateFingerprint": identity.fingerprint}
        listening.shutdown(socket.SHUT_RDWR)


def test_all_is_well(world: World, data_plane: dict[str, str]) -> None:
    world.put(repository(head=1))
    world.operator("Read/Stage", {"phase": "Serving", "endpoint": data_plane})
    found = diagnosis("justice")
    assert {one["verdict"] for one in found.values()} == {"ok"}
    assert list(found) == [
        "kubectl-dsg",
        "kubectl",
        "kubeconfig",
        "API server",
        "login",
        "kinds",
        "permissions",
        "clock",
        "repository",
        "data plane",
    ]
    assert [one["spec"]["intent"] for one in world.transactions()] == ["Abort"]
    assert "All is well." in dsg("doctor", "justice").stdout


def test_a_data_plane_that_is_another_or_away(world: World, data_plane: dict[str, str]) -> None:
    found = checks.connect(Endpoint(data_plane["url"], "0" * 64))
    assert (found.verdict, "another certificate" in found.message) == (Verdict.FAILED, True)
    world.put(repository(head=1))
    found_there = diagnosis("justice", code=1)["data plane"]
    assert "can't be reached" in found_there["message"]
    assert "firewall" in found_there["advice"]


def test_a_data_plane_before_there_is_a_version(world: World, data_plane: dict[str, str]) -> None:
    world.put(repository(head=0))
    world.operator("Init/Stage", {"phase": "Staging", "endpoint": data_plane})
    assert diagnosis("justice")["data plane"]["verdict"] == "ok"
    assert [(one["spec"]["operation"], one["spec"]["intent"]) for one in world.transactions()] == [("Init", "Abort")]
    world.operator("Init/Stage", {"phase": "Staging", "endpoint": ENDPOINT})
    assert "can't be reached" in diagnosis("justice", code=1)["data plane"]["message"]
    world.operator("Init/Stage", {"phase": "Failed", "reason": "AccessDenied", "message": "ana is no writer"})
    found = diagnosis("justice")["data plane"]
    assert (found["verdict"], "ana is no writer" in found["message"]) == ("skipped", True)


def test_what_is_not_well_says_what_to_do(world: World) -> None:
    world.put(repository(head=0))
    world.said["refused"] = ["create synctransactions.dsg.hrdag.org"]
    world.said["server"] = "v1.28.0"
    world.said["date"] = formatdate(0, usegmt=True)
    world.save()
    found = diagnosis("justice", code=1)
    assert found["API server"]["verdict"] == "warning"
    assert "open transactions" in found["permissions"]["message"]
    assert "dsg-researcher" in found["permissions"]["advice"]
    assert (found["clock"]["verdict"], "ahead" in found["clock"]["message"]) == ("failed", True)
    assert found["data plane"]["verdict"] == "skipped"


def test_what_can_not_be_looked_at_is_not_guessed(world: World) -> None:
    world.said["kinds"] = []
    world.save()
    found = diagnosis("justice", code=1)
    assert found["kinds"]["verdict"] == "failed"
    assert found["repository"]["verdict"] == "skipped"
    assert "permissions" not in found


@pytest.mark.parametrize(
    ("command", "said", "check"),
    [
        ("auth whoami", "error: You must be logged in to the server (Unauthorized)", "login"),
        ("auth whoami", "Unable to connect to the server: dial tcp: i/o timeout", "API server"),
        ("config view", 'error: context "x" does not exist', "kubeconfig"),
        ("version", "error: error loading config file", "kubeconfig"),
    ],
)
def test_the_first_thing_that_is_wrong_is_named(world: World, command: str, said: str, check: str) -> None:
    world.fails(command, said)
    found = diagnosis(code=1)
    assert found[check]["verdict"] == "failed"
    assert found[check]["advice"]


def test_without_kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECTL", str(tmp_path / "none"))
    assert diagnosis(code=1)["kubectl"]["verdict"] == "failed"
    assert "not installed" in dsg("repos", code=1).stderr


# --- the same failures, from every command that asks the cluster

FAILURES = {
    "KubectlMissing": None,
    "ClusterUnreachable": "Unable to connect to the server: dial tcp 10.0.0.1:6443: i/o timeout",
    "NotLoggedIn": "error: You must be logged in to the server (Unauthorized)",
    "Forbidden": 'Error from server (Forbidden): repositories.dsg.hrdag.org is forbidden: User "ana" cannot get it',
    "NotInstalled": 'error: the server doesn\'t have a resource type "repositories"',
    "KubernetesFailed": "error: something nobody has thought of",
}


@pytest.fixture
def copy(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working copy that was never synced."""
    root = tmp_path / "copy"
    (root / ".dsg").mkdir(parents=True)
    (root / ".dsg" / "origin.yaml").write_text(
        "format: dsg-origin/1\ncontext: lab\nnamespace: research\nrepository: justice\nsynced: {dataDirs: ['*']}\n"
    )
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("reason", FAILURES)
def test_a_failure_is_a_sentence_a_reason_and_advice(
    world: World, copy: Path, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = FAILURES[reason]
    if said is None:
        monkeypatch.setenv("KUBECTL", "/no/such/kubectl")
    else:
        world.fails("*", said)
    for words in (["status"], ["log"], ["restore", "s1"], ["clone", "justice"], ["repos"]):
        result = dsg(*words, "-o", "json", code=1)
        error = json.loads(result.stdout)["error"]
        assert (error["reason"], error["exitCode"]) == (reason, 1)
        assert error["message"]
        assert error["message"] in result.stderr
        assert error["advice"] or reason == "KubernetesFailed"


def test_what_the_operator_refuses_is_told_with_its_reason(world: World, copy: Path) -> None:
    world.put(repository(head=1))
    world.operator(
        "Read/Stage", {"phase": "Failed", "reason": "AccessDenied", "message": "ana is not among the readers"}
    )
    result = dsg("log", "-o", "json", code=1)
    error = json.loads(result.stdout)["error"]
    assert (error["reason"], error["message"]) == ("AccessDenied", "ana is not among the readers")
    assert "Ask who administers" in error["advice"]


def test_an_endpoint_that_is_none(world: World, copy: Path) -> None:
    world.put(repository(head=1))
    world.operator("Read/Stage", {"phase": "Serving", "endpoint": {**ENDPOINT, "url": "ftp://nowhere"}})
    assert "--endpoint" in dsg("log", code=1).stderr
    assert {one["spec"]["intent"] for one in world.transactions()} == {"Abort"}


def test_a_damaged_origin_is_named(copy: Path) -> None:
    (copy / ".dsg" / "origin.yaml").write_text("repository: [")
    assert "origin.yaml" in dsg("status", code=1).stderr
    (copy / ".dsg" / "origin.yaml").write_text("reposítory: x\n")
    assert "origin.yaml" in dsg("doctor", code=1).stdout
