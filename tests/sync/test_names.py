"""Names: what is admitted and why, what can be mended, and which paths are one elsewhere."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.manifests.entries import check_path, to_bytes
from dsg.sync.names import RULES, NameRules, Problem, Rule, check, collide, collisions, folded_path, normalized

BAD = '\n\x7f\u200b\u200d\u202e\u2028\ue000\ufeff\ud800\udcff:*?\\|"<>~. \u00a0e\u0301é\u00b9ß\u017fİ'
pieces = st.one_of(
    st.sampled_from(
        ["con", "NUL", "com1", "COM\u00b9", "lpt9", ".dsg", ".", "..", "", "a", "A", "readme.txt", "~", " "]
    ),
    st.sampled_from(BAD),
    st.characters(exclude_categories=[]).filter(lambda c: c not in "/\0"),
)
names = st.lists(pieces, min_size=1, max_size=5).map("".join)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


def rules(path: str, which: NameRules = NameRules.PORTABLE) -> set[Rule]:
    return {problem.rule for problem in check(path, which)}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/.hid", set()),
        ("a b/c-1_x (2).tar.gz", set()),
        ("COM10", set()),
        ("LPT0", set()),
        ("console.txt", set()),
        ("~x/f", {Rule.TILDE}),
        ("f~", {Rule.TILDE}),
        ("x/CON", {Rule.DEVICE}),
        ("con.txt", {Rule.DEVICE}),
        ("con .txt", {Rule.DEVICE}),
        ("COM1.tar.gz", {Rule.DEVICE}),
        ("lpt\u00b2", {Rule.DEVICE}),
        ("NUL.", {Rule.DEVICE, Rule.DOT}),
        ("a:b", {Rule.CHARACTER}),
        ("a\\b", {Rule.CHARACTER}),
        ("a.", {Rule.DOT}),
        ("a ", {Rule.BLANK}),
        ("\u00a0a", {Rule.BLANK}),
        ("a\nb", {Rule.INVISIBLE}),
        ("a\u200db", {Rule.INVISIBLE}),
        ("e\u0301", {Rule.FORM}),
        ("\udcff", {Rule.UTF8}),
        ("x" * 255, set()),
        ("x" * 256, {Rule.LENGTH}),
        ("é" * 128, {Rule.LENGTH}),
        ("a//b", {Rule.ENTRY}),
        ("/a", {Rule.ENTRY}),
        ("a/../b", {Rule.ENTRY}),
        ("", {Rule.ENTRY}),
        (".ZFS/a", {Rule.ENTRY}),
        ("x/" * 2047 + "xy", {Rule.ENTRY}),
    ],
)
def test_what_portable_admits(path: str, expected: set[Rule]) -> None:
    assert rules(path) == expected
    everywhere = {reason.rule for reason in RULES if reason.posix}
    assert rules(path, NameRules.POSIX) == expected & everywhere


@given(paths)
def test_posix_admits_exactly_what_an_entry_can_have(path: str) -> None:
    try:
        check_path(path)
    except ValueError:
        assert check(path, NameRules.POSIX)
    else:
        assert not check(path, NameRules.POSIX)


@given(paths)
def test_a_mended_path_is_good_and_stays_as_it_is(path: str) -> None:
    found = normalized(path)
    if isinstance(found, str):
        assert check(found) == []
        assert normalized(found) == found
        assert len(found.split("/")) == len(path.split("/"))
    else:
        assert found
        assert all(isinstance(problem, Problem) and problem.path == path for problem in found)
        mendable = {reason.rule for reason in RULES if reason.repair is not None}
        assert not {problem.rule for problem in found} & mendable


@given(paths)
def test_a_good_path_is_not_touched(path: str) -> None:
    if not check(path):
        assert normalized(path) == path
        check_path(path)


@given(paths, paths)
def test_collisions_are_symmetric_and_hold_for_what_systems_do(one: str, other: str) -> None:
    assert collide(one, other) == collide(other, one)
    assert not collide(one, one)
    composed, decomposed = (unicodedata.normalize(form, one) for form in ("NFC", "NFD"))
    for changed in (one.lower(), one.casefold(), composed, decomposed, folded_path(one)):
        assert changed == one or collide(changed, one)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a/B", "A/b", True),
        ("b/x", "b./x", True),
        ("b", "b ", True),
        ("\u00e9", "e\u0301", True),
        ("STRASSE", "stra\u00dfe", True),
        ("a\u200db", "ab", True),
        ("...", "..", False),
        ("a", "b", False),
        ("a/b", "ab", False),
        ("a-", "a", False),
    ],
)
def test_what_is_one_elsewhere(one: str, other: str, expected: bool) -> None:
    assert collide(one, other) == expected


def in_order(paths: set[str]) -> list[str]:
    return sorted(paths, key=to_bytes)


def prefixes(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


few = st.sets(
    st.lists(st.sampled_from(["a", "A", "é", "e\u0301", "b", "b.", "a-", "ß", "SS"]), min_size=1, max_size=3).map(
        "/".join
    ),
    max_size=10,
)


@given(few)
def test_collisions_of_a_tree_are_all_pairs_in_one_directory(found: set[str]) -> None:
    tree = {p for p in found if not any(other.startswith(f"{p}/") for other in found)}
    told = {(c.one, c.other) for c in collisions(lambda: in_order(tree))}
    everything = {prefix for path in tree for prefix in prefixes(path)}
    pairs = {
        frozenset((one, other))
        for one, other in itertools.combinations(everything, 2)
        if one.rpartition("/")[0] == other.rpartition("/")[0] and collide(one, other)
    }
    assert {frozenset(pair) for pair in told} <= pairs
    # Each path that is one with another of its directory is named.
    assert {path for pair in told for path in pair} == {path for pair in pairs for path in pair}
    # Paths in different directories are one only when the directories are.
    for one, other in itertools.combinations(tree, 2):
        if collide(one, other):
            assert any(frozenset(pair) in pairs for pair in zip(prefixes(one), prefixes(other), strict=True))


def test_every_rule_has_a_reason() -> None:
    assert sorted(reason.rule for reason in RULES) == sorted(Rule)
    assert all(reason.why for reason in RULES)
