"""What reconciling costs, counted on a real kube-apiserver: the same program that `make bench` runs with 1,000."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.reconcile import Phase, measure

pytestmark = pytest.mark.kube

COUNT = 60


@pytest.fixture(scope="module")
def phases() -> Iterator[list[Phase]]:
    yield measure(COUNT)


def test_creating_costs_three_writes_and_four_changes_of_zfs_each(phases: list[Phase]) -> None:
    created = phases[0]
    # The pool: its status, an Event or two, and its root dataset.
    assert 3 * COUNT <= created.writes <= 3 * COUNT + 6
    assert 4 * COUNT <= created.zfs_changes <= 4 * COUNT + 2
    assert created.zfs_processes - created.zfs_changes < 60, "looking does not grow with the number of repositories"


def test_a_restart_writes_nothing_and_changes_nothing(phases: list[Phase]) -> None:
    restarted = phases[1]
    assert (restarted.writes, restarted.zfs_changes, restarted.mount_processes) == (0, 0, 0)
    assert restarted.zfs_processes < 20


def test_a_change_costs_what_it_changes(phases: list[Phase]) -> None:
    changed = phases[2]
    assert (changed.writes, changed.zfs_changes) == (2, 2)


def test_a_resync_of_everything_writes_nothing(phases: list[Phase]) -> None:
    resynced = phases[3]
    assert (resynced.writes, resynced.zfs_changes, resynced.mount_processes) == (0, 0, 0)
