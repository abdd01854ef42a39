"""What several telemetry tests need: log lines and spans to look at, a clock to turn."""

import io
import json
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dsg.reconcile.cluster import Key


@dataclass
class PassResult:
    """What a pass of the engine tells the metrics."""

    again: set[Key] = field(default_factory=set)
    outcomes: dict[Key, str] = field(default_factory=dict)
    corrected: int = 0
    steps: list[str] = field(default_factory=list)


class Clock:
    """A monotonic clock that goes on when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class Spans:
    """The spans that ended since the test began."""

    def __init__(self, memory: InMemorySpanExporter) -> None:
        self._memory = memory

    def all(self) -> list[ReadableSpan]:
        return list(self._memory.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        found = [span for span in self.all() if span.name == name]
        assert len(found) == 1, f"{len(found)} spans named {name}"
        return found[0]


class Lines(io.StringIO):
    """A stream of log lines that is no terminal."""

    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def only(self) -> dict[str, Any]:
        lines = self.json()
        assert len(lines) == 1, self.getvalue()
        return lines[0]
