"""The command `dsg-data-plane`: its start, its end, and how much memory it takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from blake3 import blake3
from typer.testing import CliRunner

from dsg.transfer.grants import read_server
from dsg.transfer.server.incoming import ContentReceiver
from dsg.transfer.server.main import cli
from dsg.transfer.wire import FrameHead
from tests.transfer.server import Place, Served, frames_of, incoming

COMMAND = [sys.executable, "-m", "dsg.transfer.server.main"]
MIB = 1 << 20


def start(base: Path, *options: str) -> subprocess.Popen[str]:
    for name in ("grants", "state"):
        (base / name).mkdir(exist_ok=True)
    return subprocess.Popen(
        [*COMMAND, "--grants", base / "grants", "--state", base / "state", "--listen", "127.0.0.1:0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def at(process: subprocess.Popen[str], base: Path) -> Place:
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    assert said["event"] == "listening"
    assert said["certificateFingerprint"] == read_server(base / "grants")
    return Place(base, SimpleNamespace(port=said["port"], grants=base / "grants"))  # type: ignore[arg-type]


def peak(process: subprocess.Popen[str]) -> int:
    """Return the most memory that a process had, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    running = start(tmp_path)
    yield running
    running.kill()
    running.communicate()


def test_from_start_to_end_within_bounded_memory(process: subprocess.Popen[str], tmp_path: Path) -> None:
    place = at(process, tmp_path)
    stage = place.stage()
    client = place.client("write", stage)
    assert client.request("POST", "/contents", frames_of([b"a"])).status == 200
    before = peak(process)
    piece, hasher = os.urandom(MIB), blake3()
    for _ in range(200):
        hasher.update(piece)

    def body() -> Iterator[bytes]:
        yield FrameHead(hasher.hexdigest(), 200 * MIB).encode()
        for _ in range(200):
            yield piece

    assert client.request("POST", "/contents", body()).status == 200
    large = stage / ".dsg/incoming" / hasher.hexdigest()
    assert large.stat().st_size == 200 * MIB
    reader = place.client("read", large.parent)
    connection = reader.connect()
    connection.request("GET", f"/v1/transactions/{reader.uid}/content?path={large.name}")
    response = connection.getresponse()
    assert sum(iter(lambda: len(response.read(MIB)), 0)) == 200 * MIB
    connection.close()
    assert client.request("POST", "/complete").json == {"contents": 2, "changes": False}
    assert peak(process) - before < 48 * MIB
    large.unlink()

    process.send_signal(signal.SIGTERM)
    _, logged = process.communicate(timeout=20)
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in logged.splitlines()]
    assert events[0] == "listening"
    assert events[-2:] == ["ending", "ended"]


def test_what_is_under_way_ends_before_the_process_does(process: subprocess.Popen[str], tmp_path: Path) -> None:
    place = at(process, tmp_path)
    stage = place.stage()
    client = place.client("write", stage)
    content = b"x" * 2_000_000

    def body() -> Iterator[bytes]:
        raw = frames_of([content])
        yield raw[:1000]
        process.send_signal(signal.SIGTERM)
        yield raw[1000:]

    assert client.request("POST", "/contents", body(), fresh=True).status == 200
    assert process.wait(20) == 0
    assert list(incoming(stage).values()) == [content]


def test_file_work_that_hangs_does_not_keep_the_server_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        began.set()
        go_on.wait(30)

    monkeypatch.setattr(ContentReceiver, "feed", hang)
    served = Served(tmp_path)
    place = Place(tmp_path, served)
    client = place.client("write", place.stage())
    with client.raw() as connection:
        connection.sendall(client.begin("POST", "/contents", 100) + frames_of([b"x"]))
        assert began.wait(10)
        before = time.monotonic()
        try:
            served.stop(wait=False)
            assert time.monotonic() - before < 8
            assert not served.plane.quiet.is_set()
        finally:
            go_on.set()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--listen", "nowhere"], 2, "HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], 2, "HOST:PORT"),
        (["--log-level", "loud"], 2, "--log-level"),
        (["--grants", "/nonexistent"], 2, "no directory"),
        (["--idle", "0"], 2, "idle"),
    ],
)
def test_what_can_not_be_started_says_why(tmp_path: Path, options: list[str], code: int, said: str) -> None:
    given = ["--grants", str(tmp_path), "--state", str(tmp_path), "--listen", "127.0.0.1:0", *options]
    result = CliRunner().invoke(cli, given)
    assert result.exit_code == code
    assert said in click.unstyle(result.output)
    assert not list(tmp_path.iterdir())


def test_an_address_that_is_not_here_is_told(tmp_path: Path) -> None:
    process = start(tmp_path, "--listen", "192.0.2.1:1")
    _, logged = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "cannot listen on 192.0.2.1:1" in logged
    assert "Traceback" not in logged
    assert read_server(tmp_path / "grants") is None
