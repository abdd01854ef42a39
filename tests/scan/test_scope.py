"""Scope: the same verdicts as going through all rules, at a cost that does not depend on their number."""

from __future__ import annotations

import gc
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.api.repository import Ignore
from dsg.scan.scope import Scope
from tests.scan.oracle import naive_covers

components = st.sampled_from(
    ["input", "a", "b", "a-b", "a.tmp", "x.tmp", ".tmp", "tmp.", "x.y.tmp", ".h", "é", "e\u0301"]
)
paths = st.lists(components, min_size=1, max_size=4).map("/".join)
ignores = st.builds(
    Ignore,
    names=st.lists(components, max_size=3, unique=True),
    suffixes=st.lists(st.sampled_from([".tmp", ".y", ".b"]), max_size=2, unique=True),
    paths=st.lists(paths, max_size=3, unique=True),
)
data_dirs = st.one_of(st.just(["*"]), st.lists(components, min_size=1, max_size=3, unique=True))


@given(data_dirs, ignores, paths)
def test_verdicts_are_those_of_all_rules_one_by_one(dirs: list[str], ignore: Ignore, path: str) -> None:
    assert Scope(dirs, ignore).covers(path) is naive_covers(dirs, ignore, path)


@pytest.mark.parametrize(
    ("path", "covered"),
    [
        ("input/a.csv", True),
        ("deep/down/input/a.csv", True),
        ("src/a.py", False),
        ("input", True),
        ("input/.hidden/a", False),
        ("input/__pycache__/a.pyc", False),
        ("input/a.tmp", False),
        ("input/.tmp", False),
        ("input/dir.tmp/a", True),
        ("input/private/x/y", False),
        ("input/private-not", True),
        (".dsg/input/a", False),
    ],
)
def test_rules(path: str, covered: bool) -> None:
    ignore = Ignore(names=["__pycache__"], suffixes=[".tmp"], paths=["input/private"])
    assert Scope(["input"], ignore).covers(path) is covered


def _steps(scope: Scope, path: str) -> int:
    """Return how many bytecodes a verdict takes."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    # Others have functions called at each collection (gc.callbacks), which would be counted.
    gc.disable()
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        scope.covers(path)
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def test_a_verdict_costs_the_same_with_many_rules() -> None:
    few = Scope(["input"], Ignore(names=["n"], suffixes=[".s"], paths=["p/q"]))
    many = Scope(
        ["input", *(f"d{n}" for n in range(100))],
        Ignore(
            names=[f"n{n}" for n in range(100)],
            suffixes=[f".s{n}" for n in range(100)],
            paths=[f"p/{n}" for n in range(100)],
        ),
    )
    for path in ("input/some/where/file.csv", "nowhere/file"):
        assert _steps(few, path) == _steps(many, path) > 0
