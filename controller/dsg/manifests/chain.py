"""The chain of versions: each header holds the chain digest of the one before, so the last one stands for all.

A header can't be altered without its own chain digest changing (`header.decode_header` sees to that). What is left to
check is that each is the successor of the one before, and that the last one is the one that is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dsg.manifests.entries import version_number
from dsg.manifests.header import Header


class ChainError(ValueError):
    """Versions that are no history. `version` is the one at which that shows."""

    def __init__(self, version: str, problem: str) -> None:
        super().__init__(
            f"version {version}: {problem}. The history was altered or is incomplete: compare it with a backup"
        )
        self.version = version
        self.problem = problem


def problems(headers: Iterable[Header], *, first: str = "s1", head: str | None = None) -> Iterator[ChainError]:
    """Yield all that is wrong with a history, oldest version first.

    `first` is the version with which the history begins (another than s1 only where an older one was adopted). `head`
    is the chain digest of the current version from a place that is trusted more than the manifests; without it, a
    history that was replaced as a whole, or cut off at its end, can't be told from the true one.
    """
    last: Header | None = None
    for header in headers:
        if last is None:
            yield from _begins(header, first)
        else:
            yield from _follows(last, header)
        last = header
    if last is None:
        yield ChainError(first, "is missing, and so are all others")
    elif head is not None and last.chain != head:
        yield ChainError(last.version, f"should be the head with chain digest {head}, but has {last.chain}")


def verify(headers: Iterable[Header], *, first: str = "s1", head: str | None = None) -> None:
    """Raise the first of `problems`, if there is one."""
    for problem in problems(headers, first=first, head=head):
        raise problem


def _begins(header: Header, first: str) -> Iterator[ChainError]:
    if header.version != first:
        yield ChainError(first, f"is missing: the history begins with {header.version}")
    elif header.commit.previous is not None:
        yield ChainError(
            first, f"should begin the history, but follows a version of chain digest {header.commit.previous}"
        )


def _follows(last: Header, header: Header) -> Iterator[ChainError]:
    expected = version_number(last.version) + 1
    number = version_number(header.version)
    if number < expected:
        yield ChainError(header.version, f"comes after {last.version}")
    elif number > expected:
        missing = f"s{expected}" if number == expected + 1 else f"s{expected} to s{number - 1}"
        yield ChainError(header.version, f"follows {last.version}; missing: {missing}")
    elif header.commit.previous is None:
        yield ChainError(header.version, f"says that nothing came before, but {last.version} did")
    elif header.commit.previous != last.chain:
        yield ChainError(
            header.version,
            f"follows a {last.version} of chain digest {header.commit.previous}, but {last.version} has {last.chain}",
        )
