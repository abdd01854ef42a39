"""What the page on messages quotes is what the program says."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from dsg.api.reasons import REASONS, ConditionType
from lab.paths import TREE

PAGE = TREE / "docs" / "troubleshooting.md"
_ROW = re.compile(r"^\| (`[^|]+`) \|", re.MULTILINE)


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


@cache
def said() -> str:
    """Return every text in the program, with `…` for what is put into it."""
    found = []
    for file in (TREE / "controller").rglob("*.py"):
        found += [text for node in ast.walk(ast.parse(file.read_text())) if (text := _text(node))]
    return "\n".join(found)


def quotes(section: str) -> list[str]:
    part = PAGE.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    return [quote for cell in _ROW.findall(part) for quote in re.findall(r"`([^`]+)`", cell)]


MESSAGES = quotes("In a working copy") + quotes("Talking to the cluster")


def test_there_are_messages_and_reasons() -> None:
    assert len(MESSAGES) > 15
    assert len(quotes("On a Repository")) > 5


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_the_programs(message: str) -> None:
    pattern = ".*".join(re.escape(part.strip("… ")) for part in message.split("…"))
    assert re.search(pattern, said()), f"nothing in the program says {message!r}"


def test_reasons_are_the_tables() -> None:
    known = {one.name for one in REASONS} | {str(one) for one in ConditionType}
    assert [reason for reason in quotes("On a Repository") if reason not in known] == []
