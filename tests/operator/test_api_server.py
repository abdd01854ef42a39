"""Requests to the API server tell how far the node's clock is from the server's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from time import sleep, time

import kubernetes.client
import pytest

from dsg.operator import api_server
from dsg.operator.api_server import ApiServer
from dsg.telemetry.health import Heartbeats


@contextmanager
def server(ahead: float, *, date: str | None = None, slow: float = 0.0) -> Iterator[kubernetes.client.ApiClient]:
    """Serve answers whose Date is so many seconds ahead of ours."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sleep(slow)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time() + ahead, usegmt=True) if date is None else date

        def log_message(self, format: str, *args: object) -> None:
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    configuration = kubernetes.client.Configuration(host=f"http://127.0.0.1:{running.server_address[1]}")
    try:
        yield kubernetes.client.ApiClient(configuration)
    finally:
        running.shutdown()
        running.server_close()


def measured(client: kubernetes.client.ApiClient) -> float | None:
    hearts = Heartbeats()
    assert ApiServer(client, hearts).request("GET", "/x", resource="x") == {}
    return hearts.beats().clock_offset


@pytest.mark.parametrize("ahead", [0.0, 300.0, -86400.0])
def test_the_clocks_are_compared_by_the_date_of_an_answer(ahead: float) -> None:
    with server(ahead) as client:
        offset = measured(client)
    assert offset is not None
    assert abs(offset + ahead) < 2


@pytest.mark.parametrize("date", ["yesterday", "", "Thu, 99 Jan 2026 00:00:00 GMT"])
def test_a_date_that_is_none_is_left_alone(date: str) -> None:
    with server(0.0, date=date) as client:
        assert measured(client) is None


def test_an_answer_that_took_long_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_server, "_PROMPT", 0.02)
    with server(300.0, slow=0.05) as client:
        assert measured(client) is None
