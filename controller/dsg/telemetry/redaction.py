"""Takes secrets out of what is logged or traced: by the name of a field, and by the shape of a value.

It errs towards hiding. What it can't know, such as a key written as plain hexadecimal, must not be logged at all; bytes
never are, only their number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

REDACTED = "[redacted]"

_DEPTH = 12
"""Nesting at which a value is cut off; deeper than any structured exception."""

_LONGEST = 65536
"""Characters of one text that are kept: a log line is no place for more, and the time it takes stays bounded."""

_SECRET_NAMES = re.compile(
    r"(?:proxy[-_]?)?authorization|(?:set[-_]?)?cookie|passw(?:or)?d|passphrase|secret|credentials?"
    r"|[a-z0-9_-]*token(?:[-_]?data)?|api[-_]?key|bearer"
    r"|(?:client[-_]?|private[-_]?|wrapping[-_]?|encryption[-_]?)key(?:[-_]?data)?|key[-_]?(?:data|material|bytes)",
    re.IGNORECASE,
)
_PUBLIC_NAMES = frozenset({"clientkey"})
"""`clientKey` of a SyncTransaction is the fingerprint of a public key, and is needed to follow who did what."""

_NAME_IN_TEXT = (
    r"(?:password|passwd|passphrase|(?:access_|refresh_|id_|bearer_)?token|secret|api[-_]?key"
    r"|client-key-data|private_key_data|private_key|client_secret|authorization)"
)
_IN_TEXT: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        # Not once more where it has been: without its end, all that follows would go too.
        re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----(?!\[redacted\]).*?(?:-----END \1-----|\Z)", re.DOTALL),
        rf"-----BEGIN \1-----{REDACTED}",
    ),
    (re.compile(r"\b(Bearer|Basic|Negotiate)(\s+)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), rf"\1\2{REDACTED}"),
    # JSON Web Tokens: Kubernetes service account tokens, wherever they stand.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?"), REDACTED),
    # user:password@ in a URL. Without its scheme, which would make the search quadratic in long dotted text.
    (re.compile(r"://[^/\s:@]*:[^/\s@]+@"), f"://{REDACTED}@"),
    # name=value, name: value, 'name': 'value', as in query strings, YAML, JSON and the repr of objects.
    (
        re.compile(
            rf"(\b{_NAME_IN_TEXT}\b[\"']?\s*[=:]\s*)"
            r"(?:b?\"(?:[^\"\\]|\\.)*\"|b?'(?:[^'\\]|\\.)*'|(?!None\b|null\b|\[redacted\]|Bearer\b|Basic\b)[^\s,;&)}\]\"']+)",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
)


def redact_text(text: str) -> str:
    """Return the text with everything that looks like a secret replaced; other text is returned as it is.

    Only the first 65,536 characters are kept.
    """
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… ({len(text)} characters)"
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret, whatever its value looks like."""
    return name.lower() not in _PUBLIC_NAMES and _SECRET_NAMES.fullmatch(name) is not None


def redact(value: object) -> object:
    """Return a copy of a value without secrets, made only of what JSON can hold.

    Mappings and sequences are walked; bytes become their length; a number JSON can't hold, and any other object, its
    text. A secret field that holds nothing (None or an empty string) is left, because that it is missing helps.
    """
    return _redact(value, _DEPTH)


def _redact(value: object, depth: int) -> object:
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return redact_text(str(value))
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case _ if depth == 0:
            return "…"
        case Mapping():
            return {str(name): _field(str(name), item, depth - 1) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redact(item, depth - 1) for item in value]
        case _:
            return redact_text(repr(value))


def _field(name: str, value: object, depth: int) -> object:
    if secret_name(name) and value is not None and value != "":
        return REDACTED
    return _redact(value, depth)
