"""A Secret that is read through the real client, at the loudest log level, shows in no log line."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import kubernetes.client
import pytest

from dsg.operator.api_server import ApiServer
from dsg.operator.kubernetes_cluster import KubernetesCluster
from dsg.reconcile.cluster import Forbidden, Gone
from dsg.telemetry import logs

KEY = bytes(range(200, 232))
SHOWN = base64.b64encode(KEY).decode()


class _Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        code = {"keys": 200, "hidden": 403}.get(self.path.rpartition("/")[2], 404)
        # A server that says too much: the answer to a refusal holds what was asked for.
        body = json.dumps({"data": {"justice": SHOWN}, "message": f"code {code}"}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def cluster() -> Iterator[KubernetesCluster]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    configuration = kubernetes.client.Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_port}"
    configuration.retries = False
    yield KubernetesCluster(ApiServer(kubernetes.client.ApiClient(configuration)), "node-a")
    server.shutdown()
    server.server_close()


@pytest.fixture
def heard() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure("info", "json", stream=stream)
    logs.set_level("debug")
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_no_log_line_shows_a_secret_that_was_read(cluster: KubernetesCluster, heard: io.StringIO) -> None:
    logging.getLogger("dsg").debug("the loudest level")
    # As parts of the client do with what they receive.
    logging.getLogger("kubernetes.client.rest").debug("response body: %s", SHOWN)
    assert cluster.secret("research", "keys") == {"justice": SHOWN}
    said: list[str] = []
    for name, error in (("hidden", Forbidden), ("none", Gone)):
        with pytest.raises(error) as caught:
            cluster.secret("research", name)
        logging.getLogger("dsg").error("it failed", exc_info=caught.value)
        said.append(str(caught.value))
    text = heard.getvalue()
    assert "the loudest level" in text
    assert "it failed" in text
    assert SHOWN not in text + "".join(said)
    assert KEY.hex() not in text
