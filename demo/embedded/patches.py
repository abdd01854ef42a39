"""Patches: JSON Merge Patch (RFC 7396) and JSON Patch (RFC 6902)."""

from __future__ import annotations

import copy
from http import HTTPStatus
from typing import Any

import jsonpatch
import jsonpointer

from demo.embedded.failures import ApiFailure, bad_request, unsupported

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
_NO_APPLY = "; server-side apply is not served by the embedded API, use kubectl apply without --server-side"


def merged(target: Any, patch: Any) -> Any:
    """Return a value with a merge patch applied (RFC 7396, section 2)."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, item in patch.items():
        if item is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), item)
    return result


def _directives(patch: Any) -> bool:
    if isinstance(patch, dict):
        return any(str(name).startswith("$") or _directives(item) for name, item in patch.items())
    return isinstance(patch, list) and any(_directives(item) for item in patch)


def applied(target: dict[str, Any], patch: Any, media_type: str, *, custom: bool) -> Any:
    """Return an object with a patch applied.

    A strategic merge patch of Kubernetes' own kinds is taken as a merge patch; its list directives are refused. Raises
    ApiFailure: 415 for a kind of patch that is not served, 400 for one that can't be read, 422 for one that fails.
    """
    accepted = [JSON_PATCH, MERGE_PATCH] + ([] if custom else [STRATEGIC])
    if media_type not in accepted:
        raise unsupported(accepted, _NO_APPLY if media_type == APPLY else "")
    if media_type == JSON_PATCH:
        return _json_patched(target, patch)
    if media_type == STRATEGIC and _directives(patch):
        raise unsupported(accepted, "; directives of strategic merge patches are not served by the embedded API")
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a merge patch is a JSON object")
    return merged(target, patch)


def _json_patched(target: dict[str, Any], patch: Any) -> Any:
    try:
        return jsonpatch.JsonPatch(patch).apply(target)
    except (jsonpatch.JsonPatchConflict, jsonpatch.JsonPatchTestFailed, jsonpointer.JsonPointerException) as error:
        text = f"the server rejected our request due to an error in our request: {error}"
        raise ApiFailure(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", text, {}) from error
    except (jsonpatch.InvalidJsonPatch, TypeError) as error:
        raise bad_request(f"error decoding patch: {error}") from error
