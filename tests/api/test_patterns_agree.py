"""Python and the API server (RE2, CEL) read every rule about a string alike: random strings, judged by both."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from dsg.api import properties, repository, rules, sizes, storagepool, synctransaction
from dsg.api.structural import Schema, stripped, structural
from tests.api.server import Refused, Server

pytestmark = pytest.mark.kube

COUNT = 250
"""Strings for each rule; the API server bounds the cost of a rule by the length of its list."""

STRINGS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "node": (rules.NodeName, ("node-a", "n", "0", "a-b-c")),
    "version": (rules.Version, ("s1", "s10", "s4294967295")),
    "duration": (rules.Duration, ("30m", "1s", "7d", "100h")),
    "person": (rules.PersonName, ("alice", "system:serviceaccount:a:b", "Zoë", "山田")),
    "digest": (rules.Digest, ("0" * 64, "0123456789abcdef" * 4)),
    "pool": (rules.PoolName, ("tank", "Tank_1", "a.b:c-d", "mirror", "raidz", "log")),
    "dataset": (rules.DatasetName, ("tank/dsg", "tank/a/b.c", "T-1/_x:y")),
    "path": (rules.AbsolutePath, ("/srv", "/srv/dsg/a", "/.hidden/x", "/a/../b", "/ü")),
    "mountpoint": (rules.MountPath, ("/srv/dsg", "/srv/.dsg", "/a/./b")),
    "limit": (sizes.Limit, ("none", "1Ki", "500Gi", "8191Pi", "8192Pi", "9007199254740992Ki")),
    "compression": (properties.Compression, ("off", "lz4", "gzip-9", "zstd-19", "zstd-fast-500", "zstd-fast")),
    "filename": (repository.FileName, ("input", "..", "a b", "*", "é")),
    "relative": (repository.RelativePath, ("a", "a/b", "a/../b", "./a", "a//b", "a/")),
    "labelkey": (storagepool.LabelKey, ("team", "example.org/team", "a/b_c.D", "k8s.io/A-1")),
    "labelvalue": (storagepool.LabelValue, ("", "a", "a-b", "A.1_z")),
    "mode": (repository.Owner.model_fields["mode"].rebuild_annotation(), ("755", "2770", "0000")),
    "reference": (synctransaction.RepositoryRef.model_fields["name"].rebuild_annotation(), ("justice", "a.b", "a-1")),
}
NASTY = "aZ09sn-_.:/*~@# \t\n\r\0\x1f\x7f\x85\xa0\u2028\ufeff'\"\\{}éß½٣Ⅷ中\U0001f5c4KiGT"


def _strings(seeds: tuple[str, ...], longest: int, chance: random.Random) -> Iterator[str]:
    """Yield each seed, and seeds with a few random edits."""
    yield from seeds
    own = "".join(seeds) or "a"
    while True:
        text = list(chance.choice(seeds))
        for _ in range(chance.randint(1, 3)):
            place = chance.randint(0, len(text))
            edit = chance.random()
            if edit < 0.6:
                text[place : place + chance.randint(0, 1)] = chance.choice(chance.choice((own, NASTY)))
            elif edit < 0.8:
                del text[place : place + 1]
            else:
                text[place:place] = text[: chance.randint(0, 6)]
        # Too long is told before any rule is looked at, for the whole object.
        yield "".join(text)[:longest]


def _item(annotation: Any) -> Schema:
    schema: Schema = stripped(structural(TypeAdapter(annotation).json_schema()))
    schema.setdefault("maxLength", 317)
    return schema


@pytest.fixture(scope="module")
def judge(server: Server) -> Iterator[str]:
    """A kind with a list of strings for each rule; the path of its objects."""
    lists = {name: {"type": "array", "maxItems": COUNT, "items": _item(a)} for name, (a, _) in STRINGS.items()}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": lists}}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "judges.test.hrdag.org"},
        "spec": {
            "group": "test.hrdag.org",
            "names": {"kind": "Judge", "listKind": "JudgeList", "plural": "judges", "singular": "judge"},
            "scope": "Cluster",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    server.call("POST", crds, crd)
    path = "/apis/test.hrdag.org/v1/judges"
    deadline = time.monotonic() + 20
    while True:
        try:
            server.call("GET", path)
            break
        except Refused:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    yield path
    server.call("DELETE", f"{crds}/judges.test.hrdag.org")


@pytest.mark.parametrize("name", STRINGS)
def test_both_judge_alike(server: Server, judge: str, name: str) -> None:
    annotation, seeds = STRINGS[name]
    longest = _item(annotation)["maxLength"]
    source = _strings(seeds, longest, random.Random(name))
    texts = [next(source) for _ in range(COUNT)]
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)

    def by_models(text: str) -> bool:
        try:
            adapter.validate_python(text, strict=True)
        except ValidationError:
            return False
        return True

    raw = {"apiVersion": "test.hrdag.org/v1", "kind": "Judge", "metadata": {"name": "a"}, "spec": {name: texts}}
    refused: set[int] = set()
    try:
        server.call("POST", f"{judge}?dryRun=All", copy.deepcopy(raw))
    except Refused as error:
        assert error.code == 422
        refused = {int(field.partition("[")[2].partition("]")[0]) for field in error.fields}
    judged = {text: by_models(text) for text in texts}
    assert {text for number, text in enumerate(texts) if (number in refused) == judged[text]} == set()
    assert 5 < sum(judged.values()) < len(judged) - 5, "both verdicts must occur for the comparison to mean something"
