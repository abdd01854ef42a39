"""A server that speaks TLS and answers what it is told to, one request after the other, whatever is asked."""

from __future__ import annotations

import ssl
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from dsg.transfer.client import Endpoint
from dsg.transfer.tls import make_key_pair


@dataclass(frozen=True)
class Answers:
    """One answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """What it says of the body's length, where that is a lie; then the connection is closed."""


class Scripted:
    """The server; certificates of clients are always welcome."""

    def __init__(self, directory: Path, *answers: Answers) -> None:
        self.left = deque(answers)
        self.asked: list[tuple[str, str, bytes]] = []
        """Method, address and body of each request, introductions left out."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                answer = Answers(204)
                if not self.path.endswith("/certificate"):
                    outer.asked.append((self.command, self.path, body))
                    answer = outer.left.popleft()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.status != 204:
                    self.send_header("Content-Length", str(answer.length or len(answer.body)))
                self.close_connection = answer.length is not None
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        pair = make_key_pair("scripted", 1)
        (directory / "pair.pem").write_bytes(pair.key + pair.certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "pair.pem")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.endpoint = Endpoint(f"https://127.0.0.1:{self._server.server_address[1]}", pair.fingerprint)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
