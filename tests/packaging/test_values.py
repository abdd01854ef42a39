"""The chart's values: what is refused, and with which words. No helm: the schema alone."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from tests.packaging.rendered import ENVIRONMENTS, TREE

CHART = TREE / "charts" / "dsg"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def merged(base: Any, over: Any) -> Any:
    """As Helm merges values: maps deeply, all else replaced."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


def values(environment: str = "production") -> dict[str, Any]:
    text = (TREE / "examples" / "helm" / f"{environment}.yaml").read_text()
    found: dict[str, Any] = merged(DEFAULTS, yaml.safe_load(text))
    return found


def problems(given: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(given)]


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_examples_are_valid(environment: str) -> None:
    assert problems(values(environment)) == []


def test_what_must_be_given_has_no_default() -> None:
    where = {problem.partition(":")[0] for problem in problems(DEFAULTS)}
    assert where == {"$.image.repository", "$.endpoint", "$.storage.directories"}


def _closed(node: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all objects with named properties."""
    if "$ref" in node:
        node = SCHEMA["definitions"][node["$ref"].rpartition("/")[2]]
    if "properties" in node:
        yield path
        for name, part in node["properties"].items():
            yield from _closed(part, (*path, name))


@pytest.mark.parametrize("path", [path for path in _closed(SCHEMA) if "global" not in path], ids="/".join)
def test_an_unknown_value_is_refused_everywhere(path: tuple[str, ...]) -> None:
    given = copy.deepcopy(values())
    place = given
    for name in path:
        if not isinstance(place.get(name), dict):
            place[name] = {}
        place = place[name]
    place["noSuchValue"] = 1
    assert any("noSuchValue" in problem for problem in problems(given))


REFUSED = [
    ("an endpoint that is the same for all nodes", "endpoint", "https://storage.example.org:8443"),
    ("an endpoint without TLS", "endpoint", "http://{node}.example.org"),
    ("an endpoint with a path", "endpoint", "https://{node}.example.org/dsg"),
    ("an endpoint with a variable of its own", "endpoint", "https://{node}.$(POD_NAMESPACE).example.org"),
    ("a log level that does not exist", "logLevel", "verbose"),
    ("a relative directory", "storage.directories", ["srv/dsg"]),
    ("a directory with a space", "storage.directories", ["/srv/d s g"]),
    ("the same directory twice", "storage.directories", ["/srv/dsg", "/srv/dsg"]),
    ("a digest that is none", "image.digest", "sha256:1234"),
    ("an image's tag in its name", "image.repository", "registry.example.org/dsg:0.5.0"),
    ("no storage nodes named", "nodeSelector", {}),
    ("a password among the variables", "operator.env", {"PASSWORD": "x"}),
    ("a port that is none", "dataPlane.hostPort", 70000),
    ("memory in no unit", "dataPlane.resources.limits.memory", "much"),
    ("a network that is an address", "networkPolicy.researchers", ["192.0.2.1"]),
    ("the whole class of key files", "operator.keyDirectory", "keys"),
    ("an update strategy that does not exist", "updateStrategy.type", "Recreate"),
]


@pytest.mark.parametrize(("what", "path", "value"), REFUSED, ids=[case[0].replace(" ", "-") for case in REFUSED])
def test_bad_values_are_refused(what: str, path: str, value: Any) -> None:
    given = copy.deepcopy(values())
    *parents, last = path.split(".")
    place = given
    for name in parents:
        place = place[name]
    place[last] = value
    assert any(problem.startswith(f"$.{parents[0] if parents else last}") for problem in problems(given)), what
