"""Write docs/reference/metrics.md from the table of metrics, or check that it is up to date (`--check`)."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from dsg.telemetry.metrics import reference

COMMAND = "python -m dsg.telemetry.reference"
PAGE = Path("docs/reference/metrics.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command at the top of the source tree; return its exit code."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the page is stale")
    wanted = reference()
    found = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if not parser.parse_args(arguments).check:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if found == wanted:
        return 0
    difference = difflib.unified_diff(found.splitlines(True), wanted.splitlines(True), str(PAGE), "generated")
    print(f"{''.join(difference)}\n{PAGE} is stale: run `{COMMAND}` and commit it.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
