"""Repository: a shared, versioned tree of data files, declared with every storage parameter stated."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dsg.api.base import MAX_COUNT, Conditions, Model, ObjectMeta, ObjectName, StatusModel
from dsg.api.properties import ZfsProperties
from dsg.api.rules import (
    AbsolutePath,
    DatasetName,
    Digest,
    Distinct,
    MountPath,
    NodeName,
    PersonName,
    PoolName,
    Refused,
    Rule,
    Version,
    apart,
    below,
    cel_string,
    matching,
)
from dsg.api.sizes import Limit

_MOVE = "data does not move by editing a spec; declare a new Repository there and copy the data"

_ATOMIC = {"x-kubernetes-list-type": "atomic"}


class SecretEntry(Model):
    """One entry of a Secret in the Repository's own namespace."""

    name: ObjectName
    """Name of the Secret. The node's operator needs the right to get it; docs/encryption.md says how it is given."""
    key: Annotated[
        str,
        Field(max_length=253),
        matching("[-._a-zA-Z0-9]+", "an entry of a Secret is named by letters, digits, '-', '_' and '.'"),
    ]
    """Entry that holds exactly 32 bytes, the raw key. When it changes, the operator replaces the repository's key; the
    entry with .previous after its name may hold the one before, which opens what was locked meanwhile.
    """


class Encryption(Model):
    """Native ZFS encryption, decided when the dataset is created. The key is in a Secret, or in a file on the node."""

    algorithm: Literal["aes-256-gcm", "aes-256-ccm"]
    """Cipher and mode (zfsprops(7), encryption)."""
    key_file: AbsolutePath | None = None
    """File on the node with the raw 32-byte key, for instance put there by a Secret volume or a KMS agent."""
    secret_ref: SecretEntry | None = None
    """Secret with the raw 32-byte key, which never lies on the node's disks."""

    rules = (
        Rule(
            "has(self.keyFile) != has(self.secretRef)",
            "the key is in one place: write either secretRef or keyFile",
            lambda v: (v.key_file is None) != (v.secret_ref is None),
        ),
    )


class ZfsStorage(Model):
    """A repository on OpenZFS: a parent dataset with policy, and one dataset below it for each generation."""

    type: Literal["zfs"]
    """Kind of storage: zfs, or xfs for any POSIX file system."""
    node: NodeName
    """Storage node that holds the data; the operator started with this --node reconciles it."""
    pool: PoolName
    """Imported ZFS pool on that node; a StoragePool must declare it."""
    dataset: DatasetName
    """Parent dataset of the repository, such as tank/dsg/justice. It holds no files; generations lie below it."""
    mountpoint: MountPath
    """Path at which the head can be read on the node, such as /srv/dsg/justice: a symbolic link of the operator's."""
    properties: ZfsProperties
    """ZFS policy of the dataset, kept by the operator."""
    encryption: Encryption | None = None
    """Encryption at rest. Left out, the dataset is encrypted only if the one above it is."""
    adopt: bool = False
    """Whether what exists at that place already may be taken over. It must also carry this repository's identity; the
    DatasetForeign condition says how to write that on it.
    """

    rules = (
        Rule(
            "self.dataset.startsWith(self.pool + '/')",
            "dataset must lie in pool: write it as POOL/path",
            lambda v: below(v.dataset, v.pool),
            field="dataset",
        ),
    )
    immutable: ClassVar[dict[str, str]] = {
        "type": _MOVE,
        "node": _MOVE,
        "pool": _MOVE,
        "dataset": _MOVE,
        "mountpoint": "researchers and mounts rely on it; declare a new Repository",
        "encryption": "ZFS decides encryption when a dataset is created",
    }


class XfsStorage(Model):
    """A repository on any POSIX file system, such as XFS: a directory that holds one directory for each generation."""

    type: Literal["xfs"]
    """Kind of storage: zfs, or xfs for any POSIX file system."""
    node: NodeName
    """Storage node that holds the data; the operator started with this --node reconciles it."""
    directory: AbsolutePath
    """Directory of the repository on the node, such as /data/dsg/justice. Generations lie below it."""
    mountpoint: MountPath
    """Path at which the head can be read on the node, such as /srv/dsg/justice: a symbolic link of the operator's."""
    adopt: bool = False
    """Whether what exists at that place already may be taken over. It must also carry this repository's identity; the
    DatasetForeign condition says how to write that on it.
    """

    rules = (apart("directory", "mountpoint"),)
    immutable: ClassVar[dict[str, str]] = {
        "type": _MOVE,
        "node": _MOVE,
        "directory": _MOVE,
        "mountpoint": "researchers and mounts rely on it; declare a new Repository",
    }


REFUSED_TYPES = {
    "rclone": "type rclone is not offered: object stores have no atomic commit. Keep the repository on zfs or xfs and "
    "copy versions out with rclone",
    "ipfs": "type ipfs is not offered: published content can't be taken back. Keep the repository on zfs or xfs and "
    "publish chosen versions with ipfs",
}

Storage = Annotated[ZfsStorage | XfsStorage, Field(discriminator="type"), Refused(REFUSED_TYPES)]


class Owner(Model):
    """Who owns the root of the tree on the node."""

    uid: Annotated[int, Field(ge=0, le=4294967294)]
    """Numeric user id of the owner, the same on every node that shares the data."""
    gid: Annotated[int, Field(ge=0, le=4294967294)]
    """Numeric group id of the team that works on the data."""
    mode: Annotated[
        str,
        Field(max_length=4),
        matching("[0-7]?[0-7]{3}", 'mode is three or four octal digits in quotes, such as "2770"'),
    ]
    """Permission bits in octal, quoted, such as "2770"."""


_COMPONENT = r"[^/\x00]+"

_COMPONENT_RULE = Rule(
    f"self.matches({cel_string(f'^{_COMPONENT}$')}) && self != '.' && self != '..'",
    "a name is one path component, without '/'",
    lambda v: v not in {"", ".", ".."} and not {"/", "\0"} & set(v),
)

FileName = Annotated[str, Field(max_length=255), _COMPONENT_RULE]

RelativePath = Annotated[
    str,
    Field(max_length=1024),
    Rule(
        f"self.matches({cel_string(f'^{_COMPONENT}(/{_COMPONENT})*$')}) && "
        "!self.split('/').exists(c, c == '.' || c == '..')",
        "a path is relative to the repository's root, without '.', '..', '//' or trailing '/'",
        lambda v: "\0" not in v and not {"", ".", ".."} & set(v.split("/")),
    ),
]


class Ignore(Model):
    """What a sync leaves alone, beside hidden files."""

    names: Annotated[list[FileName], Field(max_length=100), Distinct()] = Field(default_factory=list)
    """File names, exactly, such as .DS_Store."""
    suffixes: Annotated[
        list[
            Annotated[
                str,
                Field(max_length=32),
                matching("[.][^./]+", "a suffix is a dot and what follows it, such as .tmp"),
            ]
        ],
        Field(max_length=100),
        Distinct(),
    ] = Field(default_factory=list)
    """Last suffixes with their dot, such as .tmp."""
    paths: Annotated[list[RelativePath], Field(max_length=100), Distinct()] = Field(default_factory=list)
    """Paths from the repository's root, with everything below them."""


class Subjects(Model):
    """People by the names Kubernetes authenticates them under."""

    users: Annotated[list[PersonName], Field(max_length=200), Distinct()] = Field(default_factory=list)
    """User names, as `kubectl auth whoami` prints them."""
    groups: Annotated[list[PersonName], Field(max_length=50), Distinct()] = Field(default_factory=list)
    """Group names, as `kubectl auth whoami` prints them."""


class Access(Model):
    """Who may work with the repository. Writers may also read, admins may do both. Who is not named has no access."""

    readers: Subjects | None = None
    """May clone and fetch."""
    writers: Subjects | None = None
    """May open sync transactions."""
    admins: Subjects | None = None
    """May restore old versions."""


class Retention(Model):
    """Which versions are kept; a version is kept when any rule names it. The head always is."""

    keep_last: Annotated[int, Field(ge=1, le=100000)]
    """Number of newest versions."""
    hourly: Annotated[int, Field(ge=0, le=10000)] = 0
    """Number of hours for which the hour's last version is kept."""
    daily: Annotated[int, Field(ge=0, le=10000)] = 0
    """Number of days for which the day's last version is kept."""
    weekly: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of weeks for which the week's last version is kept."""
    monthly: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of months for which the month's last version is kept."""
    yearly: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of years for which the year's last version is kept."""
    named: Annotated[list[Version], Field(max_length=200), Distinct()] = Field(default_factory=list)
    """Versions kept for ever."""
    legal_hold: bool = False
    """While true, no version is pruned, whatever the other rules say."""


class Transactions(Model):
    """Limits of the repository's open transactions."""

    size_limit: Limit
    """Most space that one open transaction may take. A size such as 50Gi, or none. On ZFS it is a quota of the staged
    dataset; on xfs what was sent is measured before it is committed.
    """


class RepositorySpec(Model):
    """What the team declares."""

    storage: Storage
    """Where the data lies. Every parameter is stated; nothing is detected or defaulted."""
    owner: Owner
    """Owner and permission of the tree's root."""
    data_dirs: Annotated[
        list[FileName],
        Field(min_length=1, max_length=100),
        Distinct(),
        Rule(
            "!('*' in self) || size(self) == 1",
            "dataDirs is either '*' alone (everything not hidden) or directory names",
            lambda v: "*" not in v or len(v) == 1,
        ),
    ]
    """Names of the directories that are synced, at whatever depth; '*' alone for everything that is not hidden."""
    ignore: Ignore | None = None
    """What a sync leaves alone."""
    name_rules: Literal["portable", "posix"] = "portable"
    """File names that a sync admits: portable (valid on Linux, macOS and Windows), or posix (whatever Linux allows)."""
    access: Access | None = None
    """Who may work with the repository; left out, nobody but through Kubernetes' own access control."""
    transactions: Transactions | None = None
    """Limits of open transactions; left out, only the repository's own quota limits them."""
    retention: Retention | None = None
    """Which versions are kept; left out, all of them."""
    deletion_policy: Literal["Retain", "Delete"] = "Retain"
    """What happens to the data when this object is deleted. Delete also needs the repository's name in the annotation
    dsg.hrdag.org/confirm-delete.
    """
    drift_policy: Literal["Correct", "Report"] = "Correct"
    """What happens to hand-made changes of policy on the node: set back, or only reported in the Drifted condition."""
    suspend: bool = False
    """While true the operator looks and reports but changes nothing on the node."""


class StorageStatus(StatusModel):
    """What is there."""

    location: str = ""
    """Dataset or directory that holds the repository."""
    generation: str = ""
    """Generation that carries the head."""
    mounted_at: str = ""
    """Where that generation is mounted; the mountpoint is a link to it."""
    used: str = ""
    """Space taken by all versions and open transactions, to three digits."""
    available: str = ""
    """Space left within the quota, to three digits; absent without one. The StoragePool tells how full the pool is."""
    used_percent: int | None = None
    """Part of the quota that is used; absent without a quota."""
    key: str = ""
    """Whether the key of an encrypted repository is in memory: Loaded, or Locked, when nothing of it can be read. Empty
    where nothing is encrypted.
    """


class HeadStatus(StatusModel):
    """The current version."""

    version: Version
    """Name of the version."""
    digest: Digest
    """Its chain digest, which stands for the version and its whole history (docs/manifests.md)."""
    author: str
    """Name of the user who committed it."""
    time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When it was committed (RFC 3339)."""


class RetentionStatus(StatusModel):
    """What retention makes of the versions that there are: a plan, until the next prune."""

    versions: Annotated[int, Field(ge=0, le=MAX_COUNT)]
    """How many versions there are."""
    prune_total: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 0
    """How many of them are to be pruned."""
    prune: Annotated[list[str], Field(max_length=50, json_schema_extra=_ATOMIC)] = Field(default_factory=list)
    """The first fifty of those, oldest first."""
    held: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=50, json_schema_extra=_ATOMIC)] = (
        Field(default_factory=list)
    )
    """Versions that can't be pruned now, and what holds each."""
    last_pruned: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 0
    """How many the last prune destroyed."""
    last_pruned_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """When that was (RFC 3339)."""


class DriftStatus(StatusModel):
    """One difference between what was declared and what was found."""

    subject: str
    """Dataset or path that differs."""
    field: str
    """Property or attribute that differs."""
    wanted: str
    """Value that the spec asks for."""
    found: str
    """Value found on the node."""


class LastDrift(DriftStatus):
    """The last difference that was seen."""

    time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When it was seen (RFC 3339)."""
    corrected: bool
    """Whether it was set back."""


class RepositoryStatus(StatusModel):
    """What the node's operator found."""

    observed_generation: int = -1
    """metadata.generation that this status describes; -1 until an operator has looked."""
    conditions: Conditions = Field(default_factory=list)
    """Observations; docs/reference/conditions.md says what each reason means and what to do."""
    storage: StorageStatus | None = None
    """Where the data lies now, and how much of it."""
    head: HeadStatus | None = None
    """The current version; absent before the first sync."""
    retention: RetentionStatus | None = None
    """The versions, and what retention makes of them."""
    open_transactions: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 0
    """Transactions that are open now."""
    drift: Annotated[list[DriftStatus], Field(max_length=50, json_schema_extra=_ATOMIC)] = Field(default_factory=list)
    """Differences that stand now, because they are only reported."""
    last_drift: LastDrift | None = None
    """The last difference that was seen."""
    plan: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=50, json_schema_extra=_ATOMIC)] = (
        Field(default_factory=list)
    )
    """Steps that the operator would take and does not, because the repository is suspended."""
    last_handled_reconcile_at: str = ""
    """Last value of the annotation dsg.hrdag.org/requestedAt that was acted on."""


class Repository(Model):
    """A shared, versioned tree of research data: where it is stored, who owns it, how long its versions are kept."""

    api_version: Literal["dsg.hrdag.org/v1alpha1"]
    """Group and version of the schema that this object follows."""
    kind: Literal["Repository"]
    """Kind of object."""
    metadata: ObjectMeta
    """Name, namespace, labels and annotations."""
    spec: RepositorySpec
    """What the team declares."""
    status: RepositoryStatus | None = None
    """What the node's operator found; written by it alone."""

    rules = (
        Rule(
            "size(self.metadata.name) <= 63",
            "a repository's name has at most 63 characters",
            lambda v: len(v.metadata.name) <= 63,  # noqa: PLR2004  (stated in the message)
            field="metadata.name",
        ),
    )
