"""Programs that stand in for zfs(8) and zpool(8): they replay what was recorded, or misbehave."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from dsg.storage.process import CommandRecord, Runner, RunnerPolicy
from dsg.storage.zfs.command_line import CommandLineZfs, Timeouts
from tests.storage.recorded import Output

REPLAY = """#!{python} -ISs
import json, sys
with open({table!r}) as file:
    found = json.load(file).get("\\0".join(sys.argv[1:]))
if found is None:
    sys.stderr.write("not recorded: " + repr(sys.argv[1:]))
    sys.exit(99)
sys.stdout.buffer.write(found[1].encode())
sys.stdout.flush()
sys.stderr.buffer.write(found[2].encode())
sys.exit(found[0])
"""


class FakeNode:
    """A directory with the two programs, and OpenZFS on top of them."""

    def __init__(self, directory: Path, *, timeouts: Timeouts | None = None) -> None:
        self.directory = directory
        self.records: list[CommandRecord] = []
        self.runner = Runner(RunnerPolicy(grace=0.2), observers=[self.records.append])
        self.zfs = CommandLineZfs(
            self.runner,
            timeouts if timeouts is not None else Timeouts(read=30, change=30),
            zfs=str(directory / "zfs"),
            zpool=str(directory / "zpool"),
        )

    def script(self, program: str, text: str) -> None:
        """Make a program a shell script."""
        self._write(program, f"#!/bin/sh\n{text}\n")

    def replay(self, *recorded: Output) -> None:
        """Make both programs print what was recorded for the same arguments."""
        for program in ("zfs", "zpool"):
            table = self.directory / f"{program}.json"
            known = {"\0".join(o.argv[1:]): (o.exit_code, o.stdout, o.stderr) for o in recorded if o.argv[0] == program}
            table.write_text(json.dumps(known))
            self._write(program, REPLAY.format(python=sys.executable, table=str(table)))

    def _write(self, program: str, text: str) -> None:
        path = self.directory / program
        path.write_text(text)
        path.chmod(0o755)

    def started(self, act: Callable[[], object]) -> int:
        """Return how many processes an action took."""
        before = len(self.records)
        act()
        return len(self.records) - before
