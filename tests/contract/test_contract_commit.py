"""The commit program: the head moves wholly or not at all, and every refusal leaves everything as it was."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest

from dsg.storage.errors import InvalidValue
from dsg.storage.zfs.interface import Dataset
from dsg.storage.zfs.layout import HEAD, MANIFEST, TRANSACTION, VERSION
from dsg.transactions.commit import Commit, Committed, Head, HeadMoved, Reason, Refused, commit, source

from .bench import FILESYSTEM, SNAPSHOT, Bench, ModelBench

DIGEST = "ab" * 32
PICTURE = ("guid", "origin", "createtxg", "userrefs", HEAD, VERSION, TRANSACTION, MANIFEST)

# ---- a repository


def picture(bench: Bench) -> Mapping[str, Dataset]:
    """Return every dataset and snapshot of the test with what a commit could change of it."""
    return bench.zfs.read([bench.root], PICTURE, kinds=[FILESYSTEM, SNAPSHOT])


def head(bench: Bench) -> Head:
    parent = bench.zfs.read([bench.root], [HEAD, VERSION], depth=0)[bench.root]
    return Head(parent.local(HEAD) or "", parent.local(VERSION) or "")


def put(bench: Bench, generation: str, content: bytes, name: str = "file") -> None:
    """Write a file into a generation that is not mounted."""
    directory = bench.mounted(f"{bench.root}/{generation}", f"put-{generation}")
    bench.write_file(f"{directory}/{name}", content)
    bench.host.unmount(directory)
    bench.host.remove_directory(directory)


def content(bench: Bench, generation: str, name: str = "file") -> bytes:
    directory = bench.mounted(f"{bench.root}/{generation}", f"get-{generation}", read_only=True)
    found = bench.read_file(f"{directory}/{name}")
    bench.host.unmount(directory)
    bench.host.remove_directory(directory)
    return found


def stage(bench: Bench, generation: str, version: str, transaction: str = "") -> Commit:
    """Open a transaction at the head and write its version's name into it."""
    base = head(bench)
    if base.version:
        bench.zfs.clone(f"{bench.root}/{base.generation}@{base.version}", f"{bench.root}/{generation}", {})
    else:
        bench.create(generation)
    put(bench, generation, f"{version} of {generation}".encode())
    return Commit(bench.root, base, generation, version, transaction or f"tx-{generation}", DIGEST)


def done(bench: Bench, wanted: Commit) -> None:
    assert commit(bench.zfs, wanted) == Committed(wanted.version, Head(wanted.generation, wanted.version))


def repository(bench: Bench) -> None:
    """Make a repository at s2 in g2."""
    done(bench, stage(bench, "g1", "s1"))
    done(bench, stage(bench, "g2", "s2"))


@contextmanager
def sending(bench: Bench, snapshot: str) -> Iterator[None]:
    """Send a snapshot to somebody who does not read on. It has to be larger than a pipe."""
    if isinstance(bench, ModelBench):
        with bench.node.sending(snapshot):
            yield
        return
    with subprocess.Popen(["zfs", "send", snapshot], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        try:
            yield
        finally:
            process.kill()


# ---- success


def test_the_first_version(bench: Bench) -> None:
    wanted = stage(bench, "g1", "s1")
    done(bench, wanted)
    found = picture(bench)
    assert found.keys() == {bench.root, f"{bench.root}/g1", f"{bench.root}/g1@s1"}
    parent, version = found[bench.root], found[f"{bench.root}/g1@s1"]
    assert (parent.local(HEAD), parent.local(VERSION), parent.local(TRANSACTION)) == ("g1", "s1", "tx-g1")
    assert (version.local(TRANSACTION), version.local(MANIFEST)) == ("tx-g1", DIGEST)
    assert parent.local(MANIFEST) is None


def test_the_first_version_replaces_an_empty_head(bench: Bench) -> None:
    """Reconciling makes an empty g1 and reveals it before there is any version."""
    bench.create("g1")
    bench.zfs.set_properties(bench.root, {HEAD: "g1"})
    done(bench, stage(bench, "g2", "s1"))
    assert head(bench) == Head("g2", "s1")
    assert picture(bench).keys() == {bench.root, *(f"{bench.root}/{name}" for name in ("g1", "g2", "g2@s1"))}


def test_the_next_version_owns_all_versions_so_far(bench: Bench) -> None:
    repository(bench)
    former = head(bench)
    done(bench, stage(bench, "g3", "s3"))
    found = picture(bench)
    assert found.keys() == {bench.root, *(f"{bench.root}/{name}" for name in ("g1", "g2", "g3"))} | {
        f"{bench.root}/g3@{version}" for version in ("s1", "s2", "s3")
    }
    assert found[bench.root].local(TRANSACTION) == "tx-g3"
    assert {version: found[f"{bench.root}/g3@{version}"].local(TRANSACTION) for version in ("s1", "s2", "s3")} == {
        "s1": "tx-g1",
        "s2": "tx-g2",
        "s3": "tx-g3",
    }
    assert found[f"{bench.root}/{former.generation}"].value("origin") == f"{bench.root}/g3@s2"
    assert content(bench, "g3") == b"s3 of g3"
    assert content(bench, "g2") == b"s2 of g2"


def test_generations_may_be_mounted_and_in_use(bench: Bench) -> None:
    """Mounting the head, read-only too, counts as written on OpenZFS; that much is accepted and not a byte more."""
    repository(bench)
    wanted = stage(bench, "g3", "s3")
    old = bench.mounted(f"{bench.root}/g2", "old", read_only=True)
    new = bench.mounted(f"{bench.root}/g3", "new")
    bench.sync()
    wanted = replace(wanted, accepted=int(bench.value(f"{bench.root}/g2", "written@s2")))
    bench.write_file(f"{new}/file", b"written without fsync just before")
    with bench.in_use(f"{old}/file"), bench.in_use(f"{new}/file", writing=True):
        done(bench, wanted)
        assert bench.read_file(f"{old}/file") == b"s2 of g2"
    bench.zfs.clone(f"{bench.root}/g3@s3", f"{bench.root}/look", {})
    assert content(bench, "look") == b"written without fsync just before"


def test_a_generation_that_stays_mounted_read_only_through_its_commit_gains_nothing(bench: Bench) -> None:
    repository(bench)
    wanted = stage(bench, "g3", "s3")
    directory = bench.mounted(f"{bench.root}/g3", "g3")
    bench.write_file(f"{directory}/file", b"synced", sync=True)
    bench.host.remount(directory, read_only=True)
    done(bench, wanted)
    assert bench.read_file(f"{directory}/file") == b"synced"
    bench.sync()
    assert bench.value(f"{bench.root}/g3", "written@s3") == "0"
    done(bench, stage(bench, "g4", "s4"))


def test_bytes_beyond_the_accepted_ones_are_told(bench: Bench) -> None:
    repository(bench)
    wanted = stage(bench, "g3", "s3")
    put(bench, "g2", b"known", "known")
    bench.sync()
    known = int(bench.value(f"{bench.root}/g2", "written@s2"))
    assert known > 0
    before = picture(bench)
    outcome = commit(bench.zfs, replace(wanted, accepted=known - 1))
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.details) == (Reason.WRITTEN, (str(known),))
    assert picture(bench) == before
    done(bench, replace(wanted, accepted=known))


def test_an_encrypted_repository(bench: Bench) -> None:
    properties = {"encryption": "aes-256-gcm", "keyformat": "raw", "keylocation": bench.key_file("k", bytes(32))}
    bench.zfs.create(f"{bench.root}/safe", properties)
    inside = Commit(f"{bench.root}/safe", Head(), "g1", "s1", "one", DIGEST)
    bench.create("safe/g1")
    assert isinstance(commit(bench.zfs, inside), Committed)
    bench.zfs.clone(f"{bench.root}/safe/g1@s1", f"{bench.root}/safe/g2", {})
    outcome = commit(bench.zfs, replace(inside, base=Head("g1", "s1"), generation="g2", version="s2", transaction="2"))
    assert outcome == Committed("s2", Head("g2", "s2"))


# ---- the head moved


def test_of_two_transactions_from_one_base_exactly_one_wins(bench: Bench) -> None:
    repository(bench)
    first, second = stage(bench, "g3", "s3"), stage(bench, "g4", "s3")
    done(bench, first)
    before = picture(bench)
    assert commit(bench.zfs, second) == HeadMoved(Head("g3", "s3"))
    assert picture(bench) == before
    assert content(bench, "g4") == b"s3 of g4"
    assert before[f"{bench.root}/g4"].value("origin") == f"{bench.root}/g3@s2"
    bench.zfs.destroy(f"{bench.root}/g4")
    done(bench, stage(bench, "g5", "s4", second.transaction))
    assert content(bench, "g5") == b"s4 of g5"


def test_of_two_first_versions_exactly_one_wins(bench: Bench) -> None:
    first, second = stage(bench, "g1", "s1"), stage(bench, "g2", "s1")
    done(bench, second)
    before = picture(bench)
    assert commit(bench.zfs, first) == HeadMoved(Head("g2", "s1"))
    assert picture(bench) == before


@pytest.mark.parametrize(
    "record", [{HEAD: "g1"}, {VERSION: "s1"}, {HEAD: "g9", VERSION: "s9"}], ids=["head", "version", "both"]
)
def test_head_and_version_must_both_be_the_base(bench: Bench, record: Mapping[str, str]) -> None:
    repository(bench)
    wanted = stage(bench, "g3", "s3")
    bench.zfs.set_properties(bench.root, record)
    before = picture(bench)
    assert commit(bench.zfs, wanted) == HeadMoved(head(bench))
    assert picture(bench) == before


def test_an_inherited_head_is_no_head(bench: Bench) -> None:
    """A record that came by inheritance belongs to a dataset above."""
    repository(bench)
    inner = bench.create("inner")
    bench.create("inner/g3")
    outcome = commit(bench.zfs, Commit(inner, Head("g2", "s2"), "g3", "s3", "t", DIGEST))
    assert outcome == HeadMoved(Head())
    assert commit(bench.zfs, Commit(inner, Head(), "g3", "s1", "tx-g2", DIGEST)) == Committed("s1", Head("g3", "s1"))


def test_a_record_that_is_no_head_is_told(bench: Bench) -> None:
    repository(bench)
    wanted = stage(bench, "g3", "s3")
    bench.zfs.set_properties(bench.root, {HEAD: "../elsewhere"})
    before = picture(bench)
    with pytest.raises(InvalidValue, match="elsewhere"):
        commit(bench.zfs, wanted)
    assert picture(bench) == before


# ---- again


def test_a_repeated_commit_changes_nothing_and_says_the_same(bench: Bench) -> None:
    done(bench, stage(bench, "g1", "s1"))
    wanted = stage(bench, "g2", "s2")
    done(bench, wanted)
    before = picture(bench)
    assert commit(bench.zfs, wanted) == Committed("s2", Head("g2", "s2"), repeated=True)
    assert picture(bench) == before


def test_a_commit_repeated_after_others_have_moved_on_says_the_same(bench: Bench) -> None:
    done(bench, stage(bench, "g1", "s1"))
    wanted = stage(bench, "g2", "s2")
    for one in (wanted, stage(bench, "g3", "s2")):
        commit(bench.zfs, one)
    done(bench, stage(bench, "g4", "s3"))
    done(bench, stage(bench, "g5", "s4"))
    bench.zfs.destroy(f"{bench.root}/g3")
    bench.zfs.destroy(f"{bench.root}/g1")
    bench.zfs.destroy_snapshots(f"{bench.root}/g5", ["s1"])
    before = picture(bench)
    assert commit(bench.zfs, wanted) == Committed("s2", Head("g5", "s4"), repeated=True)
    assert commit(bench.zfs, replace(wanted, generation="g3", transaction="tx-g3")) == HeadMoved(Head("g5", "s4"))
    assert picture(bench) == before


# ---- refused


def no_parent(bench: Bench, wanted: Commit) -> tuple[Commit, Reason, str]:
    return replace(wanted, parent=f"{bench.root}/none"), Reason.PARENT_MISSING, f"{bench.root}/none"


def no_staged(bench: Bench, wanted: Commit) -> tuple[Commit, Reason, str]:
    return replace(wanted, generation="g7"), Reason.STAGED_MISSING, "g7"


def no_head(bench: Bench, wanted: Commit) -> tuple[Commit, Reason, str]:
    bench.zfs.set_properties(bench.root, {HEAD: "g8"})
    return replace(wanted, base=Head("g8", "s2")), Reason.HEAD_MISSING, "g8"


def staged_from_nothing(bench: Bench, wanted: Commit) -> tuple[Commit, Reason, str]:
    bench.create("g7")
    return replace(wanted, generation="g7"), Reason.NOT_FROM_HEAD, "nothing"


def staged_from_an_older_version(bench: Bench, wanted: Commit) -> tuple[Commit, Reason, str]:
    bench.zfs.clone(f"{bench.root}/g2@s1", f"{bench.root}/g7", {})
    return replace(wanted, generation="g7"), Reason.NOT_FROM_HEAD, "@s1"


def written_past_the_transactions(bench: Bench, wanted: Commit) -> tuple[Commit, Reason, str]:
    put(bench, "g2", b"by hand", "extra")
    bench.sync()
    return wanted, Reason.WRITTEN, "bytes"


def written_before_a_foreign_snapshot(bench: Bench, wanted: Commit) -> tuple[Commit, Reason, str]:
    put(bench, "g2", b"by hand", "extra")
    bench.zfs.snapshot([f"{bench.root}/g2@theirs"])
    return wanted, Reason.WRITTEN, "bytes"


def version_on_the_head(bench: Bench, wanted: Commit) -> tuple[Commit, Reason, str]:
    bench.zfs.snapshot([f"{bench.root}/g2@s3"])
    return wanted, Reason.VERSION_TAKEN, "g2@s3"


def version_on_the_staged(bench: Bench, wanted: Commit) -> tuple[Commit, Reason, str]:
    bench.zfs.snapshot([f"{bench.root}/g3@s3"])
    return wanted, Reason.VERSION_TAKEN, "g3@s3"


def name_of_an_older_version_on_the_staged(bench: Bench, wanted: Commit) -> tuple[Commit, Reason, str]:
    bench.zfs.snapshot([f"{bench.root}/g3@s1"])
    return wanted, Reason.NAMES_COLLIDE, "s1"


REFUSALS: tuple[Callable[[Bench, Commit], tuple[Commit, Reason, str]], ...] = (
    no_parent,
    no_staged,
    no_head,
    staged_from_nothing,
    staged_from_an_older_version,
    version_on_the_head,
    written_before_a_foreign_snapshot,
    written_past_the_transactions,
    version_on_the_staged,
    name_of_an_older_version_on_the_staged,
)


@pytest.mark.parametrize("obstacle", REFUSALS, ids=lambda obstacle: obstacle.__name__)
def test_a_refusal_changes_nothing_and_names_what_is_in_the_way(
    bench: Bench, obstacle: Callable[[Bench, Commit], tuple[Commit, Reason, str]]
) -> None:
    repository(bench)
    wanted, reason, word = obstacle(bench, stage(bench, "g3", "s3"))
    before = picture(bench)
    outcome = commit(bench.zfs, wanted)
    assert isinstance(outcome, Refused)
    assert outcome.reason is reason
    assert word in outcome.message
    assert not outcome.transient
    assert picture(bench) == before


def test_somebodys_snapshots_stop_no_commit_and_are_kept(bench: Bench) -> None:
    """Those before the base belong to the history by now; those after it stay with the former generation."""
    done(bench, stage(bench, "g1", "s1"))
    wanted = stage(bench, "g2", "s2")
    bench.zfs.snapshot([f"{bench.root}/g2@while-staged", f"{bench.root}/g1@before"])
    done(bench, wanted)
    wanted = stage(bench, "g3", "s3")
    bench.zfs.snapshot([f"{bench.root}/g2@after"])
    done(bench, wanted)
    snapshots = {name for name in picture(bench) if "@" in name}
    assert snapshots == {f"{bench.root}/{name}" for name in ("g1@before", "g2@after")} | {
        f"{bench.root}/g3@{name}" for name in ("s1", "while-staged", "s2", "s3")
    }
    assert bench.value(f"{bench.root}/g2@after", "written") == "0"


def test_the_first_version_is_no_clone(bench: Bench) -> None:
    bench.create("g1")
    bench.zfs.set_properties(bench.root, {HEAD: "g1"})
    wanted = stage(bench, "g2", "s1")
    bench.zfs.snapshot([f"{bench.root}/g1@theirs"])
    bench.zfs.clone(f"{bench.root}/g1@theirs", f"{bench.root}/g3", {})
    before = picture(bench)
    outcome = commit(bench.zfs, replace(wanted, generation="g3"))
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.details) == (Reason.NOT_FROM_HEAD, (f"{bench.root}/g1@theirs",))
    assert picture(bench) == before
    done(bench, wanted)
    assert bench.exists(f"{bench.root}/g1@theirs")


def test_a_version_that_is_being_sent_delays_the_commit(bench: Bench) -> None:
    done(bench, stage(bench, "g1", "s1"))
    wanted = stage(bench, "g2", "s2")
    put(bench, "g2", bytes(range(256)) * 4096, "large")
    done(bench, wanted)
    wanted = stage(bench, "g3", "s3")
    before = picture(bench)
    with sending(bench, f"{bench.root}/g2@s2"):
        outcome = commit(bench.zfs, wanted)
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.transient) == (Reason.BUSY, True)
    assert picture(bench) == before
    done(bench, wanted)


def test_holds_do_not_delay_a_commit(bench: Bench) -> None:
    repository(bench)
    wanted = stage(bench, "g3", "s3")
    bench.zfs.hold([f"{bench.root}/g2@s1", f"{bench.root}/g2@s2"], "kept")
    done(bench, wanted)
    assert {hold.snapshot for hold in bench.zfs.holds([f"{bench.root}/g3@s1", f"{bench.root}/g3@s2"])} == {
        f"{bench.root}/g3@s1",
        f"{bench.root}/g3@s2",
    }


def test_a_quota_that_is_too_small_for_the_history(bench: Bench) -> None:
    done(bench, stage(bench, "g1", "s1"))
    wanted = stage(bench, "g2", "s2")
    put(bench, "g2", bytes(range(256)) * 4096, "large")
    done(bench, wanted)
    wanted = stage(bench, "g3", "s3")
    bench.sync()
    bench.zfs.set_properties(f"{bench.root}/g3", {"quota": "512K"})
    before = picture(bench)
    outcome = commit(bench.zfs, wanted)
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.subject) == (Reason.OUT_OF_SPACE, f"{bench.root}/g3")
    assert picture(bench) == before


# ---- what a program can undo


def test_a_step_refused_after_the_checks_is_undone_in_the_same_transaction_group(bench: Bench) -> None:
    """No step is: so one is added to the program that its check passes over."""
    repository(bench)
    wanted = stage(bench, "g3", "s3")
    text = source("commit.lua")
    more = 'table.insert(steps, { { "set_prop", parent, "Bad", "" } })'
    added = text.replace("for position, step", f"{more}\nfor position, step")
    assert added != text
    before = picture(bench)
    arguments = (bench.root, "g2", "s2", "g3", "s3", "t", DIGEST, "0")
    assert bench.run(added, *arguments) == {
        "outcome": "refused",
        "reason": "zfs",
        "step": "set_prop",
        "subject": bench.root,
        "errno": 22,
    }
    assert picture(bench) == before
    done(bench, wanted)
