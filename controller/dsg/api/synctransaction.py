"""SyncTransaction: one attempt to move a repository's head from one version to the next."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dsg.api.base import MAX_COUNT, Conditions, Model, ObjectMeta, StatusModel
from dsg.api.rules import Digest, Duration, NodeName, PersonName, Rule, Version, matching

_ONE_ATTEMPT = "a transaction is one attempt; open a new one"


class RepositoryRef(Model):
    """A repository in the transaction's namespace."""

    name: Annotated[
        str,
        Field(max_length=63),
        matching("[a-z0-9]([-a-z0-9.]*[a-z0-9])?", "a repository's name is an RFC 1123 subdomain"),
    ]
    """Name of the Repository."""


class Changes(Model):
    """What the transaction brings, counted by the client and verified by the node."""

    manifest_digest: Digest
    """Digest of the new version's tree: of its manifest without authors and versions (`tree` in docs/manifests.md)."""
    files: Annotated[int, Field(ge=0, le=MAX_COUNT)]
    """Files in the new version."""
    added: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 0
    """Paths that are new."""
    changed: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 0
    """Paths whose content or attributes differ from the base."""
    deleted: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 0
    """Paths of the base that are gone."""
    size: Annotated[int, Field(ge=0, le=MAX_COUNT)]
    """Bytes of content in the new version."""


class SyncTransactionSpec(Model):
    """What the client asks for. Everything but `intent` stands from the beginning."""

    repository_ref: RepositoryRef
    """Repository whose head the transaction moves."""
    node: NodeName
    """Storage node of the repository; its operator selects the transaction by this field."""
    operation: Literal["Init", "Sync", "Restore", "Read"]
    """Init makes the first version, Sync the next one, Restore makes an old version the next one. Read changes nothing:
    it lets the client read one version.
    """
    author: PersonName
    """Who makes the change, or reads: the requester's own name."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """Why, for the log."""
    base: Version | None = None
    """Version that the change was made from: the head as the client saw it; for Read, the version to read. None for
    Init.
    """
    restore: Version | None = None
    """For Restore: the old version."""
    client_key: Digest
    """SHA-256 fingerprint of the client's TLS certificate for this transaction."""
    changes: Changes | None = None
    """What it brings; needed for Init and Sync."""
    intent: Literal["Stage", "Commit", "Abort"] = "Stage"
    """What the client wants now: stage content (or read), commit it, or give up. Only Stage may become something else,
    once. Whoever has read enough says Abort.
    """
    timeout: Duration
    """How long the transaction may stay open; then it is aborted."""
    ttl_after_finished: Duration
    """How long the object is kept after its end."""

    rules = (
        Rule(
            "(self.operation == 'Init') == !has(self.base)",
            "Init has no base; Sync and Restore need the version they start from, Read the one to read",
            lambda v: (v.operation == "Init") == (v.base is None),
            field="base",
        ),
        Rule(
            "(self.operation == 'Restore') == has(self.restore)",
            "Restore needs the version to restore; others have none",
            lambda v: (v.operation == "Restore") == (v.restore is not None),
            field="restore",
        ),
        Rule(
            "(self.operation in ['Restore', 'Read']) != has(self.changes)",
            "Init and Sync say what changes; Restore and Read do not",
            lambda v: (v.operation in {"Restore", "Read"}) != (v.changes is not None),
            field="changes",
        ),
    )
    immutable: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            "repository_ref",
            "node",
            "operation",
            "author",
            "message",
            "base",
            "restore",
            "client_key",
            "changes",
            "timeout",
            "ttl_after_finished",
        ),
        _ONE_ATTEMPT,
    )
    forward_only: ClassVar[dict[str, str]] = {"intent": "Stage"}


class Endpoint(StatusModel):
    """Where the node serves the transaction's content."""

    url: str
    """Address of the data plane."""
    certificate_fingerprint: Digest
    """SHA-256 fingerprint of the server's certificate."""


class Conflict(StatusModel):
    """One path that both sides changed."""

    path: Annotated[str, Field(max_length=4096)]
    """Path from the repository's root."""
    state: Annotated[str, Field(max_length=64)]
    """What both sides did to it, as one of DSG's sync states: L is this transaction, C its base, R the head."""


class Conflicts(StatusModel):
    """Paths that keep the transaction from committing."""

    total: Annotated[int, Field(ge=0, le=MAX_COUNT)]
    """How many there are."""
    items: Annotated[list[Conflict], Field(max_length=50, json_schema_extra={"x-kubernetes-list-type": "atomic"})]
    """The first fifty of them, by path."""


class Timing(StatusModel):
    """How long one step took."""

    step: Annotated[str, Field(max_length=64)]
    """Name of the step."""
    milliseconds: Annotated[int, Field(ge=0, le=MAX_COUNT)]
    """How long it took, in milliseconds."""


class SyncTransactionStatus(StatusModel):
    """How far it has come."""

    observed_generation: int = -1
    """metadata.generation that this status describes; -1 until an operator has looked."""
    phase: (
        Literal[
            "Pending",
            "Staging",
            "Serving",
            "Verifying",
            "Committing",
            "Committed",
            "Closed",
            "Conflict",
            "Aborted",
            "Expired",
            "Failed",
        ]
        | None
    ) = None
    """Where the transaction stands."""
    conditions: Conditions = Field(default_factory=list)
    """Observations; docs/reference/conditions.md says what each reason means and what to do."""
    endpoint: Endpoint | None = None
    """Where content goes to, or is read from, while the transaction is open."""
    version: Version | None = None
    """The version that was committed."""
    rebased_onto: Version | None = None
    """The version that it was put on top of, where others had committed since its base."""
    opened_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """When it could take content (RFC 3339)."""
    finished_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """When it ended (RFC 3339); ttlAfterFinished counts from then."""
    conflicts: Conflicts | None = None
    """What keeps it from committing."""
    timings: Annotated[list[Timing], Field(max_length=50, json_schema_extra={"x-kubernetes-list-type": "atomic"})] = (
        Field(default_factory=list)
    )
    """How long each step took."""


class SyncTransaction(Model):
    """One attempt to move a repository's head from a base version to the next, wholly or not at all."""

    api_version: Literal["dsg.hrdag.org/v1alpha1"]
    """Group and version of the schema that this object follows."""
    kind: Literal["SyncTransaction"]
    """Kind of object."""
    metadata: ObjectMeta
    """Name, namespace, labels and annotations."""
    spec: SyncTransactionSpec
    """What the client asks for."""
    status: SyncTransactionStatus | None = None
    """How far it has come; written by the node's operator alone."""
