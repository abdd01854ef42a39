"""The wheel installs and runs without the tree, and what a researcher installs brings nothing of the operator."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from dsg.transactions.commit import source

# One environment for all of them.
pytestmark = pytest.mark.xdist_group("wheel")

TREE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    argv = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(TREE)]
    subprocess.run(argv, check=True, capture_output=True, timeout=300)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def researcher(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel and nothing else; the folder of its commands."""
    home = tmp_path_factory.mktemp("researcher")
    venv.create(home, with_pip=False)
    subprocess.run([*pip(home / "bin"), "install", "-q", wheel], check=True, timeout=300)
    return home / "bin"


def pip(commands: Path) -> list[str | Path]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", f"--python={commands / 'python'}"]


def run(command: Sequence[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def test_the_wheel_has_the_package_and_nothing_beside_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"dsg"}
    assert "dsg/py.typed" in names


def test_the_wheel_has_the_programs(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in ("commit.lua", "made_by.lua"):
            assert archive.read(f"dsg/transactions/programs/{name}").decode() == source(name)
    # Run from the wheel alone, where files are members of an archive.
    code = "from dsg.transactions.commit import source; print(len(source('commit.lua')))"
    argv = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(wheel)!r}); {code}"]
    assert int(run(argv, tmp_path).stdout) == len(source("commit.lua"))


def test_the_plugin_runs_for_a_researcher(researcher: Path, tmp_path: Path) -> None:
    result = run([researcher / "kubectl-dsg", "version"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_a_researcher_gets_nothing_of_the_operator(researcher: Path, tmp_path: Path) -> None:
    listed = run([*pip(researcher), "list", "--format=freeze"], tmp_path).stdout.lower()
    for package in ("kopf", "kubernetes", "opentelemetry", "structlog", "aiohttp", "lupa"):
        assert package not in listed


def test_the_operators_command_says_what_is_missing(researcher: Path, tmp_path: Path) -> None:
    result = run([researcher / "dsg-operator", "run", "--node", "a"], tmp_path)
    assert result.returncode == 2
    assert "dsg[operator]" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--node", "Node_A"], "lower-case"), (["--node", "a", "--listen", "nowhere"], "HOST:PORT")],
)
def test_bad_options_are_refused_in_a_sentence(
    researcher: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    result = run([researcher / "dsg-operator", "run", *arguments], tmp_path)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
