"""export to files that hold arrays by name: safetensors and npz. Streamed: the memory it takes is a few megabytes.

A name is the keys on the way to the leaf, joined by dots: `layer1.weight` of a state dict stays what it is, and
`{"model": {"fc.weight": ...}}` becomes `model.fc.weight`. What the form cannot hold is refused as a whole before
anything is written: other values than tensors and arrays, dtypes it has no name for, two leaves of one name.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from casckpt.errors import NotExportable
from casckpt.foreign import safetensors_header as header
from casckpt.ops.dense import Dense, dense, elements
from casckpt.ops.selection import Selection
from casckpt.plan.names import is_text
from casckpt.state import paths
from casckpt.state.branches import Branch, Leaf
from casckpt.state.nodes import ArrayNode, TensorNode
from casckpt.state.values import Scalar, type_name

ALIASES = "casckpt.aliases"
"""Name in the metadata of a safetensors file: which tensors are the memory of which others, as JSON."""

_SHOWN_MAX = 5
_ZIP_NAME_MAX = 60_000
_NARROW = "name a part of the commit (REV:model) or narrow it with select= or --select"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def refuse(found: Sequence[tuple[str, str]], form: str, way_out: str = _NARROW) -> None:
    """Refuse to export if there is anything that stands against it: path and problem of each."""
    if not found:
        return
    paths_found = [paths.shown(path) for path, _ in found]
    more = f" and {len(found) - _SHOWN_MAX} more" if len(found) > _SHOWN_MAX else ""
    raise NotExportable(
        path=paths_found[0],
        paths=paths_found,
        shown=", ".join(paths_found[:_SHOWN_MAX]) + more,
        format=form,
        problem=found[0][1],
        way_out=way_out,
    )


def named(tree: Branch | Leaf, form: str) -> dict[str, Leaf]:
    """The leaves of a tree by their flat names.

    Raises:
        NotExportable: two leaves have the same name, or a key has no text.
    """
    found: dict[str, Leaf] = {}
    problems: list[tuple[str, str]] = []
    twice = ""
    for name, leaf in _named(tree, "", problems):
        if name in found:
            problems.append((leaf.path, f"its name {name!r} is also that of {found[name].path}"))
            twice = "; or rename a key of the state"
        found[name] = leaf
    refuse(problems, form, _NARROW + twice)
    return found


def _named(tree: Branch | Leaf, name: str, problems: list[tuple[str, str]]) -> Iterator[tuple[str, Leaf]]:
    if isinstance(tree, Leaf):
        yield name or paths.text_of(tree.path.rpartition("/")[2]) or tree.path, tree
        return
    if not tree.is_plain:
        problems.append((tree.path, f"only tensors and arrays can, and here is a {tree.kind}"))
        return
    for key, child in tree.items():
        if type(key) is not str and type(key) is not int:
            problems.append((child.path, f"a key of type {type_name(type(key))} has no name there"))
        elif not is_text(str(key)):
            problems.append((child.path, "its key is no text that can be written"))
        else:
            yield from _named(child, f"{name}.{key}" if name else str(key), problems)


def kind_of(leaf: Leaf) -> str:
    """What a leaf is, in the words of errors."""
    if leaf.node is None:
        value = leaf.value
        return "a numpy scalar" if isinstance(value, Scalar) else "None" if value is None else type(value).__name__
    tag = str(leaf.raw[0]) if leaf.raw else ""
    return {"numbers": "a list of numbers"}.get(tag, tag)


def dense_leaves(selection: Selection, leaves: dict[str, Leaf], form: str) -> dict[str, Dense]:
    """The leaves as tensors and arrays.

    Raises:
        NotExportable: one of them is something else.
    """
    found: dict[str, Dense] = {}
    problems = []
    for name, leaf in leaves.items():
        one = dense(leaf, selection.chosen[leaf.part].loaded.structure.sizes)
        if one is not None:
            found[name] = one
        elif leaf.raw and leaf.raw[0] == "tensor":
            problems.append((leaf.path, f"it has no name for the dtype {leaf.raw[1]}"))
        else:
            problems.append((leaf.path, f"only tensors and arrays can, and here is {kind_of(leaf)}"))
    refuse(problems, form)
    return found


def write_safetensors(
    selection: Selection,
    tree: Branch | Leaf,
    file: BinaryIO,
    folder: Path,
    advance: Callable[[int], Callable[[int], None]],
) -> int:
    """Write what is selected as safetensors; returns how many tensors. `advance` is given the bytes there will be.

    Tied weights are written once for each name, since the form knows no aliases; which names they were is kept as
    JSON in the metadata `casckpt.aliases`.
    """
    found = dense_leaves(selection, named(tree, "safetensors"), "safetensors")
    problems, entries = [], []
    for name, one in found.items():
        dtype = header.dtype_of(_element(one))
        if dtype is None:
            problems.append((one.leaf.path, f"safetensors has no name for the dtype {one.dtype}"))
        elif name == header.METADATA:
            problems.append((one.leaf.path, "the name has a meaning of its own there"))
        else:
            entries.append(header.Entry(name, dtype, one.shape, one.nbytes))
    refuse(problems, "safetensors")
    entries = header.in_order(entries)
    start = header.encode_header(entries, _metadata(found, selection))
    if start is None:
        refuse([("", "its names take more than readers of safetensors accept")], "safetensors")
        return 0
    done = advance(sum(entry.nbytes for entry in entries))
    file.write(start)
    for entry in entries:
        one = found[entry.name]
        for piece in elements(selection.loader, selection.chosen[one.leaf.part].loaded, one, folder):
            file.write(piece)
            done(len(piece))
    return len(entries)


def _metadata(found: dict[str, Dense], selection: Selection) -> dict[str, str]:
    # Loaders of other libraries ask for `format` to know which framework a file is for.
    kinds = "pt" if not found or any(one.is_tensor for one in found.values()) else "np"
    names: dict[tuple[object, ...], str] = {}
    aliases = {}
    for name, one in found.items():
        first = names.setdefault(identity_of(one, selection), name)
        if first != name and one.nbytes:
            aliases[name] = first
    return {"format": kinds, ALIASES: json.dumps(aliases)} if aliases else {"format": kinds}


def identity_of(one: Dense, selection: Selection) -> tuple[object, ...]:
    """Equal for leaves that are the same elements of the same memory, across components too."""
    node = one.leaf.node
    assert isinstance(node, TensorNode | ArrayNode)
    place = (one.leaf.part, node.blob)
    first = next((group[0] for group in selection.links if place in group), place)
    return first, node.offset, one.is_tensor, one.dtype, one.shape, one.strides


def _element(one: Dense) -> str:
    """The element type of a tensor or array as the store calls it; opaque for what it has no word for."""
    if one.is_tensor:
        return one.dtype
    from casckpt.state import arrays

    return arrays.number_name(one.dtype)


def write_npz(
    selection: Selection,
    tree: Branch | Leaf,
    file: BinaryIO,
    folder: Path,
    advance: Callable[[int], Callable[[int], None]],
) -> int:
    """Write what is selected as an uncompressed npz; returns how many arrays. Loads with numpy alone.

    Raises:
        NotExportable: a dtype that numpy does not have, such as bfloat16.
    """
    import numpy as np

    found = dense_leaves(selection, named(tree, "npz"), "npz")
    problems, dtypes = [], {}
    for name, one in found.items():
        dtype = _numpy_dtype(one)
        if dtype is None:
            problems.append((one.leaf.path, f"numpy has no dtype {one.dtype}; safetensors, pt and h5 can hold it"))
        elif "\0" in name or len(name.encode()) > _ZIP_NAME_MAX:
            problems.append((one.leaf.path, "its name cannot be that of a member of a zip file"))
        elif f"{name}.npy" in found:
            problems.append((one.leaf.path, f"numpy would not find it beside {name + '.npy'!r}"))
        else:
            dtypes[name] = dtype
    refuse(problems, "npz")
    done = advance(sum(one.nbytes for one in found.values()))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, one in found.items():
            node, rows = one.leaf.node, one
            is_columns = (
                not one.is_tensor and getattr(node, "order", "C") == "F" and getattr(node, "strides", 0) is None
            )
            if is_columns:  # written as it lies, and numpy gives it back so
                rows = Dense(one.leaf, one.dtype, one.shape, one.itemsize, None)
            start = io.BytesIO()
            fields = {"descr": dtypes[name], "fortran_order": is_columns, "shape": one.shape}
            np.lib.format.write_array_header_1_0(start, fields)
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _ZIP_TIME), "w", force_zip64=True) as member:
                member.write(start.getvalue())
                for piece in elements(selection.loader, selection.chosen[one.leaf.part].loaded, rows, folder):
                    member.write(piece)
                    done(len(piece))
    return len(found)


def _numpy_dtype(one: Dense) -> str | None:
    if not one.is_tensor:
        return one.dtype
    from casckpt.state import arrays

    return arrays.dtype_named(one.dtype)
