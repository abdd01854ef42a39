"""What the data plane measures, on a real server with real connections."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dsg.transfer import log_levels
from dsg.transfer.grants import GrantError, last_sign, read_server, sign_of_life, write_server
from dsg.transfer.metric import Instrument
from dsg.transfer.problems import Code
from dsg.transfer.server import main
from dsg.transfer.server.metrics import TABLE, PrometheusRecorder
from tests.transfer.server import QUICK, Place, Served, frames_of, until_closed
from tests.transfer.test_process import start


class Measured:
    """A server that measures, and what it shows."""

    def __init__(self, base: Path, **limits: float) -> None:
        self.served = Served(base, dataclasses.replace(QUICK, **limits))  # type: ignore[arg-type]
        self.recorder = PrometheusRecorder()
        self.served.plane.recorder = self.recorder
        self.place = Place(base, self.served)

    def value(self, name: str, **labels: str) -> float:
        return shown(self.recorder.page().decode(), name, **labels)


def shown(page: str, name: str, **labels: str) -> float:
    found = [
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and sample.labels.items() >= labels.items()
    ]
    return sum(found)


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[Measured]:
    running = Measured(tmp_path)
    yield running
    running.served.stop()


def test_the_page_shows_the_table_and_nothing_else_of_ours(measured: Measured) -> None:
    measured.recorder.answered("live", 200, 0.1)
    families = {f.name: f for f in text_string_to_metric_families(measured.recorder.page().decode())}
    ours = {name: family for name, family in families.items() if not name.startswith("process_")}
    expected = {metric.prometheus_name.removesuffix("_total"): metric for metric in TABLE}
    assert ours.keys() == expected.keys()
    for name, metric in expected.items():
        assert ours[name].documentation == metric.description
        assert ours[name].type == str(metric.instrument)
        labels = {label for sample in ours[name].samples for label in sample.labels} - {"le"}
        assert labels == metric.attributes.keys()
    assert {s.labels["code"] for s in ours["dsg_plane_refusals"].samples} == {code.value for code in Code}
    assert any(metric.instrument is Instrument.HISTOGRAM for metric in TABLE)


def test_requests_bytes_and_refusals_are_counted(measured: Measured) -> None:
    client = measured.place.client("write", measured.place.stage())
    body = frames_of([b"x" * 1000, b"y"])
    assert client.request("POST", "/contents", body).status == 200
    assert client.request("GET", "/header").error == "wrong-mode"
    assert client.request("GET", "!/nowhere").error == "no-route"
    until(lambda: measured.value("dsg_plane_requests_total", route="other") == 1)
    assert measured.value("dsg_plane_requests_total", route="writeContents", status="200") == 1
    assert measured.value("dsg_plane_requests_total", route="header", status="403") == 1
    assert measured.value("dsg_plane_refusals_total", code="wrong-mode") == 1
    assert measured.value("dsg_plane_refusals_total", code="no-route") == 1
    assert measured.value("dsg_plane_refusals_total") == 2
    assert measured.value("dsg_plane_request_duration_seconds_count", route="writeContents") == 1
    came = measured.value("dsg_plane_transferred_bytes_total", direction="in")
    assert came == len(body) + len(client.pair.certificate)


def test_what_goes_out_is_counted(measured: Measured) -> None:
    stage = measured.place.stage("version", {"a": b"z" * 5000})
    client = measured.place.client("read", stage)
    assert client.request("GET", "/content?path=a").body == b"z" * 5000
    until(lambda: measured.value("dsg_plane_transferred_bytes_total", direction="out") == 5000)


def test_a_client_that_stops_is_an_idle_timeout(measured: Measured) -> None:
    client = measured.place.client("write", measured.place.stage())
    with client.raw() as connection:
        connection.sendall(client.begin("POST", "/contents", 100) + b"1234")
        until_closed(connection)
    until(lambda: measured.value("dsg_plane_requests_total", route="writeContents", status="408") == 1)
    assert measured.value("dsg_plane_idle_timeouts_total", direction="in") == 1
    assert measured.value("dsg_plane_refusals_total", code="too-slow") == 1


def test_an_answer_that_is_cut_off_has_no_status(measured: Measured) -> None:
    stage = measured.place.stage("version", {"a": b"z" * (64 << 20)})
    client = measured.place.client("read", stage)
    with client.raw() as connection:
        connection.sendall(client.begin("GET", "/content?path=a", 0))
        connection.recv(1000)
        until(lambda: measured.value("dsg_plane_requests_total", route="content", status="0") == 1)
    assert measured.value("dsg_plane_idle_timeouts_total", direction="out") == 1


def test_connections_too_many_are_counted(tmp_path: Path) -> None:
    measured = Measured(tmp_path, connections=1)
    client = measured.place.client("write", measured.place.stage(), introduced=False)
    try:
        assert client.request("GET", "!/livez", certificate=False).status == 200
        with client.raw(certificate=False) as connection:
            assert until_closed(connection) == b""
        assert measured.value("dsg_plane_connections_refused_total") == 1
        client.close()
    finally:
        measured.served.stop()


def fetch(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.status == 200
    page = answer.read().decode()
    connection.close()
    return page


def test_the_process_shows_its_page_and_logs_as_it_is_told(tmp_path: Path) -> None:
    process = start(tmp_path, "--metrics-listen", "127.0.0.1:0")
    try:
        assert process.stdout is not None and process.stderr is not None
        said = json.loads(process.stdout.readline())
        page = fetch(said["metricsPort"])
        assert shown(page, "dsg_plane_connections") == 0
        assert shown(page, "process_resident_memory_bytes") > 1 << 20
        assert json.loads(process.stderr.readline())["event"] == "listening"
        for number, level in ((signal.SIGUSR1, "debug"), (signal.SIGUSR2, "info")):
            process.send_signal(number)
            line = json.loads(process.stderr.readline())
            while line["event"] != "log level changed":
                line = json.loads(process.stderr.readline())
            assert line["to"] == level
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_page_that_can_not_be_shown_is_told(tmp_path: Path) -> None:
    process: subprocess.Popen[str] = start(tmp_path, "--metrics-listen", "192.0.2.1:1")
    _, logged = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "192.0.2.1:1" in logged and "Traceback" not in logged
    assert read_server(tmp_path / "grants") is None


def test_signs_of_life_are_left_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(main, "_SIGN", 0.02)
    write_server(tmp_path, "1" * 64)
    os.utime(tmp_path / "server.json", (0, 0))

    def look() -> None:
        until(lambda: (last_sign(tmp_path) or 0) > time.time() - 5)
        # Somebody has made the directory anew.
        (tmp_path / "server.json").unlink()
        until(lambda: read_server(tmp_path) == "1" * 64)

    async def live() -> None:
        living = asyncio.create_task(main._live(tmp_path, "1" * 64))
        await asyncio.to_thread(look)
        living.cancel()

    asyncio.run(live())


def test_where_no_server_has_been_there_is_no_sign(tmp_path: Path) -> None:
    assert last_sign(tmp_path) is None
    with pytest.raises(GrantError, match=r"server\.json"):
        sign_of_life(tmp_path)


@pytest.mark.parametrize("level", ["loud", "", "notset"])
def test_levels_that_do_not_exist_are_refused(level: str) -> None:
    with pytest.raises(ValueError, match="use one of: debug, info"):
        log_levels.known(level)
    assert log_levels.known("INFO") == "info"
