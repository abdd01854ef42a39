"""Contents that are stored many at a time: whole, each counted once, none that is wrong, nothing left over."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from dsg.storage import confined
from dsg.transfer.grants import Grant
from dsg.transfer.problems import Code
from dsg.transfer.server import incoming as module
from dsg.transfer.server.errors import Refusal
from dsg.transfer.server.incoming import ContentReceiver, Incoming, opened
from dsg.transfer.server.ledger import Ledgers
from dsg.transfer.server.limits import SMALL
from dsg.transfer.wire import content_frame

sizes = st.one_of(st.integers(0, 50), st.sampled_from([SMALL - 1, SMALL, SMALL + 1, SMALL + 70_000]))


def digest_of(content: bytes) -> str:
    return blake3(content).hexdigest()


def frame(content: bytes, digest: str = "") -> bytes:
    return content_frame(content, digest or digest_of(content))


class Place:
    """A stage, and what was counted of it."""

    def __init__(self, root: Path, limit: int | None) -> None:
        (root / ".dsg/incoming").mkdir(parents=True)
        self.directory = root / ".dsg/incoming"
        self.ledgers = Ledgers()
        self.over = False
        said = {"uid": "u", "namespace": "n", "repository": "r", "author": "a", "mode": "write", "root": str(root)}
        said |= {"clientKey": "0" * 64}
        self.grant = Grant.model_validate({**said, "expires": time.time() + 99, "sizeLimit": limit})

    def check(self) -> None:
        if self.over:
            raise Refusal(Code.GRANT_OVER)

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        with opened(self.grant, self.ledgers, self.check) as found:
            yield found

    @property
    def used(self) -> int:
        return self.ledgers.of("u", lambda: 0).used

    def there(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.directory.iterdir()}


@contextmanager
def stage(limit: int | None = None) -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        yield Place(Path(folder, "stage"), limit)


def receive(place: Place, body: bytes, cuts: list[int]) -> int:
    with place.incoming() as found:
        receiver = ContentReceiver(found)
        try:
            at = 0
            for end in [*sorted(cut % (len(body) + 1) for cut in cuts), len(body)]:
                receiver.feed(body[at:end])
                at = end
            receiver.finish()
        finally:
            receiver.abandon()
        return receiver.stored


@settings(max_examples=40)
@given(st.lists(sizes, max_size=8), st.lists(st.integers(0, 10**7), max_size=8), st.booleans())
def test_bodies_in_any_pieces_are_stored(lengths: list[int], cuts: list[int], twice: bool) -> None:
    contents = [bytes([number]) * length for number, length in enumerate(lengths)]
    body = b"".join(map(frame, contents * (2 if twice else 1)))
    with stage() as place:
        assert receive(place, body, cuts) == len(contents) * (2 if twice else 1)
        assert place.there() == {digest_of(content): content for content in contents}
        assert place.used == sum(map(len, place.there().values()))
        receive(place, body, [])
        assert place.used == sum(map(len, place.there().values()))


@settings(max_examples=25)
@given(st.lists(sizes, min_size=1, max_size=5), st.data())
def test_what_is_wrong_or_cut_off_leaves_what_came_before(lengths: list[int], data: st.DataObject) -> None:
    contents = [bytes([number + 1]) * (length + 1) for number, length in enumerate(lengths)]
    wrong = data.draw(st.integers(0, len(contents) - 1))
    frames = [frame(content) for content in contents]
    cut = data.draw(st.booleans())
    frames[wrong] = frames[wrong][:-1] if cut else frame(contents[wrong], digest_of(b"other"))
    with stage() as place:
        with pytest.raises(Refusal) as caught:
            receive(place, b"".join(frames[: wrong + 1]), data.draw(st.lists(st.integers(0, 10**7), max_size=4)))
        assert caught.value.code == (Code.BAD_REQUEST if cut else Code.WRONG_DIGEST)
        assert place.there() == {digest_of(content): content for content in contents[:wrong]}
        assert place.used == sum(map(len, contents[:wrong]))


def test_contents_are_stored_up_to_the_limit() -> None:
    contents = [bytes([number]) * 10 for number in range(5)]
    with stage(limit=35) as place:
        for _ in range(2):
            with pytest.raises(Refusal) as caught:
                receive(place, b"".join(map(frame, contents)), [])
            assert caught.value.code == Code.TOO_LARGE
            assert sorted(place.there()) == sorted(map(digest_of, contents[:3]))
            assert place.used == 30
        # What is there costs nothing more.
        assert receive(place, b"".join(map(frame, contents[:3])), []) == 3


def test_a_grant_that_is_over_stores_nothing() -> None:
    with stage() as place, place.incoming() as found:
        receiver = ContentReceiver(found)
        receiver.feed(frame(b"first"))
        place.over = True
        with pytest.raises(Refusal):
            receiver.feed(frame(b"second") + frame(b"third"))
        assert place.there() == {digest_of(b"first"): b"first"}
        assert place.used == 5


def test_a_file_system_that_gets_full_keeps_nothing_half(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = module.write_all, count()

    def full(descriptor: int, data: bytes) -> None:
        if next(calls) == 2:
            os.write(descriptor, data[:1])
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor, data)

    with stage() as place:
        monkeypatch.setattr(module, "write_all", full)
        contents = [b"one", b"two", b"three", b"four"]
        with pytest.raises(Refusal):
            receive(place, b"".join(map(frame, contents)), [])
        assert place.there() == {}
        assert place.used == 0
        assert receive(place, b"".join(map(frame, contents)), []) == 4


def test_a_content_of_another_size_in_its_place_is_replaced_and_counted() -> None:
    with stage() as place:
        (place.directory / digest_of(b"right")).write_bytes(b"left by a power cut")
        assert receive(place, frame(b"right"), []) == 1
        assert place.there() == {digest_of(b"right"): b"right"}
        assert place.used == 5


def test_the_same_contents_from_several_threads_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [b"%d" % number for number in range(40)]
    body = b"".join(map(frame, contents))
    real = confined.create

    def slowly(above: int, name: str) -> int:
        time.sleep(0.0005)
        return real(above, name)

    monkeypatch.setattr(confined, "create", slowly)
    with stage() as place:
        with place.incoming():
            pass
        threads = [threading.Thread(target=receive, args=(place, body, [n * 700, n * 1300])) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert place.there() == {digest_of(content): content for content in contents}
        assert place.used == sum(map(len, contents))


def test_what_is_no_content_is_refused() -> None:
    with stage() as place:
        for body in (content_frame(b"no digest"), b"\2" + frame(b"a")[1:], frame(b"a")[:33] + b"\xff" * 8 + b"a"):
            with pytest.raises(Refusal) as caught:
                receive(place, frame(b"before") + body, [])
            assert caught.value.code == Code.BAD_REQUEST
            assert place.there() == {digest_of(b"before"): b"before"}
