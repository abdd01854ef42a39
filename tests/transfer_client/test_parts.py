"""The parts of the client that need no server: retrying, runs of chunks, the store, caches of nodes."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path
from typing import cast

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from dsg.transfer.client import (
    DirectoryNodes,
    LocalProblem,
    MemoryNodes,
    NoSpace,
    Persistence,
    Refused,
    Stopped,
    Unreachable,
)
from dsg.transfer.client.connection import Answer
from dsg.transfer.client.frames import Received, receive
from dsg.transfer.client.retrying import Lost, Patience
from dsg.transfer.client.runs import RUN, runs
from dsg.transfer.client.store import Store
from dsg.transfer.problems import Problem
from dsg.transfer.wire import Chunk, ChunkList, content_frame, problem_frame

URL = "https://node:1"
QUICK = Persistence(tries=3, pause=0.001)


def digest_of(content: bytes) -> str:
    return blake3(content).hexdigest()


# ---- retrying


def test_patience_ends_after_as_many_tries_as_are_allowed() -> None:
    patience = Patience(QUICK, threading.Event())
    patience.wait(Lost("cut"), URL)
    patience.wait(Lost("cut"), URL)
    with pytest.raises(Unreachable, match=r"https://node:1 could not be reached, tried 3 times: cut"):
        patience.wait(Lost("cut"), URL)


def test_what_arrives_gives_patience_back() -> None:
    patience = Patience(QUICK, threading.Event())
    for _ in range(10):
        patience.wait(Lost("cut"), URL)
        patience.moved()


def test_a_data_plane_that_asks_to_come_later_is_waited_for_longer_but_not_for_ever() -> None:
    patience = Patience(Persistence(tries=2, pause=0.001, patience=0.02), threading.Event())
    waited = 0
    with pytest.raises(Unreachable):
        while waited < 1000:
            patience.wait(Lost("busy", after=0.001), URL)
            waited += 1
    assert 10 <= waited < 1000


def test_the_reason_that_the_data_plane_gave_is_raised_in_the_end() -> None:
    patience = Patience(Persistence(tries=1), threading.Event())
    with pytest.raises(NoSpace, match="full"):
        patience.wait(Lost("later", give_up=NoSpace("full")), URL)


def test_giving_up_ends_a_pause_at_once() -> None:
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(Stopped):
        Patience(Persistence(pause=3600), stopped).wait(Lost("cut"), URL)


# ---- runs


@given(st.lists(st.integers(1, 12 << 20), max_size=30), st.data())
def test_runs_hold_the_chunks_that_are_asked_for_and_no_others(lengths: list[int], data: st.DataObject) -> None:
    chunks = ChunkList.of(Chunk("0" * 64, length) for length in lengths)
    wanted = data.draw(st.sets(st.integers(0, max(len(lengths) - 1, 0)))) if lengths else set()
    found = list(runs(chunks, wanted))
    assert sum(end - begin for begin, end in found) == sum(lengths[index] for index in wanted)
    assert all(end - begin < RUN + (12 << 20) for begin, end in found)
    for index, (offset, chunk) in enumerate(chunks.placed()):
        inside = any(begin <= offset and offset + chunk.length <= end for begin, end in found)
        assert inside == (index in wanted)


# ---- the store


def test_a_content_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put(digest_of(b"abc"), b"abc")
    with Store(tmp_path) as store:
        assert store.verified(digest_of(b"abc"), 3)
    assert (tmp_path / digest_of(b"abc")).stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [digest_of(b"abc")]


@pytest.mark.parametrize("there", [b"abd", b"ab", b"", b"abcd"])
def test_what_has_the_name_and_not_the_content_goes(tmp_path: Path, there: bytes) -> None:
    path = tmp_path / digest_of(b"abc")
    path.write_bytes(there)
    with Store(tmp_path) as store:
        assert not store.verified(path.name, 3)
    assert not path.exists()


def test_a_store_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to("store")
    with pytest.raises(LocalProblem, match="link"):
        Store(tmp_path / "link")
    (tmp_path / "outside").write_bytes(b"precious")
    digest = digest_of(b"abc")
    (tmp_path / "store" / f".new-{digest}").symlink_to("../outside")
    with Store(tmp_path / "store") as store, pytest.raises(LocalProblem):
        store.put(digest, b"abc")
    assert (tmp_path / "outside").read_bytes() == b"precious"


def test_no_name_but_a_digest_gets_into_a_store(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with Store(tmp_path / "store") as store:
        with pytest.raises(ValueError, match="no digest"):
            store.put("../outside", b"abc")
        with pytest.raises(ValueError, match="no digest"), store.part("../outside", chunks=False):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_full_disk_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with Store(tmp_path) as store, pytest.raises(NoSpace, match=r"No space left.*Free space"):
        store.put(digest_of(b"abc"), b"abc")
    assert digest_of(b"abc") not in os.listdir(tmp_path)


# ---- caches of nodes


def test_memory_keeps_what_was_used_last() -> None:
    nodes = MemoryNodes(limit=100)
    nodes.put("a", bytes(40))
    nodes.put("b", bytes(40))
    assert nodes.get("a") is not None
    nodes.put("c", bytes(40))
    assert nodes.get("b") is None
    assert nodes.get("a") is not None
    assert nodes.get("c") is not None


def test_a_directory_outlives_its_cache_and_gives_nothing_damaged(tmp_path: Path) -> None:
    digest = digest_of(b"node\n")
    DirectoryNodes(tmp_path).put(digest, b"node\n")
    assert DirectoryNodes(tmp_path).get(digest) == b"node\n"
    (tmp_path / digest).write_bytes(b"nodE\n")
    assert DirectoryNodes(tmp_path).get(digest) is None
    DirectoryNodes(tmp_path).put(digest, b"node\n")
    assert DirectoryNodes(tmp_path).get(digest) == b"node\n"
    assert DirectoryNodes(tmp_path).get("../secret") is None


# ---- answers of many contents


class Sent:
    """An answer whose body is in memory."""

    def __init__(self, body: bytes) -> None:
        self._file = io.BytesIO(body)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, 7))


def received(body: bytes, count: int) -> list[Received]:
    return list(receive(cast(Answer, Sent(body)), count, limit=100))


def test_contents_and_problems_come_in_order() -> None:
    problem = Problem("not-found", "It is not there.", "input/b")
    found = received(content_frame(b"a" * 50) + problem_frame(problem) + content_frame(b""), 3)
    assert [one.content for one in found] == [b"a" * 50, None, b""]
    with pytest.raises(Refused, match="input/b"):
        found[1].raise_unless("other")
    found[1].raise_unless("not-found")


def test_a_problem_that_may_pass_is_no_refusal_yet() -> None:
    found = received(problem_frame(Problem("busy", "Come later.")), 1)
    with pytest.raises(Lost):
        found[0].raise_unless()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (content_frame(b"a") * 3, "more than the 2"),
        (content_frame(b"a"), "1 of 2"),
        (content_frame(b"a") + content_frame(b"b")[:-1], "cut off"),
        (content_frame(b"a") + bytes([7]) + bytes(40), "kind 7"),
        (content_frame(bytes(101)), "at most 100"),
    ],
)
def test_another_answer_than_was_asked_for_is_told(body: bytes, says: str) -> None:
    with pytest.raises(Lost, match=says):
        received(body, 2)
