"""The reader of pages notices what is not as a page says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.page import Command, File, steps
from tests.docs.reader import Reader

PAGE = """
Write this:

```yaml title="pool.yaml"
a: 1
```

```console
$ cat pool.yaml
a: 1
$ export WORD=here; cd ..
$ printf '%s\\n' one two "$WORD" \\
    four
one
…
fo…
$ (exit 3)   # exit code 3
node-a# zfs list
tank
```

```python
not for a shell
```
"""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    (tmp_path / "desk").mkdir()
    found = Reader(tmp_path / "desk", os.environ, on_node=lambda node, command: (0, "tank\n"))
    yield found
    found.close()


def written(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "page.md"
    page.write_text(text)
    return page


def test_steps_come_in_order(tmp_path: Path) -> None:
    found = list(steps(written(tmp_path, PAGE)))
    assert found[0] == File(4, "pool.yaml", "a: 1\n")
    assert [step.text for step in found[1:] if isinstance(step, Command)][2].endswith('"$WORD" four')
    assert found[-2] == Command(17, "(exit 3)   # exit code 3", 3, ())
    assert found[-1] == Command(18, "zfs list", 0, ("tank",), "node-a")


def test_a_page_that_is_right_is_followed(tmp_path: Path, reader: Reader) -> None:
    assert reader.follow(written(tmp_path, PAGE)) == 5


@pytest.mark.parametrize(
    ("was", "becomes"),
    [("# exit code 3", ""), ("$ cat pool.yaml\na: 1", "$ cat pool.yaml\na: 2"), ("one\n…\nfo…", "one\nfo…")],
)
def test_a_page_that_is_wrong_is_told(tmp_path: Path, reader: Reader, was: str, becomes: str) -> None:
    assert was in PAGE
    with pytest.raises(AssertionError, match=r"page\.md:"):
        reader.follow(written(tmp_path, PAGE.replace(was, becomes)))


@pytest.mark.parametrize("text", ["```console\noutput\n```\n", "```console\n$ ls\n"])
def test_a_page_that_is_not_formed_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"page\.md:"):
        list(steps(written(tmp_path, text)))
