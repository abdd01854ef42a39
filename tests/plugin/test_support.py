"""The support bundle: what helps is in it, and of all the secrets and names that were planted, none."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from dsg.operator import support_command
from dsg.operator.cli import app as operator_app
from dsg.plugin import support
from dsg.plugin.checks import Check, Verdict
from dsg.plugin.kubectl import Forbidden, Kubectl
from dsg.plugin.session import Place
from dsg.storage.process import Completed, Runner
from dsg.telemetry import logs
from dsg.telemetry.bundle import Bundle
from dsg.telemetry.names import HIDDEN, Names
from dsg.telemetry.redaction import redact_text
from dsg.workcopy.layout import Layout
from dsg.workcopy.origin import read_origin
from tests.plugin.desk import Desk

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlc2lnbmF0dXJl"
KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49\n-----END PRIVATE KEY-----"
SECRETS = [JWT, "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49", "hunter2hunter2", "LS0tLS1CRUdJTiBSU0E", "s3cr3t-value"]
NAMES = ["witness-statement.pdf", "Ana García.docx", "input/interviews", "names of informants", "evidence"]
PLANTED = (
    f"Bearer {JWT} password=hunter2hunter2 client-key-data: LS0tLS1CRUdJTiBSU0E token='s3cr3t-value' {KEY} "
    "'input/interviews/witness-statement.pdf' \"evidence\" input/interviews/Ana.docx written: 'Ana García.docx'"
)


def condition(message: str) -> dict[str, Any]:
    return {"type": "Ready", "status": "False", "reason": "PathsConflict", "message": message}


REPOSITORY: dict[str, Any] = {
    "apiVersion": "dsg.hrdag.org/v1alpha1",
    "kind": "Repository",
    "metadata": {
        "name": "justice",
        "namespace": "research",
        "uid": "u1",
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": PLANTED,
            "dsg.hrdag.org/requestedAt": "now",
            "vault/token": "s3cr3t-value",
        },
        "managedFields": [{"manager": PLANTED}],
    },
    "spec": {
        "storage": {"dataset": "tank/dsg/justice", "mountpoint": "/srv/dsg/justice"},
        "dataDirs": ["evidence"],
        "ignore": {"paths": ["input/interviews"]},
    },
    "status": {
        "head": {"version": "s7", "author": "ana", "message": "names of informants"},
        "conditions": [condition(f"tank/dsg/justice/g3@s7 at /srv/dsg/justice of research/justice: {PLANTED}")],
    },
}
TRANSACTION: dict[str, Any] = {
    "apiVersion": "dsg.hrdag.org/v1alpha1",
    "kind": "SyncTransaction",
    "metadata": {"name": "sync-1", "namespace": "research"},
    "spec": {"author": "ana", "message": "names of informants", "clientKey": "0" * 64},
    "status": {
        "phase": "Conflict",
        "conflicts": {"total": 1, "items": [{"path": "input/interviews/witness-statement.pdf", "state": "x"}]},
        "conditions": [condition(f"input/interviews/witness-statement.pdf names of informants {PLANTED}")],
    },
}
EVENTS = [
    {"involvedObject": {"apiVersion": "dsg.hrdag.org/v1alpha1", "name": "justice"}, "message": f"kept {PLANTED}"},
    {"involvedObject": {"apiVersion": "v1", "name": "somebody-elses-pod"}, "message": "not ours"},
]


class FakeKubectl(Kubectl):
    """Answers from memory, and lets nobody look at Leases."""

    def list(self, kind: str, *, everywhere: bool = False) -> list[dict[str, Any]]:
        match kind.partition(".")[0]:
            case "repositories":
                return [REPOSITORY]
            case "synctransactions":
                return [TRANSACTION]
            case "events":
                return EVENTS
            case "storagepools":
                return []
            case "leases":
                raise Forbidden(f"leases is forbidden: password=hunter2hunter2 {JWT}")
        raise AssertionError(f"{kind} was asked for")

    def versions(self) -> tuple[str, str]:
        return "v1.33.0", "v1.33.1"


def unpacked(file: Path) -> dict[str, str]:
    with tarfile.open(file) as archive:
        found = {}
        for member in archive.getmembers():
            assert (member.mtime, member.uid, member.mode) == (0, 0, 0o600)
            opened = archive.extractfile(member)
            assert opened is not None
            found[member.name.removeprefix("dsg-support/")] = opened.read().decode()
        return found


def gathered(tmp_path: Path, place: Place | None, *, names: bool = False) -> dict[str, str]:
    checks = [Check("kubeconfig", Verdict.FAILED, PLANTED, PLANTED)]
    bundle = support.gather(FakeKubectl(), FakeKubectl(), place, checks, names=names)
    bundle.write(tmp_path / "bundle.tar.gz")
    return unpacked(tmp_path / "bundle.tar.gz")


def test_no_secret_and_no_name_of_data_is_in_it(tmp_path: Path, ana: Desk) -> None:
    ana.write("evidence/Ana García.docx", "content of a statement")
    ana("init", "justice", "-m", "names of informants")
    place = Place(ana.root, read_origin(Layout(ana.root)))
    files = gathered(tmp_path, place)
    whole = "\n".join(files.values())
    for secret in SECRETS:
        assert secret not in whole, secret
    for name in [*NAMES, "Ana.docx", "content of a statement", "somebody-elses-pod"]:
        assert name not in whole, name
    # What helps is there.
    assert {"README.md", "versions.yaml", "doctor.yaml", "workingcopy.yaml", "cluster/events.yaml"} <= set(files)
    assert "tank/dsg/justice/g3@s7 at /srv/dsg/justice of research/justice" in files["cluster/repositories.yaml"]
    assert "reason: PathsConflict" in files["cluster/synctransactions.yaml"]
    assert "leases is forbidden" in files["cluster/leases.yaml"]
    assert "apiServer: v1.33.1" in files["versions.yaml"]
    assert "version: s1" in files["workingcopy.yaml"]
    assert all(name in files["README.md"] for name in files if name != "README.md")


def test_names_are_in_it_when_they_are_asked_for_and_secrets_are_not(tmp_path: Path, ana: Desk) -> None:
    ana("init", "justice", "-m", "first")
    files = gathered(tmp_path, Place(ana.root, read_origin(Layout(ana.root))), names=True)
    whole = "\n".join(files.values())
    assert "witness-statement.pdf" in files["cluster/synctransactions.yaml"]
    assert files["paths.txt"] == "'input/a.csv'\n'input/b.csv'\n"
    for secret in SECRETS:
        assert secret not in whole, secret


def test_a_bundle_is_the_same_for_the_same_and_written_whole_or_not_at_all(tmp_path: Path) -> None:
    for name in ("one", "two"):
        bundle = Bundle("title", ["about"])
        bundle.add("b", "second", "2")
        bundle.add("a", "first", "1")
        bundle.write(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        bundle.write(tmp_path / "one")


def test_a_damaged_working_copy_can_be_told_of(tmp_path: Path, ana: Desk) -> None:
    ana("init", "justice", "-m", "first")
    place = Place(ana.root, read_origin(Layout(ana.root)))
    (Layout(ana.root).base / "state.json").write_text("damaged")
    assert "can't be read" in gathered(tmp_path, place)["workingcopy.yaml"]


SAFE = st.text(st.characters(codec="utf-8", exclude_characters="'\"\\\n"), min_size=1, max_size=30)


@given(SAFE, SAFE)
def test_a_name_in_quotes_or_with_a_slash_never_stays(folder: str, name: str) -> None:
    path = f"{folder.replace('/', '')}x/secretname-{name}"
    hider = Names(["tank/dsg/justice"])
    for text in (f"written: {path!r}", f'"{path}" is there', f"in '{path}', and"):
        assert "secretname" not in hider.hide(text), text
    assert "secretname" not in hider.hide("wrote folder/secretname-x.csv to it")


@pytest.mark.parametrize(
    "text",
    [
        "dataset tank/dsg/justice/g7@s12 can't be had, and that isn't well: tank/dsg/justice",
        "Repository research/justice is not ready; dsg.hrdag.org/v1alpha1 Repository/justice",
        "version 's7' of g3 has 12 entries",
        "https://node-a.example.org:8443",
    ],
)
def test_what_is_no_name_of_data_stays(text: str) -> None:
    assert Names(["tank/dsg/justice", "research/justice"]).hide(text) == text


def test_a_name_that_is_known_is_hidden_wherever_it_stands() -> None:
    assert Names(hidden=["evidence", "a"]).hide("the evidence is a file") == f"the {HIDDEN} is a file"


class FakeRunner(Runner):
    """A node with one repository."""

    def run(self, argv: Any, **_: Any) -> Completed:
        out = "tank/dsg/justice\ntank/dsg/justice/g1@s1\n" if argv[1] == "list" else f"password=hunter2hunter2 {argv}\n"
        return Completed(tuple(argv), 0, out.encode(), b"")


def test_a_nodes_bundle_holds_its_state_and_neither_secrets_nor_names(tmp_path: Path) -> None:
    log = tmp_path / "operator.log"
    lines = [
        {"timestamp": "2026-01-01T00:00:00.000000Z", "level": "warning", "event": f"tank/dsg/justice: {PLANTED}"},
        {"event": "step taken", "names": ["input/interviews"], "inner": {"path": "input/interviews"}},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + PLANTED + "\n")
    audit = tmp_path / "audit.jsonl"
    audit.write_text("no record\n")
    bundle = support_command.gather(FakeRunner(), [log, tmp_path / "none"], [audit], ["127.0.0.1:1"], names=False)
    bundle.write(tmp_path / "node.tar.gz")
    files = unpacked(tmp_path / "node.tar.gz")
    whole = "\n".join(files.values())
    for planted in (*SECRETS, *NAMES):
        assert planted not in whole, planted
    assert "2026-01-01T00:00:00.000000Z" in files["logs/0-operator.log"]
    assert "tank/dsg/justice: " in files["logs/0-operator.log"]
    assert "not looked at" in files["logs/1-none"]
    assert "holds: False" in files["audit/0-audit.jsonl.txt"]
    assert "not looked at" in files["http/127.0.0.1-1/metrics.txt"]


def test_the_nodes_command_says_what_is_in_it_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "node.tar.gz"
    argv = [sys.executable, "-m", "dsg.operator", "support", "-o", str(target), "--list"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "versions.txt: versions of dsg" in done.stdout
    # What is logged meanwhile is no part of the result.
    assert "outcome=" not in done.stdout
    assert not target.exists()
    monkeypatch.setattr(logs, "configure", lambda level: None)
    assert CliRunner().invoke(operator_app, ["support", "-o", str(target)]).exit_code == 0
    assert "dsg 0" in unpacked(target)["versions.txt"]
    assert CliRunner().invoke(operator_app, ["support", "-o", str(target)]).exit_code == 2


def test_the_command_writes_what_it_has_listed(ana: Desk, tmp_path: Path) -> None:
    ana("init", "justice", "-m", "first")
    target = tmp_path / "mine.tar.gz"
    said = ana("support", "-o", str(target))
    assert "No Secret was asked for" in said.err
    assert "workingcopy.yaml" in said.out
    assert said.out.endswith(f"written: {target}\n")
    assert "input/a.csv" not in "".join(unpacked(target).values())
    assert ana("support", "-o", str(target), code=2).err


def test_what_was_redacted_once_keeps_what_follows_when_it_is_redacted_again() -> None:
    once = redact_text(f"{KEY}\nreason: PathsConflict")
    assert once == "-----BEGIN PRIVATE KEY-----[redacted]\nreason: PathsConflict"
    assert redact_text(once) == once
