"""What a commit asks for is counted: as much as it changes, whatever else there is and however long the history."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.commit.measure import Costs, commit
from benchmarks.commit.repositories import furnish, lengthen, weightless
from tests.transactions.ground import ModelGround

SEGMENT = 64
"""Versions in one segment of the history: `dsg.manifests.history`."""


def cost(files: int, versions: int = 1, changes: int = 1) -> Costs:
    """Return what a commit costs in a repository of that size and history; the version it makes is right."""
    ground = ModelGround()
    header = furnish(ground, files, weightless(ground))
    header = lengthen(ground, header, versions)
    ground.check(ground.public())
    found = commit(ground, header.version, files, changes)
    made = ground.check(ground.public())
    assert (made.version, made.summary.entries) == (f"s{versions + 1}", files)
    assert ground.versions() == [f"s{number}" for number in range(1, versions + 2)]
    ground.leftovers()
    return found


def calls(costs: Costs, *without: str) -> Counter[str]:
    """Return the calls by name, but for those of trees that go with the levels of the manifest."""
    return Counter({name: count for name, count in costs.by_call.items() if name not in without})


def test_size_costs_a_level_of_the_manifest_and_nothing_else() -> None:
    """A tree of 10,000 entries has two levels more than one of 10: two nodes more are read, written and dropped."""
    per_level = ("trees.read", "trees.write", "trees.facts", "trees.remove", "trees.read_lines")
    small, large = cost(10), cost(10_000)
    assert calls(small, *per_level) == calls(large, *per_level)
    assert small.processes == large.processes
    assert small.looked_at == large.looked_at
    levels = 2
    assert large.by_call["trees.read"] - small.by_call["trees.read"] <= 4 * levels
    for name in ("trees.write", "trees.facts", "trees.remove"):
        assert large.by_call[name] - small.by_call[name] <= 2 * levels, name


@pytest.mark.parametrize("versions", [50, 3 * SEGMENT + 1])
def test_the_length_of_the_history_costs_nothing(versions: int) -> None:
    """Where a commit does not begin a segment of the history, no call is added and nothing more is looked at."""
    short, long = cost(1000), cost(1000, versions)
    assert calls(short) == calls(long)
    assert short.looked_at == long.looked_at
    assert long.written["manifest nodes"] < 1.1 * short.written["manifest nodes"]
    # At most a segment is written, of one header for each version.
    assert long.written["history"] <= SEGMENT * 2 * short.written["history"]


def test_beginning_a_segment_costs_a_few_reads() -> None:
    """A history of whole segments: the commit reads the one before as well, and looks what there are."""
    short, long = cost(10), cost(10, SEGMENT)
    added = calls(long)
    added.subtract(calls(short))
    assert {name for name, count in added.items() if count} <= {"trees.names", "trees.read"}
    assert added["trees.names"] <= 3
    assert added["trees.read"] <= 5


def test_processes_do_not_grow_with_changes() -> None:
    """Files cost calls on files; what starts processes is asked once."""
    one, many = cost(1000), cost(1000, changes=100)
    assert one.processes == many.processes
    for interface in ("zfs", "host"):
        assert one.calls[interface] == many.calls[interface], interface


def test_a_file_more_costs_so_many_calls() -> None:
    """Ten for its content at most, and its share of nodes."""
    many, more = cost(1000, changes=100), cost(1000, changes=200)
    assert more.calls["trees"] - many.calls["trees"] <= 10 * 100
