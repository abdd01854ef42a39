"""The commit on the model: faults at every moment, every step refused in turn, and what is told of it."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from dsg.storage.errors import CommandFailed, PoolNotFound, ProgramFailed, StorageError
from dsg.storage.zfs import layout as properties
from dsg.storage.zfs.interface import Dataset, DatasetKind
from dsg.storage.zfs.layout import HEAD
from dsg.storage.zfs.model import Killed, ModelNode, ModelZfs, Moment, PowerCut
from dsg.storage.zfs.model.program import _Library
from dsg.transactions.commit import Commit, Committed, Head, HeadMoved, Reason, Refused, commit, source

PARENT = "tank/repo"
BASE = Head("g1", "s1")
WANTED = Commit(PARENT, BASE, "g2", "s2", "tx-2", "cd" * 32)
READ = ("guid", "origin", "createtxg", HEAD, properties.VERSION, properties.TRANSACTION, properties.MANIFEST)


class Lab:
    """A repository at s1 in g1, and g2 staged from it."""

    def __init__(self, *, first: bool = False) -> None:
        self.node = ModelNode(seed=1)
        self.node.add_pool("tank", mountpoint="legacy")
        self.zfs = ModelZfs(self.node)
        self.zfs.create(PARENT, {})
        self.zfs.create(f"{PARENT}/g1", {})
        self.node.write(f"{PARENT}/g1", "file", b"one")
        self.node.sync()
        if first:
            self.wanted = Commit(PARENT, Head(), "g1", "s1", "tx-1", "ab" * 32)
            return
        self.wanted = WANTED
        assert isinstance(commit(self.zfs, Commit(PARENT, Head(), "g1", "s1", "tx-1", "ab" * 32)), Committed)
        self.zfs.clone(f"{PARENT}/g1@s1", f"{PARENT}/g2", {})
        self.node.write(f"{PARENT}/g2", "file", b"two")
        self.node.sync()

    def picture(self) -> Mapping[str, Dataset]:
        kinds = [DatasetKind.FILESYSTEM, DatasetKind.SNAPSHOT]
        return self.zfs.read([PARENT], READ, kinds=kinds)

    def shape(self) -> dict[str, dict[str, str]]:
        """Return the picture without what differs from one run to another."""
        fleeting = {"guid", "createtxg"}
        return {
            name: {key: value.value for key, value in dataset.properties.items() if key not in fleeting}
            for name, dataset in self.picture().items()
        }


# ---- faults


def power(lab: Lab) -> None:
    lab.node.power_cut()


def killed(lab: Lab) -> None:
    raise Killed


def moments(*, first: bool) -> list[tuple[Moment, str]]:
    """Return every moment at which a fault can strike a commit, from the running code."""
    lab, seen = Lab(first=first), []
    lab.node.faults = lambda moment, operation, _: seen.append((moment, operation))
    commit(lab.zfs, lab.wanted)
    return seen


CASES = [(first, position) for first in (True, False) for position in range(len(moments(first=first)))]


@pytest.mark.parametrize("fault", [power, killed])
@pytest.mark.parametrize(("first", "position"), CASES)
def test_after_any_fault_the_head_is_old_or_new_and_whole(
    first: bool, position: int, fault: Callable[[Lab], None]
) -> None:
    undisturbed = Lab(first=first)
    old = undisturbed.shape()
    assert isinstance(commit(undisturbed.zfs, undisturbed.wanted), Committed)
    new = undisturbed.shape()
    lab, count = Lab(first=first), 0

    def hook(moment: Moment, operation: str, arguments: Mapping[str, object]) -> None:
        nonlocal count
        count += 1
        if count == position + 1:
            lab.node.faults = None
            fault(lab)

    lab.node.faults = hook
    with suppress(Killed, PowerCut):
        commit(lab.zfs, lab.wanted)
    assert count == position + 1
    found = lab.shape()
    assert found in (old, new)
    outcome = commit(lab.zfs, lab.wanted)
    head = Head(lab.wanted.generation, lab.wanted.version)
    assert outcome == Committed(head.version, head, repeated=found == new)
    assert lab.shape() == new


def test_a_fault_has_moments_before_during_and_after() -> None:
    assert {moment for moment, _ in moments(first=False)} == {Moment.BEFORE, Moment.DURING, Moment.AFTER}
    assert [operation for moment, operation in moments(first=False) if moment is Moment.BEFORE] == ["zfs.program"]


# ---- steps that are refused in spite of their checks


def acts(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the calls that change something in a commit, from the running program."""
    seen: list[str] = []
    task = _Library._task

    def record(self: Any, apply: bool, name: str, *rest: Any) -> Any:
        if apply:
            seen.append(name)
        return task(self, apply, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(_Library, "_task", record)
        commit(lab.zfs, lab.wanted)
    return seen


def refuse_act(monkeypatch: pytest.MonkeyPatch, *refused: int) -> None:
    """Let ZFS refuse the given acts (counted from 0) of the programs that follow, whatever their checks said."""
    count = -1
    task = _Library._task

    def refuse(self: Any, apply: bool, name: str, *rest: Any) -> Any:
        nonlocal count
        count += apply
        if apply and count in refused:
            return (None, 1, errno.ENOSPC)
        return task(self, apply, name, *rest)

    monkeypatch.setattr(_Library, "_task", refuse)


def test_the_record_of_the_head_is_the_last_act(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    assert acts(lab, monkeypatch) == ["snapshot", "set_prop", "set_prop", "promote", "set_prop", "set_prop", "set_prop"]
    lab = Lab()
    refuse_act(monkeypatch, 6)
    outcome = commit(lab.zfs, lab.wanted)
    assert isinstance(outcome, Refused)
    assert HEAD not in outcome.message
    assert lab.picture()[PARENT].local(HEAD) == "g1"


@pytest.mark.parametrize("first", [True, False])
def test_a_step_refused_in_spite_of_its_check_undoes_those_before_it(
    first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for position in range(len(acts(Lab(first=first), monkeypatch))):
        lab = Lab(first=first)
        before = lab.picture()
        with monkeypatch.context() as patch:
            refuse_act(patch, position)
            outcome = commit(lab.zfs, lab.wanted)
        assert isinstance(outcome, Refused)
        assert (outcome.reason, outcome.transient) == (Reason.OUT_OF_SPACE, True)
        assert lab.picture() == before
        assert isinstance(commit(lab.zfs, lab.wanted), Committed)


def test_a_step_that_can_not_be_undone_is_told_and_the_head_is_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    with monkeypatch.context() as patch:
        refuse_act(patch, 4, 5)
        with pytest.raises(ProgramFailed, match="half done: could not undo promote tank/repo/g1"):
            commit(lab.zfs, lab.wanted)
    assert lab.picture()[PARENT].local(HEAD) == "g1"


def test_nothing_is_begun_that_a_check_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    with lab.node.sending(f"{PARENT}/g1@s1"):
        assert acts(lab, monkeypatch) == []
    lab.wanted = replace(lab.wanted, manifest="x" * 10_000)
    assert acts(lab, monkeypatch) == []


def test_a_repeated_commit_begins_nothing_and_costs_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    commit(lab.zfs, lab.wanted)
    before = lab.node.calls["zfs.program"]
    assert acts(lab, monkeypatch) == []
    assert lab.node.calls["zfs.program"] == before + 1


def test_a_pool_that_is_full_refuses_and_changes_nothing() -> None:
    lab = Lab()
    lab.node.pool("tank").size = 1
    before = lab.picture()
    outcome = commit(lab.zfs, lab.wanted)
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.transient) == (Reason.OUT_OF_SPACE, True)
    assert lab.picture() == before


def test_a_promote_across_encryption_roots_is_told() -> None:
    lab = Lab()
    with pytest.MonkeyPatch.context() as patch:
        answer = {"outcome": "refused", "reason": "zfs", "step": "promote", "subject": "t/g2", "errno": errno.EACCES}
        patch.setattr(lab.zfs, "program", lambda *_, **__: answer)
        outcome = commit(lab.zfs, lab.wanted)
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.transient) == (Reason.ENCRYPTION_ROOT, False)


# ---- errors


def test_a_pool_that_is_not_there() -> None:
    with pytest.raises(PoolNotFound):
        commit(Lab().zfs, replace(WANTED, parent="elsewhere/repo"))


def test_other_answers_are_not_taken_for_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    for answer in (None, True, {"outcome": "refused", "reason": "mood", "subject": PARENT}):
        monkeypatch.setattr(lab.zfs, "program", lambda *_, answer=answer, **__: answer)
        with pytest.raises(CommandFailed, match="not understood"):
            commit(lab.zfs, lab.wanted)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"base": Head("g1", "s1"), "generation": "g1"}, "in place"),
        ({"generation": ""}, "staged generation"),
        ({"generation": "trash"}, "'trash'"),
        ({"version": ""}, "version"),
        ({"version": "s3"}, "after s1"),
        ({"version": "s1"}, "after s1"),
        ({"version": "v2"}, "'v2'"),
        ({"transaction": ""}, "identity"),
        ({"manifest": ""}, "digest"),
        ({"accepted": -1}, "bytes"),
    ],
)
def test_a_commit_that_makes_no_sense_can_not_be_asked_for(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(WANTED, **change)


def test_a_head_that_makes_no_sense_can_not_be_asked_for() -> None:
    for generation, version in (("x1", ""), ("g1", "x1"), ("", "s1")):
        with pytest.raises(ValueError, match=r"generation|version"):
            Head(generation, version)


def test_hostile_words_stay_words() -> None:
    """Arguments never become part of the program."""
    lab = Lab()
    word = '"]] .. error("x") --\n%s'
    assert isinstance(commit(lab.zfs, replace(lab.wanted, transaction=word)), Committed)
    assert lab.picture()[PARENT].local(properties.TRANSACTION) == word
    assert commit(lab.zfs, replace(lab.wanted, transaction="other")) == HeadMoved(Head("g2", "s2"))


def test_an_identity_that_zfs_can_not_store_is_refused_and_changes_nothing() -> None:
    lab = Lab()
    before = lab.picture()
    outcome = commit(lab.zfs, replace(lab.wanted, manifest="x" * 10_000))
    assert isinstance(outcome, Refused)
    assert (outcome.reason, "E2BIG" in outcome.message) == (Reason.REFUSED, True)
    assert lab.picture() == before


# ---- the programs as part of the package


@pytest.mark.parametrize("name", ["commit.lua", "made_by.lua"])
def test_programs_and_python_name_the_same_properties(name: str) -> None:
    known = {HEAD, properties.VERSION, properties.TRANSACTION, properties.MANIFEST}
    named = set(re.findall(r'"(org\.hrdag\.dsg:[^"]*)"', source(name)))
    assert named == known if name == "commit.lua" else named == known - {properties.MANIFEST}


def test_storage_errors_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    lab.node.hanging = True
    with pytest.raises(StorageError, match="did not end in time"):
        commit(lab.zfs, lab.wanted)
