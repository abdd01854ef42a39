"""What all resources share: strict models, object metadata, conditions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from dsg.api.rules import VALIDATIONS, Rule, matching

IMMUTABLE = "x-dsg-immutable"
"""In an object's schema: fields that never change, and why."""
FORWARD_ONLY = "x-dsg-forward-only"
"""In an object's schema: fields that may change once, and the value that they may leave."""
DISCRIMINATOR = "type"
"""The field that tells the members of a union apart."""
MAX_COUNT = 2**53 - 1
"""The largest integer that every JSON reader holds exactly (RFC 8259, section 6)."""


class Model(BaseModel):
    """A strict, frozen part of a resource: unknown fields are errors, nothing is coerced."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
        # Built when first used: a command uses few of all kinds, and building all took most of its start.
        defer_build=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    """Laws about the object as a whole."""

    immutable: ClassVar[dict[str, str]] = {}
    """Fields (by Python name) that never change once the object exists, each with the reason and the way out."""

    forward_only: ClassVar[dict[str, str]] = {}
    """Fields (by Python name) that may change once, away from the value given here."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, data: Any) -> Any:
        # The API server drops a null where a field does not allow it, before it looks at anything else.
        if not isinstance(data, dict) or None not in data.values():
            return data
        known = {name for key, field in cls.model_fields.items() for name in (key, field.alias)}
        return {key: value for key, value in data.items() if value is not None or key not in known}

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        broken = [
            InitErrorDetails(
                type=PydanticCustomError("rule", "{message}", {"message": rule.message}),
                loc=(rule.field,) if rule.field else (),
                input=self,
            )
            for rule in self.rules
            if not rule.check(self)
        ]
        if broken:
            raise ValidationError.from_exception_data(type(self).__name__, broken)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        result = handler.resolve_ref_schema(handler(schema))
        if cls.rules:
            result[VALIDATIONS] = [rule.as_validation() for rule in cls.rules]
        for key, table in ((IMMUTABLE, cls.immutable), (FORWARD_ONLY, cls.forward_only)):
            if table:
                result[key] = {cls.alias_of(name): text for name, text in table.items()}
        return result

    @classmethod
    def alias_of(cls, name: str) -> str:
        """Return a field's name as specs write it."""
        return cls.model_fields[name].alias or name

    def forbidden_changes(self, old: Any) -> list[tuple[str, str]]:
        """Return what an update from `old` to this object would break: the Python twin of the CRDs' transition rules.

        Each is the path of a field below this object, as specs write it, and what is wrong.
        """
        if not isinstance(old, Model):
            return []
        if type(self) is not type(old):
            # Another member of the union: the other fields differ because the type does.
            why = self.immutable.get(DISCRIMINATOR)
            return [(DISCRIMINATOR, never(DISCRIMINATOR, why))] if why else []
        found = []
        for name in type(self).model_fields:
            alias, mine, theirs = self.alias_of(name), getattr(self, name), getattr(old, name)
            if name in self.immutable:
                if mine != theirs:
                    found.append((alias, never(alias, self.immutable[name])))
            elif name in self.forward_only:
                if mine != theirs and theirs != self.forward_only[name]:
                    found.append((alias, only_from(alias, self.forward_only[name])))
            elif isinstance(mine, Model):
                found.extend((f"{alias}.{path}", message) for path, message in mine.forbidden_changes(theirs))
        return found


def never(field: str, why: str) -> str:
    """Return the message about a field that never changes."""
    return f"{field} can't be changed: {why}"


def only_from(field: str, start: str) -> str:
    """Return the message about a field that changes once."""
    return f"{field} can't be changed any more: it may only move on from {start}, once"


class StatusModel(Model):
    """A part of a status: written by operators only, so a reader tolerates fields of a newer one."""

    model_config = ConfigDict(extra="ignore")


ObjectName = Annotated[
    str,
    Field(max_length=253),
    matching(
        "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        "a name holds lower-case letters, digits, '-' and '.' and begins and ends with a letter or digit "
        "(RFC 1123 subdomain)",
    ),
]
"""An object's name, as Kubernetes itself demands it."""


class ObjectMeta(Model):
    """Kubernetes object metadata: what this project reads of it, and the rest by name so that misspellings show."""

    name: ObjectName
    """Name of the object, unique in its namespace among objects of its kind."""
    namespace: str | None = None
    """Namespace of the object; absent for kinds that belong to the whole cluster."""
    uid: str = ""
    """Identity that Kubernetes gave the object: a deleted and re-created one has another."""
    generation: int = 0
    """Counts changes of the spec."""
    resource_version: str = ""
    """Changes with every write of the object."""
    creation_timestamp: str = ""
    """When the object was created (RFC 3339)."""
    deletion_timestamp: str | None = None
    """When deletion was asked for (RFC 3339); absent while the object is to stay."""
    deletion_grace_period_seconds: int | None = None
    """Kubernetes' own."""
    finalizers: list[str] = Field(default_factory=list)
    """Who must agree before the object goes."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Notes of people and tools, and requests to the operator."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels to select objects by."""
    owner_references: list[dict[str, Any]] = Field(default_factory=list)
    """Objects that this one belongs to."""
    managed_fields: list[dict[str, Any]] = Field(default_factory=list)
    """Who wrote which field."""
    generate_name: str | None = None
    """Beginning of a name that the API server completed."""
    self_link: str | None = None
    """Path of the object on older API servers."""


class Condition(StatusModel):
    """One observation about the object (Kubernetes API conventions, "typical status properties")."""

    type: Annotated[str, Field(max_length=316)]
    """Name of the condition: a state, such as Ready."""
    status: Literal["True", "False", "Unknown"]
    """Whether the state holds."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """metadata.generation that the condition was computed from."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When `status` last changed (RFC 3339)."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why, as one stable word; docs/reference/conditions.md lists them all."""
    message: Annotated[str, Field(max_length=32768)]
    """Why, for a person: what is so, and what to do."""


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
