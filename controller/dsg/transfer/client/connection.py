"""Requests to the data plane of one transaction: HTTPS by urllib3, both sides known by their certificates.

A client's certificate is told to the data plane first, over a connection without one: TLS would not let it in
otherwise. A data plane that was started anew knows it no more, so it is told again after each loss.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError, IncompleteRead
from urllib3.exceptions import SSLError as Urllib3SSLError
from urllib3.response import BaseHTTPResponse

from dsg.transfer.client.errors import Stopped, TransferError, WrongServer, refusal
from dsg.transfer.client.identity import Endpoint, Identity
from dsg.transfer.client.retrying import Lost, Patience, Persistence
from dsg.transfer.problems import ABOUT, MAX_PROBLEM, Code, Problem, decode_problem

CONNECTIONS = max(2, min(4, os.cpu_count() or 1))
"""Connections at a time, each used by a thread of its own. More threads than processors get in each other's way."""
CONNECT = 10.0
"""Seconds for a connection to be made."""
IDLE = 150.0
"""Seconds without a byte after which a connection is taken for lost. More than a data plane needs to take its turn."""
LONG = 3600.0
"""The same while the data plane hashes or makes durable what may be very large. That it lives, TCP tells."""
PIECE = 1 << 18
"""Bytes of a body that are given to the socket at once; each has IDLE seconds to leave."""

_KEEPALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))
        if hasattr(socket, name)
    ),
]
_NOT_TLS_1_3 = frozenset(
    {"WRONG_VERSION_NUMBER", "UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}
)
"""OpenSSL's names for what a server says that does not speak TLS 1.3."""
_AGAIN = frozenset(str(code) for code, about in ABOUT.items() if about.again)
_TLS_UNKNOWN = frozenset({str(Code.NO_CERTIFICATE)})

T = TypeVar("T")
Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request, which can be sent more than once."""

    size: int
    """Bytes."""
    pieces: Callable[[], Iterable[Buffer]]
    """Gives them from the beginning. What it raises ends the request."""

    @classmethod
    def of(cls, *contents: Buffer) -> Body:
        """Return a body of what is in memory."""
        return cls(sum(map(len, contents)), lambda: (piece for content in contents for piece in cut(content)))


def cut(content: Buffer) -> Iterator[memoryview]:
    """Yield a content in pieces that a slow line takes one of in time."""
    view = memoryview(content)
    for start in range(0, len(view), PIECE):
        yield view[start : start + PIECE]


class Traffic:
    """Bytes of bodies, both ways, whatever became of the requests. Heads and what TLS adds are not counted."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.sent = 0
        """Bytes of requests that were given to the network."""
        self.received = 0
        """Bytes of answers."""

    def count(self, *, sent: int = 0, received: int = 0) -> None:
        """Add to both."""
        with self._guard:
            self.sent += sent
            self.received += received


class Answer:
    """An answer that says yes. Raises Lost where the connection breaks."""

    def __init__(self, response: BaseHTTPResponse, traffic: Traffic) -> None:
        self._response = response
        self._traffic = traffic
        self.status = response.status
        """HTTP status, 200 to 299."""

    def header(self, name: str) -> str | None:
        """Return a header's value."""
        return self._response.headers.get(name)

    def read(self, size: int) -> bytes:
        """Return at most so many bytes of the body, none at its end."""
        with _losing():
            found = self._response.read(size)
        self._traffic.count(received=len(found))
        return found

    def whole(self, limit: int) -> bytes:
        """Return the whole body. Raises Lost when it has more bytes than `limit`: no such answer is expected."""
        found = bytearray()
        while piece := self.read(min(limit + 1 - len(found), PIECE)):
            found += piece
            if len(found) > limit:
                raise Lost(f"an answer has more than the {limit} bytes that are expected")
        return bytes(found)


class Connection:
    """The data plane, for one transaction. Methods may be called from any thread.

    As a context manager it closes what it opened. Raises TransferError.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        uid: str,
        identity: Identity,
        *,
        connections: int = CONNECTIONS,
        persistence: Persistence | None = None,
        idle: float = IDLE,
        connect: float = CONNECT,
    ) -> None:
        """Prepare; nothing is sent before it is needed. `uid` is the transaction's."""
        self.endpoint = endpoint
        self.uid = uid
        self.connections = connections
        self.traffic = Traffic()
        self.stopped = threading.Event()
        """Set while what is under way is being given up."""
        self.persistence = persistence or Persistence()
        """How hard it tries."""
        self._idle = idle
        self._connect = connect
        self._certificate = identity.certificate
        self._live: weakref.WeakSet[HTTPSConnection] = weakref.WeakSet()
        self._known = False
        self._registering = threading.Lock()
        self._anonymous = self._pool(_context(), 1)
        context = _context()
        identity.show_in(context)
        # One for the thread that shares out the work.
        self._pool_of_identity = self._pool(context, connections + 1)

    @classmethod
    def open(
        cls,
        endpoint: Endpoint,
        uid: str,
        identity: Identity,
        *,
        connections: int = CONNECTIONS,
        persistence: Persistence | None = None,
        idle: float = IDLE,
        connect: float = CONNECT,
    ) -> Connection:
        """Make the identity known to the data plane, which also shows that it is there and is the right one."""
        opened = cls(
            endpoint, uid, identity, connections=connections, persistence=persistence, idle=idle, connect=connect
        )
        try:
            opened.insist(lambda _patience: opened._introduce())
        except BaseException:
            opened.close()
            raise
        return opened

    def close(self) -> None:
        """Close all connections."""
        self._anonymous.close()
        self._pool_of_identity.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def insist(self, do: Callable[[Patience], T]) -> T:
        """Call until it does not raise Lost, as often as persistence allows. Raises what it raises, and Unreachable."""
        patience = Patience(self.persistence, self.stopped)
        while True:
            try:
                return do(patience)
            except Lost as lost:
                if lost.after is None:
                    self._known = False
                patience.wait(lost, self.endpoint.url)

    def ask(
        self,
        method: str,
        what: str,
        body: Body | None = None,
        *,
        headers: dict[str, str] | None = None,
        limit: int = 1 << 20,
        long: bool = False,
    ) -> bytes:
        """Make a request until it succeeds; return the answer's body of at most `limit` bytes. See `once`."""

        def do(_patience: Patience) -> bytes:
            with self.once(method, what, body, headers=headers, long=long) as answer:
                return answer.whole(limit)

        return self.insist(do)

    def ask_anybody(self, what: str, *, limit: int) -> bytes:
        """Ask for what needs no grant; `what` follows the version of the interface. Else as `ask`."""

        def do(_patience: Patience) -> bytes:
            with self._registering, self._exchange(self._anonymous, "GET", f"/v1/{what}", None, {}) as answer:
                return answer.whole(limit)

        return self.insist(do)

    @contextlib.contextmanager
    def once(
        self,
        method: str,
        what: str,
        body: Body | None = None,
        *,
        headers: dict[str, str] | None = None,
        long: bool = False,
    ) -> Iterator[Answer]:
        """Make one request and yield its answer.

        `what` follows the transaction's address; `long` allows for an answer that takes its time. Raises Lost when it
        may be made again, and TransferError for a refusal.
        """
        self._introduce()
        target = f"/v1/transactions/{self.uid}/{what}"
        with self._exchange(self._pool_of_identity, method, target, body, headers or {}, long=long) as answer:
            yield answer

    @contextlib.contextmanager
    def giving_up(self) -> Iterator[None]:
        """End all that is under way in other threads, which raises Stopped or Lost there; yield until it has ended."""
        self.stopped.set()
        try:
            for connection in list(self._live):
                sock = connection.sock
                if sock is not None:
                    # Not SSLSocket's own: that takes TLS away from under a thread that reads.
                    with contextlib.suppress(OSError):
                        socket.socket.shutdown(sock, socket.SHUT_RDWR)
            yield
        finally:
            self.stopped.clear()

    def _introduce(self) -> None:
        """Tell the data plane the certificate, unless it knows it."""
        if self._known:
            return
        with self._registering:
            if self._known:
                return
            target = f"/v1/transactions/{self.uid}/certificate"
            headers = {"Content-Type": "application/x-pem-file"}
            with self._exchange(self._anonymous, "POST", target, Body.of(self._certificate), headers) as answer:
                answer.whole(MAX_PROBLEM)
            self._known = True

    @contextlib.contextmanager
    def _exchange(
        self,
        pool: urllib3.HTTPSConnectionPool,
        method: str,
        target: str,
        body: Body | None,
        headers: dict[str, str],
        *,
        long: bool = False,
    ) -> Iterator[Answer]:
        if self.stopped.is_set():
            raise Stopped
        size = 0 if body is None else body.size
        try:
            with _losing():
                response = pool.urlopen(
                    method,
                    target,
                    None if body is None else self._counted(body),  # type: ignore[arg-type]  # any iterable of bytes
                    {**headers, "Content-Length": str(size)} if body is not None or method != "GET" else headers,
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    timeout=urllib3.Timeout(connect=self._connect, read=LONG if long else self._idle),
                    preload_content=False,
                    decode_content=False,
                )
        except Lost:
            if self.stopped.is_set():
                raise Stopped from None
            raise
        whole = False
        try:
            answer = Answer(response, self.traffic)
            if not 200 <= response.status < 300:  # noqa: PLR2004
                raise _refused(answer, response.headers.get("Retry-After"))
            yield answer
            whole = response.length_remaining in {0, None} and not answer.read(1)
        except Lost:
            if self.stopped.is_set():
                raise Stopped from None
            raise
        finally:
            # What is left of an answer that nobody reads would be taken for the next one.
            if not whole:
                response.close()
            # Closed or not, it goes back: the pool gives away as many as it has got back, and waits for them.
            response.release_conn()

    def _counted(self, body: Body) -> Iterator[Buffer]:
        for piece in body.pieces():
            if self.stopped.is_set():
                raise Stopped
            yield piece
            self.traffic.count(sent=len(piece))

    def _pool(self, context: ssl.SSLContext, connections: int) -> urllib3.HTTPSConnectionPool:
        pool = urllib3.HTTPSConnectionPool(
            self.endpoint.host,
            self.endpoint.port,
            maxsize=connections,
            block=True,
            ssl_context=context,
            cert_reqs="CERT_NONE",
            assert_hostname=False,
            assert_fingerprint=self.endpoint.certificate_fingerprint,
            socket_options=_KEEPALIVE,
        )
        live, url, idle = self._live, self.endpoint.url, self._idle

        class Pinned(HTTPSConnection):
            """A connection to the one server that has the certificate."""

            def connect(self) -> None:
                try:
                    super().connect()
                except Urllib3SSLError as error:
                    # Of its own, urllib3 raises it for another fingerprint only; what OpenSSL says is ssl.SSLError.
                    raise WrongServer(url, "its certificate is another") from error
                except ssl.SSLError as error:
                    if error.reason in _NOT_TLS_1_3:
                        raise WrongServer(url, f"it does not speak TLS 1.3 ({error.reason})") from error
                    raise
                live.add(self)

            def request(self, *arguments: Any, **more: Any) -> None:
                # Else urllib3 would give each piece of a body the time that a connection may take.
                self.timeout = idle
                super().request(*arguments, **more)

        pool.ConnectionCls = Pinned
        return pool


def _context() -> ssl.SSLContext:
    """Return a context that takes any certificate: which one is right, its fingerprint tells."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.contextmanager
def _losing() -> Iterator[None]:
    """Raise Lost for what breaks a connection."""
    try:
        yield
    except (HTTPError, http.client.HTTPException, ssl.SSLError, OSError) as error:
        raise Lost(_why(error)) from error


def _why(error: BaseException) -> str:
    """Return the innermost cause in words; urllib3 wraps it with addresses of objects."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        inner = next((argument for argument in cause.args if isinstance(argument, BaseException)), None)
        cause = cause.__cause__ or cause.__context__ or inner
    for cause in reversed(causes):
        if isinstance(cause, TimeoutError):
            return "nothing came for too long"
        if isinstance(cause, ssl.SSLEOFError):
            return "the connection was cut"
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or cause}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if isinstance(cause, http.client.HTTPException | IncompleteRead):
            return "the connection was cut"
    return str(error)


def _refused(answer: Answer, retry_after: str | None) -> TransferError | Lost:
    raw = answer.whole(MAX_PROBLEM)
    try:
        problem = decode_problem(raw)
    except ValueError:
        problem = Problem("", f"it answered HTTP {answer.status}, and not in the form that this version of dsg knows")
    error = refusal(problem)
    if problem.code in _TLS_UNKNOWN:
        return Lost(problem.message, give_up=error)
    if problem.code in _AGAIN:
        try:
            after = float(retry_after) if retry_after is not None else None
        except ValueError:
            after = None
        return Lost(problem.message, after=after, give_up=error)
    return error
