"""Requests made from the OpenAPI description and against it: schemathesis, with a certificate that may do it."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from dsg.transfer.server.openapi import description
from tests.transfer.server import Place

schemathesis: Any = pytest.importorskip("schemathesis")
requests: Any = pytest.importorskip("requests")

checks: Any = pytest.importorskip("schemathesis.checks")
GenerationMode: Any = pytest.importorskip("schemathesis.generation").GenerationMode
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
"""Not whether all that the description allows is accepted: what a body holds, it describes in words only."""


def _as_it_is(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


for media in ("application/x-ndjson", "application/x-pem-file"):
    schemathesis.serializer(media)(_as_it_is)

OPERATIONS = sorted(
    (path, method) for path, methods in description()["paths"].items() for method in methods if path != "/openapi.json"
)


def _described(uid: str) -> dict[str, Any]:
    """Return the description of one transaction's addresses."""
    found = copy.deepcopy(description())
    for methods in found["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "uid":
                    parameter["schema"] = {"const": uid}
    return found


def _call(case: Any, base: str, session: Any) -> int:
    answer = case.call_and_validate(base_url=base, session=session, timeout=20, verify=False, checks=CHECKS)
    return int(answer.status_code)


@pytest.mark.parametrize("breaking", [False, True], ids=["as described", "breaking it"])
@pytest.mark.parametrize("mode", ["read", "write"])
def test_requests_from_the_description_are_answered_as_described(
    place: Place, tmp_path: Path, mode: str, breaking: bool
) -> None:
    root = place.stage(files={"a": b"content", ".dsg/history/s1-s64": b"{}\n"})
    client = place.client(mode, root)
    schema = schemathesis.openapi.from_dict(_described(client.uid))
    base = f"https://127.0.0.1:{place.served.port}"
    seen = broken = 0
    with requests.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session.cert, session.verify, session.trust_env = str(client.file), False, False
        for path, method in OPERATIONS:
            generated = GenerationMode.NEGATIVE if breaking else GenerationMode.POSITIVE

            @settings(
                max_examples=4 if breaking else 8, deadline=None, suppress_health_check=list(HealthCheck), database=None
            )
            @given(case=schema[path][method.upper()].as_strategy(generated))
            def answered(case: Any) -> None:
                nonlocal seen
                seen += _call(case, base, session) < 300

            try:
                answered()
            except Unsatisfiable:
                # Some have no parameter that could be wrong.
                assert breaking
            else:
                broken += breaking
    assert broken > 5 if breaking else seen
    assert not [one for one in tmp_path.iterdir() if one.name not in {root.name, client.file.name}]
    assert (root / "a").read_bytes() == b"content"
