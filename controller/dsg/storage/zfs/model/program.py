"""Channel programs in the model: the program's own Lua, run with what OpenZFS offers it (zfs-program(8)).

Needs lupa (the extra `model`). OpenZFS's Lua is 5.2 with 64-bit integers for numbers. The text is compiled by Lua 5.2,
so that nothing newer slips in, and run by 5.4, whose numbers are integers as long as nobody divides: a program that
divides or raises to a power is beyond the model and said to be, rather than run with other numbers.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from dsg.storage.errors import ProgramFailed
from dsg.storage.zfs.interface import ProgramValue, Property, Source
from dsg.storage.zfs.model import changes, names, reading, values
from dsg.storage.zfs.model.dataset import Filesystem, Snapshot
from dsg.storage.zfs.model.faults import Refusal
from dsg.storage.zfs.model.native import NATIVE
from dsg.storage.zfs.model.pool import ModelPool

INSTRUCTION_LIMIT = 10_000_000
MEMORY_LIMIT = 10 << 20
MAX_DEPTH = 20

_ERRNOS = [
    "EPERM",
    "ENOENT",
    "ESRCH",
    "EINTR",
    "EIO",
    "ENXIO",
    "E2BIG",
    "ENOEXEC",
    "EBADF",
    "ECHILD",
    "EAGAIN",
    "ENOMEM",
    "EACCES",
    "EFAULT",
    "ENOTBLK",
    "EBUSY",
    "EEXIST",
    "EXDEV",
    "ENODEV",
    "ENOTDIR",
    "EISDIR",
    "EINVAL",
    "ENFILE",
    "EMFILE",
    "ENOTTY",
    "ETXTBSY",
    "EFBIG",
    "ENOSPC",
    "ESPIPE",
    "EROFS",
    "EMLINK",
    "EPIPE",
    "EDOM",
    "ERANGE",
    "EDEADLK",
    "ENOLCK",
    "ECANCELED",
    "ENOTSUP",
    "EDQUOT",
    "ENAMETOOLONG",
]
_NOT_CODE = re.compile(
    r"--\[(=*)\[.*?\]\1\]|--[^\n]*|\[(=*)\[.*?\]\2\]|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL
)


class BeyondModel(RuntimeError):
    """Raised for a channel program whose result the model could not promise to be OpenZFS's."""


class _Fatal(Exception):
    """Ends the program with an error, as luaL_error does."""


@cache
def _runner() -> str:
    return Path(__file__).with_name("program.lua").read_text(encoding="utf-8")


@lru_cache(maxsize=64)
def _check(source: str) -> str:
    """Return the compiler's complaint about a program, empty when there is none; raises BeyondModel."""
    from lupa import lua52

    runtime = lua52.LuaRuntime(register_eval=False, register_builtins=False)
    compile_text = runtime.eval(
        'function(text) local f, e = load(text, "channel program", "t"); if not f then return e end; return "" end'
    )
    complaint = str(compile_text(source))
    code = _NOT_CODE.sub(" ", source)
    if not complaint and ("/" in code or "^" in code or re.search(r"\d\.\d", code)):
        raise BeyondModel("the model's Lua does not divide, raise to powers or know fractions as OpenZFS's does")
    return complaint


def run(pool: ModelPool, source: str, arguments: Sequence[str], *, sync: bool) -> ProgramValue:
    """Run a program against a pool; the caller syncs the transaction group. Raises ProgramFailed."""
    complaint = _check(source)
    if complaint:
        raise ProgramFailed(f"Channel program execution failed: {complaint}", subject=pool.name, details=complaint)
    from lupa import lua54

    runtime = lua54.LuaRuntime(
        unpack_returned_tuples=True, register_eval=False, register_builtins=False, max_memory=MEMORY_LIMIT
    )
    library = _Library(pool, sync=sync, table=runtime.table_from)
    argv = runtime.table_from({"argv": runtime.table_from(list(arguments))})
    errnos = runtime.table_from({name: getattr(errno, name) for name in _ERRNOS})
    try:
        good, count, value = runtime.execute(_runner(), library.call, source, argv, errnos, INSTRUCTION_LIMIT)
        if library.crash is not None:
            raise library.crash
        if good and count > 1:
            good, value = False, "Multiple return values not supported"
        if good:
            return None if count == 0 else (True if value is None else _convert(value, "return", lua54.lua_type))
    except lua54.LuaMemoryError:
        value = "Memory limit exhausted."
    except _Fatal as error:
        value = str(error)
    text = value if isinstance(value, str) else ""
    if "not enough memory" in text:
        text = "Memory limit exhausted."
    raise ProgramFailed(f"Channel program execution failed: {text}", subject=pool.name, details=text)


def _convert(value: Any, key: str, lua_type: Callable[[object], str | None], depth: int = 0) -> ProgramValue:
    """Turn a Lua value into what `zfs program -j` prints: keys become strings, lists stay tables."""
    if isinstance(value, str):
        return _printed(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        raise BeyondModel(f"the program returns the fraction {value} for '{key}'; OpenZFS's Lua has integers only")
    kind = lua_type(value)
    if kind != "table":
        raise _Fatal(f"Invalid value type '{kind}' for key '{key}'")
    if depth >= MAX_DEPTH:
        raise _Fatal(f"Maximum table depth ({MAX_DEPTH}) exceeded for table")
    result: dict[str, ProgramValue] = {}
    for item, content in value.items():
        if isinstance(item, float) or not isinstance(item, (bool, int, str)):
            raise _Fatal(f"Invalid key type '{lua_type(item)}' in table")
        text = str(item).lower() if isinstance(item, bool) else _printed(str(item))
        if text in result:
            raise _Fatal(f"Collision of key '{text}' in table")
        result[text] = _convert(content, text, lua_type, depth + 1)
    return result


def _printed(text: str) -> str:
    """Return a text as OpenZFS prints it in JSON: characters beyond U+FFFF are lost (libnvpair_json.c)."""
    return "".join(character for character in text if character <= "\uffff")


def _scattered(items: Iterable[str]) -> list[str]:
    """Return names in an order that is always the same and means nothing, like a hash table's on disk."""
    return sorted(items, key=lambda name: hashlib.md5(name.encode(), usedforsecurity=False).digest())


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


class _Library:
    """The functions that a program may call."""

    def __init__(self, pool: ModelPool, *, sync: bool, table: Callable[[Any], Any]) -> None:
        self.pool = pool
        self.sync = sync
        self.table = table
        self.crash: BaseException | None = None

    def call(self, library: str, name: str, count: int, *arguments: Any) -> tuple[Any, ...]:
        """Answer one call of the program as (what ends it or nil, how many values, the values)."""
        try:
            given, keywords = self._arguments(name, count, arguments)
            if library in {"sync", "check"}:
                return self._task(library == "sync", name, given, keywords)
            if library == "list":
                return (None, 1, self._list(name, given[0]))
            found = getattr(self, f"_{name}")(*given)
            return (None, len(found), *found)
        except _Fatal as error:
            return (str(error), 0)
        except Exception as error:
            self.crash = error
            return (f"the model failed: {error!r}", 0)

    def _arguments(self, name: str, count: int, arguments: tuple[Any, ...]) -> tuple[list[str], dict[str, Any]]:
        """Take positional arguments, or one table with them, and check their number and type (zcp_parse_args)."""
        wanted = _PARAMETERS[name]
        keywords: dict[str, Any] = {}
        given = list(arguments[:count])
        if len(given) == 1 and hasattr(given[0], "items") and not isinstance(given[0], str):
            items = dict(given[0].items())
            keywords = {key: value for key, value in items.items() if isinstance(key, str)}
            given = [items[key] for key in sorted(key for key in items if isinstance(key, int))]
        usage = f"{name}{{{', '.join(f'<{parameter}(string)>' for parameter in wanted)}}}"
        if len(given) < len(wanted):
            raise _Fatal(f"too few arguments: {usage}")
        if len(given) > len(wanted):
            raise _Fatal(f"too many positional arguments: {usage}")
        for position, value in enumerate(given, 1):
            if not isinstance(value, str):
                raise _Fatal(f"arg {position} wrong type (is '{type(value).__name__}', expected 'string'): {usage}")
        if set(keywords) - ({"defer"} if name == "destroy" else set()):
            raise _Fatal(f"unknown keyword argument: {usage}")
        return given, keywords

    # ---- zfs.sync and zfs.check

    def _task(self, apply: bool, name: str, given: list[str], keywords: dict[str, Any]) -> tuple[Any, ...]:
        if apply and not self.sync:
            raise _Fatal(
                "running functions from the zfs.sync submodule requires passing sync=TRUE to lzc_channel_program() "
                '(i.e. do not specify the "-n" command line argument)'
            )
        if name == "destroy" and "@" not in given[0] and "defer" in keywords:
            raise _Fatal(f"'deferred' kwarg only supported for snapshots: {given[0]}")
        if names.pool_of(given[0]) != self.pool.name:
            return (None, 1, errno.EXDEV)
        try:
            details = getattr(self, f"_do_{name}")(given, keywords, apply)
        except Refusal as refusal:
            return (None, 1, refusal.code)
        if not details:
            return (None, 1, 0)
        if isinstance(details, list):
            return (None, 2, errno.EEXIST, self.table(details))
        return (None, 2, 0, self.table(details))

    def _do_destroy(self, given: list[str], keywords: dict[str, Any], apply: bool) -> None:
        if "@" in given[0]:
            changes.destroy_snapshot(self.pool, given[0], defer=bool(keywords.get("defer")), apply=apply)
        else:
            changes.destroy_filesystem(self.pool, given[0], apply=apply)

    def _do_promote(self, given: list[str], _: dict[str, Any], apply: bool) -> list[str]:
        return changes.promote(self.pool, given[0], apply=apply)

    def _do_rollback(self, given: list[str], _: dict[str, Any], apply: bool) -> dict[str, str]:
        return {"target": changes.rollback(self.pool, given[0], apply=apply)}

    def _do_snapshot(self, given: list[str], _: dict[str, Any], apply: bool) -> None:
        changes.snapshot(self.pool, given, apply=apply)

    def _do_rename_snapshot(self, given: list[str], _: dict[str, Any], apply: bool) -> None:
        changes.rename_snapshot(self.pool, given[0], given[1], given[2], apply=apply)

    def _do_inherit(self, given: list[str], _: dict[str, Any], apply: bool) -> None:
        thing = self.pool.either(given[0])
        values.clear(self.pool, thing, given[1], apply=apply)

    def _do_bookmark(self, given: list[str], _: dict[str, Any], apply: bool) -> None:
        changes.bookmark(self.pool, given[0], given[1], apply=apply)

    def _do_set_prop(self, given: list[str], _: dict[str, Any], apply: bool) -> None:
        dataset, name, value = given
        thing = self.pool.either(dataset)
        fault = names.user_property_fault(name, value)
        if fault:
            raise Refusal(errno.E2BIG if "too long" in fault else errno.EINVAL, ProgramFailed(fault, subject=dataset))
        values.store(self.pool, thing, {name: value}, apply=apply)

    # ---- zfs.get_prop, zfs.exists, zfs.debug

    def _either(self, name: str, function: str) -> Filesystem | Snapshot:
        if names.pool_of(name) != self.pool.name:
            text = f"dataset '{name}' is not in the target pool '{self.pool.name}'"
            raise _Fatal(f"bad argument #1 to '{function}' ({text})")
        try:
            return self.pool.either(name)
        except Refusal:
            raise _Fatal(f"bad argument #1 to '{function}' (no such dataset '{name}')") from None

    def _get_prop(self, dataset: str, name: str) -> tuple[Any, ...]:
        thing = self._either(dataset, "get_prop")
        if name.startswith("written@"):
            mark = name.removeprefix("written@")
            self._either(mark if "@" in mark else f"{dataset}@{mark}", "get_prop")
        elif name not in NATIVE and ":" not in name and not name.startswith("written#"):
            raise _Fatal(f"'{name}' is not a valid property")
        if name == "mounted":
            return ()
        found = reading.lookup(self.pool, thing, name)
        if found is None:
            return ()
        value: str | int = found.value
        if reading.is_figure(name):
            value = -1 if found.value == "none" else _signed(int(found.value))
        return value, _setpoint(found, dataset)

    def _exists(self, name: str) -> tuple[Any, ...]:
        if names.pool_of(name) != self.pool.name:
            raise _Fatal(f"dataset '{name}' is not in the target pool")
        try:
            self.pool.either(name)
        except Refusal:
            return (False,)
        return (True,)

    @staticmethod
    def _debug(_: str) -> tuple[Any, ...]:
        return ()

    # ---- zfs.list

    def _list(self, name: str, dataset: str) -> Any:
        thing = self._either(dataset, name)
        if name in {"clones", "holds"}:
            if not isinstance(thing, Snapshot):
                raise _Fatal(f"bad argument #1 to '{name}' ({dataset} is not a snapshot)")
            if name == "holds":
                return self._rows((tag, thing.holds[tag]) for tag in _scattered(thing.holds))
            return self._rows((clone,) for clone in _scattered(clone.name for clone in thing.clones.values()))
        if name in {"user_properties", "properties"}:
            return self._rows(self._user_properties(thing, dataset))
        if name == "system_properties":
            kind = values.ON[reading.Reader(self.pool, ()).dataset(thing).kind]
            return self.table([key for key, native in NATIVE.items() if native.on & kind and key != "mounted"])
        if isinstance(thing, Snapshot):
            raise _Fatal(f"bad argument #1 to '{name}' (argument {dataset} cannot be a snapshot)")
        members = {
            "children": lambda: [*thing.children],
            "snapshots": lambda: [f"{dataset}@{tail}" for tail in thing.snapshots],
            "bookmarks": lambda: [f"{dataset}#{tail}" for tail in thing.bookmarks],
        }[name]()
        return self._rows((member,) for member in _scattered(members))

    def _rows(self, rows: Iterable[tuple[Any, ...]]) -> Any:
        return self.table([self.table(list(row)) for row in rows])

    @staticmethod
    def _user_properties(thing: Filesystem | Snapshot, dataset: str) -> list[tuple[str, str, str]]:
        found: dict[str, tuple[str, str, str]] = {}
        place: Filesystem | Snapshot | None = thing
        while place is not None:
            name = dataset if place is thing else (place.name if isinstance(place, Filesystem) else place.full_name)
            for key, value in place.local.items():
                if ":" in key:
                    found.setdefault(key, (key, value.local.value, name))
            place = place.filesystem if isinstance(place, Snapshot) else place.parent
        return [found[key] for key in _scattered(found)]


def _setpoint(found: Property, dataset: str) -> str | None:
    if found.source is Source.LOCAL:
        return dataset
    if found.source is Source.INHERITED:
        return found.inherited_from
    return None if found.source is Source.NONE else found.source.value


_PARAMETERS = {
    "destroy": ("filesystem | snapshot",),
    "promote": ("clone",),
    "rollback": ("filesystem",),
    "snapshot": ("filesystem@snapname | volume@snapname",),
    "rename_snapshot": ("filesystem | volume", "oldsnapname", "newsnapname"),
    "inherit": ("dataset", "property"),
    "bookmark": ("snapshot | bookmark", "bookmark"),
    "set_prop": ("dataset", "property", "value"),
    "get_prop": ("dataset", "property"),
    "exists": ("dataset",),
    "debug": ("debug string",),
    "children": ("filesystem | volume",),
    "snapshots": ("filesystem | volume",),
    "user_properties": ("filesystem | snapshot | volume",),
    "properties": ("filesystem | snapshot | volume",),
    "clones": ("snapshot",),
    "system_properties": ("dataset",),
    "bookmarks": ("dataset",),
    "holds": ("snapshot",),
}
