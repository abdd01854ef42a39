"""Cutting the power of a storage node under load, again and again, and checking what it comes back with."""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from lab import wheel
from lab.node import PYTHON, StorageNode, pack_tests
from lab.ssh import ConnectionLost

POOL = "power"
XFS = "/xfs"
LOAD = ("tests/onzfs/load.py", "tests/transactions", "tests/reconcile/specs.py")
"""What runs in the guest."""
_PROJECT = "/root/dsg"
_LONGEST = 120.0
"""Seconds until a cut, however slow the machine is."""
_STARTED = 180.0
"""Seconds that the load may take to begin."""


class Fault(AssertionError):
    """Something was seen that must never be."""


class Channel:
    """What the load says, line by line, as it comes over ssh."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.faults: list[str] = []
        self.acks: list[tuple[str, str, str]] = []
        self.checked: dict[str, dict[str, Any]] = {}
        self.other: list[str] = []
        self.reads = self.conflicts = 0

    def write(self, line: str) -> int:
        """Take a line; one that the cut broke off has no newline and says nothing."""
        if not line.endswith("\n"):
            return len(line)
        word, _, rest = line.strip().partition(" ")
        match word:
            case "ack":
                repository, version, chain = rest.split()
                self.acks.append((repository, version, chain))
            case "read":
                self.reads += int(rest.split()[1])
            case "conflict":
                self.conflicts += 1
            case "ready":
                self.ready.set()
            case "checked":
                said = json.loads(rest)
                self.checked[said.pop("name")] = said
            case "FAULT":
                self.faults.append(rest)
                self.ready.set()
            case _:
                self.other.append(line.rstrip())
        return len(line)

    def flush(self) -> None:
        """Do nothing: every line is taken at once."""


@dataclass
class Tally:
    """What has come of all cuts so far."""

    cuts: int = 0
    acks: int = 0
    reads: int = 0
    conflicts: int = 0
    unacknowledged: int = 0
    """Versions that were committed, and whose acknowledgement the cut swallowed."""
    seconds: float = 0.0
    """How long the load ran, all cuts together."""


@dataclass
class Power:
    """A node whose power is cut under load, and what it has acknowledged."""

    node: StorageNode
    seed: int
    zfs: int = 1
    xfs: bool = True
    most: int = 6
    """Versions from the beginning of the load until a cut, at most."""
    acked: dict[str, dict[str, str]] = field(default_factory=dict)
    verified: dict[str, int] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        # Taken once: the tree may change while a long run goes on.
        self._wheel, self._load = wheel.wheel(), pack_tests(LOAD)

    def prepare(self) -> None:
        """Make the pool and the xfs file system, on a disk each, and put the load program in place."""
        self.node.create_pool(POOL, "-O", "mountpoint=none")
        if self.xfs:
            self.node.run("mkfs.xfs", "-q", "-f", "-m", "reflink=1", self.node.device(1), timeout=120)
        self._put_in_place()

    def _put_in_place(self) -> None:
        self.node.install(self._wheel)
        self.node.shell.unpack(self._load, _PROJECT)
        if self.xfs:
            self.node.run("mkdir", "-p", XFS)
            self.node.run("modprobe", "xfs")
            self.node.run("mount", "-t", "xfs", self.node.device(1), XFS, timeout=120)

    def _settings(self, **more: Any) -> str:
        said = {"pool": POOL, "zfs": self.zfs, "xfs": f"{XFS}/load" if self.xfs else "", "seed": self.seed, **more}
        return json.dumps({**said, "seed": self._rng.randrange(1 << 30)})

    def _run(self, command: str, settings: str, channel: Channel, timeout: float) -> int:
        self.node.run("sh", "-c", "cat > /root/settings", input=settings)
        argv = ["sh", "-c", f"exec {PYTHON} -u -m tests.onzfs.load {command} < /root/settings"]
        return self.node.shell.stream(argv, timeout=timeout, out=channel, cwd=_PROJECT)  # type: ignore[arg-type]

    def load_and_cut(self) -> Channel:
        """Run the load, and cut the power at a random moment of it."""
        channel, settings = Channel(), self._settings()
        acks, delay = self._rng.randint(0, self.most), self._rng.uniform(0.0, 3.0)
        ended: list[object] = []

        def run() -> None:
            try:
                ended.append(self._run("write", settings, channel, 600))
            except ConnectionLost as error:
                ended.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            if not channel.ready.wait(_STARTED):
                raise Fault(f"the load does not begin: {channel.other[-30:]} {ended}")
            began, before = time.monotonic(), len(channel.acks)
            end = began + _LONGEST
            while time.monotonic() < end and not channel.faults and not ended:
                if len(channel.acks) - before >= acks:
                    end = min(end, time.monotonic() + delay)
                time.sleep(0.01)
        finally:
            self.node.kill()
            thread.join()
        self.tally.seconds += time.monotonic() - began
        if channel.faults or not isinstance(ended[0], ConnectionLost):
            raise Fault("\n".join([*channel.faults, *channel.other[-30:], repr(ended)]))
        self._note(channel)
        return channel

    def _note(self, channel: Channel) -> None:
        for repository, version, chain in channel.acks:
            known = self.acked.setdefault(repository, {})
            if known.setdefault(version, chain) != chain:
                raise Fault(f"{version} of {repository} was acknowledged twice, with different chains")
        self.tally.acks += len(channel.acks)
        self.tally.reads += channel.reads
        self.tally.conflicts += channel.conflicts

    def check(self) -> dict[str, dict[str, Any]]:
        """Start the node again and check everything that was acknowledged."""
        if self._rng.random() < 0.3:
            self.node.boot()
        else:
            self.node.replace()
        self._put_in_place()
        channel = Channel()
        code = self._run("check", self._settings(acked=self.acked, checked=self.verified), channel, 900)
        if code != 0 or channel.faults or len(channel.checked) != self.zfs + self.xfs:
            raise Fault("\n".join([*channel.faults, *channel.other]))
        for repository, said in channel.checked.items():
            self.verified[repository] = said["versions"]
            self.tally.unacknowledged += max(0, said["unacknowledged"])
        self._note(channel)
        self.tally.cuts += 1
        return channel.checked


def cuts(power: Power, number: int, say: Any) -> Tally:
    """Cut the power a number of times. Raises Fault at the first thing that must never be."""
    power.prepare()
    for cut in range(1, number + 1):
        began, before = time.monotonic(), power.tally.seconds
        channel = power.load_and_cut()
        found = power.check()
        say(
            f"cut {cut} of {number} (seed {power.seed}): {len(channel.acks)} acknowledged, {channel.reads} reads, "
            f"{channel.conflicts} conflicts in {power.tally.seconds - before:.1f} s of load, "
            f"{time.monotonic() - began:.0f} s in all; {found}"
        )
    return power.tally
