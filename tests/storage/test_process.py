"""The runner: what commands leave, and what happens when they hang, die, flood or are not there."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from dsg.storage import process
from dsg.storage.errors import CommandFailed, CommandTimeout, NotResponding
from dsg.storage.process import CommandMissing, CommandRecord, Outcome, Runner, RunnerPolicy, shorten

QUICK = RunnerPolicy(grace=0.3)
LONG = 30.0


def python(source: str, *arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", source, *arguments]


def wait_until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process does not run any more; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


# ---- commands that end


def test_output_and_exit_code_come_back() -> None:
    source = "import sys; sys.stdout.write('out'); sys.stderr.write('err'); sys.exit(3)"
    done = Runner().run(python(source), timeout=LONG)
    assert (done.exit_code, done.stdout, done.stderr, done.message) == (3, b"out", b"err", "err")


def test_stdin_is_passed_and_otherwise_empty() -> None:
    echo = python("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])")
    assert Runner().run(echo, timeout=LONG, stdin=b"abc\x00").stdout == b"\x00cba"
    assert Runner().run(echo, timeout=LONG).stdout == b""


def test_nothing_passes_through_a_shell() -> None:
    odd = ["$(id)", "`id`", "a b", "*", "'", ";", "é🗂", ""]
    source = "import sys; sys.stdout.buffer.write('|'.join(sys.argv[1:]).encode())"
    assert Runner().run(python(source, *odd), timeout=LONG).stdout.decode() == "|".join(odd)


def test_the_environment_is_the_policys_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSG_SECRET", "x")
    monkeypatch.setenv("LANGUAGE", "de")
    done = Runner().run(["env"], timeout=LONG)
    names = {line.partition("=")[0] for line in done.stdout.decode().splitlines()}
    assert names == {"PATH", "LC_ALL", "TZ"}
    assert Runner().run(["pwd"], timeout=LONG).stdout == b"/\n"


def test_a_flood_within_the_limit_comes_back_whole() -> None:
    source = """
import os, sys
for number in range(200):
    os.write(1, b"o" * 50000)
    os.write(2, b"e" * 20000)
"""
    done = Runner().run(python(source), timeout=LONG)
    assert (len(done.stdout), len(done.stderr)) == (10_000_000, 4_000_000)


def test_large_input_and_output_at_once_do_not_lock_up() -> None:
    data = os.urandom(3_000_000)
    source = """
import os
while block := os.read(0, 1000):
    os.write(1, block + block)
"""
    assert len(Runner().run(python(source), timeout=LONG, stdin=data).stdout) == 2 * len(data)


def test_input_that_nobody_reads_is_dropped() -> None:
    assert Runner().run(["true"], timeout=LONG, stdin=b"x" * 3_000_000).exit_code == 0


def test_a_command_that_dies_by_a_signal_tells_which() -> None:
    done = Runner().run(python("import os; os.write(1, b'part'); os.abort()"), timeout=LONG)
    assert (done.exit_code, done.stdout) == (-signal.SIGABRT, b"part")


def test_many_threads_run_commands_at_once() -> None:
    runner = Runner()
    source = "import sys; print(sys.argv[1])"
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda n: runner.run(python(source, str(n)), timeout=LONG).stdout, range(24))
    assert list(results) == [f"{n}\n".encode() for n in range(24)]


def test_a_command_is_ended_once_it_told_enough(tmp_path: Path) -> None:
    pid, told = tmp_path / "pid", bytearray()

    def enough(data: bytes) -> bool:
        told.extend(data)
        return told.count(b"\n") >= 3

    source = f"import os; open({str(pid)!r}, 'w').write(str(os.getpid()))\nwhile True: print('x', flush=True)"
    records: list[CommandRecord] = []
    done = Runner(QUICK, observers=[records.append]).run(python(source), timeout=30, enough=enough)
    assert done.stdout == bytes(told)
    assert (done.exit_code, records[0].outcome, records[0].exit_code) == (0, Outcome.SUCCESS, None)
    wait_until(lambda: is_gone(int(pid.read_text())))
    short = Runner(QUICK).run(python("import sys; print('x'); sys.exit(3)"), timeout=30, enough=lambda _: False)
    assert (short.stdout, short.exit_code) == (b"x\n", 3)


# ---- commands that do not


def test_a_command_that_hangs_ends_in_a_timeout_and_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $$ $! > {pids}; wait"
    started = time.monotonic()
    with pytest.raises(CommandTimeout, match=r"`sh` did not end within 0\.5 s"):
        Runner(QUICK).run(["sh", "-c", script], timeout=0.5)
    assert time.monotonic() - started < 5
    parent, child = map(int, pids.read_text().split())
    assert is_gone(parent)
    wait_until(lambda: is_gone(child))


def test_a_command_that_closed_its_output_still_has_to_end() -> None:
    source = "import os, time; os.close(1); os.close(2); time.sleep(60)"
    with pytest.raises(CommandTimeout):
        Runner(QUICK).run(python(source), timeout=0.5)


def test_a_command_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    source = f"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open({str(pid)!r}, "w").write(str(os.getpid()))
time.sleep(60)
"""
    with pytest.raises(CommandTimeout):
        Runner(QUICK).run(python(source), timeout=0.7)
    assert is_gone(int(pid.read_text()))


def test_a_flood_beyond_the_limit_is_stopped() -> None:
    source = "import os\nwhile True: os.write(1, b'x' * 65536)"
    runner = Runner(RunnerPolicy(grace=0.3, output_limit=1_000_000))
    with pytest.raises(CommandFailed, match="wrote more than 1000000 bytes"):
        runner.run(python(source), timeout=LONG)


@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_program_that_is_not_there_is_told(tmp_path: Path, mode: int | None) -> None:
    program = tmp_path / "zfs"
    if mode is not None:
        program.write_text("#!/bin/sh\n")
        program.chmod(mode)
    with pytest.raises(CommandMissing, match="install it on this node"):
        Runner().run([str(program), "list"], timeout=LONG)


# ---- commands stuck in the kernel


class Unkillable:
    """Sends no signals: what a child in uninterruptible sleep makes of them."""

    def __init__(self) -> None:
        self.groups: list[int] = []

    def __call__(self, group: int, number: int) -> None:
        if group not in self.groups:
            self.groups.append(group)

    def die(self) -> None:
        """End the children, as when the device answers again."""
        for group in self.groups:
            os.killpg(group, signal.SIGKILL)


@pytest.fixture
def unkillable() -> Iterator[Unkillable]:
    made = Unkillable()
    yield made
    for group in made.groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_a_stuck_command_is_left_and_counted_and_recovered_from(unkillable: Unkillable) -> None:
    records: list[CommandRecord] = []
    policy = RunnerPolicy(stuck_limit=2, grace=0.05)
    runner = Runner(policy, observers=[records.append], signal_group=unkillable)
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(CommandTimeout):
            runner.run(["sleep", "60"], timeout=0.1)
        assert time.monotonic() - started < 2
    assert list(runner.stuck) == ["sleep 60", "sleep 60"]

    with pytest.raises(NotResponding, match="2 commands are stuck in the kernel"):
        runner.run(["true"], timeout=LONG)
    assert [record.outcome for record in records] == [Outcome.TIMEOUT, Outcome.TIMEOUT, Outcome.REFUSED]
    assert len(unkillable.groups) == 2, "nothing was started while two are stuck"

    unkillable.die()
    wait_until(lambda: not runner.stuck)
    assert runner.run(["true"], timeout=LONG).exit_code == 0


def test_below_the_limit_other_commands_go_on(unkillable: Unkillable) -> None:
    runner = Runner(RunnerPolicy(stuck_limit=2, grace=0.05), signal_group=unkillable)
    with pytest.raises(CommandTimeout):
        runner.run(["sleep", "60"], timeout=0.1)
    assert runner.run(["echo", "on"], timeout=LONG).stdout == b"on\n"


def test_stuck_commands_leave_no_descriptors_behind(unkillable: Unkillable) -> None:
    runner = Runner(RunnerPolicy(stuck_limit=9, grace=0.02), signal_group=unkillable)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(CommandTimeout):
            runner.run(["sleep", "60"], timeout=0.05, stdin=b"x")
    assert len(os.listdir("/proc/self/fd")) == before
    unkillable.die()
    wait_until(lambda: not runner.stuck)


# ---- what is told about commands


def test_observers_see_every_command() -> None:
    records: list[CommandRecord] = []
    runner = Runner(QUICK, observers=[records.append])
    runner.run(["true"], timeout=LONG)
    runner.run(["false"], timeout=LONG)
    runner.run(["false"], timeout=LONG, accept=lambda done: done.exit_code == 1)
    with pytest.raises(CommandTimeout):
        runner.run(["sleep", "60"], timeout=0.1)
    with pytest.raises(CommandMissing):
        runner.run(["/no/such/program"], timeout=LONG)
    assert [(r.argv[0], r.outcome, r.exit_code) for r in records] == [
        ("true", Outcome.SUCCESS, 0),
        ("false", Outcome.FAILURE, 1),
        ("false", Outcome.SUCCESS, 1),
        ("sleep", Outcome.TIMEOUT, -signal.SIGTERM),
        ("/no/such/program", Outcome.MISSING, None),
    ]
    assert 0.1 <= records[3].seconds < 5


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(process, "_tracer", provider.get_tracer("dsg.storage"))
    return exporter


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    exporter.clear()
    return span


def test_each_command_is_a_span(spans: InMemorySpanExporter) -> None:
    runner = Runner(QUICK)
    runner.run(["/bin/echo", "list", "tank"], timeout=LONG, verb="list")
    span = only(spans)
    assert span.name == "echo list"
    assert span.attributes is not None
    assert span.attributes["process.command_args"] == ("/bin/echo", "list", "tank")
    assert span.attributes["process.exit.code"] == 0
    assert span.status.status_code is StatusCode.UNSET

    runner.run(["sh", "-c", "echo no such thing >&2; exit 2"], timeout=LONG)
    span = only(spans)
    assert span.attributes is not None
    assert span.attributes["process.exit.code"] == 2
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "no such thing")

    with pytest.raises(CommandTimeout):
        runner.run(["sleep", "60"], timeout=0.1)
    span = only(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["dsg.command.outcome"] == "timeout"


def test_commands_are_counted_by_program_verb_and_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("dsg.storage")
    monkeypatch.setattr(process, "_durations", meter.create_histogram("durations"))
    monkeypatch.setattr(process, "_commands", meter.create_counter("commands"))
    runner = Runner(QUICK)
    for _ in range(2):
        runner.run(["true"], timeout=LONG, verb="list")
    runner.run(["false"], timeout=LONG, verb="list")
    data = reader.get_metrics_data()
    assert data is not None
    counted: dict[str, dict[tuple[object, ...], object]] = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            labels = tuple((point.attributes or {}).get(key) for key in ("program", "verb", "outcome"))
            counted.setdefault(metric.name, {})[labels] = getattr(point, "value", None) or getattr(point, "count", None)
    expected = {("true", "list", "success"): 2, ("false", "list", "failure"): 1}
    assert counted == {"durations": expected, "commands": expected}


def test_each_command_is_one_log_line() -> None:
    with structlog.testing.capture_logs() as lines:
        Runner(QUICK).run(["sh", "-c", "echo oops >&2; exit 3"], timeout=LONG, verb="get")
    (line,) = lines
    assert (line["event"], line["command"], line["exit_code"], line["outcome"]) == ("command", "sh get", 3, "failure")
    assert line["stderr"] == "oops"
    assert line["seconds"] >= 0


def test_long_argument_vectors_are_shortened_for_people() -> None:
    shown = shorten(["zfs", "x" * 5000, *(f"tank/{n}" for n in range(5000))])
    assert sum(map(len, shown)) < 2000
    assert shown[0] == "zfs"
    assert "5000 characters" in shown[1]
    assert shown[-1] == "… and 4962 more"
    assert shorten(["zfs", "list"]) == ("zfs", "list")


# ---- commands that go on


def test_a_started_command_belongs_to_the_caller() -> None:
    child = Runner().start(
        python("import sys; print('one', flush=True); sys.stdin.read(); print('end', file=sys.stderr)")
    )
    try:
        assert child.stdout is not None
        assert child.stdout.read() == b"one\nend\n"
        assert child.wait(10) == 0
        assert child.pid != os.getpgid(0)
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
    with pytest.raises(CommandMissing):
        Runner().start(["/no/such/program"])


def test_a_signal_to_the_operator_does_not_reach_its_commands() -> None:
    """Commands run in process groups of their own: Ctrl-C ends the operator, and lets a change under way end well."""
    groups: list[bytes] = []
    thread = threading.Thread(
        target=lambda: groups.append(Runner().run(python("import os; print(os.getpgid(0))"), timeout=LONG).stdout)
    )
    thread.start()
    thread.join()
    assert int(groups[0]) != os.getpgid(0)
