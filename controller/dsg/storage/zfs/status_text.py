"""The sentences of `zpool status`, which JSON and text share."""

from __future__ import annotations

_HARMLESS = (
    "Some supported features are not enabled",
    "Some supported and requested features are not enabled",
    "The pool is formatted using a legacy on-disk format",
    "One or more features are enabled on the pool despite not being requested",
    "This pool has a compatibility list specified, but it could not be read",
)
"""States that `zpool status -x` takes for healthy too (zpool_main.c)."""


def one_line(text: str) -> str:
    """Return a sentence that zpool-status(8) breaks into indented lines as one line."""
    return " ".join(text.split())


def harmless(status: str) -> bool:
    """Return whether a status says only that the pool could be upgraded."""
    return status.startswith(_HARMLESS)
