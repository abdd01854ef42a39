"""Times as Kubernetes writes them (RFC 3339, UTC, seconds)."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """Return a time as Kubernetes writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(text: str, now: datetime) -> float:
    """Return how many seconds ago a time of Kubernetes was; without end where there is none."""
    return (now - datetime.fromisoformat(text)).total_seconds() if text else float("inf")
