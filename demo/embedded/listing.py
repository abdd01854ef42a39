"""Lists, in pages: the rest of a list is kept as it was when it began, so that its pages are one moment."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from demo.embedded import failures
from demo.embedded.store import Obj

_REMEMBERED = 100


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list, and the metadata that leads to the rest."""

    items: Sequence[Obj]
    metadata: dict[str, Any]


class Pages:
    """Cuts lists into pages."""

    def __init__(self) -> None:
        self._rests: OrderedDict[str, tuple[int, Sequence[Obj]]] = OrderedDict()

    def first(self, items: Sequence[Obj], revision: int, limit: int, *, selective: bool) -> Page:
        """Return the first page of a list; with selectors the number of what remains is not told."""
        return self._page(items, revision, limit, selective=selective)

    def next(self, token: str, limit: int) -> Page:
        """Return the page that a token leads to. Raises ApiFailure (410) when the list is no longer remembered."""
        found = self._rests.get(token)
        if found is None:
            raise failures.expired_continue()
        revision, items = found
        return self._page(items, revision, limit, selective=True)

    def _page(self, items: Sequence[Obj], revision: int, limit: int, *, selective: bool) -> Page:
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        if not limit or len(items) <= limit:
            return Page(items, metadata)
        token = secrets.token_urlsafe(18)
        self._rests[token] = (revision, items[limit:])
        while len(self._rests) > _REMEMBERED:
            self._rests.popitem(last=False)
        metadata["continue"] = token
        if not selective:
            metadata["remainingItemCount"] = len(items) - limit
        return Page(items[:limit], metadata)
