"""What a transaction that reads gets of a version, and what it can't get."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from pathlib import Path

import pytest

from dsg.transfer.chunks import chunk_list
from dsg.transfer.problems import Problem
from dsg.transfer.wire import NO_DIGEST, ChunkList, encode_digests, encode_paths, path_to_query
from tests.transfer.server import Client, Place, digest_of, read_frames

ODD = os.fsdecode(b"odd \xff name&?=%")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "version"
    for path, content in {
        "a": b"",
        "b/c": b"hello",
        "b/d": b"d" * (1 << 20),
        "large": os.urandom(9_000_000),
        ODD: b"odd",
        ".dsg/history/s1-s64": b'{"v":1}\n{"v":2}\n',
        ".dsg/history/s65-s128": b'{"v":65}\n',
        ".dsg/history/other": b"no segment\n",
        ".dsg/nodes/" + digest_of(b"node"): b"node",
        ".dsg/secret": b"secret",
        "sub/.dsg/x": b"not ours",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    (tmp_path / "outside").write_bytes(b"outside")
    (root / "link").symlink_to("b/c")
    (root / "out").symlink_to("../outside")
    (root / "dirlink").symlink_to("b")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        here = Path.cwd()
        os.chdir(root)
        unix.bind("socket")
        os.chdir(here)
    return root


@pytest.fixture
def reader(place: Place, root: Path) -> Client:
    return place.client("read", root)


def test_contents_come_in_the_order_asked_for(reader: Client, root: Path) -> None:
    paths = ["large", "a", "b/c", ODD, "b/d", "b/c", "sub/.dsg/x"]
    answer = reader.request("POST", "/contents", encode_paths(paths))
    assert answer.status == 200
    assert read_frames(answer.body) == [(NO_DIGEST, (root / path).read_bytes()) for path in paths]
    assert reader.request("POST", "/contents", b"").body == b""


HOSTILE = {
    "missing": "not-found",
    "b": "not-found",
    "b/c/d": "not-found",
    "link": "not-found",
    "out": "not-found",
    "dirlink/c": "not-found",
    "fifo": "not-found",
    "socket": "not-found",
    "../outside": "bad-path",
    "b/../../outside": "bad-path",
    "/etc/passwd": "bad-path",
    "": "bad-path",
    ".": "bad-path",
    "b//c": "bad-path",
    "a\0b": "bad-path",
    ".dsg/secret": "bad-path",
    ".DSG/secret": "bad-path",
    ".zfs/snapshot/s1/a": "bad-path",
    "x" * 5000: "bad-path",
    "y" * 300: "bad-path",
}


def test_hostile_paths_get_a_problem_in_place_of_a_content(reader: Client) -> None:
    paths = [one for path in HOSTILE for one in (path, "b/c")]
    answer = reader.request("POST", "/contents", encode_paths(paths))
    found = read_frames(answer.body)
    assert found[1::2] == [(NO_DIGEST, b"hello")] * len(HOSTILE)
    for (path, code), problem in zip(HOSTILE.items(), found[::2], strict=True):
        assert isinstance(problem, Problem)
        assert (problem.code, problem.path) == (code, path)
    assert b"secret" not in answer.body.replace(b".dsg/secret", b"").replace(b".DSG/secret", b"")
    assert b"outside" not in answer.body.replace(b"../outside", b"")


@pytest.mark.parametrize(("path", "code"), HOSTILE.items())
def test_hostile_paths_are_refused_one_by_one(reader: Client, path: str, code: str) -> None:
    answer = reader.request("GET", f"/content?path={path_to_query(path)}")
    assert answer.error == code
    answer = reader.request("POST", "/chunks", encode_paths([path]))
    assert answer.error == code


def test_a_whole_file_and_parts_of_it(reader: Client, root: Path) -> None:
    content = (root / "large").read_bytes()
    size = len(content)
    for said, start, stop in (
        ("bytes=0-", 0, size),
        ("bytes=5-5", 5, 6),
        ("bytes=1000000-4000000", 1_000_000, 4_000_001),
        ("bytes=8999999-99999999999", size - 1, size),
        ("bytes=-7", size - 7, size),
        ("bytes=-99999999999", 0, size),
    ):
        answer = reader.request("GET", "/content?path=large", headers={"Range": said})
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
        assert answer.body == content[start:stop]
    for said in ("", "bytes=5-4", "bytes=a-b", "lines=1-2", "bytes=1-2,5-6", "bytes=-0", "bytes=٣-"):
        answer = reader.request("GET", "/content?path=large", headers={"Range": said.encode().decode("latin-1")})
        assert (answer.status, answer.body == content) == (200, True)
    answer = reader.request("GET", "/content?path=large", headers={"Range": f"bytes={size}-"})
    assert (answer.status, answer.error) == (416, "range")
    assert reader.request("GET", "/content?path=a").body == b""
    assert reader.request("GET", f"/content?path={path_to_query(ODD)}").body == b"odd"


def test_a_query_says_one_path(reader: Client) -> None:
    for query in ("", "?path=a&path=b", "?path=a&x=1", "?x=1", "?path", "?path=a&&&x"):
        assert reader.request("GET", f"/content{query}").error in {"bad-request", "bad-path"}


def test_header_history_and_nodes(reader: Client, place: Place) -> None:
    assert reader.request("GET", "/header").body == b'{"v":65}\n'
    assert reader.request("GET", "/history/s1-s64").body == b'{"v":1}\n{"v":2}\n'
    assert reader.request("GET", "/history/s129-s192").error == "not-found"
    for name in ("other", "..", "s1", "s1-s64%2f..%2f..%2fsecret", "../secret", "%2e%2e%2fsecret"):
        assert reader.request("GET", f"/history/{name}").status == 404
    known, unknown = digest_of(b"node"), "a" * 64
    answer = reader.request("POST", "/nodes", encode_digests([unknown, known]))
    problem, node = read_frames(answer.body)
    assert isinstance(problem, Problem)
    assert (problem.code, unknown in problem.message) == ("not-found", True)
    assert node == (known, b"node")
    empty = place.base / "empty"
    empty.mkdir()
    assert place.client("read", empty).request("GET", "/header").error == "not-found"


def test_links_in_dsg_lead_nowhere(place: Place, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "s1-s64").write_bytes(b"outside\n")
    root = tmp_path / "version"
    (root / ".dsg").mkdir(parents=True)
    (root / ".dsg" / "history").symlink_to(tmp_path / "elsewhere")
    client = place.client("read", root)
    assert client.request("GET", "/header").error == "not-found"
    assert client.request("GET", "/history/s1-s64").status >= 400
    (tmp_path / "rootlink").symlink_to(root)
    linked = place.client("read", tmp_path / "rootlink")
    assert linked.request("GET", "/header").status >= 400


def test_chunks_are_those_of_the_file(reader: Client, root: Path) -> None:
    answer = reader.request("POST", "/chunks", encode_paths(["large"]))
    descriptor = os.open(root / "large", os.O_RDONLY)
    try:
        assert ChunkList(answer.body) == chunk_list(descriptor)
    finally:
        os.close(descriptor)
    assert reader.request("POST", "/chunks", encode_paths(["a"])).body == b""


def test_a_file_that_shrinks_meanwhile_is_cut_off(reader: Client, root: Path) -> None:
    """The client must see that the answer is not whole."""
    (root / "shrinks").write_bytes(b"s" * 60_000_000)
    connection = reader.connect()
    for method, path, body in (
        ("GET", "/content?path=shrinks", None),
        ("POST", "/contents", encode_paths(["shrinks", "a"])),
    ):
        os.truncate(root / "shrinks", 60_000_000)
        connection.request(method, f"/v1/transactions/{reader.uid}{path}", body)
        response = connection.getresponse()
        response.read(100_000)
        os.truncate(root / "shrinks", 1000)
        with pytest.raises((OSError, http.client.HTTPException)):
            response.read()
        connection.close()


def test_a_client_that_does_not_read_is_closed(reader: Client, root: Path) -> None:
    (root / "endless").touch()
    os.truncate(root / "endless", 200_000_000)
    with reader.raw() as connection:
        connection.sendall(reader.begin("GET", "/content?path=endless", 0))
        deadline = time.monotonic() + 5
        while reader.served.plane.quiet.is_set():
            assert time.monotonic() < deadline
        while not reader.served.plane.quiet.is_set():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_what_is_read_when_the_grant_goes_is_cut_off(reader: Client, root: Path) -> None:
    (root / "endless").touch()
    os.truncate(root / "endless", 2_000_000_000)
    with reader.raw() as connection:
        connection.sendall(reader.begin("GET", "/content?path=endless", 0))
        connection.recv(65536)
        reader.end()
        found = 0
        try:
            while piece := connection.recv(1 << 20):
                found += len(piece)
        except (ConnectionError, ssl.SSLError):
            pass
        assert found < 1_900_000_000


def test_a_version_that_is_not_there_is_told(place: Place, tmp_path: Path) -> None:
    client = place.client("read", tmp_path / "gone")
    answer = client.request("GET", "/header")
    assert (answer.status, answer.error) == (503, "storage")
    assert str(tmp_path) not in answer.body.decode()
