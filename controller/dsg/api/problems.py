"""What is wrong with an object, in words for the person who wrote it."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union

from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dsg.api.base import DISCRIMINATOR, Model
from dsg.api.structural import flat, foreign_field

_CLOSE = 0.6
"""Likeness from which a field name is taken for a misspelling (difflib's ratio)."""
_VERY_CLOSE = 0.8


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the path of the field, as specs write it, and what to do about it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def problems(model: type[Model], error: ValidationError) -> list[Problem]:
    """Return what a failed validation of `model` found, in the order of the fields."""
    return [_problem(model, details) for details in error.errors(include_url=False)]


@dataclass(slots=True)
class _Place:
    """Where an error's location leads in the models."""

    path: str = ""
    annotation: Any = None
    """Type of what is there; None where the models know nothing."""
    owner: type[Model] | None = None
    """Model that has the field, or should."""
    field: FieldInfo | None = None
    siblings: Mapping[str, type[Model]] = dataclasses.field(default_factory=dict)
    """When the owner is a member of a union: all members by their tag."""


def _core(annotation: Any) -> Any:
    """Return a type without its metadata and without the choice of None."""
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation = typing.get_args(annotation)[0]
            continue
        if typing.get_origin(annotation) in {Union, types.UnionType}:
            choices = [choice for choice in typing.get_args(annotation) if choice is not type(None)]
            if len(choices) == 1:
                annotation = choices[0]
                continue
        return annotation


def _members(annotation: Any) -> dict[str, type[Model]]:
    """Return the members of a union on `type` by their tags; empty for any other type."""
    if typing.get_origin(annotation) not in {Union, types.UnionType}:
        return {}
    found = {}
    for choice in map(_core, typing.get_args(annotation)):
        if not _is_model(choice):
            return {}
        for tag in typing.get_args(choice.model_fields[DISCRIMINATOR].annotation):
            found[tag] = choice
    return found


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Model)


def _fields(model: type[Model]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _locate(model: type[Model], location: Iterable[int | str]) -> _Place:
    place = _Place(annotation=model)
    siblings: Mapping[str, type[Model]] = {}
    for part in location:
        here = _core(place.annotation)
        if part in (members := _members(here)):
            place.annotation, siblings = members[str(part)], members
            continue
        if isinstance(part, int):
            place.path += f"[{part}]"
        elif part != "[key]":
            place.path += f".{part}" if place.path else part
        if _is_model(here):
            place.owner, place.siblings, siblings = here, siblings, {}
            place.field = _fields(here).get(str(part))
            place.annotation = place.field.annotation if place.field else None
        elif part != "[key]":
            arguments = typing.get_args(here)
            place.annotation = arguments[-1] if arguments else None
    return place


def _problem(model: type[Model], error: ErrorDetails) -> Problem:
    place = _locate(model, error["loc"])
    path, kind = place.path, error["type"]
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        tags = list(_members(_core(place.annotation)))
        path = f"{path}.{DISCRIMINATOR}"
        if kind == "union_tag_not_found":
            return Problem(path, f"is required: one of {', '.join(tags)}")
        return Problem(path, _choice(tags, error["ctx"]["tag"]))
    return Problem(path, _message(model, place, error))


def _message(model: type[Model], place: _Place, error: ErrorDetails) -> str:
    context: Mapping[str, Any] = error.get("ctx", {})
    value = error["input"]
    match error["type"]:
        case "rule":
            return str(context["message"])
        case "missing":
            return _missing(place, str(error["loc"][-1]))
        case "extra_forbidden":
            return _unknown(model, place, str(error["loc"][-1]))
        case "literal_error":
            return _choice(list(typing.get_args(_core(place.annotation))), value)
        case "string_type":
            return _not_text(value)
        case "int_type" | "int_from_float":
            return "must be a whole number" + (", without quotes" if isinstance(value, str) else "")
        case "bool_type":
            return "must be true or false" + (", without quotes" if isinstance(value, str) else "")
        case "list_type":
            return "must be a list: each item on a line of its own that begins with '- '"
        case "model_type" | "model_attributes_type" | "dict_type":
            return _not_mapping(place)
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "string_too_long":
            return f"is too long: it may have {context['max_length']} characters"
        case "string_too_short":
            return f"is too short: it must have {context['min_length']} characters or more"
        case "too_long":
            return f"has too many entries: {context['max_length']} are allowed"
        case "too_short":
            return f"has too few entries: {context['min_length']} or more are needed"
        case _:
            return error["msg"]


def _missing(place: _Place, name: str) -> str:
    needing = [tag for tag, member in place.siblings.items() if _needs(member, name)]
    types_ = f" for type {' and '.join(needing)}" if needing and len(needing) < len(place.siblings) else ""
    about = flat(place.field.description) if place.field and place.field.description else ""
    return f"is required{types_}: {about}" if about else f"is required{types_}"


def _needs(model: type[Model], name: str) -> bool:
    info = _fields(model).get(name)
    return info is not None and info.is_required()


def _unknown(model: type[Model], place: _Place, name: str) -> str:
    owners = [tag for tag, member in place.siblings.items() if name in _fields(member)]
    if owners:
        return foreign_field(name, owners)
    known = list(_fields(place.owner)) if place.owner else []
    plain = {candidate.lower(): candidate for candidate in known}
    guess = plain.get(to_camel(name).lower()) or plain.get(name.replace("-", "").lower())
    if guess is None:
        elsewhere = [path for path in _paths(model) if not path.startswith("status.")]
        # Right name, wrong place; or misspelt here; or misspelt elsewhere.
        at_home = [path for path in elsewhere if path.rpartition(".")[2] == name]
        near = difflib.get_close_matches(name, known, n=1, cutoff=_CLOSE)
        far = difflib.get_close_matches(name, [path.rpartition(".")[2] for path in elsewhere], n=1, cutoff=_VERY_CLOSE)
        guess = " or ".join(dict.fromkeys(at_home)) or next(iter(near), None)
        guess = guess or next((path for path in elsewhere if path.rpartition(".")[2] in far), None)
    return f"unknown field; did you mean {guess}?" if guess else f"unknown field; known here: {', '.join(known)}"


def _paths(model: type[Model], prefix: str = "") -> Iterator[str]:
    """Return the path of every field of a model that is not inside a list."""
    for name, info in _fields(model).items():
        path = f"{prefix}.{name}" if prefix else name
        yield path
        inner = _core(info.annotation)
        for member in _members(inner).values() or ([inner] if _is_model(inner) else []):
            yield from _paths(member, path)


def _choice(options: list[Any], value: Any) -> str:
    known = [str(option) for option in options]
    text = known[0] if len(known) == 1 else f"one of {', '.join(known)}"
    if isinstance(value, bool):
        words = [word for word in (("on", "yes") if value else ("off", "no")) if word in known]
        return f'must be {text}; write "{words[0]}" in quotes: {_BARE}' if words else f"must be {text}"
    plain = {option.lower(): option for option in known}
    guess = plain.get(str(value).lower()) or next(
        iter(difflib.get_close_matches(str(value), known, n=1, cutoff=_CLOSE)), None
    )
    return f"must be {text}" + (f"; did you mean {guess}?" if guess and len(known) > 1 else "")


_BARE = "YAML reads a bare on, yes or y as true and a bare off, no or n as false"


def _not_text(value: Any) -> str:
    if isinstance(value, bool):
        return f"must be text, not {str(value).lower()}: put it in quotes; {_BARE}"
    if isinstance(value, int | float):
        return "must be text, not a number: put it in quotes"
    return "must be text" + (", not a list" if isinstance(value, list) else "")


def _not_mapping(place: _Place) -> str:
    here = _core(place.annotation)
    if members := _members(here):
        return f"must be a mapping with {DISCRIMINATOR}: {' or '.join(members)}"
    if _is_model(here):
        return f"must be a mapping with fields such as {', '.join(list(_fields(here))[:4])}"
    return "must be a mapping of names to values"


def choice(options: Iterable[str], value: Any) -> str:
    """Return the message that a value is none of the options, with the likeliest one."""
    return _choice(list(options), value)
