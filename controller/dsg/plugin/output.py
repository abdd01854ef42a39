"""What a command prints: a short text for people, or one JSON or YAML document that is complete and keeps its form.

Results go to stdout, all else to stderr, so that a pipe carries results only. Colour comes on a terminal alone
(rich; NO_COLOR turns it off).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dsg.plugin.text import plain, safe

API_VERSION = "cli.dsg.hrdag.org/v1"
"""Version of the documents. Fields are only added to them; whatever else changes makes it v2."""
_WIDE = 1_000_000
"""Columns of what is no terminal: nothing is wrapped or cut there."""
_IN_MEMORY = 8 * 1024**2
_PIECE = 65536


class Format(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


class OutputClosed(Exception):
    """Nobody reads stdout any more, as with `| head`."""


class Output:
    """Where a command says what it did."""

    def __init__(self, form: Format = Format.TEXT, *, quiet: bool = False, verbose: bool = False) -> None:
        self.form = form
        self.quiet = quiet
        self.verbose = verbose
        self._out = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDE, highlight=False, soft_wrap=True)

    @property
    def structured(self) -> bool:
        """Return whether results are for machines."""
        return self.form is not Format.TEXT

    # --- results

    def document(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Print a result for machines; nothing in text form."""
        if self.structured:
            self._write(self._dumped({"apiVersion": API_VERSION, "kind": kind, **fields}))

    def documents(self, kind: str, fields: Mapping[str, Any], name: str, items: Iterable[Mapping[str, Any]]) -> None:
        """Print a result for machines that ends with a list, which may be long. Nothing in text form.

        Nothing is printed before all of it is there: an error on the way leaves no half document.
        """
        if not self.structured:
            return
        head = plain({"apiVersion": API_VERSION, "kind": kind, **fields})
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8") as spool:
            spool.writelines(
                _yaml_parts(head, name, items) if self.form is Format.YAML else _json_parts(head, name, items)
            )
            spool.seek(0)
            while piece := spool.read(_PIECE):
                self._write(piece)

    def line(self, text: str | Text = "", style: str = "") -> None:
        """Print a line of a result in text form; a `str` is taken as it is, markup means nothing."""
        if self.structured:
            return
        with _closable():
            self._out.print(text if isinstance(text, Text) else Text(safe(text, lines=True), style=style))

    def table(
        self, headings: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: Sequence[int] = ()
    ) -> None:
        """Print a table in text form; `right` are the columns of numbers."""
        if self.structured:
            return
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
        for number, heading in enumerate(headings):
            table.add_column(heading, justify="right" if number in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(safe(cell)) for cell in row))
        with _closable():
            if self._out.is_terminal:
                self._out.print(table, soft_wrap=False)
            else:
                with self._out.capture() as captured:
                    self._out.print(table, soft_wrap=False)
                self._write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    # --- beside the results

    def note(self, text: str, style: str = "") -> None:
        """Say something beside the result, on stderr; not with -q."""
        if not self.quiet:
            self.err.print(Text(safe(text, lines=True), style=style))

    def detail(self, text: str) -> None:
        """Say something for -v, on stderr."""
        if self.verbose:
            self.err.print(Text(safe(text, lines=True), style="dim"))

    def failure(self, reason: str, message: str, advice: str, code: int) -> None:
        """Say that the command failed: on stderr for people, and as the result for machines."""
        said = Text("kubectl dsg: ", style="bold red")
        said.append(safe(message, lines=True), style="default not bold")
        with suppress(OSError):
            self.err.print(said)
            if advice:
                self.err.print(Text(safe(advice, lines=True)))
        error = {"reason": reason, "message": message, "advice": advice, "exitCode": code}
        self.document("Error", {"error": error})

    def _dumped(self, value: Mapping[str, Any]) -> str:
        if self.form is Format.YAML:
            return _yaml(plain(value))
        return json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n"

    def _write(self, text: str) -> None:
        with _closable():
            sys.stdout.write(text)

    def flush(self) -> None:
        """See that all of the result has left."""
        with _closable():
            sys.stdout.flush()


def _json_parts(head: Mapping[str, Any], name: str, items: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield json.dumps(head, indent=2, ensure_ascii=False).removesuffix("\n}") + f',\n  "{name}": ['
    empty = True
    for item in items:
        yield ("\n    " if empty else ",\n    ") + json.dumps(plain(item), ensure_ascii=False)
        empty = False
    yield "]\n}\n" if empty else "\n  ]\n}\n"


def _yaml_parts(head: Mapping[str, Any], name: str, items: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield _yaml(head)
    empty = True
    for item in items:
        yield (f"{name}:\n" if empty else "") + _yaml([plain(item)])
        empty = False
    if empty:
        yield f"{name}: []\n"


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=_WIDE)


@contextmanager
def _closable() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise OutputClosed from None


def prepare_streams() -> None:
    """Let stdout and stderr take any text, whatever the locale."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def abandon_stdout() -> None:
    """Make the interpreter's own last flush go nowhere: nobody reads it."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
