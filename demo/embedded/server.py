"""The HTTP side of the embedded API: who asks, what for, and how the answer is written."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from aiohttp import web

from demo.embedded import discovery, failures, requests, tables
from demo.embedded.failures import ApiFailure
from demo.embedded.kinds import Kind
from demo.embedded.listing import Pages
from demo.embedded.openapi import OpenApi
from demo.embedded.registry import Registry, Write
from demo.embedded.requests import Target
from demo.embedded.selectors import ObjectTest, field_selector, label_selector
from demo.embedded.watching import Event, WatchOptions, check, watch

_LARGEST_BODY = 3 * 1024 * 1024
"""Bytes of the largest request that the real server takes too."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who a token speaks for."""

    name: str
    groups: tuple[str, ...]


Refuse = Callable[[Person, Target], ApiFailure | None]
"""Says whether a request is to be refused without being looked at: how tests let the server fail."""
Audit = Callable[[dict[str, Any]], None]
"""Takes each request as an audit.k8s.io/v1 Event."""


def _seconds(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in {"true", "1"}


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "0") or "0"
    if not text.isdigit():
        raise failures.bad_request(f"{name} is a number, not {text!r}")
    return int(text)


def _wants_table(request: web.Request) -> bool:
    for offer in request.headers.get("Accept", "").split(","):
        words = {word.strip() for word in offer.split(";")}
        if words >= {"as=Table", "v=v1", "g=meta.k8s.io"}:
            return True
        if words in ({"application/json"}, {"*/*"}):
            return False
    return False


class Server:
    """Answers requests."""

    def __init__(self, registry: Registry, people: Mapping[str, Person], audit: Audit, refuse: Refuse) -> None:
        """`people` are by bearer token."""
        self._refuse = refuse
        self._registry = registry
        self._people = people
        self._audit = audit
        self._pages = Pages()
        self._openapi = OpenApi(registry.kinds.values())

    def application(self) -> web.Application:
        """Return the application to be served."""
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        entry = self._entry(request)
        try:
            response = await self._routed(request, entry)
        except ApiFailure as failure:
            response = self._json(failure.status(), failure.code)
        except web.HTTPRequestEntityTooLarge:
            text = f"limit is {_LARGEST_BODY} bytes"
            large = ApiFailure(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLarge", text)
            response = self._json(large.status(), large.code)
        if "responseStatus" not in entry:
            self._note(entry, response.status)
        return response

    # --- audit

    def _entry(self, request: web.Request) -> dict[str, Any]:
        return {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": str(uuid.uuid4()),
            "stage": "ResponseComplete",
            "requestURI": request.path_qs,
            "verb": request.method.lower(),
            "user": {"username": "system:anonymous"},
            "userAgent": request.headers.get("User-Agent", ""),
            "requestReceivedTimestamp": _seconds(self._registry.clock()),
        }

    def _note(self, entry: dict[str, Any], code: int) -> None:
        entry["responseStatus"] = {"code": code}
        entry["stageTimestamp"] = _seconds(self._registry.clock())
        self._audit(entry)

    # --- routing

    def _person(self, request: web.Request) -> Person:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        person = self._people.get(token.strip()) if scheme.lower() == "bearer" else None
        if person is None:
            raise failures.unauthorized()
        return person

    async def _routed(self, request: web.Request, entry: dict[str, Any]) -> web.StreamResponse:
        path = request.path.rstrip("/") or "/"
        if path in {"/healthz", "/livez", "/readyz"}:
            return web.Response(text="ok")
        person = self._person(request)
        entry["user"] = {"username": person.name, "groups": list(person.groups)}
        if request.method == "GET" and (document := self._document(request, path)) is not None:
            return document
        if request.method == "POST" and path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":
            return self._json(_review(person), HTTPStatus.CREATED)
        if request.method == "POST" and path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
            # kubectl asks in protobuf; what is asked makes no difference.
            return self._json(_access_review(), HTTPStatus.CREATED)
        target = requests.target(
            request.method, request.raw_path.partition("?")[0], _flag(request.query, "watch"), self._registry.kinds
        )
        kind, where = target.kind, target.where
        entry["verb"] = target.verb
        entry["objectRef"] = {"resource": kind.plural, "apiGroup": kind.group, "apiVersion": kind.version}
        entry["objectRef"] |= {"namespace": where.namespace, "name": where.name}
        entry["objectRef"]["subresource"] = "status" if target.status else ""
        if (refused := self._refuse(person, target)) is not None:
            raise refused
        match target.verb:
            case "get":
                return self._object(request, kind, self._registry.get(kind, where))
            case "list":
                return self._list(request, target)
            case "watch":
                return await self._watch(request, target, entry)
            case "deletecollection":
                return self._delete_collection(request, target)
            case "delete":
                return await self._delete(request, target)
            case _:
                return await self._write(request, target, entry)

    def _document(self, request: web.Request, path: str) -> web.Response | None:
        kinds = list(self._registry.kinds.values())
        parts = path.strip("/").split("/")
        if path in {"/api", "/apis"} and "as=APIGroupDiscoveryList" in request.headers.get("Accept", ""):
            return self._json(discovery.aggregated(kinds, core=path == "/api"), media_type=discovery.AGGREGATED)
        match parts:
            case ["version"]:
                return self._json(discovery.VERSION)
            case ["api"]:
                return self._json(discovery.api_versions())
            case ["apis"]:
                return self._json(discovery.group_list(kinds))
            case ["openapi", "v3"]:
                return self._json(self._openapi.index())
            case ["openapi", "v3", *place] if (content := self._openapi.documents.get("/".join(place))) is not None:
                return web.Response(body=content, content_type="application/json")
            case ["apis", group] if group in (groups := discovery.groups(kinds)):
                return self._json(groups[group])
            case ["api", version]:
                return self._resources("", version)
            case ["apis", group, version]:
                return self._resources(group, version)
            case _:
                return None

    def _resources(self, group: str, version: str) -> web.Response | None:
        found = discovery.resources(self._registry.kinds.values(), group, version)
        return self._json(found) if found["resources"] else None

    # --- answers

    def _json(
        self,
        content: Any,
        code: int = HTTPStatus.OK,
        warnings: tuple[str, ...] = (),
        media_type: str = "application/json",
    ) -> web.Response:
        response = web.Response(body=json.dumps(content, separators=(",", ":")).encode(), status=code)
        response.headers["Content-Type"] = media_type
        response.headers["Cache-Control"] = "no-cache, private"
        for warning in warnings:
            response.headers.add("Warning", f"299 - {json.dumps(warning)}")
        return response

    def _object(
        self,
        request: web.Request,
        kind: Kind,
        obj: Mapping[str, Any],
        code: int = HTTPStatus.OK,
        warnings: tuple[str, ...] = (),
    ) -> web.Response:
        if _wants_table(request) and obj.get("kind") != "Status":
            metadata = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            include = request.query.get("includeObject", "Metadata")
            obj = tables.table(kind, [obj], metadata, self._registry.clock(), include)
        return self._json(obj, code, warnings)

    def _selected(self, request: web.Request, kind: Kind) -> ObjectTest:
        labels = label_selector(request.query.get("labelSelector", ""))
        fields = field_selector(request.query.get("fieldSelector", ""), kind.fields)
        return lambda obj: labels(obj) and fields(obj)

    def _list(self, request: web.Request, target: Target) -> web.Response:
        kind, query = target.kind, request.query
        test, limit = self._selected(request, kind), _number(query, "limit")
        if token := query.get("continue", ""):
            page = self._pages.next(token, limit)
        else:
            items = [obj for obj in self._registry.objects(kind, target.namespace) if test(obj)]
            selective = bool(query.get("labelSelector") or query.get("fieldSelector"))
            page = self._pages.first(items, self._registry.store.revision, limit, selective=selective)
        if _wants_table(request):
            include = query.get("includeObject", "Metadata")
            return self._json(tables.table(kind, page.items, page.metadata, self._registry.clock(), include))
        listed = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": page.metadata}
        return self._json({**listed, "items": list(page.items)})

    async def _watch(self, request: web.Request, target: Target, entry: dict[str, Any]) -> web.StreamResponse:
        kind, query = target.kind, request.query
        options = WatchOptions(
            resource_version=query.get("resourceVersion", ""),
            resource_version_match=query.get("resourceVersionMatch", ""),
            send_initial=query.get("sendInitialEvents", "").lower(),
            bookmarks=_flag(query, "allowWatchBookmarks") and not _wants_table(request),
            timeout=float(_number(query, "timeoutSeconds") or 3600),
        )
        check(options)
        events = watch(self._registry, kind, target.namespace, self._selected(request, kind), options)
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        response.enable_chunked_encoding()
        await response.prepare(request)
        self._note(entry, response.status)
        headed = True
        async for event in events:
            content = self._watched(request, kind, event, headed=headed)
            headed = False
            await response.write(json.dumps(content, separators=(",", ":")).encode() + b"\n")
        return response

    def _watched(self, request: web.Request, kind: Kind, event: Event, *, headed: bool) -> dict[str, Any]:
        type_, obj = event
        if _wants_table(request) and type_ != "ERROR":
            metadata = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            include = request.query.get("includeObject", "Metadata")
            obj = tables.table(kind, [obj], metadata, self._registry.clock(), include, headed=headed)
        return {"type": type_, "object": obj}

    # --- writes

    def _how(self, query: Mapping[str, str]) -> Write:
        validation, dry_run = query.get("fieldValidation") or "Warn", query.get("dryRun", "")
        if validation not in {"Strict", "Warn", "Ignore"}:
            raise failures.bad_request(f"fieldValidation is Strict, Warn or Ignore, not {validation!r}")
        if dry_run not in {"", "All"}:
            raise failures.bad_request(f"dryRun is All or nothing, not {dry_run!r}")
        return Write(validation, dry_run == "All")

    async def _write(self, request: web.Request, target: Target, entry: dict[str, Any]) -> web.Response:
        kind, where, how = target.kind, target.where, self._how(request.query)
        media_type = request.content_type
        body = requests.body(await request.read(), media_type, kind, patch=target.verb == "patch")
        code = HTTPStatus.OK
        if target.verb == "create":
            answer, code = self._registry.create(kind, where.namespace, body, how), HTTPStatus.CREATED
        elif target.verb == "update":
            answer = self._registry.update(kind, where, body, how, status=target.status)
        else:
            answer = self._registry.patch(kind, where, body, media_type, how, status=target.status)
        entry["objectRef"]["name"] = answer.obj["metadata"]["name"]
        return self._object(request, kind, answer.obj, code, answer.warnings)

    async def _delete(self, request: web.Request, target: Target) -> web.Response:
        content = await request.read()
        options = json.loads(content) if content and request.content_type == "application/json" else {}
        dry_run = self._how(request.query).dry_run or options.get("dryRun") == ["All"]
        left = self._registry.delete(target.kind, target.where, options.get("preconditions") or {}, dry_run=dry_run)
        return self._object(request, target.kind, left)

    def _delete_collection(self, request: web.Request, target: Target) -> web.Response:
        kind, test = target.kind, self._selected(request, target.kind)
        dry_run = self._how(request.query).dry_run
        found = [obj for obj in self._registry.objects(kind, target.namespace) if test(obj)]
        for obj in found:
            meta = obj["metadata"]
            self._registry.delete(
                kind, type(target.where)(meta.get("namespace", ""), meta["name"]), {}, dry_run=dry_run
            )
        metadata = {"resourceVersion": str(self._registry.store.revision)}
        listed = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata}
        return self._json({**listed, "items": found})


def _access_review() -> dict[str, Any]:
    """Answer whether somebody may do something: here everybody may do everything."""
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {},
        "spec": {},
        "status": {"allowed": True, "reason": "the embedded API has no rules of access"},
    }


def _review(person: Person) -> dict[str, Any]:
    info = {"username": person.name, "groups": [*person.groups, "system:authenticated"]}
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {},
        "status": {"userInfo": info},
    }
