"""Files of other programs as states: safetensors, npz, torch files and HDF5.

The files are hostile input: `foreign` checks every header against the length of the file before anything is made of
it, and nothing is executed unless `allow_pickle` asks for it. Tensors of safetensors and npz files, and of torch
files that are archives, lie in the mapped file: the state takes no memory of its own. It must be let go of before the
file is changed or cut short.
"""

from __future__ import annotations

import mmap
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from casckpt.errors import (
    FormatError,
    IntegrityError,
    MalformedFile,
    MissingLibrary,
    StoreFull,
    UnsafePath,
    UnsupportedType,
    UsageError,
)
from casckpt.foreign import npy, safetensors, zips
from casckpt.foreign.reader import Window
from casckpt.ops.export_flat import ALIASES
from casckpt.state.unflatten import Part, unflatten
from casckpt.storage.posix import OPEN_FLAGS, OsErrors

DECODED: dict[str, str] = {
    ".safetensors": "safetensors",
    ".npz": "npz",
    ".pt": "torch",
    ".pth": "torch",
    ".ckpt": "torch",
    ".bin": "torch",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
}
"""What can be read as a state, by suffix."""

_PIECE = 1 << 20
_DEFLATED = 8


class MappedFile:
    """A regular file, read by the parsers and mapped for the tensors. The mapping lives as long as any view of it.

    Args:
        descriptor: open for reading; the caller closes it.
        name: what errors call the file.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnsafePath(path=name, problem="it is no regular file")
        self.name = name
        self.size = status.st_size
        # A private mapping: torch and numpy take writable memory only, and the file itself is never written to.
        self._memory = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY) if self.size else b"")

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes at `offset`; fewer only where the file ends."""
        return bytes(self._memory[offset : offset + length])

    def view(self, offset: int, length: int, unit: int) -> memoryview:
        """The mapped bytes; a copy of them where they do not lie on a multiple of `unit`."""
        found = self._memory[offset : offset + length]
        return found if offset % unit == 0 else memoryview(bytearray(found))


def open_mapped(path: Path, name: str) -> MappedFile:
    """A file by its path; a symbolic link is refused."""
    with OsErrors("read", str(path), names_pass=False):
        descriptor = os.open(path, os.O_RDONLY | OPEN_FLAGS)
        try:
            return MappedFile(descriptor, name)
        finally:
            os.close(descriptor)


def decode(path: Path, name: str, spool: Path | None, *, allow_pickle: bool = False) -> Any:
    """The state in a file.

    Args:
        name: what errors call the file.
        spool: folder for compressed members of an npz, which are unpacked into unnamed files; None for the system's.
        allow_pickle: unpickle whatever a torch file holds, which may execute anything.

    Raises:
        MalformedFile: it is damaged, or not what its suffix says.
        PickledObjects: it is a torch file with more than tensors and plain values.
        UsageError: files of its suffix cannot be read as a state.
        MissingLibrary: torch or h5py is needed and not installed.
        FormatError: it holds something that this release does not know.
    """
    kind = DECODED.get(path.suffix.lower())
    if kind is None:
        raise UsageError(problem=f"{name} cannot be read as a state: its suffix is none of {', '.join(DECODED)}")
    try:
        if kind == "safetensors":
            return _safetensors(open_mapped(path, name))
        if kind == "npz":
            return _npz(open_mapped(path, name), spool)
        if kind == "torch":
            return _torch(path, name, allow_pickle=allow_pickle)
        from casckpt.ops.h5 import read_h5

        open_mapped(path, name)  # refuses what is no regular file
        return read_h5(path, name)
    except MissingLibrary:
        raise
    except FormatError as error:
        raise FormatError(object=name, problem=error.reason) from error
    except IntegrityError as error:
        raise MalformedFile(path=name, kind=kind, problem=error.reason) from error


def _safetensors(file: MappedFile) -> dict[str, Any]:
    """Tensors by name, in the order of the file; arrays if the file says that it was written for numpy."""
    header = safetensors.read_header(file)
    nodes: list[Any] = []
    views: list[memoryview] = []
    is_numpy = header.metadata.get("format") == "np"
    for tensor in header.tensors:
        if tensor.element == "bytes":
            problem = f"the dtype {tensor.dtype} has no exact form in torch"
            raise UnsupportedType(path=tensor.name, type="safetensors tensor", problem=problem)
        blob = len(views) if tensor.nbytes else None
        dtype = _array_dtype(tensor.element) if is_numpy else None
        shape = list(tensor.shape)
        if dtype is None:
            nodes.append(["tensor", tensor.element, shape, None, blob, 0, 0])
        else:
            nodes.append(["array", dtype, shape, "C", blob, 0])
        if tensor.nbytes:
            views.append(file.view(tensor.offset, tensor.nbytes, 16 if is_numpy else 8))
    names = [tensor.name for tensor in header.tensors]
    _tie(dict(zip(names, nodes, strict=True)), views, header.metadata.get(ALIASES, ""))
    part = Part("", ["dict", _keys(names), nodes], [], views.__getitem__, [len(view) for view in views])
    found: dict[str, Any] = unflatten([part], ())
    return found


def _keys(names: list[str]) -> list[object]:
    from casckpt.state.values import encode_key

    return [encode_key(name, name, 0) for name in names]


def _array_dtype(element: str) -> str | None:
    from casckpt.state import arrays

    return arrays.dtype_named(element)


def _tie(nodes: dict[str, Any], views: list[memoryview], text: str) -> None:
    """Let tensors share memory again that an export has written twice, where their bytes are equal."""
    import json

    import numpy as np

    try:
        aliases = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return
    for name, first in aliases.items() if isinstance(aliases, dict) else ():
        node, other = nodes.get(name), nodes.get(first) if isinstance(first, str) else None
        if node is None or other is None or node[:4] != other[:4] or None in (node[4], other[4]):
            continue
        if np.array_equal(np.frombuffer(views[node[4]], "u1"), np.frombuffer(views[other[4]], "u1")):
            node[4] = other[4]


def _npz(file: MappedFile, spool: Path | None) -> dict[str, Any]:
    """Arrays by name, in the order of the archive; every member is compared with its check sum."""
    found = {}
    for member in zips.read_members(file):
        name = member.name.removesuffix(".npy")
        if name == member.name or member.encrypted or member.method not in (zips.STORED, _DEFLATED):
            raise MalformedFile(path=file.name, kind="npz", problem=f"member {member.name!r} is no array it can hold")
        inner = f"{file.name}:{member.name}"
        source, offset = (file, member.offset) if member.is_plain else (_unpacked(file, member, spool, inner), 0)
        _check(source, offset, member, file.name)
        header = npy.read_header(Window(source, offset, member.nbytes, inner))
        if header.offset + header.nbytes != member.nbytes:
            raise MalformedFile(path=inner, kind="npy", problem="something follows its data")
        found[name] = _array(source, offset, header)
    return found


def _array(source: MappedFile, offset: int, header: npy.Array) -> Any:
    import numpy as np

    try:
        dtype = np.lib.format.descr_to_dtype(header.descr)
        return np.ndarray(
            header.shape, dtype, source.view(offset + header.offset, header.nbytes, 1), order=header.order
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedFile(path=source.name, kind="npy", problem=str(error)) from error


def _check(source: MappedFile, offset: int, member: zips.Member, name: str) -> None:
    crc = 0
    for at in range(offset, offset + member.nbytes, _PIECE):
        crc = zlib.crc32(source.read(at, min(_PIECE, offset + member.nbytes - at)), crc)
    if crc != member.crc:
        raise MalformedFile(path=name, kind="npz", problem=f"member {member.name!r} does not have its check sum")


def _unpacked(file: MappedFile, member: zips.Member, spool: Path | None, inner: str) -> MappedFile:
    """A compressed member, in a file without a name; never more bytes than the directory says."""
    if shutil.disk_usage(spool or tempfile.gettempdir()).free < member.nbytes:
        raise StoreFull(operation="unpack", path=inner, problem=f"it needs {member.nbytes} bytes")
    with tempfile.TemporaryFile(dir=spool) as target:
        written = 0
        for piece in _inflated(file, member, inner):
            written += len(piece)
            if written > member.nbytes:
                break
            target.write(piece)
        target.flush()
        if written != member.nbytes:
            raise MalformedFile(path=inner, kind="npz", problem="it is not as long as it says when it is unpacked")
        return MappedFile(target.fileno(), inner)


def _inflated(file: MappedFile, member: zips.Member, inner: str) -> Iterator[bytes]:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for at in range(member.offset, member.offset + member.stored, _PIECE):
            rest = file.read(at, min(_PIECE, member.offset + member.stored - at))
            while rest and not stream.eof:
                yield stream.decompress(rest, _PIECE)
                rest = stream.unconsumed_tail
        while not stream.eof and (piece := stream.decompress(b"", _PIECE)):
            yield piece
    except zlib.error as error:
        raise MalformedFile(path=inner, kind="npz", problem=str(error)) from error


def _torch(path: Path, name: str, *, allow_pickle: bool) -> Any:
    file = open_mapped(path, name)
    members = zips.read_members(file) if zips.looks_like(file.read(0, 4)) else ()
    if not all(member.is_plain for member in members):
        raise MalformedFile(path=name, kind="torch", problem="its members are compressed, which torch never does")
    try:
        from casckpt.ops.torch_files import load
    except ImportError as error:
        raise MissingLibrary(purpose=f"reading {name} as a state", library="torch", install="casckpt[torch]") from error
    return load(path, name, file.size, members, allow_pickle=allow_pickle)
