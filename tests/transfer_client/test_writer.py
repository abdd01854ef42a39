"""Sending to a stage: what travels, what is verified, what is made again."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsg.manifests.changes import Gone, encode_change
from dsg.transfer.chunks import AVERAGE
from dsg.transfer.client import (
    Completed,
    GrantOver,
    Identity,
    Outgoing,
    Progress,
    Refused,
    SourceChanged,
    Writer,
    runs,
)
from dsg.transfer.wire import LARGE
from tests.transfer_client.relay import Relay
from tests.transfer_client.world import World, digest_of, make_stage, noise, opener, outgoing, stored


def files(directory: Path, count: int, size: int = 100) -> list[Outgoing]:
    """Make small files, each of another content."""
    directory.mkdir(exist_ok=True)
    found = []
    for number in range(count):
        path = directory / f"{number}"
        path.write_bytes(noise(number, size))
        found.append(outgoing(path))
    return found


def test_what_was_sent_is_there_and_is_not_sent_again(
    world: World, uid: str, identity: Identity, stage: Path, tmp_path: Path
) -> None:
    world.grant_writing(uid, identity, make_stage(stage))
    contents = files(tmp_path / "local", 2600)
    with world.connect(uid, identity) as connection:
        writer = Writer(connection)
        reports: list[Progress] = []
        writer.send(contents, reports.append)
        assert stored(stage) == {one.digest: noise(number, 100) for number, one in enumerate(contents)}
        assert (reports[-1].files, reports[-1].content) == (2600, 260_000)
        assert reports[-1].sent > 260_000
        before = connection.traffic.sent
        writer.send(contents)
        assert connection.traffic.sent - before <= 2600 * 65
        assert writer.complete() == Completed(2600, changes=False)


def test_equal_contents_travel_once(world: World, uid: str, identity: Identity, stage: Path, tmp_path: Path) -> None:
    world.grant_writing(uid, identity, make_stage(stage))
    one = files(tmp_path / "local", 1, size=1 << 20)[0]
    with world.connect(uid, identity) as connection:
        reports: list[Progress] = []
        Writer(connection).send([one] * 5, reports.append)
        assert connection.traffic.sent < 1.1 * one.size
        assert reports[-1].files == 5


def test_empty_and_largest_small_files_arrive(
    world: World, uid: str, identity: Identity, stage: Path, tmp_path: Path
) -> None:
    world.grant_writing(uid, identity, make_stage(stage))
    sizes = [0, 1, LARGE - 1, LARGE, LARGE + 1]
    contents = []
    for size in sizes:
        path = tmp_path / str(size)
        path.write_bytes(noise(size, size))
        contents.append(outgoing(path))
    with world.connect(uid, identity) as connection:
        Writer(connection).send(contents)
    assert stored(stage) == {digest_of(noise(size, size)): noise(size, size) for size in sizes}


def test_the_list_of_changes_arrives_and_what_is_wrong_with_one_is_told(
    world: World, uid: str, identity: Identity, stage: Path
) -> None:
    world.grant_writing(uid, identity, make_stage(stage))
    lines = [encode_change(Gone(f"input/{number:05}")) for number in range(20_000)]
    with world.connect(uid, identity) as connection:
        writer = Writer(connection)
        writer.send_changes(iter(lines))
        assert (stage / ".dsg/incoming/changes").read_bytes() == b"".join(lines)
        with pytest.raises(Refused, match=r"line 2.*input/00000") as caught:
            writer.send_changes([lines[1], lines[0]])
        assert caught.value.code == "bad-changes"
        assert (stage / ".dsg/incoming/changes").read_bytes() == b"".join(lines)
        assert writer.complete() == Completed(0, changes=True)


def test_contents_and_changes_are_sent_side_by_side(
    world: World, uid: str, identity: Identity, stage: Path, tmp_path: Path
) -> None:
    world.grant_writing(uid, identity, make_stage(stage))
    path = tmp_path / "notes.txt"
    path.write_bytes(b"notes")
    lines = [encode_change(Gone(f"input/{number:05}")) for number in range(20_000)]
    begun = threading.Event()

    def changes() -> Iterator[bytes]:
        begun.set()
        yield from lines

    def contents() -> Iterator[Outgoing]:
        assert begun.wait(30)
        yield outgoing(path)

    with world.connect(uid, identity) as connection:
        writer = Writer(connection)
        writer.send(contents(), None, changes())
        assert (stage / ".dsg/incoming/changes").read_bytes() == b"".join(lines)
        with pytest.raises(Refused, match=r"line 2.*input/00000") as caught:
            writer.send([outgoing(path)], None, [lines[1], lines[0]])
        assert caught.value.code == "bad-changes"
        assert writer.complete() == Completed(1, changes=True)
    assert (stage / f".dsg/incoming/{digest_of(b'notes')}").read_bytes() == b"notes"


@pytest.mark.parametrize("size", [1000, LARGE])
@pytest.mark.parametrize("change", ["other", "longer", "shorter", "gone", "directory"])
def test_a_file_that_changed_since_it_was_scanned_is_not_sent(
    world: World, uid: str, identity: Identity, stage: Path, tmp_path: Path, size: int, change: str
) -> None:
    world.grant_writing(uid, identity, make_stage(stage))
    path = tmp_path / "notes.txt"
    content = noise(1, size)
    path.write_bytes(content)
    one = Outgoing("input/notes.txt", size, digest_of(content), opener(path))
    path.unlink()
    if change == "directory":
        path.mkdir()
    elif change != "gone":
        path.write_bytes({"other": noise(2, size), "longer": content + b"x", "shorter": content[:-1]}[change])
    with world.connect(uid, identity) as connection, pytest.raises(SourceChanged, match=r"'input/notes\.txt'"):
        Writer(connection).send([one])
    assert not stored(stage)


def test_a_file_that_changes_while_it_is_sent_is_not_used(
    world: World, uid: str, identity: Identity, stage: Path, tmp_path: Path
) -> None:
    world.grant_writing(uid, identity, make_stage(stage))
    path = tmp_path / "recording"
    path.write_bytes(noise(1, 3 * LARGE))
    one = outgoing(path)

    def change(progress: Progress) -> None:
        if progress.sent:
            with path.open("r+b") as file:
                file.seek(one.size - 10)
                file.write(b"0123456789")

    with Relay(world.port) as relay:
        relay.rate = 20 << 20
        with world.connect(uid, identity, relay.port) as connection, pytest.raises(SourceChanged, match="recording"):
            Writer(connection).send([one], change)
    assert not stored(stage)


def test_lost_connections_are_made_again(
    world: World, relay: Relay, uid: str, identity: Identity, stage: Path, tmp_path: Path
) -> None:
    world.grant_writing(uid, identity, make_stage(stage))
    contents = files(tmp_path / "local", 40, size=1 << 19)
    with world.connect(uid, identity, relay.port) as connection:
        relay.cut_after("up", 1 << 20, 3 << 20, 5 << 20)
        Writer(connection).send(contents)
    assert stored(stage).keys() == {one.digest for one in contents}


def test_a_large_file_whose_connection_is_cut_goes_on_where_it_was(
    world: World,
    relay: Relay,
    uid: str,
    identity: Identity,
    stage: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = 4 << 20
    monkeypatch.setattr(runs, "RUN", run)
    world.grant_writing(uid, identity, make_stage(stage))
    path = tmp_path / "recording"
    size = 6 * run
    path.write_bytes(noise(3, size))
    with world.connect(uid, identity, relay.port) as connection:
        relay.cut_after("up", 3 * run + run // 2)
        Writer(connection).send([outgoing(path)])
        assert connection.traffic.sent < size + 1.5 * run
    assert stored(stage) == {digest_of(path.read_bytes()): path.read_bytes()}


def test_a_large_file_of_a_killed_client_goes_on_where_it_was(
    world: World, relay: Relay, uid: str, identity: Identity, stage: Path, tmp_path: Path
) -> None:
    world.grant_writing(uid, identity, make_stage(stage))
    path = tmp_path / "recording"
    size = 32 << 20
    path.write_bytes(noise(4, size))

    def interrupt(_progress: Progress) -> None:
        # What is still on its way is lost with the client; what counts is what has arrived.
        if sum(part.stat().st_blocks * 512 for part in (stage / ".dsg" / "incoming").iterdir()) > size // 2:
            raise KeyboardInterrupt

    with world.connect(uid, identity, relay.port) as connection, pytest.raises(KeyboardInterrupt):
        relay.rate = 50 << 20
        Writer(connection).send([outgoing(path)], interrupt)
    relay.rate = math.inf
    with world.connect(uid, identity, relay.port) as connection:
        Writer(connection).send([outgoing(path)])
        assert connection.traffic.sent < size * 0.6
    assert stored(stage) == {digest_of(path.read_bytes()): path.read_bytes()}


def test_one_percent_changed_sends_little_more(
    world: World, uid: str, identity: Identity, stage: Path, tmp_path: Path
) -> None:
    size = 64 << 20
    old = noise(5, size)
    world.grant_writing(uid, identity, make_stage(stage, {"input/old name": old}))
    at = size // 3
    # A hundredth of other bytes, and of another length, so that all that follows is moved.
    new = old[:at] + noise(6, size // 100 - 1000) + old[at + size // 100 :]
    path = tmp_path / "recording"
    path.write_bytes(new)
    with world.connect(uid, identity) as connection:
        reports: list[Progress] = []
        Writer(connection).send([outgoing(path, basis_path="input/old name")], reports.append)
        # The chunks at both ends of the change have some of it.
        assert connection.traffic.sent < size // 100 + 4 * AVERAGE
        assert (reports[-1].files, reports[-1].content) == (1, len(new))
    assert stored(stage) == {digest_of(new): new}


def test_a_basis_that_is_not_there_is_none(
    world: World, uid: str, identity: Identity, stage: Path, tmp_path: Path
) -> None:
    world.grant_writing(uid, identity, make_stage(stage))
    path = tmp_path / "recording"
    path.write_bytes(noise(7, LARGE))
    with world.connect(uid, identity) as connection:
        Writer(connection).send([outgoing(path, basis_path="input/none")])
    assert stored(stage).keys() == {digest_of(path.read_bytes())}


def test_a_server_that_dies_and_comes_back_has_it_all_in_the_end(
    own_world: World, uid: str, identity: Identity, stage: Path, tmp_path: Path
) -> None:
    own_world.grant_writing(uid, identity, make_stage(stage))
    contents = files(tmp_path / "local", 20, size=1 << 20)
    large = tmp_path / "recording"
    large.write_bytes(noise(8, 16 << 20))
    died = threading.Event()

    def die(progress: Progress) -> None:
        if progress.sent > 12 << 20 and not died.is_set():
            died.set()
            own_world.kill()
            threading.Timer(0.2, own_world.start).start()

    with Relay(own_world.port) as relay:
        relay.rate = 30 << 20
        with own_world.connect(uid, identity, relay.port) as connection:
            connection.persistence = type(connection.persistence)(tries=8, pause=0.3)
            Writer(connection).send([*contents, outgoing(large)], die)
    assert died.is_set()
    assert stored(stage).keys() == {*(one.digest for one in contents), digest_of(large.read_bytes())}


def test_a_transaction_that_ends_meanwhile_ends_the_sending_and_says_so(
    world: World, uid: str, identity: Identity, stage: Path, tmp_path: Path
) -> None:
    world.grant_writing(uid, identity, make_stage(stage))
    contents = files(tmp_path / "local", 60, size=1 << 20)
    with Relay(world.port) as relay:
        relay.rate = 20 << 20
        with world.connect(uid, identity, relay.port) as connection, pytest.raises(GrantOver):
            Writer(connection).send(contents, lambda progress: world.end(uid) if progress.sent else None)


def test_more_than_the_limit_is_refused_and_says_why(
    world: World, uid: str, identity: Identity, stage: Path, tmp_path: Path
) -> None:
    world.grant_writing(uid, identity, make_stage(stage), size_limit=10_000)
    with world.connect(uid, identity) as connection, pytest.raises(Refused) as caught:
        Writer(connection).send(files(tmp_path / "local", 200, size=100))
    assert caught.value.code == "too-large"
    assert sum(map(len, stored(stage).values())) <= 10_000


@pytest.mark.parametrize("count", [2, 30], ids=["all of it under way", "more to come"])
def test_ctrl_c_ends_it_at_once(
    world: World, relay: Relay, uid: str, identity: Identity, stage: Path, tmp_path: Path, count: int
) -> None:
    world.grant_writing(uid, identity, make_stage(stage))
    contents = files(tmp_path / "local", count, size=3 << 20)

    def interrupt(progress: Progress) -> None:
        if progress.sent:
            raise KeyboardInterrupt

    with world.connect(uid, identity, relay.port) as connection:
        relay.rate = 1 << 20
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            Writer(connection).send(contents, interrupt)
        assert time.monotonic() - begun < 3
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("dsg-transfer")]
        relay.rate = math.inf
        # The same connection goes on.
        Writer(connection).send(contents)
    assert stored(stage).keys() == {one.digest for one in contents}


def test_an_error_of_the_caller_s_own_files_ends_it(world: World, uid: str, identity: Identity, stage: Path) -> None:
    world.grant_writing(uid, identity, make_stage(stage))

    def contents() -> None:
        raise RuntimeError("the plan is broken")

    with world.connect(uid, identity) as connection, pytest.raises(RuntimeError, match="the plan is broken"):
        Writer(connection).send(iter(contents, None))
