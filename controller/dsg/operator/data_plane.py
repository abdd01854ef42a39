"""Grants for the data plane, as files in a directory that both processes have (`dsg.transfer.grants`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsg.api.synctransaction import Endpoint
from dsg.reconcile.data_plane import Admission, DataPlaneError
from dsg.transfer.grants import Grant, GrantError, grants_in, last_sign, read_server, remove_grant, write_grant


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except GrantError as error:
        raise DataPlaneError(str(error)) from error


class GrantFiles:
    """The data plane behind a directory of grants (`dsg.reconcile.data_plane.DataPlane`)."""

    def __init__(self, directory: Path, url: str) -> None:
        """`url` is where researchers reach it: declared, never guessed."""
        self._directory = directory
        self._url = url

    def endpoint(self) -> Endpoint | None:
        """Return the address with the fingerprint that the server has left in the directory."""
        with _told():
            fingerprint = read_server(self._directory)
        return Endpoint(url=self._url, certificate_fingerprint=fingerprint) if fingerprint is not None else None

    def admit(self, admission: Admission) -> None:
        """Write a grant."""
        namespace, _, repository = admission.repository.partition("/")
        grant = Grant(
            uid=admission.uid,
            namespace=namespace,
            repository=repository,
            author=admission.author,
            client_key=admission.client_key,
            mode=admission.mode,
            root=admission.root,
            expires=admission.expires.timestamp(),
            size_limit=admission.size_limit,
            version=admission.version,
        )
        with _told():
            write_grant(self._directory, grant)

    def withdraw(self, uid: str) -> None:
        """Remove a grant."""
        with _told():
            remove_grant(self._directory, uid)

    def admitted(self) -> frozenset[str]:
        """Return the uids of the grants that are there."""
        with _told():
            return frozenset(grants_in(self._directory))

    def last_sign(self) -> float | None:
        """Return when the data plane last said that it lives (seconds since 1970); None where it never did."""
        return last_sign(self._directory)
