"""Rules that hold in Kubernetes and in Python alike: a CEL expression, its Python twin, and one message for both.

A `Rule` in a field's `Annotated` metadata checks that field's value; rules in a model's `rules` check the whole object.
The CRD generator finds them as `x-kubernetes-validations`; pydantic runs `check`. tests/api/test_invalid_specs.py holds
both sides to the same table of bad specs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

VALIDATIONS = "x-kubernetes-validations"
LIST_TYPE = "x-kubernetes-list-type"
PATTERN = "x-dsg-pattern"
"""In a string's schema: the pattern of a `matching` rule, for editors."""
REFUSED = "x-dsg-refused"
"""In a union's schema: refused types and the advice for each."""


@dataclass(frozen=True)
class Rule:
    """One law about a value.

    `cel` is a Common Expression Language rule on `self` (Kubernetes: CustomResourceDefinition validation rules);
    `check` returns whether a value that has its type keeps the law; `message` says what is wrong and what is right.
    """

    cel: str
    message: str
    check: Callable[[Any], bool]
    field: str = ""
    """For a rule on an object: the field, as specs write it, that a person would correct; errors point there."""
    pattern: str = ""
    """Regular expression that says the same, where one does."""

    def as_validation(self) -> dict[str, str]:
        """Return the rule as an item of `x-kubernetes-validations`."""
        found = {"rule": self.cel, "message": self.message}
        if self.field:
            found["fieldPath"] = f".{self.field}"
        return found

    def enforce(self, value: Any) -> Any:
        """Return the value, or raise pydantic's error with the rule's message."""
        if not self.check(value):
            # Braces would be read as placeholders of the error's context.
            raise PydanticCustomError("rule", "{message}", {"message": self.message})
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.enforce, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        result = handler(schema)
        result.setdefault(VALIDATIONS, []).append(self.as_validation())
        if self.pattern:
            result[PATTERN] = {"pattern": self.pattern, "message": self.message}
        return result


def cel_string(text: str) -> str:
    """Return text as a CEL string literal."""
    return json.dumps(text, ensure_ascii=False)


def matching(pattern: str, message: str) -> Rule:
    """Return the rule that a string matches a pattern as a whole. The pattern keeps to what RE2 and Python share."""
    compiled = re.compile(pattern, re.ASCII)
    return Rule(
        cel=f"self.matches({cel_string(f'^(?:{pattern})$')})",
        message=message,
        check=lambda value: compiled.fullmatch(value) is not None,
        pattern=f"^(?:{pattern})$",
    )


class Distinct:
    """Stands in a list's `Annotated` metadata: no item comes twice. The API server knows such lists as sets."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def enforce(value: list[Any]) -> list[Any]:
            twice = [item for number, item in enumerate(value) if item in value[:number]]
            if twice:
                raise PydanticCustomError("rule", "{message}", {"message": f"{twice[0]} is listed twice"})
            return value

        return core_schema.no_info_after_validator_function(enforce, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        result = handler(schema)
        result[LIST_TYPE] = "set"
        return result


class NoBlankValues:
    """Stands in a mapping's `Annotated` metadata: a key without a value is an error.

    Else the API server drops the key, and a selector whose only label lost its value selects everything.
    """

    message = 'a key without a value: write "" for the empty value'

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def enforce(value: Any) -> Any:
            blank = [key for key, item in value.items() if item is None] if isinstance(value, dict) else []
            if blank:
                told = PydanticCustomError("rule", "{message}", {"message": self.message})
                raise ValidationError.from_exception_data(
                    type(self).__name__, [InitErrorDetails(type=told, loc=(key,), input=None) for key in blank]
                )
            return value

        return core_schema.no_info_before_validator_function(enforce, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        result = handler(schema)
        # Nullable, so that the null lives until the rule sees it; CEL takes it for a string unless told otherwise.
        result["additionalProperties"]["nullable"] = True
        rule = "self.all(k, dyn(self[k]) != null)"
        result.setdefault(VALIDATIONS, []).append({"rule": rule, "message": self.message})
        return result


@dataclass(frozen=True)
class Refused:
    """Types of a discriminated union that are recognised and refused, each with advice.

    Stands in the union's `Annotated` metadata. The CRD generator finds them under `REFUSED`. A null in another
    member's field is left out, as by the API server, for which the union is one object.
    """

    advice: Mapping[str, str]
    discriminator: str = "type"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        known = {info.alias or name for member in get_args(source) for name, info in member.model_fields.items()}

        def refuse(value: Any) -> Any:
            if not isinstance(value, dict):
                return value
            kind = value.get(self.discriminator)
            if isinstance(kind, str) and kind in self.advice:
                told = PydanticCustomError("rule", "{message}", {"message": self.advice[kind]})
                where = InitErrorDetails(type=told, loc=(self.discriminator,), input=kind)
                raise ValidationError.from_exception_data(type(self).__name__, [where])
            return {key: item for key, item in value.items() if item is not None or key not in known}

        return core_schema.no_info_before_validator_function(refuse, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        result = handler(schema)
        result[REFUSED] = dict(self.advice)
        return result


NodeName = Annotated[
    str,
    Field(max_length=63),
    matching(
        "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        "a node is named by lower-case letters, digits and '-', as in its --node option (RFC 1123 label)",
    ),
]
"""A storage node's name (RFC 1123 label: it becomes part of a finalizer and of a Lease's name)."""

Version = Annotated[
    str,
    Field(max_length=12),
    matching("s[1-9][0-9]*", "a version is written s1, s2, s3 and so on"),
]
"""A committed version's name."""

Duration = Annotated[
    str,
    Field(max_length=8),
    matching("[1-9][0-9]*(s|m|h|d)", "a duration is a whole number with s, m, h or d, such as 30m"),
]
"""A length of time."""

PersonName = Annotated[
    str,
    Field(max_length=256),
    matching("[^\\x00-\\x1f\\x7f]+", "a user or group name holds no control characters"),
]
"""A user's or group's name as Kubernetes authenticates it."""

Digest = Annotated[
    str,
    Field(max_length=64),
    matching("[0-9a-f]{64}", "a digest or fingerprint is 64 lower-case hexadecimal digits"),
]
"""A BLAKE3 digest or a SHA-256 fingerprint."""

PoolName = Annotated[
    str,
    Field(max_length=100),
    matching(
        "[A-Za-z][A-Za-z0-9_.:-]*",
        "a pool's name begins with a letter and holds letters, digits and _ . : - only (zpool-create(8))",
    ),
    Rule(
        "!(self in ['mirror', 'raidz', 'draid', 'spare', 'log'])",
        "mirror, raidz, draid, spare and log are no pool names (zpool-create(8))",
        lambda v: v not in {"mirror", "raidz", "draid", "spare", "log"},
    ),
]
"""The name of an imported ZFS pool."""

_COMPONENT = "[A-Za-z0-9_][A-Za-z0-9_.:-]*"

DatasetName = Annotated[
    str,
    Field(max_length=180),
    matching(
        f"[A-Za-z][A-Za-z0-9_.:-]*(/{_COMPONENT})+",
        "a dataset is written pool/name or pool/path/name, of letters, digits and _ . : -, "
        "without snapshot or trailing '/'",
    ),
]
"""A dataset's full name. 180 leaves room for generations and versions below it (ZFS allows 255)."""

AbsolutePath = Annotated[
    str,
    Field(max_length=1024),
    matching(
        "(/[^/\\x00-\\x1f\\x7f]+)+",
        "a path is absolute, without '//', trailing '/', or control characters",
    ),
    Rule(
        "!self.split('/').exists(c, c == '.' || c == '..')",
        "a path holds no '.' or '..'",
        lambda v: not {".", ".."} & set(v.split("/")),
    ),
]
"""An absolute path on a storage node."""


MountPath = Annotated[
    AbsolutePath,
    Rule(
        "!self.contains('/.')",
        "no component of a mountpoint begins with '.': such names beside it are the operator's own",
        lambda v: "/." not in v,
    ),
]
"""The path at which researchers on the node find a repository."""


def below(path: str, root: str) -> bool:
    """Return whether a path or dataset lies strictly below a root, by whole components."""
    return path.startswith(root.rstrip("/") + "/")


def overlap(one: str, other: str) -> bool:
    """Return whether two paths or datasets are the same or one lies below the other."""
    return one == other or below(one, other) or below(other, one)


def apart(one: str, other: str) -> Rule:
    """Return the rule that two paths of an object, named as specs write them, don't overlap; it points to `other`."""
    a, b = f"self.{one}", f"self.{other}"

    def check(value: Any) -> bool:
        mine = {info.alias or name: getattr(value, name) for name, info in type(value).model_fields.items()}
        return not overlap(mine[one], mine[other])

    return Rule(
        f"{a} != {b} && !{a}.startsWith({b} + '/') && !{b}.startsWith({a} + '/')",
        f"{one} and {other} can't be the same or lie in one another",
        check,
        field=other,
    )
