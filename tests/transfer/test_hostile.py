"""Requests that are no good: never an answer of 500, nothing changed on disk, and the server goes on."""

from __future__ import annotations

import dataclasses
import http.client
import os
import random
import re
import socket
import ssl
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsg.transfer.problems import Code
from dsg.transfer.server import incoming as module
from dsg.transfer.server.routes import ROUTES, Mode
from dsg.transfer.wire import content_frame, encode_digests, encode_paths
from tests.transfer.server import QUICK, Answer, Client, Place, Served, digest_of, frames_of, incoming, until_closed

ADDRESSES = sorted({(route.method, route.path) for route in ROUTES})


@pytest.fixture
def everything(place: Place, tmp_path: Path) -> dict[str, Client]:
    """Return a client for each mode, on one tree."""
    root = place.stage(files={"a": b"content", ".dsg/history/s1-s64": b"{}\n", ".dsg/nodes/" + "a" * 64: b"n"})
    return {mode: place.client(mode, root, size_limit=1_000_000) for mode in ("read", "write")}


def _tree(root: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


def _filled(path: str, uid: str) -> str:
    return path.replace("{uid}", uid).replace("{digest}", "b" * 64).replace("{segment}", "s1-s64")


_FRAGMENTS = st.sampled_from(
    [
        b"{}",
        b'{"path":"a"}\n',
        b'{"path":"../a"}\n',
        b'{"path":{"hex":"ff"}}\n',
        encode_digests(["a" * 64]),
        encode_paths(["a", ".dsg/x"]),
        content_frame(b"x", "c" * 64),
        b"\1" + bytes(40),
        b"\0" + bytes(40),
        b"[" * 3000,
        bytes(36),
        b"\xff" * 65,
        b"\r\n\r\n",
    ]
)
_BODIES = st.lists(st.binary(max_size=120) | _FRAGMENTS, max_size=4).map(b"".join)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    address=st.sampled_from(ADDRESSES),
    mode=st.sampled_from(["read", "write"]),
    body=_BODIES,
    query=st.sampled_from(["", "?path=a", "?path=%2e%2e/a", "?offset=0", "?basis=a", "?offset=9&x", "?%00=%ff"]),
    chunked=st.booleans(),
    extra=st.sampled_from(
        [{}, {"Range": "bytes=0-"}, {"Range": "bytes=9999-"}, {"Content-Encoding": "gzip"}, {"Expect": "100-continue"}]
    ),
)
def test_random_bodies_change_nothing_and_are_answered(
    everything: dict[str, Client],
    address: tuple[str, str],
    mode: str,
    body: bytes,
    query: str,
    chunked: bool,
    extra: dict[str, str],
) -> None:
    client = everything[mode]
    root = client.served.plane.find(client.uid).root
    before = _tree(Path(root))
    method, path = address

    answer = client.request(
        method, "!" + _filled(path, client.uid) + query, iter([body]) if chunked else body, headers=extra
    )

    assert answer.status != 500, answer.body
    if answer.status >= 300:
        assert answer.error in set(Code), answer.body
        assert answer.json["message"].endswith(".")
    assert str(root) not in answer.body.decode("latin-1")
    after = _tree(Path(root))
    # A list of changes without changes is one; all else that was stored would be a content of its digest.
    changed = {name: content for name, content in after.items() if before.get(name) != content}
    changed.pop(".dsg/incoming/changes", None)
    assert all(name == f".dsg/incoming/{digest_of(content)}" for name, content in changed.items())
    assert not before.keys() - after.keys()


_POST = b"POST /v1/transactions/UID/contents HTTP/1.1\r\nHost: x\r\n"
RAW = [
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    _POST + b"Content-Length: -1\r\n\r\n",
    _POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    _POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
    _POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    _POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"GET http://elsewhere/v1/transactions/UID/grant HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/transactions/UID/content?path=%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/transactions/UID/../UID/grant HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/transactions/%00/grant HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/transactions/UID/grant HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    bytes(range(256)) * 40,
    b"\x16\x03\x01" + bytes(100),
]


@pytest.mark.parametrize("raw", RAW, ids=range(len(RAW)))
def test_what_is_no_http_is_answered_or_closed(everything: dict[str, Client], raw: bytes) -> None:
    client = everything["write"]
    raw = raw.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
    with client.raw() as connection:
        try:
            connection.sendall(raw.replace(b"UID", client.uid.encode()))
            said = until_closed(connection)
        except (ConnectionError, ssl.SSLError):
            said = b""
    assert not re.search(rb"HTTP/1.[01] 500", said), said
    assert b"Traceback" not in said
    assert client.request("GET", "/grant", fresh=True).status == 200
    assert not incoming(Path(client.served.plane.find(client.uid).root))


def test_plain_http_and_noise_before_tls_are_closed(served: Served, everything: dict[str, Client]) -> None:
    chance = random.Random(7)
    for raw in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", chance.randbytes(300), b""):
        connection = socket.create_connection(("127.0.0.1", served.port), timeout=10)
        with connection:
            connection.sendall(raw)
            try:
                while connection.recv(65536):
                    pass
            except ConnectionError:
                pass
    assert everything["read"].request("GET", "/grant", fresh=True).status == 200


@pytest.mark.parametrize(
    ("method", "path", "code", "status"),
    [
        ("GET", "!/", "no-route", 404),
        ("GET", "!/v1/transactions/a/b/c", "no-route", 404),
        ("GET", "!/v1/transactions/-bad/grant", "no-route", 404),
        ("DELETE", "/contents", "wrong-method", 405),
        ("HEAD", "/grant", "", 405),
        ("POST", "/large/" + "A" * 64, "no-route", 404),
        ("POST", "/large/../../x", "no-route", 404),
    ],
)
def test_addresses_that_are_none(everything: dict[str, Client], method: str, path: str, code: str, status: int) -> None:
    answer = everything["write"].request(method, path)
    assert answer.status == status
    if code:
        assert answer.error == code
    if status == 405:
        assert answer.headers["Allow"]


def test_too_much_in_one_request(everything: dict[str, Client]) -> None:
    read, write = everything["read"], everything["write"]
    too_many = encode_digests(["a" * 64] * 10_001)

    def refused(answer: Answer) -> bool:
        return (answer.status, answer.error) in {(413, "too-much"), (400, "bad-request")}

    assert refused(read.request("POST", "/nodes", too_many))
    assert refused(write.request("POST", "/missing", too_many))
    assert read.request("POST", "/contents", encode_paths(["x" * 1000] * 9000)).error == "too-much"
    assert read.request("POST", "/contents", iter([b" " * 1_000_000] * 9)).error == "too-much"
    assert read.request("POST", "/contents", b"", headers={"Content-Length": str(1 << 40)}).error == "too-much"


def test_connections_too_many_are_closed(tmp_path: Path) -> None:
    served = Served(tmp_path, dataclasses.replace(QUICK, connections=4))
    try:
        place = Place(tmp_path, served)
        client = place.client("read", place.stage())
        opened = []
        for _ in range(4):
            connection = client.connect()
            connection.request("GET", f"/v1/transactions/{client.uid}/grant")
            assert connection.getresponse().read()
            opened.append(connection)
        with pytest.raises((OSError, http.client.HTTPException)):
            client.request("GET", "/grant", fresh=True)
        for connection in opened:
            connection.close()
        for _ in range(100):
            try:
                assert client.request("GET", "/grant", fresh=True).status == 200
                break
            except (OSError, http.client.HTTPException):
                continue
        else:
            pytest.fail("the places were not given back")
    finally:
        served.stop()


def test_what_fails_inside_is_told_without_its_trace(
    everything: dict[str, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret of the server")

    monkeypatch.setattr(module.ContentReceiver, "feed", broken)
    answer = everything["write"].request("POST", "/contents", frames_of([b"a"]))
    assert (answer.status, answer.error) == (500, "internal")
    assert b"secret" not in answer.body


def test_everything_that_needs_a_grant_needs_its_certificate(everything: dict[str, Client]) -> None:
    client = everything["write"]
    for route in ROUTES:
        if route.mode in {Mode.NOBODY, Mode.INTRODUCTION}:
            continue
        answer = client.request(route.method, "!" + _filled(route.path, client.uid), b"", certificate=False, fresh=True)
        assert answer.error == "no-certificate", route


def test_open_files_are_given_back(everything: dict[str, Client]) -> None:
    read, write = everything["read"], everything["write"]

    def work() -> None:
        for _ in range(10):
            write.request("POST", "/contents", content_frame(b"x" * 2_000_000, "a" * 64))
            write.request("PUT", "/changes", b"bad")
            write.request("POST", f"/large/{'b' * 64}", bytes(35))
            write.request("PUT", f"/large/{'b' * 64}?offset=0", b"x")
            read.request("GET", "/content?path=a")
            read.request("GET", "/content?path=a", headers={"Range": "bytes=99-"})
            read.request("POST", "/contents", encode_paths(["a", "b", "../c"]))
            read.request("POST", "/chunks", encode_paths(["a"]))
            read.request("GET", "/header")

    work()
    root = str(Path(read.served.plane.find(read.uid).root))
    open_there = [link for link in _links() if link.startswith(root)]
    assert open_there == []


def _links() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return found
