"""What is shipped and by whom it was made: lists of components, and whether any has a known vulnerability.

`python -m lab.supply_chain sbom` writes one CycloneDX list for what a researcher installs and one for what a storage
node does. `python -m lab.supply_chain audit` asks a vulnerability service about the packages of a storage node, which
are all of them. A service that can't be reached, or that does not know a package, is told and is a failure of its own:
silence is not "none found".
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.paths import TREE
from lab.wheel import wheel

SHIPPED: Mapping[str, str] = {"dsg": "", "dsg-operator": "[operator]"}
"""What is installed where, by the name of its list: on a researcher's machine, and on a storage node."""
OUTPUT = TREE / "build" / "sbom"
TIMEOUT = 600
"""Seconds for one command: installing takes about half a minute."""

NONE_FOUND, VULNERABLE, NOT_KNOWN = 0, 1, 3
"""Exit codes of `audit`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a vulnerability service said of a set of packages."""

    asked: int
    vulnerable: tuple[str, ...] = ()
    """`name version: identifiers`, one for each package with a known vulnerability."""
    unknown: tuple[str, ...] = ()
    """Packages of which nothing is known, with the reason."""

    @property
    def exit_code(self) -> int:
        """A known vulnerability is worse news than an unknown state."""
        if self.vulnerable:
            return VULNERABLE
        return NOT_KNOWN if self.unknown or not self.asked else NONE_FOUND


def verdict(report: Mapping[str, Any], own: frozenset[str] = frozenset({"dsg"})) -> Verdict:
    """Return what pip-audit's JSON report comes to; `own` are packages that no service can know."""
    vulnerable, unknown, asked = [], [], 0
    for package in report.get("dependencies", []):
        name = package["name"]
        if name in own:
            continue
        asked += 1
        if "skip_reason" in package:
            unknown.append(f"{name}: {package['skip_reason']}")
        elif found := package.get("vulns"):
            identifiers = ", ".join(sorted(v["id"] for v in found))
            vulnerable.append(f"{name} {package['version']}: {identifiers}")
    return Verdict(asked, tuple(vulnerable), tuple(unknown))


def _run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd=TREE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(
            f"{argv[0]} could not be run to its end: {error}. `make sbom` installs what is needed"
        ) from error


def _must(argv: Sequence[str]) -> str:
    done = _run(argv)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv[:4])} … failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def environment(name: str) -> Path:
    """Install what is shipped under a name into an environment of its own, and return its Python."""
    home = TREE / "build" / "shipped" / name
    # Without pip, which is not shipped; this environment's own installs.
    venv.create(home, clear=True, with_pip=False)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", f"--python={python}", "--quiet", "--disable-pip-version-check"]
    _must([*pip, "install", "--no-compile", f"{wheel()}{SHIPPED[name]}"])
    return python


def sbom(tools: Path) -> list[Path]:
    """Write the lists of components and return where. Raises `LabError`."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    written = []
    for name in SHIPPED:
        target = OUTPUT / f"{name}.cdx.json"
        argv = [str(tools / "cyclonedx-py"), "environment", str(environment(name))]
        argv += ["--pyproject", str(TREE / "pyproject.toml"), "--output-reproducible", "--output-file", str(target)]
        _must(argv)
        written.append(target)
    return written


def audit(tools: Path, service: str) -> Verdict:
    """Ask a vulnerability service about all that is shipped. Raises `LabError`."""
    python = environment("dsg-operator")
    packages = next((python.parent.parent / "lib").glob("python*/site-packages"))
    argv = [str(tools / "pip-audit"), "--path", str(packages), "--format", "json", "--vulnerability-service", service]
    done = _run([*argv, "--progress-spinner", "off", "--timeout", "15"])
    try:
        return verdict(json.loads(done.stdout))
    except ValueError:
        lines = done.stderr.strip().splitlines()
        return Verdict(0, unknown=(f"the service {service} can't be reached: {lines[-1] if lines else 'no word'}",))


def main() -> int:
    """Run the command of the command line."""
    parser = argparse.ArgumentParser(prog="python -m lab.supply_chain", description=__doc__)
    parser.add_argument("command", choices=["sbom", "audit"])
    parser.add_argument("--tools", type=Path, required=True, help="directory with cyclonedx-py and pip-audit")
    parser.add_argument("--service", choices=["pypi", "osv"], default="pypi")
    given = parser.parse_args()
    try:
        if given.command == "sbom":
            for path in sbom(given.tools.resolve()):
                count = len(json.loads(path.read_text(encoding="utf-8"))["components"])
                print(f"{path.relative_to(TREE)}: {count} components")
            return 0
        found = audit(given.tools.resolve(), given.service)
    except LabError as error:
        print(f"supply chain: {error}", file=sys.stderr)
        return 2
    for line in found.vulnerable:
        print(f"vulnerable  {line}")
    for line in found.unknown[:5]:
        print(f"not known   {line}")
    if len(found.unknown) > len(found.unknown[:5]):
        print(f"not known   … and {len(found.unknown) - 5} more")
    known = found.asked - len(found.unknown)
    print(f"{max(0, known)} packages looked up, {len(found.vulnerable)} vulnerable, {len(found.unknown)} not known")
    if found.exit_code == NOT_KNOWN:
        print("Nothing is said of what is not known. Where the service can't be reached, run this where it can.")
    return found.exit_code


if __name__ == "__main__":
    sys.exit(main())
