"""HDF5, written and read: the door for h5py.

A dict is a group, its keys are names as paths spell them; a list is a group of numbered names. A tensor or array is
a dataset of its numbers; what HDF5 has no type for is kept as unsigned words or as opaque bytes. Attributes say what
a thing was, so that a file that was exported comes back with the types it had:

    casckpt_version   of the root: `write_h5` wrote the file
    casckpt_kind      of a group: dict, odict, list, tuple; of a dataset: tensor, array, numbers, or the type of a value
    casckpt_dtype     of a tensor, and of what is stored as words of another type
    casckpt_flags     of a tensor: 1 requires a gradient, 2 is a parameter

A file without `casckpt_version` is somebody else's: its groups become dicts of arrays; attributes become a dict below
`@attributes`, those of a dataset below `NAME@attributes`. Only what lies in the file itself is read: links to other
files, external storage and virtual datasets are refused.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from casckpt.errors import CasckptError, MalformedFile, MissingLibrary
from casckpt.ops.dense import Dense, dense, elements
from casckpt.ops.export_flat import identity_of, kind_of, refuse
from casckpt.ops.selection import Selection
from casckpt.state import paths
from casckpt.state.branches import Branch, Leaf, leaves
from casckpt.state.flat import DEPTH_MAX
from casckpt.state.nodes import NumbersNode, TensorNode, TextNode
from casckpt.state.unflatten import Part, unflatten
from casckpt.state.values import Scalar, decode_text

try:
    import h5py
except ImportError as error:
    raise MissingLibrary(purpose="HDF5", library="h5py", install="casckpt[h5]") from error

_VERSION, _KIND, _DTYPE, _FLAGS = "casckpt_version", "casckpt_kind", "casckpt_dtype", "casckpt_flags"
_DIMS_MAX = 32
_WORDS = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<u8"}
_NUMBERS = re.compile(r"\|b1|[|<>][iu][1248]|[<>]f[248]|[<>]c(8|16)|\|S[1-9]\d*").fullmatch
_CONSTANTS: dict[str, Hashable] = {":true": True, ":false": False, ":none": None}
_CLAIMED_FREE = 64 << 20
_CLAIMED_PER_BYTE = 1100
"""More than deflate can shrink; a file that claims more values per byte of its own is not read."""
_LINK_BYTES = 16
"""Less than a name takes; a file that leads to more objects than it has room for names goes in circles."""
_ATTRIBUTES = "@attributes"


def write_h5(
    selection: Selection,
    tree: Branch | Leaf,
    target: BinaryIO,
    folder: Path,
    advance: Callable[[int], Callable[[int], None]],
) -> int:
    """Write what is selected as HDF5; returns how many leaves. Streamed: memory for the structure and a few megabytes.

    Leaves that are the same memory are one dataset with several names.

    Raises:
        NotExportable: more than 32 dimensions, or keys that are neither texts nor numbers.
    """
    found = list(leaves(tree))
    written = _Writer(selection)
    problems = list(_problems(selection, tree))
    refuse(problems, "h5")
    with h5py.File(target, "w", track_order=True) as file:
        file.attrs[_VERSION] = 1
        _bound_cache(file)
        written.root(file, tree)
    done = advance(sum(one.nbytes for _, one in written.places))
    # h5py has laid the datasets out by now; their bytes are put there without it, in pieces.
    for offset, one in written.places:
        target.seek(offset)
        for piece in elements(selection.loader, selection.chosen[one.leaf.part].loaded, one, folder):
            target.write(piece)
            done(len(piece))
    return len(found)


def _bound_cache(file: Any) -> None:
    """Keep at most 4 MiB of groups and headers in memory; HDF5 would let its cache grow to 32 MiB and more."""
    settings = file.id.get_mdc_config()
    settings.set_initial_size = True
    settings.initial_size = settings.min_size = 1 << 20
    settings.max_size = 4 << 20
    file.id.set_mdc_config(settings)


def _problems(selection: Selection, tree: Branch | Leaf) -> Iterator[tuple[str, str]]:
    if isinstance(tree, Branch):
        if not tree.is_plain:
            yield tree.path, f"here is a {tree.kind}, which HDF5 cannot hold"
        for key, child in tree.items() if tree.is_plain else ():
            if not isinstance(key, str | int | None):
                yield child.path, f"a key of type {type(key).__name__} has no name there"
            else:
                yield from _problems(selection, child)
        if tree.metadata is not None:
            yield from _problems(selection, tree.metadata)
        return
    one = dense(tree, selection.chosen[tree.part].loaded.structure.sizes)
    known = tree.node is None or isinstance(tree.node, NumbersNode | TextNode)
    if one is None and not known:
        yield tree.path, f"here is {kind_of(tree)} of a type that HDF5 cannot hold"
    elif one is not None and (len(one.shape) > _DIMS_MAX or not one.itemsize):
        yield tree.path, f"HDF5 has at most {_DIMS_MAX} dimensions, and elements of a byte or more"


class _Writer:
    """Writes groups, small values and the places of datasets."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self.places: list[tuple[int, Dense]] = []
        """Where in the file the elements of tensors and arrays belong."""
        self._names: dict[tuple[object, ...], str] = {}
        self._plain = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        self._plain.set_layout(h5py.h5d.CONTIGUOUS)
        self._plain.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        self._plain.set_fill_time(h5py.h5d.FILL_TIME_NEVER)

    def root(self, file: Any, tree: Branch | Leaf) -> None:
        if isinstance(tree, Leaf):
            self._leaf(file, paths.text_of(tree.path.rpartition("/")[2]) or "value", tree)
            return
        self._children(file, tree)

    def _children(self, group: Any, branch: Branch) -> None:
        group.attrs[_KIND] = branch.kind
        entries = [(_link(key), child) for key, child in branch.items()]
        entries += [] if branch.metadata is None else [(paths.METADATA, branch.metadata)]
        for name, child in entries:
            if isinstance(child, Branch):
                self._children(group.create_group(name, track_order=True), child)
            else:
                self._leaf(group, name, child)

    def _leaf(self, group: Any, name: str, leaf: Leaf) -> None:
        loaded = self._selection.chosen[leaf.part].loaded
        one = dense(leaf, loaded.structure.sizes)
        if one is not None:
            self._dataset(group, name, one)
            return
        kind, value = leaf.raw[0] if leaf.raw else type(leaf.value).__name__, leaf.value
        if isinstance(leaf.node, NumbersNode):
            value = np.frombuffer(self._selection.loader.memory(loaded, leaf.node.blob), leaf.node.element)
        elif isinstance(leaf.node, TextNode):
            value = bytes(self._selection.loader.memory(loaded, leaf.node.blob))
        dtype = None
        if isinstance(value, Scalar):
            kind, dtype, value = "scalar", value.dtype, value.data
        _small(group, name, str(kind), value, dtype)

    def _dataset(self, group: Any, name: str, one: Dense) -> None:
        key = identity_of(one, self._selection)
        if key in self._names:
            group[name] = group.file[self._names[key]]
            return
        dtype, node = _stored_dtype(one), one.leaf.node
        kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
        space = h5py.h5s.create_simple(one.shape) if one.shape else h5py.h5s.create(h5py.h5s.SCALAR)
        dataset = h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, self._plain))
        dataset.attrs[_KIND] = "tensor" if one.is_tensor else "array"
        if one.is_tensor or dtype != one.dtype:
            dataset.attrs[_DTYPE] = one.dtype
        if isinstance(node, TensorNode) and node.flags:
            dataset.attrs[_FLAGS] = node.flags
        if one.nbytes:
            self._names[key] = dataset.name
            self.places.append((dataset.id.get_offset(), one))


def _link(key: Hashable) -> str:
    """The name of a key in its group: its path element, less what HDF5 gives a meaning to."""
    name = paths.element(key)
    return "%2E" if name == "." else name.replace("\0", "%00")


def _key(name: str) -> Hashable:
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    if re.fullmatch(r"-?[0-9]{1,4000}", name):
        return int(name)
    text = paths.text_of(name)
    if text is None:
        raise ValueError(f"{name[:40]!r} is no name that an export writes")
    return text


def _stored_dtype(one: Dense) -> str:
    """What HDF5 is told: the dtype itself where it knows it, else unsigned words, or opaque bytes."""
    if one.is_tensor:
        from casckpt.state import arrays

        return arrays.dtype_named(one.dtype) or _WORDS[one.itemsize]
    return one.dtype if _NUMBERS(one.dtype) else "<i8" if one.dtype[1] in "mM" else f"|V{one.itemsize}"


def _small(group: Any, name: str, kind: str, value: Any, dtype: str | None) -> None:
    """Write a value that is in memory."""
    stored: Any = value
    if value is None:
        kind, stored = "none", h5py.Empty("f")
    elif kind == "int" and not -(1 << 63) <= value < 1 << 63:
        stored = hex(value)
    elif kind == "str" and (isinstance(value, bytes) or "\0" in value or not _is_unicode(value)):
        text = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        stored = np.frombuffer(text, np.uint8)
    elif isinstance(value, bytes | bytearray):
        stored = np.frombuffer(bytes(value), np.uint8)
    dataset = group.create_dataset(name, data=stored)
    dataset.attrs[_KIND] = kind
    if dtype is not None:
        dataset.attrs[_DTYPE] = dtype


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def read_h5(path: Path, name: str) -> Any:
    """The state in a file: as it was exported, or of any other file nested dicts of arrays. Memory: all of it, once.

    Args:
        name: what errors call the file.

    Raises:
        MalformedFile: it is no HDF5 file, is damaged, claims more than it can hold, or reaches outside of itself.
    """
    try:
        with h5py.File(path, "r") as file:
            return _Reader(file, os.stat(path).st_size).root()
    except CasckptError:
        raise
    except Exception as error:  # damage shows as whatever the HDF5 library makes of it
        problem = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise MalformedFile(path=name, kind="HDF5", problem=problem) from error


class _Reader:
    def __init__(self, file: Any, size: int) -> None:
        self._file = file
        self._is_ours = _VERSION in file.attrs
        self._claims = _CLAIMED_FREE + _CLAIMED_PER_BYTE * size
        self._objects = size // _LINK_BYTES
        self._seen: dict[int, Any] = {}

    def root(self) -> Any:
        return self._group(self._file, 1)

    def _group(self, group: Any, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise ValueError(f"nested more than {DEPTH_MAX} levels deep")
        children = {}
        for name in group:
            self._objects -= 1
            if self._objects < 0:
                raise ValueError("it names more objects than it can hold")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name[:40]!r} is a link to another place or file")
            children[name] = self._child(group[name], depth)
            if not self._is_ours and not isinstance(group[name], h5py.Group):
                children |= _attributes(group[name], f"{name}{_ATTRIBUTES}")
        if not self._is_ours:
            return children | _attributes(group, _ATTRIBUTES)
        return _container(str(group.attrs.get(_KIND, "dict")), children)

    def _child(self, child: Any, depth: int) -> Any:
        if isinstance(child, h5py.Group):
            return self._group(child, depth + 1)
        if not isinstance(child, h5py.Dataset):
            raise ValueError("it holds a type that has a name, and no values")
        address = h5py.h5o.get_info(child.id).addr
        if address not in self._seen:
            self._seen[address] = self._value(child)
        return self._seen[address]

    def _value(self, dataset: Any) -> Any:
        if dataset.is_virtual or dataset.external:
            raise ValueError("the values of a dataset lie outside of the file")
        self._claims -= 0 if dataset.shape is None else max(dataset.dtype.itemsize, 1) * int(dataset.size)
        if self._claims < 0:
            raise ValueError("its datasets claim more than a file of its size can hold")
        if not self._is_ours:
            return None if dataset.shape is None else _foreign(dataset)
        return _own(dataset)


def _container(kind: str, children: dict[str, Any]) -> Any:
    if kind in ("list", "tuple"):
        if list(children) != [str(number) for number in range(len(children))]:
            raise ValueError("a list has other names than its numbers")
        return list(children.values()) if kind == "list" else tuple(children.values())
    metadata = children.pop(paths.METADATA, None)
    result: dict[Any, Any] = OrderedDict() if kind == "odict" else {}
    result.update((_key(name), child) for name, child in children.items())
    if metadata is not None and kind == "odict":
        vars(result)["_metadata"] = metadata
    return result


def _own(dataset: Any) -> Any:
    """The value of a dataset that `write_h5` made."""
    kind, dtype = str(dataset.attrs[_KIND]), dataset.attrs.get(_DTYPE)
    if kind == "none":
        return None
    if h5py.check_string_dtype(dataset.dtype) is not None and kind in ("int", "str"):
        text = dataset.asstr()[()]
        return text if kind == "str" else int(text, 16)
    found = np.asarray(dataset[()])
    if kind == "array" and dtype is None:
        return found
    if kind == "numbers" and found.ndim == 1:
        return found.tolist()
    if kind in ("bool", "int", "float", "complex") and found.ndim == 0:
        return {"bool": bool, "int": int, "float": float, "complex": complex}[kind](found.item())
    data = found.reshape(-1).view(np.uint8).data if found.size else memoryview(b"")
    if kind in ("str", "bytes", "bytearray"):
        return decode_text(bytes(data)) if kind == "str" else bytes(data) if kind == "bytes" else bytearray(data)
    if kind == "scalar":
        return unflatten([Part("", None, [["scalar", str(dtype), bytes(data)]], lambda _: data, [])], ())
    shape, blob = list(found.shape), 0 if data else None
    node: list[Any] = ["array", str(dtype), shape, "C", blob, 0]
    if kind == "tensor":
        node = ["tensor", str(dtype), shape, None, blob, 0, int(dataset.attrs.get(_FLAGS, 0))]
    return unflatten([Part("", node, [], lambda _: data, [len(data)] if data else [])], ())


def _foreign(dataset: Any) -> Any:
    if h5py.check_string_dtype(dataset.dtype) is not None and dataset.dtype.kind == "O":
        return _texts(dataset.asstr(errors="surrogateescape")[()])
    if dataset.dtype.hasobject or h5py.check_ref_dtype(dataset.dtype) is not None:
        raise ValueError(f"a dataset has values of type {dataset.dtype}, which are no numbers or texts")
    return np.asarray(dataset[()])


def _texts(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _attributes(owner: Any, name: str) -> dict[str, Any]:
    """The attributes of somebody else's object; references to other objects mean nothing outside of the file."""
    found: dict[str, Any] = {}
    for key in owner.attrs:
        value = owner.attrs[key]
        if isinstance(value, h5py.Empty):
            found[key] = None
        elif isinstance(value, np.ndarray) and value.dtype.kind == "O":
            items = value.tolist()
            if all(isinstance(item, str | bytes) for item in items):
                found[key] = items
        elif isinstance(value, str | bytes | np.ndarray | np.generic):
            found[key] = value
    return {name: found} if found else {}
