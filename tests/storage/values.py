"""Values that user properties may have, and the properties that recordings are made of."""

from __future__ import annotations

USER_VALUES: dict[str, bytes] = {
    "plain": b"justice",
    "unicode": "Été — 🗂".encode(),
    "lines": b'one\ntwo\twith tab\n\nfour "quoted" \\ end\n',
    "source": b"value\tlocal",
    "dash": b"-",
    "empty": b"",
    "bytes": b"\xff\xfe",
}
"""By the name after `dsg.test:`; set on dsgrec/b."""

BYTES = "dsg.test:bytes"
PROPERTIES = (
    "used",
    "compression",
    "quota",
    "readonly",
    "devices",
    "mounted",
    "origin",
    "keystatus",
    "mountpoint",
    *(f"dsg.test:{name}" for name in USER_VALUES),
    "dsg.test:tail",
    "dsg.test:nobody-sets-this",
)
