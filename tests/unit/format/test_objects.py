"""Structure, component, tree and commit: their canonical bytes, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casckpt.errors import IntegrityError
from casckpt.format.canonical import encode
from casckpt.format.commit import Commit
from casckpt.format.objects import Component, Structure, Tree
from tests.support.build import identity

ID = identity("an object")
STRUCTURE: dict[str, Any] = {"node": ["dict", ["w"], [None]], "sizes": [100, 200], "types": b"\x0c\x0c"}
STRUCTURE |= {"groups": [[0, 1]]}
COMPONENT: dict[str, Any] = {"structure": ID, "values": [1, "a"], "tiny": b"x", "digests": ID * 2}
TREE: dict[str, Any] = {"root": ID, "parts": [["model", ID], ["optimizer", ID]]}
COMMIT: dict[str, Any] = {"tree": ID, "parents": [], "run": "a", "time": 1, "kind": "step", "status": "completed"}
COMMIT |= {"bytes": 0}
OBJECTS = [(Structure, STRUCTURE), (Component, COMPONENT), (Tree, TREE), (Commit, COMMIT)]


@pytest.mark.parametrize(("cls", "fields"), OBJECTS)
def test_an_object_reads_back_as_its_bytes(cls: Any, fields: dict[str, Any]) -> None:
    assert cls.decode(encode(fields)).encode() == encode(fields)


@pytest.mark.parametrize(
    ("cls", "fields", "more"),
    [
        (Structure, STRUCTURE, {"layouts": {0: {"cut": "content"}, 1: {"shape": [2], "boxes": [[[0], [2]]]}}}),
        (Component, COMPONENT, {"counts": [[2, 2], [100, 1]], "spans": bytes(24)}),
        (Tree, TREE, {"links": [[[0, 1], [2, 3]], [[1, 0], [1, 1], [2, 9]]]}),
        (Commit, COMMIT, {"step": 1, "epoch": 0.5, "schema": ["gpt", 2], "metrics": {"a": 1, "b": 0.5}, "config": ID}),
        (Commit, COMMIT, {"schema": ["gpt", 2], "required": ["model/**", "step"]}),
        (Commit, COMMIT, {"parents": [ID, identity("b")], "message": "m", "author": "é", "future": [0]}),
    ],
)
def test_optional_fields_read_back_too(cls: Any, fields: dict[str, Any], more: dict[str, Any]) -> None:
    assert cls.decode(encode({**fields, **more})).encode() == encode({**fields, **more})


@pytest.mark.parametrize(
    ("cls", "fields", "key"), [(cls, fields, key) for cls, fields in OBJECTS for key in fields if key != "parents"]
)
def test_a_field_of_another_type_is_refused(cls: Any, fields: dict[str, Any], key: str) -> None:
    with pytest.raises(IntegrityError):
        cls.decode(encode({**fields, key: True}))


@pytest.mark.parametrize(
    ("cls", "fields", "key"),
    [(cls, fields, key) for cls, fields in OBJECTS for key in fields if key not in ("parents", "bytes")],
)
def test_a_missing_field_is_refused(cls: Any, fields: dict[str, Any], key: str) -> None:
    with pytest.raises(IntegrityError):
        cls.decode(encode({name: value for name, value in fields.items() if name != key}))


@pytest.mark.parametrize(("cls", "fields"), OBJECTS)
def test_an_unknown_field_is_refused_only_if_it_is_critical(cls: Any, fields: dict[str, Any]) -> None:
    cls.decode(encode({**fields, "future": 1}))
    with pytest.raises(IntegrityError, match="!future"):
        cls.decode(encode({**fields, "!future": 1}))


def test_a_commit_keeps_the_fields_of_newer_releases() -> None:
    data = encode({**COMMIT, "future": {"a": None}, "zero": 0})
    assert Commit.decode(data).extra == {"future": {"a": None}, "zero": 0}
    assert Commit.decode(data).encode() == data


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"step": 1, "epoch": 0.5, "schema": ["gpt", 2], "metrics": {"a": 1, "b": 0.5}, "config": ID, "code": ID},
        {"schema": ["gpt", 2], "required": ["model/**", "step"], "environment": ID, "data": ID, "author": "a"},
        {"parents": [ID, identity("b")], "message": "m", "future": [0]},
    ],
)
def test_a_known_commit_is_read_the_same_without_the_checks(fields: dict[str, Any]) -> None:
    data = encode({**COMMIT, **fields})
    assert Commit.decode_known(data) == Commit.decode(data)


@pytest.mark.parametrize("value", [{**COMMIT, "!future": 1}, {"tree": ID}, [1], "text"])
def test_what_another_release_may_have_accepted_is_looked_at_anew(value: Any) -> None:
    with pytest.raises(IntegrityError):
        Commit.decode_known(encode(value))


def test_a_commit_without_required_paths_has_no_such_field() -> None:
    commit = Commit.decode(encode({**COMMIT, "schema": ["gpt", 2], "required": ["step"]}))
    assert replace(commit, required=()).encode() == encode({**COMMIT, "schema": ["gpt", 2]})


WRONG = {
    "sizes and types of two lengths": (Structure, {**STRUCTURE, "types": b"\x0c"}),
    "a size of 0": (Structure, {**STRUCTURE, "sizes": [100, 0]}),
    "a size of an exabyte": (Structure, {**STRUCTURE, "sizes": [100, 1 << 60]}),
    "a size that is a boolean": (Structure, {**STRUCTURE, "sizes": [100, True]}),
    "an empty group": (Structure, {**STRUCTURE, "groups": [[]]}),
    "a group of text": (Structure, {**STRUCTURE, "groups": ["ab"]}),
    "a layout of no blob": (Structure, {**STRUCTURE, "layouts": {2: {}}}),
    "a layout of a negative blob": (Structure, {**STRUCTURE, "layouts": {-1: {}}}),
    "a layout named by text": (Structure, {**STRUCTURE, "layouts": {"0": {}}}),
    "a layout that is no map": (Structure, {**STRUCTURE, "layouts": {0: []}}),
    "a node that is a map": (Structure, {**STRUCTURE, "node": {}}),
    "ids of 33 bytes": (Component, {**COMPONENT, "digests": bytes(33)}),
    "a structure of 31 bytes": (Component, {**COMPONENT, "structure": bytes(31)}),
    "a count of 0": (Component, {**COMPONENT, "counts": [[1, 0]]}),
    "a count of three": (Component, {**COMPONENT, "counts": [[1, 1, 1]]}),
    "a count of 2^40": (Component, {**COMPONENT, "counts": [[1 << 40, 1]]}),
    "65 parts": (Tree, {**TREE, "parts": [[str(number), ID] for number in range(65)]}),
    "two parts of one name": (Tree, {**TREE, "parts": [["a", ID], ["a", ID]]}),
    "a part without an id": (Tree, {**TREE, "parts": [["a", b""]]}),
    "a link of one": (Tree, {**TREE, "links": [[[0, 0]]]}),
    "a link to no part": (Tree, {**TREE, "links": [[[0, 0], [3, 0]]]}),
    "a link to a negative blob": (Tree, {**TREE, "links": [[[0, 0], [1, -1]]]}),
    "65 parents": (Commit, {**COMMIT, "parents": [identity(str(number)) for number in range(65)]}),
    "a parent of 31 bytes": (Commit, {**COMMIT, "parents": [bytes(31)]}),
    "a run of 256 bytes": (Commit, {**COMMIT, "run": "é" * 128}),
    "a message of 64 KiB and more": (Commit, {**COMMIT, "message": "m" * ((64 << 10) + 1)}),
    "4 097 metrics": (Commit, {**COMMIT, "metrics": {str(number): 0 for number in range(4097)}}),
    "a metric that is text": (Commit, {**COMMIT, "metrics": {"a": "1"}}),
    "a metric that is a boolean": (Commit, {**COMMIT, "metrics": {"a": True}}),
    "a schema of one": (Commit, {**COMMIT, "schema": ["a"]}),
    "required paths of no schema": (Commit, {**COMMIT, "required": ["a"]}),
    "an empty list of required paths": (Commit, {**COMMIT, "schema": ["a", 1], "required": []}),
    "a required path that is bytes": (Commit, {**COMMIT, "schema": ["a", 1], "required": [b"a"]}),
    "a required path that is empty": (Commit, {**COMMIT, "schema": ["a", 1], "required": [""]}),
    "a required path twice": (Commit, {**COMMIT, "schema": ["a", 1], "required": ["a", "a"]}),
    "required paths out of order": (Commit, {**COMMIT, "schema": ["a", 1], "required": ["b", "a"]}),
    "required paths as text": (Commit, {**COMMIT, "schema": ["a", 1], "required": "ab"}),
    "65 required paths": (Commit, {**COMMIT, "schema": ["a", 1], "required": [f"{n:02}" for n in range(65)]}),
    "a required path of 1 026 bytes": (Commit, {**COMMIT, "schema": ["a", 1], "required": ["é" * 513]}),
    "a step that is a float": (Commit, {**COMMIT, "step": 1.0}),
}


@pytest.mark.parametrize(("cls", "fields"), WRONG.values(), ids=WRONG)
def test_a_wrong_object_is_refused(cls: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        cls.decode(encode(fields))


@settings(max_examples=200)
@given(st.sampled_from(OBJECTS), st.data())
def test_damaged_bytes_never_end_in_another_error(kind: tuple[Any, dict[str, Any]], data: st.DataObject) -> None:
    raw = bytearray(encode(kind[1]))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        kind[0].decode(bytes(raw))
    except IntegrityError:
        return


def test_the_root_is_the_first_component() -> None:
    tree = Tree(ID, (("model", identity("m")),))
    assert tree.components == (("", ID), ("model", identity("m")))
