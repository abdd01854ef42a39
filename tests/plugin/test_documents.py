"""The form of the documents is kept: scripts rely on it. Within v1 fields may be added, and nothing else may change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dsg.plugin.reference import replaced
from tests.plugin.desk import Desk, conflict
from tests.workcopy.server import Server

DOCS = Path(__file__).parents[2] / "docs" / "kubectl-dsg.md"
HEAD = "apiVersion kind"
DONE = "head committed onto counts sent fetched removed attributes moved renamed kept left recovered notes"
FILE = "path kind size mode modified digest"
PLACE = "namespace repository"
VERSION = "version author time message files size tree chain previous transaction"

FORMS: dict[str, str] = {
    "InitResult": f"{HEAD} outcome directory {DONE} traffic",
    "CloneResult": f"{HEAD} outcome directory version {DONE} traffic",
    "SyncResult": f"{HEAD} outcome {DONE} traffic",
    "SyncResult conflict": f"{HEAD} outcome counts total conflicts file outdated before traffic",
    "Status": f"{HEAD} directory {PLACE} base head counts interrupted notes conflicts changes operations saves",
    "SyncPlan": f"{HEAD} directory {PLACE} base head counts interrupted notes conflicts changes operations saves",
    "AbortResult": f"{HEAD} directory {PLACE} decisionsRemoved transactionAborted unfinished",
    "ConflictList": f"{HEAD} file base head total undecided conflicts",
    "Log": f"{HEAD} {PLACE} versions",
    "Blame": f"{HEAD} {PLACE} path changes ends",
    "Diff": f"{HEAD} {PLACE} before after differences",
    "FileList": f"{HEAD} {PLACE} version files",
    "FetchResult": f"{HEAD} path version to files size traffic",
    "RestoreResult": f"{HEAD} {PLACE} restored version outcome {DONE} traffic",
    "Validation": f"{HEAD} valid directory workingCopy head",
    "CleanResult": f"{HEAD} directory dryRun contents nodes kept size",
    "Version": f"{HEAD} version resources documents python",
    "Error": f"{HEAD} error",
}


def test_documents_keep_their_form(ana: Desk, bob: Desk, server: Server, tmp_path: Path) -> None:
    other = Desk(server, "eve", tmp_path / "eve", ana.patch)
    made: dict[str, Any] = {}

    def take(found: dict[str, Any], more: str = "") -> dict[str, Any]:
        assert found["apiVersion"] == "cli.dsg.hrdag.org/v1"
        made[f"{found['kind']}{more}"] = found
        return found

    take(ana.document("version"))
    take(ana.document("log", "--since", "soon", code=2))
    (tmp_path / "eve").mkdir()
    take(other.document("clone", "justice", "copy"))
    other.root = tmp_path / "eve" / "copy"
    conflict(ana, bob)
    take(bob.document("sync", code=3), " conflict")
    take(bob.document("conflicts"))
    take(bob.document("sync", "--abort"))
    take(other.document("status"))
    take(other.document("sync", "--dry-run"))
    take(other.document("sync"))
    blame = take(other.document("blame", "input/a.csv"))
    log = take(other.document("log"))
    diff = take(other.document("diff", "s1", "s2"))
    files = take(other.document("ls"))
    take(other.document("fetch", "input/a.csv", "--version", "s1"))
    take(other.document("restore", "s1"))
    validation = take(other.document("validate"))
    take(other.document("clean"))

    for name, form in FORMS.items():
        if name != "InitResult":  # in test_commands
            assert list(made[name]) == form.split(), name
    assert list(log["versions"][0]) == list(blame["changes"][0]["version"]) == VERSION.split()
    assert list(files["files"][0]) == [*FILE.split(), "author", "version"]
    assert list(diff["differences"][0]) == ["path", "change", "aspects", "before", "after"]
    (question,) = made["SyncResult conflict"]["conflicts"]
    assert list(question) == ["path", "state", "inTheWay", "choices", "mine", "theirs", "base"]
    assert list(question["mine"]) == FILE.split()
    assert list(made["ConflictList"]["conflicts"][0]) == ["path", "what", "mine", "theirs", "choices", "choice"]
    assert list(validation["workingCopy"]) == ["version", "files", "size", "edited", "findings"]
    assert list(made["SyncResult"]["counts"]) == ["states", "newTimesHere", "newTimesThere", "conflicts"]
    assert list(made["Error"]["error"]) == ["reason", "message", "advice", "exitCode"]


@pytest.mark.parametrize("kind", FORMS)
def test_the_docs_name_every_field(kind: str) -> None:
    text = DOCS.read_text()
    name = kind.split()[0]
    assert f"`{name}`" in text
    words = set(re.findall(r"\w+", "\n".join(re.findall(r"`([^`]*)`", text))))
    assert set(FORMS[kind].split()) - words == set()


def test_the_reference_is_made_from_the_code() -> None:
    text = DOCS.read_text()
    assert replaced(text) == text, "run: python -m dsg.plugin.reference docs/kubectl-dsg.md"
