"""Storage that hangs takes no place from anybody else, and is named to those who ask for it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from dsg.storage import confined
from dsg.transfer.server import hanging
from dsg.transfer.server.hanging import storage_in
from tests.transfer.server import QUICK, Answer, Client, Place, Served

LIMITS = dataclasses.replace(QUICK, stall=0.2, in_flight=4, per_author=4)
MOUNTS = r"""
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
40 22 0:31 / /srv/dsg/justice/.g1 ro,noatime shared:20 - zfs tank/dsg/justice/g1 ro,xattr
41 22 0:32 / /srv/dsg/with\040blank rw shared:21 - zfs other/x rw
42 22 8:17 / /data rw shared:22 - xfs /dev/sdb1 rw
43 42 8:33 / /data/deep rw shared:23 - xfs /dev/sdc1 rw
44 22 8:49 / /data/deep rw shared:24 - xfs /dev/sdd1 rw
a line that is none
"""


@pytest.mark.parametrize(
    ("root", "storage"),
    [
        ("/srv/dsg/justice/.g1", "the pool tank"),
        ("/srv/dsg/justice/.g1/a", "the pool tank"),
        ("/srv/dsg/justice/.g10", "the device 259:1"),
        ("/srv/dsg/with blank/x", "the pool other"),
        ("/data", "the device 8:17"),
        ("/data/deep/x", "the device 8:49"),
        ("/datax", "the device 259:1"),
    ],
)
def test_what_a_directory_lies_on(root: str, storage: str) -> None:
    assert storage_in(MOUNTS, root) == storage


def test_without_mounts_each_directory_is_its_own() -> None:
    assert storage_in("", "/srv/x") == "/srv/x"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    served = Served(tmp_path, LIMITS)
    # What lies in one directory here is to be two storages.
    monkeypatch.setattr(served.plane, "hanging", hanging.Hanging(lambda root: Path(root).name))
    try:
        yield Place(tmp_path, served)
    finally:
        served.stop()


class Valve:
    """Lets calls to one directory hang."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.inside = 0
        real = confined.opened_root

        def opened_root(asked: str) -> object:
            if asked == str(root):
                self.inside += 1
                self.open.wait(60)
                self.inside -= 1
            return real(asked)

        monkeypatch.setattr(confined, "opened_root", opened_root)


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_storage_that_hangs_keeps_nobody_else_waiting(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sick, sound = place.stage("sick", {"a": b"of the sick one"}), place.stage("sound", {"a": b"of the sound one"})
    many = [place.client("read", sick, author=f"author-{number % 2}") for number in range(6)]
    other = place.client("read", sound, author="kim")
    late = place.client("read", sick, author="lee")
    valve = Valve(sick, monkeypatch)

    def ask(client: Client) -> Answer:
        return client.request("GET", "/content?path=a")

    with ThreadPoolExecutor(8) as people:
        # All places are held by what hangs, and more waits for one.
        waiting: list[Future[Answer]] = [people.submit(ask, client) for client in many]
        until(lambda: valve.inside >= LIMITS.in_flight)
        try:
            began = time.monotonic()
            answer = ask(other)
            assert (answer.status, answer.body) == (200, b"of the sound one")
            assert time.monotonic() - began < LIMITS.patience
            # Who asks for what hangs hears so at once, and takes no thread.
            until(lambda: len([one for one in waiting if one.done()]) == len(many) - LIMITS.in_flight)
            refused = ask(late)
            assert (refused.status, refused.error) == (503, "storage")
            assert "sick do not return" in refused.json["message"]
            assert valve.inside == LIMITS.in_flight
        finally:
            valve.open.set()
        answers = [one.result() for one in waiting]
    # What hung has gone on where it was.
    assert sorted(one.status for one in answers) == [200] * LIMITS.in_flight + [503] * (len(many) - LIMITS.in_flight)
    assert {one.body for one in answers if one.status == 200} == {b"of the sick one"}
    until(lambda: place.served.call(lambda: place.served.plane.under_way) == 0)
    assert ask(late).body == b"of the sick one"


def test_whose_client_goes_away_is_still_known_to_hang(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sick = place.stage("sick", {"a": b"content"})
    client, late = place.client("read", sick), place.client("read", sick, author="lee")
    valve = Valve(sick, monkeypatch)
    try:
        with client.raw() as connection:
            connection.sendall(client.begin("GET", "/content?path=a", 0))
            until(lambda: valve.inside == 1)
        until(lambda: "storage hangs" in caplog.text)
        assert late.request("GET", "/content?path=a").error == "storage"
        assert place.served.call(lambda: place.served.plane.under_way) == 1
    finally:
        valve.open.set()
    until(lambda: place.served.call(lambda: place.served.plane.under_way) == 0)
    assert late.request("GET", "/content?path=a").body == b"content"
    assert "storage answers again" in caplog.text
