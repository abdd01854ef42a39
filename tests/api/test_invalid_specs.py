"""The models and the API server refuse the same specs and the same updates, each with the words a person would want."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import pytest

from dsg.api.crd import KINDS, definition
from dsg.api.load import InvalidObject, forbidden_update, parse_object
from dsg.api.rules import VALIDATIONS
from tests.api.invalid_specs import INVALID, INVALID_UPDATES, VALID, VALID_UPDATES, Invalid, InvalidUpdate
from tests.api.objects import BASES, patched
from tests.api.server import Refused, Server

JARGON = re.compile(r"pydantic|errors\.|Input should|Extra inputs|Field required|https?://|\bNone\b|dict|\bstr\b")


class Named(Protocol):
    @property
    def name(self) -> str: ...


def _ids(cases: Sequence[Named]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def test_the_tables_are_as_large_as_promised_and_name_each_case_once() -> None:
    names = [case.name for case in INVALID] + [case.name for case in INVALID_UPDATES]
    assert len(INVALID) >= 80
    assert len(INVALID_UPDATES) >= 25
    assert len(names) == len(set(names))


@_ids(INVALID)
def test_models_refuse(case: Invalid) -> None:
    with pytest.raises(InvalidObject) as caught:
        parse_object(patched(case.base, case.patch))
    (problem,) = [text for text in caught.value.problems if case.at in text.partition(": ")[0] and case.says in text]
    assert not JARGON.search(problem)


@_ids(INVALID)
def test_a_refused_spec_has_only_the_fault_that_was_put_in(case: Invalid) -> None:
    """Else the table would prove less than it says."""
    with pytest.raises(InvalidObject) as caught:
        parse_object(patched(case.base, case.patch))
    # Unsuitable fields of the former type come along when the type changes.
    assert len(caught.value.problems) == 1 or "type" in case.name or case.name in {"pool-digit", "pool-reserved"}


@pytest.mark.parametrize("base", BASES)
def test_models_accept_the_bases(base: str) -> None:
    parse_object(patched(base, {}))


@pytest.mark.parametrize("name", VALID)
def test_models_accept(name: str) -> None:
    parse_object(patched(*VALID[name]))


def _change(case: InvalidUpdate) -> tuple[dict[str, Any], dict[str, Any]]:
    return patched(case.base, case.before), patched(case.base, {**case.before, **case.patch})


@_ids(INVALID_UPDATES)
def test_models_refuse_update(case: InvalidUpdate) -> None:
    old, new = map(parse_object, _change(case))
    found = [str(problem) for problem in forbidden_update(old, new)]
    assert [text for text in found if text.startswith(f"{case.at}: ") and case.says in text]


@_ids(VALID_UPDATES)
def test_models_accept_update(case: InvalidUpdate) -> None:
    old, new = map(parse_object, _change(case))
    assert forbidden_update(old, new) == []


def test_another_type_is_one_problem_not_many() -> None:
    (case,) = [case for case in INVALID_UPDATES if case.name == "xfs-to-zfs"]
    old, new = map(parse_object, _change(case))
    assert len(forbidden_update(old, new)) == 1


@pytest.mark.kube
class TestServer:
    """The same tables on a real kube-apiserver."""

    @_ids(INVALID)
    def test_refuses(self, server: Server, case: Invalid) -> None:
        with pytest.raises(Refused) as caught:
            server.create(patched(case.base, case.patch), dry_run=True)
        assert case.server_says in caught.value.message
        assert case.at in caught.value.message

    @pytest.mark.parametrize("base", BASES)
    def test_accepts_the_bases(self, server: Server, base: str) -> None:
        server.create(patched(base, {}), dry_run=True)

    @pytest.mark.parametrize("name", VALID)
    def test_accepts_and_what_it_stores_is_what_the_models_read(self, server: Server, name: str) -> None:
        raw = patched(*VALID[name])
        with server.existing(raw) as created:
            read, written = parse_object(created), parse_object(raw)
        assert read.spec == written.spec
        assert read.metadata.uid
        assert read.status is not None

    @_ids(INVALID_UPDATES)
    def test_refuses_update(self, server: Server, case: InvalidUpdate) -> None:
        old, new = _change(case)
        with server.existing(old) as created:
            new["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"]
            with pytest.raises(Refused) as caught:
                server.replace(new, dry_run=True)
        assert case.says in caught.value.message
        assert case.at in caught.value.message

    @_ids(VALID_UPDATES)
    def test_accepts_update(self, server: Server, case: InvalidUpdate) -> None:
        old, new = _change(case)
        with server.existing(old) as created:
            new["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"]
            server.replace(new, dry_run=True)

    def test_another_type_is_one_problem_not_many(self, server: Server) -> None:
        (case,) = [case for case in INVALID_UPDATES if case.name == "xfs-to-zfs"]
        old, new = _change(case)
        with server.existing(old) as created:
            new["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"]
            with pytest.raises(Refused) as caught:
                server.replace(new, dry_run=True)
        assert caught.value.message.count("can't be changed") == 1


def _rules(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (rule["message"] for rule in schema.get(VALIDATIONS, []))
        for value in schema.values():
            yield from _rules(value)


def _spec_rules() -> set[str]:
    """Return the message of every rule of the CRDs that a spec or a name can break."""
    found: set[str] = set()
    for kind in KINDS:
        schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        del schema["properties"]["status"]
        found.update(_rules(schema))
    return found


def _refusals(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except (Refused, InvalidObject) as error:
        return str(error)
    pytest.fail("accepted")


def test_every_rule_is_broken_by_some_case_on_the_models() -> None:
    """A rule that no case breaks is a rule of which nobody knows whether it works."""
    said = [_refusals(lambda c=case: parse_object(patched(c.base, c.patch))) for case in INVALID]  # type: ignore[misc]
    for update in INVALID_UPDATES:
        old, new = map(parse_object, _change(update))
        said += map(str, forbidden_update(old, new))
    # Presence is pydantic's own affair there.
    ours = {message for message in _spec_rules() if not re.search(r"needs field|is needed$", message)}
    assert {message for message in ours if not any(message in text for text in said)} == set()


@pytest.mark.kube
def test_every_rule_is_broken_by_some_case_on_the_server(server: Server) -> None:
    said = []
    for case in INVALID:
        raw = patched(case.base, case.patch)
        said.append(_refusals(lambda raw=raw: server.create(raw, dry_run=True)))  # type: ignore[misc]
    for update in INVALID_UPDATES:
        old, new = _change(update)
        with server.existing(old) as created:
            new["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"]
            said.append(_refusals(lambda new=new: server.replace(new, dry_run=True)))  # type: ignore[misc]
    assert {message for message in _spec_rules() if not any(message in text for text in said)} == set()
