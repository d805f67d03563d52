"""The reference pages say what the code says: errors, API, limits, terms, and the worked example of the format."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import casckpt
from casckpt import errors, ops
from casckpt.format import chunking, frame, limits, pack, remote
from casckpt.format.config import StoreFormat
from casckpt.format.entry import Entry
from casckpt.format.ids import Kind
from casckpt.odb import journal, seal, session
from casckpt.ops.lazy import StoredState, StoredValue
from casckpt.ops.pending import PendingCommit
from casckpt.state import flat
from casckpt.store import Store

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

# The vocabulary of the project: who uses one of these words means what the glossary says.
TERMS = (
    "arena", "blob", "bundle", "checkpoint", "children", "chunk", "clone", "codec", "commit", "component",
    "condemned", "conflict", "current run", "curve", "damage", "drill", "dropped", "durable", "element type",
    "entry", "extent", "fast-forward", "feature", "fetch", "fork", "frame", "gap", "group", "head", "hints", "id",
    "index", "journal", "kept", "leaf", "lease", "mark", "meta", "migration", "node", "note", "object",
    "object database (odb)", "opaque", "operation", "ordering law", "outline", "pack", "pack set", "page",
    "parent", "path", "pin", "pull", "push", "record", "reduced", "ref", "remote", "revision", "root",
    "root component", "run", "salvage", "schema", "seal", "segment", "seq", "session", "setting", "slab",
    "snapshot", "staging", "state", "storage", "store", "structure", "tag", "thinned", "tiny blob", "torn",
    "tracking ref", "tree", "turn", "undo", "values", "verify", "view",
)  # fmt: skip
AVOIDED = re.compile(r"\b(?<!context )(managers?|handlers?|helpers?|object stores?)\b", re.IGNORECASE)


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of the tables of a page."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next of its level or above."""
    level = heading.count("#", 0, heading.index(" "))
    found = re.search(rf"^{re.escape(heading)}.*?(?=^#{{1,{level}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[0]


ERRORS = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.CasckptError)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_has_its_row(error: type[errors.CasckptError]) -> None:
    table = {row[0]: row for row in rows(section(read("reference/errors.md"), "## All classes"))}
    row = table[f"`{error.__name__}`"]
    _, bases, code, exit_code, when, advice = row
    assert bases == ", ".join(f"`{base.__name__}`" for base in error.__bases__)
    assert code == f"`{error.code}`"
    assert exit_code == str(error.exit_code)
    assert when
    assert advice


def test_the_table_of_errors_has_no_other_rows() -> None:
    table = [row[0].strip("`") for row in rows(section(read("reference/errors.md"), "## All classes"))]
    assert sorted(table[2:]) == sorted(error.__name__ for error in ERRORS)


MEMBERS = {name: member for cls in Store.__mro__[:-1] for name, member in vars(cls).items()}
METHODS = [name for name in MEMBERS if not name.startswith("_")]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_store_is_documented_with_its_signature(name: str) -> None:
    heading = re.search(rf"^### `{name}(\(.*\))?`$", section(read("reference/api.md"), "## Store"), re.MULTILINE)
    assert heading, name
    member = MEMBERS[name]
    if not isinstance(member, property):
        assert heading[1] == shown_signature(member, skip=1)


@pytest.mark.parametrize("name", ["init", "open", "memory"])
def test_every_function_is_documented_with_its_signature(name: str) -> None:
    assert f"### `casckpt.{name}{shown_signature(getattr(casckpt, name))}`" in read("reference/api.md")


def shown_signature(function: object, skip: int = 0) -> str:
    """A signature as the pages show it: no annotations, texts in double quotes."""
    assert callable(function)
    signature = inspect.signature(function)
    parameters = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()][skip:]
    return str(inspect.Signature(parameters)).replace("'", '"')


def test_every_name_the_modules_offer_is_there() -> None:
    for module in (casckpt, casckpt.store):
        for name in module.__all__:
            assert getattr(module, name) is not None, name
    assert set(casckpt.__all__) == {*casckpt.store.__all__, "errors"}


def test_everything_casckpt_offers_is_documented() -> None:
    text = read("reference/api.md")
    for name in casckpt.__all__:
        assert re.search(rf"^#+ (`casckpt\.)?{name}\b", text, re.MULTILINE) or f"`casckpt.{name}`" in text, name


def test_everything_that_is_offered_is_there() -> None:
    for module in (casckpt, importlib.import_module("casckpt.store")):
        for name in module.__all__:
            assert getattr(module, name).__name__.rpartition(".")[2] == name


def results() -> list[type]:
    """The values that operations return: what has `to_dict`, wherever in `ops` it lives."""
    modules = [importlib.import_module(f"casckpt.ops.{found.name}") for found in pkgutil.iter_modules(ops.__path__)]
    found = {
        one
        for module in modules
        for one in vars(module).values()
        if inspect.isclass(one) and dataclasses.is_dataclass(one) and hasattr(one, "to_dict")
        # Policies and plans have a page of their own, with tables of all their keys.
        if one.__module__ not in ("casckpt.plan.decision", "casckpt.plan.policy")
    }
    return sorted(found, key=lambda one: one.__name__)


def test_there_are_results() -> None:
    assert {"CommitInfo", "Diff", "FsckReport", "Status"} <= {result.__name__ for result in results()}


@pytest.mark.parametrize("result", results(), ids=lambda result: result.__name__)
def test_every_field_of_a_result_is_documented(result: type) -> None:
    text = section(read("reference/api.md"), "## Results")
    parent = {"LeafChange": "Diff", "Finding": "FsckReport", "Brought": "FsckReport"}.get(
        result.__name__, result.__name__
    )
    part = section(text, f"### {parent}")
    members = [one.name for one in dataclasses.fields(result)]
    members += [name for name, member in vars(result).items() if isinstance(member, property)]
    for name in members:
        assert f"`{name}`" in part, name


@pytest.mark.parametrize("one", [PendingCommit, StoredState, StoredValue], ids=lambda one: one.__name__)
def test_every_member_of_what_is_no_plain_value_is_documented(one: type) -> None:
    part = section(read("reference/api.md"), f"### {one.__name__}")
    for name, member in vars(one).items():
        if name.startswith("_"):
            continue
        shown_as = f"{name}{shown_signature(member, skip=1)}" if inspect.isfunction(member) else name
        assert f"`{shown_as}`" in part, name


def shown(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def limit_values() -> Iterator[tuple[str, int]]:
    for name, value in vars(limits).items():
        if isinstance(value, int) and name.isupper():
            yield name, value
    for kind, value in limits.MAX_OBJECT_BYTES.items():
        yield f"MAX_OBJECT_BYTES[{Kind(kind).name.lower()}]", value


def test_the_table_of_limits_names_every_limit_with_its_value() -> None:
    table = {row[0].strip("`"): row[1] for row in rows(section(read("reference/format-v1.md"), "## 16 Limits"))}
    for name, value in limit_values():
        assert table.get(name) == shown(value), name
    named = {name for name in table if name.startswith("MAX_")}
    elsewhere = {"MAX_ROOT_BYTES", "MAX_SEGMENT_BYTES"}
    assert named == {name for name, _ in limit_values()} | elsewhere


CONSTANTS: list[tuple[ModuleType, tuple[str, ...]]] = [
    (chunking, ("TINY", "SMALL", "CHUNK", "INLINE_CHUNKS", "PAGE_IDS")),
    (flat, ("PARTS_MAX", "INLINE_MAX_BYTES", "LOOSE_MAX")),
    (session, ("FRAME_OBJECT_BYTES", "OWN_PACK_BYTES")),
    (pack, ("ALIGNED_FROM", "EXTENT_RECORDS", "EXTENT_BYTES", "PACK_BYTES")),
    (journal, ("SEAL_FRAMES", "SEAL_BYTES")),
    (seal, ("SNAPSHOT_ITEMS", "SNAPSHOT_RUNS", "SNAPSHOT_MARKS")),
    (remote, ("MAX_ROOT_BYTES", "MAX_SEGMENT_BYTES")),
]


def test_the_sizes_in_the_specification_are_those_of_the_code() -> None:
    table = {row[0].strip("`"): row[1] for row in rows(section(read("reference/format-v1.md"), "## 16 Limits"))}
    for module, names in CONSTANTS:
        for name in names:
            assert table[name] == shown(getattr(module, name)), name


def test_the_element_types_in_the_specification_are_those_of_the_code() -> None:
    from casckpt.format.elements import ELEMENTS

    found = {}
    for row in rows(section(read("reference/format-v1.md"), "### Blobs and aliasing")):
        for code, name, width in zip(row[::3], row[1::3], row[2::3], strict=False):
            if code.isdigit():
                found[int(code)] = (name, int(width))
    assert found == dict(enumerate(ELEMENTS))


def test_the_worked_example_is_what_the_code_writes() -> None:
    uuid = bytes(range(16))
    payload = Entry("init", 1_700_000_000 * 10**9, reset=uuid, by="host:1").encode()
    written = frame.encode_frame(uuid, 0, frame.NO_HASH, payload)
    text = section(read("reference/format-v1.md"), "## 17 Worked example")
    dump = re.search(r"<!-- frame -->\n```\n(.*?)```", text, re.DOTALL)
    assert dump
    assert bytes.fromhex("".join(line[4:] for line in dump[1].splitlines())) == written
    store_format = re.search(r"<!-- format -->\n```\n(.*?)```", text, re.DOTALL)
    assert store_format
    assert store_format[1].encode() == StoreFormat(uuid).encode()


def test_the_glossary_has_every_term_once_and_in_order() -> None:
    words = [row[0] for row in rows(read("reference/glossary.md"))][2:]
    assert set(TERMS) <= set(words)
    assert words == sorted(set(words))


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(DOCS)) for page in PAGES])
def test_no_page_uses_a_word_the_glossary_avoids(page: Path) -> None:
    if page.name != "glossary.md":
        assert not AVOIDED.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", ["how-to", "explanation", "reference"])
def test_the_index_leads_to_every_page(folder: str) -> None:
    text = read("README.md")
    for page in (DOCS / folder).glob("*.md"):
        assert f"]({folder}/{page.name})" in text, page.name


def test_the_index_of_decisions_leads_to_every_decision() -> None:
    text = read("decisions/README.md")
    pages = sorted(page.name for page in (DOCS / "decisions").glob("0*.md"))
    assert re.findall(r"\]\((0\d{3}-[^)]+)\)", text) == pages
    assert [int(name[:4]) for name in pages] == list(range(1, len(pages) + 1))
