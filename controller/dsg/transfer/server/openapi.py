"""The OpenAPI description of the server, made from the tables of routes and codes.

`python -m dsg.transfer.server.openapi` writes docs/reference/openapi.yaml and the table of codes in docs/data-plane.md;
with `--check` it only tells whether they are current.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dsg.transfer.problems import ABOUT, Code
from dsg.transfer.server.routes import ALWAYS, BY_MODE, DIGEST, ROUTES, UID, Body, Mode, Query, Route
from dsg.transfer.server.version import SEGMENT_PATTERN
from dsg.transfer.tls import MAX_CERTIFICATE

_ROOT = Path(__file__).parents[4]
OPENAPI = Path("docs/reference/openapi.yaml")
GUIDE = Path("docs/data-plane.md")
_BEGIN = "<!-- codes: generated -->\n"
_END = "<!-- end of codes -->\n"

_BYTES = "application/octet-stream"
_JSON = "application/json"


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    required = [name for name in properties if not properties[name].pop("optional", False)]
    return {"type": "object", "properties": properties, "required": required}


def _string(pattern: str = "", **more: Any) -> dict[str, Any]:
    return {"type": "string", **({"pattern": f"^{pattern}$"} if pattern else {}), **more}


def _integer(says: str) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "description": says}


def _binary(says: str) -> dict[str, Any]:
    return {"type": "string", "format": "binary", "description": says}


_PATH_SCHEMA: dict[str, Any] = {
    "description": "A path as manifests write it: text, or its bytes in hexadecimal where they are not UTF-8.",
    "oneOf": [_string(), {**_object(hex=_string("([0-9a-f]{2})+")), "additionalProperties": False}],
}
_BODIES: dict[Body, tuple[str, dict[str, Any]]] = {
    Body.CERTIFICATE: ("application/x-pem-file", _string(maxLength=MAX_CERTIFICATE)),
    Body.DIGESTS: ("text/plain", _string(f"({DIGEST}\\n)*", description="Lines of 64 hexadecimal digits.")),
    Body.PATHS: (
        "application/x-ndjson",
        _string(description='Lines of JSON, {"path": …}, each path as manifests write it.'),
    ),
    Body.PATH: (_JSON, {**_object(path=_PATH_SCHEMA), "additionalProperties": False}),
    Body.FRAMES: (
        _BYTES,
        _binary(
            "Frames: 1 byte kind (1 content, 0 problem), 32 bytes BLAKE3 or zeros, 8 bytes size (big-endian), then so "
            "many bytes. A problem is the JSON of schema Problem, and comes in answers only."
        ),
    ),
    Body.CHUNKS: (_BYTES, _binary("For each chunk 32 bytes BLAKE3 and 4 bytes length (big-endian), in order.")),
    Body.INDEXES: (_BYTES, _binary("Indexes into the list of chunks, 4 bytes each (big-endian), rising.")),
    Body.BYTES: (_BYTES, _binary("Bytes of a file.")),
    Body.CHANGES: ("application/x-ndjson", _string(description="Change lines, as docs/manifests.md has them.")),
    Body.HEADER: (_JSON, {"type": "object", "description": "A header line, as docs/manifests.md has it."}),
    Body.SEGMENT: (_BYTES, _binary("Header lines.")),
    Body.GRANT: (
        _JSON,
        _object(
            mode=_string(enum=["read", "write"]),
            namespace=_string(),
            repository=_string(),
            expires={"type": "number", "description": "Seconds since 1970."},
            version=_string("s[1-9][0-9]*", optional=True),
            sizeLimit={**_integer("Bytes that may be sent in all."), "optional": True},
        ),
    ),
    Body.PARAMETERS: (
        _JSON,
        _object(
            chunking=_object(
                algorithm=_string(),
                minimum=_integer("Bytes of a chunk at least, but for the last."),
                average=_integer("Bytes of a chunk, about."),
                maximum=_integer("Bytes of a chunk at most."),
                digest=_string(),
            ),
            largeFrom=_integer("Bytes from which on a file travels by chunks."),
            maxBatch=_integer("Digests or paths in a request at most."),
            maxBatchBytes=_integer("Bytes of them at most."),
            maxChunks=_integer("Chunks in a list at most."),
            idleSeconds={"type": "number", "description": "Seconds without progress after which a connection ends."},
            requestsPerAuthor=_integer("Requests of one author that are carried out at a time."),
        ),
    ),
    Body.STORED: (_JSON, _object(stored=_integer("Contents, or bytes of a large file, that are there now."))),
    Body.CHANGE_COUNT: (_JSON, _object(changes=_integer("Lines that were stored."))),
    Body.COMPLETED: (
        _JSON,
        _object(
            contents=_integer("Contents that are there."),
            changes={"type": "boolean", "description": "Whether a list of changes is there."},
        ),
    ),
    Body.ALIVE: (_JSON, _object(status=_string(), version=_string())),
    Body.DESCRIPTION: (_JSON, {"type": "object"}),
}


def _problem() -> dict[str, Any]:
    return {
        "description": "Why something was not done.",
        **_object(
            error=_string(enum=[str(code) for code in Code]),
            message=_string(description="What happened and what to do, for a person."),
            path={**_PATH_SCHEMA, "optional": True},
        ),
    }


@cache
def description() -> dict[str, Any]:
    """Return the description (OpenAPI 3.1)."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        at = paths.setdefault(route.path, {})
        method = route.method.lower()
        at[method] = _merged(at[method], _operation(route)) if method in at else _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dsg data plane",
            "version": "v1",
            "description": "How contents of versions travel between a storage node and a working copy. Clients come "
            "with the TLS certificate that their SyncTransaction names, and know the server by the fingerprint in its "
            "status.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Problem": _problem()},
            "securitySchemes": {"certificate": {"type": "mutualTLS"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters = [
        _parameter(name, pattern)
        for name, pattern in (("uid", UID), ("digest", DIGEST), ("segment", SEGMENT_PATTERN))
        if f"{{{name}}}" in route.path
    ]
    if route.query is not None:
        parameters.append(_query(route.query))
    found: dict[str, Any] = {
        "operationId": route.name,
        "description": route.says,
        "security": [] if route.mode in {Mode.NOBODY, Mode.INTRODUCTION} else [{"certificate": []}],
        "responses": _responses(route),
    }
    if parameters:
        found["parameters"] = parameters
    if route.body is not Body.NONE:
        media, schema = _BODIES[route.body]
        found["requestBody"] = {"required": True, "content": {media: {"schema": schema}}}
    return found


def _parameter(name: str, pattern: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _string(pattern)}


def _query(query: Query) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1} if query.number else _string()
    return {"name": query.name, "in": "query", "required": query.required, "description": query.says, "schema": schema}


def _responses(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if route.answer is Body.NONE:
        found["204"] = {"description": "It was done."}
    else:
        media, schema = _BODIES[route.answer]
        found["200"] = {"description": "It was done.", "content": {media: {"schema": schema}}}
        if Code.RANGE in route.codes:
            found["206"] = {"description": "The part that was asked for.", "content": {media: {"schema": schema}}}
    by_status: dict[int, list[Code]] = {}
    # Whose part in braces is not formed as it must be is no address.
    misspelt = {Code.NO_ROUTE} if "{" in route.path else set()
    for code in sorted({*ALWAYS, *BY_MODE[route.mode], *route.codes, *misspelt}):
        by_status.setdefault(ABOUT[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        found[str(status)] = {
            "description": "; ".join(f"`{code}`: {ABOUT[code].means}" for code in codes),
            "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return dict(sorted(found.items()))


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return two operations at one address as one: which of them it is, the transaction's mode decides."""
    responses = {**second["responses"], **first["responses"]}
    for status in first["responses"].keys() & second["responses"].keys():
        one, other = first["responses"][status], second["responses"][status]
        said = list(dict.fromkeys([*one["description"].split("; "), *other["description"].split("; ")]))
        responses[status] = {"description": "; ".join(said), "content": {**one["content"], **other["content"]}}
    return {
        **first,
        "operationId": f"{first['operationId']}Or{second['operationId'][0].upper()}{second['operationId'][1:]}",
        "description": f"{first['description']} {second['description']}",
        "requestBody": {
            "required": True,
            "content": {**first["requestBody"]["content"], **second["requestBody"]["content"]},
        },
        "responses": dict(sorted(responses.items())),
    }


def as_yaml() -> str:
    """Return the description as docs/reference has it."""
    head = "# Made from controller/dsg/transfer/server/routes.py by `python -m dsg.transfer.server.openapi`.\n"
    return head + yaml.dump(description(), sort_keys=False, allow_unicode=True, width=120, Dumper=_NoAliases)


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def table_of_codes() -> str:
    """Return the table of codes as docs/data-plane.md has it."""
    rows = [
        f"| `{code}` | {about.status} | {about.means} | {about.advice} |\n" for code, about in sorted(ABOUT.items())
    ]
    return "| code | status | means | what to do |\n|---|---|---|---|\n" + "".join(rows)


def with_codes(guide: str) -> str:
    """Return the guide with the current table of codes between its two marks."""
    before, _, rest = guide.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{table_of_codes()}{_END}{after}"


def main(arguments: list[str]) -> int:
    """Write the files, or tell which are not current. Returns the exit code."""
    guide = _ROOT / GUIDE
    wanted = {_ROOT / OPENAPI: as_yaml(), guide: with_codes(guide.read_text())}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in arguments:
        for path in stale:
            print(
                f"{path.relative_to(_ROOT)} is not current; run `python -m dsg.transfer.server.openapi`",
                file=sys.stderr,
            )
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path])
        print(f"wrote {path.relative_to(_ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
