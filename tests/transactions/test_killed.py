"""The operator is killed with SIGKILL at every moment of every kind of work: on a directory, or on OpenZFS itself.

On OpenZFS in an emulated machine a moment takes 20 seconds. So there a sample is drawn, with all moments of the commit
in it; DSG_SEED repeats one, and with DSG_EVERY_MOMENT it is killed at every one (`make soak`).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.transactions.ground import Ground, XfsGround
from tests.transactions.killing import everywhere
from tests.transactions.real import POOL
from tests.transactions.rounds import ALL, Prune, Round
from tests.transactions.strikes import Counts, every, sample

MOST = 36
"""About as many moments as the longest work has."""
DECISIVE = {"xfs": "after host.point_link", "openzfs": "after zfs.program"}


@pytest.fixture(params=["openzfs"] if POOL else ["xfs"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Ground]:
    """Return what makes a repository of its own."""
    if request.param == "openzfs":
        made: Callable[..., Ground] = request.getfixturevalue("zfs_ground")
        return made
    numbers = count(1)

    def on_a_directory(**spec: Any) -> Ground:
        return XfsGround(tmp_path / f"r{next(numbers)}", **spec)

    return on_a_directory


@pytest.mark.parametrize("kind", ALL)
def test_killed_at_every_moment(
    kind: type[Round], make: Callable[..., Ground], capsys: pytest.CaptureFixture[str]
) -> None:
    def say(text: str) -> None:
        if POOL:
            with capsys.disabled():
                print(text, flush=True)

    spec: dict[str, Any] = {"retention": {"keepLast": 2}} if kind is Prune else {}
    counts: Counts = every
    if POOL and not os.environ.get("DSG_EVERY_MOMENT"):
        seed = os.environ.get("DSG_SEED") or str(random.SystemRandom().randrange(1 << 30))
        say(f"{kind.__name__}: a sample of its moments, DSG_SEED={seed}")
        counts = sample(f"{seed} {kind.__name__}", MOST)
    result = everywhere(kind, lambda: make(**spec), say, counts)
    say(f"{kind.__name__}: {len(result.moments)} moments in {result.seconds:.0f} s, {result.went_on} resumed")
    # On OpenZFS, one command prunes: the moments before and after it.
    assert len(result.moments) >= 2 if POOL and kind is Prune else len(result.moments) > 2
    assert result.moments[0].startswith("before")
    if kind.commits:
        assert DECISIVE["openzfs" if POOL else "xfs"] in result.moments
