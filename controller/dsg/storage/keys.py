"""Wrapping keys of encrypted repositories, as they pass through this process: read, used, forgotten.

A key lives in memory only while a repository is looked at. It leaves this process through the standard input of zfs(8)
and nowhere else: it has no text form, so that no log line, span, error or Event can show it.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import StrEnum

from blake3 import blake3

LENGTH = 32
"""Bytes of a raw key (zfsprops(7), keyformat=raw)."""
_CONTEXT = "dsg.hrdag.org 2026-11 fingerprint of a wrapping key"
"""Context string of BLAKE3's key derivation: a fingerprint says nothing about a key under any other use."""
_SHOWN = 32
"""Hexadecimal digits of a fingerprint: 128 bits."""


class WrongLength(ValueError):
    """Raised for what can't be a raw key; the text tells how long it is and nothing else of it."""


class WrappingKey:
    """One raw key of 32 bytes. Raises WrongLength for anything else."""

    __slots__ = ("_material",)

    def __init__(self, material: bytes) -> None:
        if len(material) != LENGTH:
            raise WrongLength(f"it has {len(material)} bytes, and a raw key has exactly {LENGTH}")
        self._material = bytes(material)

    def reveal(self) -> bytes:
        """Return the key itself, for the standard input of a command."""
        return self._material

    def fingerprint(self, identity: str) -> str:
        """Return what stands for this key on the repository `identity` and does not lead back to it.

        BLAKE3 in its key derivation mode over key and identity: two repositories with one key do not show that.
        """
        return blake3(self._material + identity.encode(), derive_key_context=_CONTEXT).hexdigest()[:_SHOWN]

    def __eq__(self, other: object) -> bool:
        """Whether it is the same key, without telling by time how much of it is."""
        return isinstance(other, WrappingKey) and hmac.compare_digest(self._material, other._material)

    __hash__ = None  # type: ignore[assignment]  # a hash would be one more form of it

    def __repr__(self) -> str:
        """Return a text that does not hold the key."""
        return "WrappingKey()"

    def __reduce__(self) -> str:
        """Refuse to be pickled or copied into another process."""
        raise TypeError("a wrapping key is not serialized")


@dataclass(frozen=True, slots=True)
class Keys:
    """What a repository's Secret holds."""

    source: str
    """Where they are from, for messages: `Secret research/keys, entry justice`."""
    current: WrappingKey
    """The key that the repository should have."""
    previous: WrappingKey | None = None
    """The one that it may still have: it opens what was locked before the key was replaced."""
    fits: bool | None = None
    """Whether `current` was found to be the key that the repository has; None where it was not tried."""


class KeyNeed(StrEnum):
    """What a look at a repository needs of its Secret."""

    NOTHING = "nothing"
    """It has none, or can't be worked on anyway."""
    COMPARISON = "comparison"
    """Its key is loaded: only whether the Secret holds another one by now."""
    ACCESS = "access"
    """Without the key nothing can be created or read."""


PREVIOUS = ".previous"
"""Ending of the Secret's entry that holds the key before the present one."""
