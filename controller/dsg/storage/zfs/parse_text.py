"""Parsers of the text that OpenZFS prints for scripts (`-Hp`). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dsg.storage.zfs.commands import POOL_COLUMNS, TYPE
from dsg.storage.zfs.interface import (
    Change,
    ChangeKind,
    Dataset,
    DatasetKind,
    Hold,
    Pool,
    Property,
    Scan,
    Source,
    Version,
)
from dsg.storage.zfs.parse_json import Unparsable, number, with_what_there_is
from dsg.storage.zfs.status_text import harmless, one_line

_VERSION = re.compile(r"^zfs-(?:kmod-)?(\d+)\.(\d+)(?:\.(\d+))?", re.MULTILINE)
_SOURCE = re.compile(r"-|local|default|temporary|received|inherited from (?P<dataset>.+)", re.DOTALL)
_FIELDS = 3
_IMITATION = "the output is cut off, or a user property imitates it"


def version(text: str) -> Version:
    """Parse the first line of `zfs version`, such as `zfs-2.3.9-0+deb13u1`."""
    found = _VERSION.search(text)
    if found is None:
        raise Unparsable(f"`zfs version` said {text.strip()!r}")
    return Version(int(found[1]), int(found[2]), int(found[3] or 0))


# ---- zfs get


def _source(text: str) -> Property | None:
    """Return a property without its value; None where the text is no source."""
    found = _SOURCE.fullmatch(text)
    if found is None:
        return None
    if found["dataset"]:
        return Property("", Source.INHERITED, found["dataset"])
    return Property("", Source.NONE if text == "-" else Source(text))


def datasets(text: str, properties: Sequence[str]) -> dict[str, Dataset]:
    """Parse `zfs get -H -p -o name,property,value,source` for `properties`, whose last one is `type`.

    A value may hold tabs and line breaks, as whoever may set user properties likes. What tells where it ends is the
    order of the lines: each dataset comes once, with each property once, in the order asked for, and last with its
    type, which nobody can set. A value that imitates lines leads to one line too many, and so to Unparsable: it can
    never pass for another property or dataset.
    """
    records = _records(text, properties)
    found: dict[str, Dataset] = {}
    for name, values in records:
        if name in found:
            raise Unparsable(f"{name} comes twice; {_IMITATION}")
        kind = values[TYPE]
        try:
            found[name] = Dataset(name, DatasetKind(kind.value), with_what_there_is(values))
        except ValueError as error:
            raise Unparsable(f"{name} is of an unknown type {kind.value}") from error
    return found


def _records(text: str, properties: Sequence[str]) -> Iterator[tuple[str, dict[str, Property]]]:
    lines = text.split("\n")
    if lines.pop():
        raise Unparsable("the output ends in the middle of a line")
    heads = [_head(line, properties) for line in lines]
    position = 0
    while position < len(lines):
        name = heads[position][0]
        values = {}
        for wanted in properties:
            if position >= len(lines) or heads[position] != (name, wanted):
                raise Unparsable(f"property {wanted} of {name} is not where it should be; {_IMITATION}")
            end = position + 1
            while end < len(lines) and not heads[end][1]:
                end += 1
            values[wanted] = _value(name, wanted, "\n".join(lines[position:end]))
            position = end
        yield name, values


def _head(line: str, properties: Sequence[str]) -> tuple[str, str]:
    """Return the dataset and the property that a line begins with; empty where it goes on with a value."""
    parts = line.split("\t", 2)
    return (parts[0], parts[1]) if len(parts) == _FIELDS and parts[1] in properties else ("", "")


def _value(name: str, wanted: str, record: str) -> Property:
    value, tab, text = record[len(name) + len(wanted) + 2 :].rpartition("\t")
    source = _source(text)
    if not tab or source is None:
        raise Unparsable(f"property {wanted} of {name} has no known source; {_IMITATION}")
    return Property(value, source.source, source.inherited_from)


def holds(text: str, snapshots: Sequence[str]) -> list[Hold]:
    """Parse `zfs holds -H`: name, tag and time, between tabs."""
    found = []
    for line in text.splitlines():
        name, _, rest = line.partition("\t")
        tag, tab, _ = rest.rpartition("\t")
        if name not in snapshots or not tab:
            raise Unparsable(f"`zfs holds` said {line!r}")
        found.append(Hold(name, tag))
    return found


# ---- zfs diff

UNLINKED = "(on_delete_queue)"
"""What zfs-diff(8) prints right after the mount point for a file without a name that somebody has open."""
_DIFFERENCE = re.compile(
    r"(?P<mark>[-+MR])\t(?P<type>[BC/>|@P=F?])\t(?P<path>[!-~]+)(?:\t(?:\([-+]\d+\)|(?P<new>/[!-~]*)))?"
)
_KINDS = {"+": ChangeKind.ADDED, "-": ChangeKind.REMOVED, "M": ChangeKind.MODIFIED, "R": ChangeKind.RENAMED}
_ESCAPED = re.compile(r"\\0([0-3][0-7]{2})")


def differences(text: str, root: str, *, whole: bool) -> list[Change]:
    """Parse `zfs diff -F -H` about a dataset that is mounted at `root`; `whole` tells that it ran to its end.

    Every byte beyond visible ASCII, and the backslash, is printed as a backslash and four octal digits, so that a name
    can hold neither the tab nor the line break that ends it.
    """
    *lines, rest = text.split("\n")
    if rest and whole:
        raise Unparsable("the output ends in the middle of a line")
    found = []
    for line in lines:
        match = _DIFFERENCE.fullmatch(line)
        if match is None or (match["mark"] == "R") is not (match["new"] is not None):
            raise Unparsable(f"`zfs diff` said {line!r}")
        if unescape(match["path"]) == f"{root}{UNLINKED}":
            continue
        new = _relative(match["new"], root, line) if match["new"] is not None else ""
        path = _relative(match["path"], root, line)
        found.append(Change(path, _KINDS[match["mark"]], match["type"] == "/", new))
    return found


def unescape(text: str) -> str:
    """Undo the escapes of zfs-diff(8); bytes that are no UTF-8 become surrogates."""
    if "\\" in _ESCAPED.sub("", text):
        raise Unparsable(f"`zfs diff` printed an escape that is not known: {text!r}")
    raw = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text).encode("latin-1")
    return raw.decode("utf-8", "surrogateescape")


def _relative(escaped: str, root: str, line: str) -> str:
    path, prefix = unescape(escaped), root.rstrip("/") + "/"
    if not path.startswith(prefix):
        raise Unparsable(f"`zfs diff` said {line!r}, which is not below {root!r}; was it mounted elsewhere meanwhile?")
    return path.removeprefix(prefix)


# ---- zpool list and zpool status


@dataclass(slots=True)
class _Status:
    fields: dict[str, str] = field(default_factory=dict)
    leaves: list[tuple[int, int, int]] = field(default_factory=list)


def pools(list_text: str, status_text: str) -> dict[str, Pool]:
    """Parse `zpool list -H -p -o …` (POOL_COLUMNS) together with `zpool status -p`, both printed with TZ=UTC."""
    statuses = _statuses(status_text)
    found = {}
    for line in list_text.splitlines():
        parts = line.split("\t")
        if len(parts) != len(POOL_COLUMNS):
            raise Unparsable(f"`zpool list` said {line!r}")
        values = dict(zip(POOL_COLUMNS, parts, strict=True))
        status = statuses.get(values["name"], _Status())
        said = one_line(status.fields.get("status", ""))
        read, write, checksum = (sum(leaf[column] for leaf in status.leaves) for column in range(3))
        found[values["name"]] = Pool(
            name=values["name"],
            guid=values["guid"],
            health=values["health"],
            size=number(values["size"]),
            allocated=number(values["allocated"]),
            free=number(values["free"]),
            fragmentation_percent=number(values["fragmentation"]),
            capacity_percent=number(values["capacity"]),
            readonly=values["readonly"] == "on",
            read_errors=read,
            write_errors=write,
            checksum_errors=checksum,
            data_errors=_data_errors(status.fields.get("errors", "")),
            scan=scan(one_line(status.fields.get("scan", ""))),
            status="" if harmless(said) else said,
            action="" if harmless(said) else one_line(status.fields.get("action", "")),
        )
    return found


_FIELD = re.compile(r" {0,6}(?P<key>[a-z]+):(?: (?P<value>.*))?")


def _statuses(text: str) -> Mapping[str, _Status]:
    """Split `zpool status` into its pools and these into their fields: `  pool: tank`, ` state: ONLINE`, …"""
    found: dict[str, _Status] = {}
    current, key = _Status(), ""
    device_lines: list[str] = []
    for line in text.splitlines():
        match = _FIELD.fullmatch(line)
        if match is not None:
            if key == "config":
                current.leaves = _leaves(device_lines)
            key = match["key"]
            if key == "pool":
                current, device_lines = _Status(), []
                found[(match["value"] or "").strip()] = current
            current.fields[key] = match["value"] or ""
        elif key == "config":
            device_lines.append(line)
        elif key:
            current.fields[key] += f"\n{line}"
    return found


_DEVICE = re.compile(r"\t(?P<indent> *)(?P<name>\S+) +(?P<state>[A-Z]+)(?P<figures>(?: +\d+){3})?(?: .*)?")


def _leaves(lines: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return read, write and checksum errors of each leaf device: one whose next line is not indented deeper."""
    devices = []
    for line in lines:
        found = _DEVICE.fullmatch(line)
        if found is not None and found["state"] != "STATE":
            figures = [int(figure) for figure in (found["figures"] or "0 0 0").split()]
            devices.append((len(found["indent"]), (figures[0], figures[1], figures[2])))
        elif line.strip():
            # A heading such as `logs`, which stands for the root of a tree of its own.
            devices.append((0, (0, 0, 0)))
    ends = [indent for indent, _ in devices[1:]] + [0]
    return [
        figures for (indent, figures), following in zip(devices, ends, strict=True) if following <= indent and indent
    ]


def _data_errors(text: str) -> int:
    """Parse the errors field: `No known data errors`, `3 data errors, use '-v' for a list`."""
    found = re.match(r"(\d+) data errors", text)
    return int(found[1]) if found is not None else 0


_DONE = re.compile(r"(?P<function>scrub|resilver).* with (?P<errors>\d+) errors on (?P<when>.+)")
_CANCELED = re.compile(r"(?P<function>scrub|resilver) canceled on (?P<when>.+)")
_MOMENT = r"\w+ \w+ \d+ [\d:]+ \d+"
_RUNNING = re.compile(
    rf"(?P<function>scrub|resilver) (?:paused since {_MOMENT} scrub started on|in progress since) "
    rf"(?P<when>{_MOMENT})(?P<rest>.*)"
)
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)% done")


def scan(text: str) -> Scan:
    """Parse the scan field of `zpool status`, as one line; times are in UTC."""
    if text.startswith("resilvered"):
        text = f"resilver {text}"
    if (found := _DONE.match(text)) is not None:
        return Scan(
            found["function"], "finished", ended=_when(found["when"]), errors=int(found["errors"]), percent=100.0
        )
    if (found := _CANCELED.match(text)) is not None:
        return Scan(found["function"], "canceled", ended=_when(found["when"]))
    if (found := _RUNNING.match(text)) is not None:
        done = _PERCENT.search(found["rest"])
        return Scan(
            found["function"],
            "scanning",
            started=_when(found["when"]),
            percent=float(done[1]) if done is not None else 0.0,
        )
    return Scan()


def _when(text: str) -> int:
    """Parse ctime(3), such as `Wed Nov 25 16:36:55 2026`; 0 where it is none."""
    try:
        moment = datetime.strptime(" ".join(text.split()[:5]), "%a %b %d %H:%M:%S %Y")
    except ValueError:
        return 0
    return int(moment.replace(tzinfo=UTC).timestamp())
