"""YAML files with objects, read as kubectl reads them, with the line of every field.

kubectl converts YAML 1.1 to JSON: bare yes, no, on, off, y and n are booleans, 0770 is a number in octal, 1e3 a number,
while dates and 12:30 stay text. PyYAML alone differs in the last three. A key that comes twice is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dsg.api.load import InvalidObject, Resource, parse_object
from dsg.api.names import GROUP
from dsg.api.problems import Problem

_BOOLEANS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_INTEGER = r"[-+]?(?:0[bB][01_]+|0[xX][0-9a-fA-F_]+|0[oO]?[0-7_]+|[1-9][0-9_]*|0)"
_FLOAT = r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
_ENDLESS = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"

_TAG = "tag:yaml.org,2002:"
_MOST_DEPTH = 100
_MOST_VALUES = 200_000
"""More than etcd could hold: a few aliases of aliases can stand for billions of values, or for themselves."""


class _Resolver(yaml.resolver.BaseResolver):
    """Which bare words are not text."""


for _name, _pattern, _first in (
    ("bool", "|".join(_BOOLEANS), "yYnNtTfFoO"),
    ("int", _INTEGER, "-+0123456789"),
    ("float", f"{_FLOAT}|{_ENDLESS}", "-+0123456789."),
    ("merge", "<<", "<"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Resolver.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), list(_first))


class _Reader(
    yaml.reader.Reader,
    yaml.scanner.Scanner,
    yaml.parser.Parser,
    yaml.composer.Composer,
    yaml.constructor.SafeConstructor,
    _Resolver,
):
    """Composes documents; `value` turns a node into plain data and notes lines and problems."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        yaml.constructor.SafeConstructor.__init__(self)
        _Resolver.__init__(self)
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self._values = 0

    def value(self, node: yaml.Node, path: str = "") -> Any:
        """Return a node's data."""
        self._values += 1
        if self._values > _MOST_VALUES or path.count(".") + path.count("[") > _MOST_DEPTH:
            raise yaml.constructor.ConstructorError(
                None, None, "more values than an object can hold: look for aliases (*name)", node.start_mark
            )
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, f"{path}[{number}]") for number, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Any]:
        given: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag != f"{_TAG}merge":
                name, line = self._key(key), key.start_mark.line + 1
                if name in given:
                    twice = f"is given twice, in line {given[name]} and line {line}: keep one"
                    self.problems.append(Problem(_below(path, name), twice))
                given.setdefault(name, line)
        self.flatten_mapping(node)
        found: dict[str, Any] = {}
        for key, item in node.value:
            name = self._key(key)
            self.lines[_below(path, name)] = key.start_mark.line + 1
            found[name] = self.value(item, _below(path, name))
        return found

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", node.start_mark)
        value = self._scalar(node, "")
        # JSON has no other keys; kubectl turns them into text likewise.
        return str(value).lower() if isinstance(value, bool) or value is None else str(value)

    def _scalar(self, node: yaml.Node, path: str) -> Any:
        word = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "bool" if word in _BOOLEANS:
                return _BOOLEANS[word]
            case "int" if re.fullmatch(_INTEGER, word):
                return _integer(word)
            case "float" if re.fullmatch(_FLOAT, word):
                number = float(word.replace("_", ""))
                return int(number) if number.is_integer() else number
            case "float":
                self.problems.append(Problem(path, f"{word} is no number that Kubernetes can hold"))
                return None
            case "str":
                return _text(word)
            case "null":
                return None
            case other:
                raise yaml.constructor.ConstructorError(None, None, f"unknown tag {other}", node.start_mark)


def _text(word: str) -> str:
    # JSON writes characters beyond the first plane as pairs of escapes, which PyYAML does not join.
    return word.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if word else word


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _integer(word: str) -> int:
    digits = word.replace("_", "").lower()
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    for prefix, base in (("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)):
        if digits.startswith(prefix) and digits != "0":
            return sign * int(digits[len(prefix) :], base)
    return sign * int(digits)


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file, or one item of a List in it."""

    source: str
    """Name of the file."""
    place: str
    """Which document of the file, such as `document 2`; empty when there is only one."""
    raw: Any
    lines: dict[str, int] = field(default_factory=dict)
    """The line of each field by its path."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with it as YAML."""

    def line(self, path: str) -> int:
        """Return the line of a field, or of the nearest one that contains it."""
        while path and path not in self.lines:
            path = re.sub(r"(\.[^.\[]*|\[\d+\]|^[^.\[]*)$", "", path)
        return self.lines.get(path, 1)


@dataclass(frozen=True, slots=True)
class Checked:
    """A document after validation."""

    document: Document
    title: str
    """Kind and name of the object, such as Repository research/justice."""
    resource: Resource | None
    """The object; None when it is invalid or not this project's."""
    problems: tuple[Problem, ...]

    @property
    def foreign(self) -> bool:
        """Return whether the object is of another API group, and was therefore not looked at."""
        return self.resource is None and not self.problems

    def report(self) -> list[str]:
        """Return a line for each problem: file, line, field and what to do."""
        return [f"{self.document.source}:{self.document.line(p.path)}: {p}" for p in self.problems]


def read_documents(text: str, source: str) -> list[Document]:
    """Return the documents of a YAML (or JSON) text; `source` names it in reports. Empty documents are left out.

    A text that is no YAML ends in a document with that problem; what stands before it is returned as well.
    """
    found: list[Document] = []
    try:
        # One reader for each document, so that each has its own lines; marks count from the beginning of the text.
        reader = _Reader(text)
        while reader.check_node():
            reader.lines, reader.problems = {}, []
            node = reader.get_node()
            if node is None:
                continue
            raw = reader.value(node)
            if raw is not None:
                found.append(Document(source, "", raw, reader.lines, tuple(reader.problems)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        hint = "; indent with spaces, not tabs" if "'\\t'" in str(error.problem) else ""
        found.append(Document(source, "", None, {"": line}, (Problem("", f"is not YAML: {error.problem}{hint}"),)))
    except RecursionError:
        found.append(Document(source, "", None, {}, (Problem("", "is nested deeper than any object"),)))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found.append(Document(source, "", None, {"": line}, (Problem("", f"is not YAML: {error.reason}"),)))
    if len(found) == 1:
        return found
    return [
        Document(source, f"document {number}", one.raw, one.lines, one.problems) for number, one in enumerate(found, 1)
    ]


def check(documents: Iterable[Document]) -> list[Checked]:
    """Validate documents; a List is taken apart into its items."""
    return [_checked(one) for document in documents for one in _items(document)]


def load_files(paths: Iterable[Path]) -> list[Checked]:
    """Validate all objects in YAML files. Raises OSError for a file that can't be read."""
    found: list[Checked] = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            broken = Document(str(path), "", None, {}, (Problem("", "is not text in UTF-8"),))
            found += check([broken])
        else:
            found += check(read_documents(text, str(path)))
    return found


def _items(document: Document) -> Iterator[Document]:
    raw = document.raw
    if document.problems or not isinstance(raw, dict) or raw.get("kind") != "List" or raw.get("apiVersion") != "v1":
        yield document
        return
    items = raw.get("items")
    for number, item in enumerate(items if isinstance(items, list) else []):
        prefix = f"items[{number}]"
        lines = {
            path[len(prefix) :].removeprefix("."): line
            for path, line in document.lines.items()
            if path == prefix or path.startswith((f"{prefix}.", f"{prefix}["))
        }
        place = ", ".join(filter(None, (document.place, f"item {number + 1}")))
        yield Document(document.source, place, item, lines)


def _checked(document: Document) -> Checked:
    title = _title(document.raw) or ", ".join(filter(None, (document.source, document.place)))
    if document.problems:
        return Checked(document, title, None, document.problems)
    if not isinstance(document.raw, dict):
        return Checked(document, title, None, (Problem("", "is no Kubernetes object: a mapping is needed"),))
    group = str(document.raw.get("apiVersion", "")).rpartition("/")[0]
    if group != GROUP and document.raw.get("apiVersion") is not None and "kind" in document.raw:
        return Checked(document, title, None, ())
    try:
        return Checked(document, title, parse_object(document.raw), ())
    except InvalidObject as error:
        return Checked(document, title, None, error.found)


def _title(raw: Any) -> str:
    if not isinstance(raw, dict) or not isinstance(raw.get("kind"), str):
        return ""
    metadata = raw.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    names = [str(metadata[key]) for key in ("namespace", "name") if metadata.get(key)]
    return f"{raw['kind']} {'/'.join(names)}".strip()
