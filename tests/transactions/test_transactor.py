"""Transactions from end to end, on the model of OpenZFS and on a directory, or on OpenZFS itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dsg.api.repository import ZfsStorage
from dsg.storage.repository_type import Target
from dsg.storage.zfs.layout import TRANSACTION
from dsg.storage.zfs.model import Killed, Moment
from dsg.transactions.merge import ClashState
from dsg.transactions.transactor import Clashes, Done, Operation, Stopped
from tests.reconcile.specs import POLICY, repository
from tests.transactions.ground import Content, Ground, ModelGround, XfsGround
from tests.transactions.real import POOL

FIRST: Content = {"input/a": b"one", "input/b": b"two", "latest": "input/a", "empty": b""}


@pytest.fixture(params=["openzfs"] if POOL else ["model", "xfs"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Ground:
    if request.param == "openzfs":
        made: Ground = request.getfixturevalue("zfs_ground")()
        return made
    return ModelGround() if request.param == "model" else XfsGround(tmp_path)


def version(result: object) -> str:
    assert isinstance(result, Done), result
    return result.version


def test_the_first_version(ground: Ground) -> None:
    assert version(ground.init(FIRST)) == "s1"
    assert ground.seen() == FIRST
    header = ground.check(ground.public())
    assert (header.version, header.commit.author, header.commit.previous) == ("s1", "ana", None)
    ground.keep()
    ground.converge()
    assert ground.seen() == FIRST
    assert ground.versions() == ["s1"]


def test_the_next_version_and_the_old_one(ground: Ground) -> None:
    ground.init(FIRST)
    second = {**FIRST, "input/c": b"three", "input/a": b"one, corrected"}
    del second["input/b"]
    assert version(ground.sync("s1", FIRST, second, author="bob")) == "s2"
    assert ground.seen() == second
    assert ground.old("s1") == FIRST
    assert ground.old("s2") == second
    assert ground.versions() == ["s1", "s2"]


def test_renames_and_copies_send_nothing(ground: Ground) -> None:
    ground.init(FIRST)
    second = {"moved/a": b"one", "copy": b"one", "input/b": b"one", "x": b"two"}
    assert version(ground.sync("s1", FIRST, second)) == "s2"
    assert ground.seen() == second
    ground.check(ground.public())


def test_a_file_where_a_directory_was_and_back(ground: Ground) -> None:
    ground.init({"a/b/c": b"1", "d": b"2"})
    assert version(ground.sync("s1", {"a/b/c": b"1", "d": b"2"}, {"a": b"3", "d/e": b"2"})) == "s2"
    assert ground.seen() == {"a": b"3", "d/e": b"2"}
    assert version(ground.restore("s2", "s1")) == "s3"
    assert ground.seen() == {"a/b/c": b"1", "d": b"2"}
    ground.check(ground.public())


def test_disjoint_changes_are_put_on_top_of_each_other(ground: Ground) -> None:
    ground.init(FIRST)
    ours = ground.transaction(Operation.SYNC, {**FIRST, "ours": b"ours"}, base="s1")
    place = ground.transactor.stage(ground.target, ours)
    assert isinstance(place, str)
    ground.send(place, FIRST, {**FIRST, "ours": b"ours"})
    assert version(ground.sync("s1", FIRST, {**FIRST, "theirs": b"theirs"}, author="bob")) == "s2"
    result = ground.finish(ours)
    assert isinstance(result, Done)
    assert (result.version, result.onto) == ("s3", "s2")
    assert ground.seen() == {**FIRST, "ours": b"ours", "theirs": b"theirs"}
    ground.check(ground.public())
    ground.keep()
    assert ground.versions() == ["s1", "s2", "s3"]


def test_overlapping_changes_are_a_conflict_and_change_nothing(ground: Ground) -> None:
    ground.init(FIRST)
    ours = {**FIRST, "input/a": b"ours", "input/b": b"ours too"}
    theirs = {**FIRST, "input/a": b"theirs"}
    del theirs["input/b"]
    transaction = ground.transaction(Operation.SYNC, ours, base="s1")
    place = ground.transactor.stage(ground.target, transaction)
    assert isinstance(place, str)
    ground.send(place, FIRST, ours)
    assert version(ground.sync("s1", FIRST, theirs, author="bob")) == "s2"
    result = ground.finish(transaction)
    assert isinstance(result, Clashes)
    assert result.total == 2
    assert [(c.path, c.state) for c in result.first] == [
        ("input/a", ClashState.ALL_DIFFER),
        ("input/b", ClashState.DELETED_THERE),
    ]
    assert ground.seen() == theirs
    ground.transactor.discard(ground.target, transaction)
    kept = ground.keep()
    assert kept.cleaned.kept == ()


def test_a_change_that_changes_nothing_makes_no_version(ground: Ground) -> None:
    ground.init(FIRST)
    result = ground.sync("s1", FIRST, FIRST)
    assert isinstance(result, Done)
    assert (result.version, result.header) == ("s1", None)
    assert version(ground.restore("s1", "s1")) == "s1"
    assert ground.versions() == ["s1"]


def test_init_needs_a_repository_without_versions(ground: Ground) -> None:
    ground.init(FIRST)
    result = ground.init(FIRST)
    assert isinstance(result, Stopped)
    assert result.reason == "AlreadyInitialized"


def test_content_that_is_not_what_the_manifest_says(ground: Ground) -> None:
    ground.init(FIRST)
    wanted = {**FIRST, "input/a": b"right"}
    transaction = ground.transaction(Operation.SYNC, wanted, base="s1")
    place = ground.transactor.stage(ground.target, transaction)
    assert isinstance(place, str)
    ground.send(place, FIRST, {**FIRST, "input/a": b"wrong"})
    result = ground.finish(transaction)
    assert isinstance(result, Stopped)
    assert result.reason == "ManifestWrong"
    assert ground.seen() == FIRST


def test_attribution(ground: Ground) -> None:
    from dsg.manifests import tree
    from dsg.transactions.metadata import Metadata

    ground.init(FIRST)
    ground.sync("s1", FIRST, {**FIRST, "input/a": b"bob's"}, author="bob")
    metadata = Metadata(ground.trees, ground.public())
    header = metadata.header()
    assert header is not None
    signed = {e.path: (e.author, e.version) for e in tree.entries(metadata, header.summary)}
    assert signed["input/a"] == ("bob", "s2")
    assert signed["input/b"] == ("ana", "s1")


def test_more_than_a_transaction_may_bring(tmp_path: Path) -> None:
    """On ZFS a quota of the stage says so; here what was sent is measured."""
    ground = XfsGround(tmp_path, transactions={"sizeLimit": "1Ki"})
    result = ground.init({"large": b"x" * 1025})
    assert isinstance(result, Stopped)
    assert result.reason == "TransactionQuota"
    assert "spec.transactions.sizeLimit" in result.message
    assert version(ground.init({"large": b"x" * 1024})) == "s1"


def test_a_new_generation_has_the_limits_of_the_spec() -> None:
    """A generation without them would pass for one that somebody changed by hand."""
    properties = {**POLICY, "refreservation": "1Mi"}
    ground = ModelGround(storage={**repository()["spec"]["storage"], "properties": properties})
    ground.target = replace_spec(ground, refquota="7Gi")
    ground.converge()
    ground.init(FIRST)
    ground.keep()
    found = ground.repositories.observe([ground.target])[ground.target.identity]
    plan = ground.repositories.plan(ground.target, found)
    assert (plan.steps, plan.drift) == ((), ())
    stage = ground.transaction(Operation.SYNC, {**FIRST, "x": b"x"}, base="s1")
    place = ground.transactor.stage(ground.target, stage)
    assert isinstance(place, str)
    ground.send(place, FIRST, {**FIRST, "x": b"x"})
    ground.target = replace_spec(ground, refquota="6Gi")
    ground.converge()
    assert version(ground.finish(stage)) == "s2"
    ground.keep()
    found = ground.repositories.observe([ground.target])[ground.target.identity]
    plan = ground.repositories.plan(ground.target, found)
    assert (plan.steps, plan.drift) == ((), ())


def replace_spec(ground: Ground, **properties: str) -> Target:
    spec = ground.target.spec
    assert isinstance(spec.storage, ZfsStorage)
    changed = spec.storage.properties.model_copy(update=properties)
    storage = spec.storage.model_copy(update={"properties": changed})
    return replace(ground.target, spec=spec.model_copy(update={"storage": storage}), existed=True)


def test_what_was_put_on_top_before_an_interruption_says_so_afterwards() -> None:
    ground = ModelGround()
    ground.init(FIRST)
    ours = ground.transaction(Operation.SYNC, {**FIRST, "ours": b"ours"}, base="s1")
    place = ground.transactor.stage(ground.target, ours)
    assert isinstance(place, str)
    ground.send(place, FIRST, {**FIRST, "ours": b"ours"})
    assert ground.transactor.build(ground.target, ours) is None
    ground.sync("s1", FIRST, {**FIRST, "theirs": b"theirs"}, author="bob")

    def strike(moment: Moment, operation: str, arguments: Mapping[str, object]) -> None:
        if (moment, operation) == (Moment.BEFORE, "zfs.program"):
            raise Killed

    ground.node.faults = strike
    with pytest.raises(Killed):
        ground.transactor.commit(ground.target, ours)
    ground.node.faults = None
    ground.restart()
    ground.converge()
    result = ground.finish(ours)
    assert isinstance(result, Done)
    assert (result.version, result.onto) == ("s3", "s2")


def test_a_stage_that_lost_its_property_still_says_whose_it_is_as_a_generation() -> None:
    """Properties land after the dataset; a power cut between the two leaves a stage that only its name tells of."""
    ground = ModelGround()
    ground.init(FIRST)
    wanted = {**FIRST, "x": b"x"}
    transaction = ground.transaction(Operation.SYNC, wanted, base="s1")
    place = ground.transactor.stage(ground.target, transaction)
    assert isinstance(place, str)
    stage = f"tank/dsg/justice/stage-{transaction.uid}"
    ground.zfs.inherit(stage, [TRANSACTION])
    ground.send(place, FIRST, wanted)

    def strike(moment: Moment, operation: str, arguments: object) -> None:
        if (moment, operation) == (Moment.AFTER, "zfs.rename"):
            ground.node.faults = None
            raise Killed

    ground.node.faults = strike
    with pytest.raises(Killed):
        ground.finish(transaction)
    ground.restart()
    kept = ground.keep()
    assert kept.cleaned.kept == ()
    assert ground.datasets() == {"g2"}


def test_what_was_written_a_moment_ago_keeps_a_former_head() -> None:
    """Its transaction group may not be on disk when the former head is looked at: `written` is still 0 then."""
    ground = ModelGround()
    ground.init(FIRST)
    ground.keep()
    second = {**FIRST, "x": b"x"}
    assert version(ground.sync("s1", FIRST, second)) == "s2"
    former = next(name for name in sorted(ground.datasets()) if not ground.public().endswith(name))
    ground.node.write(f"tank/dsg/justice/{former}", "by-hand", b"evidence")
    kept = ground.keep()
    assert not kept.cleaned.removed
    assert former in ground.datasets()
    kept = ground.keep()
    assert "by-hand" in kept.cleaned.kept[0]
    assert ground.node.read(f"tank/dsg/justice/{former}", "by-hand") == b"evidence"


def test_a_strangers_dataset_with_a_generations_name_is_kept() -> None:
    ground = ModelGround()
    ground.init(FIRST)
    ground.sync("s1", FIRST, {**FIRST, "x": b"x"})
    ground.keep()
    (head,) = ground.datasets()
    ground.zfs.create("tank/dsg/justice/g2", {})
    ground.zfs.clone(f"tank/dsg/justice/{head}@s1", "tank/dsg/justice/g1", {})
    kept = ground.keep()
    assert not kept.cleaned.removed
    assert ground.datasets() == {head, "g1", "g2"}
    assert len(kept.cleaned.kept) == 2


def test_cleaning_takes_nothing_from_readers_who_see_the_former_head() -> None:
    """The head has moved and its reveal did not come: whoever cleans first shows the head."""
    ground = ModelGround()
    ground.init(FIRST)
    ground.keep()
    second = {**FIRST, "x": b"x"}
    transaction = ground.transaction(Operation.SYNC, second, base="s1")
    place = ground.transactor.stage(ground.target, transaction)
    assert isinstance(place, str)
    ground.send(place, FIRST, second)
    assert ground.transactor.build(ground.target, transaction) is None
    assert version(ground.transactor.commit(ground.target, transaction)) == "s2"
    seen = []

    def look(moment: Moment, operation: str, arguments: object) -> None:
        ground.node.faults = None
        seen.append(ground.seen())
        ground.node.faults = look

    ground.node.faults = look
    ground.keep()
    ground.node.faults = None
    assert all(tree in (FIRST, second) for tree in seen)
    assert ground.seen() == second
