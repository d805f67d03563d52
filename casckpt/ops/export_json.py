"""export as JSON, to be read by people and scripts. Not reversible: types are told, but not all values are there."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator
from typing import Any, BinaryIO

from casckpt.ops.selection import Selection
from casckpt.state import paths
from casckpt.state.branches import Branch, Leaf, leaves
from casckpt.state.nodes import ArrayNode, TensorNode
from casckpt.state.unflatten import Part, unflatten
from casckpt.state.values import Scalar
from casckpt.units import json_number

ELEMENTS_MAX = 4096
"""Most elements of a tensor or array that are written; of larger ones dtype and shape."""


def write_json(
    selection: Selection, tree: Branch | Leaf, file: BinaryIO, advance: Callable[[int], Callable[[int], None]]
) -> int:
    """Write what is selected as JSON; returns how many leaves. Memory: the largest leaf that is written.

    Dicts are objects with their keys as texts, lists and tuples arrays, numbers that JSON lacks texts, bytes
    `{"bytes": length, "hex": digits}`, tensors and arrays `{"dtype", "shape", "values"}`. What is stored as something
    simpler is `{"type", "value"}`.
    """
    found = list(leaves(tree))
    done = advance(len(found))
    for text in _texts(selection, tree, "\n", done):
        file.write(text.encode("utf-8", "backslashreplace"))
    file.write(b"\n")
    return len(found)


def _texts(selection: Selection, tree: Branch | Leaf, line: str, done: Callable[[int], None]) -> Iterator[str]:
    if isinstance(tree, Leaf):
        yield json.dumps(_plain(selection, tree), ensure_ascii=False, allow_nan=False)
        done(1)
        return
    is_list = tree.kind in ("list", "tuple")
    inner, names = line + "  ", _names(tree.keys)
    yield "[" if is_list else "{"
    if not tree.is_plain:
        yield f'{inner}"type": {json.dumps(tree.kind)},'
    for number, (name, child) in enumerate(zip(names, tree.children, strict=True)):
        yield ("," if number else "") + inner
        if not is_list:
            yield json.dumps(name, ensure_ascii=False) + ": "
        yield from _texts(selection, child, inner, done)
    yield (line if tree.children else "") + ("]" if is_list else "}")


def _names(keys: tuple[Hashable, ...]) -> list[str]:
    """Keys as texts, all different: texts as they are unless another key of the dict looks the same."""
    elements = [paths.element(key) for key in keys]
    others = {element for key, element in zip(keys, elements, strict=True) if type(key) is not str}
    return [
        str(key) if type(key) is str and key not in others else one for key, one in zip(keys, elements, strict=True)
    ]


def _plain(selection: Selection, leaf: Leaf) -> Any:
    node = leaf.node
    if isinstance(node, TensorNode | ArrayNode):
        count = 1
        for size in node.shape:
            count *= size
        values = _value(selection, leaf).tolist() if count <= ELEMENTS_MAX else None
        return {"dtype": node.dtype, "shape": list(node.shape), "values": _json(values)}
    if node is None and isinstance(leaf.value, Scalar):
        return {"dtype": leaf.value.dtype, "value": _json(_value(selection, leaf).tolist())}
    return _json(leaf.value if node is None else _value(selection, leaf))


def _value(selection: Selection, leaf: Leaf) -> Any:
    """The value of one leaf, read and verified. Tensors of the smallest floats as float32, which has `tolist`."""
    loaded = selection.chosen[leaf.part].loaded
    sizes = loaded.structure.sizes
    inline = [] if leaf.node is not None else [["scalar", leaf.value.dtype, leaf.value.data]]  # type: ignore[attr-defined]
    part = Part("", leaf.raw, inline, lambda blob: selection.loader.memory(loaded, blob), sizes)
    value = unflatten([part], ())
    is_small = isinstance(leaf.node, TensorNode) and leaf.node.dtype.startswith(("float8", "bfloat"))
    return value.detach().float() if is_small else value


def _json(value: Any) -> Any:
    """What JSON can hold of a value."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return json_number(value)
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, bytes | bytearray):
        return {"bytes": len(value), "hex": value.hex() if len(value) <= ELEMENTS_MAX else None}
    if isinstance(value, complex):
        return [_json(value.real), _json(value.imag)]
    return str(value)
