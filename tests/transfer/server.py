"""A real server on a loopback port, and a client that speaks HTTP over TLS to it by the standard library alone."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from blake3 import blake3

from dsg.transfer.grants import Grant, Grants, remove_grant, write_grant
from dsg.transfer.problems import Problem
from dsg.transfer.server.app import application
from dsg.transfer.server.limits import Limits
from dsg.transfer.server.listening import Listening
from dsg.transfer.server.plane import Plane
from dsg.transfer.server.trail import Trail
from dsg.transfer.tls import KeyPair, ServerFiles, Trust, make_key_pair, server_files
from dsg.transfer.wire import FrameHead, FrameParser, content_frame

QUICK = Limits(idle=0.6, least=1024, keep_alive=1.0, linger=0.4, handshake=2.0, look=0.05, grace=1.0, patience=5.0)
"""Limits that tests need not wait for."""


def digest_of(content: bytes) -> str:
    return blake3(content).hexdigest()


def frames_of(contents: Iterable[bytes]) -> bytes:
    return b"".join(content_frame(content, digest_of(content)) for content in contents)


def read_frames(raw: bytes) -> list[tuple[str, bytes] | Problem]:
    """Return digest and content of each frame, or its problem."""
    parser = FrameParser()
    found: list[tuple[str, bytes] | Problem] = []
    digest, content = "", bytearray()
    for one in parser.feed(raw):
        if isinstance(one, FrameHead):
            digest, content = one.digest, bytearray()
        elif isinstance(one, Problem):
            found.append(one)
        elif one is None:
            found.append((digest, bytes(content)))
        else:
            content += one
    parser.close()
    return found


@dataclasses.dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """Return the code of what was refused; "" where it was done."""
        return "" if self.status < 300 else str(self.json["error"])


class Served:
    """A running server in a thread of its own."""

    def __init__(self, base: Path, limits: Limits = QUICK, trail: Trail | None = None, **trust: int) -> None:
        self.grants = base / "grants"
        self.state = base / "state"
        self.grants.mkdir(exist_ok=True)
        self.state.mkdir(exist_ok=True)
        self.files: ServerFiles = server_files(self.state)
        self._threads = ThreadPoolExecutor(limits.threads)
        self.plane = Plane(Grants(self.grants), Trust(self.files, **trust), limits, self._threads, trail=trail)
        self.port = 0
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def _serve(self) -> None:
        async def run() -> None:
            async with Listening(self.plane, application(self.plane), "127.0.0.1", 0) as listening:
                self.port = listening.port
                self._started.set()
                await self._stop.wait()

        self._loop.run_until_complete(run())
        # Connections that linger, as asyncio.run ends them.
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def stop(self, *, wait: bool = True) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._threads.shutdown(wait=wait)

    def call(self, call: Any) -> Any:
        """Call something in the server's event loop."""

        async def run() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)


class Client:
    """One client with a certificate and a grant."""

    def __init__(self, served: Served, pair: KeyPair, directory: Path, uid: str) -> None:
        self.served = served
        self.pair = pair
        self.uid = uid
        self.file = directory / f"client-{secrets.token_hex(8)}.pem"
        self.file.write_bytes(pair.key + pair.certificate)
        self._kept: http.client.HTTPSConnection | None = None

    def context(self, *, certificate: bool = True) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(self.file)
        return context

    def connect(self, *, certificate: bool = True) -> http.client.HTTPSConnection:
        context = self.context(certificate=certificate)
        return http.client.HTTPSConnection("127.0.0.1", self.served.port, context=context, timeout=20)

    def introduce(self) -> Answer:
        return self.request("POST", "/certificate", self.pair.certificate, certificate=False, fresh=True)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        *,
        certificate: bool = True,
        fresh: bool = False,
        headers: dict[str, str] | None = None,
        uid: str | None = None,
    ) -> Answer:
        """Send a request below the transaction's address, on a connection that is kept unless `fresh`."""
        connection = self.connect(certificate=certificate) if fresh or self._kept is None else self._kept
        if not fresh:
            self._kept = connection
        whole = path if path.startswith("/v1") or path.startswith("!") else f"/v1/transactions/{uid or self.uid}{path}"
        try:
            connection.request(method, whole.removeprefix("!"), body=body, headers=headers or {})
            response = connection.getresponse()
            answer = Answer(response.status, response.read(), dict(response.headers.items()))
        except BaseException:
            self.close()
            connection.close()
            raise
        if fresh or response.will_close:
            connection.close()
            if self._kept is connection:
                self._kept = None
        return answer

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    @contextmanager
    def raw(self, *, certificate: bool = True) -> Iterator[ssl.SSLSocket]:
        """Open a connection to write what one likes to."""
        plain = socket.create_connection(("127.0.0.1", self.served.port), timeout=10)
        with self.context(certificate=certificate).wrap_socket(plain) as connection:
            yield connection

    def begin(self, method: str, path: str, length: int) -> bytes:
        """Return the head of a request, to be written to a raw connection."""
        target = f"/v1/transactions/{self.uid}{path}"
        return f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()

    def end(self) -> None:
        """Take the grant away, as the operator does."""
        remove_grant(self.served.grants, self.uid)


def until_closed(connection: ssl.SSLSocket) -> bytes:
    """Return everything that comes until the other side closes."""
    found = bytearray()
    connection.settimeout(10)
    with suppress(ConnectionError, ssl.SSLError):
        while piece := connection.recv(65536):
            found += piece
    return bytes(found)


class Place:
    """A directory with a server, stages and versions in it."""

    def __init__(self, base: Path, served: Served) -> None:
        self.base = base
        self.served = served
        self._number = 0

    def client(self, mode: str, root: Path, *, introduced: bool = True, **more: Any) -> Client:
        """Return a client with a new grant."""
        self._number += 1
        pair = make_key_pair("client", 30)
        uid = more.pop("uid", f"t{self._number}-{self.base.name}"[:60].replace("_", "-"))
        said: dict[str, Any] = {
            "uid": uid,
            "namespace": "research",
            "repository": "justice",
            "author": "ana",
            "client_key": pair.fingerprint,
            "mode": mode,
            "root": str(root),
            "expires": time.time() + 600,
        }
        write_grant(self.served.grants, Grant(**{**said, **more}))
        client = Client(self.served, pair, self.base, uid)
        if introduced:
            assert client.introduce().status == 204
        return client

    def stage(self, name: str = "stage", files: dict[str, bytes] | None = None) -> Path:
        root = self.base / name
        (root / ".dsg" / "incoming").mkdir(parents=True)
        for path, content in (files or {}).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        return root


def incoming(root: Path) -> dict[str, bytes]:
    """Return what lies in a stage's incoming directory."""
    found = {}
    for path in (root / ".dsg" / "incoming").iterdir():
        with suppress(FileNotFoundError):
            found[path.name] = path.read_bytes()
    return found
