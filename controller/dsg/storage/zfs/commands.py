"""The commands of OpenZFS as data: what is run, and how an error about it begins. Nothing here starts anything.

Names are checked here only as far as a command line would read them as something else: an option, a list, a range of
snapshots (`@a%b`), a path. Everything else is left to OpenZFS.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dsg.storage.errors import InvalidValue
from dsg.storage.keys import WrappingKey
from dsg.storage.zfs.interface import DatasetKind

_COMPONENT = r"[A-Za-z0-9_.: -]+"
_DATASET = re.compile(rf"[A-Za-z]{_COMPONENT[:-1]}*(/{_COMPONENT})*")
_TAIL = re.compile(_COMPONENT)
_NATIVE = re.compile(r"[a-z][a-z0-9_]*([@#][^,\s\0]+)?")
_USER = re.compile(r"(?!-)[a-z0-9:._-]*:[a-z0-9:._-]*")

MAX_ARGUMENTS = 1024 * 1024
"""Bytes of dataset names that one command may get. Linux allows 2 MiB of arguments and environment with the usual stack
limit of 8 MiB (execve(2)): names of 100 bytes fit ten thousand times."""
MAX_ARGUMENT = 128 * 1024 - 1
"""Bytes of one argument (MAX_ARG_STRLEN less its final zero, execve(2))."""
MAX_VALUE = 8191
"""Bytes of a property's value (zfsprops(7), User Properties). Checked here, as OpenZFS finds a longer one only after it
has set the others."""

TYPE = "type"
"""The property that is always read last: it tells the kind, and ends every dataset's lines in the text form."""
POOL_COLUMNS = ("name", "guid", "health", "size", "allocated", "free", "fragmentation", "capacity", "readonly")
"""What `zpool list` is asked for."""


@dataclass(frozen=True, slots=True)
class Command:
    """One run of zfs(8) or zpool(8)."""

    program: str
    verb: str
    arguments: tuple[str, ...]
    does: str
    """What it does, as in: cannot `create dataset tank/x`."""
    subject: str = ""
    """The dataset, snapshot or pool that an error is about."""
    stdin: bytes = field(default=b"", repr=False)
    """What it is given; a key passes this way, so that no argument vector shows it."""

    @property
    def argv(self) -> tuple[str, ...]:
        """Return the argument vector, the program's name first."""
        return (self.program, self.verb, *self.arguments)


# ---- names


def is_dataset(name: str) -> bool:
    """Return whether a name can only be read as one dataset."""
    return _DATASET.fullmatch(name) is not None


def is_name(name: str) -> bool:
    """Return whether a name can only be read as one dataset, snapshot or bookmark."""
    dataset, delimiter, tail = partition(name)
    return is_dataset(dataset) and (not delimiter or _TAIL.fullmatch(tail) is not None)


def partition(name: str) -> tuple[str, str, str]:
    """Return the dataset, the delimiter (`@`, `#` or nothing) and what follows it."""
    found = re.search("[@#]", name)
    return (name, "", "") if found is None else (name[: found.start()], found[0], name[found.end() :])


def is_user_property(name: str) -> bool:
    """Return whether a property is a user property: it has a colon in its name (zfsprops(7))."""
    return ":" in name


def _dataset(name: str) -> str:
    if not is_dataset(name):
        raise InvalidValue(f"'{name}' is not the name of a dataset (zfs(8), Filesystem and volume names)", subject=name)
    return name


def _snapshot(name: str) -> str:
    if not is_name(name) or "@" not in name:
        raise InvalidValue(f"'{name}' is not the name of a snapshot, as in tank/data@name", subject=name)
    return name


def _thing(name: str) -> str:
    if not is_name(name) or "#" in name:
        raise InvalidValue(f"'{name}' is not the name of a dataset or snapshot", subject=name)
    return name


def _property(name: str, subject: str) -> str:
    if _USER.fullmatch(name) is None and (_NATIVE.fullmatch(name) is None or name == "all"):
        raise InvalidValue(
            f"'{name}' is not the name of a property (zfsprops(7)); it was meant for {subject}", subject=subject
        )
    return name


def _text(value: str, what: str, subject: str, limit: int = MAX_ARGUMENT) -> str:
    if "\0" in value:
        raise InvalidValue(f"{what} of {subject} holds a zero byte", subject=subject)
    if len(value.encode("utf-8", "surrogateescape")) > limit:
        raise InvalidValue(f"{what} of {subject} is longer than {limit} bytes", subject=subject)
    return value


def _assignments(properties: Mapping[str, str], subject: str) -> list[str]:
    return [
        f"{_property(name, subject)}={_text(value, f'the value of {name}', subject, MAX_VALUE)}"
        for name, value in properties.items()
    ]


def _options(properties: Mapping[str, str], subject: str) -> list[str]:
    return [part for assignment in _assignments(properties, subject) for part in ("-o", assignment)]


def _many(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


# ---- reading


def version() -> Command:
    """Print the versions of the tools and of the kernel module."""
    return Command("zfs", "version", (), "find out the version of OpenZFS")


def list_pools(*, json: bool) -> Command:
    """Print size and health of every imported pool."""
    form = ("-j", "-p") if json else ("-H", "-p")
    return Command("zpool", "list", (*form, "-o", ",".join(POOL_COLUMNS)), "list the pools")


def pool_status(*, json: bool) -> Command:
    """Print devices, errors and scans of every imported pool."""
    return Command("zpool", "status", ("-j", "-p") if json else ("-p",), "read the status of the pools")


def properties_to_read(properties: Sequence[str]) -> tuple[str, ...]:
    """Return what `get` is asked for: each property once, and `type` last."""
    for name in properties:
        _property(name, "a read")
    return (*(name for name in dict.fromkeys(properties) if name != TYPE), TYPE)


def get(
    roots: Sequence[str], properties: Sequence[str], kinds: Sequence[DatasetKind], depth: int | None, *, json: bool
) -> Command:
    """Print properties of datasets; `properties` come from `properties_to_read`."""
    form = ("-j", "-p") if json else ("-H", "-p", "-o", "name,property,value,source")
    reach = ("-r",) if depth is None else ("-d", str(depth))
    types = ",".join(dict.fromkeys(kinds))
    arguments = (*form, *reach, "-t", types, "--", ",".join(properties), *roots)
    return Command("zfs", "get", arguments, f"read {_many(roots)}", roots[0] if len(roots) == 1 else "")


def chunks(names: Sequence[str]) -> Iterator[list[str]]:
    """Split names so that each part fits into one command; nearly always there is one part."""
    part: list[str] = []
    size = 0
    for name in names:
        cost = len(name.encode()) + 9
        if part and size + cost > MAX_ARGUMENTS:
            yield part
            part, size = [], 0
        part.append(name)
        size += cost
    if part:
        yield part


# ---- changes


def create(name: str, properties: Mapping[str, str], key: WrappingKey | None = None) -> Command:
    """Create a filesystem without mounting it; `key` is for keylocation=prompt."""
    arguments = ("-u", *_options(properties, name), "--", _dataset(name))
    return Command("zfs", "create", arguments, f"create dataset {name}", name, _given(key))


def _given(key: WrappingKey | None) -> bytes:
    return b"" if key is None else key.reveal()


def set_properties(name: str, properties: Mapping[str, str]) -> Command:
    """Set properties, all with one command, which takes no `--` before OpenZFS 2.2."""
    what = f"set {', '.join(properties)} on {name}"
    return Command("zfs", "set", (*_assignments(properties, name), _thing(name)), what, name)


def inherit(name: str, prop: str) -> Command:
    """Clear one local property: zfs-inherit(8) takes one, and reads every further word as a dataset."""
    return Command("zfs", "inherit", ("--", _property(prop, name), _thing(name)), f"clear {prop} on {name}", name)


def destroy(name: str) -> Command:
    """Destroy one filesystem or snapshot, never recursively."""
    return Command("zfs", "destroy", ("--", _thing(name)), f"destroy {name}", name)


def destroy_snapshots(dataset: str, names: Sequence[str]) -> Command:
    """Destroy snapshots of one dataset."""
    _dataset(dataset)
    for name in names:
        _snapshot(f"{dataset}@{name}")
    what = f"destroy {len(names)} snapshots of {dataset}"
    argument = f"{dataset}@{','.join(names)}"
    if len(argument) > MAX_ARGUMENT:
        raise InvalidValue(f"cannot {what} at once: their names take more than {MAX_ARGUMENT} bytes", subject=dataset)
    return Command("zfs", "destroy", ("--", argument), what, dataset)


def snapshot(names: Sequence[str], properties: Mapping[str, str]) -> Command:
    """Take snapshots at one moment."""
    options = _options(properties, names[0])
    arguments = (*options, "--", *(_snapshot(name) for name in names))
    return Command("zfs", "snapshot", arguments, f"take snapshot {_many(names)}", names[0])


def clone(origin: str, name: str, properties: Mapping[str, str]) -> Command:
    """Create a filesystem from a snapshot."""
    arguments = (*_options(properties, name), "--", _snapshot(origin), _dataset(name))
    return Command("zfs", "clone", arguments, f"clone {origin} as {name}", name)


def rename(name: str, new: str) -> Command:
    """`zfs rename`: without mounting anything anew (`-u`), as mounts are the operator's own."""
    return Command("zfs", "rename", ("-u", "--", _dataset(name), _dataset(new)), f"rename {name} to {new}", name)


def promote(name: str) -> Command:
    """Make a clone the owner of its origin; this command takes no `--`."""
    return Command("zfs", "promote", (_dataset(name),), f"promote {name}", name)


def hold(snapshots: Sequence[str], tag: str) -> Command:
    """Put a user hold on snapshots."""
    arguments = ("--", _text(tag, "the hold", snapshots[0]), *(_snapshot(name) for name in snapshots))
    return Command("zfs", "hold", arguments, f"hold {_many(snapshots)} for {tag}", snapshots[0])


def release(snapshots: Sequence[str], tag: str) -> Command:
    """Take a user hold off snapshots."""
    arguments = ("--", _text(tag, "the hold", snapshots[0]), *(_snapshot(name) for name in snapshots))
    return Command("zfs", "release", arguments, f"release the hold {tag} of {_many(snapshots)}", snapshots[0])


def holds(snapshots: Sequence[str]) -> Command:
    """Print the user holds of snapshots."""
    arguments = ("-H", "--", *(_snapshot(name) for name in snapshots))
    return Command("zfs", "holds", arguments, f"list the holds of {_many(snapshots)}", snapshots[0])


def diff(snapshot: str, dataset: str) -> Command:
    """Print what differs, names escaped, with the kind of file."""
    what = f"compare {dataset} with {snapshot}"
    return Command("zfs", "diff", ("-F", "-H", "--", _snapshot(snapshot), _dataset(dataset)), what, dataset)


def program(pool: str, source: str, arguments: Sequence[str], *, sync: bool) -> Command:
    """Run a channel program that is read from stdin."""
    if "/" in _dataset(pool):
        raise InvalidValue(f"'{pool}' is not the name of a pool", subject=pool)
    words = [_text(argument, "an argument of a channel program", pool) for argument in arguments]
    mode = ("-j",) if sync else ("-j", "-n")
    what = f"run a channel program in pool {pool}"
    return Command("zfs", "program", (*mode, "--", pool, "-", *words), what, pool, source.encode())


def load_key(name: str, key: WrappingKey | None = None) -> Command:
    """Load an encryption key: the one given, else from where keylocation says."""
    where = () if key is None else ("-L", "prompt")
    return Command("zfs", "load-key", (*where, "--", _dataset(name)), f"load the key of {name}", name, _given(key))


def verify_key(name: str, key: WrappingKey) -> Command:
    """Try a key without loading it."""
    arguments = ("-n", "-L", "prompt", "--", _dataset(name))
    return Command("zfs", "load-key", arguments, f"try a key of {name}", name, _given(key))


def change_key(name: str, key: WrappingKey) -> Command:
    """Replace the wrapping key of an encryption root."""
    arguments = ("-o", "keyformat=raw", "-o", "keylocation=prompt", "--", _dataset(name))
    return Command("zfs", "change-key", arguments, f"replace the key of {name}", name, _given(key))


def unload_key(name: str) -> Command:
    """Unload an encryption key."""
    return Command("zfs", "unload-key", ("--", _dataset(name)), f"unload the key of {name}", name)


def events(*, follow: bool) -> Command:
    """Print events, past ones first; with `follow` it goes on with what comes."""
    return Command("zpool", "events", ("-H", "-v", "-f") if follow else ("-H", "-v"), "read the events of the pools")
