"""Specs that nobody may get past, and updates that nobody may make: by the API server and by the models alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.api.objects import GONE, restore

STORAGE = "spec.storage"
PROPERTIES = "spec.storage.properties"

UNKNOWN = "unknown field"
REQUIRED = "Required value"
TYPE = "must be of type"
ENUM = "Unsupported value"
LONG = "Too long"
RANGE = "should be "


@dataclass(frozen=True)
class Invalid:
    """One thing wrong with one object."""

    name: str
    base: str
    patch: Mapping[str, Any]
    at: str
    """The field that both name."""
    says: str
    """What the models say about it; the API server too when `server` is empty."""
    server: str = ""
    """What the API server says where the words are Kubernetes' own."""

    @property
    def server_says(self) -> str:
        return self.server or self.says


def _unknown(name: str, base: str, at: str, guess: str, value: Any = "x") -> Invalid:
    return Invalid(name, base, {at: value}, at, f"unknown field; did you mean {guess}?", UNKNOWN)


def _missing(name: str, base: str, at: str) -> Invalid:
    return Invalid(name, base, {at: GONE}, at, "is required", REQUIRED)


def _typed(name: str, base: str, at: str, value: Any, says: str, server: str = TYPE) -> Invalid:
    return Invalid(name, base, {at: value}, at, says, server)


def _choice(name: str, base: str, at: str, value: str, says: str = "must be one of") -> Invalid:
    return Invalid(name, base, {at: value}, at, says, ENUM)


def _ours(name: str, base: str, at: str, value: Any, says: str, where: str = "") -> Invalid:
    return Invalid(name, base, {at: value}, where or at, says)


_NODE = "a node is named by lower-case letters, digits and '-'"
_POOL = "a pool's name begins with a letter"
_DATASET = "a dataset is written pool/name"
_PATH = "a path is absolute, without '//', trailing '/', or control characters"
_LIMIT = "a limit is a whole number with a binary suffix"
_COMPRESSION = 'compression is one of "off" (quoted'
_NAME = "a name holds lower-case letters, digits"
_RFC = "a lowercase RFC 1123 subdomain"

_ZFS_PROPERTIES = {
    "compression": "lz4",
    "recordsize": "1Mi",
    "atime": False,
    "xattr": "sa",
    "quota": "none",
    "refquota": "none",
    "reservation": "none",
}

INVALID: tuple[Invalid, ...] = (
    # Unknown fields, at every level.
    _unknown("top-level", "zfs", "sepc", "spec", {}),
    _unknown("metadata-misspelt", "zfs", "metadata.lables", "labels", {"a": "b"}),
    _unknown("spec-misspelt", "zfs", "spec.deletePolicy", "deletionPolicy", "Delete"),
    _unknown("spec-snake-case", "zfs", "spec.data_dirs", "dataDirs", ["input"]),
    _unknown("spec-lower-case", "zfs", "spec.datadirs", "dataDirs", ["input"]),
    _unknown("quota-one-level-up", "zfs", "spec.storage.quota", "spec.storage.properties.quota", "1Ti"),
    _unknown("pool-beside-storage", "zfs", "spec.pool", "spec.storage.pool", "tank"),
    _unknown("dataset-misspelt", "zfs", "spec.storage.datset", "dataset", "tank/dsg/justice"),
    _unknown("mountpoint-camel", "zfs", "spec.storage.mountPoint", "mountpoint", "/srv/dsg/justice"),
    _unknown("property-misspelt", "zfs", "spec.storage.properties.recordSize", "recordsize", "1Mi"),
    _unknown("property-misplaced-and-misspelt", "zfs", "spec.compresion", "spec.storage.properties.compression"),
    Invalid(
        "property-unheard-of",
        "zfs",
        {f"{PROPERTIES}.dedup": "on"},
        f"{PROPERTIES}.dedup",
        "unknown field; known here: compression",
        UNKNOWN,
    ),
    Invalid("property-null-and-unknown", "zfs", {f"{PROPERTIES}.dedup": None}, f"{PROPERTIES}.dedup", UNKNOWN),
    _unknown("encryption-misspelt", "full", "spec.storage.encryption.keyfile", "keyFile", "/k"),
    _unknown("owner-misspelt", "zfs", "spec.owner.umode", "mode", "0755"),
    _unknown("ignore-misspelt", "full", "spec.ignore.suffix", "suffixes", []),
    _unknown("access-misspelt", "full", "spec.access.writer", "writers", {}),
    _unknown("subjects-misspelt", "full", "spec.access.writers.user", "users", []),
    _unknown("retention-misspelt", "full", "spec.retention.keeplast", "keepLast", 3),
    _unknown("xfs-misspelt", "xfs", "spec.storage.directry", "directory", "/data/x"),
    _unknown("pool-root-misspelt", "pool", "spec.storage.mountroot", "mountRoot", "/srv"),
    _unknown("selector-misspelt", "pool", "spec.namespaceSelector.matchlabels", "matchLabels", {}),
    _unknown("threshold-misspelt", "pool", "spec.thresholds.capacity", "capacityPercent", 3),
    _unknown("pool-selector-cased", "pool", "spec.namespaceselector", "namespaceSelector", {}),
    _unknown("transaction-misspelt", "tx", "spec.ttlAfterFinish", "ttlAfterFinished", "7d"),
    _unknown("reference-with-namespace", "tx", "spec.repositoryRef.nam", "name", "justice"),
    _unknown("changes-misspelt", "tx", "spec.changes.file", "files", 3),
    # Missing fields.
    _missing("no-spec", "zfs", "spec"),
    _missing("no-storage", "zfs", "spec.storage"),
    _missing("no-owner", "zfs", "spec.owner"),
    _missing("no-data-dirs", "zfs", "spec.dataDirs"),
    _missing("no-mode", "zfs", "spec.owner.mode"),
    _missing("no-compression", "zfs", f"{PROPERTIES}.compression"),
    _missing("no-quota", "zfs", f"{PROPERTIES}.quota"),
    _missing("no-algorithm", "full", "spec.storage.encryption.algorithm"),
    _missing("no-keep-last", "full", "spec.retention.keepLast"),
    _missing("no-type", "zfs", "spec.storage.type"),
    _missing("no-capacity", "pool", "spec.thresholds.capacityPercent"),
    _missing("no-selector", "pool", "spec.namespaceSelector"),
    _missing("no-author", "tx", "spec.author"),
    _missing("no-key", "tx", "spec.clientKey"),
    _missing("no-repository", "tx", "spec.repositoryRef.name"),
    _missing("no-digest", "tx", "spec.changes.manifestDigest"),
    Invalid("null-is-missing", "zfs", {"spec.owner": None}, "spec.owner", "is required", REQUIRED),
    Invalid("node-missing", "zfs", {f"{STORAGE}.node": GONE}, f"{STORAGE}.node", "is required", "field node is needed"),
    Invalid(
        "pool-missing",
        "zfs",
        {f"{STORAGE}.pool": GONE},
        f"{STORAGE}.pool",
        "is required for type zfs: Imported ZFS pool",
        "type zfs needs field pool",
    ),
    Invalid(
        "dataset-missing",
        "zfs",
        {f"{STORAGE}.dataset": GONE},
        f"{STORAGE}.dataset",
        "is required for type zfs",
        "type zfs needs field dataset",
    ),
    Invalid(
        "mountpoint-missing",
        "xfs",
        {f"{STORAGE}.mountpoint": GONE},
        f"{STORAGE}.mountpoint",
        "is required",
        "field mountpoint is needed",
    ),
    Invalid(
        "directory-missing",
        "xfs",
        {f"{STORAGE}.directory": GONE},
        f"{STORAGE}.directory",
        "is required for type xfs",
        "type xfs needs field directory",
    ),
    Invalid(
        "properties-missing",
        "zfs",
        {PROPERTIES: GONE},
        PROPERTIES,
        "is required for type zfs",
        "type zfs needs field properties",
    ),
    Invalid(
        "pool-root-missing",
        "pool",
        {f"{STORAGE}.root": GONE},
        f"{STORAGE}.root",
        "is required for type zfs",
        "type zfs needs field root",
    ),
    Invalid(
        "pool-mount-root-missing",
        "pool",
        {f"{STORAGE}.mountRoot": GONE},
        f"{STORAGE}.mountRoot",
        "is required: Directory below which",
        "field mountRoot is needed",
    ),
    # Wrong types, most of them YAML's doing.
    _typed("bare-off", "zfs", f"{PROPERTIES}.compression", False, "must be text, not false: put it in quotes; YAML"),
    _typed("bare-xattr-off", "zfs", f"{PROPERTIES}.xattr", False, 'write "off" in quotes: YAML reads a bare'),
    _typed("quoted-boolean", "zfs", f"{PROPERTIES}.atime", "off", "must be true or false, without quotes"),
    _typed("octal-number", "zfs", "spec.owner.mode", 1512, "must be text, not a number: put it in quotes"),
    _typed("text-for-number", "zfs", "spec.owner.uid", "2000", "must be a whole number, without quotes"),
    _typed("fraction", "zfs", "spec.owner.uid", 2.5, "must be a whole number"),
    _typed("boolean-for-number", "zfs", f"{PROPERTIES}.copies", True, "must be a whole number"),
    _typed("number-for-size", "zfs", f"{PROPERTIES}.quota", 500, "must be text, not a number: put it in quotes"),
    _typed("text-for-list", "zfs", "spec.dataDirs", "input", "must be a list: each item"),
    _typed("list-for-text", "zfs", f"{STORAGE}.node", ["node-a"], "must be text, not a list"),
    _typed("text-for-storage", "zfs", "spec.storage", "zfs", "must be a mapping with type: zfs or xfs"),
    _typed("text-for-owner", "zfs", "spec.owner", "alice", "must be a mapping with fields such as uid, gid, mode"),
    _typed("list-for-labels", "pool", "spec.namespaceSelector.matchLabels", ["a"], "must be a mapping of names"),
    Invalid("null-in-list", "zfs", {"spec.dataDirs": ["input", None]}, "spec.dataDirs[1]", "must be text", TYPE),
    # Choices.
    _choice("type-unheard-of", "zfs", f"{STORAGE}.type", "btrfs"),
    _choice("type-upper-case", "xfs", f"{STORAGE}.type", "XFS", "did you mean xfs?"),
    _choice("recordsize-of-zfs", "zfs", f"{PROPERTIES}.recordsize", "128K", "did you mean 128Ki?"),
    _choice("checksum-off", "zfs", f"{PROPERTIES}.checksum", "off"),
    _choice("sync-disabled", "zfs", f"{PROPERTIES}.sync", "disabled"),
    _choice("policy-lower-case", "zfs", "spec.deletionPolicy", "retain", "did you mean Retain?"),
    _choice("drift-policy", "zfs", "spec.driftPolicy", "Ignore"),
    _choice("name-rules", "zfs", "spec.nameRules", "windows"),
    _choice("cipher", "full", "spec.storage.encryption.algorithm", "aes-128-gcm"),
    _choice("operation", "tx", "spec.operation", "sync", "did you mean Sync?"),
    _choice("intent", "tx", "spec.intent", "Committed", "did you mean Commit?"),
    Invalid(
        "selector-operator",
        "xfspool",
        {"spec.namespaceSelector.matchExpressions": [{"key": "a", "operator": "Equals", "values": ["b"]}]},
        "spec.namespaceSelector.matchExpressions[0].operator",
        "must be one of In, NotIn, Exists, DoesNotExist",
        ENUM,
    ),
    # Types that are refused with advice.
    _ours("type-rclone", "xfs", f"{STORAGE}.type", "rclone", "object stores have no atomic commit"),
    _ours("type-ipfs", "zfs", f"{STORAGE}.type", "ipfs", "published content can't be taken back"),
    Invalid(
        "type-rclone-alone",
        "zfs",
        {"spec.storage": {"type": "rclone"}},
        f"{STORAGE}.type",
        "copy versions out with rclone",
    ),
    _ours("pool-of-rclone", "pool", f"{STORAGE}.type", "rclone", "type rclone is not offered"),
    # Fields of another type.
    _ours("xfs-with-pool", "xfs", f"{STORAGE}.pool", "tank", "field pool is only for type zfs"),
    _ours("xfs-with-dataset", "xfs", f"{STORAGE}.dataset", "tank/dsg/a", "field dataset is only for type zfs"),
    _ours(
        "xfs-with-encryption",
        "xfs",
        f"{STORAGE}.encryption",
        {"algorithm": "aes-256-gcm", "keyFile": "/run/k"},
        "field encryption is only for type zfs",
    ),
    _ours(
        "key-in-two-places",
        "full",
        "spec.storage.encryption",
        {"algorithm": "aes-256-gcm", "keyFile": "/run/k", "secretRef": {"name": "keys", "key": "justice"}},
        "the key is in one place: write either secretRef or keyFile",
    ),
    _ours(
        "key-nowhere",
        "full",
        "spec.storage.encryption",
        {"algorithm": "aes-256-gcm"},
        "the key is in one place: write either secretRef or keyFile",
    ),
    _ours(
        "key-entry",
        "full",
        "spec.storage.encryption",
        {"algorithm": "aes-256-gcm", "secretRef": {"name": "keys", "key": "a/b"}},
        "an entry of a Secret is named by letters",
        "spec.storage.encryption.secretRef.key",
    ),
    Invalid(
        "secret-of-another-namespace",
        "full",
        {
            "spec.storage.encryption": {
                "algorithm": "aes-256-gcm",
                "secretRef": {"name": "keys", "key": "justice", "namespace": "kube-system"},
            }
        },
        "spec.storage.encryption.secretRef.namespace",
        "unknown field",
        UNKNOWN,
    ),
    _ours(
        "secret-name",
        "full",
        "spec.storage.encryption",
        {"algorithm": "aes-256-gcm", "secretRef": {"name": "Keys", "key": "justice"}},
        "a name holds lower-case letters, digits",
        "spec.storage.encryption.secretRef.name",
    ),
    Invalid(
        "key-without-entry",
        "full",
        {"spec.storage.encryption": {"algorithm": "aes-256-gcm", "secretRef": {"name": "keys"}}},
        "spec.storage.encryption.secretRef.key",
        "is required",
        REQUIRED,
    ),
    _ours("xfs-with-properties", "xfs", PROPERTIES, _ZFS_PROPERTIES, "field properties is only for type zfs"),
    _ours("zfs-with-directory", "zfs", f"{STORAGE}.directory", "/data/x", "field directory is only for type xfs"),
    _ours("zfs-pool-with-directory", "pool", f"{STORAGE}.directory", "/data", "field directory is only for type xfs"),
    _ours("xfs-pool-with-root", "xfspool", f"{STORAGE}.root", "tank/dsg", "field root is only for type zfs"),
    # Names and paths.
    _typed("name-upper-case", "zfs", "metadata.name", "Justice", _NAME, _RFC),
    _typed("name-underscore", "pool", "metadata.name", "node_a", _NAME, _RFC),
    _typed("name-trailing-dot", "tx", "metadata.name", "justice.", _NAME, _RFC),
    _ours("name-long", "zfs", "metadata.name", "j" * 64, "a repository's name has at most 63 characters", "name"),
    _ours("node-upper-case", "zfs", f"{STORAGE}.node", "Node-A", _NODE),
    _ours("node-dotted", "zfs", f"{STORAGE}.node", "node-a.example.org", _NODE),
    _ours("node-empty", "zfs", f"{STORAGE}.node", "", _NODE),
    _ours("node-newline", "zfs", f"{STORAGE}.node", "node-a\n", _NODE),
    Invalid("node-long", "zfs", {f"{STORAGE}.node": "n" * 64}, f"{STORAGE}.node", "is too long", LONG),
    _ours("pool-digit", "zfs", f"{STORAGE}.pool", "1tank", _POOL),
    _ours("pool-reserved", "zfs", f"{STORAGE}.pool", "mirror", "mirror, raidz, draid, spare and log"),
    _ours("dataset-is-pool", "zfs", f"{STORAGE}.dataset", "tank", _DATASET),
    _ours("dataset-snapshot", "zfs", f"{STORAGE}.dataset", "tank/dsg/justice@s1", _DATASET),
    _ours("dataset-trailing", "zfs", f"{STORAGE}.dataset", "tank/dsg/", _DATASET),
    _ours("dataset-absolute", "zfs", f"{STORAGE}.dataset", "/tank/dsg", _DATASET),
    _ours("dataset-option", "zfs", f"{STORAGE}.dataset", "tank/-r", _DATASET),
    _ours("dataset-space", "zfs", f"{STORAGE}.dataset", "tank/my data", _DATASET),
    Invalid("dataset-long", "zfs", {f"{STORAGE}.dataset": "tank/" + "d" * 180}, f"{STORAGE}.dataset", "too long", LONG),
    _ours("dataset-elsewhere", "zfs", f"{STORAGE}.dataset", "tanker/dsg/justice", "dataset must lie in pool"),
    _ours("root-elsewhere", "pool", f"{STORAGE}.root", "other/dsg", "root must lie in pool"),
    _ours("mountpoint-relative", "zfs", f"{STORAGE}.mountpoint", "srv/dsg", _PATH),
    _ours("mountpoint-root", "zfs", f"{STORAGE}.mountpoint", "/", _PATH),
    _ours("mountpoint-trailing", "zfs", f"{STORAGE}.mountpoint", "/srv/dsg/", _PATH),
    _ours("mountpoint-tab", "zfs", f"{STORAGE}.mountpoint", "/srv/a\tb", _PATH),
    _ours("mountpoint-up", "zfs", f"{STORAGE}.mountpoint", "/srv/../etc", "a path holds no '.' or '..'"),
    _ours("mountpoint-hidden", "zfs", f"{STORAGE}.mountpoint", "/srv/.dsg/a", "no component of a mountpoint begins"),
    _ours("key-file-relative", "full", "spec.storage.encryption.keyFile", "keys/k", _PATH),
    _ours("mount-root-double", "pool", f"{STORAGE}.mountRoot", "/srv//dsg", _PATH),
    _ours("directory-same", "xfs", f"{STORAGE}.directory", "/srv/dsg/archive", "can't be the same", "mountpoint"),
    _ours("directory-above", "xfs", f"{STORAGE}.directory", "/srv", "or lie in one another", "mountpoint"),
    _ours("mount-root-in-directory", "xfspool", f"{STORAGE}.mountRoot", "/data/dsg/links", "directory and mountRoot"),
    # Policy.
    _ours("compression-on", "zfs", f"{PROPERTIES}.compression", "on", _COMPRESSION),
    _ours("compression-level", "zfs", f"{PROPERTIES}.compression", "zstd-20", _COMPRESSION),
    _ours("compression-empty", "zfs", f"{PROPERTIES}.compression", "", _COMPRESSION),
    _ours("quota-decimal", "zfs", f"{PROPERTIES}.quota", "500G", _LIMIT),
    _ours("quota-fraction", "zfs", f"{PROPERTIES}.quota", "1.5Ti", _LIMIT),
    _ours("quota-bytes", "zfs", f"{PROPERTIES}.quota", "1073741824", _LIMIT),
    _ours("quota-zero", "zfs", f"{PROPERTIES}.quota", "0", _LIMIT),
    _ours("quota-beyond", "zfs", f"{PROPERTIES}.quota", "8192Pi", "a limit is less than 8Ei"),
    _ours("refquota-above", "zfs", f"{PROPERTIES}.refquota", "1Ti", "refquota can't be larger than quota"),
    _ours("reservation-above", "zfs", f"{PROPERTIES}.reservation", "501Gi", "reservation can't be larger than quota"),
    _ours("refreservation-above", "zfs", f"{PROPERTIES}.refreservation", "1Ti", "refreservation can't be larger"),
    Invalid(
        "refreservation-above-refquota",
        "zfs",
        {f"{PROPERTIES}.refquota": "1Gi", f"{PROPERTIES}.refreservation": "2Gi"},
        f"{PROPERTIES}.refreservation",
        "refreservation can't be larger than refquota",
    ),
    Invalid("copies", "zfs", {f"{PROPERTIES}.copies": 4}, f"{PROPERTIES}.copies", "must be at most 3", RANGE),
    # Owner, lists, retention.
    Invalid("uid-negative", "zfs", {"spec.owner.uid": -1}, "spec.owner.uid", "must be at least 0", RANGE),
    Invalid("uid-huge", "zfs", {"spec.owner.uid": 2**32 - 1}, "spec.owner.uid", "must be at most", RANGE),
    _ours("mode-text", "zfs", "spec.owner.mode", "rwx", "mode is three or four octal digits in quotes"),
    _ours("mode-digit", "zfs", "spec.owner.mode", "2778", "mode is three or four octal digits in quotes"),
    Invalid(
        "no-directories", "zfs", {"spec.dataDirs": []}, "spec.dataDirs", "has too few entries", "should have at least 1"
    ),
    _ours("star-and-more", "zfs", "spec.dataDirs", ["*", "input"], "dataDirs is either '*' alone"),
    _ours("directory-path", "zfs", "spec.dataDirs", ["input/raw"], "a name is one path component", "spec.dataDirs[0]"),
    _ours("directory-dots", "zfs", "spec.dataDirs", ["input", ".."], "a name is one path", "spec.dataDirs[1]"),
    _ours("directory-nul", "zfs", "spec.dataDirs", ["in\0put"], "a name is one path component", "spec.dataDirs[0]"),
    Invalid(
        "directory-twice", "zfs", {"spec.dataDirs": ["input", "input"]}, "spec.dataDirs", "input is listed twice", "Dup"
    ),
    _ours("suffix", "full", "spec.ignore.suffixes", ["tmp"], "a suffix is a dot", "spec.ignore.suffixes[0]"),
    _ours("ignored-path", "full", "spec.ignore.paths", ["/scratch"], "a path is relative", "spec.ignore.paths[0]"),
    _ours("ignored-up", "full", "spec.ignore.paths", ["a/../b"], "a path is relative", "spec.ignore.paths[0]"),
    Invalid(
        "user-twice",
        "full",
        {"spec.access.writers.users": ["a", "b", "a"]},
        "spec.access.writers.users",
        "twice",
        "Dup",
    ),
    _ours("user-empty", "full", "spec.access.readers.users", [""], "holds no control", "spec.access.readers.users[0]"),
    _ours("user-escape", "full", "spec.access.readers.users", ["a\x1b[2J"], "holds no control characters", "users[0]"),
    Invalid("keep-none", "full", {"spec.retention.keepLast": 0}, "spec.retention.keepLast", "at least 1", RANGE),
    _ours("version-name", "full", "spec.retention.named", ["v1"], "a version is written s1", "spec.retention.named[0]"),
    _ours("version-zero", "full", "spec.retention.named", ["s01"], "a version is written", "spec.retention.named[0]"),
    # StoragePool.
    Invalid(
        "capacity-zero", "pool", {"spec.thresholds.capacityPercent": 0}, "capacityPercent", "must be at least 1", RANGE
    ),
    Invalid(
        "capacity-beyond", "pool", {"spec.thresholds.capacityPercent": 101}, "capacityPercent", "at most 100", RANGE
    ),
    _ours(
        "label-key",
        "pool",
        "spec.namespaceSelector.matchLabels",
        {"my label": "x"},
        "a label's key is name or prefix/name",
        "spec.namespaceSelector.matchLabels",
    ),
    _ours(
        "label-value",
        "pool",
        "spec.namespaceSelector.matchLabels",
        {"team": "-data"},
        "a label's value has at most 63 letters",
        "spec.namespaceSelector.matchLabels",
    ),
    _ours(
        "label-without-value",
        "pool",
        "spec.namespaceSelector.matchLabels",
        {"team": None},
        'a key without a value: write "" for the empty value',
        "spec.namespaceSelector.matchLabels",
    ),
    _ours(
        "in-without-values",
        "xfspool",
        "spec.namespaceSelector.matchExpressions",
        [{"key": "team", "operator": "In"}],
        "In and NotIn need values",
        "spec.namespaceSelector.matchExpressions[0].values",
    ),
    _ours(
        "exists-with-values",
        "xfspool",
        "spec.namespaceSelector.matchExpressions",
        [{"key": "team", "operator": "Exists", "values": ["a"]}],
        "Exists and DoesNotExist have none",
        "spec.namespaceSelector.matchExpressions[0].values",
    ),
    # SyncTransaction.
    Invalid("init-with-base", "tx", {"spec.operation": "Init"}, "spec.base", "Init has no base"),
    Invalid("sync-without-base", "tx", {"spec.base": GONE}, "spec.base", "Sync and Restore need the version"),
    Invalid("sync-with-restore", "tx", {"spec.restore": "s3"}, "spec.restore", "others have none"),
    Invalid("sync-without-changes", "tx", {"spec.changes": GONE}, "spec.changes", "Init and Sync say what changes"),
    Invalid(
        "restore-of-nothing",
        "tx",
        {"spec.operation": "Restore", "spec.changes": GONE},
        "spec.restore",
        "Restore needs the version",
    ),
    Invalid(
        "restore-with-changes", "tx", {"spec.operation": "Restore", "spec.restore": "s3"}, "spec.changes", "do not"
    ),
    Invalid("read-with-changes", "tx", {"spec.operation": "Read"}, "spec.changes", "Restore and Read do not"),
    _ours("base-name", "tx", "spec.base", "41", "a version is written s1"),
    _ours("digest-short", "tx", "spec.changes.manifestDigest", "abc", "64 lower-case hexadecimal digits"),
    _ours("key-upper-case", "tx", "spec.clientKey", "F" * 64, "64 lower-case hexadecimal digits"),
    _ours("timeout-unit", "tx", "spec.timeout", "2 hours", "a duration is a whole number with s, m, h or d"),
    _ours("ttl-zero", "tx", "spec.ttlAfterFinished", "0s", "a duration is a whole number with s, m, h or d"),
    _ours("author-newline", "tx", "spec.author", "alice\nbob", "holds no control characters"),
    _ours("reference-slash", "tx", "spec.repositoryRef.name", "research/justice", "RFC 1123"),
    Invalid("files-negative", "tx", {"spec.changes.files": -1}, "spec.changes.files", "must be at least 0", RANGE),
    Invalid("size-huge", "tx", {"spec.changes.size": 2**53}, "spec.changes.size", "must be at most", RANGE),
    Invalid("message-long", "tx", {"spec.message": "m" * 4097}, "spec.message", "is too long", LONG),
)


@dataclass(frozen=True)
class InvalidUpdate:
    """A change that may not be made to a valid object."""

    name: str
    base: str
    patch: Mapping[str, Any]
    at: str
    says: str
    before: Mapping[str, Any] = field(default_factory=dict)
    """Changes to the base before it is created."""


def _fixed(base: str, at: str, value: Any, before: Mapping[str, Any] | None = None) -> InvalidUpdate:
    name = at.rpartition(".")[2]
    return InvalidUpdate(f"{base}-{name}", base, {at: value}, at, f"{name} can't be changed: ", before or {})


_ZFS_STORAGE = {
    "type": "zfs",
    "node": "node-b",
    "pool": "tank",
    "dataset": "tank/dsg/archive",
    "mountpoint": "/srv/dsg/archive",
    "properties": _ZFS_PROPERTIES,
}
_ENCRYPTION = {"algorithm": "aes-256-gcm", "keyFile": "/run/k"}
_ENDED = {"spec.intent": "Commit"}

INVALID_UPDATES: tuple[InvalidUpdate, ...] = (
    _fixed("zfs", f"{STORAGE}.node", "node-b"),
    _fixed("zfs", f"{STORAGE}.dataset", "tank/dsg/other"),
    _fixed("zfs", f"{STORAGE}.mountpoint", "/srv/dsg/other"),
    InvalidUpdate(
        "zfs-pool",
        "zfs",
        {f"{STORAGE}.pool": "tank2", f"{STORAGE}.dataset": "tank2/dsg/justice"},
        f"{STORAGE}.pool",
        "pool can't be changed: data does not move by editing a spec",
    ),
    _fixed("zfs", f"{STORAGE}.encryption", _ENCRYPTION),
    InvalidUpdate(
        "encryption-gone", "full", {f"{STORAGE}.encryption": GONE}, f"{STORAGE}.encryption", "ZFS decides encryption"
    ),
    InvalidUpdate(
        "other-key-file",
        "full",
        {f"{STORAGE}.encryption.keyFile": "/run/other"},
        f"{STORAGE}.encryption",
        "encryption can't be changed",
    ),
    InvalidUpdate(
        "other-cipher",
        "full",
        {f"{STORAGE}.encryption.algorithm": "aes-256-ccm"},
        f"{STORAGE}.encryption",
        "encryption can't be changed",
    ),
    _fixed("xfs", f"{STORAGE}.node", "node-a"),
    _fixed("xfs", f"{STORAGE}.directory", "/data/dsg/other"),
    _fixed("xfs", f"{STORAGE}.mountpoint", "/srv/dsg/other"),
    InvalidUpdate("xfs-to-zfs", "xfs", {STORAGE: _ZFS_STORAGE}, f"{STORAGE}.type", "type can't be changed: data does"),
    _fixed("pool", f"{STORAGE}.node", "node-b"),
    _fixed("pool", f"{STORAGE}.root", "tank/other"),
    _fixed("pool", f"{STORAGE}.mountRoot", "/srv/other"),
    InvalidUpdate(
        "pool-pool",
        "pool",
        {f"{STORAGE}.pool": "tank2", f"{STORAGE}.root": "tank2/dsg"},
        f"{STORAGE}.pool",
        "pool can't be changed: repositories rely on it; declare another StoragePool",
    ),
    InvalidUpdate(
        "zfs-pool-to-xfs",
        "pool",
        {STORAGE: {"type": "xfs", "node": "node-a", "directory": "/data/dsg", "mountRoot": "/srv/dsg"}},
        f"{STORAGE}.type",
        "type can't be changed: repositories rely on it",
    ),
    _fixed("xfspool", f"{STORAGE}.directory", "/data/other"),
    _fixed("xfspool", f"{STORAGE}.mountRoot", "/srv/other"),
    _fixed("tx", "spec.node", "node-b"),
    _fixed("tx", "spec.repositoryRef", {"name": "other"}),
    _fixed("tx", "spec.author", "mallory"),
    _fixed("tx", "spec.message", "other words"),
    InvalidUpdate("message-gone", "tx", {"spec.message": GONE}, "spec.message", "message can't be changed: "),
    InvalidUpdate(
        "message-added", "tx", {"spec.message": "late"}, "spec.message", "message can't", {"spec.message": GONE}
    ),
    _fixed("tx", "spec.base", "s42"),
    _fixed("tx", "spec.clientKey", "0" * 64),
    _fixed("tx", "spec.timeout", "9h"),
    _fixed("tx", "spec.ttlAfterFinished", "9d"),
    InvalidUpdate("other-changes", "tx", {"spec.changes.files": 9}, "spec.changes", "changes can't be changed: "),
    _fixed("tx", "spec.restore", "s8", restore()),
    InvalidUpdate("other-operation", "tx", restore(), "spec.operation", "operation can't be changed: "),
    InvalidUpdate(
        "commit-then-stage", "tx", {"spec.intent": "Stage"}, "spec.intent", "may only move on from Stage", _ENDED
    ),
    InvalidUpdate(
        "commit-then-abort", "tx", {"spec.intent": "Abort"}, "spec.intent", "can't be changed any more", _ENDED
    ),
    InvalidUpdate(
        "abort-then-default", "tx", {"spec.intent": GONE}, "spec.intent", "any more", {"spec.intent": "Abort"}
    ),
)

VALID: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "nulls-are-left-out": ("zfs", {"spec.suspend": None, "spec.ignore": None, "spec.nameRules": None}),
    "null-property": ("zfs", {f"{PROPERTIES}.sync": None, f"{PROPERTIES}.copies": None}),
    "null-adopt": ("xfs", {f"{STORAGE}.adopt": None}),
    "null-of-another-type": ("xfs", {f"{STORAGE}.pool": None, f"{STORAGE}.encryption": None}),
    "null-threshold": ("pool", {"spec.thresholds.scrubAgeDays": None}),
    "null-metadata": ("zfs", {"metadata.labels": None, "metadata.creationTimestamp": None}),
    "empty-ignore": ("zfs", {"spec.ignore": {}}),
    "empty-access": ("zfs", {"spec.access": {"readers": {}, "writers": {"users": []}}}),
    "no-limits": ("zfs", {f"{PROPERTIES}.quota": "none", f"{PROPERTIES}.refquota": "8191Pi"}),
    "equal-limits": ("zfs", {f"{PROPERTIES}.refquota": "512000Mi", f"{PROPERTIES}.reservation": "500Gi"}),
    "odd-dataset": ("zfs", {f"{STORAGE}.dataset": "tank/2026/_a:b.c-d"}),
    "longest-dataset": ("zfs", {f"{STORAGE}.dataset": "tank/" + "d" * 175}),
    "longest-node": ("zfs", {f"{STORAGE}.node": "n" * 63}),
    "longest-name": ("zfs", {"metadata.name": "j" * 63}),
    "dotted-name": ("zfs", {"metadata.name": "justice.v2"}),
    "root-owner": ("zfs", {"spec.owner": {"uid": 0, "gid": 4294967294, "mode": "755"}}),
    "everything": ("zfs", {"spec.dataDirs": ["*"]}),
    "names-of-other-scripts": ("zfs", {"spec.dataDirs": ["entrée", "数据", "a b", "...", "-r", "x" * 255]}),
    "longest-in-characters-not-bytes": ("full", {"spec.access.readers.users": ["\U0001f5c4" * 256]}),
    "compression-off": ("zfs", {f"{PROPERTIES}.compression": "off"}),
    "fast-compression": ("zfs", {f"{PROPERTIES}.compression": "zstd-fast-1000"}),
    "all-namespaces": ("pool", {"spec.namespaceSelector": {}}),
    "prefixed-label": ("pool", {"spec.namespaceSelector.matchLabels": {"example.org/team": ""}}),
    "longest-label": ("pool", {"spec.namespaceSelector.matchLabels": {"a" * 253 + "/" + "b" * 63: "c" * 63}}),
    "exists": ("pool", {"spec.namespaceSelector.matchExpressions": [{"key": "team", "operator": "Exists"}]}),
    "exists-with-none": (
        "pool",
        {"spec.namespaceSelector.matchExpressions": [{"key": "team", "operator": "DoesNotExist", "values": []}]},
    ),
    "init": ("tx", {"spec.operation": "Init", "spec.base": GONE}),
    "restore": ("tx", restore()),
    "no-message": ("tx", {"spec.message": GONE}),
    "message-of-lines": ("tx", {"spec.message": "one\ntwo\t\u00fc"}),
    "author-of-a-service": ("tx", {"spec.author": "system:serviceaccount:research:sync"}),
    "largest-size": ("tx", {"spec.changes.size": 2**53 - 1}),
}
"""Objects at the edge of what is allowed: base and patch."""

VALID_UPDATES: tuple[InvalidUpdate, ...] = (
    InvalidUpdate("nothing", "full", {}, "", ""),
    InvalidUpdate("quota", "zfs", {f"{PROPERTIES}.quota": "1Ti"}, "", ""),
    InvalidUpdate("property-added", "zfs", {f"{PROPERTIES}.sync": "always"}, "", ""),
    InvalidUpdate("adopt", "xfs", {f"{STORAGE}.adopt": True}, "", ""),
    InvalidUpdate("suspend", "zfs", {"spec.suspend": True}, "", ""),
    InvalidUpdate("policy", "full", {"spec.deletionPolicy": "Retain"}, "", ""),
    InvalidUpdate("owner", "xfs", {"spec.owner.uid": 7}, "", ""),
    InvalidUpdate("selector", "pool", {"spec.namespaceSelector": {}}, "", ""),
    InvalidUpdate("threshold-gone", "pool", {"spec.thresholds.scrubAgeDays": GONE}, "", ""),
    InvalidUpdate("commit", "tx", {"spec.intent": "Commit"}, "", ""),
    InvalidUpdate("abort", "tx", {"spec.intent": "Abort"}, "", ""),
    InvalidUpdate("abort-from-default", "tx", {"spec.intent": "Abort"}, "", "", {"spec.intent": GONE}),
    InvalidUpdate("message-of-nothing", "tx", {"spec.message": ""}, "", "", {"spec.message": ""}),
)
