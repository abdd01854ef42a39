"""The operator is killed with SIGKILL at every moment of a piece of work, and started again.

The work runs in a forked child, which kills itself at one moment: before its first or after one of its changing calls.
Then the parent, with new objects as a freshly started operator has them, looks at what is there and goes on.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from dsg.transactions.transactor import Done
from tests.transactions.ground import Content, Ground
from tests.transactions.rounds import NOWHERE, At, Init, Prune, Round, step
from tests.transactions.strikes import Counts, Strikes, every


class Work(Protocol):
    """What is interrupted."""

    def act(self, ground: Ground) -> None:
        """Do it."""


def killed(ground: Ground, work: Work, stop: int, counts: Counts = every) -> str | None:
    """Do the work in a child that is killed at a moment, from 1; return which, None when it was done before that.

    With 0 it does not kill itself; somebody else may, which is "".
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        strikes: Strikes

        def strike() -> None:
            os.write(writing, strikes.moments[-1].encode())
            os.kill(os.getpid(), signal.SIGKILL)

        try:
            strikes = Strikes(stop, strike, counts)
            watchable: Any = ground
            watchable.restart(strikes)
            work.act(ground)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        moment = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert bool(moment) == bool(stop)
        return moment
    assert os.WEXITSTATUS(status) == 0, f"the work failed; its moment was to be {stop}"
    return None


@dataclass
class Killed:
    """What came of killing one kind of work at each of its moments."""

    moments: list[str] = field(default_factory=list)
    """As they were struck, in order."""
    went_on: int = 0
    """How often the work was resumed; else it was abandoned."""
    seconds: float = 0.0


def check(ground: Ground, now: At, versions: list[str]) -> None:
    """Check a repository that was put in order: what is seen, which versions there are, no leftovers."""
    assert ground.seen() == now.content
    assert ground.versions() == versions
    if now.version:
        assert ground.check(ground.public()).version == now.version
    ground.leftovers()


def everywhere(
    kind: type[Round],
    make: Callable[[], Ground],
    say: Callable[[str], None] = lambda text: None,
    counts: Counts = every,
) -> Killed:
    """Kill one kind of work at every moment that counts, until it has none left, and check the repository each time."""
    began, result = time.monotonic(), Killed()
    ground, now, n = make(), NOWHERE, 2
    contents: dict[str, Content] = {}
    if kind is not Init:
        for done in (ground.init(step(1)), ground.sync("s1", step(1), step(2))):
            assert isinstance(done, Done), done
        now, contents = At("s2", step(2)), {"s1": step(1), "s2": step(2)}
        ground.keep(prune=False)
    while True:
        n += 1
        if kind is Init and now.version:
            ground, now, contents = make(), NOWHERE, {}
        work = kind(now, n, contents)
        work.prepare(ground)
        moment = killed(ground, work, len(result.moments) + 1, counts)
        ground.restart()
        # Nothing was put in order yet: this is what a reader sees in between.
        seen = ground.seen()
        assert seen in (work.old.content, work.new.content), moment
        ground.converge()
        resume = len(result.moments) % 2 == 0
        if resume:
            work.act(ground)
        else:
            ground.keep(prune=kind is Prune)
        contents[work.old.version] = work.old.content
        header = ground.header()
        now = work.new if resume or (header is not None and header.version == work.new.version) else work.old
        contents[now.version] = now.content
        assert seen in (work.old.content, now.content), f"what was seen after {moment} is gone"
        there = [f"s{number}" for number in range(1, int(now.version[1:] or 0) + 1)]
        if kind is Prune:
            there = there[-2:]
        check(ground, now, there)
        if moment is None:
            break
        result.moments.append(moment)
        result.went_on += resume
        say(f"{kind.__name__} {len(result.moments)}: killed {moment}, {'resumed' if resume else 'abandoned'}")
    # Every version, and not the newest alone.
    for version in ground.versions()[:: max(1, len(ground.versions()) // 10)]:
        assert ground.old(version) == contents[version]
    result.seconds = time.monotonic() - began
    return result
