"""The reference of commands in docs/kubectl-dsg.md, made from the code: `python -m dsg.plugin.reference FILE`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from dsg.plugin.cli import GROUPS, PANELS
from dsg.plugin.signatures import Command, Parameter, parameters

BEGIN = "<!-- made by python -m dsg.plugin.reference; do not edit -->"
END = "<!-- end -->"
_SHARED = ("directory", "timeout", "output", "quiet", "verbose", "context", "kubeconfig", "namespace")


def reference() -> str:
    """Return the text of all commands."""
    return "\n".join(_lines())


def replaced(text: str) -> str:
    """Return a document with the part between the marks made anew. ValueError where a mark is missing."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN} or {END}")
    return f"{head}{BEGIN}\n{reference()}\n{END}{tail}"


def _lines() -> Iterator[str]:
    shared: dict[str, Parameter] = {}
    for panel, commands in PANELS.items():
        yield f"\n### {panel}"
        for command in commands:
            known = list(parameters(command))
            shared |= {one.name: one for one in known if _is_shared(one)}
            yield from _command(command, known)
    for name, (about, commands) in GROUPS.items():
        yield f"\n### `{name}`\n\n{about}"
        for command in commands:
            known = list(parameters(command))
            shared |= {one.name: one for one in known if _is_shared(one)}
            yield from _command(command, known, name)
    yield "\n### Options of several commands\n"
    yield from _table([shared[name] for name in _SHARED if name in shared])


def _is_shared(one: Parameter) -> bool:
    return bool(one.words) and one.name in _SHARED


def _command(command: Command, known: list[Parameter], group: str = "") -> Iterator[str]:
    arguments = " ".join(one.metavar for one in known if not one.words)
    yield f"\n#### `{' '.join(filter(None, (group, command.__name__, arguments)))}`\n"
    yield inspect.cleandoc(command.__doc__ or "")
    own = [one for one in known if not _is_shared(one)]
    common = [f"`{one.words[-1]}`" for one in known if _is_shared(one)]
    if own:
        yield ""
        yield from _table(own)
    if common:
        yield f"\nAlso {', '.join(common)}."


def _table(known: list[Parameter]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    for one in known:
        name = ", ".join(f"`{word}`" for word in one.words) or f"`{one.metavar}`"
        text = one.help.replace("|", "\\|")
        yield f"| {name} | {text} |"


def main() -> None:
    """Make the part of a document anew."""
    file = Path(sys.argv[1])
    file.write_text(replaced(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
