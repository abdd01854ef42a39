"""What goes wrong with an audit log."""

from __future__ import annotations


class AuditError(Exception):
    """A record could not be written, or a log not be opened; says what and what to do. Nothing half-written counts."""
