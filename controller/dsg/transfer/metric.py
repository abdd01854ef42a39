"""What is known about a metric before it has a value; shared by all processes of a storage node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds in seconds of the buckets of every duration: from a quick `zfs list` to a command that times out."""


class Instrument(StrEnum):
    """What can be done with a metric's values."""

    COUNTER = "counter"
    """Only grows, from 0 at the process's start."""
    HISTOGRAM = "histogram"
    """Distribution of values, in buckets."""
    GAUGE = "gauge"
    """A value as it is now."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: everything that is known about it before it has a value."""

    name: str
    instrument: Instrument
    unit: str
    """In UCUM, as OpenTelemetry writes units; in braces where only a word says what is counted."""
    description: str
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Names of the attributes (Prometheus: labels) and what their values are."""

    @property
    def prometheus_name(self) -> str:
        """The name at the Prometheus endpoint, without the `_bucket`, `_sum` and `_count` of histograms."""
        words = self.name.replace(".", "_")
        if suffix := _SUFFIXES.get(self.unit):
            words = f"{words}_{suffix}"
        return f"{words}_total" if self.instrument is Instrument.COUNTER else words


_SUFFIXES = {"s": "seconds", "By": "bytes"}
"""What the Prometheus endpoint makes of a unit."""
