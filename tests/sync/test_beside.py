"""Names for what is kept beside: free, admitted wherever the path is, and the same for the same question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.manifests.entries import check_path
from dsg.sync.beside import NoNameError, free_names
from dsg.sync.names import check, folded_path

from .test_names import prefixes

AUTHORS = st.sampled_from(["ana@example.org", "Jörg 🦉", "…", "\u041e\u043b\u044c\u0433\u0430", "a" * 200, "e\u0301"])
WORDS = st.sampled_from(["a.csv", "A.csv", "a", ".a", "a.", "é.tar.gz", "x" * 250, "x." + "y" * 240, "a.from-ana.csv"])
PATHS = st.lists(WORDS, min_size=1, max_size=2).map("/".join)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("in/report.csv", "in/report.from-ana-example-org.csv"),
        ("report", "report.from-ana-example-org"),
        (".profile", ".profile.from-ana-example-org"),
        ("a.tar.gz", "a.tar.from-ana-example-org.gz"),
        ("a.d/x", "a.d/x.from-ana-example-org"),
    ],
)
def test_the_rule(path: str, expected: str) -> None:
    assert free_names([path], "ana@example.org", lambda: [path]) == {path: expected}


@given(st.lists(PATHS, unique=True, max_size=5), st.lists(PATHS, max_size=5), AUTHORS, st.integers(0, 40))
def test_no_name_is_anybodys(paths: list[str], others: list[str], author: str, taken: int) -> None:
    existing = [*paths, *others]
    # Somebody was here before, in capitals, and made directories of them.
    for _ in range(taken if paths else 0):
        existing.append(free_names(paths[:1], author, lambda: existing)[paths[0]].upper() + "/x")
    found = free_names(paths, author, lambda: existing)
    assert found.keys() == set(paths)
    assert found == free_names(paths, author, lambda: existing)
    used = {folded_path(prefix) for path in existing for prefix in prefixes(path)}
    made = [folded_path(name) for name in found.values()]
    assert not used & set(made)
    assert len(made) == len(set(made))
    for path, name in found.items():
        check_path(name)
        assert name.rpartition("/")[0] == path.rpartition("/")[0]
        if not check(path):
            assert not check(name)


def test_a_path_without_room_is_told() -> None:
    path = "/".join(["x" * 255] * 15 + ["y" * 250, "z"])
    check_path(path)
    with pytest.raises(NoNameError, match="choose mine or theirs"):
        free_names([path], "ana", lambda: [])
