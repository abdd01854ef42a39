"""Older configs become Repositories, or say what is missing; nothing of them is lost silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dsg.api.documents import check, read_documents
from dsg.api.load import InvalidObject, parse_object
from dsg.migration.config import draft
from dsg.migration.shapes import Shape, ShapeError, read_config
from tests.migration.shapes import (
    FLAT,
    FLATTENED,
    NAMED,
    REPOSITORY,
    REPOSITORY_XFS,
    SHAPES,
    WRAPPED,
    XFS_POLICY,
    ZFS_POLICY,
)

DATA = Path(__file__).parent / "data"


def policy(kind: str) -> Any:
    return yaml.safe_load(ZFS_POLICY if kind == "zfs" else XFS_POLICY)


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_alone_says_what_it_could_not_know(name: str) -> None:
    made = draft(read_config(SHAPES[name], "old"), {})
    golden = DATA / f"{name}.yaml"
    said = made.text + "".join(f"# note: {note}\n" for note in made.notes)
    assert said == golden.read_text()
    assert not made.complete
    assert made.wrong == ()
    assert {"spec.storage.node", "spec.owner.uid", "spec.access"} <= {path for path, _ in made.asked}
    # What is not known is nowhere a value that the API takes.
    with pytest.raises(InvalidObject):
        parse_object(yaml.safe_load(made.text))


@pytest.mark.parametrize("name", SHAPES)
def test_with_what_is_asked_each_shape_is_a_repository(name: str) -> None:
    old = read_config(SHAPES[name], "old")
    made = draft(old, policy(old.type), name="" if name != "repository-xfs" else "sv-2024", namespace="research")
    assert made.complete, (made.asked, made.wrong)
    (found,) = check(read_documents(made.text, "made"))
    assert found.resource == made.repository
    assert made.repository is not None
    assert set(made.repository.spec.data_dirs) - {"dsg-provenance"} == set(old.data_dirs)


def test_every_answer_is_needed() -> None:
    """Leave out any one, and the API refuses what comes of it."""

    def without(value: Any, path: tuple[str, ...]) -> Any:
        return {k: without(v, path[1:]) if k == path[0] else v for k, v in value.items() if (k,) != path}

    def paths(value: Any) -> list[tuple[str, ...]]:
        return [
            (key, *rest)
            for key, item in value.items()
            for rest in (paths(item) if isinstance(item, dict) and key not in {"access"} else [()])
        ]

    whole = policy("zfs")
    for path in paths(whole):
        made = draft(read_config(FLAT, "old"), without(whole, path))
        assert [asked for asked, _ in made.asked] == ["spec." + ".".join(path)]
        with pytest.raises(InvalidObject):
            parse_object(yaml.safe_load(made.text))


def test_what_a_shape_says_is_read() -> None:
    flat, wrapped, named = (read_config(text, "old") for text in (FLAT, WRAPPED, NAMED))
    assert (flat.shape, flat.name, flat.type, flat.host, flat.path) == (
        Shape.FLAT,
        "data",
        "zfs",
        "dsg-server",
        "/var/repos/dsg",
    )
    assert (wrapped.shape, wrapped.name, wrapped.type, wrapped.data_dirs) == (
        Shape.WRAPPED,
        "justice",
        "xfs",
        ("input", "output"),
    )
    assert (named.shape, named.name) == (Shape.NAMED, "justice")
    assert "ssh.name" in named.left
    assert read_config(FLATTENED, "old").data_dirs == ("input", "output")
    found = read_config(REPOSITORY, "old")
    assert (found.shape, found.pool, found.data_dirs) == (Shape.REPOSITORY, "tank", ("*",))
    assert read_config(REPOSITORY_XFS, "old").left == {"colour": "no field of DSG"}


def test_a_default_that_was_not_stated_is_said() -> None:
    notes = draft(read_config(FLATTENED, "old"), {}).notes
    assert any("names and suffixes to ignore are not stated" in note for note in notes)


def test_what_you_say_comes_before_what_the_config_says_and_is_told() -> None:
    made = draft(read_config(REPOSITORY, "old"), {"storage": {"pool": "fast"}, "dataDirs": ["input"]})
    assert "pool: fast" in made.text
    assert "- input" in made.text
    assert sum("as you said" in note for note in made.notes) == 2


def test_another_type_asks_other_questions() -> None:
    made = draft(read_config(REPOSITORY, "old"), {"storage": {"type": "xfs"}})
    assert {"spec.storage.directory"} <= {path for path, _ in made.asked}
    assert "pool" not in yaml.safe_load(made.text)["spec"]["storage"]


def test_an_answer_that_is_wrong_is_told() -> None:
    made = draft(read_config(REPOSITORY, "old"), {**policy("zfs"), "dataDir": ["x"]})
    assert not made.complete
    assert made.wrong == ("spec.dataDir: unknown field; did you mean dataDirs?",)


@pytest.mark.parametrize("kind", ["rclone", "ipfs"])
def test_what_is_not_offered_is_refused_with_advice(kind: str) -> None:
    block = "{remote: gdrive, path: /p, name: x}" if kind == "rclone" else "{did: did:key:z6, name: x}"
    for text in (
        f"transport: {kind}\n{kind}: {block}\nproject: {{data_dirs: [input]}}\n",
        f"name: x\nrepository: {{type: {kind}}}\n",
        f"repo_name: x\nrepo_path: /p\nhost: h\nrepo_type: {kind}\n",
    ):
        with pytest.raises(ShapeError, match="Keep the repository on zfs or xfs"):
            read_config(text, "old")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds 0 documents"),
        ("- a\n", "is no mapping"),
        ("a: [\n", "is not YAML"),
        ("name: x\n", "no config that DSG has had"),
        ("name: x\nname: y\n", "is given twice"),
        (REPOSITORY + "transport: ssh\n", "both `repository` and `transport`"),
        ("name: x\ntransport: ssh\n", "exactly one block"),
        ("name: x\ntransport: ssh\nssh: {host: h, path: /p, type: zfs}\nrclone: {}\n", "exactly one block"),
        ("transport: ssh\nssh: {host: h, path: /p, type: zfs}\n", "names the repository nowhere"),
        ("name: x\nrepository: {type: btrfs, host: h, mountpoint: /p}\n", "'btrfs'; DSG had zfs and xfs"),
        ("name: x\nrepository: {type: zfs, host: h, mountpoint: /p}\n", "repository.pool is missing"),
        ("name: 7\nrepository: {type: xfs, host: h, mountpoint: /p}\n", "name is 7"),
        ("name: x\nrepository: {type: xfs, host: h, mountpoint: /p}\ndata_dirs: input\n", "must be a list"),
    ],
)
def test_what_dsg_refused_is_refused(text: str, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        read_config(text, "old.yml")


def test_a_users_config_describes_no_repository() -> None:
    found = read_config('user_name: "Alice Smith"\nuser_id: "alice@example.com"\n', "dsg.yml")
    assert found.shape is Shape.USER
    assert found.user["user_id"] == "alice@example.com"


WORDS = st.text(min_size=1, max_size=12) | st.sampled_from(["off", "1e3", "0770", "a\nb", "x # y", "é", "😀", "TODO"])


@settings(max_examples=25)
@given(
    st.fixed_dictionaries(
        {
            "name": WORDS,
            "repository": st.fixed_dictionaries(
                {"type": st.just("zfs"), "host": WORDS, "pool": WORDS, "mountpoint": WORDS}
            ),
        },
        optional={
            "data_dirs": st.lists(WORDS, max_size=3, unique=True),
            "ignore": st.fixed_dictionaries(
                {}, optional={key: st.lists(WORDS, max_size=3) for key in ("names", "suffixes", "paths")}
            ),
            "other": WORDS,
        },
    ),
    st.booleans(),
    st.sampled_from(["", "justice"]),
)
def test_what_says_that_it_is_complete_loads_and_nothing_else(config: Any, answered: bool, name: str) -> None:
    text = yaml.safe_dump(config, allow_unicode=True)
    try:
        old = read_config(text, "old")
    except ShapeError:
        return
    answers = policy("zfs")
    if old.pool:
        del answers["storage"]["pool"]
    made = draft(old, answers if answered else {}, name=name)
    (found,) = check(read_documents(made.text, "made"))
    assert made.complete == (found.resource is not None)
    assert made.complete == (not made.asked and not made.wrong)
    # Whatever an old file holds, each field is what it was, and no line begins another field.
    raw = yaml.safe_load(made.text)
    assert raw["spec"]["storage"]["pool"] == old.pool
    assert [one for one in raw["spec"]["dataDirs"] if one != "dsg-provenance"] == (
        ["*"] if "*" in old.data_dirs else [one for one in old.data_dirs if one != "dsg-provenance"]
    )
    assert set(raw) == {"apiVersion", "kind", "metadata", "spec"}
