"""Large files: only changed chunks travel, and what was interrupted goes on."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from dsg.transfer.chunks import MAXIMUM, chunks
from dsg.transfer.server import large
from dsg.transfer.server.incoming import Incoming
from dsg.transfer.wire import Chunk, ChunkList, decode_indexes, path_to_query
from tests.transfer.server import Client, Place, digest_of, frames_of, incoming

OLD = random.Random(5).randbytes(14 << 20)
NEW = OLD[: 5 << 20] + b"inserted" + OLD[5 << 20 : 9 << 20] + OLD[10 << 20 :]
DIGEST = digest_of(NEW)
LIST = ChunkList.of(chunks(BytesIO(NEW).readinto))
PATH = f"/large/{DIGEST}"


@pytest.fixture
def stage(place: Place) -> Path:
    return place.stage(files={"data/old.bin": OLD})


@pytest.fixture
def client(place: Place, stage: Path) -> Client:
    return place.client("write", stage)


def begin(client: Client, basis: str | None = "data/old.bin") -> list[int]:
    query = f"?basis={path_to_query(basis)}" if basis is not None else ""
    answer = client.request("POST", f"{PATH}{query}", LIST.encode())
    assert answer.status == 200, answer.body
    return decode_indexes(answer.body, len(LIST))


def send(client: Client, indexes: list[int]) -> int:
    sent = 0
    for index, (offset, chunk) in enumerate(LIST.placed()):
        if index in indexes:
            answer = client.request("PUT", f"{PATH}?offset={offset}", NEW[offset : offset + chunk.length])
            assert answer.json == {"stored": chunk.length}
            sent += chunk.length
    return sent


def test_only_changed_chunks_are_asked_for(client: Client, stage: Path) -> None:
    missing = begin(client)
    assert 0 < len(missing) < len(LIST) / 2
    send(client, missing)
    assert begin(client) == []
    assert client.request("POST", f"{PATH}/complete").json == {"stored": 1}
    assert incoming(stage) == {DIGEST: NEW}
    # Repeated, all of it says the same.
    assert begin(client) == []
    assert client.request("POST", f"{PATH}/complete").status == 200
    assert (stage / "data/old.bin").read_bytes() == OLD


def test_without_a_basis_all_is_asked_for_and_an_interrupted_one_goes_on(client: Client, stage: Path) -> None:
    for basis in (None, "no/such", "data"):
        assert begin(client, basis) == list(range(len(LIST)))
    send(client, [0, 3])
    half = LIST[1].length // 2
    client.request("PUT", f"{PATH}?offset={LIST[0].length}", NEW[LIST[0].length :][:half])
    assert begin(client, None) == [1, 2, *range(4, len(LIST))]
    answer = client.request("POST", f"{PATH}/complete")
    assert (answer.status, answer.error) == (422, "wrong-digest")
    send(client, begin(client))
    assert client.request("POST", f"{PATH}/complete").status == 200
    assert incoming(stage) == {DIGEST: NEW}


def test_what_is_damaged_on_its_way_is_asked_for_again(client: Client, stage: Path) -> None:
    send(client, begin(client))
    client.request("PUT", f"{PATH}?offset=1000", b"damaged")
    assert client.request("POST", f"{PATH}/complete").error == "wrong-digest"
    assert DIGEST not in incoming(stage)
    assert begin(client, None) == [0]
    send(client, [0])
    assert client.request("POST", f"{PATH}/complete").status == 200


def test_an_interrupted_body_leaves_what_came(client: Client, stage: Path) -> None:
    begin(client, None)
    with client.raw() as connection:
        connection.sendall(client.begin("PUT", f"{PATH}?offset=0", len(NEW)))
        connection.sendall(NEW[: 6 << 20])
        time.sleep(0.3)
    deadline = time.monotonic() + 5
    while (left := begin(client, None))[0] < 2:
        assert time.monotonic() < deadline
    assert left[-1] == len(LIST) - 1


@pytest.mark.parametrize(
    ("offset", "size", "error"),
    [
        (len(NEW), 1, "bad-request"),
        (len(NEW) - 10, 11, "bad-request"),
        (10**18, 1, "bad-request"),
        (2**63 - 1, 10, "bad-request"),
        (10**19 - 1, 1, "bad-request"),
        (len(NEW), 0, ""),
    ],
)
def test_nothing_is_written_behind_the_end(client: Client, stage: Path, offset: int, size: int, error: str) -> None:
    begin(client, None)
    before = incoming(stage)
    for body in (b"x" * size, iter([b"x" * size])):
        assert client.request("PUT", f"{PATH}?offset={offset}", body).error == error
    assert incoming(stage) == before


def test_a_file_that_was_not_begun_takes_nothing(client: Client, stage: Path) -> None:
    for method, path in (("PUT", f"{PATH}?offset=0"), ("POST", f"{PATH}/complete")):
        answer = client.request(method, path, b"x")
        assert (answer.status, answer.error) == (409, "not-begun")
    assert incoming(stage) == {}


@pytest.mark.parametrize(
    "query", ["", "?offset=", "?offset=-1", "?offset=a", "?offset=1&offset=2", "?x=1", "?offset=٣"]
)
def test_offsets_that_are_none(client: Client, query: str) -> None:
    begin(client, None)
    assert client.request("PUT", f"{PATH}{query.replace('٣', '%D9%A3')}", b"x").error == "bad-request"


@pytest.mark.parametrize("basis", ["../outside", "/etc/passwd", ".dsg/incoming/x", "a/../b", ""])
def test_a_basis_outside_of_the_tree_is_refused(client: Client, stage: Path, basis: str) -> None:
    answer = client.request("POST", f"{PATH}?basis={path_to_query(basis)}", LIST.encode())
    assert (answer.status, answer.error) == (400, "bad-path")
    assert incoming(stage) == {}


def test_a_basis_behind_a_link_is_not_read(client: Client, stage: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(NEW)
    (stage / "link").symlink_to(tmp_path / "outside")
    assert begin(client, "link") == list(range(len(LIST)))


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"x" * 35, "bad-request"),
        (bytes(36), "bad-request"),
        (bytes(32) + b"\xff\xff\xff\xff", "bad-request"),
        (bytes(32) + (MAXIMUM + 1).to_bytes(4), "bad-request"),
    ],
)
def test_lists_that_can_not_be(client: Client, stage: Path, raw: bytes, error: str) -> None:
    assert client.request("POST", PATH, raw).error == error
    assert incoming(stage) == {}


def test_a_large_file_counts_with_its_whole_size(place: Place, stage: Path) -> None:
    client = place.client("write", stage, size_limit=len(NEW))
    begin(client)
    begin(client)
    assert client.request("POST", "/contents", frames_of([b"x"])).error == "too-large"
    send(client, begin(client))
    assert client.request("POST", f"{PATH}/complete").status == 200
    assert client.request("POST", f"/large/{'a' * 64}", LIST.encode()).error == "too-large"
    assert set(incoming(stage)) == {DIGEST}


def test_a_list_of_another_size_gives_back_what_it_took(place: Place, stage: Path) -> None:
    client = place.client("write", stage, size_limit=len(NEW))
    begin(client)
    short = ChunkList.of([Chunk(digest_of(b"x"), 1)])
    assert client.request("POST", PATH, short.encode()).status == 200
    assert client.request("POST", "/contents", frames_of([b"y" * (len(NEW) - 1)])).status == 200
    assert client.request("POST", "/contents", frames_of([b"z"])).error == "too-large"


def test_holes_are_found_without_being_sent(client: Client, stage: Path) -> None:
    zeros = bytes(5 * MAXIMUM)
    wanted = ChunkList.of(chunks(BytesIO(zeros).readinto))
    assert {chunk.length for chunk in wanted} == {MAXIMUM}
    answer = client.request("POST", f"/large/{digest_of(zeros)}", wanted.encode())
    assert (answer.status, answer.body) == (200, b"")
    assert client.request("POST", f"/large/{digest_of(zeros)}/complete").status == 200
    found = stage / ".dsg/incoming" / digest_of(zeros)
    assert found.stat().st_size == len(zeros)
    assert found.stat().st_blocks * 512 < MAXIMUM


def test_a_huge_list_of_holes_is_quick(client: Client, stage: Path) -> None:
    """A client must not keep the server busy by announcing a sparse file."""
    wanted = ChunkList.of([Chunk("a" * 64, MAXIMUM)] * 20_000)
    for _ in range(2):
        began = time.monotonic()
        answer = client.request("POST", f"/large/{'b' * 64}", wanted.encode())
        assert answer.status in {200, 413, 503, 507}
        assert time.monotonic() - began < 3
    (stage / f".dsg/incoming/.large-{'b' * 64}").unlink(missing_ok=True)


def test_several_connections_send_one_file(place: Place, stage: Path) -> None:
    first = place.client("write", stage)
    missing = begin(first, None)
    clients = [Client(place.served, first.pair, place.base, first.uid) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        sent = sum(pool.map(send, clients, (missing[n::3] for n in range(3))))
    assert sent == len(NEW)
    assert first.request("POST", f"{PATH}/complete").status == 200


def test_nothing_is_written_while_it_is_made_whole_nor_after(
    client: Client, stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(client, begin(client))
    began, go_on = threading.Event(), threading.Event()
    digest = large._digest

    def slowly(descriptor: int, stage: Incoming) -> str:
        found = digest(descriptor, stage)
        began.set()
        assert go_on.wait(10)
        return found

    monkeypatch.setattr(large, "_digest", slowly)
    other = Client(client.served, client.pair, stage.parent, client.uid)
    late = Client(client.served, client.pair, stage.parent, client.uid)

    def body() -> Iterator[bytes]:
        yield b"z"
        began.wait(10)
        yield b"z"

    with ThreadPoolExecutor(2) as pool:
        completing = pool.submit(client.request, "POST", f"{PATH}/complete")
        assert began.wait(10)
        answer = other.request("PUT", f"{PATH}?offset=0", b"late")
        assert (answer.status, answer.error, answer.headers.get("Retry-After")) == (503, "busy", "2")
        assert other.request("POST", PATH, LIST.encode()).error == "busy"
        assert other.request("POST", f"{PATH}/complete").error == "busy"

        def rest() -> Iterator[bytes]:
            # The file is opened before, and written to after it has its name.
            time.sleep(0.1)
            go_on.set()
            completing.result(10)
            yield b"late"

        answer = late.request("PUT", f"{PATH}?offset=0", rest())
        assert answer.error == "not-begun"
    assert completing.result().status == 200
    assert incoming(stage) == {DIGEST: NEW}


def test_it_is_not_made_whole_while_somebody_writes(
    client: Client, stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(client, begin(client))
    began, go_on = threading.Event(), threading.Event()
    write = large._write

    def slowly(*arguments: Any) -> None:
        began.set()
        assert go_on.wait(10)
        write(*arguments)

    monkeypatch.setattr(large, "_write", slowly)
    other = Client(client.served, client.pair, stage.parent, client.uid)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(other.request, "PUT", f"{PATH}?offset=0", NEW[:1000])
        assert began.wait(10)
        assert client.request("POST", f"{PATH}/complete").error == "busy"
        go_on.set()
        assert writing.result(10).status == 200
    assert client.request("POST", f"{PATH}/complete").status == 200


def test_the_grant_is_looked_at_before_a_file_gets_its_name(
    client: Client, stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(client, begin(client))
    digest = large._digest

    def ended(descriptor: int, stage: Incoming) -> str:
        found = digest(descriptor, stage)
        client.end()
        return found

    monkeypatch.setattr(large, "_digest", ended)
    assert client.request("POST", f"{PATH}/complete").error == "grant-over"
    assert set(incoming(stage)) == {f".large-{DIGEST}"}


def test_a_link_in_place_of_a_large_file_is_not_followed(client: Client, stage: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"before")
    (stage / f".dsg/incoming/.large-{DIGEST}").symlink_to(tmp_path / "outside")
    for method, path, body in (
        ("POST", PATH, LIST.encode()),
        ("PUT", f"{PATH}?offset=0", b"x"),
        ("POST", f"{PATH}/complete", None),
    ):
        assert client.request(method, path, body).status >= 400
    assert (tmp_path / "outside").read_bytes() == b"before"
    assert os.readlink(stage / f".dsg/incoming/.large-{DIGEST}")
