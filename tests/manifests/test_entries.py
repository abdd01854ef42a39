"""What an entry may be, and that no link leads out of the repository."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from dsg.api.rules import Digest, PersonName, Version
from dsg.manifests.entries import (
    Entry,
    EntryError,
    Link,
    check_author,
    check_digest,
    check_path,
    check_target,
    to_bytes,
    to_name,
    version_number,
)
from tests.manifests.strategies import DIGESTS, file, targets, trees


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "relative"),
        ("/etc/passwd", "relative"),
        ("a//b", "empty components"),
        ("a/", "empty components"),
        (".", "'.'"),
        ("a/./b", "'.'"),
        ("../a", "'..'"),
        ("a/..", "'..'"),
        ("a\0b", "NUL"),
        ("a" * 256, "256 bytes"),
        ("é" * 128, "256 bytes"),
        ("/".join(["a" * 255] * 16) + "/b", "4097 bytes"),
        (".dsg", "belongs to dsg"),
        (".dsg/manifest", "belongs to dsg"),
        (".DSG/manifest", "belongs to dsg"),
        (".d\u200csg/manifest", "belongs to dsg"),
        (".d\u017fg", "belongs to dsg"),
        (".zfs/snapshot", "belongs to dsg or ZFS"),
        ("\ud800", "stand for no byte"),
        ("\udcc3\udca9", "spells valid UTF-8"),
    ],
)
def test_a_path_is_refused_with_the_reason(path: str, why: str) -> None:
    with pytest.raises(EntryError, match=why):
        check_path(path)
    with pytest.raises(EntryError, match=why):
        file(path)


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "...",
        "a/..b",
        "a\nb",
        " ",
        "a\\b",
        "con",
        "a" * 255,
        ".hidden",
        "sub/.dsg",
        ".dsgx",
        "\udcff",
        "e\u0301",
        "-rf",
    ],
)
def test_a_path_is_admitted_and_kept_as_it_is(path: str) -> None:
    entry = file(path)
    assert entry.path == path
    assert entry.key == os.fsencode(path)


@given(st.binary(max_size=40))
def test_any_bytes_have_exactly_one_name(raw: bytes) -> None:
    assert to_bytes(to_name(raw)) == raw


@given(st.text(st.characters(categories=["Cs", "Ll"]), max_size=6), st.text(max_size=6))
def test_no_two_names_stand_for_the_same_bytes(one: str, other: str) -> None:
    for name in (one, other, one + other):
        try:
            raw = to_bytes(name)
        except EntryError:
            continue
        assert to_name(raw) == name


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"size": -1}, "size -1"),
        ({"size": True}, "size True"),
        ({"size": 2**63}, "size"),
        ({"size": 1.0}, "size 1.0"),
        ({"mtime": 2**63}, "mtime"),
        ({"mtime": "0"}, "mtime '0'"),
        ({"mode": 0o1000}, "mode"),
        ({"mode": 0o4755}, "mode"),
        ({"digest": "0" * 63}, "digest"),
        ({"digest": "A" * 64}, "digest"),
        ({"digest": "0" * 64 + "\n"}, "digest"),
        ({"author": ""}, "author"),
        ({"author": "a\nb"}, "author"),
        ({"author": "a" * 257}, "author"),
        ({"author": "\udcff"}, "author"),
        ({"version": "s0"}, "version"),
        ({"version": "1"}, "version"),
        ({"version": "s01"}, "version"),
        ({"version": "s\u0661"}, "version"),
    ],
)
def test_a_value_is_refused_with_the_reason(values: dict[str, object], why: str) -> None:
    with pytest.raises(EntryError, match=why):
        file("a", **values)


@pytest.mark.parametrize(
    ("hint", "check", "examples"),
    [
        (Version, version_number, ["s1", "s10", "s0", "s", "s99999999999", "s999999999999", "s1\n"]),
        (PersonName, check_author, ["a", "", "a" * 256, "a" * 257, "a\x7f", "a\x85b", "ana@example.org", "a\n"]),
        (Digest, check_digest, ["0" * 64, "0" * 65, "g" * 64, "0" * 64 + "\n"]),
    ],
    ids=["version", "author", "digest"],
)
@given(data=st.data())
def test_values_are_those_of_the_api(data: st.DataObject, hint: Any, check: object, examples: list[str]) -> None:
    """The API's rules need pydantic, which reading a million entries does not; so they are written twice."""
    text = data.draw(st.sampled_from(examples) | st.text("s0129af\x00\x7fé\n", max_size=14))

    def holds() -> bool:
        try:
            check(text, *(["digest"] if check is check_digest else []))  # type: ignore[operator]
        except EntryError:
            return False
        return True

    def api_holds() -> bool:
        try:
            TypeAdapter(hint).validate_python(text)
        except ValidationError:
            return False
        return True

    assert holds() == api_holds()


# Links.


class Outside(Exception):
    """The walk left the repository."""


def resolve(tree: Mapping[str, Entry], link: Link) -> None:
    """Follow a link as a kernel does, component by component; Outside when it gets above the root."""
    directories = {"/".join(path.split("/")[:n]) for path in tree for n in range(path.count("/") + 1)}
    at = link.path.split("/")[:-1]
    left = link.target.split("/")
    for _ in range(200):
        if not left:
            return
        name = left.pop(0)
        if name in {"", "."}:
            continue
        if name == "..":
            if not at:
                raise Outside
            at.pop()
            continue
        path = "/".join([*at, name])
        found = tree.get(path)
        if isinstance(found, Link):
            if found.target.startswith("/"):
                raise Outside
            left = found.target.split("/") + left
        elif path in directories:
            at.append(name)
        else:
            return
    # The kernel gives up too (ELOOP).


@given(
    st.lists(st.sampled_from("ab"), min_size=1, max_size=4),
    st.integers(0, 5),
    st.lists(st.sampled_from("abc"), max_size=2),
)
def test_with_no_other_link_exactly_the_links_that_leave_are_refused(
    above: list[str], up: int, down: list[str]
) -> None:
    path = "/".join(above)
    target = "/".join([".."] * up + down) or "."
    try:
        check_target(path, target)
        refused = False
    except EntryError:
        refused = True
    link = object.__new__(Link)
    for name, value in (("path", path), ("target", target)):
        object.__setattr__(link, name, value)
    try:
        resolve({path: link}, link)
        leaves = False
    except Outside:
        leaves = True
    assert refused == leaves


@given(trees())
def test_no_valid_link_leaves_whatever_other_links_there_are(tree: list[Entry]) -> None:
    by_path = {entry.path: entry for entry in tree}
    for entry in tree:
        if isinstance(entry, Link):
            resolve(by_path, entry)


@given(st.data())
def test_no_chain_of_links_leaves(data: st.DataObject) -> None:
    """Few names and many links, so that links run through links."""
    names = st.sampled_from("ab")
    tree: dict[str, Entry] = {}
    for path in data.draw(st.permutations(["a/a", "a/b/a", "a/b/b", "b/a/a/a", "b/a/b", "b/b", "c"])):
        up, down = data.draw(st.integers(0, 4)), data.draw(st.lists(names | st.just("c") | st.just(".."), max_size=4))
        try:
            tree[path] = Link(path, "/".join([".."] * up + down) or ".", "ana", "s1")
        except EntryError:
            tree[path] = file(path)
    for entry in tree.values():
        if isinstance(entry, Link):
            resolve(tree, entry)


@pytest.mark.parametrize(
    ("path", "target", "why"),
    [
        ("x/y", "../../z", "leaves the repository"),
        ("y", "..", "leaves the repository"),
        ("x/y/z", "../../..", "leaves the repository"),
        ("x/y", "./../.././z", "leaves the repository"),
        ("x", "/etc/passwd", "absolute"),
        ("x", "", "empty"),
        ("x", "a\0b", "NUL"),
        ("x", "deep/er/b/..", "goes up after a name"),
        ("x", "a/../b", "goes up after a name"),
        ("x", "a" * 256, "256 bytes"),
        ("x", "a/" * 2048, "4096 bytes"),
        ("x", ".zfs/snapshot/s1/a", "belongs to dsg or ZFS"),
        ("a/b", "../root/.DSG/manifest", "belongs to dsg or ZFS"),
    ],
)
def test_a_link_is_refused_with_the_reason(path: str, target: str, why: str) -> None:
    with pytest.raises(EntryError, match=why):
        Link(path, target, "ana", "s1")


@pytest.mark.parametrize(
    ("path", "target"), [("x/y", ".."), ("x/y", "../z"), ("x", "."), ("x", "b//c/"), ("x", "\udcff")]
)
def test_a_link_is_kept_verbatim(path: str, target: str) -> None:
    assert Link(path, target, "ana", "s1").target == target


def test_counting_components_would_not_do() -> None:
    """`x` stays inside when components are counted, and is outside when it is followed: `b` leads elsewhere."""
    x = object.__new__(Link)
    for name, value in (("path", "x"), ("target", "deep/er/b/..")):
        object.__setattr__(x, name, value)
    with pytest.raises(Outside):
        resolve({"deep/er/b": Link("deep/er/b", "../..", "ana", "s1"), "x": x}, x)


@given(target=targets, depth=st.integers(0, 2))
def test_the_kernel_agrees(tmp_path_factory: pytest.TempPathFactory, target: str, depth: int) -> None:
    path = "/".join([*["d"] * depth, "link"])
    try:
        Link(path, target, "ana", "s1")
    except EntryError:
        return
    root = Path(os.path.realpath(tmp_path_factory.mktemp("root")))
    link = root / path
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    assert Path(os.path.realpath(link)).is_relative_to(root)


def test_digests_of_the_strategies_are_valid() -> None:
    for digest in DIGESTS:
        check_digest(digest, "digest")
