"""Requests as Kubernetes understands them: path and method as verb, resource, namespace and name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import yaml

from demo.embedded import failures, patches
from demo.embedded.kinds import Kind
from demo.embedded.registry import Body
from demo.embedded.store import Where

_READ = ("application/json", "application/yaml")
_ITEM_VERBS = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_COLLECTION_VERBS = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about."""

    kind: Kind
    verb: str
    where: Where
    """The name is empty for a collection."""
    status: bool = False

    @property
    def namespace(self) -> str:
        """Return the namespace; empty for all or for none."""
        return self.where.namespace


def _group_version(parts: list[str]) -> tuple[str, str, list[str]]:
    if parts[:1] == ["api"] and len(parts) > 1:
        return "", parts[1], parts[2:]
    if parts[:1] == ["apis"] and len(parts) > 2:  # noqa: PLR2004  (apis, group, version)
        return parts[1], parts[2], parts[3:]
    raise failures.no_such_path()


def target(method: str, path: str, watch: bool, kinds: Mapping[tuple[str, str, str], Kind]) -> Target:
    """Return what a request to a resource is about. Raises ApiFailure (404, 405)."""
    group, version, rest = _group_version([unquote(part) for part in path.strip("/").split("/")])
    namespace = ""
    # `/api/v1/namespaces/NAME` and its subresources are about the namespace itself.
    if len(rest) > 2 and rest[0] == "namespaces" and (group, version, rest[2]) in kinds:  # noqa: PLR2004
        namespace, rest = rest[1], rest[2:]
    kind = kinds.get((group, version, rest[0])) if rest else None
    if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):  # noqa: PLR2004  (plural, name, subresource)
        raise failures.no_such_path()
    name, subresource = [*rest[1:], "", ""][:2]
    if subresource and (subresource != "status" or not kind.has_status):
        raise failures.not_found(kind.plural, kind.group, name)
    if name and kind.namespaced and not namespace:
        raise failures.no_such_path()
    verb = (_ITEM_VERBS if name else _COLLECTION_VERBS).get(method, "")
    if verb == "list" and watch:
        verb = "watch"
    if verb == "create" and kind.namespaced and not namespace:
        verb = ""
    if verb not in kind.verbs or (subresource and verb == "delete"):
        raise failures.not_allowed(
            f"{kind.resource} is served to be read only by the embedded API: it has the CRDs that it was started with"
            if kind.verbs == ("get", "list", "watch")
            else "the server does not allow this method on the requested resource"
        )
    return Target(kind, verb, Where(namespace, name), bool(subresource))


class _Fields(dict[str, Any]):
    """A JSON object that remembers which of its fields stood in it twice."""

    twice: tuple[str, ...] = ()


def _fields(pairs: list[tuple[str, Any]]) -> _Fields:
    found = _Fields(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        found.twice = tuple(dict.fromkeys(name for name in names if names.count(name) > 1))
    return found


def _doubled(value: Any, path: str) -> Iterable[str]:
    if isinstance(value, _Fields):
        for name in value.twice:
            yield f"{path}.{name}" if path else name
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _doubled(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _doubled(item, f"{path}[{number}]")


def body(content: bytes, media_type: str, kind: Kind, *, patch: bool) -> Body:
    """Return what a request's body holds. Raises ApiFailure (400, 415)."""
    if patch and media_type == patches.APPLY:
        return Body(None)
    if not patch and media_type not in _READ:
        raise failures.unsupported(_READ, _ADVICE if "protobuf" in media_type else "")
    try:
        if media_type == "application/yaml":
            return Body(yaml.safe_load(content))
        value = json.loads(content, object_pairs_hook=_fields)
    except (ValueError, yaml.YAMLError) as error:
        if patch:
            raise failures.bad_request(f"error decoding patch: {error}") from error
        text = f"the object provided is unrecognized (must be of type {kind.kind}): couldn't get version/kind; {error}"
        raise failures.bad_request(text) from error
    return Body(value, tuple(_doubled(value, "")))


_ADVICE = (
    " - the embedded API reads JSON and YAML, and this command of kubectl sends protobuf; apply a YAML file instead"
)
