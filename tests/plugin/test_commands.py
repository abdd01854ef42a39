"""The commands, on a real repository of directories: what a person reads, the documents, the exit codes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from dsg.plugin.cli import COMMANDS
from dsg.workcopy.remote import RemoteError
from tests.plugin.desk import Desk, conflict
from tests.workcopy.server import Server

# --- start


def test_a_first_version_and_a_clone(
    ana: Desk, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ana("init", "justice", "-m", "first")
    assert "Committed s1: 2 added" in said.out
    origin = yaml.safe_load((ana.root / ".dsg" / "origin.yaml").read_text())
    assert (origin["context"], origin["namespace"], origin["repository"]) == ("lab", "research", "justice")
    bob = Desk(server, "bob", tmp_path, monkeypatch)
    said = bob("clone", "justice", where=tmp_path)
    assert (tmp_path / "justice" / "input" / "b.csv").read_text() == "two\n"
    assert "s1 of justice: 2 files" in said.out
    said = bob("clone", "justice", code=1, where=tmp_path)
    assert "already" in said.err


def test_what_init_and_clone_say_as_documents(
    ana: Desk, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ana.document("init", "justice", "-m", "first")
    assert (made["kind"], made["outcome"], made["head"]) == ("InitResult", "done", "s1")
    assert made["sent"] == {"added": 2, "changed": 0, "deleted": 0, "files": 2, "size": 8}
    bob = Desk(server, "bob", tmp_path, monkeypatch)
    made = bob.document("clone", "justice", "there")
    assert (made["kind"], made["version"]["version"], made["fetched"]) == ("CloneResult", "s1", 2)


def test_a_clone_of_nothing_says_how_to_begin(ana: Desk, tmp_path: Path) -> None:
    said = ana("clone", "justice", "empty", where=tmp_path)
    assert "no version yet" in said.out
    assert "kubectl dsg init justice" in said.out


def test_init_of_what_is_there_already(ana: Desk, bob: Desk, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    said = ana("init", "justice", code=1, where=tmp_path / "other")
    assert "clone it" in said.err


# --- work


def test_status_names_what_would_be_done(ana: Desk, bob: Desk) -> None:
    assert "Nothing to send or fetch" in bob("status").out
    ana.write("input/a.csv", "more\n")
    ana("sync", "-m", "more")
    bob.write("output/c.csv", "new\n")
    (bob.root / "input" / "b.csv").unlink()
    said = bob("status").out
    for word in (
        "On s1; the newest version is s2",
        "update  input/a.csv",
        "send    output/c.csv",
        "delete  input/b.csv",
    ):
        assert word in said
    assert not bob("status", "-q").err
    found = bob.document("status")
    assert (found["kind"], found["base"], found["head"]) == ("Status", "s1", "s2")
    assert found["counts"]["states"]["sxLCR__C_eq_R"] == 1
    assert sum(found["counts"]["states"].values()) == 3
    assert [one["path"] for one in found["changes"]] == ["input/b.csv", "output/c.csv"]
    assert (found["operations"][0]["does"], found["operations"][0]["path"]) == ("fetch", "input/a.csv")


def test_status_of_a_large_working_copy_counts(ana: Desk, bob: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsg.plugin.commands.sync._SMALL", 0)
    bob.write("input/a.csv", "more\n")
    said = bob("status")
    assert "1  changed by you" in said.out
    assert "input/a.csv" not in said.out
    assert "-v names the paths" in said.err
    assert "input/a.csv" in bob("status", "-v").out


def test_sync_says_what_it_did(ana: Desk, bob: Desk) -> None:
    ana.write("input/a.csv", "more\n")
    said = ana("sync", "-m", "more")
    assert "Committed s2: 1 changed (1 file, 5 B)" in said.out
    made = bob.document("sync")
    assert (made["kind"], made["outcome"], made["head"], made["committed"], made["fetched"]) == (
        "SyncResult",
        "done",
        "s2",
        [],
        1,
    )
    assert "up to date with s2" in bob("sync").out


def test_a_sync_that_is_only_shown_does_nothing(ana: Desk, bob: Desk, server: Server) -> None:
    bob.write("input/a.csv", "more\n")
    assert "send    input/a.csv" in bob("sync", "--dry-run").out
    plan = bob.document("sync", "--dry-run")
    assert (plan["kind"], plan["changes"][0]["path"]) == ("SyncPlan", "input/a.csv")
    head = server.head()
    assert head is not None
    assert head.version == "s1"


def test_yaml_says_the_same_as_json(ana: Desk, bob: Desk) -> None:
    bob.write("input/a.csv", "more\n")
    assert yaml.safe_load(bob("status", "-o", "yaml").out) == bob.document("status")
    log = yaml.safe_load(bob("log", "-o", "yaml").out)
    assert log == bob.document("log")
    assert [one["version"] for one in log["versions"]] == ["s1"]
    empty = bob("diff", "s1", "head", "-o", "yaml").out
    assert yaml.safe_load(empty)["differences"] == []
    assert bob.document("diff", "s1", "head")["differences"] == []


def test_deletions_of_most_are_asked_about(ana: Desk, bob: Desk) -> None:
    for number in range(60):
        ana.write(f"input/{number}", f"{number}\n")
    ana("sync")
    for number in range(60):
        (ana.root / "input" / str(number)).unlink()
    said = ana("sync", code=1)
    assert "--allow-deletions" in said.err
    ana("sync", "--allow-deletions")


def test_names_are_made_good_when_asked(ana: Desk, bob: Desk) -> None:
    bob.write("input/what?.csv", "x\n")
    said = bob("sync", code=1)
    assert "--normalize" in said.err
    said = bob("sync", "--normalize")
    assert "what?.csv -> input/what_.csv" in said.out


# --- conflicts


def test_a_conflict_stops_with_three_and_says_who_and_how(ana: Desk, bob: Desk) -> None:
    conflict(ana, bob)
    assert bob("conflicts").out.startswith("No conflict waits")
    said = bob("sync", code=3)
    for word in ("1 conflict", "input/a.csv", "by ana in s2", "yours", ".dsg/conflicts.txt", "sync --continue"):
        assert word in said.out
    assert (bob.root / "input" / "a.csv").read_text() == "bob's\n"
    found = bob.document("sync", code=3)
    assert (found["outcome"], found["total"]) == ("conflict", 1)
    (one,) = found["conflicts"]
    assert (one["state"], one["theirs"]["author"], one["choices"]) == (
        "sLCR__all_ne",
        "ana",
        ["mine", "theirs", "both"],
    )
    assert bob.document("sync", "--dry-run", code=3)["conflicts"] == [one]


def test_conflicts_are_listed_and_decided(ana: Desk, bob: Desk) -> None:
    conflict(ana, bob)
    bob("sync", code=3)
    said = bob("conflicts")
    assert "input/a.csv  [?]" in said.out
    assert "--keep mine PATH" in said.err
    said = bob("sync", "--continue", code=3)
    assert "not decided" in said.err
    found = bob.document("conflicts", "--keep", "both", "input/a.csv")
    assert (found["kind"], found["undecided"], found["conflicts"][0]["choice"]) == ("ConflictList", 0, "both")
    said = bob("sync", "--continue", "-m", "both")
    assert "Kept beside theirs" in said.out
    assert (bob.root / "input" / "a.csv").read_text() == "ana's\n"
    assert (bob.root / "input" / "a.from-bob.csv").read_text() == "bob's\n"


def test_decisions_that_cannot_be(ana: Desk, bob: Desk) -> None:
    conflict(ana, bob)
    (bob.root / "input" / "a.csv").unlink()
    bob("sync", code=3)
    said = bob("conflicts", "--keep", "both", "input/a.csv", code=1)
    assert "mine or theirs" in said.err
    assert "is in no conflict" in bob("conflicts", "--keep", "mine", "input/b.csv", code=1).err
    assert "needs paths" in bob("conflicts", "--keep", "mine", code=2).err
    bob("conflicts", "--keep", "theirs", "--all")
    bob("sync", "--continue")
    assert (bob.root / "input" / "a.csv").read_text() == "ana's\n"


def test_a_decision_file_that_was_spoilt(ana: Desk, bob: Desk) -> None:
    conflict(ana, bob)
    bob("sync", code=3)
    file = bob.root / ".dsg" / "conflicts.txt"
    file.write_text(file.read_text().replace("keep (mine", "kept (mine"))
    said = bob("sync", "--continue", code=3)
    assert "line" in said.err
    assert "input/a.csv" in said.err
    file.write_bytes(b"\xff")
    assert "UTF-8" in bob("conflicts", code=3).err


def test_abort_gives_up_decisions(ana: Desk, bob: Desk) -> None:
    assert "nothing to give up" in bob("sync", "--abort").out
    conflict(ana, bob)
    bob("sync", code=3)
    made = bob.document("sync", "--abort")
    assert (made["kind"], made["decisionsRemoved"], made["unfinished"]) == ("AbortResult", True, False)
    assert not (bob.root / ".dsg" / "conflicts.txt").exists()
    assert (bob.root / "input" / "a.csv").read_text() == "bob's\n"


# --- interruption


def test_ctrl_c_is_130_and_the_next_command_goes_on(ana: Desk, bob: Desk, server: Server) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    bob.write("input/a.csv", "more\n")
    bob.remote.before_commit = interrupt
    said = bob("sync", "-m", "more", code=130)
    assert "interrupted" in said.err
    assert "same command again" in said.err
    assert server.open_transactions() == []
    said = bob("sync", "-m", "more")
    assert "Committed s2" in said.out


def test_an_interrupted_sync_can_be_given_up(
    ana: Desk, bob: Desk, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RemoteError("away")

    bob.write("input/a.csv", "more\n")
    bob.remote.before_commit = fail
    monkeypatch.setattr(bob.remote, "abort", lambda _ref: None)
    bob("sync", code=1)
    monkeypatch.undo()
    assert "interrupted" in bob("status").out
    assert len(server.open_transactions()) == 1
    made = bob.document("sync", "--abort")
    assert made["transactionAborted"]
    assert server.open_transactions() == []
    assert "Committed s2" in bob("sync").out


# --- looking back


@pytest.fixture
def grown(ana: Desk, bob: Desk) -> Desk:
    """Three versions: bob changed a.csv in s2, ana added c.csv in s3."""
    bob.write("input/a.csv", "one, corrected\n")
    bob("sync", "-m", "Correct\n\nbecause it was wrong")
    ana("sync")
    ana.write("input/c.csv", "three\n")
    ana("sync", "-m", "Add")
    return ana


def test_log(grown: Desk) -> None:
    said = grown("log").out.splitlines()
    assert [line.split()[0] for line in said] == ["VERSION", "s3", "s2", "s1"]
    assert "Correct …" in said[2]
    assert "because it was wrong" in grown("log", "-v").out
    assert [one["version"] for one in grown.document("log", "--author", "bob")["versions"]] == ["s2"]
    assert len(grown.document("log", "-n", "2")["versions"]) == 2
    assert len(grown.document("log", "--since", "2000-01-01")["versions"]) == 3
    assert grown.document("log", "--since", "2999-01-01")["versions"] == []
    (one,) = grown.document("log", "-n", "1")["versions"]
    assert (one["author"], one["message"], one["files"]) == ("ana", "Add", 3)
    assert "is no time" in grown("log", "--since", "soon", code=2).err


def test_blame(grown: Desk) -> None:
    found = grown.document("blame", "input/a.csv")
    assert [(one["action"], one["version"]["version"], one["version"]["author"]) for one in found["changes"]] == [
        ("changed", "s2", "bob"),
        ("added", "s1", "ana"),
    ]
    assert "changed" in grown("blame", "a.csv", where=grown.root / "input").out
    assert "input/none" in grown("blame", "input/none", code=1).err
    assert "not in the working copy" in grown("blame", "../elsewhere", code=2).err


def test_diff(grown: Desk) -> None:
    def differences(*words: str) -> list[tuple[str, str]]:
        return [(one["change"], one["path"]) for one in grown.document("diff", *words)["differences"]]

    assert differences("s1", "s3") == [("changed", "input/a.csv"), ("added", "input/c.csv")]
    assert differences("s3", "s1", "input/c.csv") == [("deleted", "input/c.csv")]
    assert differences() == []
    grown.write("input/b.csv", "changed here\n")
    assert differences() == [("changed", "input/b.csv")]
    assert ("changed", "input/b.csv") in differences("s1")
    said = grown("diff", "s1", "head").out
    assert re.search(r"^M input/a.csv  \(content, time\)", said, re.MULTILINE)
    assert "at most two" in grown("diff", "s1", "s2", "s3", code=2).err
    assert "Nothing differs" in grown("diff", "head", "head").err


def test_ls(grown: Desk) -> None:
    assert grown("ls", "-q").out.splitlines() == ["input/a.csv", "input/b.csv", "input/c.csv"]
    assert grown("ls", "-q", "--version", "s1").out.splitlines() == ["input/a.csv", "input/b.csv"]
    found = grown.document("ls", "input/a.csv")
    assert (found["version"], found["files"][0]["author"], found["files"][0]["kind"]) == ("s3", "bob", "file")
    assert found["files"][0]["digest"] in grown("ls", "-v").out
    assert "has no input/none" in grown("ls", "input/none", code=1).err
    assert "no version" in grown("ls", "--version", "three", code=2).err
    assert "no version s9" in grown("ls", "--version", "s9", code=1).err


def test_fetch(grown: Desk) -> None:
    said = grown("fetch", "input/a.csv", "--version", "s1")
    assert "a.csv.s1" in said.out
    assert (grown.root / "a.csv.s1").read_text() == "one\n"
    grown("fetch", "input/a.csv", "--version", "s2", "-O", "old.csv")
    assert (grown.root / "old.csv").read_text() == "one, corrected\n"
    assert "stays as it is" in grown("fetch", "input/a.csv", "-O", "old.csv", code=1).err
    found = grown.document("fetch", "input", "--version", "s1", "-O", "tree")
    assert (found["kind"], found["files"], found["version"]["version"]) == ("FetchResult", 2, "s1")
    assert sorted(os.listdir(grown.root / "tree")) == ["a.csv", "b.csv"]
    grown("fetch", ".", "--version", "s1", "-O", "whole")
    assert (grown.root / "whole" / "input" / "b.csv").exists()
    assert "input/none" in grown("fetch", "input/none", "-O", "x", code=1).err
    assert not [name for name in os.listdir(grown.root) if name.startswith(".dsg-fetch")]


def test_restore(grown: Desk) -> None:
    made = grown.document("restore", "s1", "-m", "back")
    assert (made["kind"], made["restored"], made["version"], made["outcome"]) == ("RestoreResult", "s1", "s4", "done")
    assert (grown.root / "input" / "a.csv").read_text() == "one\n"
    assert not (grown.root / "input" / "c.csv").exists()
    assert grown("restore", "head", code=2).err


# --- care


def test_validate_reads_every_file_anew(grown: Desk) -> None:
    assert "nothing is wrong" in grown("validate").out
    file = grown.root / "input" / "a.csv"
    was = file.stat()
    file.write_text("ONE, corrected\n")
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    said = grown("validate", code=1)
    assert "input/a.csv" in said.out
    found = grown.document("validate", "--head", code=1)
    assert (found["valid"], found["workingCopy"]["version"], found["head"]["version"]) == (False, "s3", "s3")
    assert [one["path"] for one in found["workingCopy"]["findings"]] == ["input/a.csv"]
    assert found["head"]["findings"] == []


def test_clean_only_says_what_it_would_do(grown: Desk) -> None:
    grown("clean", "--no-dry-run")
    (grown.root / ".dsg" / "store").mkdir(exist_ok=True)
    left = grown.root / ".dsg" / "store" / ("a" * 64)
    left.write_text("left over")
    old = grown.root / ".dsg" / "kept" / "2020-01-01T00-00-00Z-sync"
    old.mkdir(parents=True)
    found = grown.document("clean")
    assert (found["dryRun"], found["contents"], found["kept"]) == (True, 1, [])
    assert left.exists()
    found = grown.document("clean", "--no-dry-run", "--kept-for", "30d")
    assert (found["dryRun"], found["contents"], found["kept"]) == (False, 1, [old.name])
    assert not left.exists()
    assert not old.exists()
    assert "no duration" in grown("clean", "--kept-for", "long", code=2).err


# --- wrong use


def test_outside_a_working_copy_each_command_says_so(ana: Desk, tmp_path: Path) -> None:
    for words in (
        ["status"],
        ["sync"],
        ["log"],
        ["blame", "x"],
        ["diff"],
        ["ls"],
        ["fetch", "x"],
        ["restore", "s1"],
        ["conflicts"],
        ["validate"],
        ["clean"],
    ):
        said = ana(*words, code=1, where=tmp_path)
        assert "kubectl dsg clone" in said.err
        assert ana(*words, "-o", "json", code=1, where=tmp_path).document["error"]["reason"] == "NotAWorkingCopy"


@pytest.mark.parametrize(
    "words",
    [
        ["nope"],
        ["sync", "--nope"],
        ["sync", "--dry-run", "--continue"],
        ["status", "-q", "-v"],
        ["status", "-o", "xml"],
        ["status", "-C", "/no/such/place"],
        ["clone"],
        ["log", "-n", "-1"],
    ],
)
def test_wrong_use_is_two(ana: Desk, words: list[str]) -> None:
    ana(*words, code=2)


def test_a_directory_can_be_named(ana: Desk, bob: Desk, tmp_path: Path) -> None:
    said = ana("blame", "-C", str(ana.root / "input"), "a.csv", where=tmp_path)
    assert "added" in said.out


# --- form


def test_names_cannot_steer_a_terminal(ana: Desk, bob: Desk, server: Server) -> None:
    server.name_rules = "posix"
    bob.write("input/\x1b[2Jevil", "x\n")
    bob.write("input/caf\udce9", "x\n")
    bob("sync", "-m", "\x1b]0;title\x07")
    for words in (["ls"], ["log"], ["log", "-v"], ["diff", "s1", "s2"], ["status", "-v"]):
        out = bob(*words).out
        assert "\x1b" not in out
        assert "\x07" not in out
    assert "\\x1b[2Jevil" in bob("ls").out
    assert "caf\\xe9" in bob("ls").out
    paths = [one["path"] for one in bob.document("ls")["files"]]
    assert {"hex": b"input/caf\xe9".hex()} in paths


def test_every_command_has_help_that_says_what_it_is_for(ana: Desk) -> None:
    for name, command in COMMANDS.items():
        said = ana(name, "--help").out
        assert "Usage: " in said
        assert command.__doc__
        assert command.__doc__.split()[0] in said


def test_every_command_prints_one_document(grown: Desk) -> None:
    blame = ["blame", "input/a.csv"]
    for words in (
        ["status"],
        ["sync"],
        ["conflicts"],
        ["log"],
        blame,
        ["diff"],
        ["ls"],
        ["validate"],
        ["clean"],
        ["version"],
    ):
        found = grown.document(*words)
        assert found["apiVersion"] == "cli.dsg.hrdag.org/v1"
        assert found["kind"]
