"""Who goes first, and how much is held at a time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.transfer.server.admission import Admission, Turn


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_an_author_with_many_requests_does_not_keep_others_waiting() -> None:
    async def run() -> list[str]:
        admission = Admission(2, 2)
        served: list[str] = []

        async def request(author: str) -> None:
            turn = Turn(admission, author)
            await turn.begin()
            served.append(author)
            await asyncio.sleep(0)
            turn.end()

        tasks = [asyncio.create_task(request("ana")) for _ in range(50)]
        await _settle()
        tasks += [asyncio.create_task(request(author)) for author in ("jo", "jo", "kim")]
        await asyncio.gather(*tasks)
        return served

    served = asyncio.run(run())
    assert Counter(served) == {"ana": 50, "jo": 2, "kim": 1}
    assert max(index for index, author in enumerate(served) if author != "ana") < 20


def test_a_long_request_passes_its_place_on() -> None:
    async def run() -> list[str]:
        admission = Admission(1, 1)
        served: list[str] = []

        async def request(author: str) -> None:
            turn = Turn(admission, author)
            await turn.begin()
            for _ in range(3):
                served.append(author)
                await _settle()
                await turn.pass_on()
            turn.end()

        await asyncio.gather(*(request(author) for author in ("ana", "jo", "kim")))
        return served

    assert asyncio.run(run()) == ["ana", "jo", "kim"] * 3


def test_alone_nobody_waits_for_others() -> None:
    async def run() -> None:
        admission = Admission(4, 1)
        mine = [Turn(admission, "ana") for _ in range(2)]
        await mine[0].begin()
        second = asyncio.create_task(mine[1].begin())
        await _settle()
        assert not second.done()
        # The other one is of the same author: giving it the place would be of no use to anybody.
        await mine[0].pass_on()
        assert not second.done()
        mine[0].end()
        await second
        mine[1].end()

    asyncio.run(run())


@given(
    seed=st.integers(0, 2**32),
    places=st.integers(1, 4),
    each=st.integers(1, 3),
    authors=st.integers(1, 4),
    count=st.integers(1, 25),
)
def test_no_more_than_allowed_are_in_and_everyone_gets_in(
    seed: int, places: int, each: int, authors: int, count: int
) -> None:
    async def run() -> None:
        chance = random.Random(seed)
        admission = Admission(places, each)
        inside: Counter[str] = Counter()
        finished = 0

        async def request(author: str) -> None:
            nonlocal finished
            turn = Turn(admission, author)
            try:
                await turn.begin()
                for _ in range(chance.randrange(3)):
                    inside[author] += 1
                    assert inside.total() <= places
                    assert inside[author] <= each
                    for _ in range(chance.randrange(3)):
                        await asyncio.sleep(0)
                    inside[author] -= 1
                    await turn.pass_on()
                finished += 1
            finally:
                turn.end()

        tasks = [asyncio.create_task(request(f"a{chance.randrange(authors)}")) for _ in range(count)]
        given_up = chance.sample(tasks, chance.randrange(count))
        for task in given_up:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            # What is inside is not cancelled by this test: it counts itself out.
            if not inside.total():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            assert task.cancelled() or task.exception() is None
        assert admission._free == places
        assert not admission._held
        assert not admission._waiting

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_place_is_not_lost_when_who_waits_gives_up_in_the_same_moment() -> None:
    async def run() -> None:
        admission = Admission(1, 1)
        first = Turn(admission, "ana")
        await first.begin()
        waiting = asyncio.create_task(Turn(admission, "jo").begin())
        await _settle()
        first.end()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert admission._free == 1

    asyncio.run(run())
