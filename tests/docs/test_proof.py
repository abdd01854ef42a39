"""What pages name as proof is there: tests, commands, and the claims that they are about."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.paths import TREE

PAGES = sorted(
    [TREE / "README.md", TREE / "SECURITY.md", *(TREE / "docs").rglob("*.md"), TREE / "benchmarks/README.md"]
)
_TEST = re.compile(r"tests/[\w/.-]*(?:::\w+)*")
_TARGET = re.compile(r"`make ([a-z0-9-]+)")
_BENCHMARK = re.compile(r"python -m (benchmarks[\w.]*)")
_CLAIM = re.compile(r"^\| ([^|]+) \|", re.MULTILINE)


def missing(name: str) -> bool:
    path, _, function = name.rstrip(".").partition("::")
    place = TREE / path
    if not place.exists():
        return True
    return bool(function) and f"def {function.split('::')[-1]}(" not in place.read_text()


def names(page: Path, pattern: re.Pattern[str]) -> set[str]:
    return set(pattern.findall(page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TREE)))
def test_what_a_page_names_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (TREE / "Makefile").read_text(), re.MULTILINE))
    modules = {
        name for name in names(page, _BENCHMARK) if not (TREE / name.replace(".", "/")).with_suffix(".py").exists()
    }
    modules = {name for name in modules if not (TREE / name.replace(".", "/") / "__main__.py").exists()}
    unknown = {name for name in names(page, _TEST) if missing(name)} | modules | (names(page, _TARGET) - targets)
    assert unknown == set()


def words(text: str) -> str:
    return " ".join(re.sub(r"\[([^]]*)\]\([^)]*\)|[*`]", lambda found: found[1] or "", text).split()).lower()


def test_a_missing_test_is_noticed() -> None:
    assert missing("tests/docs/test_nothing.py")
    assert missing("tests/docs/test_proof.py::test_that_is_not_there")
    assert not missing("tests/docs/test_proof.py::test_a_missing_test_is_noticed")


def test_claims_are_the_readmes() -> None:
    proof = (TREE / "docs" / "proof.md").read_text()
    part = proof.partition("## The promise")[2].partition("## What it costs")[0]
    readme = words((TREE / "README.md").read_text())
    claims = {words(claim) for claim in _CLAIM.findall(part)} - {"claim", "---", ""}
    ours = {"a working copy loses no edit", "all 15 states", "each threat has its test"}
    assert len(claims) > 15
    assert {claim for claim in claims - ours if claim not in readme} == set()
