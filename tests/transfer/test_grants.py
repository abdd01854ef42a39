from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.transfer.grants import (
    Grant,
    GrantError,
    Grants,
    grants_in,
    is_uid,
    read_grant,
    read_server,
    remove_grant,
    write_grant,
    write_server,
)

KEY = "a" * 64


def a_grant(**changes: object) -> Grant:
    said: dict[str, object] = {
        "uid": "u-1",
        "namespace": "research",
        "repository": "justice",
        "author": "Jörg",
        "client_key": KEY,
        "mode": "read",
        "root": "/srv/v",
        "expires": 100.0,
    }
    return Grant.model_validate({**said, **changes})


def test_a_grant_is_found_until_it_expires_or_is_removed(tmp_path: Path) -> None:
    now = 50.0
    grants = Grants(tmp_path, clock=lambda: now)
    write_grant(tmp_path, a_grant())
    assert grants.find("u-1") == a_grant()
    now = 100.0
    assert grants.find("u-1") is None
    now = 50.0
    remove_grant(tmp_path, "u-1")
    assert grants.find("u-1") is None
    remove_grant(tmp_path, "u-1")


def test_a_grant_that_is_written_anew_counts_at_once(tmp_path: Path) -> None:
    grants = Grants(tmp_path, clock=lambda: 0.0)
    for root in ("/srv/a", "/srv/b", "/srv/c"):
        write_grant(tmp_path, a_grant(root=root))
        found = grants.find("u-1")
        assert found is not None
        assert found.root == root


def test_the_servers_own_file_is_no_grant(tmp_path: Path) -> None:
    assert read_server(tmp_path) is None
    write_server(tmp_path, KEY)
    write_grant(tmp_path, a_grant())
    (tmp_path / ".u-2.json.0011").write_text("half")
    assert read_server(tmp_path) == KEY
    assert grants_in(tmp_path) == ["u-1"]
    assert Grants(tmp_path).find("server") is None
    with pytest.raises(GrantError, match="data plane's own"):
        write_grant(tmp_path, a_grant(uid="server"))
    assert read_server(tmp_path) == KEY


def test_files_can_be_read_by_another_user_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_grant(tmp_path, a_grant())
    finally:
        os.umask(before)
    assert (tmp_path / "u-1.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b"\xff", "JSON"),
        (b"{" * 70000, "more than"),
        (json.dumps({**a_grant().model_dump(by_alias=True), "uid": "u-2"}).encode(), "name of its uid"),
        (json.dumps({**a_grant().model_dump(by_alias=True), "extra": 1}).encode(), "extra"),
        (json.dumps({**a_grant().model_dump(by_alias=True), "root": "srv"}).encode(), "root"),
        (json.dumps({**a_grant().model_dump(by_alias=True), "expires": "1"}).encode(), "expires"),
        (json.dumps({**a_grant().model_dump(by_alias=True), "expires": float("inf")}).encode(), "JSON|finite"),
        (json.dumps({**a_grant().model_dump(by_alias=True), "clientKey": KEY + "\n"}).encode(), "clientKey"),
        (json.dumps({**a_grant().model_dump(by_alias=True), "sizeLimit": -1}).encode(), "sizeLimit"),
        (json.dumps({**a_grant().model_dump(by_alias=True), "mode": "both"}).encode(), "mode"),
    ],
)
def test_a_grant_that_is_not_valid_says_which_and_why(tmp_path: Path, raw: bytes, said: str) -> None:
    (tmp_path / "u-1.json").write_bytes(raw)
    with pytest.raises(GrantError, match=said) as caught:
        Grants(tmp_path).find("u-1")
    assert str(tmp_path / "u-1.json") in str(caught.value)


def test_a_link_in_place_of_a_grant_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(a_grant().model_dump_json(by_alias=True))
    (tmp_path / "u-1.json").symlink_to("elsewhere")
    with pytest.raises(GrantError):
        read_grant(tmp_path, "u-1")


@pytest.mark.parametrize("uid", ["", "..", "../u", "-a", "a/b", "a\n", "ä", "x" * 65, "a.json", "server"])
def test_what_is_no_uid_names_no_file(tmp_path: Path, uid: str) -> None:
    assert not is_uid(uid)
    assert Grants(tmp_path).find(uid) is None


@given(raw=st.binary(max_size=300))
def test_no_bytes_make_the_parser_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    directory = tmp_path_factory.getbasetemp() / "fuzzed"
    directory.mkdir(exist_ok=True)
    (directory / "u-1.json").write_bytes(raw)
    with pytest.raises(GrantError):
        read_grant(directory, "u-1")


@given(
    author=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256),
    expires=st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    limit=st.none() | st.integers(min_value=0, max_value=2**63),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, author: str, expires: float, limit: int | None
) -> None:
    directory = tmp_path_factory.getbasetemp() / "round"
    directory.mkdir(exist_ok=True)
    grant = a_grant(author=author, expires=expires, size_limit=limit)
    write_grant(directory, grant)
    assert read_grant(directory, "u-1") == grant
