"""The moments at which somebody can be killed: before and after every call that reaches the outside, as they come."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from typing import Any

READING = frozenset(
    {
        "facts",
        "names",
        "walk",
        "digest",
        "read",
        "read_lines",
        "stat",
        "mounts",
        "space",
        "pools",
        "version",
        "holds",
        "diff",
    }
    | {"written_by_nobody"}
)
"""Calls that change nothing. A death around one is a death after the change before it."""


Counts = Callable[[int, str], bool]
"""Whether a moment counts, by its number from 1 among all, and by the call's name. The first one always does."""


def every(_number: int, _name: str) -> bool:
    """Count every moment."""
    return True


DECISIVE = frozenset({"zfs.rename", "zfs.program", "zfs.destroy_snapshots"})
"""What a commit on OpenZFS is made of, and what prunes."""
SEEN = frozenset({"host.mount", "host.unmount", "host.point_link"})
"""What shows it."""


def sample(seed: str, most: int) -> Counts:
    """Count the decisive ones, a quarter of the other ZFS commands, mounts and swaps of the link, and one of the rest.

    `most` is about as many moments as there are. The same seed gives the same sample.
    """
    chosen = random.Random(seed)
    quarter = {number for number in range(most * 2) if chosen.random() < 1 / 4}
    chance = chosen.randrange(2, most)

    def counts(number: int, name: str) -> bool:
        if name in DECISIVE:
            return True
        return number in quarter if name.startswith("zfs.") or name in SEEN else number == chance

    return counts


class Strikes:
    """Counts moments, and strikes at one of them."""

    def __init__(self, stop: int, strike: Callable[[], None], counts: Counts = every) -> None:
        """`stop` counts from 1, 0 for none; only what changes something counts. `strike` ends the process."""
        self.moments: list[str] = []
        self._stop = stop
        self._strike = strike
        self._counts = counts
        self._passed = 0

    def moment(self, name: str, when: str) -> None:
        """Pass a moment, or die in it: before the first change, and after each."""
        if name.rpartition(".")[2] in READING or (when == "before" and self._passed):
            return
        self._passed += 1
        if self._passed > 1 and not self._counts(self._passed, name):
            return
        self.moments.append(f"{when} {name}")
        if len(self.moments) == self._stop:
            self._strike()


class Watched:
    """Passes calls on, each with a moment before and one after it."""

    def __init__(self, inner: object, area: str, strikes: Strikes) -> None:
        self._inner, self._area, self._strikes = inner, area, strikes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name.startswith("_") or not callable(found):
            return found
        return watched(found, f"{self._area}.{name}", self._strikes)


def watched(call: Callable[..., Any], name: str, strikes: Strikes) -> Callable[..., Any]:
    """Return a function with a moment before and one after it; a generator is read to its end in between."""

    def struck(*args: Any, **kwargs: Any) -> Any:
        strikes.moment(name, "before")
        result = call(*args, **kwargs)
        if inspect.isgenerator(result):
            result = iter(list(result))
        strikes.moment(name, "after")
        return result

    return struck
