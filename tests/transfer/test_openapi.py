"""The description is current, and says what the server does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from dsg.transfer.problems import ABOUT, Code
from dsg.transfer.server import openapi, reading, writing
from dsg.transfer.server.routes import ROUTES, Mode
from dsg.transfer.wire import encode_digests
from tests.transfer.server import Client, Place, frames_of

ROOT = Path(__file__).parents[2]


def test_files_are_current() -> None:
    assert openapi.main(["--check"]) == 0, "run `python -m dsg.transfer.server.openapi`"


def test_stale_files_are_told_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs/reference").mkdir(parents=True)
    guide = tmp_path / openapi.GUIDE
    guide.write_text("before\n<!-- codes: generated -->\nold\n<!-- end of codes -->\nafter\n")
    monkeypatch.setattr(openapi, "_ROOT", tmp_path)
    assert openapi.main(["--check"]) == 1
    assert "docs/data-plane.md is not current" in capsys.readouterr().err
    assert "old" in guide.read_text()
    assert openapi.main([]) == 0
    assert openapi.main(["--check"]) == 0
    text = guide.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert all(f"| `{code}` |" in text for code in Code)


def test_every_operation_has_a_handler_and_every_handler_an_operation() -> None:
    names = [route.name for route in ROUTES]
    assert len(set(names)) == len(names)
    granted = {route.name for route in ROUTES if route.mode in {Mode.READ, Mode.WRITE}}
    assert granted == reading.HANDLERS.keys() | writing.HANDLERS.keys()


def test_the_server_gives_the_same_description(place: Place) -> None:
    client = place.client("read", place.stage())
    answer = client.request("GET", "!/openapi.json")
    assert answer.json == yaml.safe_load((ROOT / openapi.OPENAPI).read_text())
    assert answer.json["openapi"].startswith("3.1")


def _schema(method: str, path: str, status: int) -> Any:
    description = openapi.description()
    answer = description["paths"][path][method.lower()]["responses"][str(status)]
    schema = answer["content"]["application/json"]["schema"]
    return {**schema, "components": description["components"]}


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/v1/parameters", "/v1/transactions/{uid}/grant"])
def test_answers_are_as_described(place: Place, path: str) -> None:
    client = place.client("write", place.stage(), version="s1")
    answer = client.request("GET", "!" + path.replace("{uid}", client.uid))
    assert answer.status == 200
    jsonschema.validate(answer.json, {**_schema("GET", path, 200), "additionalProperties": False})


def test_what_is_stored_is_told_as_described(place: Place) -> None:
    client = place.client("write", place.stage())
    for method, path, body in (
        ("POST", "/contents", frames_of([b"a"])),
        ("PUT", "/changes", b""),
        ("POST", "/complete", b""),
    ):
        answer = client.request(method, path, body)
        schema = _schema(method, f"/v1/transactions/{{uid}}{path}", 200)
        jsonschema.validate(answer.json, {**schema, "additionalProperties": False})


def test_refusals_are_described_where_they_come(place: Place) -> None:
    description = openapi.description()
    write = place.client("write", place.stage("w"), size_limit=1)
    read = place.client("read", place.stage("r"))
    refused: list[tuple[Client, str, str, bytes]] = [
        (read, "GET", "/header", b""),
        (read, "GET", "/content", b""),
        (read, "POST", "/chunks", b"{}"),
        (read, "POST", "/nodes", b"x"),
        (write, "POST", "/contents", frames_of([b"abc"])),
        (write, "PUT", "/changes", b"x\n"),
        (write, "POST", "/missing", encode_digests(["a" * 64] * 10_001)),
        (write, "GET", "/header", b""),
    ]
    for client, method, path, body in refused:
        answer = client.request(method, path, body)
        described = description["paths"][f"/v1/transactions/{{uid}}{path}"][method.lower()]["responses"]
        assert f"`{answer.error}`" in described[str(answer.status)]["description"]
        problem = {"$ref": "#/components/schemas/Problem", "components": description["components"]}
        jsonschema.validate(answer.json, problem)


def test_the_guide_names_every_code_with_its_status() -> None:
    text = (ROOT / openapi.GUIDE).read_text()
    told = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", text, re.MULTILINE))
    assert told == {str(code): str(about.status) for code, about in ABOUT.items()}
