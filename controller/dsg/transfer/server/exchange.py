"""One request: whose it is, its body and its answer, each bounded in memory and time, and its file work in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, nullcontext
from typing import Protocol, TypeVar

from aiohttp import ClientError, web

from dsg.transfer.problems import Code
from dsg.transfer.server.admission import Admission, Turn
from dsg.transfer.server.errors import Cut, Refusal
from dsg.transfer.server.hanging import Hanging
from dsg.transfer.server.limits import PIECE, Limits
from dsg.transfer.server.metrics import Direction, Recorder, Unrecorded
from dsg.transfer.server.version import Pieces

_T = TypeVar("_T")
_LONGER = 10
"""How much longer than others a call may take that reads a whole file, or makes all durable."""
_GONE = (ConnectionError, ClientError, web.RequestPayloadError)


class Receiver(Protocol):
    """What takes a body in pieces; called in threads, one call at a time."""

    def feed(self, data: bytes) -> None:
        """Take the next piece. Raises Refusal."""

    def finish(self) -> None:
        """Take the end of the body. Raises Refusal."""

    def abandon(self) -> None:
        """Remove what is not whole."""


class Exchange:
    """One request and its answer."""

    def __init__(
        self, request: web.Request, limits: Limits, threads: Executor, recorder: Recorder | None = None
    ) -> None:
        self.request = request
        self._limits = limits
        self._threads = threads
        self._deadline: asyncio.Timeout | None = None
        self._over = False
        self._turn: Turn | None = None
        self._turns: list[Turn] = []
        self._hanging = Hanging()
        self._root = ""
        self._moved = 0
        self.received = self.sent = 0
        """Bytes of the body and of the answer so far."""
        self._recorder = recorder if recorder is not None else Unrecorded()
        self.is_cut = False
        """Whether the connection was closed in the middle of the answer."""

    def works_in(self, root: str, hanging: Hanging) -> None:
        """Say in which directory it works, and where it is to be noted when calls for that hang."""
        self._root, self._hanging = root, hanging

    # ---- waiting

    def end(self) -> None:
        """End it because its grant is over: whatever it waits for, it waits no more."""
        self._over = True
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(0)

    async def wait(self, awaited: Coroutine[object, object, _T], seconds: float, late: Code) -> _T:
        """Wait for something for so long. Raises Refusal: `late`, or the grant is over."""
        if self._over:
            awaited.close()
            raise Refusal(Code.GRANT_OVER)
        try:
            async with asyncio.timeout(seconds) as self._deadline:
                return await awaited
        except TimeoutError:
            raise Refusal(Code.GRANT_OVER if self._over else late) from None
        finally:
            self._deadline = None

    @asynccontextmanager
    async def turn(self, admission: Admission, author: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it. The first that is held is passed on now and then."""
        turn = Turn(admission, author)
        self._turn = self._turn or turn
        self._turns.append(turn)
        try:
            await self.wait(turn.begin(), self._limits.patience, Code.BUSY)
            yield
        finally:
            self._turns.remove(turn)
            turn.end()

    async def run(self, call: Callable[..., _T], *arguments: object, whole_file: bool = False) -> _T:
        """Call something that may block, in a thread, and wait until it has ended even when cancelled.

        While it hangs, others have its places. `whole_file`: it may take as long as reading a large file does.
        """
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._threads, call, *arguments)
        late = loop.time() + self._limits.stall * (_LONGER if whole_file else 1)
        try:
            if not await _returned(job, late):
                await self._hung(job, late, whole_file=whole_file)
        except asyncio.CancelledError:
            await self._outlasted(job, late, whole_file=whole_file)
            raise
        return job.result()

    async def _hung(self, job: asyncio.Future[_T], late: float, *, whole_file: bool) -> None:
        """Wait for a call that hangs, without any place; then take them again."""
        turns = list(self._turns)
        await self._outlasted(job, late, whole_file=whole_file)
        for turn in turns:
            await self.wait(turn.begin(), self._limits.patience, Code.BUSY)

    async def _outlasted(self, job: asyncio.Future[_T], late: float, *, whole_file: bool) -> None:
        if await _returned(job, late):
            return
        for turn in self._turns:
            turn.end()
        # A file may be so large that reading it is no hanging, so nobody else is refused for that.
        with nullcontext() if whole_file else self._hanging.noted(self._root):
            await asyncio.wait([job])

    @asynccontextmanager
    async def opened(self, manager: AbstractContextManager[_T]) -> AsyncIterator[_T]:
        """Enter a context manager that may block."""
        with_it = ExitStack()
        try:
            yield await self.run(with_it.enter_context, manager)
        finally:
            await self.run(with_it.close)

    # ---- the body

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises Refusal where it stops, or comes too slowly."""
        content = self.request.content
        loop = asyncio.get_running_loop()
        left, brought = self._limits.idle, 0
        while True:
            begun = loop.time()
            try:
                piece = await self._progress(content.readany(), left, "in")
            except _GONE as error:
                raise Refusal(Code.BAD_REQUEST, "The body was cut off.") from error
            if not piece:
                return
            left -= loop.time() - begun
            brought += len(piece)
            if brought >= self._limits.least:
                left, brought = self._limits.idle, 0
            await self._count(len(piece), "in")
            yield piece

    async def body(self, limit: int) -> bytes:
        """Return a small body. Raises Refusal for one of more bytes than `limit`."""
        whole = bytearray()
        self.require_length(limit)
        async for piece in self.pieces():
            whole += piece
            if len(whole) > limit:
                raise Refusal(Code.TOO_MUCH, f"The body has more than {limit} bytes.")
        return bytes(whole)

    def require_length(self, limit: int) -> None:
        """Raise Refusal where the request says that its body is longer."""
        if (self.request.content_length or 0) > limit:
            raise Refusal(Code.TOO_MUCH, f"The body has more than {limit} bytes.")

    async def receive(self, receiver: Receiver) -> None:
        """Give a body to what takes it. Raises Refusal; then nothing is left of it that is not whole."""
        try:
            async for piece in self.pieces():
                await self.run(receiver.feed, piece)
            await self.run(receiver.finish)
        finally:
            await self.run(receiver.abandon)

    # ---- the answer

    async def send(self, pieces: Pieces, length: int | None = None, content_range: str = "") -> web.StreamResponse:
        """Answer with bytes as they are read. Where they can't be ended rightly, the connection is closed."""
        answer = web.StreamResponse(status=206 if content_range else 200)
        if content_range:
            answer.headers["Content-Range"] = content_range
        answer.content_type = "application/octet-stream"
        answer.content_length = length
        try:
            # What fails before the first byte is out can still be said.
            piece = await self.run(next, pieces, None)
            await answer.prepare(self.request)
            if self.request.transport is not None:
                # So the next piece is read while this one is on its way.
                self.request.transport.set_write_buffer_limits(high=2 * PIECE)
            try:
                while piece is not None:
                    await self._write(answer, piece)
                    piece = await self.run(next, pieces, None)
                await self._progress(answer.write_eof(), self._limits.idle, "out")
            except (Refusal, Cut, OSError):
                self.cut()
        finally:
            await self.run(pieces.close)
        return answer

    def cut(self) -> None:
        """Close the connection in the middle of an answer."""
        self.is_cut = True
        transport = self.request.transport
        if transport is not None:
            transport.abort()

    async def _write(self, answer: web.StreamResponse, piece: bytes) -> None:
        view = memoryview(piece)
        for start in range(0, len(view), _WRITE):
            part = view[start : start + _WRITE]
            await self._progress(answer.write(part), self._limits.idle, "out")
            await self._count(len(part), "out")

    async def _progress(self, awaited: Coroutine[object, object, _T], seconds: float, direction: Direction) -> _T:
        """Wait for the client to send or to take something. Raises Refusal."""
        try:
            return await self.wait(awaited, seconds, Code.TOO_SLOW)
        except Refusal as refusal:
            if refusal.code is Code.TOO_SLOW:
                self._recorder.idle(direction)
            raise

    async def _count(self, size: int, direction: Direction) -> None:
        self._recorder.moved(direction, size)
        if direction == "in":
            self.received += size
        else:
            self.sent += size
        self._moved += size
        if self._moved >= self._limits.turn and self._turn is not None:
            self._moved = 0
            await self.wait(self._turn.pass_on(), self._limits.patience, Code.BUSY)


async def _returned(job: asyncio.Future[_T], late: float) -> bool:
    """Wait for a call until a moment of the loop's clock; tell whether it has returned."""
    left = late - asyncio.get_running_loop().time()
    return bool((await asyncio.wait([job], timeout=max(left, 0)))[0])


_WRITE = PIECE // 4
"""Bytes that are given to the connection at a time, and must be taken within the idle timeout."""
