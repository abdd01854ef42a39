"""Takes the names of data files out of texts that leave the place where the data is: messages, logs, objects. Pure.

They can say as much as the data. Everything with a slash is taken for a path unless it is known to be something else,
and so is everything in quotes; what is lost by that is given back by asking for names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "[name]"

_QUOTED = re.compile(r"(?<![A-Za-z0-9])(?:'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")(?![A-Za-z0-9])")
"""Not the apostrophe of a word."""
_TOKEN = re.compile(r"[^\s'\"`,;()\[\]{}<>]*/[^\s'\"`,;()\[\]{}<>]*")
_URL = re.compile(r"https?://[^\s/?#]+", re.ASCII)
_NUMBERED = re.compile(r"[sg][0-9]+|[0-9.]*", re.ASCII)
_VERSIONED = re.compile(r"(?:/(?:g[0-9]+|(?:stage|rebase|read)-[0-9a-f-]+))?(?:@s[0-9]+)?", re.ASCII)
_OURS = re.compile(r"(?:[a-z0-9-]+\.)*(?:dsg\.hrdag\.org|k8s\.io|kubernetes\.io)(?:/[A-Za-z0-9._-]+)*", re.ASCII)
_KINDS = re.compile(r"(?:Repository|StoragePool|SyncTransaction|Lease|Event)/[a-z0-9.-]*", re.ASCII)
_UNITS = frozenset({"and/or", "n/a", "N/A", "I/O", "i/o", "TLS/SSL", "bytes/s"})


class Names:
    """Hides names. `known` are texts with a slash that are no paths of data: datasets, `namespace/name` and such."""

    def __init__(self, known: Iterable[str] = (), hidden: Iterable[str] = ()) -> None:
        """`hidden` are names that are known to be ones of data; they are taken out wherever they stand."""
        self._known = frozenset(known)
        longest = sorted({name for name in hidden if len(name) > 2}, key=len, reverse=True)  # noqa: PLR2004
        self._hidden = re.compile("|".join(map(re.escape, longest))) if longest else None

    def hide(self, text: str) -> str:
        """Return a text without names of data."""
        if self._hidden is not None:
            text = self._hidden.sub(HIDDEN, text)
        text = _QUOTED.sub(self._quoted, text)
        return _TOKEN.sub(self._token, text)

    def _quoted(self, match: re.Match[str]) -> str:
        quote, inside = match[0][0], match[0][1:-1]
        if self._harmless(inside) or _NUMBERED.fullmatch(inside):
            return match[0]
        return f"{quote}{HIDDEN}{quote}"

    def _token(self, match: re.Match[str]) -> str:
        token = match[0]
        core = token.rstrip(".:!?…")
        if self._harmless(core):
            return token
        name, equals, value = core.partition("=")
        if equals and "/" not in name and self._harmless(value):
            return token
        url = _URL.match(core)
        return (url[0] + ("/…" if len(core) > len(url[0]) + 1 else "") if url else HIDDEN) + token[len(core) :]

    def _harmless(self, text: str) -> bool:
        if text in self._known or text in _UNITS or text in {"/", ""}:
            return True
        if _OURS.fullmatch(text) or _KINDS.fullmatch(text):
            return True
        return any(text.startswith(one) and _VERSIONED.fullmatch(text[len(one) :]) for one in self._known)
