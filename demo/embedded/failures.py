"""What the API server refuses, as Status objects (Kubernetes API conventions, "Response Status Kind")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong with one field."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"

    def as_json(self) -> dict[str, str]:
        """Return the cause as `status.details.causes` has it."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


class ApiFailure(Exception):
    """Raised when a request is refused; knows the answer."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self) -> dict[str, Any]:
        """Return the Status object."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details is not None:
            status["details"] = self.details
        return {**status, "code": self.code}


def _about(name: str, group: str, kind: str) -> dict[str, Any]:
    details = {"name": name, "group": group, "kind": kind}
    return {key: value for key, value in details.items() if value}


def qualified(word: str, group: str) -> str:
    """Return a plural or a kind with its group: `repositories.dsg.hrdag.org`, `events`."""
    return f"{word}.{group}" if group else word


def not_found(plural: str, group: str, name: str) -> ApiFailure:
    """Return the failure for an object that does not exist."""
    text = f'{qualified(plural, group)} "{name}" not found'
    return ApiFailure(HTTPStatus.NOT_FOUND, "NotFound", text, _about(name, group, plural))


def no_such_path() -> ApiFailure:
    """Return the failure for a path that is no resource."""
    return ApiFailure(HTTPStatus.NOT_FOUND, "NotFound", "the server could not find the requested resource")


def already_exists(plural: str, group: str, name: str) -> ApiFailure:
    """Return the failure for creating what exists."""
    text = f'{qualified(plural, group)} "{name}" already exists'
    return ApiFailure(HTTPStatus.CONFLICT, "AlreadyExists", text, _about(name, group, plural))


def conflict(word: str, group: str, name: str, why: str) -> ApiFailure:
    """Return the failure for a write that is based on something old."""
    text = f'Operation cannot be fulfilled on {qualified(word, group)} "{name}": {why}'
    return ApiFailure(HTTPStatus.CONFLICT, "Conflict", text, _about(name, group, word))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def bad_request(message: str) -> ApiFailure:
    """Return the failure for a request that can't be understood."""
    return ApiFailure(HTTPStatus.BAD_REQUEST, "BadRequest", message)


def not_allowed(message: str) -> ApiFailure:
    """Return the failure for a method that a resource does not have."""
    return ApiFailure(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", message)


def forbidden(plural: str, group: str, name: str, why: str) -> ApiFailure:
    """Return the failure for something that the present state forbids."""
    text = f'{qualified(plural, group)} "{name}" is forbidden: {why}'
    return ApiFailure(HTTPStatus.FORBIDDEN, "Forbidden", text, _about(name, group, plural))


def unauthorized() -> ApiFailure:
    """Return the failure for a request without a known token."""
    return ApiFailure(HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized")


def unsupported(accepted: Sequence[str], more: str = "") -> ApiFailure:
    """Return the failure for a body of a kind that is not read."""
    text = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return ApiFailure(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", text + more)


def too_old(wanted: int, oldest: int) -> ApiFailure:
    """Return the failure for a watch that begins before what is remembered."""
    return ApiFailure(HTTPStatus.GONE, "Expired", f"too old resource version: {wanted} ({oldest})")


def expired_continue() -> ApiFailure:
    """Return the failure for the rest of a list that is no longer remembered."""
    text = "The provided continue parameter is too old to display a consistent list result. Start a new list"
    return ApiFailure(HTTPStatus.GONE, "Expired", text)


_BLOCKING = {
    "FieldValueRequired",
    "FieldValueNotSupported",
    "FieldValueTooLong",
    "FieldValueTooMany",
    "FieldValueTypeInvalid",
}
_NOT_CHECKED = (
    "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing "
    "errors to complete validation"
)


def blocks_rules(causes: Sequence[Cause]) -> bool:
    """Return whether an object is so wrong that rules about its values are not tried."""
    return any(cause.reason in _BLOCKING for cause in causes)


def rules_not_checked() -> Cause:
    """Return the cause that says so."""
    return Cause("<nil>", _NOT_CHECKED)


def invalid(word: str, group: str, name: str, causes: Sequence[Cause]) -> ApiFailure:
    """Return the failure for an object that breaks its schema or rules."""
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    said = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = {**_about(name, group, word), "causes": [cause.as_json() for cause in causes]}
    text = f'{qualified(word, group)} "{name}" is invalid: {said}'
    return ApiFailure(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", text, details)
