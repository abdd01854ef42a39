"""The part of kubectl's JSONPath that printer columns use: `.a.b`, `[0]`, `[*]`, `['a.b']`, `[?(@.type=="Ready")]`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

_TOKEN = re.compile(
    r"""\.(?P<field>(?:\\.|[^.\[\\])+)
    | \[\?\(\s*@\.(?P<key>[\w.]+)\s*==\s*(?P<quote>["'])(?P<value>.*?)(?P=quote)\s*\)\]
    | \['(?P<quoted>[^']*)'\]
    | \[(?P<index>-?\d+)\]
    | (?P<all>\[\*\])""",
    re.VERBOSE,
)

Step = Callable[[Any], Iterator[Any]]


def _field(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _index(position: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= position < len(value):
            yield value[position]

    return step


def _each(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()


def _where(key: str, wanted: str) -> Step:
    inner = compiled(f".{key}")

    def step(value: Any) -> Iterator[Any]:
        for item in value if isinstance(value, list) else ():
            if wanted in list(inner(item)):
                yield item

    return step


def compiled(path: str) -> Step:
    """Return a function that finds every value at a path. Raises ValueError for a path that is not of this kind."""
    steps: list[Step] = []
    position = 0
    while position < len(path):
        match = _TOKEN.match(path, position)
        if match is None:
            raise ValueError(f"JSONPath {path!r} is not understood from {path[position:]!r} on")
        position = match.end()
        if match["field"] is not None:
            steps.append(_field(re.sub(r"\\(.)", r"\1", match["field"])))
        elif match["key"] is not None:
            steps.append(_where(match["key"], match["value"]))
        elif match["quoted"] is not None:
            steps.append(_field(match["quoted"]))
        elif match["index"] is not None:
            steps.append(_index(int(match["index"])))
        else:
            steps.append(_each)

    def find(value: Any) -> Iterator[Any]:
        found = [value]
        for step in steps:
            found = [inner for outer in found for inner in step(outer)]
        yield from found

    return find
