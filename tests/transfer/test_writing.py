"""What a transaction that writes can send, and what comes of it on disk."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from dsg.manifests.changes import ChangeError, Gone, encode_change
from dsg.manifests.changes import Place as Placed
from dsg.manifests.entries import FileState
from dsg.storage.local_trees import LocalTrees
from dsg.transfer.grants import read_grant, write_grant
from dsg.transfer.server import incoming as module
from dsg.transfer.server.changes import Validator
from dsg.transfer.wire import FrameHead, content_frame, decode_digests, encode_digests
from tests.transfer.server import Place, digest_of, frames_of, incoming, until_closed


def test_contents_are_stored_by_their_digests(place: Place) -> None:
    stage = place.stage()
    client = place.client("write", stage)
    contents = [b"", b"a", b"b" * 3_000_000, bytes(range(256)) * 4096, b"a", b"c" * ((1 << 20) + 1)]

    answer = client.request("POST", "/contents", frames_of(contents))

    assert (answer.status, answer.json) == (200, {"stored": 6})
    assert incoming(stage) == {digest_of(content): content for content in contents}
    assert {path.stat().st_mode & 0o777 for path in (stage / ".dsg/incoming").iterdir()} == {0o600}


def test_only_what_is_missing_is_asked_for(place: Place) -> None:
    client = place.client("write", place.stage())
    contents = [b"a", b"b", b"c"]
    client.request("POST", "/contents", frames_of(contents[1:2]))
    digests = [digest_of(content) for content in contents]

    answer = client.request("POST", "/missing", encode_digests(digests))

    assert decode_digests(answer.body) == [digests[0], digests[2]]


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_a_wrong_digest_is_not_stored_and_what_came_before_it_is(place: Place, size: int) -> None:
    stage = place.stage()
    client = place.client("write", stage)
    body = frames_of([b"good"]) + content_frame(b"x" * size, "a" * 64) + frames_of([b"after"])

    answer = client.request("POST", "/contents", body)

    assert (answer.status, answer.error) == (422, "wrong-digest")
    assert "a" * 64 in answer.json["message"]
    assert incoming(stage) == {digest_of(b"good"): b"good"}


def test_content_that_is_there_already_is_held_against_its_digest_too(place: Place) -> None:
    stage = place.stage()
    client = place.client("write", stage)
    large = b"l" * 2_000_000
    client.request("POST", "/contents", frames_of([large, b"small"]))
    for content in (large, b"small"):
        forged = bytes(len(content))
        answer = client.request("POST", "/contents", content_frame(forged, digest_of(content)))
        assert answer.error == "wrong-digest"
        assert client.request("POST", "/contents", frames_of([content])).json == {"stored": 1}
    assert incoming(stage) == {digest_of(large): large, digest_of(b"small"): b"small"}


@pytest.mark.parametrize(
    "body",
    [
        b"\1",
        content_frame(b"abc", digest_of(b"abc"))[:-1],
        FrameHead(digest_of(b"x"), 1 << 40).encode() + b"x" * 5_000_000,
        b"\0" + bytes(39) + b"\1x",
        b"\7" * 100,
        content_frame(b"abc"),
        FrameHead("a" * 64, 2**63 - 1).encode(),
    ],
)
def test_a_body_that_is_not_whole_leaves_nothing(place: Place, body: bytes) -> None:
    stage = place.stage()
    client = place.client("write", stage, size_limit=1 << 41)
    answer = client.request("POST", "/contents", body)
    assert answer.error in {"bad-request", "too-large"}
    assert incoming(stage) == {}
    assert client.request("POST", "/contents", frames_of([b"next"])).status == 200


def test_no_more_is_stored_than_the_transaction_may_send(place: Place) -> None:
    stage = place.stage()
    client = place.client("write", stage, size_limit=3_000_010)
    assert client.request("POST", "/contents", frames_of([b"x" * 3_000_000])).status == 200
    for content in (b"y" * 11, b"z" * 2_000_000):
        answer = client.request("POST", "/contents", frames_of([content]))
        assert (answer.status, answer.error) == (413, "too-large")
        assert "10 are left" in answer.json["message"]
    # What is there already, and what was refused, counts once.
    assert client.request("POST", "/contents", frames_of([b"x" * 3_000_000])).status == 200
    answer = client.request("POST", "/contents", content_frame(b"y" * 10, "b" * 64))
    assert answer.error == "wrong-digest"
    assert client.request("POST", "/contents", frames_of([b"y" * 10])).status == 200
    assert sum(map(len, incoming(stage).values())) == 3_000_010


def test_what_was_not_stored_counts_no_more(place: Place) -> None:
    client = place.client("write", place.stage(), size_limit=3_000_000)
    for _ in range(3):
        assert client.request("POST", "/contents", content_frame(b"x" * 2_000_000, "a" * 64)).error == "wrong-digest"
        cut_off = FrameHead("a" * 64, 2_000_000).encode() + b"x" * 1_500_000
        assert client.request("POST", "/contents", cut_off).error == "bad-request"
        assert client.request("PUT", "/changes", _changes(9000)[:-1]).error == "bad-changes"
    assert client.request("POST", "/contents", frames_of([b"y" * 3_000_000])).status == 200


def test_what_was_sent_to_an_earlier_process_counts(place: Place) -> None:
    stage = place.stage(files={".dsg/incoming/" + digest_of(b"1234"): b"1234"})
    client = place.client("write", stage, size_limit=6)
    assert client.request("POST", "/contents", frames_of([b"abc"])).error == "too-large"
    assert client.request("POST", "/contents", frames_of([b"ab"])).status == 200


def test_a_dying_client_leaves_what_was_whole(place: Place) -> None:
    stage = place.stage()
    client = place.client("write", stage)
    whole = frames_of([b"one", b"two" * 500_000])
    with client.raw() as connection:
        connection.sendall(client.begin("POST", "/contents", 99999999))
        connection.sendall(whole + FrameHead("a" * 64, 50_000_000).encode() + b"x" * 3_000_000)
        time.sleep(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    deadline = time.monotonic() + 5
    while len(incoming(stage)) != 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert set(incoming(stage)) == {digest_of(b"one"), digest_of(b"two" * 500_000)}


def test_a_client_that_is_too_slow_is_told_and_its_place_is_free(place: Place) -> None:
    stage = place.stage()
    client = place.client("write", stage)
    with client.raw() as connection:
        connection.sendall(client.begin("POST", "/contents", 99999))
        connection.sendall(frames_of([b"one"]))
        stop = time.monotonic() + 5
        connection.settimeout(0.1)
        said = b""
        # A byte now and then is not enough.
        while not said and time.monotonic() < stop:
            connection.sendall(b"\1")
            try:
                said = connection.recv(65536)
            except TimeoutError:
                continue
        assert said.startswith(b"HTTP/1.1 408")
        assert b'"too-slow"' in said + until_closed(connection)
    assert set(incoming(stage)) == {digest_of(b"one")}


def test_a_client_that_sends_no_request_is_closed(place: Place) -> None:
    client = place.client("write", place.stage())
    with client.raw() as connection:
        connection.sendall(b"POST /v1/transactions/")
        began = time.monotonic()
        until_closed(connection)
        assert time.monotonic() - began < 6


def test_what_is_under_way_when_the_grant_goes_is_not_stored(place: Place) -> None:
    stage = place.stage()
    client = place.client("write", stage)
    content = b"q" * 4_000_000

    def body() -> Iterator[bytes]:
        raw = frames_of([content])
        yield raw[:2_000_000]
        client.end()
        yield raw[2_000_000:]

    try:
        answer = client.request("POST", "/contents", body(), fresh=True)
        assert answer.error == "grant-over"
    except ConnectionError:
        pass
    time.sleep(0.1)
    assert incoming(stage) == {}


@pytest.mark.parametrize(("change", "status"), [("expires", 200), ("root", 403)])
def test_a_grant_may_be_prolonged_but_not_turned_to_something_else(place: Place, change: str, status: int) -> None:
    stage, other = place.stage(), place.stage("other")
    client = place.client("write", stage)
    grant = read_grant(place.served.grants, client.uid)
    assert grant is not None
    changed = grant.model_copy(update={"expires": grant.expires + 60} if change == "expires" else {"root": str(other)})

    def body() -> Iterator[bytes]:
        raw = frames_of([b"q" * 2_000_000])
        yield raw[:1_000_000]
        # Only then the request was held against the grant as it was.
        while place.served.plane.quiet.is_set():
            time.sleep(0.01)
        write_grant(place.served.grants, changed)
        yield raw[1_000_000:]

    assert client.request("POST", "/contents", body(), fresh=True).status == status
    assert bool(incoming(stage)) == (status == 200)
    assert not incoming(other)


def test_a_waiting_request_ends_soon_after_its_grant(place: Place) -> None:
    """So that the stage is not in use when the operator unmounts it."""
    stage = place.stage()
    client = place.client("write", stage)
    with client.raw() as connection:
        connection.sendall(client.begin("POST", "/contents", 99999999))
        connection.sendall(FrameHead("a" * 64, 50_000_000).encode() + b"x" * 2_000_000)
        time.sleep(0.15)
        assert incoming(stage)
        client.end()
        began = time.monotonic()
        said = connection.recv(65536)
        assert time.monotonic() - began < 0.45
        assert b"403" in said
        assert incoming(stage) == {}
        assert not [one for one in _open_files() if one.startswith(str(stage))]


def _open_files() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return found


def test_a_stage_that_others_removed_is_told(place: Place) -> None:
    stage = place.stage()
    client = place.client("write", stage)
    (stage / ".dsg" / "incoming").rmdir()
    answer = client.request("POST", "/contents", frames_of([b"a"]))
    assert (answer.status, answer.error) == (503, "storage")
    assert str(stage) not in answer.body.decode()


def test_links_in_the_stage_lead_nowhere(place: Place, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    stage = place.stage()
    (stage / ".dsg" / "incoming").rmdir()
    (stage / ".dsg" / "incoming").symlink_to(outside)
    client = place.client("write", stage)
    assert client.request("POST", "/contents", frames_of([b"a"])).status >= 400
    (stage / ".dsg" / "incoming").unlink()
    (stage / ".dsg").rmdir()
    (stage / ".dsg").symlink_to(outside)
    (outside / "incoming").mkdir()
    assert client.request("POST", "/contents", frames_of([b"a"])).status >= 400
    assert not list((outside / "incoming").iterdir())


def test_a_link_with_the_name_of_a_content_is_replaced_not_followed(place: Place, tmp_path: Path) -> None:
    stage = place.stage()
    target = tmp_path / "target"
    target.write_bytes(b"before")
    for content in (b"a", b"b" * 2_000_000):
        (stage / ".dsg/incoming" / digest_of(content)).symlink_to(target)
    client = place.client("write", stage)
    assert client.request("POST", "/contents", frames_of([b"a", b"b" * 2_000_000])).status == 200
    assert target.read_bytes() == b"before"
    assert not (stage / ".dsg/incoming" / digest_of(b"a")).is_symlink()


def test_parts_of_an_interrupted_process_go(place: Place) -> None:
    stage = place.stage()
    old, new = stage / ".dsg/incoming/.part-old", stage / ".dsg/incoming/.part-new"
    for part in (old, new):
        part.write_bytes(b"1234")
    os.utime(old, (1, 1))
    client = place.client("write", stage, size_limit=10)
    client.request("POST", "/missing", b"")
    assert not old.exists()
    assert new.exists()
    assert client.request("POST", "/contents", frames_of([b"x" * 7])).error == "too-large"
    assert client.request("POST", "/contents", frames_of([b"x" * 6])).status == 200


# ---- the list of changes


def _changes(count: int) -> bytes:
    return b"".join(
        encode_change(Placed(FileState(f"f{number:06}", 3, 0, 0o644, "a" * 64))) for number in range(count)
    ) + encode_change(Gone("z"))


def test_the_list_of_changes_is_stored_whole(place: Place) -> None:
    stage = place.stage()
    client = place.client("write", stage)
    raw = _changes(5000)
    answer = client.request("PUT", "/changes", (raw[start : start + 777] for start in range(0, len(raw), 777)))
    assert answer.json == {"changes": 5001}
    assert incoming(stage) == {"changes": raw}
    answer = client.request("PUT", "/changes", _changes(1))
    assert answer.json == {"changes": 2}
    assert incoming(stage) == {"changes": _changes(1)}
    assert client.request("PUT", "/changes", b"").json == {"changes": 0}
    assert incoming(stage) == {"changes": b""}


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (_changes(3)[:-1], "without a newline"),
        (_changes(3) + _changes(1), "sorts before"),
        (_changes(2) + encode_change(Gone("z")), "comes twice"),
        (_changes(2) + b"{}\n", "line 4"),
        (_changes(2) + b"x" * 200_000, "longer than"),
        (_changes(1) + b'{"path":"../z","kind":"deleted"}\n', "relative"),
        (_changes(1) + b'{"path":"zz/.dsg/../x","kind":"deleted"}\n', "relative"),
        (b'{"path":".dsg/incoming/x","kind":"deleted"}\n', "belongs to dsg"),
        (b'{"path": "a","kind":"deleted"}\n', "one way"),
        (b"\xff\xfe\n", "UTF-8"),
        (b"\0" * 1000, "newline"),
    ],
)
def test_a_list_that_is_not_valid_leaves_the_one_before(place: Place, spoilt: bytes, said: str) -> None:
    stage = place.stage()
    client = place.client("write", stage, size_limit=10_000_000)
    before = _changes(1)
    client.request("PUT", "/changes", before)

    answer = client.request("PUT", "/changes", spoilt)

    assert (answer.status, answer.error) == (422, "bad-changes")
    assert said in answer.json["message"]
    assert incoming(stage) == {"changes": before}


def test_a_line_without_end_is_refused_before_it_ends() -> None:
    """Memory is bounded by what a line can have."""
    validator = Validator()
    with pytest.raises(ChangeError, match="longer than"):
        for _ in range(100):
            validator.feed(b"x" * 1000)
    assert validator.count == 0


def test_the_list_counts_too(place: Place) -> None:
    stage = place.stage()
    client = place.client("write", stage, size_limit=1000)
    assert client.request("PUT", "/changes", _changes(5000)).error == "too-large"
    for _ in range(10):
        assert client.request("PUT", "/changes", _changes(2)).status == 200
    assert list(incoming(stage)) == ["changes"]


# ---- the end


def test_complete_says_what_is_there(place: Place) -> None:
    client = place.client("write", place.stage())
    assert client.request("POST", "/complete").json == {"contents": 0, "changes": False}
    client.request("POST", "/contents", frames_of([b"a", b"b"]))
    client.request("PUT", "/changes", _changes(1))
    assert client.request("POST", "/complete").json == {"contents": 2, "changes": True}


def test_complete_answers_after_all_is_durable(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = place.stage()
    client = place.client("write", stage)
    synced: list[str] = []
    asked, hold = threading.Event(), threading.Event()

    def sync(_self: LocalTrees, root: str) -> None:
        asked.set()
        assert hold.wait(60)
        synced.append(root)

    monkeypatch.setattr(LocalTrees, "sync", sync)
    client.request("POST", "/contents", frames_of([b"a"]))
    assert not asked.is_set()
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(client.request, "POST", "/complete")
        assert asked.wait(60)
        assert not wait([answer], 0.2).done
        hold.set()
        assert answer.result(60).status == 200
    assert synced == [str(stage)]


def test_a_full_file_system_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = place.stage()
    client = place.client("write", stage)
    client.request("POST", "/contents", frames_of([b"before"]))

    def full(_self: object, _data: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_all", full)
        for content in (b"small", b"l" * 2_000_000):
            answer = client.request("POST", "/contents", frames_of([content]))
            assert (answer.status, answer.error) == (507, "no-space")
    assert incoming(stage) == {digest_of(b"before"): b"before"}
    assert client.request("POST", "/contents", frames_of([b"small"])).status == 200
