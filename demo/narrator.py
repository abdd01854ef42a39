"""How the story is told: chapters, plain sentences, commands with their real output, and what was checked."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from lab.progress import duration

_INDENT = "  "


class Unexpected(Exception):
    """Raised when something did not show what it should; says what was expected and what was there."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One part of the story, and how long it took (seconds)."""

    title: str
    seconds: float


class Narrator:
    """Writes to a terminal, in colour where it is one."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._begin = time.monotonic()
        self.chapters: list[Chapter] = []

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style))

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """Tell one part of the story."""
        begin = time.monotonic()
        number = len(self.chapters) + 1
        self._console.print()
        self._console.print(Rule(Text(f"{number}. {title}", style="bold"), align="left", style="dim"))
        yield
        self.chapters.append(Chapter(title, time.monotonic() - begin))

    def say(self, text: str) -> None:
        """Say something in plain words, wrapped to the terminal."""
        self._console.print()
        self._console.print(Text(text), soft_wrap=False, width=min(self._console.width, 100))

    def command(self, argv: Sequence[str], prompt: str = "$") -> None:
        """Show a command before it runs."""
        line = Text(f"{prompt} ", style="dim")
        line.append(shlex.join(argv) if len(argv) > 1 else argv[0], style="bold cyan")
        self._console.print(line)

    def output(self, text: str, *, failed: bool = False) -> None:
        """Show what a command printed."""
        for line in text.rstrip("\n").splitlines():
            self._print(_INDENT + line, "yellow" if failed else "")

    def checked(self, text: str) -> None:
        """Say what has been checked on the real state."""
        self._console.print(Text("✔ ", style="bold green") + Text(text, style="green"))

    def failed(self, text: str) -> None:
        """Say what is not as it should be."""
        self._console.print(Text("✘ ", style="bold red") + Text(text, style="red"))

    def summary(self) -> None:
        """Tell how long each part took, and all together."""
        self._console.print()
        self._console.print(Rule(Text("Times", style="bold"), align="left", style="dim"))
        for number, chapter in enumerate(self.chapters, 1):
            self._print(f"{number:>3}. {chapter.title:<62} {duration(chapter.seconds):>8}")
        self._print(f"     {'in all':<62} {duration(time.monotonic() - self._begin):>8}", "bold")
