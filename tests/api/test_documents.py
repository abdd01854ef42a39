"""YAML files: read as kubectl reads them, reported by file, line and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.api.documents import check, load_files, read_documents
from dsg.api.repository import Repository
from tests.api.objects import EXAMPLES
from tests.api.server import Server

# What kubectl 1.3x makes of bare words; TestKubectl holds this table to kubectl itself.
WORDS: dict[str, Any] = {
    "y": True, "Y": True, "n": False, "N": False, "yes": True, "No": False, "on": True, "OFF": False, "yEs": "yEs",
    "true": True, "TRUE": True, "False": False, "null": None, "~": None, "Null": None,
    "1": 1, "-1": -1, "+1": 1, "-0": 0, "01": 1, "0770": 504, "0o770": 504, "-0o7": -7, "08": 8, "0x1F": 31, "0X1f": 31,
    "-0x1F": -31, "0b11": 3, "0B11": 3, "1_000": 1000, "1__0": 10, "1_": 1, "_1": "_1", "0b": "0b", "0x": "0x",
    "1.5": 1.5, ".5": 0.5, "-.5": -0.5, "1.": 1, "1e3": 1000, "1.e3": 1000, "1e+3": 1000, "1E5": 100000, "2.0": 2,
    "685.230_15e+03": 685230.15, ".e5": ".e5", "0x1p3": "0x1p3",
    "1:30": "1:30", "12:30:45": "12:30:45", "190:20:30": "190:20:30",
    "2026-01-01": "2026-01-01", "2026-01-01T00:00:00Z": "2026-01-01T00:00:00Z", "=": "=",
    "inf": "inf", "NaN": "NaN", "Infinity": "Infinity", "s1": "s1", "9223372036854775807": 9223372036854775807,
}  # fmt: skip

OBJECT = """\
apiVersion: dsg.hrdag.org/v1alpha1
kind: Repository
metadata:
  name: justice
  namespace: research
spec:
  storage:
    type: zfs
    node: node-a
    pool: tank
    datset: tank/dsg/justice
    mountpoint: /srv/dsg/justice
    properties:
      compression: off
      recordsize: 128Ki
      atime: false
      xattr: sa
      quota: 500Gi
      refquota: none
      reservation: none
  owner: {uid: 2000, gid: 2000, mode: 2770}
  dataDirs:
    - input
    - a/b
"""


def value(text: str) -> Any:
    (document,) = read_documents(text, "f.yaml")
    assert document.problems == ()
    return document.raw


def reports(text: str) -> list[str]:
    return [line for one in check(read_documents(text, "f.yaml")) for line in one.report()]


@pytest.mark.parametrize("word", WORDS)
def test_bare_words_mean_what_they_mean_to_kubectl(word: str) -> None:
    found = value(f"a: {word}\n")["a"]
    assert (found, type(found)) == (WORDS[word], type(WORDS[word]))


@pytest.mark.kube
class TestKubectl:
    def test_the_table_of_words_is_kubectls(self, server: Server) -> None:
        text = "apiVersion: dsg.hrdag.org/v1alpha1\nkind: Repository\nmetadata: {name: a}\nwords:\n"
        text += "".join(f"- {word}\n" for word in WORDS)
        argv = ("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-")
        answer = server.plane.kubectl("admin", *argv, input=text).stdout
        assert dict(zip(WORDS, json.loads(answer)["words"], strict=True)) == WORDS

    def test_kubectl_takes_the_last_of_a_key_given_twice(self, server: Server) -> None:
        """It drops the first before the API server could see it. That is why this reader refuses such files."""
        text = (EXAMPLES / "repository-minimal.yaml").read_text() + "  suspend: true\n  suspend: false\n"
        argv = ("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-")
        assert json.loads(server.plane.kubectl("admin", *argv, input=text).stdout)["spec"]["suspend"] is False
        assert "spec.suspend: is given twice" in reports(text)[0]


def test_each_problem_names_file_line_and_field() -> None:
    assert reports(OBJECT) == [
        "f.yaml:7: spec.storage.dataset: is required for type zfs: Parent dataset of the repository, such as "
        "tank/dsg/justice. It holds no files; generations lie below it.",
        "f.yaml:14: spec.storage.properties.compression: must be text, not false: put it in quotes; YAML reads a bare "
        "on, yes or y as true and a bare off, no or n as false",
        "f.yaml:11: spec.storage.datset: unknown field; did you mean dataset?",
        "f.yaml:21: spec.owner.mode: must be text, not a number: put it in quotes",
        "f.yaml:24: spec.dataDirs[1]: a name is one path component, without '/'",
    ]


def test_documents_are_told_apart() -> None:
    text = f"---\n# nothing\n---\n{OBJECT}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: research}}\n"
    text += "---\n" + (EXAMPLES / "repository-xfs.yaml").read_text()
    first, second, third = check(read_documents(text, "f.yaml"))
    assert (first.title, first.document.place, first.foreign) == ("Repository research/justice", "document 1", False)
    assert first.report()[0].startswith("f.yaml:10: ")
    assert (second.title, second.foreign, second.problems) == ("Namespace research", True, ())
    assert isinstance(third.resource, Repository)
    assert third.resource.spec.storage.type == "xfs"


def test_a_list_is_taken_apart_and_keeps_its_lines() -> None:
    item = "".join(f"    {line}\n" for line in OBJECT.splitlines())
    text = "apiVersion: v1\nkind: List\nitems:\n  -\n" + item
    (only,) = check(read_documents(text, "f.yaml"))
    assert (only.title, only.document.place) == ("Repository research/justice", "item 1")
    assert "f.yaml:15: spec.storage.datset: unknown field; did you mean dataset?" in only.report()


def test_json_is_yaml() -> None:
    raw = json.dumps(value((EXAMPLES / "pool-zfs.yaml").read_text()), indent=2)
    (only,) = check(read_documents(raw, "f.json"))
    assert only.resource is not None


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: a: is given twice, in line 1 and line 3: keep one"),
        ("x: {on: 1, yes: 2}\n", "f.yaml:1: x.true: is given twice, in line 1 and line 1: keep one"),
        ("a:\n\tb: 1\n", "f.yaml:2: is not YAML: found character '\\t' that cannot start any token; indent"),
        ("a: [\n", "f.yaml:2: is not YAML: expected the node content"),
        ("a: \x01\n", "f.yaml:1: is not YAML: special characters are not allowed"),
        ("a: .inf\n", "f.yaml:1: a: .inf is no number that Kubernetes can hold"),
        ("- 1\n", "f.yaml:1: is no Kubernetes object: a mapping is needed"),
        ("? [a]\n: 1\n", "f.yaml:1: is not YAML: a key must be a plain word"),
        ("a: !!python/object:os.system x\n", "f.yaml:1: is not YAML: unknown tag python/object:os.system"),
        ("\na: *b\n", "f.yaml:2: is not YAML: found undefined alias 'b'"),
        ("a: &a [*a]\n", "f.yaml:1: is not YAML: more values than an object can hold"),
        ("kind: Repository\n", "f.yaml:1: apiVersion: is required"),
        ("apiVersion: dsg.hrdag.org/v1alpha1\nkind: Repo\n", "f.yaml:2: kind: must be one of Repository, Storage"),
        ("apiVersion: dsg.hrdag.org/v1alpha1\nkind: repository\n", "did you mean Repository?"),
        ("apiVersion: dsg.hrdag.org/v1\nkind: StoragePool\n", "f.yaml:1: apiVersion: must be dsg.hrdag.org/v1alpha1"),
        ("apiVersion: dsg.hrdag.org/v1alpha1\nkind:\n", "f.yaml:2: kind: is required"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_line(text: str, report: str) -> None:
    assert any(report in line for line in reports(text)), reports(text)


def test_few_lines_that_stand_for_billions_of_values_are_refused_at_once() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "more values than an object can hold" in reports("\n".join(levels))[0]


def test_depth_without_end_is_refused() -> None:
    assert "nested deeper" in reports("[" * 1500)[0]


def test_merged_keys_may_be_overridden_and_anchors_work() -> None:
    assert value("a: &a {x: 1, y2: 2}\nb: {<<: *a, x: 3}\n") == {"a": {"x": 1, "y2": 2}, "b": {"x": 3, "y2": 2}}


def test_what_stands_before_a_broken_document_is_still_checked() -> None:
    first, broken = check(read_documents(f"{OBJECT}---\na: [\n", "f.yaml"))
    assert first.title == "Repository research/justice"
    assert broken.title == "f.yaml, document 2"
    assert "is not YAML" in broken.report()[0]


def test_files_are_read_and_named(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text((EXAMPLES / "pool-xfs.yaml").read_text())
    bad.write_bytes(b"a: \xff\n")
    one, other = load_files([good, bad])
    assert one.resource is not None
    assert other.report() == [f"{bad}:1: is not text in UTF-8"]
    with pytest.raises(OSError, match=r"missing\.yaml"):
        load_files([tmp_path / "missing.yaml"])


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abcxyz", min_size=1), plain, min_size=1))
def test_json_reads_back_as_itself(raw: dict[str, Any]) -> None:
    assert value(json.dumps(raw)) == raw


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    for one in check(read_documents(text, "f.yaml")):
        assert one.resource is None
