"""What a page of the documentation tells its reader to do: commands with their output, and files to write.

A block ```` ```console ```` holds commands, each on a line after `$ `, or after `NODE# ` where it is root's on a
storage node, and what they print. `…` in a line stands for any text, a line of `…` alone for any lines.
`# exit code 3` at a command's end says that it ends so. A block with `title="NAME"` is a file of that name, to be
written before the commands after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_FENCE = re.compile(r"^```(?P<language>\w*) *(?P<rest>.*)$")
_TITLE = re.compile(r'title="(?P<name>[^"]+)"')
_CODE = re.compile(r"# exit code (?P<code>\d+)$")
_PROMPT = re.compile(r"^(?:\$|(?P<node>[a-z0-9-]+)#) (?P<text>.*)$")
_ANY = "…"


@dataclass(frozen=True, slots=True)
class File:
    """A file that the reader writes."""

    line: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command that the reader runs."""

    line: int
    text: str
    code: int
    output: tuple[str, ...]
    node: str | None = None
    """The storage node on which root runs it; None at the reader's own desk."""

    def fits(self, said: str) -> bool:
        """Return whether what was printed is what the page shows; a page that shows nothing takes anything."""
        return not self.output or bool(re.fullmatch(_pattern(self.output), _even(said.splitlines())))


def _even(lines: list[str] | tuple[str, ...]) -> str:
    """Return lines with even spaces, which tables fill up as their content needs."""
    return "".join(f"{' '.join(line.split())}\n" for line in lines if line.strip())


def _pattern(lines: tuple[str, ...]) -> str:
    parts = []
    for line in _even(lines).splitlines():
        if line == _ANY:
            parts.append("(?:.*\n)*")
        else:
            parts.append(re.escape(line).replace(_ANY, ".*") + "\n")
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, what stands behind it, and its lines."""

    line: int
    language: str
    rest: str
    lines: tuple[str, ...]


def blocks(page: Path) -> Iterator[Block]:
    """Yield a page's fenced blocks. Raises ValueError when one is not closed."""
    opened: tuple[int, str, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if opened is None:
            if found := _FENCE.match(line):
                opened, lines = (number, found["language"], found["rest"]), []
        elif line.rstrip() == "```":
            yield Block(*opened, tuple(lines))
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        raise ValueError(f"{page}:{opened[0]}: the block is not closed")


def steps(page: Path) -> Iterator[File | Command]:
    """Yield what the reader does, in order. Raises ValueError for a block of commands that holds none."""
    for block in blocks(page):
        if named := _TITLE.search(block.rest):
            yield File(block.line, named["name"], "\n".join(block.lines) + "\n")
        elif block.language == "console":
            yield from _commands(page, block)


def _commands(page: Path, block: Block) -> Iterator[Command]:
    found: Command | None = None
    for number, shown in enumerate(block.lines, block.line + 1):
        if found is not None and found.text.endswith("\\"):
            found = replace(found, text=f"{found.text[:-1]}{shown.strip()}")
        elif prompt := _PROMPT.match(shown):
            if found is not None:
                yield _ended(found)
            found = Command(number, prompt["text"], 0, (), prompt["node"])
        elif found is None:
            raise ValueError(f"{page}:{number}: output before any command")
        else:
            found = replace(found, output=(*found.output, shown))
    if found is None:
        raise ValueError(f"{page}:{block.line}: a block without a command")
    yield _ended(found)


def _ended(command: Command) -> Command:
    code = _CODE.search(command.text)
    return replace(command, code=int(code["code"])) if code else command
