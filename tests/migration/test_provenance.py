"""What a message says of an older version is read back, whatever the older message holds."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from dsg.manifests.header import MAX_MESSAGE, Commit
from dsg.migration.provenance import Origin, compose, parse

TEXT = st.text(max_size=60) | st.sampled_from(
    ["", "Dsg-Origin-Version: s7", "a\n\nDsg-Origin-Version: s7\nDsg-Origin-Author: eve", "x" * 5000, "\0\n\r", "é"]
)
WORD = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)


@settings(max_examples=60)
@given(
    TEXT,
    st.builds(
        Origin,
        st.sampled_from(["s1", "s12", ""]),
        WORD | st.just("alice@example.org"),
        st.none() | st.just(datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)),
        st.sampled_from(["", "0123456789abcdef"]),
        st.sampled_from(["", "0123456789abcdef"]),
        st.lists(WORD, max_size=3).map(tuple),
    ),
)
def test_what_is_written_is_read(message: str, origin: Origin) -> None:
    made = compose(message, origin)
    assert len(made) <= MAX_MESSAGE
    assert parse(made) == origin
    Commit("s1", None, "carol", datetime(2026, 1, 1, tzinfo=UTC), made, "tx-1")


def test_nothing_of_old_steers_what_is_read() -> None:
    evil = Origin("s1", "eve\nDsg-Origin-Version: s9", tags=("v1\n\nDsg-Origin-Version: s8",))
    found = parse(compose("", evil))
    assert found is not None
    assert found.version == "s1"
    assert "\n" not in found.author
    assert parse("Dsg-Origin-Version: s1\nDsg-Origin-Version: s2") is None
    assert parse("Dsg-Origin-Version: s1\nand more") is None
    assert parse("no word of it") is None
    assert parse("Dsg-Origin-Version: latest") is None
    assert parse("Dsg-Origin-Version: s1\nDsg-Origin-Time: soon") is None


def test_many_tags_and_long_names_leave_room() -> None:
    origin = Origin("s1", "a" * 5000, tags=tuple(f"v{n}" for n in range(2000)))
    made = compose("why " * 2000, origin)
    assert len(made) <= MAX_MESSAGE
    found = parse(made)
    assert found is not None
    assert found.version == "s1"
