"""What create, update, patch and delete mean: the API server's behaviour between HTTP and the store.

Follows k8s.io/apiserver (registry/rest, registry/generic) and the Kubernetes API conventions, "Metadata" and
"Concurrency Control and Consistency".
"""

from __future__ import annotations

import copy
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from demo.embedded import failures, metadata, patches, rules
from demo.embedded.failures import ApiFailure, Cause
from demo.embedded.kinds import Kind
from demo.embedded.store import Obj, Store, Where
from demo.embedded.structural import Validator, pruned, set_defaults

NAMESPACES = "namespaces"
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class Write:
    """How a write is to be done."""

    validation: str = "Warn"
    """What unknown fields come to: Strict, Warn or Ignore."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """An object as a client sent it, and the fields that stood in it twice."""

    content: Any
    doubled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The object that a request ended with, and warnings for the client."""

    obj: Obj
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Laws:
    """Rules about a kind's objects that its schema can't say."""

    rule: rules.Rule = rules.nothing
    change_rule: rules.ChangeRule = rules.nothing


class Registry:
    """Reads and writes objects of every kind that is served."""

    def __init__(
        self,
        kinds: Iterable[Kind],
        store: Store,
        laws: Mapping[str, Laws],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`laws` are by resource."""
        self.kinds = {(kind.group, kind.version, kind.plural): kind for kind in kinds}
        self.store = store
        self.clock = clock
        self._laws = {"events": Laws(rules.event), "leases.coordination.k8s.io": Laws(rules.lease), **laws}
        self._validators = {kind.resource: Validator(kind.schema) for kind in self.kinds.values()}

    def _now(self) -> str:
        return self.clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    # --- reading

    def get(self, kind: Kind, where: Where) -> Obj:
        """Return an object. Raises ApiFailure (404)."""
        found = self.store.get(kind.resource, where)
        if found is None:
            raise failures.not_found(kind.plural, kind.group, where.name)
        return found

    def objects(self, kind: Kind, namespace: str) -> list[Obj]:
        """Return the objects of a namespace, or all with an empty one."""
        found = self.store.all(kind.resource)
        return [obj for where, obj in found if not namespace or where.namespace == namespace]

    # --- creating

    def create(self, kind: Kind, namespace: str, body: Body, how: Write) -> Answer:
        """Create an object. Raises ApiFailure."""
        obj, warnings = self._decoded(kind, body, how)
        meta = obj["metadata"]
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + "".join(secrets.choice(_SUFFIX) for _ in range(5))
        self._place(kind, meta, namespace)
        if meta.pop("resourceVersion", ""):
            text = "resourceVersion should not be set on objects to be created"
            raise ApiFailure(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", text)
        for name in metadata.SYSTEM:
            meta.pop(name, None)
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": self._now()}
        if kind.counts_generations:
            meta["generation"] = 1
        if kind.has_status:
            obj.pop("status", None)
            set_defaults(kind.schema, obj)
        if kind.resource == NAMESPACES:
            self._complete_namespace(obj)
        where = Where(namespace, meta.get("name", ""))
        self._check(kind, obj, None)
        if namespace:
            self._check_namespace(kind, namespace, where.name)
        if self.store.get(kind.resource, where) is not None:
            raise failures.already_exists(kind.plural, kind.group, where.name)
        if how.dry_run:
            return Answer(obj, warnings)
        return Answer(self.store.put(kind.resource, where, obj), warnings)

    def _place(self, kind: Kind, meta: Obj, namespace: str) -> None:
        if meta.setdefault("namespace", namespace) != namespace:
            if not kind.namespaced:
                raise failures.bad_request("namespace should not be set on cluster-scoped objects")
            raise failures.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if not namespace:
            del meta["namespace"]

    def _complete_namespace(self, obj: Obj) -> None:
        name = obj["metadata"].get("name", "")
        obj["metadata"]["labels"] = {**obj["metadata"].get("labels", {}), "kubernetes.io/metadata.name": name}
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        found = self.store.get(NAMESPACES, Where("", namespace))
        if found is None:
            raise failures.not_found(NAMESPACES, "", namespace)
        if found["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise failures.forbidden(kind.plural, kind.group, name, why)

    # --- changing

    def update(self, kind: Kind, where: Where, body: Body, how: Write, *, status: bool = False) -> Answer:
        """Replace an object, or its status alone. Raises ApiFailure."""
        obj, warnings = self._decoded(kind, body, how)
        self._place(kind, obj["metadata"], where.namespace)
        old = self.get(kind, where)
        return Answer(self._replace(kind, where, old, obj, how, status=status), warnings)

    def patch(
        self, kind: Kind, where: Where, patch: Body, media_type: str, how: Write, *, status: bool = False
    ) -> Answer:
        """Patch an object, or its status alone. Raises ApiFailure."""
        old = self.get(kind, where)
        content = patches.applied(copy.deepcopy(old), patch.content, media_type, custom=kind.custom)
        obj, warnings = self._decoded(kind, Body(content, patch.doubled), how)
        return Answer(self._replace(kind, where, old, obj, how, status=status), warnings)

    def _replace(self, kind: Kind, where: Where, old: Obj, obj: Obj, how: Write, *, status: bool) -> Obj:
        self._same_object(kind, where, old, obj)
        new = {**old, "status": obj.get("status", {})} if status else self._prepared(kind, old, obj)
        if new == old:
            return old
        self._check(kind, new, old)
        if how.dry_run:
            return new
        meta = new["metadata"]
        if meta.get("deletionTimestamp") and not meta.get("finalizers") and kind.resource != NAMESPACES:
            return self._remove(kind, where, new)
        return self.store.put(kind.resource, where, new)

    def _same_object(self, kind: Kind, where: Where, old: Obj, obj: Obj) -> None:
        before, after = old["metadata"], obj["metadata"]
        if after.get("name") != where.name:
            text = f"the name of the object ({after.get('name', '')}) does not match the name on the URL ({where.name})"
            raise failures.bad_request(text)
        version = after.get("resourceVersion", "")
        if not version and kind.resource != NAMESPACES:
            causes = [Cause("metadata.resourceVersion", "Invalid value: 0: must be specified for an update")]
            raise failures.invalid(kind.plural, kind.group, where.name, causes)
        if version and version != before["resourceVersion"]:
            raise failures.conflict(kind.plural, kind.group, where.name, failures.MODIFIED)
        if after.get("uid", before["uid"]) != before["uid"]:
            text = f'Invalid value: "{after["uid"]}": field is immutable'
            raise failures.invalid(kind.kind, kind.group, where.name, [Cause("metadata.uid", text)])

    def _prepared(self, kind: Kind, old: Obj, obj: Obj) -> Obj:
        new = {**obj, "metadata": {key: v for key, v in obj["metadata"].items() if key not in metadata.SYSTEM}}
        kept = (*metadata.SYSTEM, "resourceVersion")
        new["metadata"] |= {key: old["metadata"][key] for key in kept if key in old["metadata"]}
        if kind.has_status or kind.resource == NAMESPACES:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        if kind.resource == NAMESPACES:
            new["spec"] = old["spec"]
            name = old["metadata"]["name"]
            new["metadata"]["labels"] = {**new["metadata"].get("labels", {}), "kubernetes.io/metadata.name": name}
        if kind.counts_generations and _content(new) != _content(old):
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        return new

    # --- deleting

    def delete(self, kind: Kind, where: Where, preconditions: Mapping[str, str], *, dry_run: bool = False) -> Obj:
        """Delete an object, or mark it while finalizers keep it.

        Returns the object that remains for now, or a Status when it is gone. Raises ApiFailure.
        """
        old = self.get(kind, where)
        for key, word in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            wanted, found = preconditions.get(key), old["metadata"][key]
            if wanted is not None and wanted != found:
                why = (
                    f"the {word} in the precondition ({wanted}) does not match the {word} in record ({found}). The "
                    "object might have been deleted and then recreated"
                )
                raise failures.conflict(kind.kind, kind.group, where.name, why)
        if kind.resource == NAMESPACES:
            return old if dry_run else self._delete_namespace(kind, where, old)
        if old["metadata"].get("finalizers"):
            return old if dry_run else self._mark(kind, where, old)
        if not dry_run:
            self._remove(kind, where, old)
        return _success(kind, old)

    def _mark(self, kind: Kind, where: Where, old: Obj, **more: Any) -> Obj:
        meta = old["metadata"]
        if meta.get("deletionTimestamp"):
            return old
        marked = {**meta, "deletionTimestamp": self._now(), "deletionGracePeriodSeconds": 0}
        if "generation" in meta:
            marked["generation"] = meta["generation"] + 1
        return self.store.put(kind.resource, where, {**old, "metadata": marked, **more})

    def _remove(self, kind: Kind, where: Where, last: Obj) -> Obj:
        gone = self.store.remove(kind.resource, where, last)
        self._finish_namespace(where.namespace)
        return gone

    def _delete_namespace(self, kind: Kind, where: Where, old: Obj) -> Obj:
        marked = self._mark(kind, where, old, status={"phase": "Terminating"})
        # On a real cluster the namespace controller does this.
        for other in self.kinds.values():
            if other.namespaced:
                for obj in self.objects(other, where.name):
                    self.delete(other, Where(where.name, obj["metadata"]["name"]), {})
        self._finish_namespace(where.name)
        return marked

    def _finish_namespace(self, name: str) -> None:
        where = Where("", name)
        found = self.store.get(NAMESPACES, where) if name else None
        if found is None or not found["metadata"].get("deletionTimestamp"):
            return
        if not any(self.objects(kind, name) for kind in self.kinds.values() if kind.namespaced):
            self.store.remove(NAMESPACES, where, found)

    # --- checking

    def _decoded(self, kind: Kind, body: Body, how: Write) -> tuple[Obj, tuple[str, ...]]:
        content = body.content
        if not isinstance(content, dict) or not isinstance(content.get("metadata", {}), dict):
            raise failures.bad_request(f"the object provided is unrecognized (must be of type {kind.kind})")
        content = {**content, "metadata": dict(content.get("metadata") or {})}
        self._check_type(kind, content)
        unknown: list[str] = []
        obj = pruned(kind.schema, content, unknown)
        # Who set which field is not kept here. Empty maps and lists are left out, as they are on the wire.
        meta = {
            key: value for key, value in obj["metadata"].items() if key != "managedFields" and value not in ({}, [])
        }
        obj["metadata"] = meta
        set_defaults(kind.schema, obj)
        said = tuple(f'unknown field "{path}"' for path in sorted(unknown))
        said += tuple(f'duplicate field "{path}"' for path in body.doubled)
        if said and how.validation == "Strict":
            raise failures.bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: strict decoding error: '
                + ", ".join(said)
            )
        return obj, said if how.validation == "Warn" else ()

    def _check_type(self, kind: Kind, content: Obj) -> None:
        if not content.get("kind"):
            raise failures.bad_request(
                f"the object provided is unrecognized (must be of type {kind.kind}): Object 'Kind' is missing"
            )
        version = content.get("apiVersion")
        if version != kind.api_version:
            text = (
                f"the API version in the data ({version}) does not match the expected API version ({kind.api_version})"
            )
            raise failures.bad_request(text)
        if content["kind"] != kind.kind:
            name = str(content["metadata"].get("name", ""))
            text = f'Invalid value: "{content["kind"]}": must be {kind.kind}'
            raise failures.invalid(str(content["kind"]), kind.group, name, [Cause("kind", text)])

    def _check(self, kind: Kind, obj: Obj, old: Obj | None) -> None:
        schema_causes = self._validators[kind.resource].causes(obj)
        readable = not any(cause.field.startswith("metadata") for cause in schema_causes)
        found = metadata.causes(kind.kind, obj) if readable else []
        if old is not None and readable:
            found += metadata.change_causes(obj, old)
        found += schema_causes
        if failures.blocks_rules(schema_causes):
            found.append(failures.rules_not_checked())
        else:
            # What the schema has found is not told twice: neither a field nor the list whose item it is.
            told = {field for cause in schema_causes for field in (cause.field, cause.field.partition("[")[0])}
            laws = self._laws.get(kind.resource, Laws())
            found += [cause for cause in laws.rule(obj) if cause.field not in told]
            if old is not None and not found:
                found += laws.change_rule(obj, old)
        if found:
            raise failures.invalid(kind.kind, kind.group, obj["metadata"].get("name", ""), found)


def _content(obj: Obj) -> Obj:
    return {key: value for key, value in obj.items() if key not in {"metadata", "status"}}


def _success(kind: Kind, obj: Obj) -> Obj:
    details = {"name": obj["metadata"]["name"], "group": kind.group, "kind": kind.plural, "uid": obj["metadata"]["uid"]}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }
