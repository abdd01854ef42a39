"""What is left out where time is short: a file, or a test of a file, that is marked `lot`.

`lab.tier` sets DSG_LOT_UNTIL, the time (seconds since 1970) after which nothing that is left to lots begins, and
DSG_LOT_SEED. A test that is named by hand, and `make soak`, know neither, and leave out nothing.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

OF = 3
"""One of so many of a file's tests that are marked themselves is drawn, and at least one."""
LEFT_OUT = "left out for want of time; `make soak` leaves out nothing"


class Lots:
    """Puts what must run first, draws from the rest, and begins none of it too late."""

    def __init__(self, until: float, seed: int) -> None:
        self.until = until
        self._seed = seed
        self._begun: dict[Path, bool] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Order the files, and deselect what the lot does not fall on."""
        chance = random.Random(self._seed)
        kept = drawn(items, chance)
        out = [item for item in items if item not in kept]
        ranks = {path: chance.random() for path in sorted({item.path for item in kept if of_file(item)})}
        items[:] = sorted(kept, key=lambda item: ranks.get(item.path, -1.0))
        config.hook.pytest_deselected(items=out)
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        if out and terminal is not None:
            terminal.write_line(f"\nleft out by lot: {', '.join(item.nodeid for item in out)}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skip, before any fixture is made, what would begin too late."""
        early = time.time() < self.until
        begins = self._begun.setdefault(item.path, early or not of_file(item))
        if not begins or (of_itself(item) and not early):
            pytest.skip(LEFT_OUT)


def of_file(item: pytest.Item) -> bool:
    """Whether its file may be left out: once begun, it runs but for the tests that are marked themselves."""
    return any(mark.name == "lot" for mark in getattr(item.getparent(pytest.Module), "own_markers", ()))


def of_itself(item: pytest.Item) -> bool:
    """Whether this test stands alone, and may be left out of its file."""
    return any(mark.name == "lot" for mark in item.own_markers)


def drawn(items: list[pytest.Item], chance: random.Random) -> list[pytest.Item]:
    """Leave in what is not marked itself, and of what is one of `OF` for each file; nothing that is for `soak` only."""
    items = [item for item in items if item.get_closest_marker("soak") is None]
    lots: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if of_itself(item):
            lots.setdefault(item.path, []).append(item)
    fell = {item for path in sorted(lots) for item in chance.sample(lots[path], -(-len(lots[path]) // OF))}
    return [item for item in items if item in fell or not of_itself(item)]


def asked_for(environment: Mapping[str, str] = os.environ) -> Lots | None:
    """The lots that the environment asks for, if it does."""
    until = environment.get("DSG_LOT_UNTIL")
    return Lots(float(until), int(environment.get("DSG_LOT_SEED", "0"))) if until else None
