"""How far a command is: one bar with rate and time left on stderr, on a terminal only."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from dsg.plugin.output import Output
from dsg.plugin.text import count, size
from dsg.workcopy.results import Phase
from dsg.workcopy.results import Progress as Told

_INTERVAL = 0.1
"""Seconds between two updates; a command tells many times a second."""
_WORDS = {
    Phase.SCANNING: "Looking at files",
    Phase.COMPARING: "Comparing",
    Phase.FETCHING: "Fetching",
    Phase.SENDING: "Sending",
    Phase.COMMITTING: "Committing",
    Phase.APPLYING: "Putting in place",
}
_BY_SIZE = frozenset({Phase.FETCHING, Phase.SENDING})
"""Phases that take time by bytes; the others by files."""


class _Done(ProgressColumn):
    """Files and bytes that are done."""

    def render(self, task: Task) -> Text:
        """Return the cell."""
        told: Told = task.fields["told"]
        files = (
            f"{told.files:,} of {count(told.total_files, 'file')}" if told.total_files else count(told.files, "file")
        )
        if not told.size and not told.total_size:
            return Text(files)
        of = f" of {size(told.total_size)}" if told.total_size else ""
        return Text(f"{files}, {size(told.size)}{of}")


class _Rate(ProgressColumn):
    """Bytes or files a second."""

    def render(self, task: Task) -> Text:
        """Return the cell."""
        if task.speed is None:
            return Text("")
        told: Told = task.fields["told"]
        return Text(f"{size(round(task.speed))}/s" if told.phase in _BY_SIZE else f"{task.speed:,.0f}/s")


class Bar:
    """Shows what a command tells of its progress; nothing with -q, or where stderr is no terminal.

    The instance is a `dsg.workcopy.results.Watch`.
    """

    def __init__(self, output: Output) -> None:
        self._shown = output.err.is_terminal and not output.quiet
        self._bar = _bar(output.err, shown=self._shown)
        self._task: TaskID | None = None
        self._phase: Phase | None = None
        self._next = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, told: Told) -> None:
        """Show how far a phase is."""
        if not self._shown:
            return
        now = time.monotonic()
        if told.phase is self._phase and now < self._next:
            return
        self._next = now + _INTERVAL
        done, total = (told.size, told.total_size) if told.phase in _BY_SIZE else (told.files, told.total_files)
        if told.phase is not self._phase or self._task is None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._phase = told.phase
            self._task = self._bar.add_task(_WORDS[told.phase], total=total, completed=done, told=told)
        self._bar.update(self._task, completed=done, total=total, told=told)


def _bar(console: Console, *, shown: bool) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        _Done(),
        _Rate(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not shown,
    )
