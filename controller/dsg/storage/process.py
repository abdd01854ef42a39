"""Runs the commands of a storage node: an argv, never a shell, within a time, with a span, a log line and metrics.

A command can get stuck in the kernel, where no signal reaches it (a pool whose devices stopped answering). Such a child
is left to a thread that waits for its end; the caller gets its error at once. While too many are stuck, nothing more is
started.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import PurePath

import structlog
from opentelemetry import metrics, trace
from opentelemetry.trace import Status, StatusCode

from dsg.storage.errors import CommandFailed, CommandTimeout, NotResponding, StorageError

_log = structlog.get_logger("dsg.storage")
_tracer = trace.get_tracer("dsg.storage")
_meter = metrics.get_meter("dsg.storage")
_durations = _meter.create_histogram(
    "dsg.storage.command.duration", unit="s", description="How long the commands of the storage node ran"
)
_commands = _meter.create_counter("dsg.storage.commands", description="Commands of the storage node, by outcome")
_stuck = _meter.create_up_down_counter(
    "dsg.storage.commands.stuck", description="Commands that ran out of time and cannot be killed"
)

_CHUNK = 65536
_SHOWN_ARGUMENTS = 40
_SHOWN_CHARACTERS = 256


class Outcome(StrEnum):
    """How a command ended."""

    SUCCESS = "success"
    """It exited with 0, or with a code that is an answer."""
    FAILURE = "failure"
    """It exited with another code, or by a signal that was not ours."""
    TIMEOUT = "timeout"
    """It did not end in time."""
    OVERFLOW = "overflow"
    """It wrote more than it may, and was killed."""
    MISSING = "missing"
    """There is no such program, or it may not be executed."""
    REFUSED = "refused"
    """It was not started, as too many earlier ones are stuck."""


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """A finished command, for whoever counts them."""

    argv: tuple[str, ...]
    seconds: float
    outcome: Outcome
    exit_code: int | None
    """The exit code, negative for a signal; None where none is known."""


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command that ended by itself left."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def message(self) -> str:
        """Return what it wrote to stderr, as text."""
        return self.stderr.decode("utf-8", "backslashreplace").strip()


class CommandMissing(CommandFailed):
    """Raised when the program is not on this node."""


Observer = Callable[[CommandRecord], None]


def _environment() -> dict[str, str]:
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        # Untranslated messages; not plain `C`, in which OpenZFS cuts its JSON off at the first letter beyond ASCII.
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }


@dataclass(frozen=True, slots=True)
class RunnerPolicy:
    """Limits of a runner."""

    stuck_limit: int = 4
    """How many children may be stuck in the kernel before nothing more is started."""
    grace: float = 2.0
    """Seconds from SIGTERM to SIGKILL, and from SIGKILL until a child counts as stuck."""
    output_limit: int = 256 * 1024 * 1024
    """Bytes of stdout and stderr together that a command may write."""
    environment: Mapping[str, str] = field(default_factory=_environment)
    """The whole environment of every command."""


@dataclass(frozen=True, slots=True)
class _Result:
    outcome: Outcome
    exit_code: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""


class Runner:
    """Runs commands, one at a time per calling thread; any number of threads may call."""

    def __init__(
        self,
        policy: RunnerPolicy | None = None,
        *,
        observers: Sequence[Observer] = (),
        signal_group: Callable[[int, int], None] = os.killpg,
    ) -> None:
        """`signal_group` sends a signal to a process group."""
        self._policy = policy if policy is not None else RunnerPolicy()
        self._observers = tuple(observers)
        self._signal_group = signal_group
        self._lock = threading.Lock()
        self._stuck: dict[int, str] = {}

    @property
    def stuck(self) -> Sequence[str]:
        """The commands that ran out of time and cannot be killed, as they were written."""
        with self._lock:
            return list(self._stuck.values())

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        verb: str = "",
        stdin: bytes = b"",
        accept: Callable[[Completed], bool] = lambda _: False,
        enough: Callable[[bytes], bool] | None = None,
    ) -> Completed:
        """Run a command to its end, whatever its exit code, and return what it left.

        `timeout` is in seconds. `verb` is what the program does (`list` of `zfs list`), for names of spans and metrics.
        `accept` tells whether an exit code other than 0 is an answer all the same, and so no failure in telemetry.
        `enough` is given each piece of stdout as it comes; once it says true, the command is ended, which is a success.
        Raises CommandTimeout, NotResponding, CommandMissing, and CommandFailed when it wrote too much.
        """
        command = tuple(argv)
        program = PurePath(command[0]).name
        what = f"{program} {verb}".strip()
        shown = shorten(command)
        attributes = {"process.executable.name": program, "process.command_args": shown}
        with _tracer.start_as_current_span(
            what, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            started = time.monotonic()
            failure: StorageError | None = None
            try:
                result = self._run(command, timeout, stdin, enough)
            except _Refusal as refusal:
                result, failure = _Result(refusal.outcome), refusal.error
            completed = Completed(command, result.exit_code or 0, result.stdout, result.stderr)
            if result.outcome is Outcome.FAILURE and accept(completed):
                result = replace(result, outcome=Outcome.SUCCESS)
            seconds = time.monotonic() - started
            if failure is None:
                failure = self._failure(what, result, timeout)
            span.set_attribute("dsg.command.outcome", result.outcome)
            if result.exit_code is not None:
                span.set_attribute("process.exit.code", result.exit_code)
            labels = {"program": program, "verb": verb, "outcome": str(result.outcome)}
            _durations.record(seconds, labels)
            _commands.add(1, labels)
            said = result.stderr[:_SHOWN_CHARACTERS].decode("utf-8", "replace").strip()
            fields = {"argv": list(shown), "seconds": round(seconds, 4), "outcome": str(result.outcome)}
            if result.exit_code is not None:
                fields["exit_code"] = result.exit_code
            if result.outcome is not Outcome.SUCCESS:
                span.set_status(Status(StatusCode.ERROR, str(failure) if failure is not None else said))
                fields["stderr"] = said
            log = _log.info if failure is None else _log.warning
            log("command", command=what, **fields)
            record = CommandRecord(command, seconds, result.outcome, result.exit_code)
            for observer in self._observers:
                observer(record)
            if failure is not None:
                raise failure
        return completed

    def start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command that goes on until it is stopped, in its own process group, with its stdout as a pipe.

        Its stderr is merged into stdout. The caller owns the child. Raises CommandMissing.
        """
        try:
            return self._open(tuple(argv), subprocess.STDOUT, subprocess.DEVNULL)
        except OSError as error:
            raise _missing(argv[0], error) from error

    def _failure(self, what: str, result: _Result, timeout: float) -> StorageError | None:
        match result.outcome:
            case Outcome.TIMEOUT:
                return CommandTimeout(
                    f"`{what}` did not end within {timeout:g} s; it may still take effect. "
                    "See `zpool status` and the kernel log for devices that do not answer"
                )
            case Outcome.OVERFLOW:
                limit = self._policy.output_limit
                return CommandFailed(f"`{what}` wrote more than {limit} bytes and was stopped; ask for less at a time")
            case _:
                return None

    def _open(self, argv: tuple[str, ...], stderr: int, stdin: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd="/",
            env=dict(self._policy.environment),
            process_group=0,
        )

    def _run(
        self, argv: tuple[str, ...], timeout: float, stdin: bytes, enough: Callable[[bytes], bool] | None
    ) -> _Result:
        stuck = self.stuck
        if len(stuck) >= self._policy.stuck_limit:
            which = ", ".join(sorted(set(stuck)))
            text = (
                f"{len(stuck)} commands are stuck in the kernel ({which}), so nothing more is started until they end. "
                "See `zpool status` and the kernel log for devices that do not answer"
            )
            raise _Refusal(Outcome.REFUSED, NotResponding(text))
        try:
            child = self._open(argv, subprocess.PIPE, subprocess.PIPE if stdin else subprocess.DEVNULL)
        except OSError as error:
            raise _Refusal(Outcome.MISSING, _missing(argv[0], error)) from error
        deadline = time.monotonic() + timeout
        try:
            output = _communicate(child, stdin, deadline, self._policy.output_limit, enough)
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return self._end(child, argv, Outcome.TIMEOUT)
        except _TooMuch:
            return self._end(child, argv, Outcome.OVERFLOW)
        except _Enough as read:
            self._end(child, argv, Outcome.SUCCESS)
            return _Result(Outcome.SUCCESS, stdout=read.stdout)
        except BaseException:
            self._end(child, argv, Outcome.FAILURE)
            raise
        finally:
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    _close(pipe)
        outcome = Outcome.SUCCESS if child.returncode == 0 else Outcome.FAILURE
        return _Result(outcome, child.returncode, *output)

    def _end(self, child: subprocess.Popen[bytes], argv: tuple[str, ...], outcome: Outcome) -> _Result:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                self._signal_group(child.pid, number)
            except ProcessLookupError:
                break
            try:
                return _Result(outcome, child.wait(self._policy.grace))
            except subprocess.TimeoutExpired:
                continue
        if child.poll() is None:
            self._leave(child, argv)
        return _Result(outcome, child.returncode)

    def _leave(self, child: subprocess.Popen[bytes], argv: tuple[str, ...]) -> None:
        """Count a child that cannot be killed until it ends by itself."""
        what = " ".join(shorten(argv)[:6])
        with self._lock:
            self._stuck[child.pid] = what
        _stuck.add(1)
        _log.error("command is stuck in the kernel", command=what, pid=child.pid)

        def reap() -> None:
            child.wait()
            with self._lock:
                del self._stuck[child.pid]
            _stuck.add(-1)
            _log.info("stuck command ended", command=what, pid=child.pid, exit_code=child.returncode)

        threading.Thread(target=reap, name=f"reap-{child.pid}", daemon=True).start()


class _Refusal(Exception):
    """Nothing was started."""

    def __init__(self, outcome: Outcome, error: StorageError) -> None:
        super().__init__(str(error))
        self.outcome = outcome
        self.error = error


class _TooMuch(Exception):
    """The child wrote more than it may."""


class _Enough(Exception):
    """The child wrote all that is wanted of it."""

    def __init__(self, stdout: bytes) -> None:
        super().__init__("enough")
        self.stdout = stdout


def shorten(argv: Sequence[str]) -> tuple[str, ...]:
    """Return an argv fit for a log line: a read may name thousands of datasets."""
    shown = tuple(
        a if len(a) <= _SHOWN_CHARACTERS else f"{a[:_SHOWN_CHARACTERS]}… ({len(a)} characters)"
        for a in argv[:_SHOWN_ARGUMENTS]
    )
    left = len(argv) - len(shown)
    return (*shown, f"… and {left} more") if left else shown


def _missing(program: str, error: OSError) -> CommandMissing:
    return CommandMissing(f"cannot run `{program}`: {error.strerror}; install it on this node", subject=program)


def _close(pipe: object) -> None:
    """Close a pipe of a child; bytes that it no longer takes are dropped."""
    try:
        pipe.close()  # type: ignore[attr-defined]
    except BrokenPipeError:
        return


def _communicate(
    child: subprocess.Popen[bytes],
    stdin: bytes,
    deadline: float,
    limit: int,
    enough: Callable[[bytes], bool] | None,
) -> tuple[bytes, bytes]:
    """Feed and drain a child until it has closed its pipes. Raises TimeoutExpired, _TooMuch and _Enough."""
    chunks: dict[int, list[bytes]] = {}
    total, pending = 0, memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                chunks[pipe.fileno()] = []
                selector.register(pipe.fileno(), selectors.EVENT_READ)
        if child.stdin is not None:
            os.set_blocking(child.stdin.fileno(), False)
            selector.register(child.stdin.fileno(), selectors.EVENT_WRITE)
        outputs = list(chunks)
        while selector.get_map():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise subprocess.TimeoutExpired(child.args, 0)
            for key, events in selector.select(remaining):
                if events & selectors.EVENT_WRITE:
                    pending = _feed(key.fd, pending)
                    if not pending and child.stdin is not None:
                        selector.unregister(key.fd)
                        _close(child.stdin)
                    continue
                data = os.read(key.fd, _CHUNK)
                if not data:
                    selector.unregister(key.fd)
                chunks[key.fd].append(data)
                if enough is not None and data and key.fd == outputs[0] and enough(data):
                    raise _Enough(b"".join(chunks[key.fd]))
                total += len(data)
                if total > limit:
                    raise _TooMuch
    first, second = (b"".join(chunks[fd]) for fd in outputs)
    return first, second


def _feed(descriptor: int, pending: memoryview) -> memoryview:
    try:
        return pending[os.write(descriptor, pending[:_CHUNK]) :]
    except BlockingIOError:
        return pending
    except BrokenPipeError:
        return pending[:0]
