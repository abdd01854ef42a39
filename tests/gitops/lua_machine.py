"""Argo CD's Lua machine as far as our scripts see it: base and table library, and of `os` only what tells the time.

Argo CD runs gopher-lua, which is Lua 5.1, with the same libraries (argo-cd, util/lua/lua.go). The real one judges the
same objects in tests/gitops/test_evaluators.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lupa import lua51

_CONFINE = """
local time, date = os.time, os.date
getmetatable("").__index = nil
for _, name in ipairs({ "string", "math", "io", "debug", "coroutine", "python" }) do
  _G[name] = nil
  package.loaded[name] = nil
end
os = { time = time, date = date }
package.loaded.os = os
"""


def run(script: Path, obj: Mapping[str, Any]) -> Any:
    """Return what a script returns for an object, as Python values."""
    machine = lua51.LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    machine.execute(_CONFINE)
    machine.globals().obj = machine.table_from(obj, recursive=True)
    return _plain(machine.execute(script.read_text()))


def _plain(value: Any) -> Any:
    if lua51.lua_type(value) != "table":
        return value
    keys = list(value.keys())
    if keys and keys == list(range(1, len(keys) + 1)):
        return [_plain(value[key]) for key in keys]
    return {key: _plain(value[key]) for key in keys}
