"""Contents of an answer that carries many, one after the other, each small enough for memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dsg.transfer.client.connection import PIECE, Answer
from dsg.transfer.client.errors import refusal
from dsg.transfer.client.retrying import Lost
from dsg.transfer.problems import ABOUT, Problem
from dsg.transfer.wire import HEAD_SIZE, WireError, whole_frame

_AGAIN = frozenset(str(code) for code, about in ABOUT.items() if about.again)


@dataclass(frozen=True, slots=True)
class Received:
    """A content, or the problem in its place."""

    content: bytes | None
    problem: Problem | None = None

    def raise_unless(self, *codes: str) -> None:
        """Raise what the problem is to this client, unless it has one of the codes; Lost when it may pass."""
        if self.problem is None or self.problem.code in codes:
            return
        error = refusal(self.problem)
        if self.problem.code in _AGAIN:
            raise Lost(self.problem.message, give_up=error)
        raise error


def receive(answer: Answer, count: int, limit: int) -> Iterator[Received]:
    """Yield `count` contents of at most `limit` bytes each. Raises Lost when fewer or others come."""
    held = bytearray()
    came = 0
    try:
        while piece := answer.read(PIECE):
            held += piece
            at = 0
            while True:
                found, end = whole_frame(held, at)
                if not isinstance(found, Problem) and end - at > HEAD_SIZE + limit:
                    raise Lost(f"a content of {end - at - HEAD_SIZE} bytes came where at most {limit} were expected")
                if found is None:
                    break
                at = end
                came += 1
                if came > count:
                    raise Lost(f"more than the {count} contents came that were asked for")
                yield Received(None, found) if isinstance(found, Problem) else Received(found)
            del held[:at]
    except WireError as error:
        raise Lost(f"the answer is not formed as documented: {error}") from error
    if held:
        raise Lost("the answer is not formed as documented: it ends within a frame, so it was cut off")
    if came < count:
        raise Lost(f"{came} of {count} contents came")
