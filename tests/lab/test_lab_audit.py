"""The audit log is read as requests: each once, whole lines only."""

import json
from pathlib import Path

import pytest

from lab import audit


def event(identity: str = "a1", stage: str = "ResponseComplete", **more: object) -> str:
    content: dict[str, object] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "auditID": identity,
        "stage": stage,
        "requestURI": "/apis/dsg.hrdag.org/v1alpha1/namespaces/x/repositories/r/status",
        "verb": "patch",
        "user": {"username": "alice"},
        "userAgent": "kubectl",
        "objectRef": {
            "apiGroup": "dsg.hrdag.org",
            "resource": "repositories",
            "subresource": "status",
            "namespace": "x",
            "name": "r",
        },
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": "2026-01-01T00:00:00.000000Z",
    }
    return json.dumps(content | more) + "\n"


def test_an_event_is_read_with_its_target(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(event())
    (request,) = audit.requests(log)
    assert (request.user, request.verb, request.code, request.write) == ("alice", "patch", 200, True)
    assert (request.group, request.resource, request.subresource) == ("dsg.hrdag.org", "repositories", "status")
    assert (request.namespace, request.name) == ("x", "r")


def test_a_request_without_a_target_has_empty_fields() -> None:
    _, request = audit.parse(event(objectRef=None, responseStatus=None, verb="get", requestURI="/readyz"))
    assert (request.resource, request.code, request.write) == ("", 0, False)


def test_a_watch_with_two_events_is_one_request(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        event("w", "ResponseStarted", verb="watch") + event("b") + event("w", "ResponseComplete", verb="watch")
    )
    assert [r.verb for r in audit.requests(log)] == ["watch", "patch"]


def test_an_unfinished_line_is_left_for_the_next_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    whole, half = event("one"), event("two")
    log.write_text(whole + half[:40])
    assert len(list(audit.requests(log))) == 1
    log.write_text(whole + half)
    assert len(list(audit.requests(log, since=len(whole)))) == 1


@pytest.mark.parametrize("line", ["{}", '{"kind": "Policy"}', "no json"])
def test_what_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"audit event|Expecting"):
        audit.parse(line)
