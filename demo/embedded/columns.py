"""Columns of Tables: what `kubectl get` prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from demo.embedded.ages import age
from demo.embedded.jsonpath import compiled

Cell = Callable[[Mapping[str, Any], datetime], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `priority` above 0 is for `-o wide`."""

    name: str
    type: str
    cell: Cell
    description: str
    priority: int = 0
    format: str = ""

    def definition(self) -> dict[str, Any]:
        """Return the column as a Table's `columnDefinitions` have it."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def at(path: str, type_: str) -> Cell:
    """Return the cell for what stands at a JSONPath, None where nothing does; a date is shown as an age."""
    find = compiled(path)

    def cell(obj: Mapping[str, Any], now: datetime) -> Any:
        value = next(find(obj), None)
        if value is None:
            return None
        if type_ == "string":
            return _text(value)
        if type_ == "date":
            return age(str(value), now)
        return value

    return cell


_NAME = "Name must be unique within a namespace."
_AGE = "Time since the object was created."


def name_column(priority: int = 0) -> Column:
    """Return the column with an object's name."""
    return Column("Name", "string", at(".metadata.name", "string"), _NAME, priority, "name")


def age_column(type_: str = "string") -> Column:
    """Return the column with an object's age."""
    return Column("Age", type_, at(".metadata.creationTimestamp", "date"), _AGE)


def declared(columns: list[dict[str, Any]]) -> tuple[Column, ...]:
    """Return the columns that a CustomResourceDefinition declares, after the name; the age alone where it has none."""
    if not columns:
        return name_column(), age_column("date")
    return (
        name_column(),
        *(
            Column(
                name=column["name"],
                type=column["type"],
                cell=at(column["jsonPath"], column["type"]),
                description=column.get("description")
                or f"Custom resource definition column (in JSONPath format): {column['jsonPath']}",
                priority=column.get("priority", 0),
                format=column.get("format", ""),
            )
            for column in columns
        ),
    )


def _about(obj: Mapping[str, Any], now: datetime) -> str:
    involved = obj.get("involvedObject") or {}
    return f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"


def _source(obj: Mapping[str, Any], now: datetime) -> str:
    source = obj.get("source") or {}
    parts = [source.get("component") or obj.get("reportingComponent"), source.get("host")]
    return ", ".join(str(part) for part in parts if part)


def _plain(name: str, path: str, priority: int = 0, type_: str = "string") -> Column:
    inner = at(path, type_)
    return Column(
        name, "string", lambda obj, now: value if (value := inner(obj, now)) is not None else "", name, priority
    )


NAMESPACE = (name_column(), _plain("Status", ".status.phase"), age_column())
LEASE = (name_column(), _plain("Holder", ".spec.holderIdentity"), age_column())
DEFINITION = (
    name_column(),
    Column("Created At", "date", at(".metadata.creationTimestamp", "string"), "Time of creation."),
)
EVENT = (
    _plain("Last Seen", ".lastTimestamp", type_="date"),
    _plain("Type", ".type"),
    _plain("Reason", ".reason"),
    Column("Object", "string", _about, "The object that this event is about."),
    _plain("Subobject", ".involvedObject.fieldPath", 1),
    Column("Source", "string", _source, "The component reporting this event.", 1),
    _plain("Message", ".message"),
    _plain("First Seen", ".firstTimestamp", 1, "date"),
    _plain("Count", ".count", 1, "integer"),
    name_column(1),
)
