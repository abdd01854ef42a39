"""What all resources share: strict models, object metadata, conditions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from dsg.api.rules import VALIDATIONS, Rule


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
        # The docstring of a union's member or a shared type is not the description of the field that uses it.
        json_schema_serialization_defaults_required=False,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    """Laws about the object as a whole."""

    immutable: ClassVar[dict[str, str]] = {}
    """Fields (by Python name) that never change once the object exists, each with the reason and the way out."""

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        broken = [rule.message for rule in self.rules if not rule.check(self)]
        if broken:
            raise PydanticCustomError("rule", "{message}", {"message": "; ".join(broken)})
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        result = handler.resolve_ref_schema(handler(schema))
        own = [rule.as_validation() for rule in cls.rules] + list(cls.transition_validations())
        if own:
            result[VALIDATIONS] = own
        return result

    @classmethod
    def transition_validations(cls) -> list[dict[str, str]]:
        """Return the CEL rules that keep `immutable` fields; optional ones may not come or go either."""
        found = []
        for name, why in cls.immutable.items():
            alias = cls.model_fields[name].alias or name
            if cls.model_fields[name].is_required():
                rule = f"self.{alias} == oldSelf.{alias}"
            else:
                rule = f"has(self.{alias}) == has(oldSelf.{alias}) && (!has(self.{alias}) || self.{alias} == oldSelf.{alias})"
            found.append({"rule": rule, "message": f"{alias} can't be changed: {why}"})
        return found

    def forbidden_changes(self, old: Any) -> list[str]:
        """Return what an update from `old` to this object would break: the Python twin of the transition rules."""
        found = []
        if isinstance(old, type(self)):
            for name, why in self.immutable.items():
                if getattr(self, name) != getattr(old, name):
                    found.append(f"{type(self).model_fields[name].alias or name} can't be changed: {why}")
            for name in type(self).model_fields:
                mine, theirs = getattr(self, name), getattr(old, name)
                if isinstance(mine, Model):
                    found.extend(mine.forbidden_changes(theirs))
        return found


class StatusModel(Model):
    """A part of a status: written by operators only, so a reader tolerates fields of a newer one."""

    model_config = ConfigDict(extra="ignore")


class ObjectMeta(Model):
    """Kubernetes object metadata: what this project reads of it, and the rest by name so that misspellings show."""

    name: str
    namespace: str | None = None
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: list[str] = Field(default_factory=list)
    annotations: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    owner_references: list[dict[str, Any]] = Field(default_factory=list)
    managed_fields: list[dict[str, Any]] = Field(default_factory=list)
    generate_name: str | None = None
    self_link: str | None = None


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
