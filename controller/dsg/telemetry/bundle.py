"""A support bundle: texts under names, in one order, with a README that says what each is; written whole or not."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from dsg.telemetry.redaction import redact_text

_CHUNK = 32768
"""Characters that are looked at together: `redact_text` keeps no more than twice that of one text."""
_PREFIX = "dsg-support"


def redact_long(text: str) -> str:
    """Return a text of any length without what looks like a secret; taken apart between lines."""
    parts: list[str] = []
    part: list[str] = []
    size = 0
    inside = False
    for line in text.splitlines(keepends=True):
        inside = ("-----BEGIN" in line or inside) and "-----END" not in line
        part.append(line)
        size += len(line)
        if size >= _CHUNK and not inside:
            parts.append(redact_text("".join(part)))
            part, size = [], 0
    parts.append(redact_text("".join(part)))
    return "".join(parts)


@dataclass(slots=True)
class Bundle:
    """What is to be written."""

    title: str
    about: list[str] = field(default_factory=list)
    """Lines of the README before the list of files."""
    _files: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, name: str, what: str, text: str) -> None:
        """Add a file; secrets are taken out of it here, whatever was done before."""
        self._files[name] = (what, redact_long(text))

    @property
    def listing(self) -> list[tuple[str, str, int]]:
        """Return each file's name, what it is, and its bytes, in order."""
        return [(name, what, len(text.encode())) for name, (what, text) in sorted(self._files.items())]

    def readme(self) -> str:
        """Return the README."""
        lines = [f"# {self.title}", "", *self.about, "", "| file | what it is | bytes |", "|---|---|---|"]
        lines += [f"| {name} | {what} | {size} |" for name, what, size in self.listing]
        return "\n".join(lines) + "\n"

    def write(self, file: Path) -> None:
        """Write it as a tar archive, readable by its owner alone. Raises OSError; then there is no new file.

        FileExistsError where there is one of that name.
        """
        packed = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            texts = {"README.md": self.readme(), **{name: text for name, (_, text) in self._files.items()}}
            for name, text in sorted(texts.items()):
                content = text.encode("utf-8", "backslashreplace")
                member = tarfile.TarInfo(f"{_PREFIX}/{name}")
                member.size, member.mode = len(content), 0o600
                archive.addfile(member, io.BytesIO(content))
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(number, "wb") as out:
                out.write(packed.getvalue())
                out.flush()
                os.fsync(out.fileno())
        except BaseException:
            file.unlink(missing_ok=True)
            raise
