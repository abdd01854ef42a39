"""What the data plane records of real requests to a real server, and of the process `dsg-data-plane` itself."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from dsg.audit.auditor import Auditor
from dsg.audit.errors import AuditError
from dsg.audit.log import AuditLog
from dsg.audit.record import Entry, Record, decode
from dsg.audit.verify import read_sources, verify
from dsg.transfer.server import trail as trail_module
from dsg.transfer.server.main import cli
from dsg.transfer.server.trail import Trail
from tests.transfer.server import Place, Served, frames_of


class Failing(Auditor):
    """An auditor whose disk can be full."""

    full = False

    def require(self, entry: Entry, *, durable: bool = True) -> None:
        if self.full:
            raise AuditError("the audit log can't be written: No space left on device")
        super().require(entry, durable=durable)


class Recording:
    """A server with an audit log."""

    def __init__(self, base: Path) -> None:
        self.path = base / "audit.jsonl"
        self.auditor = Failing(AuditLog(self.path, "data-plane", "node-a", sync=lambda fd: None))
        self.clock = 0.0
        self.trail = Trail(self.auditor, lambda: self.clock)
        self.served = Served(base, trail=self.trail)
        self.place = Place(base, self.served)

    def records(self, action: str = "") -> list[Record]:
        found = [decode(line) for line in self.path.read_bytes().splitlines()]
        return [record for record in found if record.action.startswith(action)]

    def wait(self, action: str, count: int = 1) -> list[Record]:
        deadline = time.monotonic() + 10
        while len(found := self.records(action)) < count:
            assert time.monotonic() < deadline, [record.action for record in self.records()]
            time.sleep(0.02)
        return found


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    made = Recording(tmp_path)
    yield made
    with suppress(AssertionError):
        made.served.stop()
    asyncio.run(made.trail.close())
    assert verify(read_sources([made.path])).whole


def test_a_transfer_is_recorded_from_certificate_to_end(recording: Recording) -> None:
    client = recording.place.client("write", recording.place.stage())
    (shown,) = recording.records("client.shown")
    assert (shown.who, shown.object.uid, shown.object.namespace) == ("ana", client.uid, "research")
    assert shown.details == {"clientKey": client.pair.fingerprint}
    assert shown.origin.startswith("127.0.0.1:")
    body = frames_of([b"content of a file"])
    assert client.request("POST", "/contents", body).status == 200
    assert client.request("GET", "/grant").status == 200
    (begun,) = recording.records("transfer.begun")
    assert (begun.object.uid, begun.origin, begun.who) == (client.uid, "127.0.0.1", "ana")
    assert not recording.records("transfer.ended")
    client.end()
    (ended,) = recording.wait("transfer.ended")
    assert ended.object.uid == client.uid
    assert (ended.details["repository"], ended.details["mode"]) == ("justice", "write")
    assert (ended.details["requests"], ended.details["received"], ended.details["refused"]) == (2, len(body), 0)
    assert b"content of a file" not in recording.path.read_bytes()


def test_a_request_that_outlives_its_grant_is_counted() -> None:
    class Kept:
        def __init__(self) -> None:
            self.entries: list[Entry] = []

        def tell(self, entry: Entry) -> None:
            self.entries.append(entry)

        require = tell

        def close(self) -> None:
            pass

    kept = Kept()
    request: Any = SimpleNamespace(transport=None, remote="127.0.0.1")
    grant: Any = SimpleNamespace(
        uid="u", repository="justice", mode="read", version="s7", namespace="research", author="ana"
    )

    async def run() -> None:
        trail = Trail(cast(Any, kept))
        exchange: Any = SimpleNamespace(received=0, sent=0)
        async with trail.follow(request, exchange, grant):
            trail.look(lambda _uid: False)
            exchange.sent = 5000
        trail.look(lambda _uid: False)
        await trail.close()

    asyncio.run(run())
    (ended,) = [entry for entry in kept.entries if entry.action == "transfer.ended"]
    assert (ended.details["requests"], ended.details["sent"]) == (1, 5000)


def test_bytes_that_are_read_are_counted(recording: Recording) -> None:
    stage = recording.place.stage(files={"input/secret-name.csv": b"x" * 5000})
    client = recording.place.client("read", stage, version="s7")
    answer = client.request("GET", "/content?path=input/secret-name.csv")
    client.end()
    (ended,) = recording.wait("transfer.ended")
    assert ended.details["version"] == "s7"
    assert answer.body == b"x" * 5000
    assert ended.details["sent"] == 5000
    assert b"secret-name" not in recording.path.read_bytes()


def test_refusals_are_recorded_once_and_then_counted(recording: Recording) -> None:
    client = recording.place.client("write", recording.place.stage(), introduced=False)
    for _ in range(9):
        assert client.request("GET", "/grant", certificate=False, fresh=True).status == 401
    (first,) = recording.wait("client.refused")
    assert (first.details, first.object.uid) == ({"code": "no-certificate", "times": 1}, client.uid)
    recording.clock += trail_module.WINDOW
    refused = recording.wait("client.refused", 2)
    assert refused[1].details == {"code": "no-certificate", "times": 8}


def test_refusals_of_ever_new_kinds_take_bounded_room(recording: Recording) -> None:
    client = recording.place.client("write", recording.place.stage(), introduced=False)
    for number in range(trail_module.MOST_KINDS + 20):
        client.request("GET", "/grant", certificate=False, uid=f"none-{number}")
    recording.clock += trail_module.WINDOW
    refused = recording.wait("client.refused", trail_module.MOST_KINDS + 2)
    assert refused[-1].details["times"] == 19
    assert refused[-1].object.uid == ""


def test_who_cannot_be_recorded_is_not_let_in(recording: Recording) -> None:
    stage = recording.place.stage()
    client = recording.place.client("write", stage)
    recording.auditor.full = True
    answer = client.request("POST", "/contents", frames_of([b"a"]))
    assert (answer.status, answer.error) == (503, "storage")
    other = recording.place.client("write", stage, introduced=False)
    assert other.introduce().status == 503
    recording.auditor.full = False
    assert client.request("POST", "/contents", frames_of([b"a"])).status == 200
    assert other.introduce().status == 204


def test_the_process_records_its_start_its_clients_and_its_end(tmp_path: Path) -> None:
    for name in ("grants", "state"):
        (tmp_path / name).mkdir()
    log = tmp_path / "audit.jsonl"
    command = [sys.executable, "-m", "dsg.transfer.server.main", f"--grants={tmp_path / 'grants'}"]
    command += [f"--state={tmp_path / 'state'}", "--listen=127.0.0.1:0", f"--audit={log}"]
    refused = CliRunner().invoke(cli, command[3:])
    assert (refused.exit_code, "--audit needs --node" in refused.output) == (2, True)
    process = subprocess.Popen(
        [*command, "--node", "node-a"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        place = Place(tmp_path, SimpleNamespace(port=said["port"], grants=tmp_path / "grants"))  # type: ignore[arg-type]
        client = place.client("write", place.stage())
        assert client.request("POST", "/contents", frames_of([b"a"])).status == 200
        client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
    assert [decode(line).action for line in log.read_bytes().splitlines()] == [
        "log.begun",
        "process.started",
        "client.shown",
        "transfer.begun",
        "transfer.ended",
        "process.stopped",
    ]
