"""The steps by which a ZFS repository is reconciled: values that describe themselves, and how each is taken."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

from dsg.storage import errors
from dsg.storage.host import Host
from dsg.storage.keys import WrappingKey
from dsg.storage.repository_type import StepBase
from dsg.storage.zfs import layout
from dsg.storage.zfs.interface import Zfs


@dataclass(frozen=True, slots=True)
class ZfsStep(StepBase):
    """A step on datasets, and on their mounts."""

    @abstractmethod
    def apply(self, zfs: Zfs, host: Host) -> None:
        """Take the step."""


_MOST_OF_A_VALUE = 64
"""Characters of a property's value that a description shows."""


def _assignments(properties: tuple[tuple[str, str], ...]) -> str:
    return " ".join(
        f"{name}={value if len(value) <= _MOST_OF_A_VALUE else value[:_MOST_OF_A_VALUE] + '…'}"
        for name, value in properties
    )


@dataclass(frozen=True, slots=True)
class CreateDataset(ZfsStep):
    """Create a filesystem."""

    dataset: str
    properties: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"create dataset {self.dataset} with {_assignments(self.properties)}"

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Create it; one that is there already is left for the next observation to judge."""
        try:
            zfs.create(self.dataset, dict(self.properties))
        except errors.AlreadyExists:
            return


@dataclass(frozen=True, slots=True)
class CreateParent(ZfsStep):
    """Create a repository's parent dataset, so that it appears under its name only with all its properties."""

    dataset: str
    unfinished: str
    """Where it is made; see `layout.unfinished`."""
    properties: tuple[tuple[str, str], ...]
    key: WrappingKey | None = field(default=None, repr=False)
    """For a dataset with keylocation=prompt."""

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"create dataset {self.dataset} with {_assignments(self.properties)}"

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Create and rename it; what an interrupted attempt left is replaced."""
        try:
            zfs.create(self.unfinished, dict(self.properties), key=self.key)
        except errors.AlreadyExists:
            zfs.destroy(self.unfinished)
            zfs.create(self.unfinished, dict(self.properties), key=self.key)
        zfs.rename(self.unfinished, self.dataset)


@dataclass(frozen=True, slots=True)
class DiscardUnfinished(ZfsStep):
    """Destroy what an interrupted creation left."""

    dataset: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"destroy the unfinished dataset {self.dataset}, if there is one"

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Destroy it; never recursively."""
        try:
            zfs.destroy(self.dataset)
        except errors.NotFound:
            return


@dataclass(frozen=True, slots=True)
class SetProperties(ZfsStep):
    """Set local properties of a dataset."""

    dataset: str
    properties: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"set {_assignments(self.properties)} on {self.dataset}"

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Set them."""
        zfs.set_properties(self.dataset, dict(self.properties))


@dataclass(frozen=True, slots=True)
class InheritProperties(ZfsStep):
    """Clear local properties of a dataset."""

    dataset: str
    properties: tuple[str, ...]

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"clear {' '.join(self.properties)} on {self.dataset}"

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Clear them."""
        zfs.inherit(self.dataset, self.properties)


@dataclass(frozen=True, slots=True)
class LoadKey(ZfsStep):
    """Load the encryption key from its file on the node."""

    dataset: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"load the key of {self.dataset} from its key file"

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Load it."""
        zfs.load_key(self.dataset)


@dataclass(frozen=True, slots=True)
class LoadKeyOf(ZfsStep):
    """Load the encryption key that a Secret holds: the first of several that opens the dataset."""

    dataset: str
    source: str
    keys: tuple[WrappingKey, ...] = field(repr=False)
    hint: str
    """What to do when none opens it."""

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"load the key of {self.dataset} from {self.source}"

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Load it. Raises KeyWrong when none opens the dataset."""
        for key in self.keys:
            try:
                zfs.load_key(self.dataset, key)
            except errors.KeyWrong:
                continue
            return
        text = f"dataset {self.dataset} is locked, and {self.source} holds another key than it has; {self.hint}"
        raise errors.KeyWrong(text, subject=self.dataset)


@dataclass(frozen=True, slots=True)
class ReplaceKey(ZfsStep):
    """Give a dataset whose key is loaded the key that its Secret holds, and note which one it has."""

    dataset: str
    source: str
    fingerprint: str
    key: WrappingKey = field(repr=False)

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"let {self.dataset} have the key that {self.source} holds"

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Replace it, unless an interrupted attempt already has; then note it."""
        if not zfs.opens(self.dataset, self.key):
            zfs.change_key(self.dataset, self.key)
        zfs.set_properties(self.dataset, {layout.KEY: self.fingerprint})


@dataclass(frozen=True, slots=True)
class Mount(ZfsStep):
    """Mount a generation read-only at its own directory."""

    dataset: str
    directory: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"mount {self.dataset} read-only at {self.directory}"

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Mount it; nothing happens when it is mounted there already."""
        if any(m.directory == self.directory and m.dataset == self.dataset for m in host.mounts()):
            return
        host.make_directory(self.directory, mode=0o755)
        host.mount(self.dataset, self.directory, read_only=True)


@dataclass(frozen=True, slots=True)
class MakeReadOnly(ZfsStep):
    """Make a generation's mount read-only again."""

    directory: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"make the mount at {self.directory} read-only"

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Remount it."""
        host.remount(self.directory, read_only=True)


@dataclass(frozen=True, slots=True)
class SetOwner(ZfsStep):
    """Set owner and mode of a generation's root, for which its mount is writable for a moment."""

    directory: str
    uid: int
    gid: int
    mode: int

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"make {self.uid}:{self.gid} the owner of {self.directory}, mode {self.mode:04o}"

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Set them."""
        host.remount(self.directory, read_only=False)
        try:
            host.set_owner(self.directory, uid=self.uid, gid=self.gid, mode=self.mode)
        finally:
            host.remount(self.directory, read_only=True)


@dataclass(frozen=True, slots=True)
class Unmount(ZfsStep):
    """Unmount a generation and remove its empty directory."""

    directory: str
    may_stay: bool
    """Whether a mount in use is left as it is; otherwise Busy is raised."""

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"unmount {self.directory}" + (" unless it is in use" if self.may_stay else "")

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Unmount it."""
        try:
            host.unmount(self.directory)
        except errors.NotFound:
            pass
        except errors.Busy:
            if self.may_stay:
                return
            raise
        host.remove_directory(self.directory)


@dataclass(frozen=True, slots=True)
class DestroyVersions(ZfsStep):
    """Destroy the snapshots of a generation."""

    dataset: str
    versions: tuple[str, ...]

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"destroy {len(self.versions)} versions of {self.dataset}"

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Destroy them."""
        try:
            zfs.destroy_snapshots(self.dataset, self.versions)
        except errors.NotFound:
            return


@dataclass(frozen=True, slots=True)
class DestroyDataset(ZfsStep):
    """Destroy one filesystem, never recursively."""

    dataset: str

    def describe(self) -> str:
        """Return what the step does, in one line."""
        return f"destroy dataset {self.dataset}"

    def apply(self, zfs: Zfs, host: Host) -> None:
        """Destroy it."""
        try:
            zfs.destroy(self.dataset)
        except errors.NotFound:
            return
