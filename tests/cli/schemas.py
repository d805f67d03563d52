"""The forms of what commands print for programs, as docs/schemas says; here no key may stand that they do not name."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "schemas"


def validate(name: str, value: Any, *, closed: bool = True) -> None:
    """Fail unless a value has the form of that schema."""
    _check(_validator(name, closed=closed), value)


def validate_envelope(envelope: dict[str, Any]) -> None:
    """Fail unless an answer or a failure has the form that it names."""
    name, _, version = str(envelope["schema"]).removeprefix("casckpt.").partition("/")
    assert version == "1"
    validate(name, envelope)


def validate_record(line: dict[str, Any]) -> None:
    """Fail unless a line of --ndjson has the form that its type says."""
    validate("record", line, closed=False)
    forms = {form["properties"]["type"]["const"]: form for form in _schemas(closed=True)["record.json"]["anyOf"]}
    form = forms[line["type"]]
    if "allOf" not in form:
        _check(_validator("record", closed=True).evolve(schema=form), line)
        return
    kind = form["allOf"][0]["$ref"].rpartition("/")[2]
    inner = _validator("common", closed=True).evolve(schema={"$ref": f"common.json#/$defs/{kind}"})
    _check(inner, {key: value for key, value in line.items() if key != "type"})


def _check(validator: Draft202012Validator, value: Any) -> None:
    errors = sorted(validator.iter_errors(value), key=lambda error: -len(error.absolute_path))
    if errors:
        raise AssertionError(f"{errors[0].json_path}: {errors[0].message[:500]}")


@cache
def _schemas(*, closed: bool) -> dict[str, Any]:
    found = {path.name: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
    return {name: _closed(schema) if closed else schema for name, schema in found.items()}


@cache
def _validator(name: str, *, closed: bool) -> Draft202012Validator:
    found = _schemas(closed=closed)
    resources = [(key, Resource.from_contents(schema)) for key, schema in found.items()]
    return Draft202012Validator(found[f"{name}.json"], registry=Registry().with_resources(resources))


def _closed(schema: Any) -> Any:
    """A schema whose objects have no other keys than those it names; outside the tests new ones may be added."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(item) for key, item in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        closed.setdefault("additionalProperties", False)
    return closed
