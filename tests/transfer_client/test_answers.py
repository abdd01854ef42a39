"""What the client makes of answers that a sound data plane gives seldom, or never."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dsg.transfer.client import (
    Completed,
    Connection,
    Damaged,
    Identity,
    NoSpace,
    Reader,
    Refused,
    TransferError,
    Unreachable,
    Writer,
)
from dsg.transfer.problems import Code, Problem
from dsg.transfer.wire import LARGE, ChunkList, encode_digests
from tests.transfer_client.scripted import Answers, Scripted
from tests.transfer_client.world import QUICK, noise, outgoing, wanted

COMPLETED = Answers(200, b'{"contents": 3, "changes": true}')


def problem(code: Code, message: str, status: int, **headers: str) -> Answers:
    return Answers(status, Problem(code, message).encode(), {k.replace("_", "-"): v for k, v in headers.items()})


def connect(server: Scripted) -> Connection:
    return Connection.open(server.endpoint, "t-1", Identity.make(), persistence=QUICK)


def test_a_busy_data_plane_is_asked_again_after_as_long_as_it_said(tmp_path: Path) -> None:
    busy = problem(Code.BUSY, "Too much is under way.", 503, Retry_After="0.3")
    with Scripted(tmp_path, *[busy] * 6, COMPLETED) as server, connect(server) as connection:
        begun = time.monotonic()
        assert Writer(connection).complete() == Completed(3, changes=True)
        assert time.monotonic() - begun > 6 * 0.3
        assert len(server.asked) == 7


def test_a_storage_that_fails_is_asked_again_and_then_named(tmp_path: Path) -> None:
    broken = problem(Code.STORAGE, "The disk says EIO.", 503)
    with (
        Scripted(tmp_path, *[broken] * 5) as server,
        connect(server) as connection,
        pytest.raises(Refused, match="The disk says EIO"),
    ):
        Writer(connection).complete()
    assert len(server.asked) == 5


@pytest.mark.parametrize(("code", "status", "error"), [(Code.NO_SPACE, 507, NoSpace), (Code.WRONG_MODE, 403, Refused)])
def test_a_refusal_is_not_asked_again(tmp_path: Path, code: Code, status: int, error: type[TransferError]) -> None:
    with (
        Scripted(tmp_path, problem(code, "No, because of this.", status)) as server,
        connect(server) as connection,
        pytest.raises(error, match="because of this"),
    ):
        Writer(connection).complete()
    assert len(server.asked) == 1


def test_a_certificate_that_was_forgotten_is_told_again(tmp_path: Path) -> None:
    forgotten = problem(Code.NO_CERTIFICATE, "Who are you?", 401)
    with Scripted(tmp_path, forgotten, COMPLETED) as server, connect(server) as connection:
        assert Writer(connection).complete() == Completed(3, changes=True)


@pytest.mark.parametrize("answer", [Answers(502, b"<html>Bad gateway</html>"), Answers(302, b"", {"Location": "/"})])
def test_an_answer_of_another_form_is_told_with_its_status(tmp_path: Path, answer: Answers) -> None:
    with (
        Scripted(tmp_path, answer) as server,
        connect(server) as connection,
        pytest.raises(Refused, match=f"HTTP {answer.status}"),
    ):
        Writer(connection).complete()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"contents": true, "changes": 1}'])
def test_a_completion_of_another_form_is_none(tmp_path: Path, body: bytes) -> None:
    with Scripted(tmp_path, Answers(200, body)) as server, connect(server) as connection, pytest.raises(Refused):
        Writer(connection).complete()


def test_an_answer_that_is_cut_off_is_asked_for_again(tmp_path: Path) -> None:
    whole = b'{"contents": 3, "changes": true}'
    with Scripted(tmp_path, Answers(200, whole[:9], length=len(whole)), COMPLETED) as server:
        with connect(server) as connection:
            assert Writer(connection).complete() == Completed(3, changes=True)
        assert len(server.asked) == 2


def test_an_answer_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    with (
        Scripted(tmp_path, *[Answers(200, bytes(3 << 20))] * 5) as server,
        connect(server) as connection,
        pytest.raises(Unreachable, match="more than the"),
    ):
        Writer(connection).complete()


def test_a_range_that_was_not_asked_for_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    content = noise(1, LARGE)
    other = Answers(206, content[: LARGE - 1], {"Content-Range": f"bytes 1-{LARGE - 1}/{LARGE}"})
    with Scripted(tmp_path, other) as server, connect(server) as connection, pytest.raises(Damaged):
        Reader(connection).fetch([wanted("a", content)], tmp_path / "store")


def test_a_large_file_that_comes_out_wrong_there_is_looked_at_again_and_then_given_up(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_bytes(noise(1, LARGE))
    one = outgoing(path)
    wrong = problem(Code.WRONG_DIGEST, "It has another digest.", 422)
    answers = [Answers(200, encode_digests([one.digest])), *[Answers(200), wrong] * 3]
    with (
        Scripted(tmp_path, *answers) as server,
        connect(server) as connection,
        pytest.raises(Damaged, match="another digest"),
    ):
        Writer(connection).send([one])
    assert not server.left


def test_other_parameters_of_chunks_make_a_basis_useless_and_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_bytes(noise(1, LARGE))
    one = outgoing(path, basis_path="input/old")
    answers = [
        Answers(200, encode_digests([one.digest])),
        Answers(200, b'{"chunking": {"algorithm": "another"}}'),
        Answers(200),
        Answers(200, b'{"stored": 1}'),
    ]
    with Scripted(tmp_path, *answers) as server, connect(server) as connection:
        Writer(connection).send([one])
    method, address, body = server.asked[2]
    assert (method, "basis" in address) == ("POST", False)
    assert ChunkList(body).size == LARGE
