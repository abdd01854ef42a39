"""Somebody who follows a page to the letter, in one shell."""

from __future__ import annotations

import os
import secrets
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.docs.page import Command, File, steps

_PATIENCE = 180.0


class Reader:
    """A shell in a directory; what one command sets is there for the next, as in a terminal."""

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        *,
        on_node: Callable[[str, str], tuple[int, str]] | None = None,
    ) -> None:
        """`on_node` runs a node's command as root; it is given the node's name, and returns exit code and output."""
        self.directory = directory
        self._on_node = on_node
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env={**environment, "NO_COLOR": "1", "COLUMNS": "120", "TERM": "dumb"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def close(self) -> None:
        """End the shell."""
        if self._shell.stdin is not None:
            self._shell.stdin.close()
        self._shell.wait(10)

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; returns its exit code and what it printed. Raises AssertionError when it does not end."""
        mark = secrets.token_hex(8)
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{command}\nprintf '\\n%s %s\\n' {mark} $?\n".encode())
        self._shell.stdin.flush()
        said = self._until(f"\n{mark} ".encode(), command)
        text, _, rest = said.decode(errors="replace").rpartition(f"\n{mark} ")
        return int(rest), text

    def _until(self, mark: bytes, command: str) -> bytes:
        assert self._shell.stdout is not None
        said, deadline = b"", time.monotonic() + _PATIENCE
        while not (mark in said and said.endswith(b"\n")):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._shell.stdout], [], [], max(0.0, left))
            assert ready, (
                f"`{command}` has not ended after {_PATIENCE:.0f} s; it printed:\n{said.decode(errors='replace')}"
            )
            more = os.read(self._shell.stdout.fileno(), 65536)
            assert more, f"the shell ended in `{command}`:\n{said.decode(errors='replace')}"
            said += more
        return said

    def follow(self, page: Path, what: Callable[[Command], bool] = lambda _: True) -> int:
        """Do what a page says; returns how many commands that were. Raises AssertionError where it is not as it says.

        `what` chooses commands, where a page is for several people.
        """
        done = 0
        for step in steps(page):
            if isinstance(step, Command) and not what(step):
                continue
            if isinstance(step, File):
                where = self.run("pwd")[1].strip()
                (Path(where) / step.name).write_text(step.text)
            else:
                self._do(page, step)
                done += 1
        return done

    def _do(self, page: Path, command: Command) -> None:
        if command.node is None:
            code, said = self.run(command.text)
        else:
            assert self._on_node is not None, f"{page.name}:{command.line} is for a node, and there is none here"
            code, said = self._on_node(command.node, command.text)
        shown = "\n".join(command.output)
        print(f"$ {command.text}\n{said}")
        where = f"{page.name}:{command.line}: `{command.text}`"
        assert code == command.code, f"{where} ended with {code}, not {command.code}:\n{said}"
        assert command.fits(said), f"{where} printed\n{said}\n--- the page says\n{shown}"
