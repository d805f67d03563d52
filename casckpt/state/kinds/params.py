"""Parameters of reduced values that have several fields, as canonical JSON: ASCII, no spaces, no floats."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from casckpt.state.checks import inconsistent
from casckpt.state.kinds.reduced import CannotReduce

TEXT_MAX = 1 << 18
"""Longest parameter; a structured dtype of 10 000 fields is shorter."""


def write(fields: object) -> str:
    """The text of lists, dicts, texts, ints, booleans and None.

    Raises:
        CannotReduce: it is longer than a reader accepts.
    """
    text = json.dumps(fields, separators=(",", ":"))
    if len(text) > TEXT_MAX:
        raise CannotReduce(f"it takes more than {TEXT_MAX} characters to say what it looks like")
    return text


def read(text: str | None, what: str) -> Any:
    """The fields of a text; hostile input, refused unless it is what `write` makes of them."""
    if type(text) is not str or len(text) > TEXT_MAX:
        raise inconsistent(f"{what} has no parameter of at most {TEXT_MAX} characters")
    try:
        fields = json.loads(text, parse_float=_refuse, parse_constant=_refuse)
        canonical = json.dumps(fields, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise inconsistent(f"the parameter of {what} is not JSON of texts and ints") from error
    if canonical != text:
        raise inconsistent(f"the parameter of {what} is not in canonical form")
    return fields


def read_fields(text: str | None, names: tuple[str, ...], what: str) -> dict[str, Any]:
    """The fields of a text that has exactly these names, in this order."""
    fields = read(text, what)
    if type(fields) is not dict or tuple(fields) != names:
        raise inconsistent(f"the parameter of {what} does not have the fields {', '.join(names)}")
    return fields


def none(text: str | None, what: str) -> None:
    """Refuse a parameter where there is none."""
    if text is not None:
        raise inconsistent(f"{what} has a parameter")


def _refuse(_number: str) -> NoReturn:
    raise ValueError
