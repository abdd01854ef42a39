"""Laws of sizes, paths, selectors and immutability."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from dsg.api.properties import PROPERTY_RULES, ZfsProperties, native, readable
from dsg.api.rules import below, overlap
from dsg.api.sizes import Limit, from_bytes, to_bytes, whole
from dsg.api.storagepool import LabelRequirement, NamespaceSelector
from tests.api.objects import patched

UNITS = ["Ki", "Mi", "Gi", "Ti", "Pi"]
limits = st.just("none") | st.builds("{}{}".format, st.integers(1, 8191), st.sampled_from(UNITS))
counts = st.integers(0, 2**63 - 1)
paths = st.lists(st.sampled_from(["a", "b", "ab", "c.d"]), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"))


@given(limits)
def test_a_limit_is_read_and_written_without_loss(limit: str) -> None:
    TypeAdapter(Limit).validate_python(limit)
    assert to_bytes(whole(to_bytes(limit))) == to_bytes(limit)
    assert native("quota", limit) == str(to_bytes(limit))
    assert to_bytes(readable("quota", native("quota", limit))) == to_bytes(limit)


@given(st.integers(1, 2**53))
def test_whole_writes_a_limit_wherever_one_exists(kibibytes: int) -> None:
    TypeAdapter(Limit).validate_python(whole(kibibytes * 1024)) if kibibytes * 1024 < 2**63 else None
    assert to_bytes(whole(kibibytes * 1024)) == kibibytes * 1024


@given(st.integers(0, 30), st.sampled_from(UNITS))
def test_only_what_openzfs_can_count_is_a_limit(power: int, unit: str) -> None:
    limit = f"{2**power}{unit}"
    if to_bytes(limit) < 2**63:
        TypeAdapter(Limit).validate_python(limit)
    else:
        with pytest.raises(ValidationError, match="less than 8Ei"):
            TypeAdapter(Limit).validate_python(limit)


def shown(count: int) -> float:
    text = from_bytes(count)
    digits = text.rstrip("KMGTPEi")
    return float(digits) * 1024.0 ** ["", *UNITS, "Ei"].index(text[len(digits) :])


@given(counts)
def test_a_size_for_people_is_close_and_short(count: int) -> None:
    assert abs(shown(count) - count) <= count * 0.005
    assert len(from_bytes(count).rstrip("KMGTPEi").replace(".", "").lstrip("0")) <= 3


@given(counts, counts)
def test_a_size_for_people_never_shrinks_as_the_count_grows(one: int, other: int) -> None:
    assert shown(min(one, other)) <= shown(max(one, other))


@given(paths, paths)
def test_overlap_is_by_whole_components(one: str, other: str) -> None:
    a, b = one.split("/"), other.split("/")
    shorter = min(len(a), len(b))
    assert overlap(one, other) == overlap(other, one) == (a[:shorter] == b[:shorter])


@given(paths, paths, paths)
def test_below_is_a_strict_order(one: str, two: str, three: str) -> None:
    assert not below(one, one)
    assert not (below(one, two) and below(two, one))
    if below(one, two) and below(two, three):
        assert below(one, three)


def test_a_name_that_only_begins_alike_is_not_below() -> None:
    assert not below("tank/dsg2", "tank/dsg")
    assert not overlap("/srv/dsg", "/srv/dsg-old")
    assert below("/srv", "/")


@given(labels, labels)
def test_a_selector_admits_what_has_all_its_labels(wanted: dict[str, str], found: dict[str, str]) -> None:
    assert NamespaceSelector(match_labels=wanted).admits(found) == (wanted.items() <= found.items())


@given(labels)
def test_an_empty_selector_admits_all(found: dict[str, str]) -> None:
    assert NamespaceSelector().admits(found)


@given(labels, st.sampled_from("abc"), st.lists(st.sampled_from("xyz"), min_size=1))
def test_requirements_are_opposites_in_pairs(found: dict[str, str], key: str, values: list[str]) -> None:
    """Kubernetes: a namespace without the label meets NotIn."""

    def admits(**requirement: Any) -> bool:
        return LabelRequirement(key=key, **requirement).admits(found)

    assert admits(operator="In", values=values) != admits(operator="NotIn", values=values)
    assert admits(operator="Exists") != admits(operator="DoesNotExist")
    assert not admits(operator="In", values=values) or admits(operator="Exists")


@given(limits, limits, limits)
def test_limits_of_a_repository_are_in_order(quota: str, refquota: str, reservation: str) -> None:
    policy = {**patched("zfs", {})["spec"]["storage"]["properties"]}
    policy |= {"quota": quota, "refquota": refquota, "reservation": reservation}
    most = to_bytes(quota) or 2**64
    legal = (to_bytes(refquota) <= most) and to_bytes(reservation) <= most
    try:
        ZfsProperties.model_validate(policy)
    except ValidationError:
        assert not legal
    else:
        assert legal


def test_every_policy_property_has_a_place() -> None:
    assert [rule.field for rule in PROPERTY_RULES] == list(ZfsProperties.model_fields)
