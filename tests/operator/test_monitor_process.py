"""`dsg-operator monitor` as a process: its probes, its metrics, its log level, its end."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from dsg.api.names import GROUP
from dsg.operator.api_server import load_client
from dsg.operator.monitor_process import serve
from lab.processes import free_port

LEASE = {
    "metadata": {"name": "dsg-node-a", "labels": {f"{GROUP}/node": "node-a"}},
    "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"},
}


class Api(ThreadingHTTPServer):
    """An API server as far as the monitor reads it: one Lease."""

    status = 200

    def __init__(self) -> None:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"items": [LEASE]} if api.status == 200 else {"message": "away"}).encode()
                self.send_response(api.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def kubeconfig(self, path: Path) -> Path:
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server_address[1]}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        users = [{"name": "u", "user": {"token": "secret-token"}}]
        whole = {"clusters": [cluster], "contexts": [context], "users": users, "current-context": "c"}
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **whole}))
        return path


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(port: int, path: str) -> tuple[int, str]:
    """Return status and body of an answer; 0 while there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def until(port: int, path: str, words: str) -> str:
    deadline = time.monotonic() + 30
    while True:
        _, body = ask(port, path)
        if words in body:
            return body
        assert time.monotonic() < deadline, body
        time.sleep(0.05)


def test_from_its_start_to_its_end(api: Api, tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "dsg.operator", "monitor", f"--listen=127.0.0.1:{port}"]
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen([*argv, f"--kubeconfig={api.kubeconfig(tmp_path / 'config')}"], stderr=out)
    try:
        page = until(port, "/metrics", 'dsg_node_lease_age_seconds{dsg_node="node-a"}')
        assert 'service_name="dsg-monitor"' in page
        assert 'dsg_api_requests_total{outcome="ok",resource="leases",verb="GET"} 1' in page
        assert ask(port, "/healthz")[0] == ask(port, "/readyz")[0] == 200
        process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 10
        while "log level changed to debug" not in log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines
    assert "secret-token" not in log.read_text()


def test_an_address_that_can_not_be_had_is_told(api: Api, tmp_path: Path) -> None:
    client = load_client(str(api.kubeconfig(tmp_path / "config")))
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        serve(client, "dsg-system", ("192.0.2.1", 1), threading.Event())
