"""One encoding for each manifest, and a reader that takes nothing else."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from dsg.manifests.codec import ManifestError, Reader, VersionError, verify, write
from dsg.manifests.digest import Summary, summarize
from dsg.manifests.entries import Entry, EntryError, Link
from dsg.manifests.header import Commit, Header
from dsg.manifests.lines import MAX_LINE, encode
from dsg.manifests.ordering import OrderError
from tests.manifests.strategies import A_COMMIT, DIGESTS, commits, file, ordered, pairs, read, trees, written

DATA = Path(__file__).parent / "data"


@given(trees().map(ordered), commits)
def test_what_is_written_is_read(tree: list[Entry], commit: Commit) -> None:
    raw = written(tree, commit)
    header, entries = read(raw)
    assert entries == tree
    assert header == Header(commit, summarize(tree))
    assert verify(io.BytesIO(raw), "it") == header
    assert raw.count(b"\n") == len(tree) + 1
    assert written(entries, header.commit) == raw


@given(pairs(), commits, commits)
def test_manifests_are_equal_exactly_when_their_bytes_are(
    pair: tuple[list[Entry], list[Entry]], commit: Commit, other: Commit
) -> None:
    one, two = pair
    assert (one == two) == (written(one) == written(two)) == (summarize(one).digest == summarize(two).digest)
    assert (commit == other) == (written(one, commit) == written(one, other))


@given(trees().map(ordered))
def test_any_json_reader_finds_the_names(tree: list[Entry]) -> None:
    for line, entry in zip(written(tree).decode().split("\n")[1:-1], tree, strict=True):
        name = json.loads(line)["path"]
        found = bytes.fromhex(name["hex"]) if isinstance(name, dict) else name.encode()
        assert found == entry.key


def test_the_tree_digest_leaves_out_who_and_when() -> None:
    one, other = summarize([file("a")]), summarize([file("a", author="bo", version="s2")])
    assert one.tree == other.tree
    assert one.digest != other.digest


# Vectors: files that stay as they are, and what they say.


@pytest.mark.parametrize(
    ("name", "chain", "tree", "digest", "count", "size"),
    [
        (v["file"], v["chain"], v["tree"], v["digest"], v["entries"], v["size"])
        for v in json.loads((DATA / "vectors.json").read_text())
    ],
)
def test_vectors(name: str, chain: str, tree: str, digest: str, count: int, size: int) -> None:
    raw = (DATA / name).read_bytes()
    header, entries = read(raw)
    assert written(entries, header.commit) == raw
    assert (header.chain, header.summary) == (chain, Summary(count, size, tree, digest))
    # Digests as anyone can compute them, with b3sum and sed; so few entries are one leaf.
    first, rest = raw.split(b"\n", 1)
    leaf = b'{"format":"dsg-node/1","level":0}\n' + rest
    assert blake3(leaf).hexdigest() == digest
    assert blake3(re.sub(rb',"author":.*', b"}", leaf)).hexdigest() == tree
    assert blake3(re.sub(rb',"chain":.*', b"}\n", first)).hexdigest() == chain


def test_the_vectors_are_a_history() -> None:
    first, second = (read((DATA / name).read_bytes())[0] for name in ("s1.manifest", "s2.manifest"))
    assert second.commit.previous == first.chain


# Damage.

SMALL = written(
    [file("a"), Link("b", "a", "ana", "s2"), file("\udcff", author="bo")], replace(A_COMMIT, message='"x"\n')
)


def refuses(raw: bytes) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        read(raw)
    return caught.value


def test_every_flipped_bit_is_noticed() -> None:
    for at in range(len(SMALL)):
        for bit in range(8):
            refuses(SMALL[:at] + bytes([SMALL[at] ^ 1 << bit]) + SMALL[at + 1 :])


def test_every_truncation_and_every_lost_or_doubled_byte_is_noticed() -> None:
    for at in range(len(SMALL)):
        refuses(SMALL[:at])
        refuses(SMALL[:at] + SMALL[at + 1 :])
        refuses(SMALL[: at + 1] + SMALL[at:])


@given(trees().map(ordered), st.data())
def test_no_line_can_be_lost_doubled_or_moved(tree: list[Entry], data: st.DataObject) -> None:
    lines = written(tree).splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    refuses(b"".join(lines[:at] + lines[at + 1 :]))
    refuses(b"".join([*lines[: at + 1], *lines[at:]]))
    if len(lines) > 1:
        moved = data.draw(st.permutations(lines).filter(lambda found: found != lines))
        refuses(b"".join(moved))


@given(pairs(), st.data())
def test_no_line_of_another_manifest_fits(pair: tuple[list[Entry], list[Entry]], data: st.DataObject) -> None:
    one, other = (written(side).splitlines(keepends=True) for side in pair)
    at = data.draw(st.integers(0, min(len(one), len(other)) - 1))
    mixed = [*one[:at], other[at], *one[at + 1 :]]
    if mixed not in (one, other):
        refuses(b"".join(mixed))


@given(st.binary(max_size=200))
def test_no_rubbish_is_a_manifest(raw: bytes) -> None:
    refuses(raw)
    refuses(SMALL + (raw or b"\n"))


# Forgeries: digests and counts are right, the lines are not.

A, B = encode(file("a")).whole, encode(file("b")).whole


def forged(*lines: bytes, count: int | None = None, size: int | None = None) -> bytes:
    body = b'{"format":"dsg-node/1","level":0}\n' + b"".join(lines)
    tree = blake3(re.sub(rb',"author":.*', b"}", body)).hexdigest()
    sizes = sum(int(found) for found in re.findall(rb'"size":(\d{1,19})', body))
    summary = Summary(
        len(lines) if count is None else count, sizes if size is None else size, tree, blake3(body).hexdigest()
    )
    return Header(A_COMMIT, summary).encode() + b"".join(lines)


def edited(**values: Any) -> bytes:
    fields = json.loads(A) | values
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (edited(owner="ana"), "field 'owner' is not known"),
        (A.replace(b'"size":3,', b""), "field 'size' is missing"),
        (A.replace(b'"size":3,', b'"size":3,"size":3,'), "one way it can be"),
        (A.replace(b'"path":"a",', b'"path":"b","path":"a",'), "one way it can be"),
        (A.replace(b'"size":3', b'"size":3.0'), "size 3.0"),
        (A.replace(b'"size":3', b'"size":NaN'), "size nan"),
        (A.replace(b'"size":3', b'"size":03'), "is not JSON"),
        (A.replace(b'"size":3', b'"size":-0'), "one way it can be"),
        (A.replace(b'"size":3', b'"size":' + b"9" * 5000), "is not JSON"),
        (A.replace(b'"644"', b'"0644"'), "three octal digits"),
        (A.replace(b'"644"', b"420"), "three octal digits"),
        (A.replace(b'"644"', b'"+44"'), "three octal digits"),
        (A.replace(b",", b", ", 1), "one way it can be"),
        (A.replace(b"\n", b"\r\n"), "one way it can be"),
        (A.replace(b'"a"', b'"\\u0061"'), "one way it can be"),
        (A.replace(b'"a"', b'{"hex":"61"}'), "one way it can be"),
        (A.replace(b'"a"', b'{"hex":"FF"}'), "one way it can be"),
        (A.replace(b'"a"', b'{"hex":"f f"}'), "hexadecimal"),
        (A.replace(b'"a"', b'{"hex":"ff","also":1}'), "one way it can be"),
        (A.replace(b'"a"', b'"\\udcff"'), "one way it can be"),
        (A.replace(b'"a"', b'"\\ud800"'), "stand for no byte"),
        (A.replace(b'"a"', b"7"), "neither a string"),
        (A.replace(b'"a"', b'"\xff"'), "not UTF-8"),
        (A.replace(b'"a"', b'"\xed\xb3\xbf"'), "not UTF-8"),
        (edited(path="../a"), "must be relative"),
        (edited(path=".dsg/manifest"), "belongs to dsg"),
        (edited(kind="fifo"), "neither file nor link"),
        (edited(kind=["file"]), "neither file nor link"),
        (edited(kind="link"), "'target' is missing"),
        (edited(digest=None), "'digest' is not a string"),
        (edited(digest="00"), "64 lower-case"),
        (edited(author=""), "author ''"),
        (edited(version="s41"), "last changed in s41, after s40"),
        (b"[" * 60000 + b"\n", "nested too deep"),
        (b"[]\n", "no object"),
        (b"\n", "is not JSON"),
        (b'"' + b"x" * MAX_LINE + b'"\n', "longer than"),
        (
            encode(Link("a", "b", "ana", "s1")).whole.replace(b'"target":"b"', b'"target":"../b"'),
            "leaves the repository",
        ),
    ],
)
def test_a_line_is_refused_with_place_and_reason(line: bytes, why: str) -> None:
    error = refuses(forged(line, B))
    assert why in error.problem
    assert (error.source, error.line) == ("the manifest", 2)
    assert str(error).startswith("the manifest, line 2")


def test_what_is_told_names_the_path() -> None:
    error = refuses(forged(A, edited(path="b", size=-1)))
    assert error.path == "b"
    assert str(error).startswith("the manifest, line 3 ('b'): size -1 of 'b' is not")
    assert str(error).endswith("Nothing of this manifest was used; take another copy of the version")


@pytest.mark.parametrize(
    ("raw", "line", "why"),
    [
        (b"", 1, "the file is empty"),
        (forged(A)[:20], 1, "the file ends within the header"),
        (forged(B, A), 3, "'a' comes after 'b'"),
        (forged(A, A), 3, "'a' comes twice"),
        (forged(A, encode(file("a/b")).whole), 3, "lies below 'a'"),
        (forged(A, B, count=3), 4, "the file ends before this line; the header counts 3"),
        (forged(A, B)[:-9], 3, "the file ends within this line; the header counts 2"),
        (forged(A, B, count=1), 3, "counts 1 entries, but more follows"),
        (forged(A, B, size=7), 1, "total size of 7, the entries give 6"),
        (
            forged(A).replace(DIGESTS[1].encode(), DIGESTS[0].encode()).replace(b'"size":3,"mt', b'"size":4,"mt'),
            1,
            "chain",
        ),
        (forged(A).replace(b"dsg-manifest/1", b"dsg-manifest/2"), 1, "format is 'dsg-manifest/2'; this dsg reads"),
        (b'{"entries":{},"metadata":{}}\n', 1, "format is None"),
    ],
)
def test_a_file_is_refused_with_place_and_reason(raw: bytes, line: int, why: str) -> None:
    error = refuses(raw)
    assert why in error.problem
    assert error.line == line


def test_an_entry_that_was_swapped_for_a_valid_one_is_noticed() -> None:
    raw = forged(A, B).replace(DIGESTS[1].encode(), DIGESTS[2].encode())
    # The header's own "previous" is that digest too; put it back.
    header = forged(A, B).split(b"\n")[0]
    error = refuses(header + b"\n" + raw.split(b"\n", 1)[1])
    assert "entries of digest" in error.problem


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda raw: raw.replace(b'"time":"2026-11-25T12:00:05Z"', b'"time":"2026-11-25T13:00:05+01:00"'),
            "must be in UTC",
        ),
        (lambda raw: raw.replace(b"05Z", b"05.5Z"), "whole seconds"),
        (lambda raw: raw.replace(b'"2026-11-25T12:00:05Z"', b'"yesterday"'), "not written like"),
        (lambda raw: raw.replace(b'"version":"s40","previous"', b'"version":"s1","previous"'), "there is none"),
        (lambda raw: raw.replace(b'"message":"as', b'"message":"\\ud800as'), "lone surrogates"),
        (lambda raw: raw.replace(b'"entries":1', b'"entries":true'), "entry count True"),
        (lambda raw: raw.replace(b'"author":"ana","time"', b'"author":"eve","time"'), "its fields give"),
        (lambda raw: raw.replace(b'{"format"', b'{ "format"'), "one way it can be"),
        (lambda raw: raw.replace(b'"chain":', b'"extra":1,"chain":'), "'extra' is not known"),
    ],
)
def test_a_header_is_refused_with_the_reason(change: Callable[[bytes], bytes], why: str) -> None:
    raw = forged(A)
    assert change(raw) != raw
    error = refuses(change(raw))
    assert why in error.problem
    assert error.line == 1


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"time": datetime(2026, 1, 1)}, "UTC"),
        ({"time": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))}, "UTC"),
        ({"time": datetime(2026, 1, 1, microsecond=1, tzinfo=UTC)}, "whole seconds"),
        ({"message": "x" * 4097}, "4097 characters"),
        ({"message": "\udcff"}, "lone surrogates"),
        ({"previous": "x"}, "previous chain digest"),
        ({"author": "\n"}, "author"),
        ({"version": "40"}, "version"),
        ({"version": "s1"}, "there is none"),
        ({"transaction": ""}, "transaction ''"),
        ({"transaction": "x" * 65}, "letters, digits and hyphens"),
        ({"transaction": "a_b"}, "letters, digits and hyphens"),
    ],
)
def test_a_commit_is_refused_with_the_reason(values: dict[str, Any], why: str) -> None:
    with pytest.raises(EntryError, match=why):
        replace(A_COMMIT, **values)


# Writing and reading as streams.


@pytest.mark.parametrize(
    ("entries", "error"),
    [([file("b"), file("a")], OrderError), ([file("a"), file("b", version="s41")], VersionError)],
)
def test_nothing_is_written_unless_all_entries_are_good(entries: list[Entry], error: type[Exception]) -> None:
    target = io.BytesIO()
    with pytest.raises(error):
        write(target, A_COMMIT, entries)
    assert target.getvalue() == b""


def test_the_header_is_there_before_the_entries_are_read() -> None:
    reader = Reader(io.BytesIO(SMALL[: SMALL.index(b"\n") + 1]), "it")
    assert reader.header.version == A_COMMIT.version
    with pytest.raises(ManifestError, match="it, line 2: the file ends before this line"):
        list(reader)


def test_a_manifest_is_read_once() -> None:
    reader = Reader(io.BytesIO(SMALL), "it")
    list(reader)
    with pytest.raises(RuntimeError, match="open it again"):
        list(reader)


def test_the_longest_names_fit_in_a_line() -> None:
    path = "/".join(["\x01" * 255] * 15 + ["\x01" * 254])
    target = "/".join(["\x01" * 255] * 15 + ["\x01" * 254])
    link = Link(path, target, "\U0001f989" * 256, "s40")
    header, entries = read(written([link], replace(A_COMMIT, message="\x01" * 4096, author="\U0001f989" * 256)))
    assert entries == [link]
    assert len(header.encode()) < MAX_LINE
