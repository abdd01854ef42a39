"""What is mounted on this machine, as the kernel tells it; starts no process."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

PATH = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(rb"\\([0-7]{3})")
_LEFT, _RIGHT = 6, 3


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo, of any file system."""

    directory: str
    root: str
    """The directory of the file system that is shown; `/` unless it is a bind mount of a part of it."""
    filesystem: str
    source: str
    read_only: bool


def parse_mountinfo(content: bytes) -> list[MountEntry]:
    """Parse /proc/self/mountinfo (proc_pid_mountinfo(5)), in mount order. Lines that are cut off are passed over."""
    found = []
    for line in content.split(b"\n"):
        left, separator, right = line.partition(b" - ")
        before, after = left.split(b" "), right.split(b" ")
        if not separator or len(before) < _LEFT or len(after) < _RIGHT:
            continue
        root, directory, options = before[3], before[4], before[5]
        filesystem, source, super_options = after[0], after[1], after[2]
        read_only = b"ro" in options.split(b",") or b"ro" in super_options.split(b",")
        found.append(
            MountEntry(_unescape(directory), _unescape(root), _unescape(filesystem), _unescape(source), read_only)
        )
    return found


def _unescape(field: bytes) -> str:
    """Undo the octal escapes of space, tab, line break and backslash."""
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), field))
