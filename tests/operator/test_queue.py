"""The queue: keys gather, retries come back later each time, settled ones start anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from unittest import mock

from dsg.operator import queue
from dsg.operator.queue import KeyQueue
from dsg.reconcile.cluster import Key

A, B = Key("Repository", "ns", "a"), Key("Repository", "ns", "b")


def test_keys_that_come_together_are_taken_together() -> None:
    async def scene() -> None:
        keys = KeyQueue()
        keys.add([A])
        keys.add_threadsafe([A, B])
        assert await asyncio.wait_for(keys.take(), 5) == {A, B}
        assert len(keys) == 0
        keys.close()

    asyncio.run(scene())


def test_a_retry_comes_back_later_each_time_until_it_is_settled() -> None:
    async def scene() -> list[float]:
        loop = asyncio.get_running_loop()
        delays: list[float] = []
        real = loop.call_later

        def at_once(delay: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
            delays.append(delay)
            return real(0, callback, *args)

        keys = KeyQueue()
        with mock.patch.object(queue, "GATHER", 0), mock.patch.object(loop, "call_later", at_once):
            for _ in range(7):
                keys.retry([A])
                assert await keys.take() == {A}
            keys.settled([A])
            keys.retry([A])
        keys.close()
        return [delay for delay in delays if delay in {1, 2, 4, 8, 16, 30}]

    assert asyncio.run(scene()) == [1, 2, 4, 8, 16, 30, 30, 1]
