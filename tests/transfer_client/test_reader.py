"""Reading a version: what travels, what is verified, what is made again."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from dsg.manifests import history, tree
from dsg.manifests.nodes import NodeMissing
from dsg.transfer.chunks import AVERAGE, MAXIMUM
from dsg.transfer.client import (
    Damaged,
    DirectoryNodes,
    GrantOver,
    Identity,
    Progress,
    Reader,
    Refused,
)
from dsg.transfer.client.basis import Basis
from dsg.transfer.wire import LARGE
from tests.transfer_client.relay import Relay
from tests.transfer_client.world import World, digest_of, make_version, names, noise, wanted

ODD = ["a b+c&d=e?f#g%2F", "ünï/cödé", os.fsdecode(b"not\xffutf8"), "new\nline", 'quote"back\\slash']


def test_header_history_and_manifest_are_those_of_the_version(
    world: World, uid: str, identity: Identity, tmp_path: Path
) -> None:
    contents = {f"input/{number:05}": noise(number, 10) for number in range(1000)}
    header = make_version(tmp_path / "s1", contents)
    world.grant_reading(uid, identity, tmp_path / "s1")
    with world.connect(uid, identity) as connection:
        reader = Reader(connection)
        assert reader.header() == header
        assert history.verify(reader, "s1", header.chain) == "s1"
        assert reader.read("s65-s128") is None
        found = {entry.path for entry in tree.entries(reader, header.summary)}
        assert found == contents.keys()


def test_a_tree_comes_in_few_requests_and_stays_in_its_directory(
    world: World, relay: Relay, uid: str, identity: Identity, tmp_path: Path
) -> None:
    header = make_version(tmp_path / "s1", {f"input/{number:05}": noise(number, 10) for number in range(1500)})
    world.grant_reading(uid, identity, tmp_path / "s1")
    (tmp_path / "nodes").mkdir()
    with world.connect(uid, identity, relay.port) as connection:
        Reader(connection, DirectoryNodes(tmp_path / "nodes")).prefetch_tree(header.summary.digest)
        assert names(tmp_path / "nodes") == names(tmp_path / "s1/.dsg/nodes")
        received = connection.traffic.received
        again = Reader(connection, DirectoryNodes(tmp_path / "nodes"))
        again.prefetch_tree(header.summary.digest)
        assert len(list(tree.entries(again, header.summary))) == 1500
        assert connection.traffic.received == received


def test_nothing_below_a_known_node_is_asked_for(world: World, uid: str, identity: Identity, tmp_path: Path) -> None:
    header = make_version(tmp_path / "s1", {"a": b"a"})
    world.grant_reading(uid, identity, tmp_path / "s1")
    with world.connect(uid, identity) as connection:
        Reader(connection).prefetch_tree(header.summary.digest, lambda digest: digest == header.summary.digest)
        assert connection.traffic.received == 0


def test_a_node_that_is_not_there_or_damaged_is_told(
    world: World, uid: str, identity: Identity, tmp_path: Path
) -> None:
    header = make_version(tmp_path / "s1", {"a": b"a"})
    world.grant_reading(uid, identity, tmp_path / "s1")
    with world.connect(uid, identity) as connection:
        reader = Reader(connection)
        with pytest.raises(NodeMissing):
            reader.get("0" * 64)
        reader.prefetch(["0" * 64])
        (tmp_path / "s1/.dsg/nodes" / header.summary.digest).write_bytes(b"damaged")
        with pytest.raises(Damaged, match="manifest"):
            reader.get(header.summary.digest)


def test_contents_arrive_in_the_store_and_are_not_fetched_again(
    world: World, uid: str, identity: Identity, store: Path, tmp_path: Path
) -> None:
    contents = {f"input/{number}": noise(number, 300) for number in range(1200)}
    contents |= {name: name.encode("utf-8", "surrogateescape") for name in ODD}
    contents |= {f"large/{name}": noise(len(name), LARGE + 1) for name in ODD}
    contents |= {"empty": b"", "edge": noise(1, LARGE - 1), "twice": noise(1, LARGE - 1)}
    make_version(tmp_path / "s1", contents)
    world.grant_reading(uid, identity, tmp_path / "s1")
    asked = [wanted(path, content) for path, content in contents.items()]
    with world.connect(uid, identity) as connection:
        reports: list[Progress] = []
        Reader(connection).fetch(asked, store, reports.append)
        assert {path.name: path.read_bytes() for path in store.iterdir()} == {
            digest_of(content): content for content in contents.values()
        }
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in store.iterdir())
        assert reports[-1].files == len(contents)
        assert reports[-1].content == sum(map(len, contents.values()))
        received = connection.traffic.received
        (store / asked[0].digest).write_bytes(b"something else")
        Reader(connection).fetch(asked, store)
        assert connection.traffic.received < received + 1000
    assert (store / asked[0].digest).read_bytes() == contents[asked[0].path]


@pytest.mark.parametrize("size", [1000, LARGE])
@pytest.mark.parametrize("change", ["other", "longer", "shorter"])
def test_a_content_that_is_not_what_the_manifest_says_is_thrown_away(
    world: World, uid: str, identity: Identity, store: Path, tmp_path: Path, size: int, change: str
) -> None:
    right = noise(1, size)
    make_version(tmp_path / "s1", {"input/a": right})
    changed = {"other": noise(2, size), "longer": right + b"x", "shorter": right[:-1]}[change]
    (tmp_path / "s1/input/a").write_bytes(changed)
    world.grant_reading(uid, identity, tmp_path / "s1")
    with world.connect(uid, identity) as connection, pytest.raises(Damaged, match="'input/a' arrived damaged"):
        Reader(connection).fetch([wanted("input/a", right)], store)
    assert digest_of(right) not in names(store)


def test_a_file_that_is_not_there_is_told(
    world: World, uid: str, identity: Identity, store: Path, tmp_path: Path
) -> None:
    make_version(tmp_path / "s1", {"input/a": b"a"})
    world.grant_reading(uid, identity, tmp_path / "s1")
    with world.connect(uid, identity) as connection:
        for size in (1, LARGE):
            with pytest.raises(Refused, match="input/b") as caught:
                Reader(connection).fetch([wanted("input/b", noise(1, size))], store)
            assert caught.value.code == "not-found"


def test_lost_connections_are_made_again(
    world: World, relay: Relay, uid: str, identity: Identity, store: Path, tmp_path: Path
) -> None:
    contents = {f"input/{number}": noise(number, 1 << 18) for number in range(60)}
    make_version(tmp_path / "s1", contents)
    world.grant_reading(uid, identity, tmp_path / "s1")
    with world.connect(uid, identity, relay.port) as connection:
        relay.cut_after("down", 1 << 20, 3 << 20, 5 << 20)
        Reader(connection).fetch([wanted(path, content) for path, content in contents.items()], store)
    assert names(store) == sorted(map(digest_of, contents.values()))


def test_a_large_file_goes_on_where_it_was_whether_cut_or_interrupted(
    world: World, relay: Relay, uid: str, identity: Identity, store: Path, tmp_path: Path
) -> None:
    size = 32 << 20
    content = noise(1, size)
    make_version(tmp_path / "s1", {"recording": content})
    world.grant_reading(uid, identity, tmp_path / "s1")

    def interrupt(progress: Progress) -> None:
        if progress.content > size // 2:
            raise KeyboardInterrupt

    relay.rate = 50 << 20
    with world.connect(uid, identity, relay.port) as connection, pytest.raises(KeyboardInterrupt):
        Reader(connection).fetch([wanted("recording", content)], store, interrupt)
    assert digest_of(content) not in names(store)
    relay.rate = math.inf
    with world.connect(uid, identity, relay.port) as connection:
        relay.cut_after("down", size // 4)
        Reader(connection).fetch([wanted("recording", content)], store)
        assert connection.traffic.received < size * 0.6
    assert names(store) == [digest_of(content)]
    assert (store / digest_of(content)).read_bytes() == content


def test_one_percent_changed_brings_little_more(
    world: World, relay: Relay, uid: str, identity: Identity, store: Path, tmp_path: Path
) -> None:
    size = 64 << 20
    old = noise(5, size)
    at = size // 3
    new = old[:at] + noise(6, size // 100 - 1000) + old[at + size // 100 :]
    make_version(tmp_path / "s2", {"recording": new})
    (tmp_path / "old").write_bytes(old)
    world.grant_reading(uid, identity, tmp_path / "s2")
    with world.connect(uid, identity, relay.port) as connection:
        reports: list[Progress] = []
        Reader(connection).fetch([wanted("recording", new, tmp_path / "old")], store, reports.append)
        # The chunks at both ends of the change have some of it.
        assert connection.traffic.received < size // 100 + 4 * AVERAGE
        assert (reports[-1].files, reports[-1].content) == (1, len(new))
    assert names(store) == [digest_of(new)]
    assert (store / digest_of(new)).read_bytes() == new


def test_chunks_that_an_interrupted_fetch_has_brought_are_not_brought_again(
    world: World, relay: Relay, uid: str, identity: Identity, store: Path, tmp_path: Path
) -> None:
    content = noise(1, 32 << 20)
    make_version(tmp_path / "s1", {"recording": content})
    (tmp_path / "basis").write_bytes(noise(2, LARGE))
    world.grant_reading(uid, identity, tmp_path / "s1")

    def interrupt(progress: Progress) -> None:
        if progress.content > len(content) // 2:
            raise KeyboardInterrupt

    asked = [wanted("recording", content, tmp_path / "basis")]
    relay.rate = 50 << 20
    with world.connect(uid, identity, relay.port) as connection, pytest.raises(KeyboardInterrupt):
        Reader(connection).fetch(asked, store, interrupt)
    relay.rate = math.inf
    with world.connect(uid, identity, relay.port) as connection:
        Reader(connection).fetch(asked, store)
        assert connection.traffic.received < 0.6 * len(content)
    assert names(store) == [digest_of(content)]


@pytest.mark.parametrize("basis", ["gone", "other", "shorter"])
def test_nothing_rests_on_a_basis(
    world: World, uid: str, identity: Identity, store: Path, tmp_path: Path, basis: str
) -> None:
    content = noise(1, LARGE)
    make_version(tmp_path / "s1", {"recording": content})
    path = tmp_path / "basis"
    if basis != "gone":
        path.write_bytes(noise(2, LARGE) if basis == "other" else content[:100])
    world.grant_reading(uid, identity, tmp_path / "s1")
    with world.connect(uid, identity) as connection:
        Reader(connection).fetch([wanted("recording", content, path)], store)
    assert (store / digest_of(content)).read_bytes() == content


def test_a_basis_that_changes_after_it_was_cut_costs_only_what_changed(
    world: World, uid: str, identity: Identity, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = noise(1, 16 << 20)
    make_version(tmp_path / "s1", {"recording": content})
    path = tmp_path / "basis"
    path.write_bytes(content[: 8 << 20])
    world.grant_reading(uid, identity, tmp_path / "s1")
    cut = Basis._cut

    def change(basis: Basis, file: BinaryIO) -> None:
        cut(basis, file)
        with path.open("r+b") as changing:
            changing.write(b"somebody works on it")

    monkeypatch.setattr(Basis, "_cut", change)
    with world.connect(uid, identity) as connection:
        reports: list[Progress] = []
        Reader(connection).fetch([wanted("recording", content, path)], store, reports.append)
        assert connection.traffic.received < len(content) - (8 << 20) + 3 * MAXIMUM
        assert reports[-1].content == len(content)
    assert (store / digest_of(content)).read_bytes() == content


def test_a_half_that_is_wrong_is_fetched_again(
    world: World, uid: str, identity: Identity, store: Path, tmp_path: Path
) -> None:
    content = noise(1, LARGE)
    make_version(tmp_path / "s1", {"recording": content})
    world.grant_reading(uid, identity, tmp_path / "s1")
    (store / f".part-{digest_of(content)}").write_bytes(bytes(LARGE // 2))
    with world.connect(uid, identity) as connection:
        reports: list[Progress] = []
        Reader(connection).fetch([wanted("recording", content)], store, reports.append)
        assert reports[-1].content == LARGE
    assert (store / digest_of(content)).read_bytes() == content


def test_a_transaction_that_ends_meanwhile_ends_the_fetching(
    world: World, relay: Relay, uid: str, identity: Identity, store: Path, tmp_path: Path
) -> None:
    content = noise(1, 32 << 20)
    make_version(tmp_path / "s1", {"recording": content})
    world.grant_reading(uid, identity, tmp_path / "s1")
    relay.rate = 20 << 20
    with world.connect(uid, identity, relay.port) as connection, pytest.raises(GrantOver):
        Reader(connection).fetch(
            [wanted("recording", content)], store, lambda progress: world.end(uid) if progress.received else None
        )


def test_ctrl_c_ends_it_at_once(
    world: World, relay: Relay, uid: str, identity: Identity, store: Path, tmp_path: Path
) -> None:
    contents = {f"input/{number}": noise(number, 1 << 20) for number in range(30)}
    make_version(tmp_path / "s1", contents)
    world.grant_reading(uid, identity, tmp_path / "s1")

    def interrupt(progress: Progress) -> None:
        if progress.received > 100_000:
            raise KeyboardInterrupt

    with world.connect(uid, identity, relay.port) as connection:
        relay.rate = 1 << 20
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            Reader(connection).fetch([wanted(path, content) for path, content in contents.items()], store, interrupt)
        assert time.monotonic() - begun < 3
