"""Lines: the short way to read almost all of them says what the long way says, of right and of wrong ones."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st

from dsg.manifests import changes, lines
from dsg.manifests.changes import Place, encode_change
from dsg.manifests.entries import File, FileState, LinkState, to_name
from dsg.manifests.lines import LineError, encode
from tests.manifests.strategies import DIGESTS, file

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=6)
paths = st.one_of(
    st.lists(names, min_size=1, max_size=3)
    .map("/".join)
    .filter(lambda path: not {"", ".", ".."} & set(path.split("/"))),
    st.just(to_name(b"a/\xff")),
).filter(lambda path: path.partition("/")[0].casefold() not in {".dsg", ".zfs"})
files = st.builds(
    File,
    paths,
    st.integers(0, 2**63 - 1),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.integers(0, 0o777),
    st.sampled_from(DIGESTS),
    st.sampled_from(["ana", 'a"b', "é\\", "system:serviceaccount:a:b"]),
    st.sampled_from(["s1", "s23"]),
)
PIECES = [
    b'"',
    b"\\",
    b"-",
    b"0",
    b"1" * 20,
    b"s0",
    b"\n",
    b" ",
    b"\xff",
    b"\xc3",
    b'"mode":"999"',
    b",",
    b"}",
    b"/.dsg/",
    b"\0",
]
edits = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from([b"", *PIECES])), max_size=2)


def edited(raw: bytes, how: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, piece in how:
        place = at % (len(raw) + 1)
        raw = raw[:place] + piece + raw[place + length :]
    return raw


def outcome(decode: Callable[[bytes], object], raw: bytes) -> object:
    try:
        return decode(raw)
    except LineError as error:
        return str(error), error.path


@given(files, edits)
@example(file("a", size=0, mtime=-1), [(0, 0, b"")])
def test_entries_are_read_as_the_long_way_reads_them(entry: File, how: list[tuple[int, int, bytes]]) -> None:
    raw = edited(encode(entry).whole, how)
    assert outcome(lines.decode, raw) == outcome(lines.decode_any, raw)


@given(files, edits, st.booleans())
def test_changes_are_read_as_the_long_way_reads_them(
    entry: File, how: list[tuple[int, int, bytes]], link: bool
) -> None:
    state = FileState(entry.path, entry.size, entry.mtime, entry.mode, entry.digest)
    raw = edited(encode_change(Place(LinkState(entry.path, "x") if link else state)), how)
    assert outcome(changes.decode_change, raw) == outcome(changes.decode_any, raw)


def test_the_short_way_is_taken() -> None:
    for path in ("input/a.csv", "Zürich/x y", "a\x7f"):
        assert lines._decode_plain(encode(file(path)).whole) is not None
    for path in ('a"b', "a\nb", to_name(b"\xff")):
        assert lines._decode_plain(encode(file(path)).whole) is None
