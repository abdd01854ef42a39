"""What is generated from the models: CRDs, JSON Schemas, documents, and the command that keeps them up to date."""

from __future__ import annotations

import difflib
import functools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from pydantic import Field

from dsg.api.base import Model
from dsg.api.crd import KINDS, Kind, annotated_schema, definition
from dsg.api.editor_schema import editor_schema
from dsg.api.generate import EXAMPLES, main, outputs
from dsg.api.reasons import CONDITION_TYPES, REASONS
from dsg.api.structural import DEFAULT, stripped, structural
from tests.api.invalid_specs import INVALID, VALID
from tests.api.objects import BASES, TREE, patched

by_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])


def schema_of(kind: Kind) -> dict[str, Any]:
    found: dict[str, Any] = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every field below a schema with its path."""
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here, field
        yield from fields(field, here)
        yield from fields(field.get("items", {}), f"{here}[]")


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema in a schema, itself included."""
    yield schema
    for inner in (*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(inner, dict):
            yield from nodes(inner)


class TestCrd:
    @by_kind
    def test_every_field_is_explained_in_a_sentence(self, kind: Kind) -> None:
        unexplained = [
            path
            for path, field in fields(schema_of(kind))
            if path != "metadata"
            and not (len(field.get("description", "").split()) >= 4 and field["description"].endswith("."))
        ]
        assert unexplained == []

    @by_kind
    def test_no_description_only_repeats_the_field_name(self, kind: Kind) -> None:
        for path, field in fields(schema_of(kind)):
            if path != "metadata":
                words = set(re.findall(r"[a-z]+", field["description"].lower()))
                name = set(re.findall(r"[a-z]+", re.sub(r"([A-Z])", r" \1", path.rpartition(".")[2]).lower()))
                assert len(words - name) >= 3, path

    @by_kind
    def test_place_is_never_defaulted(self, kind: Kind) -> None:
        defaulted = {path.rpartition(".")[2] for path, field in fields(schema_of(kind)) if "default" in field}
        assert defaulted <= {"nameRules", "deletionPolicy", "driftPolicy", "intent", "status"}

    @by_kind
    def test_an_object_that_nobody_has_looked_at_says_so(self, kind: Kind) -> None:
        assert schema_of(kind)["properties"]["status"]["default"] == {"observedGeneration": -1}
        version = definition(kind)["spec"]["versions"][0]
        assert version["subresources"] == {"status": {}}

    @by_kind
    def test_status_fields_appear_only_when_an_operator_writes_them(self, kind: Kind) -> None:
        status = schema_of(kind)["properties"]["status"]
        assert [path for path, field in fields(status) if "default" in field] == []

    @by_kind
    def test_everything_in_a_spec_is_bounded(self, kind: Kind) -> None:
        """The API server refuses rules whose cost it can't bound."""
        for node in nodes(schema_of(kind)["properties"]["spec"]):
            match node["type"]:
                case "string":
                    assert "maxLength" in node or "enum" in node, node
                case "array":
                    assert "maxItems" in node, node
                case "object":
                    assert "properties" in node or "maxProperties" in node, node

    @by_kind
    def test_lists_say_how_they_merge(self, kind: Kind) -> None:
        for node in nodes(schema_of(kind)):
            if node["type"] == "array":
                assert node["x-kubernetes-list-type"] in {"set", "map", "atomic"}

    @by_kind
    def test_messages_name_no_private_key_and_fit(self, kind: Kind) -> None:
        text = json.dumps(definition(kind))
        assert "x-dsg-" not in text
        assert "$ref" not in text
        for node in nodes(schema_of(kind)):
            for rule in node.get("x-kubernetes-validations", []):
                assert 8 <= len(rule["message"]) <= 2048
                assert "\n" not in rule["message"]

    def test_kinds_are_not_in_the_category_all(self) -> None:
        """`kubectl delete all --all` must not reach data."""
        assert [definition(kind)["spec"]["names"]["categories"] for kind in KINDS] == [["dsg"]] * 3

    def test_a_reader_applies_defaults_that_the_crd_leaves_out(self) -> None:
        (kind,) = [kind for kind in KINDS if kind.name == "Repository"]
        silent = {p: f[DEFAULT] for p, f in fields(annotated_schema(kind)) if DEFAULT in f and "default" not in f}
        assert silent["spec.suspend"] is False
        assert silent["spec.storage.adopt"] is False

    @by_kind
    def test_columns_and_selectable_fields_exist_in_the_schema(self, kind: Kind) -> None:
        known = {f".{path}" for path, _ in fields(schema_of(kind))} | {".metadata.creationTimestamp"}
        for path in (*(column.path for column in kind.columns), *kind.selectable):
            plain = re.sub(r"\[\?\(.*?\)\]", "[]", path)
            assert plain in known, path
        assert len(kind.selectable) <= 8


class One(Model):
    """One."""

    type: Literal["one"]
    """Kind of thing that this is."""
    size: Annotated[int, Field(ge=1)]
    """How large the thing is."""


class Two(Model):
    """Two."""

    type: Literal["two"]
    """Kind of thing that this is."""
    size: Annotated[int, Field(ge=2)]
    """How large the thing is."""


class Either(Model):
    """Either."""

    part: Annotated[One | Two, Field(discriminator="type")]
    """The part that matters here."""


class Mixed(Model):
    """Mixed."""

    value: int | str
    """A number or a text, nobody knows."""


class TestTransformation:
    def test_members_that_disagree_about_a_field_are_an_error(self) -> None:
        with pytest.raises(ValueError, match="disagree about size"):
            structural(Either.model_json_schema())

    def test_alternatives_are_an_error_not_a_guess(self) -> None:
        with pytest.raises(ValueError, match="no structural form"):
            structural(Mixed.model_json_schema())

    def test_stripping_keeps_remarks_in_the_description(self) -> None:
        assert stripped({"description": "A.", "x-dsg-remark": " Needed.", "x-dsg-default": 1}) == {
            "description": "A. Needed."
        }


@functools.cache
def editor(base: str) -> jsonschema.Draft202012Validator:
    model = {"zfs": 0, "full": 0, "encrypted": 0, "xfs": 0, "pool": 1, "xfspool": 1, "tx": 2}[base]
    return jsonschema.Draft202012Validator(
        editor_schema(KINDS[model].model), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


NEEDS_AN_EXPRESSION = {
    # Refused by Kubernetes or by one of our expressions; JSON Schema has no words for it.
    "name-upper-case",
    "name-underscore",
    "name-trailing-dot",
    "name-long",
    "pool-reserved",
    "key-in-two-places",
    "key-nowhere",
    "dataset-elsewhere",
    "root-elsewhere",
    "mountpoint-up",
    "mountpoint-hidden",
    "directory-same",
    "directory-above",
    "mount-root-in-directory",
    "quota-beyond",
    "refquota-above",
    "reservation-above",
    "refreservation-above",
    "refreservation-above-refquota",
    "star-and-more",
    "directory-path",
    "directory-dots",
    "directory-nul",
    "ignored-path",
    "ignored-up",
    "in-without-values",
    "exists-with-values",
    "init-with-base",
    "sync-without-base",
    "sync-with-restore",
    "sync-without-changes",
    "restore-of-nothing",
    "read-with-changes",
    "restore-with-changes",
    # Python's `$` also matches before a last newline; the dialect's own does not.
    "node-newline",
    # Editors leave metadata to Kubernetes' own schema.
    "metadata-misspelt",
}


class TestEditorSchema:
    @by_kind
    def test_is_a_json_schema(self, kind: Kind) -> None:
        jsonschema.Draft202012Validator.check_schema(editor_schema(kind.model))

    @pytest.mark.parametrize("base", BASES)
    def test_accepts_the_examples(self, base: str) -> None:
        assert [error.message for error in editor(base).iter_errors(patched(base, {}))] == []

    @pytest.mark.parametrize("name", [name for name in VALID if not name.startswith("null")])
    def test_accepts_what_is_valid(self, name: str) -> None:
        base, patch = VALID[name]
        assert [error.message for error in editor(base).iter_errors(patched(base, patch))] == []

    def test_refuses_all_that_needs_no_expression(self) -> None:
        accepted = {case.name for case in INVALID if editor(case.base).is_valid(patched(case.base, case.patch))}
        assert accepted == NEEDS_AN_EXPRESSION

    def test_complains_about_the_member_that_is_meant(self) -> None:
        (error,) = editor("xfs").iter_errors(patched("xfs", {"spec.storage.directory": "data"}))
        assert error.json_path == "$.spec.storage.directory"


@functools.cache
def page_of(name: str) -> str:
    return outputs(TREE)[f"docs/reference/{name}.md"]


class TestDocuments:
    @by_kind
    def test_the_page_of_a_kind_explains_every_field_of_its_spec_and_status(self, kind: Kind) -> None:
        page = page_of(kind.name.lower())
        for path, field in fields(annotated_schema(kind)):
            if path.startswith(("spec.", "status.")):
                assert f"### `{path}`\n" in page
                assert field["description"] in page

    @by_kind
    def test_the_page_of_a_kind_shows_every_column_and_example(self, kind: Kind) -> None:
        page = page_of(kind.name.lower())
        for column in kind.columns:
            assert f"| {column.name} |" in page
        for name in EXAMPLES[kind.name]:
            assert f"](../../examples/{name})" in page

    def test_every_example_is_shown_and_belongs_to_a_kind(self) -> None:
        shown = {name for names in EXAMPLES.values() for name in names}
        assert shown == {path.name for path in (TREE / "examples").glob("*.yaml")} == set(BASES.values())

    def test_every_reason_has_its_section_and_what_to_do(self) -> None:
        page = page_of("conditions")
        for reason in REASONS:
            assert f"### {reason.name}\n" in page
            assert reason.action in page
        for condition in CONDITION_TYPES:
            assert f"| `{condition}` |" in page

    @pytest.mark.parametrize("name", ["repository", "storagepool", "synctransaction", "conditions", "README"])
    def test_links_lead_somewhere(self, name: str) -> None:
        page = TREE / "docs" / "reference" / f"{name}.md"
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), target

    @pytest.mark.parametrize("name", BASES.values())
    def test_examples_point_editors_to_their_schema(self, name: str) -> None:
        first = (TREE / "examples" / name).read_text().splitlines()[0]
        target = first.removeprefix("# yaml-language-server: $schema=")
        kind = yaml.safe_load((TREE / "examples" / name).read_text())["kind"]
        assert json.loads((TREE / "examples" / target).read_text())["title"] == kind


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the parts of the tree that the command looks at."""
    (tmp_path / "controller" / "dsg").mkdir(parents=True)
    shutil.copytree(TREE / "examples", tmp_path / "examples")
    assert main(["--tree", str(tmp_path)]) == 0
    return tmp_path


class TestCommand:
    def test_the_tree_is_up_to_date(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--check", "--tree", str(TREE)]) == 0, capsys.readouterr().err

    def test_what_it_wrote_is_up_to_date_and_writing_again_changes_nothing(
        self, tree: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        capsys.readouterr()
        assert main(["--check", "--tree", str(tree)]) == 0
        assert main(["--tree", str(tree)]) == 0
        assert capsys.readouterr().out == ""

    def test_an_edited_file_is_shown_as_a_diff(self, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tree / "crds" / "dsg.hrdag.org_repositories.yaml"
        path.write_text(path.read_text().replace("maxLength: 63", "maxLength: 99", 1))
        assert main(["--check", "--tree", str(tree)]) == 1
        told = capsys.readouterr().err
        assert re.search(r"^-.*maxLength: 99$", told, re.MULTILINE)
        assert re.search(r"^\+.*maxLength: 63$", told, re.MULTILINE)
        assert "run `python -m dsg.api.generate`" in told
        assert "maxLength: 99" in path.read_text(), "a check writes nothing"

    def test_a_deleted_file_is_missed_and_written_again(self, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tree / "docs" / "reference" / "conditions.md"
        path.unlink()
        assert main(["--check", "--tree", str(tree)]) == 1
        assert "docs/reference/conditions.md" in capsys.readouterr().err
        assert main(["--tree", str(tree)]) == 0
        assert path.exists()

    def test_a_file_that_nothing_generates_any_more_is_found_and_removed(
        self, tree: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        strays = [tree / "crds" / "dsg.hrdag.org_old.yaml", tree / "schemas" / "old.json"]
        for stray in strays:
            stray.write_text("{}")
        page = tree / "docs" / "reference" / "old.md"
        shutil.copy(tree / "docs" / "reference" / "README.md", page)
        assert main(["--check", "--tree", str(tree)]) == 1
        told = capsys.readouterr().err
        assert [
            name for name in ("crds/dsg.hrdag.org_old.yaml", "schemas/old.json", "reference/old.md") if name in told
        ]
        assert main(["--tree", str(tree)]) == 0
        assert not any(path.exists() for path in (*strays, page))

    def test_pages_written_by_hand_are_left_alone(self, tree: Path) -> None:
        page = tree / "docs" / "reference" / "commands.md"
        page.write_text("# Commands\n")
        assert main(["--check", "--tree", str(tree)]) == 0
        assert main(["--tree", str(tree)]) == 0
        assert page.read_text() == "# Commands\n"

    def test_an_edited_example_makes_its_page_stale(self, tree: Path) -> None:
        path = tree / "examples" / "pool-zfs.yaml"
        path.write_text(path.read_text().replace("capacityPercent: 80", "capacityPercent: 70"))
        assert main(["--check", "--tree", str(tree)]) == 1

    def test_another_directory_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--tree", str(tmp_path)]) == 2
        assert "is no source tree of dsg" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_generation_is_deterministic(self) -> None:
        one, other = outputs(TREE), outputs(TREE)
        changed = [name for name in one if list(difflib.unified_diff([one[name]], [other[name]]))]
        assert changed == []
