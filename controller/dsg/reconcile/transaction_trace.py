"""One trace for each transaction, from its opening to its cleaning, whoever takes the steps and however often.

A client that traces says so in an annotation (W3C Trace Context, traceparent). Otherwise the trace's id is the object's
uid: every operator process that works on the transaction, before and after a crash, finds the same one.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from dsg.api.names import TRACEPARENT
from dsg.reconcile.cluster import Raw

_TRACEPARENT = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def context_of(obj: Raw) -> Context:
    """Return the context in which spans about a SyncTransaction are begun."""
    metadata: Any = obj["metadata"]
    found = _TRACEPARENT.fullmatch((metadata.get("annotations") or {}).get(TRACEPARENT, ""))
    if found is not None and int(found[1], 16) and int(found[2], 16):
        parent = SpanContext(
            int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=TraceFlags(int(found[3], 16))
        )
    else:
        digest = hashlib.sha256(str(metadata["uid"]).encode()).digest()
        uid = re.sub("[^0-9a-f]", "", str(metadata["uid"]).lower())
        trace_id = int(uid, 16) if len(uid) == 32 and int(uid, 16) else int.from_bytes(digest[:16], "big")  # noqa: PLR2004
        parent = SpanContext(
            trace_id,
            int.from_bytes(digest[16:24], "big") or 1,
            is_remote=True,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())
