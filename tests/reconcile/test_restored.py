"""Backups: what `zfs receive` brought is proved on the node, adopted with its versions, and worked on."""

from __future__ import annotations

import pytest

from dsg.operator.verify_command import Expected, VerifyError, dataset
from dsg.reconcile.cluster import Key
from dsg.storage.trees import Owning
from dsg.storage.zfs import layout
from dsg.storage.zfs.interface import Property, Source
from dsg.storage.zfs.model.dataset import Stored
from dsg.transactions.proof import Proof, prove
from tests.reconcile.specs import repository
from tests.reconcile.test_transactions import FIRST, SECOND, commit, initialized, seen, state, transaction
from tests.reconcile.world import World

DATASET = "tank/dsg/justice"
ROOT = "/srv/dsg/.justice/g3"
OWNING = Owning(0, 0, 0o755)


def two_versions() -> World:
    world = initialized()
    commit(world, "second", "Sync", FIRST, SECOND, base="s1")
    world.run()
    return world


def restored() -> World:
    """Return a world whose Repository is gone and whose dataset looks as after `zfs send -R | zfs receive -u`."""
    world = two_versions()
    world.cluster.delete(Key("Repository", "research", "justice"))
    world.run()
    for name in sorted(world.datasets()):
        if name.startswith(DATASET):
            thing = world.node.dataset(name)
            for key, found in list(thing.local.items()):
                value = found.local.value
                thing.local[key] = Stored(
                    Property(value, Source.RECEIVED), Property(value, Source.INHERITED, found.inherited.inherited_from)
                )
    return world


def test_a_backup_is_adopted_with_its_versions_and_goes_on() -> None:
    world = restored()
    obj = repository()
    world.apply(obj)
    world.run()
    assert world.ready() == ("False", "DatasetForeign")
    assert "adopt to true" in world.condition("Ready")["message"]
    assert world.local(DATASET, layout.UID) is None
    world.apply(repository(adopt=True))
    world.run()
    assert world.ready() == ("True", "Reconciled")
    assert world.get()["status"]["head"]["version"] == "s2"
    assert world.local(DATASET, layout.UID) == world.get()["metadata"]["uid"]
    assert seen(world) == SECOND
    assert world.told("DriftCorrected") == []
    world.quiet()
    commit(world, "third", "Sync", SECOND, FIRST, base="s2")
    assert state(world, "third") == ("Committed", "Committed")
    assert seen(world) == FIRST
    world.apply(transaction("back", "Restore", base="s3", restore="s2", intent="Commit"))
    world.advance("back")
    world.run()
    assert seen(world) == SECOND
    assert len(world.datasets()) == 4


def test_a_backup_of_another_repository_is_not_adopted() -> None:
    world = restored()
    world.zfs.set_properties(DATASET, {layout.IDENTITY: "research/other"})
    world.apply(repository(adopt=True))
    world.run()
    assert world.ready() == ("False", "DatasetForeign")
    assert "research/other" in world.condition("Ready")["message"]


def proofs(world: World, *wanted: str, expect: str = "") -> list[Proof]:
    expected = Expected.parse([expect] if expect else [])
    return list(dataset(world.zfs, world.host, world.trees, DATASET, list(wanted), expected))


def test_every_version_is_proved_also_when_received_and_not_mounted() -> None:
    world = restored()
    first, second = proofs(world)
    assert (first.whole, second.whole) == (True, True)
    assert (first.version, second.version, second.files) == ("s1", "s2", 2)
    assert proofs(world, "s2", expect=f"s2:{second.digest}")[0].whole
    (wrong,) = proofs(world, "s2", expect=f"s2:{'0' * 64}")
    assert "chain digest should be" in wrong.findings[0]
    with pytest.raises(VerifyError, match="has no version s9; there is s1 to s2"):
        proofs(world, "s9")
    assert not [mount for mount in world.host.mounts() if "dsg-verify" in mount.directory]


def test_what_is_no_repository_is_told() -> None:
    world = two_versions()
    expected = Expected({})
    for name in ("tank/none", "tank/dsg"):
        with pytest.raises(VerifyError):
            list(dataset(world.zfs, world.host, world.trees, name, [], expected))
    for text in ("s1", "s1:abc", f"x:{'0' * 64}"):
        with pytest.raises(VerifyError):
            Expected.parse([text])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("content", "has another content"),
        ("size", "has size"),
        ("mode", "mode 644"),
        ("missing", "is missing"),
        ("extra", "and not in the manifest"),
        ("kind", "should be a file"),
        ("node", "metadata is damaged"),
        ("history", "metadata is damaged"),
        ("none", "there is no version"),
    ],
)
def test_damage_of_every_kind_is_found(damage: str, words: str) -> None:
    world = two_versions()
    world.host.remount(ROOT, read_only=False)
    trees = world.trees
    facts = trees.facts(ROOT, "input/a")
    assert facts is not None
    path = "input/a"
    match damage:
        case "content" | "size":
            content = b"x" * (facts.size + (damage == "size"))
            trees.write(ROOT, path, content, mode=facts.mode, owning=OWNING)
            trees.set_attributes(ROOT, path, mode=facts.mode, mtime=facts.mtime, owning=OWNING)
        case "mode":
            trees.set_attributes(ROOT, path, mode=0o644, mtime=facts.mtime, owning=OWNING)
        case "missing":
            trees.remove(ROOT, path)
        case "extra":
            trees.write(ROOT, "input/by-hand", b"", mode=0o600, owning=OWNING)
        case "kind":
            trees.remove(ROOT, path)
            trees.link(ROOT, path, "c", owning=OWNING)
        case "node":
            (name, *_) = sorted(trees.names(ROOT, ".dsg/nodes"))
            trees.write(ROOT, f".dsg/nodes/{name}", b"damaged\n", mode=0o600, owning=OWNING)
        case "history":
            raw = trees.read(ROOT, ".dsg/history/s1-s64") or b""
            changed = raw.replace(b"alice", b"mallo", 1)
            trees.write(ROOT, ".dsg/history/s1-s64", changed, mode=0o600, owning=OWNING)
        case "none":
            trees.remove(ROOT, ".dsg/history/s1-s64")
    found = prove(trees, ROOT, "s2")
    assert not found.whole
    assert any(words in finding for finding in found.findings), found.findings
