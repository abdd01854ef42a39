"""One encoding for each node, which anyone can check, and a reader that takes nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from dsg.manifests.entries import Entry, File
from dsg.manifests.lines import MAX_LINE, encode
from dsg.manifests.nodes import Child, Inner, Leaf, NodeError, decode_node, encode_inner, encode_leaf, ends
from tests.manifests.strategies import DIGESTS, file, ordered, trees

LEAF = b'{"format":"dsg-node/1","level":0}\n'
A = Child(b"a", 3, 9, DIGESTS[0], DIGESTS[1])
C = Child("é\udcff".encode("utf-8", "surrogateescape"), 1, 0, DIGESTS[2], DIGESTS[0])


def name(raw: bytes) -> str:
    return blake3(raw).hexdigest()


def read(raw: bytes) -> Leaf | Inner:
    return decode_node(raw, name(raw), rightmost=True)


def refuses(raw: bytes, why: str | None = None) -> NodeError:
    with pytest.raises(NodeError, match=why) as caught:
        read(raw)
    assert caught.value.node == name(raw)
    assert name(raw) in str(caught.value)
    return caught.value


def ending(level: int) -> Sequence[str]:
    """Names after which nodes of that level end."""
    return [found for found in (f"n{n:05}" for n in range(5000)) if ends(found.encode(), level)]


@given(trees().map(ordered))
def test_leaves_are_read_as_written(tree: list[Entry]) -> None:
    end = next((n for n, entry in enumerate(tree, 1) if ends(entry.key, 0)), len(tree))
    tree = tree[:end]
    lines = tuple(encode(entry) for entry in tree)
    child, raw = encode_leaf(lines)
    assert read(raw) == Leaf(lines, child)
    assert child.entries == len(tree)
    assert child.size == sum(entry.size for entry in tree if isinstance(entry, File))
    # With b3sum and sed.
    assert child.digest == name(raw)
    assert child.tree == name(re.sub(rb',"author":.*', b"}", raw))


def test_an_inner_node_is_read_as_written() -> None:
    child, raw = encode_inner(3, [A, C])
    assert raw.decode() == (
        '{"format":"dsg-node/1","level":3}\n'
        f'{{"last":"a","entries":3,"size":9,"tree":"{DIGESTS[0]}","digest":"{DIGESTS[1]}"}}\n'
        f'{{"last":{{"hex":"c3a9ff"}},"entries":1,"size":0,"tree":"{DIGESTS[2]}","digest":"{DIGESTS[0]}"}}\n'
    )
    assert child == Child(C.last, 4, 9, name(re.sub(rb',"digest":.*', b"}", raw)), name(raw))
    last = ending(2)[0].encode()
    children = (Child(last, 1, 0, *DIGESTS[:2]), Child(b"z", 1, 0, *DIGESTS[:2]))
    child, raw = encode_inner(3, children)
    assert read(raw) == Inner(3, children, child)


def test_where_nodes_end_is_told_by_the_hash_of_the_path() -> None:
    paths = [f"{n}" for n in range(20_000)]
    for level in (0, 1, 31):
        found = [path for path in paths if ends(path.encode(), level)]
        assert 0.8 < len(found) / (len(paths) / 64) < 1.2
        assert all(blake3(path.encode()).digest()[level] in ((0x00, 0x40, 0x80, 0xC0)) for path in found)
    assert not any(ends(path.encode(), 32) for path in paths)


def test_only_the_rightmost_node_ends_where_none_ends() -> None:
    (good, *_), bad = ending(0), "a"
    for entries, right in (([file(good)], True), ([file(bad)], False), ([], False)):
        _, raw = encode_leaf([encode(entry) for entry in entries])
        read(raw)
        if right:
            decode_node(raw, name(raw), rightmost=False)
        else:
            with pytest.raises(NodeError, match="ends where no node ends, although others follow"):
                decode_node(raw, name(raw), rightmost=False)


def test_a_full_node_ends() -> None:
    paths = [path for path in (f"{n:05}" for n in range(2000)) if not ends(path.encode(), 0)]
    for count, whole in ((1023, False), (1024, True)):
        _, raw = encode_leaf([encode(file(path)) for path in paths[:count]])
        read(raw)
        if whole:
            decode_node(raw, name(raw), rightmost=False)
        else:
            with pytest.raises(NodeError, match="ends where no node ends"):
                decode_node(raw, name(raw), rightmost=False)


def test_bytes_that_are_not_those_of_the_name_are_refused() -> None:
    _, raw = encode_leaf([encode(file("a"))])
    with pytest.raises(NodeError, match=f"{DIGESTS[0]}: its bytes have the digest {name(raw)}"):
        decode_node(raw, DIGESTS[0], rightmost=True)


@given(st.binary(max_size=60))
def test_no_rubbish_is_a_node(raw: bytes) -> None:
    refuses(raw)
    refuses(LEAF + raw + b"x\n")


_, INNER = encode_inner(1, [A])
LINE = encode(file("a")).whole


@pytest.mark.parametrize(
    ("raw", "line", "why"),
    [
        (b"", None, "does not end with a newline"),
        (LEAF[:-1], None, "does not end with a newline"),
        (LEAF + LINE[:-1], None, "does not end with a newline"),
        (LINE, 1, "format is None; this dsg reads dsg-node/1"),
        (LEAF.replace(b"/1", b"/2"), 1, "format is 'dsg-node/2'; this dsg reads dsg-node/1"),
        (LEAF.replace(b":0", b":-1"), 1, "level -1 is not a whole number from 0 on"),
        (LEAF.replace(b":0", b":false"), 1, "level False is not"),
        (LEAF.replace(b":0", b":33"), 1, "level 33 is above 32"),
        (LEAF.replace(b":0", b": 0"), 1, "one way it can be"),
        (LEAF.replace(b"}", b',"x":1}'), 1, "'x' is not known"),
        (LEAF.replace(b',"level":0', b""), 1, "'level' is missing"),
        (b"[]\n", 1, "no object"),
        (LEAF + b"\n", 2, "is not JSON"),
        (LEAF + LINE + LINE, 3, "'a' comes twice"),
        (LEAF + encode(file("b")).whole + LINE, 3, "'a' comes after 'b'"),
        (LEAF + LINE + encode(file("a/b")).whole, 3, "lies below 'a'"),
        (LEAF + LINE.replace(b'"size":3', b'"size":03'), 2, "is not JSON"),
        (LEAF + LINE.replace(b":3,", b": 3,"), 2, "one way it can be"),
        (LEAF + b"x" * MAX_LINE + b"\n", 2, "longer than"),
        (LEAF.replace(b":0", b":1"), None, "is of level 1 and has no children"),
        (LEAF.replace(b":0", b":1") + LINE, 2, "'last' is missing"),
        (LEAF + INNER.split(b"\n")[1] + b"\n", 2, "'path' is neither a string|neither file nor link"),
        (INNER.replace(b'"entries":3', b'"entries":0'), 2, "entries 0 is not a whole number from 1 on"),
        (INNER.replace(b'"entries":3', b'"entries":3.0'), 2, r"entries 3\.0 is not"),
        (INNER.replace(b'"size":9', b'"size":-9'), 2, "size -9 is not"),
        (INNER.replace(b'"size":9', b'"size":"9"'), 2, "size '9' is not"),
        (INNER.replace(b'"last":"a"', b'"last":"../a"'), 2, "must be relative"),
        (INNER.replace(b'"last":"a"', b'"last":""'), 2, "must be relative"),
        (INNER.replace(b'"last":"a"', b'"last":{"hex":"61"}'), 2, "one way it can be"),
        (INNER.replace(b'"last":"a"', b'"last":7'), 2, "neither a string"),
        (INNER.replace(DIGESTS[0].encode(), b"00"), 2, "tree digest '00' is not 64"),
        (INNER.replace(DIGESTS[1].encode(), DIGESTS[2].upper().encode()), 2, "digest 'F+' is not 64"),
        (INNER.replace(b"}\n", b',"x":1}\n', 2), 1, "'x' is not known"),
        (encode_inner(1, [A, A])[1], 3, "last path 'a' does not sort after the one before"),
        (LEAF + LINE * 1025, None, "has 1025 lines; a node has 1024 at most"),
    ],
)
def test_a_node_is_refused_with_place_and_reason(raw: bytes, line: int | None, why: str) -> None:
    assert refuses(raw, why).line == line
