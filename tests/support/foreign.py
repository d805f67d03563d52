"""Files of other programs, made by hand: whole ones, and many that break one rule each.

Each maker of malformed files yields (what is wrong, bytes). Every such file has a tensor that would be cut if the file
were believed: it is at least 256 KiB long.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

LARGE = 300 << 10
DATA = np.random.default_rng(3).bytes(LARGE)
_HUGE = 1 << 62


def safetensors(entries: dict[str, Any], data: bytes, length: int | None = None) -> bytes:
    """A file with this header and these bytes; `length` lies about the header's."""
    return safetensors_text(json.dumps(entries).encode(), data, length)


def safetensors_text(header: bytes, data: bytes, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def entry(begin: Any, end: Any, dtype: Any = "U8", shape: Any = None) -> dict[str, Any]:
    """A tensor in the header of a safetensors file."""
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def malformed_safetensors() -> Iterator[tuple[str, bytes]]:
    """Over 30 files that no reader of safetensors may believe."""
    n = LARGE
    good = {"w": entry(0, n)}
    whole = safetensors(good, DATA)
    for stop in (0, 1, 7, 8, 9, 20, len(whole) - n, len(whole) - 1):
        yield f"cut after {stop} bytes", whole[:stop]
    yield "a byte more", whole + b"\0"
    for length in (0, 1, n * 2, 100_000_001, 1 << 63, (1 << 64) - 1):
        yield f"a header of {length} bytes", safetensors(good, DATA, length)
    for what, text in {
        "no JSON": b"{'w': 1}",
        "a list": b"[]",
        "a space in front": b" " + json.dumps(good).encode(),
        "no UTF-8": json.dumps(good).encode().replace(b"w", b"\xff"),
        "a key twice": b'{"w":%s,"w":%s}' % ((json.dumps(entry(0, n)).encode(),) * 2),
        "a field twice": json.dumps(good).encode().replace(b'"shape"', b'"shape":[1],"shape"'),
        "deep nesting": b'{"w":' + b"[" * 100_000,
        "a number of 10 000 digits": json.dumps(good).encode().replace(str(n).encode(), b"9" * 10_000),
        "no number": json.dumps(good).encode().replace(str(n).encode(), b"NaN"),
        "something behind the JSON": json.dumps(good).encode() + b"{}",
    }.items():
        yield what, safetensors_text(text, DATA)
    for what, entries in {
        "a hole at the start": {"w": entry(8, n)},
        "a hole inside": {"a": entry(0, 8), "w": entry(16, n)},
        "a hole at the end": {"w": entry(0, n - 8)},
        "an overlap": {"a": entry(0, 16), "w": entry(8, n)},
        "the same bytes twice": {"v": entry(0, n), "w": entry(0, n)},
        "a tensor inside another": {"v": entry(0, n), "w": entry(8, n - 8)},
        "a tensor behind the end": {"w": entry(0, n), "v": entry(n, 2 * n)},
        "an end before its begin": {"w": entry(n, 0, shape=[n])},
        "a negative offset": {"w": entry(-n, 0, shape=[n])},
        "offsets that are floats": {"w": entry(0.0, float(n), shape=[n])},
        "offsets that are booleans": {"w": entry(0, n), "v": entry(False, False, shape=[0])},
        "three offsets": {"w": {**entry(0, n), "data_offsets": [0, 8, n]}},
        "no offsets": {"w": {"dtype": "U8", "shape": [n]}},
        "a negative size": {"w": entry(0, n, shape=[-n])},
        "two negative sizes": {"w": entry(0, n, shape=[-1, -n])},
        "a product beyond 64 bits": {"w": entry(0, n, shape=[_HUGE, _HUGE, _HUGE])},
        "a product that wraps to the right size": {"w": entry(0, n, shape=[n, (1 << 63) + 1])},
        "a hundred dimensions": {"w": entry(0, n, shape=[n, *[1] * 100])},
        "a shape that is a number": {"w": entry(0, n, shape=n)},
        "a size that is a text": {"w": entry(0, n, shape=[str(n)])},
        "another length than its shape": {"w": entry(0, n, shape=[n - 1])},
        "another width than its dtype": {"w": entry(0, n, dtype="F32", shape=[n])},
        "an unknown dtype": {"w": entry(0, n, dtype="OBJECT")},
        "a dtype that is a list": {"w": entry(0, n, dtype=["U8"])},
        "half a byte": {"w": entry(0, n), "v": {"dtype": "F4", "shape": [3], "data_offsets": [n, n]}},
        "a tensor that is a list": {"w": [0, n]},
        "metadata that is a list": {"__metadata__": ["pt"], "w": entry(0, n)},
        "metadata that are numbers": {"__metadata__": {"format": 1}, "w": entry(0, n)},
    }.items():
        yield what, safetensors(entries, DATA)


def npy(
    header: str = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({LARGE},), }}",
    data: bytes = DATA,
    version: bytes = b"\1\0",
    length: int | None = None,
) -> bytes:
    """A .npy file with this header; `length` lies about it."""
    text = header.encode("utf-8" if version == b"\3\0" else "latin-1") + b"\n"
    size = len(text) if length is None else length
    return b"\x93NUMPY" + version + struct.pack("<H" if version == b"\1\0" else "<I", size) + text + data


def malformed_npy() -> Iterator[tuple[str, bytes]]:
    """Over 30 files that no reader of .npy may believe, some of which numpy would unpickle."""
    good, n = npy(), LARGE
    for stop in (0, 5, 6, 7, 9, 10, 40, len(good) - n, len(good) - 1):
        yield f"cut after {stop} bytes", good[:stop]
    for version in (b"\0\0", b"\1\1", b"\4\0", b"\xff\xff"):
        yield f"version {version.hex()}", npy(version=b"\1\0").replace(b"\1\0", version, 1)
    yield "another magic", b"\x92" + good[1:]
    yield "a header behind the end", npy(length=0xFFFF)
    yield "a header of 4 GiB", npy(version=b"\2\0", length=0xFFFFFFFF)
    yield "a header cut in the middle", npy(length=20)
    yield "text that is no UTF-8", npy(version=b"\3\0").replace(b"descr", b"\xff\xffscr")

    def header(descr: str = "'|u1'", order: str = "False", shape: str = f"({n},)", more: str = "") -> str:
        return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {more}}}"

    for what, text in {
        "nothing": "",
        "a list": "[1, 2]",
        "a call": "__import__('os').system('true')",
        "a call in the shape": header(shape=f"(int({n}),)"),
        "a product in the shape": header(shape=f"({n // 2}*2,)"),
        "a power in the shape": header(shape="(9**9**9,)"),
        "a formatted text": header(descr="f'{exit()}'"),
        "a comprehension": header(shape="tuple(0 for _ in (1,))"),
        "deep nesting": "(" * 9000,
        "deep nesting of dicts": "{0:" * 3000,
        "many signs": header(shape=f"({'-' * 4000}1,)"),
        "a field too few": "{'descr': '|u1', 'fortran_order': False}",
        "a field too many": header(more="'x': 1"),
        "an order that is a number": header(order="1"),
        "a shape that is a list": header(shape=f"[{n}]"),
        "a shape that is a number": header(shape=f"({n})"),
        "a negative size": header(shape="(-1, -1)"),
        "a size that is true": header(shape="(True,)"),
        "a product beyond 64 bits": header(shape=f"({_HUGE}, {_HUGE})"),
        "a size of 4 000 digits": header(shape=f"({'9' * 4000},)"),
        "a size of 5 000 digits": header(shape=f"({'9' * 5000},)"),
        "a hundred dimensions": header(shape=f"({'1,' * 100})"),
        "more than is there": header(shape=f"({n + 1},)"),
        "objects": header(descr="'|O'"),
        "objects in a field": header(descr="[('a', '|O'), ('b', '|u1')]"),
        "an unknown dtype": header(descr="'|q9'"),
        "a dtype that is a number": header(descr="5"),
        "items of a gigabyte": header(descr="'|V999999999'"),
        "a field without a type": header(descr="[('a',)]"),
        "a field with a shape that is none": header(descr="[('a', '|u1', 'x')]"),
    }.items():
        yield what, npy(text)


def plain_zip(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive as the standard library writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


_LOCAL, _CENTRAL, _END = b"PK\3\4", b"PK\1\2", b"PK\5\6"


def _patch(data: bytes, mark: bytes, at: int, new: bytes, which: int = 0) -> bytes:
    """Bytes replaced at an offset from a record of this kind."""
    start = -1
    for _ in range(which + 1):
        start = data.index(mark, start + 1)
    return data[: start + at] + new + data[start + at + len(new) :]


def malformed_zip() -> Iterator[tuple[str, bytes]]:
    """Over 30 archives of which one reader or another would see something else than the next."""
    good = plain_zip({"a/data.pkl": b"pickle", "a/data/0": DATA})
    directory = good.index(_CENTRAL)
    end = good.index(_END)
    u16, u32 = struct.Struct("<H").pack, struct.Struct("<I").pack
    for stop in (4, 30, 100, directory, directory + 20, end, end + 10, len(good) - 1):
        yield f"cut after {stop} bytes", good[:stop]
    yield "a byte behind the end", good + b"\0"
    yield "bytes in front of it", b"PK\3\4" + bytes(60) + good
    yield "bytes before the directory's end", good[:end] + bytes(4) + good[end:]
    yield "a comment that is not there", _patch(good, _END, 20, u16(9))
    for what, at, new in (
        ("a disk", 4, u16(1)),
        ("fewer members here", 8, u16(1)),
        ("a member more", 8, u16(3) * 2),
        ("a member less", 8, u16(1) * 2),
        ("65 534 members", 8, u16(0xFFFE) * 2),
        ("zip64 that is not there", 8, u16(0xFFFF) * 2),
        ("a longer directory", 12, u32(end - directory + 1)),
        ("a directory of 4 GiB", 12, u32(0xFFFFFFF0)),
        ("no directory", 12, u32(0)),
        ("a directory elsewhere", 16, u32(directory - 1)),
        ("a directory behind the end", 16, u32(0xFFFFFFF0)),
    ):
        yield f"an end record with {what}", _patch(good, _END, at, new)
    for what, at, new in (
        ("another magic", 0, b"PK\1\1"),
        ("a flag of encryption", 8, u16(1)),
        ("another method", 10, u16(8)),
        ("another crc", 16, u32(1)),
        ("another stored size", 20, u32(LARGE + 1)),
        ("other sizes", 20, u32(LARGE - 1) * 2),
        ("sizes beyond the file", 20, u32(0xFFFFFFF0) * 2),
        ("sizes in a zip64 field that is not there", 20, u32(0xFFFFFFFF) * 2),
        ("a name that is longer", 28, u16(0xFFFF)),
        ("an extra field that is longer", 30, u16(0xFFFF)),
        ("another disk", 34, u16(1)),
        ("a header in another member", 42, u32(0)),
        ("a header inside its data", 42, u32(100)),
        ("a header behind the end", 42, u32(0xFFFFFFF0)),
        ("another name", 46, b"../../e"),
    ):
        yield f"a directory with {what}", _patch(good, _CENTRAL, at, new, 1)
    for what, at, new in (
        ("another magic", 0, b"PK\3\3"),
        ("a flag of encryption", 6, u16(1)),
        ("another method", 8, u16(8)),
        ("another crc", 14, u32(1)),
        ("another size", 22, u32(LARGE - 1)),
        ("a longer name", 26, u16(0xFFFF)),
        ("a longer extra field", 28, u16(0x7FFF)),
        ("another name", 30, b"/etc/pa"),
    ):
        yield f"a local header with {what}", _patch(good, _LOCAL, at, new, 1)
    yield "a name twice", plain_zip({"a/data/0": DATA, "a/data/1": b""}).replace(b"a/data/1", b"a/data/0")
    yield "two members of the same bytes", _same_bytes(good)


def _same_bytes(good: bytes) -> bytes:
    """The second member once more in the directory, under its own name."""
    end = good.index(_END)
    record = good[good.index(_CENTRAL, good.index(_CENTRAL) + 1) : end]
    size, offset = struct.unpack_from("<2I", good, end + 12)
    last = struct.pack("<4s4H2IH", _END, 0, 0, 3, 3, size + len(record), offset, 0)
    return good[:end] + record + last
