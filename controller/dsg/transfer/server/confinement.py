"""What the data plane gives up before it serves anybody, for the case that somebody takes it over.

With CAP_DAC_READ_SEARCH, open_by_handle_at(2) opens any file of a mounted file system by its number, whether or not a
path leads to it: out of a container, that is any file on the node's disk. The server opens files by path alone and runs
no other program, so both are taken from it by a filter of system calls (seccomp(2)) that nothing can lift again.
Container runtimes allow the call to whoever has the capability, so their default profiles are no help.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from dataclasses import dataclass

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_FILTER_FLAG_TSYNC = 1
"""All threads of the process, not only the one that calls."""
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
"""Classic BPF: BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JGE|BPF_K, BPF_RET|BPF_K (linux/filter.h)."""
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
"""Offsets in struct seccomp_data (linux/seccomp.h)."""
_X32 = 0x40000000
"""Bit of the numbers of x86-64's second set of system calls, which would be a way around."""


@dataclass(frozen=True, slots=True)
class _Machine:
    """An architecture: its AUDIT_ARCH value, and the numbers of its system calls (linux/audit.h, asm/unistd.h)."""

    architecture: int
    seccomp: int
    refused: tuple[int, ...]
    """open_by_handle_at, execve, execveat."""
    x32: bool


_MACHINES = {
    "x86_64": _Machine(0xC000003E, 317, (304, 59, 322), x32=True),
    "aarch64": _Machine(0xC00000B7, 277, (265, 221, 281), x32=False),
}


def _instruction(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)


def _filter(machine: _Machine) -> bytes:
    """The filter: another architecture's calls end the process, what is refused fails with EPERM, all else passes."""
    lines = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_JUMP_EQUAL, machine.architecture, when_true=1),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _NUMBER_AT),
    ]
    if machine.x32:
        lines += [_instruction(_JUMP_AT_LEAST, _X32, when_false=1), _instruction(_RETURN, _KILL_PROCESS)]
    for number in machine.refused:
        lines += [_instruction(_JUMP_EQUAL, number, when_false=1), _instruction(_RETURN, _ERRNO | errno.EPERM)]
    return b"".join([*lines, _instruction(_RETURN, _ALLOW)])


class _Program(ctypes.Structure):
    """struct sock_fprog (linux/filter.h)."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def confine() -> bool:
    """Give up new privileges, file handles and other programs, for good and for all threads.

    Returns whether it could: on Linux on x86-64 and arm64. Raises OSError where the kernel refuses.
    """
    machine = _MACHINES.get(platform.machine()) if sys.platform == "linux" else None
    if machine is None:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    code = _filter(machine)
    program = _Program(len(code) // struct.calcsize("=HBBI"), code)
    wanted = (_SECCOMP_SET_MODE_FILTER, _FILTER_FLAG_TSYNC, ctypes.byref(program))
    if libc.syscall(ctypes.c_long(machine.seccomp), *wanted) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return True
