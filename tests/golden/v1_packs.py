"""Vectors of packs: plain, planes, deltas, of a push, and the wrong ones."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from casckpt.format import pack
from casckpt.format.canonical import decode
from casckpt.format.codec import Codec
from casckpt.format.elements import element_code
from casckpt.format.ids import Kind, PackId
from casckpt.format.planes import CLASSED, CONSTANT, LOW_PAIR, RAW, ZSTD
from tests.golden import v1_objects as state
from tests.support import plane_encoder
from tests.support.build import Pack, noise, zstd
from tests.support.vectors import as_json

FLOAT32, BFLOAT16, FLOAT64 = element_code("float32"), element_code("bfloat16"), element_code("float64")
INT8 = element_code("int8")
PUSH_ID = bytes(range(16, 32))
_LETTER = {1: "B", 2: "H", 4: "I", 8: "Q"}


def plain() -> tuple[Pack, bytes]:
    """Raw and zstd records in two extents, some on units, some on blocks."""
    built = Pack()
    built.add(noise("a", 1000), flags=1)
    built.add(b"of a newer release", kind=200, id=noise("unknown kind", 32))
    built.add(b"zstd " * 200, codec=Codec.ZSTD)
    built.add(noise("unit", 65_535), element=FLOAT32, flags=2)
    built.close()
    built.add(noise("block", 65_536), element=FLOAT32)
    built.add(b"x")
    built.add(bytes(1 << 20), codec=Codec.ZSTD)
    return built, built.finish({"run": "mlp", "step": 7})


def whole() -> tuple[Pack, bytes]:
    """The small state, wholly in one pack."""
    built = Pack()
    built.add(state.BIAS, element=FLOAT32)
    built.add(state.WEIGHT, codec=Codec.ZSTD, element=FLOAT32)
    for structure in (state.ROOT_STRUCTURE, state.MODEL_STRUCTURE):
        built.add(structure.encode(), kind=Kind.STRUCTURE)
    for component in (state.ROOT, state.MODEL):
        built.add(component.encode(), kind=Kind.COMPONENT)
    built.add(state.TREE.encode(), kind=Kind.TREE)
    built.add(state.CONFIG, kind=Kind.META)
    for commit in (state.FIRST, state.FULL):
        built.add(commit.encode(), kind=Kind.COMMIT)
    return built, built.finish()


def push() -> tuple[Pack, bytes]:
    """A pack that a push wrote."""
    built = Pack()
    built.add(noise("pushed", 900))
    built.add(state.TREE.encode(), kind=Kind.TREE)
    built.add(state.FIRST.encode(), kind=Kind.COMMIT)
    return built, built.finish({"push": PUSH_ID, "future": [1, 2]})


def words(seed: str, count: int, width: int, high: int) -> bytes:
    """Words with random low bytes and a top byte near `high`, as floats have."""
    raw = noise(seed, count * width)
    rows = (raw[at : at + width] for at in range(0, len(raw), width))
    return b"".join(row[:-1] + bytes([high + (row[-1] & 1)]) for row in rows)


def nearby(plain: bytes, width: int, steps: Sequence[int], seed: str) -> bytes:
    """Words that differ from those of `plain` by one of `steps` each."""
    count, letter = len(plain) // width, _LETTER[width]
    choice = noise(seed, count)
    found = [
        (word + steps[pick % len(steps)]) % (1 << 8 * width)
        for word, pick in zip(struct.unpack(f"<{count}{letter}", plain[: count * width]), choice, strict=True)
    ]
    return struct.pack(f"<{count}{letter}", *found) + plain[count * width :]


def planes() -> tuple[Pack, bytes]:
    """Codecs 2 and 3 in every width, with every form of stream and odd tails."""
    built = Pack()

    def add(codec: int, plain: bytes, element: int, *forms: int | None) -> None:
        stored = plane_encoder.encode(codec, plain, element, forms)
        built.add(plain, codec=codec, stored=stored, element=element)

    floats = words("f32", 512, 4, 0x3D)
    for codec in (Codec.PLANES, Codec.ALIGNED_PLANES):
        add(codec, floats, FLOAT32, LOW_PAIR, RAW, ZSTD)
        add(codec, floats + b"odd", FLOAT32, RAW, RAW, RAW, ZSTD)
        add(codec, words("bf16", 512, 2, 0x3D) + b"!", BFLOAT16)
        add(codec, b"\0\0\x80\x3f" * 300, FLOAT32, CONSTANT, ZSTD, CONSTANT, RAW)
        add(codec, bytes.fromhex("0100807f 0000c0ff 000080ff 00000080"), FLOAT32)
        add(codec, b"x", BFLOAT16)
    add(Codec.PLANES, words("f64", 256, 8, 0x3D) + b"seven b", FLOAT64)
    add(Codec.PLANES, words("c128", 256, 8, 0x3D), element_code("complex128"))
    add(Codec.PLANES, noise("i8", 500), INT8)
    add(Codec.PLANES, bytes(500), INT8)
    return built, built.finish()


def deltas() -> tuple[Pack, bytes]:
    """A group of five as repack builds it, per width and codec: key in the middle, ends from it, the rest between."""
    built = Pack(deltas=True)
    plains: dict[int, bytes] = {}

    def delta(plain: bytes, codec: int, element: int, bases: Sequence[int], weight: int = 0, *forms: int | None) -> int:
        plains[len(built.records)] = plain
        stored = plane_encoder.encode_delta(codec, plain, element, [plains[base] for base in bases], weight, forms)
        return built.add(plain, codec=codec, stored=stored, element=element, bases=bases, weight=weight)

    for width, element, codec in ((4, FLOAT32, 4), (2, BFLOAT16, 4), (8, FLOAT64, 4), (1, INT8, 4)):
        key = plains[len(built.records)] = words(f"key {width}", 256, width, 0x3D) + b"tail"[: width - 1]
        first = built.add(key, codec=Codec.PLANES, stored=plane_encoder.encode(2, key, element), element=element)
        older = delta(nearby(key, width, (0, 1, -1, 90), f"older {width}"), codec, element, [first])
        newer = delta(nearby(key, width, (0, 2, -3, 70), f"newer {width}"), codec, element, [first])
        middle = delta(nearby(key, width, (0, 1), f"middle {width}"), codec, element, [older, first], 8)
        delta(nearby(key, width, (0, 3, -2), f"late {width}"), codec, element, [first, newer], 3)
        delta(nearby(key, width, (0, 1, 2), f"early {width}"), codec, element, [older, middle], 15)
        delta(noise(f"far {width}", len(key)), codec, element, [middle, newer], 1)
    built.close()
    _forms_of_deltas(built, plains, delta)
    return built, built.finish()


def _forms_of_deltas(built: Pack, plains: dict[int, bytes], delta: Callable[..., int]) -> None:
    floats = plains[len(built.records)] = words("floats", 256, 4, 0x3D)
    key = built.add(floats, element=FLOAT32)
    delta(nearby(floats, 4, (1, -1), "pair"), Codec.DELTA_PLANES, FLOAT32, [key], 0, LOW_PAIR, CONSTANT, CONSTANT)
    delta(nearby(floats, 4, (1, -1), "four"), Codec.DELTA_PLANES, FLOAT32, [key], 0, ZSTD, RAW, CONSTANT, ZSTD)
    halves = plains[len(built.records)] = words("halves", 601, 2, 0x3D) + b"?"
    key = built.add(halves, codec=Codec.ZSTD, element=BFLOAT16)
    for codec, steps in ((Codec.RESIDUAL_2BIT, (0, 0, 0, 1, -1)), (Codec.RESIDUAL_4BIT, (0, 3, -7, 7, 1))):
        plain = delta(nearby(halves, 2, steps, "plain"), codec, BFLOAT16, [key], 0, RAW)
        packed = delta(nearby(halves, 2, (*steps, 0, 0, 700), "some"), codec, BFLOAT16, [key], 0, ZSTD, ZSTD, RAW)
        delta(nearby(halves, 2, (*steps, 8, -8, 2, -2), "edge"), codec, BFLOAT16, [packed, key], 8)
        delta(nearby(halves, 2, steps, "weights"), codec, BFLOAT16, [plain, packed], 5)
        delta(halves, codec, BFLOAT16, [key], 0, ZSTD)
        delta(nearby(halves, 2, (1000,), "same"), codec, BFLOAT16, [key], 0, RAW, CONSTANT, CONSTANT)
        delta(nearby(halves[:-1], 2, (0, 1), "whole")[:1200] + b"??!", codec, BFLOAT16, [key])


def classed() -> tuple[Pack, bytes]:
    """Words of both widths by classes of size, of spread, and of both; every form within a class."""
    built = Pack(deltas=True)
    for width, element, low in ((4, FLOAT32, LOW_PAIR), (2, BFLOAT16, RAW)):
        plains = {len(built.records): words(f"classed {width}", 400, width, 0x3D) + b"?"}
        (number,) = plains
        built.add(plains[number], element=element)
        for name, steps, bases, weight, cuts, forms in (
            ("by size", (0, 5, -90), [0], 0, (b"", b"\x7a\x7b"), [low, CLASSED, CLASSED]),
            ("by none", (1, -1), [0], 0, (b"", b""), [CLASSED, CONSTANT]),
            ("by spread", (0, 1, 7), [1, 0], 8, (b"\x80\x83", b""), [CLASSED, RAW]),
            ("by both", (0, -3, 300), [1, 3], 5, (b"\x01\x80\x85", bytes(range(100, 115))), [CLASSED] * width),
            ("by more than there is", (1000,), [0, 1], 15, (b"\xf0\xff", b"\x00"), [CLASSED] * width),
        ):
            plain = nearby(plains[number], width, steps, f"{name} {width}")
            near = [plains[number + base] for base in bases]
            stored = plane_encoder.encode_delta(7, plain, element, near, weight, forms, cuts)
            plains[len(built.records)] = plain
            at = [number + base for base in bases]
            built.add(plain, codec=7, stored=stored, element=element, bases=at, weight=weight)
    return built, built.finish()


def packs(vectors: Any) -> None:
    """All files of packs."""
    _pack(vectors, "plain.pack", "raw and zstd records in two extents; one of an unknown kind", *plain())
    _pack(vectors, "state.pack", "every object of the small state", *whole())
    _pack(vectors, "planes.pack", "codecs 2 and 3: every width, every form of stream, odd tails", *planes())
    _pack(vectors, "delta.pack", "codecs 4 to 6: one and two bases, weights, every form of stream", *deltas())
    _pack(vectors, "classed.pack", "codec 7: classes of size and of spread, every form within them", *classed())
    _pack(vectors, "push.pack", "a pack that a push wrote: its hints name the push", *push())
    empty = Pack()
    _pack(vectors, "empty.pack", "a pack of no records", empty, empty.finish())
    _hostile(vectors)
    _hostile_files(vectors)


def _pack(vectors: Any, name: str, what: str, built: Pack, data: bytes) -> None:
    start, size = struct.unpack_from("<QQ", data, len(data) - 32)
    footer = data[start : start + size]
    hints = decode(footer[24 + 64 * len(built.records) :], "hints")
    expect = {
        "id": as_json(built.id),
        "records": as_json(built.records),
        "hints": as_json(hints),
        "required": built.required,
        "extents": built.extents,
        "push": as_json(hints.get("push")),
    }
    vectors.file(name, "pack", what, data, expect)


def _hostile(vectors: Any) -> None:
    """Packs of one record that lies."""

    def refuse(name: str, error: str, what: str, plain: bytes, deltas: bool = False, **fields: Any) -> None:
        built = Pack(deltas=deltas)
        built.add(noise("before", 300))
        built.add(plain, **fields)
        vectors.refuse(f"pack-{name}.pack", "pack", error, what, built.finish())

    wrong, newer = "IntegrityError", "FormatError"
    text = b"plain " * 100
    bomb = zstd(bytes(1 << 24))
    refuse("bomb", wrong, "a frame that declares 16 MiB in a record of 600 bytes", text, codec=1, stored=bomb)
    unsized = zstd(text, write_content_size=False)
    refuse("unsized", wrong, "a frame that declares no length", text, codec=1, stored=unsized)
    refuse("trailing", wrong, "a byte behind a frame", text, codec=1, stored=zstd(text) + b"\0")
    refuse("two-frames", wrong, "two frames", text, codec=1, stored=zstd(text[:300]) + zstd(text[300:]))
    refuse("long-chunk", wrong, "a chunk of 1 MiB and one byte", bytes((1 << 20) + 1), codec=1)
    refuse("length-0", wrong, "a chunk of no bytes", b"")
    refuse("raw-lengths", wrong, "a raw record of two lengths", text, length=601)
    refuse("past-end", wrong, "an offset past the end", text, offset=1 << 30)
    refuse("self-base", wrong, "a base before the first record", text, True, codec=4, base_1=2, cost=2, stored=text)
    refuse("undeclared", wrong, "a delta in a pack without the flag", text, codec=4, base_1=1, cost=2, stored=text)
    refuse("cost", wrong, "a decode cost of 17", text, True, codec=4, base_1=1, cost=17, stored=text)
    refuse(
        "weight", wrong, "a weight without a second base", text, True, codec=4, base_1=1, cost=2, weight=8, stored=text
    )
    refuse("base-length", wrong, "a base that is not as long", text, True, codec=4, base_1=1, cost=2, stored=text)
    refuse("no-base", wrong, "a delta codec without a base", text, codec=4, stored=text)
    refuse("raw-base", wrong, "a raw record with a base", text, True, codec=0, base_1=1, cost=2, stored=text)
    refuse("check", wrong, "a check that does not match", text, check=bytes(8))
    refuse("id", wrong, "bytes of another object", text, id=state.TREE.root, check=state.TREE.root[:8])
    refuse("codec", newer, "an unknown codec", text, codec=77, stored=text)
    stored = b"\x09\x0a\0\0\0" + bytes(10)
    refuse("form", newer, "an unknown form of stream", bytes(10), codec=2, stored=stored)
    stored = struct.pack("<BI", RAW, 0xFFFFFFFF) + bytes(10)
    refuse("stream", wrong, "a stream of 4 GiB", bytes(10), codec=2, stored=stored)


def _hostile_files(vectors: Any) -> None:
    """Packs whose own parts are wrong."""
    built = Pack()
    built.add(noise("only", 300))
    right = built.finish()
    header = right[: pack.BLOCK]
    for name, error, what, wrong in (
        ("major", "FormatError", "major version 2", header[:8] + b"\2" + header[9:]),
        ("flag", "FormatError", "an unknown required flag", header[:12] + b"\x80" + header[13:]),
        ("reserved", "IntegrityError", "a reserved byte of the header", header[:100] + b"\1" + header[101:]),
    ):
        built = Pack()
        built.add(noise("only", 300))
        vectors.refuse(f"pack-{name}.pack", "pack", error, what, built.finish(header=wrong))

    def refuse(name: str, what: str, data: bytes) -> None:
        vectors.refuse(name, "pack", "IntegrityError", what, data)

    refuse("pack-cut.pack", "the last block is missing", right[: -pack.BLOCK])
    refuse("pack-footer.pack", "one bit of the footer differs", _flip(right, len(right) - pack.BLOCK + 30))
    refuse("pack-extent.pack", "one bit of an extent table differs", _flip(right, 2 * pack.BLOCK + 40))
    offset = len(right) - pack.BLOCK
    footer = struct.pack("<8sIIQ", pack.FOOTER_MAGIC, 0xFFFFFFFF, 1, 0) + b"\x80"
    identity = pack.pack_id(header, footer)
    trailer = struct.pack("<32sQQQ8s", identity, offset, len(footer), len(right), pack.TRAILER_MAGIC)
    data = right[:offset] + footer.ljust(pack.BLOCK - 64, b"\0") + trailer
    refuse("pack-count.pack", "a footer of 4 294 967 295 records", data)
    trailer = struct.pack("<32sQQQ8s", PackId(identity), offset, 1 << 40, len(right), pack.TRAILER_MAGIC)
    refuse("pack-trailer.pack", "a footer of 1 TiB", data[:-64] + trailer)


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
