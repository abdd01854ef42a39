"""Parsers of the JSON that OpenZFS 2.3 and later prints (`-j`). Pure; every fault in the text is an Unparsable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import cast

from dsg.storage.zfs.commands import is_user_property
from dsg.storage.zfs.interface import Dataset, DatasetKind, Pool, ProgramValue, Property, Scan, Source
from dsg.storage.zfs.status_text import harmless, one_line

_LEAF_TREES = ("vdevs", "logs", "special", "dedup", "l2cache", "spares", "cache")
_SCAN_FUNCTIONS = {"SCRUB": "scrub", "RESILVER": "resilver"}
_SCAN_STATES = {"SCANNING": "scanning", "FINISHED": "finished", "CANCELED": "canceled"}


class Unparsable(ValueError):
    """Raised when the output of a command is not what this version understands."""


def _object(text: str) -> Mapping[str, object]:
    try:
        value = json.loads(text)
    except ValueError as error:
        # OpenZFS stops printing at the first byte that is no UTF-8, and still exits with 0.
        raise Unparsable(f"the output is no JSON: {error}") from error
    return _mapping(value, "the output")


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Unparsable(f"{what} is no JSON object")
    return cast(Mapping[str, object], value)


def _string(entry: Mapping[str, object], key: str, default: str = "") -> str:
    value = entry.get(key, default)
    return value if isinstance(value, str) else json.dumps(value)


def number(text: str) -> int:
    """Return a figure as `-p` prints it; 0 for `-`, `none` and what is no number."""
    digits = text.removesuffix("%")
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _entries(data: Mapping[str, object], key: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    for name, entry in _mapping(data.get(key, {}), key).items():
        yield name, _mapping(entry, f"{key} {name}")


def _property(name: str, entry: Mapping[str, object]) -> Property:
    source = _mapping(entry.get("source", {}), f"the source of {name}")
    kind, data = _string(source, "type", "NONE"), _string(source, "data", "-")
    try:
        origin = Source(kind.lower())
    except ValueError as error:
        raise Unparsable(f"property {name} has an unknown source {kind}") from error
    return Property(_string(entry, "value"), origin, data if origin is Source.INHERITED else "")


def datasets(text: str) -> dict[str, Dataset]:
    """Parse `zfs get -j -p`."""
    found = {}
    for name, entry in _entries(_object(text), "datasets"):
        try:
            kind = DatasetKind(_string(entry, "type").lower())
        except ValueError as error:
            raise Unparsable(f"{name} is of an unknown type {_string(entry, 'type')}") from error
        properties = {key: _property(key, value) for key, value in _entries(entry, "properties")}
        found[name] = Dataset(name, kind, with_what_there_is(properties))
    return found


def with_what_there_is(properties: Mapping[str, Property]) -> dict[str, Property]:
    """Leave out the user properties that a dataset does not have: they are printed as `-` from nowhere."""
    return {
        name: value
        for name, value in properties.items()
        if not (is_user_property(name) and value.source is Source.NONE and value.value == "-")
    }


def _leaves(entry: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    trees = [tree for key in _LEAF_TREES for _, tree in _entries(entry, key)]
    for tree in trees:
        if any(key in tree for key in _LEAF_TREES):
            yield from _leaves(tree)
        else:
            yield tree


def _scan(status: Mapping[str, object]) -> Scan:
    stats = _mapping(status.get("scan_stats", {}), "scan_stats")
    function = _SCAN_FUNCTIONS.get(_string(stats, "function"))
    if function is None:
        return Scan()
    state = _SCAN_STATES.get(_string(stats, "state"), "none")
    total = number(_string(stats, "to_examine")) - number(_string(stats, "skipped"))
    percent = 100.0 if state == "finished" else 100.0 * number(_string(stats, "issued")) / total if total > 0 else 0.0
    return Scan(
        function=function,
        state=state,
        started=number(_string(stats, "start_time")),
        ended=0 if state == "scanning" else number(_string(stats, "end_time")),
        errors=number(_string(stats, "errors")),
        percent=min(percent, 100.0),
    )


def pools(list_text: str, status_text: str) -> dict[str, Pool]:
    """Parse `zpool list -j -p` together with `zpool status -j -p`. Both print nothing at all when there is no pool."""
    statuses = dict(_entries(_object(status_text), "pools")) if status_text.strip() else {}
    found = {}
    for name, entry in _entries(_object(list_text), "pools") if list_text.strip() else ():
        values = {key: _string(value, "value") for key, value in _entries(entry, "properties")}
        status = statuses.get(name, {})
        leaves = list(_leaves(status))
        said = one_line(_string(status, "status"))
        found[name] = Pool(
            name=name,
            guid=values.get("guid") or _string(entry, "pool_guid"),
            health=values.get("health") or _string(entry, "state"),
            size=number(values.get("size", "")),
            allocated=number(values.get("allocated", "")),
            free=number(values.get("free", "")),
            fragmentation_percent=number(values.get("fragmentation", "")),
            capacity_percent=number(values.get("capacity", "")),
            readonly=values.get("readonly") == "on",
            read_errors=sum(number(_string(leaf, "read_errors")) for leaf in leaves),
            write_errors=sum(number(_string(leaf, "write_errors")) for leaf in leaves),
            checksum_errors=sum(number(_string(leaf, "checksum_errors")) for leaf in leaves),
            data_errors=number(_string(status, "error_count")),
            scan=_scan(status),
            status="" if harmless(said) else said,
            action="" if harmless(said) else one_line(_string(status, "action")),
        )
    return found


def program_result(text: str) -> ProgramValue:
    """Parse `zfs program -j`: the value returned, None where nothing was. Tables are objects with string keys."""
    return cast(ProgramValue, _object(text).get("return"))
