"""Spans nest as the work does: across awaits, worker threads and executors; errors show, secrets don't."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from dsg.telemetry.tracing import current_ids, in_executor, span
from tests.telemetry.support import Spans


def child_of(child: ReadableSpan, parent: ReadableSpan) -> bool:
    context = parent.get_span_context()
    assert context is not None
    return child.parent is not None and child.parent.span_id == context.span_id


def command(name: str) -> str:
    with span(name):
        return name


def test_a_thread_continues_the_trace(spans: Spans) -> None:
    async def reconcile() -> None:
        with span("reconcile"):
            with span("plan"):
                await asyncio.to_thread(command, "zfs list")
            await asyncio.gather(asyncio.to_thread(command, "zfs create"), asyncio.to_thread(command, "zfs set"))

    asyncio.run(reconcile())
    assert child_of(spans.named("plan"), spans.named("reconcile"))
    assert child_of(spans.named("zfs list"), spans.named("plan"))
    assert child_of(spans.named("zfs create"), spans.named("reconcile"))
    assert child_of(spans.named("zfs set"), spans.named("reconcile"))
    contexts = [done.get_span_context() for done in spans.all()]
    assert len({context.trace_id for context in contexts if context is not None}) == 1


@pytest.mark.parametrize("own", [True, False])
def test_an_executor_continues_the_trace(spans: Spans, own: bool) -> None:
    async def reconcile() -> str:
        with ThreadPoolExecutor(1) as pool, span("reconcile"):
            return await in_executor(pool if own else None, command, name="zfs list")

    assert asyncio.run(reconcile()) == "zfs list"
    assert child_of(spans.named("zfs list"), spans.named("reconcile"))


def test_two_reconciles_at_once_are_two_traces(spans: Spans) -> None:
    async def reconcile(name: str) -> None:
        with span("reconcile", name=name):
            await asyncio.sleep(0)
            await asyncio.to_thread(command, f"zfs {name}")

    async def main() -> None:
        await asyncio.gather(reconcile("a"), reconcile("b"))

    asyncio.run(main())
    parents = {(done.attributes or {})["dsg.name"]: done for done in spans.all() if done.name == "reconcile"}
    for name in ("a", "b"):
        assert child_of(spans.named(f"zfs {name}"), parents[name])


def test_attributes_carry_the_namespace_and_none_is_left_out(spans: Spans) -> None:
    with span("reconcile", kind="Repository", attempt=2, reason=None):
        pass
    done = spans.named("reconcile")
    assert dict(done.attributes or {}) == {"dsg.kind": "Repository", "dsg.attempt": 2}
    assert done.status.status_code is StatusCode.UNSET


def test_an_exception_is_the_spans_status_and_goes_on(spans: Spans) -> None:
    secret = "abcdef0123456789"
    with pytest.raises(LookupError), span("outer"), span("inner"):
        raise LookupError(f"refused: Bearer {secret}")
    for name in ("inner", "outer"):
        done = spans.named(name)
        assert done.status.status_code is StatusCode.ERROR
        assert done.status.description == "LookupError: refused: Bearer [redacted]"
        (event,) = done.events
        attributes = event.attributes or {}
        assert event.name == "exception" and attributes["exception.type"] == "LookupError"
        assert "test_telemetry_tracing.py" in str(attributes["exception.stacktrace"])
        assert secret not in str(attributes)


def test_cancellation_is_no_error(spans: Spans) -> None:
    async def main() -> None:
        async def wait() -> None:
            with span("waiting"):
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    done = spans.named("waiting")
    assert done.status.status_code is StatusCode.UNSET
    assert [event.name for event in done.events] == ["cancelled"]


def test_ids_are_those_of_the_current_span(spans: Spans) -> None:
    assert current_ids() is None
    with span("x") as current:
        ids = current_ids()
        assert ids is not None
        assert int(ids.trace_id, 16) == current.get_span_context().trace_id and len(ids.trace_id) == 32
        assert int(ids.span_id, 16) == current.get_span_context().span_id and len(ids.span_id) == 16
        assert trace.get_current_span() is current
    assert current_ids() is None
