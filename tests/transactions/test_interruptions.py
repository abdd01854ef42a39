"""The operator is killed, or the node loses power, at every moment of every kind of work; then it starts again.

The moments are taken from the running code: every call of the interfaces to the outside, as it comes. On the model;
test_killed.py does the same by SIGKILL on a directory and on OpenZFS.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from dsg.storage.zfs.model import Killed as ModelKilled
from dsg.storage.zfs.model import ModelNode, Moment, PowerCut
from tests.transactions.ground import Ground, ModelGround
from tests.transactions.scenarios import ALL, Scenario
from tests.transactions.strikes import READING


def orderly(ground: Ground, scenario: Scenario, *, finished: bool) -> None:
    """Check a repository after it was put in order: what is seen, every version, no leftovers."""
    assert ground.seen() in scenario.seen()[-1 if finished else 0 :]
    assert ground.versions() in scenario.versions(finished=finished)
    kept = ground.keep(prune=False)
    assert kept.cleaned.kept == kept.cleaned.waits == ()
    for version in ground.versions():
        ground.old(version)
    if ground.versions():
        header = ground.check(ground.public())
        assert header.version == ground.versions()[-1]
    ground.leftovers()


class Fault:
    """Strikes a model node at one moment of its operations."""

    def __init__(self, node: ModelNode, stop: int, how: str) -> None:
        self._node, self._stop, self._how = node, stop, how
        self.count = 0

    def __call__(self, moment: Moment, operation: str, arguments: Mapping[str, object]) -> None:
        if operation.rpartition(".")[2] in READING:
            # An end around a look is one after the change before it.
            return
        self.count += 1
        if self.count != self._stop:
            return
        self._node.faults = None
        if self._how == "kill":
            raise ModelKilled
        self._node.power_cut(flushed=self._how == "flushed")
        raise PowerCut


def moments(scenario: type[Scenario], how: str) -> int:
    one = scenario()
    ground = ModelGround(**one.spec)
    one.prepare(ground)
    fault = Fault(ground.node, 0, how)
    ground.node.faults = fault
    one.act(ground)
    ground.node.faults = None
    orderly(ground, one, finished=True)
    return fault.count


@pytest.mark.parametrize("how", ["kill", "cut", "flushed"])
@pytest.mark.parametrize("scenario", ALL)
def test_every_moment_on_the_model(scenario: type[Scenario], how: str) -> None:
    total = moments(scenario, how)
    assert total > 2
    for stop in range(1, total + 1):
        one = scenario()
        ground = ModelGround(**one.spec)
        one.prepare(ground)
        ground.node.faults = Fault(ground.node, stop, how)
        try:
            one.act(ground)
            struck = False
        except (ModelKilled, PowerCut):
            struck = True
        ground.node.faults = None
        assert struck, stop
        ground.restart()
        if how == "kill":
            assert ground.seen() in one.seen(), stop
        if stop % 2:
            one.resume(ground)
            orderly(ground, one, finished=True)
        else:
            one.abandon(ground)
            orderly(ground, one, finished=False)
