"""The API server's audit log, read as a count of requests: who asked for what, and what was answered."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

POLICY = """apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
"""

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class Request:
    """One request to the API server (audit.k8s.io/v1 Event, level Metadata)."""

    user: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    uri: str
    code: int
    user_agent: str
    received: str

    @property
    def write(self) -> bool:
        """Whether it may have changed something."""
        return self.verb in WRITES


def parse(line: str) -> tuple[str, Request]:
    """The audit id and the request of one line of the log. Raises `ValueError` when the line is no audit event."""
    event = json.loads(line)
    if event.get("kind") != "Event" or "auditID" not in event:
        raise ValueError(f"not an audit event: {line[:200]}")
    target = event.get("objectRef") or {}
    request = Request(
        user=event["user"]["username"],
        verb=event["verb"],
        group=target.get("apiGroup", ""),
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        uri=event["requestURI"],
        code=(event.get("responseStatus") or {}).get("code", 0),
        user_agent=event.get("userAgent", ""),
        received=event["requestReceivedTimestamp"],
    )
    return event["auditID"], request


def requests(log: Path, since: int = 0) -> Iterator[Request]:
    """Each request written to `log` after byte `since`, once; a watch counts when it begins.

    An unfinished last line is left for the next call.
    """
    seen: set[str] = set()
    with log.open("rb") as content:
        content.seek(since)
        for raw in content:
            if not raw.endswith(b"\n"):
                return
            identity, request = parse(raw.decode())
            if identity not in seen:
                seen.add(identity)
                yield request
