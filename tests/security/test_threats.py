"""The threat model names the tests that show each defence; they exist, and they are no fewer than the threats."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from lab.paths import TREE

PAGE = TREE / "docs" / "security.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[tuple[str, str, str]]:
    """Return threat, defence and tests of each row of the tables of threats."""
    found, inside = [], False
    for line in PAGE.read_text().splitlines():
        if line.startswith("| threat | defence | shown by |"):
            inside = True
        elif inside and line.startswith("|"):
            if not line.startswith("|---"):
                threat, defence, tests = (cell.strip() for cell in line.strip("|").split("|"))
                found.append((threat, defence, tests))
        else:
            inside = False
    return found


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((TREE / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_there_is_a_model() -> None:
    assert len(rows()) >= 30
    text = PAGE.read_text()
    for who in ("outsider", "researcher", "data plane", "node", "disk", "GitOps", "laptop"):
        assert re.search(rf"^## .*{who}", text, re.MULTILINE | re.IGNORECASE), who
    assert "## What is not defended" in text


@pytest.mark.parametrize(("threat", "defence", "tests"), rows(), ids=[row[0][:60] for row in rows()])
def test_each_threat_names_tests_that_exist(threat: str, defence: str, tests: str) -> None:
    named = _TEST.findall(tests)
    assert named, f"no test is named for: {threat}"
    assert defence
    # Nothing else stands in the cell, so that no test is misspelt unseen.
    assert re.sub(r"[,\s]|<br>", "", _TEST.sub("", tests)) == ""
    for file, name in named:
        assert (TREE / file).is_file(), file
        assert name in functions(file), f"{file} has no {name}"
