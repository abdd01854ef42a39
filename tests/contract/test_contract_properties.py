"""Properties: values as zfs get -p prints them, sources, inheritance, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsg.storage.errors import InvalidValue, NotFound, OutOfSpace, QuotaExceeded, StorageError
from dsg.storage.zfs.interface import Property, Source

from .bench import Bench

UID = "org.hrdag.dsg:uid"
NOTE = "org.hrdag.dsg:note"


def test_new_filesystem_shows_what_was_set_inherited_and_default(bench: Bench) -> None:
    name = f"{bench.root}/a"
    bench.zfs.create(name, {"recordsize": "1M", UID: "u-1", "refquota": "64M"})
    found = bench.properties(name, "recordsize", UID, "refquota", "compression", "quota", "canmount", "copies")
    assert found["recordsize"] == Property("1048576", Source.LOCAL)
    assert found[UID] == Property("u-1", Source.LOCAL)
    assert found["refquota"] == Property(str(64 << 20), Source.LOCAL)
    assert found["compression"] == Property("off", Source.INHERITED, bench.root)
    assert found["quota"] == Property("0", Source.DEFAULT)
    assert found["canmount"] == Property("on", Source.DEFAULT)
    assert found["copies"] == Property("1", Source.DEFAULT)


def test_read_only_figures_have_no_source(bench: Bench) -> None:
    names = ["used", "available", "referenced", "written", "creation", "guid", "createtxg", "usedbysnapshots"]
    found = bench.properties(bench.root, *names, "mounted", "type")
    assert all(value.source is Source.NONE for value in found.values())
    assert all(found[name].value.isdigit() for name in names)
    assert found["mounted"].value == "no"
    assert found["type"].value == "filesystem"


def test_native_properties_that_do_not_apply_are_a_dash(bench: Bench) -> None:
    bench.zfs.snapshot([f"{bench.root}@s"])
    none = Property("-", Source.NONE)
    found = bench.properties(bench.root, "origin", "keystatus", "encryptionroot", "clones")
    assert found == dict.fromkeys(found, none)
    found = bench.properties(f"{bench.root}@s", "compression", "mounted", "available", "origin", "readonly")
    assert found == dict.fromkeys(found, none)


def test_user_properties_a_dataset_does_not_have_are_left_out(bench: Bench) -> None:
    assert bench.properties(bench.root, "org.hrdag.dsg:nobody-sets-this", "guid").keys() == {"guid"}


def test_reading_a_property_that_does_not_exist_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidValue):
        bench.zfs.read([bench.root], ["guid", "bogus"])


def test_user_properties_are_inherited_by_filesystems_and_snapshots(bench: Bench) -> None:
    child = bench.create("a")
    bench.zfs.snapshot([f"{child}@s"])
    bench.zfs.set_properties(bench.root, {UID: "top"})
    inherited = Property("top", Source.INHERITED, bench.root)
    assert bench.properties(child, UID)[UID] == inherited
    assert bench.properties(f"{child}@s", UID)[UID] == inherited
    bench.zfs.set_properties(child, {UID: "own"})
    assert bench.properties(child, UID)[UID] == Property("own", Source.LOCAL)
    assert bench.properties(f"{child}@s", UID)[UID] == Property("own", Source.INHERITED, child)
    bench.zfs.inherit(child, [UID])
    assert bench.properties(child, UID)[UID] == inherited


VALUES = {
    "empty": "",
    "dash": "-",
    "spaces": "  two  words ",
    "equals": "a=b=c",
    "unicode": "Mémoire d'archives — Гватемала 🗂",
    "quotes": """'single' "double" \\back $dollar `tick` {json: [1]}""",
    "newline": "one\ntwo\n\nfour\n",
    "tab": "a\tb\t\tc",
    "control": "\x01\x1f\x7f",
    "long": "é" * 4000 + "x" * 191,
}


def test_user_property_values_come_back_as_they_were_set(bench: Bench) -> None:
    given = {f"dsg.test:{key}": value for key, value in VALUES.items()}
    bench.zfs.set_properties(bench.root, given)
    found = bench.properties(bench.root, *given, "guid")
    for name, value in given.items():
        assert found[name] == Property(value, Source.LOCAL), name
    assert found["guid"].value.isdigit()


def test_one_odd_value_leaves_the_others_readable(bench: Bench) -> None:
    child = bench.create("a", **{NOTE: "line\n\nline\t"})
    bench.create("b", **{NOTE: ""})
    bench.create("c", **{NOTE: "plain"})
    found = bench.zfs.read([bench.root], [NOTE, "guid"])
    assert [dataset.properties[NOTE].value for name, dataset in sorted(found.items()) if name != bench.root] == [
        "line\n\nline\t",
        "",
        "plain",
    ]
    assert found[child].number("guid") > 0


def test_a_property_given_with_a_dash_counts_as_no_value(bench: Bench) -> None:
    bench.zfs.set_properties(bench.root, {NOTE: "-"})
    dataset = bench.zfs.read([bench.root], [NOTE])[bench.root]
    assert dataset.value(NOTE) is None


def test_words_that_mean_the_same_read_back_as_the_first_of_them(bench: Bench) -> None:
    bench.zfs.set_properties(bench.root, {"compression": "gzip-6", "acltype": "posixacl", "xattr": "sa"})
    found = bench.properties(bench.root, "compression", "acltype", "xattr")
    assert (found["compression"].value, found["acltype"].value) == ("gzip", "posix")
    assert found["xattr"].value in {"on", "sa"}
    bench.zfs.set_properties(bench.root, {"compression": "zstd-fast-1"})
    assert bench.value(bench.root, "compression") == "zstd-fast"


def test_several_properties_are_set_and_changed_together(bench: Bench) -> None:
    before = {"compression": "lz4", "recordsize": "131072", "quota": "1G", "snapdir": "visible", UID: "1", NOTE: "x"}
    bench.zfs.set_properties(bench.root, before)
    bench.zfs.set_properties(bench.root, {"recordsize": "64K", UID: "2"})
    found = bench.properties(bench.root, *before)
    values = {name: value.value for name, value in found.items()}
    assert values == {**before, "recordsize": "65536", "quota": str(1 << 30), UID: "2"}
    assert {value.source for value in found.values()} == {Source.LOCAL}


def test_inherit_brings_back_the_value_above_or_the_default(bench: Bench) -> None:
    child = bench.create("a", compression="zstd", logbias="throughput")
    bench.zfs.inherit(child, ["compression", "logbias", UID])
    found = bench.properties(child, "compression", "logbias", UID)
    assert found["compression"] == Property("off", Source.INHERITED, bench.root)
    assert found["logbias"] == Property("latency", Source.DEFAULT)
    assert UID not in found


def test_inherit_is_refused_where_nothing_is_inherited(bench: Bench) -> None:
    bench.zfs.set_properties(bench.root, {"quota": "1G"})
    for name in ("quota", "refreservation", "canmount", "used", "bogus", "Foo:x"):
        with pytest.raises(InvalidValue):
            bench.zfs.inherit(bench.root, [name])
    assert bench.value(bench.root, "quota") == str(1 << 30)


INVALID = [
    ("compression", "fast"),
    ("recordsize", "100K"),
    ("recordsize", "32M"),
    ("quota", "many"),
    ("copies", "4"),
    ("mountpoint", "relative/path"),
    ("used", "1"),
    ("casesensitivity", "mixed"),
    ("encryption", "on"),
    ("bogus", "1"),
    ("Foo:upper", "1"),
    ("a b:space", "1"),
    ("a:" + "n" * 254, "1"),
    (NOTE, "x" * 8192),
]


def test_invalid_names_and_values_are_refused_and_change_nothing(bench: Bench) -> None:
    before = bench.properties(bench.root, "compression", "recordsize", "quota", "copies", "mountpoint", NOTE)
    for name, value in INVALID:
        with pytest.raises(InvalidValue):
            bench.zfs.set_properties(bench.root, {"snapdir": "visible", name: value})
    after = bench.properties(bench.root, "compression", "recordsize", "quota", "copies", "mountpoint", NOTE, "snapdir")
    assert after.pop("snapdir") == Property("hidden", Source.DEFAULT) if isinstance(after, dict) else True
    assert after == before


def test_none_clears_a_quota(bench: Bench) -> None:
    bench.zfs.set_properties(bench.root, {"quota": "1G", "refquota": "1G"})
    with pytest.raises(InvalidValue):
        bench.zfs.set_properties(bench.root, {"quota": "none", "refquota": "0"})
    bench.zfs.set_properties(bench.root, {"quota": "none", "refquota": "none"})
    found = bench.properties(bench.root, "quota", "refquota")
    assert {value.value for value in found.values()} == {"0"}


def test_a_quota_below_what_is_used_is_refused(bench: Bench) -> None:
    for name in ("quota", "refquota"):
        with pytest.raises(QuotaExceeded):
            bench.zfs.set_properties(bench.root, {name: "1K"})
        assert bench.value(bench.root, name) == "0"


def test_a_reservation_needs_room_in_the_pool_and_below_the_quota(bench: Bench) -> None:
    with pytest.raises(OutOfSpace):
        bench.zfs.set_properties(bench.root, {"reservation": "1000T"})
    bench.zfs.set_properties(bench.root, {"quota": "100M"})
    with pytest.raises(OutOfSpace):
        bench.zfs.set_properties(bench.root, {"reservation": "101M"})
    bench.zfs.set_properties(bench.root, {"reservation": "50M"})
    with pytest.raises(QuotaExceeded):
        bench.zfs.set_properties(bench.root, {"quota": "40M"})
    found = bench.properties(bench.root, "quota", "reservation")
    assert (found["quota"].value, found["reservation"].value) == (str(100 << 20), str(50 << 20))


def test_what_a_refused_limit_was_set_with_is_set_all_the_same(bench: Bench) -> None:
    """Only names and values are checked beforehand; the kernel checks limits one by one and sets the rest."""
    with pytest.raises(QuotaExceeded):
        bench.zfs.set_properties(bench.root, {"quota": "1K", "snapdir": "visible", UID: "set"})
    found = bench.properties(bench.root, "quota", "snapdir", UID)
    assert (found["quota"].value, found["snapdir"].value, found[UID].value) == ("0", "visible", "set")


def test_limits_set_together_may_come_in_any_order(bench: Bench) -> None:
    child = bench.create("a", refquota="10M")
    bench.zfs.set_properties(child, {"refreservation": "20M", "refquota": "30M"})
    found = bench.properties(child, "refquota", "refreservation")
    assert (found["refquota"].value, found["refreservation"].value) == (str(30 << 20), str(20 << 20))


def test_setting_and_inheriting_need_the_dataset(bench: Bench) -> None:
    for name in (f"{bench.root}/none", f"{bench.root}@none"):
        with pytest.raises(NotFound):
            bench.zfs.set_properties(name, {UID: "x"})
        with pytest.raises(NotFound):
            bench.zfs.inherit(name, [UID])


def test_reservations_and_quotas_show_in_available(bench: Bench) -> None:
    bench.zfs.set_properties(bench.root, {"quota": "100M"})
    child = bench.create("a", reservation="40M")
    sibling = bench.create("b", refreservation="10M")
    room = int(bench.value(bench.root, "available"))
    assert int(bench.value(child, "available")) - room == pytest.approx(40 << 20, abs=1 << 20)
    assert int(bench.value(bench.root, "used")) == pytest.approx(50 << 20, abs=1 << 20)
    assert int(bench.value(sibling, "usedbyrefreservation")) == pytest.approx(10 << 20, abs=1 << 20)


USER = st.sampled_from([f"dsg.test:{letter}" for letter in "abc"])
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(["-", "on", " ", "\n"])
STEPS = st.lists(st.tuples(st.sampled_from(["", "/x", "/x/y", "@s", "/x@s"]), USER, st.none() | WORDS), max_size=6)


@settings(settings.get_profile("contract"))
@given(steps=STEPS)
def test_user_properties_follow_the_nearest_local_value(bench: Bench, steps: list[tuple[str, str, str | None]]) -> None:
    """Set and inherit in any order at any level: every level shows its own value, or the nearest above."""
    places = ["", "/x", "/x/y", "@s", "/x@s"]
    if not bench.exists(f"{bench.root}/x"):
        bench.zfs.create(f"{bench.root}/x", {})
        bench.zfs.create(f"{bench.root}/x/y", {})
        bench.zfs.snapshot([f"{bench.root}@s", f"{bench.root}/x@s"])
    for place in places:
        found = bench.properties(f"{bench.root}{place}", *(f"dsg.test:{letter}" for letter in "abc"))
        bench.zfs.inherit(f"{bench.root}{place}", [k for k, v in found.items() if v.source is Source.LOCAL])
    local: dict[tuple[str, str], str] = {}
    for place, name, value in steps:
        if value is None:
            bench.zfs.inherit(f"{bench.root}{place}", [name])
            local.pop((place, name), None)
        else:
            bench.zfs.set_properties(f"{bench.root}{place}", {name: value})
            local[place, name] = value
    lines = {"": [""], "/x": ["/x", ""], "/x/y": ["/x/y", "/x", ""], "@s": ["@s", ""], "/x@s": ["/x@s", "/x", ""]}
    for place, line in lines.items():
        expected = {}
        for name in (f"dsg.test:{letter}" for letter in "abc"):
            holder = next((above for above in line if (above, name) in local), None)
            if holder is not None:
                own = holder == place
                source = Source.LOCAL if own else Source.INHERITED
                expected[name] = Property(local[holder, name], source, "" if own else f"{bench.root}{holder}")
        assert bench.properties(f"{bench.root}{place}", *(f"dsg.test:{letter}" for letter in "abc")) == expected


def test_errors_name_what_they_are_about(bench: Bench) -> None:
    with pytest.raises(StorageError) as caught:
        bench.zfs.set_properties(f"{bench.root}/none", {UID: "x"})
    assert f"{bench.root}/none" in str(caught.value) or caught.value.subject == f"{bench.root}/none"
