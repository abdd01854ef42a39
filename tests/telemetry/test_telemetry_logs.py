"""Every log line is one object of one shape, whoever wrote it, and carries who, where and in which trace."""

import asyncio
import datetime
import logging
import signal
import subprocess
import sys
import threading
import warnings
from typing import Any

import kopf
import pytest
import structlog

from dsg.telemetry.logs import LogFormat, about, configure, set_level
from dsg.telemetry.tracing import span
from dsg.transfer.log_levels import switch_by_signal
from tests.telemetry.support import Lines, Spans


def test_a_line_of_our_own(log_lines: Lines) -> None:
    configure("info", "json", "node-a", stream=log_lines)
    structlog.stdlib.get_logger("dsg.reconcile").info("dataset created", dataset="tank/dsg/justice", bytes=12)
    line = log_lines.only()
    stamp = datetime.datetime.fromisoformat(line.pop("timestamp"))
    assert stamp.tzinfo is not None and stamp.utcoffset() == datetime.timedelta(0)
    assert abs((datetime.datetime.now(datetime.UTC) - stamp).total_seconds()) < 60
    assert line == {
        "level": "info",
        "logger": "dsg.reconcile",
        "event": "dataset created",
        "node": "node-a",
        "dataset": "tank/dsg/justice",
        "bytes": 12,
    }
    assert log_lines.getvalue().startswith('{"timestamp": "2')
    assert '"timestamp": "' in log_lines.getvalue() and 'Z", "level"' in log_lines.getvalue()


def test_the_level_changes_while_it_runs_and_what_must_stay_quiet_does(log_lines: Lines) -> None:
    configure("warning", "json", stream=log_lines)
    ours, bodies = logging.getLogger("dsg.reconcile"), logging.getLogger("kubernetes.client.rest")
    ours.info("too quiet")
    set_level("debug")
    ours.debug("heard")
    bodies.debug("a Secret's content")
    set_level("warning")
    ours.info("quiet again")
    assert [line["event"] for line in log_lines.json()] == [
        "log level changed to debug",
        "heard",
        "log level changed to warning",
    ]
    with pytest.raises(ValueError, match="use one of"):
        set_level("loud")


def test_signals_switch_to_debug_and_back() -> None:
    asked: list[str] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    try:
        switch_by_signal("error", asked.append)
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
            signal.raise_signal(number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert asked == ["debug", "error", "debug"]


def test_a_line_of_somebody_else_has_the_same_shape(log_lines: Lines) -> None:
    configure("info", "json", "node-a", stream=log_lines)
    logging.getLogger("kopf.activities").warning("retry in %d seconds", 5)
    line = log_lines.only()
    assert {key: line[key] for key in ("level", "logger", "event", "node")} == {
        "level": "warning",
        "logger": "kopf.activities",
        "event": "retry in 5 seconds",
        "node": "node-a",
    }


def test_what_kopf_says_about_an_object_names_the_object(log_lines: Lines) -> None:
    configure("info", "json", stream=log_lines)
    reference = {"apiVersion": "v1", "kind": "Repository", "namespace": "research", "name": "justice", "uid": "u"}
    logging.getLogger("kopf.objects").info("Handler succeeded.", extra={"k8s_ref": reference})
    line = log_lines.only()
    assert (line["kind"], line["namespace"], line["name"]) == ("Repository", "research", "justice")
    assert "k8s_ref" not in line and "uid" not in line


def test_bound_context_follows_into_threads_and_tasks_and_ends(log_lines: Lines) -> None:
    configure("info", "json", stream=log_lines)
    log = logging.getLogger("x")

    async def task() -> None:
        log.info("task")

    async def main() -> None:
        with about(kind="Repository", namespace="research", name="justice", trigger=None):
            await asyncio.to_thread(log.info, "thread")
            await asyncio.create_task(task())
            with about(step="create"):
                log.info("inner")
        log.info("outside")

    asyncio.run(main())
    thread, in_task, inner, outside = log_lines.json()
    for line in (thread, in_task, inner):
        assert (line["kind"], line["namespace"], line["name"]) == ("Repository", "research", "justice")
        assert "trigger" not in line
    assert inner["step"] == "create"
    assert "namespace" not in outside and "step" not in outside


def test_lines_carry_the_ids_of_their_span(log_lines: Lines, spans: Spans) -> None:
    configure("info", "json", stream=log_lines)
    with span("outer"):
        structlog.stdlib.get_logger("a").info("ours")
        with span("inner"):
            logging.getLogger("b").info("theirs")
    logging.getLogger("b").info("after")
    ours, theirs, after = log_lines.json()
    outer, inner = spans.named("outer").get_span_context(), spans.named("inner").get_span_context()
    assert outer is not None and inner is not None
    assert (ours["trace_id"], ours["span_id"]) == (f"{outer.trace_id:032x}", f"{outer.span_id:016x}")
    assert (theirs["trace_id"], theirs["span_id"]) == (f"{outer.trace_id:032x}", f"{inner.span_id:016x}")
    assert "trace_id" not in after and "span_id" not in after


def _refuse(token: str) -> None:
    raise ValueError(f"refused with Bearer {token}")


def _fail(token: str) -> None:
    try:
        _refuse(token)
    except ValueError as error:
        raise RuntimeError("could not sync") from error


@pytest.mark.parametrize("native", [True, False])
def test_an_exception_is_structured_and_shows_neither_locals_nor_secrets(log_lines: Lines, native: bool) -> None:
    configure("info", "json", stream=log_lines)
    secret = "abcdef0123456789"
    try:
        _fail(secret)
    except RuntimeError:
        if native:
            structlog.stdlib.get_logger("x").exception("it failed", dataset="tank/a")
        else:
            logging.getLogger("x").exception("it failed")
    line = log_lines.only()
    assert line["event"] == "it failed" and line["level"] == "error"
    exceptions: list[dict[str, Any]] = line["exception"]
    assert [(e["exc_type"], e["exc_value"]) for e in exceptions] == [
        ("RuntimeError", "could not sync"),
        ("ValueError", "refused with Bearer [redacted]"),
    ]
    frames = exceptions[0]["frames"]
    assert frames[-1]["name"] == "_fail" and frames[-1]["lineno"] > 0 and "locals" not in frames[-1]
    assert secret not in log_lines.getvalue()


def test_secrets_are_hidden_in_fields_messages_and_context(log_lines: Lines) -> None:
    configure("info", "json", stream=log_lines)
    secret = "abcdef0123456789"
    info = kopf.ConnectionInfo(server="https://x", token=secret)
    with about(token=secret):
        structlog.stdlib.get_logger("x").info(
            "login", headers={"Authorization": f"Bearer {secret}"}, info=info, key=b"0123"
        )
        logging.getLogger("y").info("headers %s", {"Authorization": f"Bearer {secret}"})
    assert secret not in log_lines.getvalue()
    assert log_lines.json()[0]["key"] == "<4 bytes>"


def test_configuring_twice_does_not_write_twice(log_lines: Lines) -> None:
    logging.getLogger().addHandler(logging.StreamHandler(log_lines))
    configure("info", "json", stream=log_lines)
    configure("info", "json", stream=log_lines)
    logging.getLogger("x").info("once")
    structlog.stdlib.get_logger("y").info("once")
    assert [line["event"] for line in log_lines.json()] == ["once", "once"]


def test_levels_apply_to_all_loggers_and_noisy_ones_stay_quiet(log_lines: Lines) -> None:
    configure("warning", "json", stream=log_lines)
    structlog.stdlib.get_logger("a").info("no")
    logging.getLogger("b").info("no")
    logging.getLogger("kubernetes.client.rest").info("no")
    logging.getLogger("b").warning("yes")
    configure("DEBUG", "json", stream=log_lines)
    structlog.stdlib.get_logger("a").debug("yes")
    logging.getLogger("kubernetes.client.rest").debug("response body: a Secret")
    assert [line["event"] for line in log_lines.json()] == ["yes", "yes"]


@pytest.mark.parametrize(
    ("level", "format", "words"), [("loud", "json", "log level 'loud'"), ("info", "xml", "log format 'xml'")]
)
def test_a_wrong_setting_is_refused_with_the_choices(level: str, format: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        configure(level, format)
    assert "use one of: " in str(caught.value)


class Terminal(Lines):
    def isatty(self) -> bool:
        return True


def test_people_get_text_on_a_terminal_or_when_they_ask(log_lines: Lines, spans: Spans) -> None:
    terminal, plain, forced = Terminal(), Lines(), Terminal()
    configure("info", LogFormat.AUTO, "node-a", stream=terminal)
    structlog.stdlib.get_logger("x").info("hello", password="hunter2")
    assert "hello" in terminal.getvalue() and "\x1b[" in terminal.getvalue() and "hunter2" not in terminal.getvalue()
    configure("info", "console", stream=log_lines)
    secret = "abcdef0123456789"
    try:
        _fail(secret)
    except RuntimeError:
        logging.getLogger("x").exception("it failed")
    text = log_lines.getvalue()
    assert "\x1b[" not in text and "Traceback" in text and "could not sync" in text and secret not in text
    configure("info", "auto", stream=plain)
    logging.getLogger("x").info("to a pipe")
    assert plain.only()["event"] == "to a pipe"
    configure("info", "json", stream=forced)
    logging.getLogger("x").info("as asked")
    assert forced.only()["event"] == "as asked"


def test_warnings_and_dead_threads_are_logged(log_lines: Lines) -> None:
    configure("info", "json", stream=log_lines)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old way", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    thread = threading.Thread(target=_fail, args=("t",), name="watcher")
    thread.start()
    thread.join()
    warned, dead = log_lines.json()
    assert warned["logger"] == "py.warnings" and "old way" in warned["event"]
    assert dead["level"] == "critical" and "watcher ends" in dead["event"]
    assert dead["exception"][0]["exc_type"] == "RuntimeError"


def test_odd_file_names_and_values_make_valid_lines(log_lines: Lines) -> None:
    configure("info", "json", stream=log_lines)
    name = b"caf\xe9\n.csv".decode("utf-8", "surrogateescape")
    structlog.stdlib.get_logger("x").info("seen", file=name, share=float("nan"), where={("a", 1): 2})
    line = log_lines.only()
    assert line["file"] == name and line["share"] == "nan" and line["where"] == {"('a', 1)": 2}


def test_a_process_that_dies_says_so_in_the_same_shape() -> None:
    program = "from dsg.telemetry import logs; logs.configure('info', 'json', 'n'); raise OSError('Bearer abcdefgh')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    lines = Lines(done.stderr)
    line = lines.only()
    assert line["level"] == "critical" and "the process ends" in line["event"] and line["node"] == "n"
    assert line["exception"][0]["exc_type"] == "OSError" and "abcdefgh" not in done.stderr
