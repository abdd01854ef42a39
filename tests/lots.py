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
from typing import Any

import pytest

OF = 3
"""One of so many of a file's tests that are marked themselves is drawn, and at least one."""
_LEFT_OUT = "dsg_left_out"
LEFT_OUT = "left out for want of time; `make soak` leaves out nothing"


class Lots:
    """Puts what must run first, draws from the rest, and begins none of it too late."""

    def __init__(self, until: float, seed: int) -> None:
        self.until = until
        self._seed = seed
        self._begun: dict[Path, bool] = {}
        self._left_out: list[str] = []

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Order the files, and deselect what the lot does not fall on."""
        chance = random.Random(self._seed)
        kept = drawn(items, chance)
        out = [item for item in items if item not in kept]
        ranks = {path: chance.random() for path in sorted({item.path for item in kept if of_file(item)})}
        items[:] = sorted(kept, key=lambda item: ranks.get(item.path, -1.0))
        config.hook.pytest_deselected(items=out)
        self._left_out = [item.nodeid for item in out]
        if hasattr(config, "workeroutput"):
            config.workeroutput[_LEFT_OUT] = self._left_out

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over from a worker of xdist what it left out; all of them leave out the same."""
        self._left_out = getattr(node, "workeroutput", {}).get(_LEFT_OUT, self._left_out)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name what the lot did not fall on; what would have begun too late, pytest names as skipped."""
        for name in self._left_out:
            terminalreporter.write_line(f"left out by lot: {name}")

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
