"""What a command works with: where it prints, the cluster, the working copy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dsg.plugin.cluster_remote import ClusterRemote
from dsg.plugin.data_plane import HttpsDataPlane
from dsg.plugin.exits import CommandError, Exit
from dsg.plugin.kubectl import Connection, Kubectl
from dsg.plugin.limits import timeout as timeout_of
from dsg.plugin.output import Format, Output
from dsg.workcopy.layout import Layout
from dsg.workcopy.origin import Origin, find_root, read_origin


@dataclass(frozen=True, slots=True)
class Session:
    """One command's surroundings. `connection` is what its options say of the cluster."""

    output: Output
    connection: Connection

    @classmethod
    def of(
        cls,
        output: Format,
        *,
        quiet: bool = False,
        verbose: bool = False,
        context: str = "",
        namespace: str = "",
        kubeconfig: str = "",
    ) -> Session:
        """Return the surroundings that a command's options describe."""
        if quiet and verbose:
            raise CommandError("Usage", "-q and -v exclude each other", "Leave one of them out.", Exit.USAGE)
        printer = Output(output, quiet=quiet, verbose=verbose)
        return cls(printer, Connection(context, namespace, kubeconfig))

    def kubectl(self, context: str = "", namespace: str = "") -> Kubectl:
        """Return kubectl; the command's options come before what a working copy remembers."""
        asked = self.connection
        return Kubectl(Connection(asked.context or context, asked.namespace or namespace, asked.kubeconfig))

    def remote(self, kubectl: Kubectl, repository: str, timeout: str = "") -> ClusterRemote:
        """Return a repository of the cluster."""
        if timeout:
            try:
                timeout_of(0, timeout)
            except ValueError as error:
                raise CommandError("Usage", f"--timeout: {error}", code=Exit.USAGE) from None
        return ClusterRemote(
            kubectl, repository, HttpsDataPlane(), tell=lambda text: self.output.note(text, "dim"), timeout=timeout
        )

    def here(self, directory: Path | None) -> Place:
        """Return the working copy that a directory lies in. Raises NotAWorkingCopy."""
        start = directory if directory is not None else Path.cwd()
        if not start.is_dir():
            raise CommandError("Usage", f"{start} is no directory", code=Exit.USAGE)
        root = find_root(start)
        return Place(root, read_origin(Layout(root)))


@dataclass(frozen=True, slots=True)
class Place:
    """A working copy."""

    root: Path
    origin: Origin

    def kubectl(self, session: Session) -> Kubectl:
        """Return kubectl for the working copy's cluster and namespace."""
        return session.kubectl(self.origin.context, self.origin.namespace)

    def remote(self, session: Session, timeout: str = "") -> ClusterRemote:
        """Return the working copy's repository."""
        return session.remote(self.kubectl(session), self.origin.repository, timeout)

    def title(self) -> str:
        """Return the repository's namespace and name."""
        return f"{self.origin.namespace}/{self.origin.repository}"
